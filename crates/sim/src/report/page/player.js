// Time: playing, stepping, and who is looked at.
const DATA = JSON.parse($("data").textContent);
const DRAWN_MAX = 40;
/** At speed 1 a step is played in so many seconds. */
const STEP_SECONDS = 6;

class Player {
  constructor(run) {
    this.run = run;
    this.swarm = new Swarm(run);
    this.times = eventTimes(run);
    this.time = 0;
    this.kept = null;
    this.over = null;
    this.stop = null;
    this.isCrowd = this.swarm.n > DRAWN_MAX;
    const onFocus = (index, keep) => this.look(index, keep);
    this.stage = new (this.isCrowd ? Crowd : Stage)($("stage"), this.swarm, onFocus);
    this.inspector = new Inspector($("inspector"), this.swarm, (index) => { this.kept = index; this.draw(); });
    this.matrix = new Matrix($("matrix"), this.swarm);
    this.drawSteps();
    this.drawLegend();
    this.plot();
    this.seek(0);
  }

  plot() {
    this.mark = chartsOf(this.run, (time) => { this.pause(); this.seek(time); });
    this.mark(this.time);
  }

  /** How many seconds of the run go by in one of ours. */
  get pace() {
    const lasts = Math.min(45, Math.max(14, STEP_SECONDS * (this.run.steps.length - 1)));
    return (this.run.end / lasts) * +$("speed").value;
  }

  look(index, keep) {
    if (keep) this.kept = this.kept === index ? null : index;
    this.over = index;
    this.draw();
  }

  seek(time) {
    this.time = Math.min(this.run.end, Math.max(0, time));
    this.swarm.seek(this.time);
    this.draw();
  }

  play(stop) {
    if (calm.matches) return this.seek(stop ?? this.run.end);
    if (this.time >= this.run.end) this.seek(0);
    this.stop = stop ?? this.run.end;
    this.last = null;
    if (!this.frame) this.frame = requestAnimationFrame((now) => this.tick(now));
    this.drawPlay();
  }

  pause() {
    if (this.frame) cancelAnimationFrame(this.frame);
    this.frame = null;
    this.drawPlay();
  }

  tick(now) {
    const passed = this.last === null ? 0 : Math.min(0.1, (now - this.last) / 1000);
    this.last = now;
    this.seek(Math.min(this.stop, this.time + passed * this.pace));
    if (this.time >= this.stop) return this.pause();
    this.frame = requestAnimationFrame((next) => this.tick(next));
  }

  step(by) {
    this.pause();
    const little = this.run.end * 1e-6;
    const next = by > 0 ? this.times.find((time) => time > this.time + little) : this.times.findLast((time) => time < this.time - little);
    if (next !== undefined) this.seek(next);
  }

  /** The step in which the time is: at its very end it still is. One without length lasts until the next. */
  get current() {
    const { steps } = this.run;
    const began = ({ from, until }) => (until > from ? this.time > from + 1e-9 : this.time >= from - 1e-9);
    return Math.max(0, steps.findLastIndex(began));
  }

  round(by) {
    this.pause();
    const place = Math.min(this.run.steps.length - 1, Math.max(0, this.current + by));
    this.seek(this.run.steps[place].until);
  }

  draw() {
    const held = this.over ?? this.kept;
    this.stage.draw(held);
    this.inspector.draw(held);
    this.matrix.draw();
    this.mark?.(this.time);
    const scrub = $("scrub");
    put(scrub, "value", String(Math.round((this.time / this.run.end) * 1000) || 0));
    scrub.setAttribute("aria-valuetext", seconds(this.time));
    this.drawCaption();
  }

  drawCaption() {
    const place = this.current;
    const step = this.run.steps[place];
    put($("when"), "textContent", `${step.title} · ${seconds(this.time)} of ${seconds(this.run.end)}`);
    put($("caption"), "textContent", step.caption);
    this.stepButtons.forEach((button, index) => {
      if (index === place) button.setAttribute("aria-current", "step");
      else button.removeAttribute("aria-current");
    });
  }

  drawPlay() {
    const isPlaying = !!this.frame;
    $("play").classList.toggle("playing", isPlaying);
    put($("play").querySelector(".label"), "textContent", isPlaying ? "Pause" : "Play");
  }

  drawSteps() {
    const { steps, end } = this.run;
    this.stepButtons = steps.map((step) => make("button", { type: "button", on: {
      click: () => { this.pause(); this.seek(step.from); if (step.until > step.from) this.play(step.until); },
    } }, make("time", { text: seconds(step.until) }), make("b", { text: step.title }), make("div", { text: step.caption })));
    $("steps").replaceChildren(...this.stepButtons.map((button) => make("li", {}, button)));
    put($("round"), "textContent", this.run.round ?? "");
    $("ticks").replaceChildren(...steps.slice(1).map((step) => {
      const tick = make("i");
      tick.style.left = `${(step.until / end) * 100}%`;
      return tick;
    }));
  }

  drawLegend() {
    const entry = (sign, text) => make("div", {}, sign, make("span", { text }));
    const square = (state) => { const { root, fill } = cell(0); if (state === "has") root.classList.add("has"); else fill.style.height = state; return root; };
    const { root: ring, fill } = cell("");
    ring.classList.add("ring");
    fill.style.height = "50%";
    const entries = this.swarm.n > CARDS_MAX && !this.isCrowd
      ? [
        entry(ring, "a peer, filled as far as it has the pieces; ✓ when it has all"),
        entry(make("span", { class: "token small p5" }), "a piece under way"),
      ] : this.isCrowd
      ? [entry(make("span", { class: "thermo" }), "a peer, filled as far as it has the pieces; ✓ when it has all"), entry(make("span", { text: "·" }), "not here")]
      : [
        entry(square("has"), "has this piece"), entry(square("50%"), "it is arriving"), entry(square("0"), "lacks it"),
        entry(make("span", { class: "token p0", text: "0" }), "a piece under way"),
        entry(make("span", { class: "rule" }), "connected"),
      ];
    $("legend").replaceChildren(...entries, ...this.run.omitted.map((text) => make("div", { text })));
  }
}

let player;

function choose(run) {
  player?.pause();
  const time = player ? player.time / player.run.end : 0;
  player = new Player(run);
  player.seek(time * run.end);
  for (const button of $("runs").children) button.setAttribute("aria-pressed", String(button.dataset.place === String(DATA.runs.indexOf(run))));
}

function keys(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const { target, key } = event;
  if (key === "Escape") { player.kept = null; player.over = null; return player.draw(); }
  const isField = target.matches("input, select");
  if (key === " " && !target.matches("input, select, button, summary")) { event.preventDefault(); return player.frame ? player.pause() : player.play(); }
  const acts = {
    ArrowLeft: () => player.step(-1), ArrowRight: () => player.step(1),
    PageUp: () => player.round(-1), PageDown: () => player.round(1),
    Home: () => { player.pause(); player.seek(0); }, End: () => { player.pause(); player.seek(player.run.end); },
  };
  if (isField || !acts[key]) return;
  event.preventDefault();
  acts[key]();
}

function comparisons() {
  const figures = DATA.charts.map(() => make("figure"));
  $("comparisons").replaceChildren(...figures);
  DATA.charts.forEach((chart, place) => plot(figures[place], {
    title: chart.title, text: chart.y_label, xLabel: chart.x_label, x: chart.x, curves: chart.curves, xs: (value) => String(value),
  }));
}

function start() {
  comparisons();
  if (DATA.runs.length === 0) return;
  $("player").hidden = false;
  $("charts").hidden = false;
  $("stage").setAttribute("tabindex", "0");
  $("runs").hidden = DATA.runs.length < 2;
  $("runs").replaceChildren(...DATA.runs.map((run, place) => make("button", { type: "button", "data-place": place, text: run.label, on: { click: () => choose(run) } })));
  $("play").addEventListener("click", () => (player.frame ? player.pause() : player.play()));
  $("back").addEventListener("click", () => player.step(-1));
  $("next").addEventListener("click", () => player.step(1));
  $("scrub").addEventListener("input", () => { player.pause(); player.seek((+$("scrub").value / 1000) * player.run.end); });
  $("player").addEventListener("keydown", keys);
  const still = () => {
    $("play").hidden = calm.matches;
    $("speed").parentElement.hidden = calm.matches;
    $("controls").classList.toggle("calm", calm.matches);
    if (calm.matches) player?.pause();
  };
  calm.addEventListener("change", still);
  const redraw = () => { comparisons(); player.plot(); player.draw(); };
  dark.addEventListener("change", redraw);
  let pending;
  addEventListener("resize", () => { clearTimeout(pending); pending = setTimeout(redraw, 150); });
  choose(DATA.runs[0]);
  still();
}

start();
