// The swarm as peers with what moves between them.
const CARDS_MAX = 12;
const CELLS_MAX = 16;

class Stage {
  constructor(root, swarm, onFocus) {
    this.root = root;
    this.swarm = swarm;
    this.isCards = swarm.n <= CARDS_MAX;
    root.classList.toggle("dots", !this.isCards);
    this.svg = shape("svg", { "aria-hidden": "true" });
    this.wires = new Map();
    this.flows = [];
    this.tokens = [];
    this.peers = swarm.run.peers.map((peer, index) => this.peer(peer, index, onFocus));
    root.replaceChildren(this.svg, ...this.peers.map((peer) => peer.root));
    this.place();
  }

  peer(peer, index, onFocus) {
    const state = make("span", { class: "state" });
    const root = make("button", { class: "peer", type: "button", on: {
      focus: () => onFocus(index, false), mouseenter: () => onFocus(index, false),
      mouseleave: () => onFocus(null, false), blur: () => onFocus(null, false), click: () => onFocus(index, true),
    } });
    if (peer.role === "hostile") root.classList.add("hostile");
    const parts = { root, state, cells: [] };
    if (!this.isCards) {
      parts.fill = make("i", { class: "fill" });
      root.classList.add("dot");
      root.append(parts.fill, make("b", { text: peer.name.slice(0, 5) }), state);
      return parts;
    }
    root.append(state, make("b", { text: peer.name.slice(0, 12) }));
    if (this.swarm.run.pieces <= CELLS_MAX) {
      parts.cells = Array.from({ length: this.swarm.run.pieces }, (_, piece) => cell(piece));
      root.append(make("span", { class: "cells", "aria-hidden": "true" }, ...parts.cells.map((c) => c.root)));
    } else {
      parts.bar = make("canvas", { class: "bar", width: 224, height: 28, "aria-hidden": "true" });
      root.append(parts.bar);
    }
    return parts;
  }

  /** The first seeder on top, the others around. */
  place() {
    const { clientWidth: width, clientHeight: height } = this.root;
    this.width = width;
    if (!this.isCards) this.root.style.setProperty("--dot", `${dotSize(width, height, this.swarm.n)}px`);
    const halves = this.peers.map(({ root }) => [root.offsetWidth / 2, root.offsetHeight / 2]);
    const [halfWidth, halfHeight] = halves.reduce((a, b) => [Math.max(a[0], b[0]), Math.max(a[1], b[1])], [0, 0]);
    const rx = Math.min(width / 2 - halfWidth - 12, 330);
    const ry = height / 2 - halfHeight - 22;
    const around = spread(rx, ry, this.swarm.n);
    this.spots = this.peers.map(({ root }, index) => {
      const [x, y] = [width / 2 + around[index][0], height / 2 + around[index][1]];
      root.style.left = `${x}px`;
      root.style.top = `${y}px`;
      return { x, y, halfWidth: halves[index][0], halfHeight: halves[index][1] };
    });
    for (const line of this.wires.values()) line.remove();
    this.wires.clear();
  }

  draw(held) {
    if (this.root.clientWidth !== this.width) this.place();
    this.drawWires();
    this.drawFlights();
    this.peers.forEach((peer, index) => this.drawPeer(peer, index, held));
  }

  drawWires() {
    if (!this.isCards) return;
    const { links } = this.swarm;
    for (const [key, line] of this.wires) {
      if (!links.has(key)) { line.remove(); this.wires.delete(key); }
    }
    for (const key of links) {
      if (this.wires.has(key)) continue;
      const [a, b] = key.split(" ").map((index) => this.spots[index]);
      if (!a || !b) continue;
      const line = shape("line", { class: "link", x1: a.x, y1: a.y, x2: b.x, y2: b.y });
      this.svg.prepend(line);
      this.wires.set(key, line);
    }
  }

  drawFlights() {
    const lanes = new Map();
    const { flights, at, run } = this.swarm;
    flights.forEach((flight, place) => {
      const [from, to, piece, begin, end, , right] = flight;
      const lane = lanes.get(`${from} ${to}`) ?? 0;
      lanes.set(`${from} ${to}`, lane + 1);
      const way = this.way(this.spots[from], this.spots[to], 9 + lane * 16);
      const { line, head, token } = this.flow(place);
      const colour = `p${run.pieces <= CELLS_MAX ? piece % 8 : 5}`;
      line.setAttribute("class", `flow ${colour}`);
      head.setAttribute("class", `head ${colour}`);
      for (const [name, value] of Object.entries(way.line)) line.setAttribute(name, value);
      head.setAttribute("transform", way.head);
      const share = Math.min(1, Math.max(0, (at - begin) / Math.max(1e-9, end - begin)));
      const [x, y] = way.point(share);
      put(token, "className", `token ${colour}${this.isCards ? "" : " small"}${right ? "" : " wrong"}`);
      put(token, "textContent", right ? String(piece) : "✗");
      token.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)`;
    });
    for (let place = flights.length; place < this.flows.length; place++) this.hide(place);
  }

  /** The way from one peer's edge to another's, a little to the right of the line between them. */
  way(a, b, aside) {
    const [dx, dy] = [b.x - a.x, b.y - a.y];
    const length = Math.hypot(dx, dy) || 1;
    const [ux, uy] = [dx / length, dy / length];
    const edge = (spot) => Math.min(
      Math.abs(ux) > 1e-6 ? spot.halfWidth / Math.abs(ux) : Infinity,
      Math.abs(uy) > 1e-6 ? spot.halfHeight / Math.abs(uy) : Infinity,
    );
    const [start, stop] = [edge(a) + 4, length - edge(b) - 8];
    const at = (way) => [a.x + ux * way - uy * aside, a.y + uy * way + ux * aside];
    const [x1, y1] = at(start);
    const [x2, y2] = at(stop);
    const turn = (Math.atan2(uy, ux) * 180) / Math.PI;
    return {
      line: { x1, y1, x2, y2 },
      head: `translate(${x2} ${y2}) rotate(${turn})`,
      point: (share) => at(start + (stop - start) * (0.06 + 0.84 * share)),
    };
  }

  flow(place) {
    if (!this.flows[place]) {
      const line = shape("line");
      const head = shape("path", { d: "M8 0 L-3 -6 L-3 6 Z" });
      const token = make("div", { "aria-hidden": "true" });
      this.svg.append(line, head);
      this.root.append(token);
      this.flows[place] = { line, head, token };
    }
    const flow = this.flows[place];
    flow.token.hidden = false;
    flow.line.style.display = "";
    flow.head.style.display = "";
    return flow;
  }

  hide(place) {
    const { line, head, token } = this.flows[place];
    token.hidden = true;
    line.style.display = "none";
    head.style.display = "none";
  }

  drawPeer({ root, state, cells, bar, fill }, index, held) {
    const { swarm } = this;
    const { run } = swarm;
    const count = swarm.counts[index];
    const done = swarm.isDone(index);
    root.classList.toggle("done", done);
    root.classList.toggle("gone", !swarm.isThere(index));
    root.classList.toggle("held", held === index);
    const share = count / Math.max(1, run.pieces);
    const text = done ? "✓ all" : run.pieces <= CELLS_MAX ? `${count} of ${run.pieces}` : percent(share);
    put(state, "textContent", fill ? (done ? "✓" : percent(share)) : text);
    const label = `${run.peers[index].name}, ${run.peers[index].role}: ${count} of ${run.pieces} pieces`;
    if (root.getAttribute("aria-label") !== label) root.setAttribute("aria-label", label);
    cells.forEach((cell, piece) => drawCell(cell, swarm.part(index, piece), swarm.have[index][piece]));
    if (fill) fill.style.height = percent(share).replace(" ", "");
    if (bar && this.barState?.[index] !== count) drawBar(bar, swarm.have[index]);
    (this.barState ??= [])[index] = count;
  }
}

/** Points on an ellipse, as far apart from each other along it, the first on top, then to the left. */
function spread(rx, ry, count) {
  const steps = 720;
  const at = (step) => {
    const angle = -Math.PI / 2 - (step / steps) * 2 * Math.PI;
    return [rx * Math.cos(angle), ry * Math.sin(angle)];
  };
  const ways = [0];
  for (let step = 1; step <= steps; step++) {
    const [[x, y], [u, v]] = [at(step - 1), at(step)];
    ways.push(ways[step - 1] + Math.hypot(u - x, v - y));
  }
  return Array.from({ length: count }, (_, index) => at(ways.findIndex((way) => way >= (ways[steps] * index) / count)));
}

/** So large that they do not touch each other on their ellipse. */
function dotSize(width, height, count) {
  const round = Math.PI * Math.sqrt(2 * ((width / 2 - 40) ** 2 + (height / 2 - 40) ** 2));
  return Math.max(20, Math.min(48, Math.floor((round / count) * 0.82)));
}

/** A piece in the map of a peer. */
function cell(piece) {
  const fill = make("i");
  const root = make("span", { class: `cell p${piece % 8}` }, fill, make("span", { text: String(piece) }));
  return { root, fill };
}

function drawCell({ root, fill }, part, has) {
  root.classList.toggle("has", !!has);
  const height = has ? "0" : `${Math.round(part * 100)}%`;
  if (fill.style.height !== height) fill.style.height = height;
}

/** Many pieces as a bar: each column is as high as the share of its pieces that are there. */
function drawBar(canvas, have) {
  const pen = canvas.getContext("2d");
  const { width, height } = canvas;
  pen.clearRect(0, 0, width, height);
  pen.fillStyle = ink("--accent");
  const columns = Math.min(width, have.length);
  for (let column = 0; column < columns; column++) {
    const [first, last] = [Math.floor((column * have.length) / columns), Math.floor(((column + 1) * have.length) / columns)];
    let sum = 0;
    for (let piece = first; piece < last; piece++) sum += have[piece];
    const share = sum / Math.max(1, last - first);
    pen.fillRect((column * width) / columns, height * (1 - share), width / columns, height * share);
  }
}
