// Elements and words. Text is only ever set as text: names come from strangers.
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

function make(tag, options, ...children) {
  const { text, on, data, ...attributes } = options ?? {};
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  if (text !== undefined) element.textContent = text;
  for (const [event, handler] of Object.entries(on ?? {})) element.addEventListener(event, handler);
  element.append(...children);
  return element;
}

function shape(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
  return element;
}

/** Sets a property of the DOM only if it changes, since writing costs a layout. */
function put(element, property, value) {
  if (element[property] !== value) element[property] = value;
}

function size(bytes) {
  for (const [unit, name] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (bytes >= unit) return `${+(bytes / unit).toPrecision(3)} ${name}`;
  }
  return `${bytes} B`;
}

const seconds = (s) => (s < 10 ? s.toFixed(2) : s < 100 ? s.toFixed(1) : s.toFixed(0)) + " s";
const percent = (share) => `${Math.round(share * 100)} %`;

function list(words) {
  if (words.length < 2) return words.join("");
  return words.slice(0, -1).join(", ") + " and " + words.at(-1);
}

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
