// Curves, by uPlot, with a line where the picture is in time.
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];
const INKS = ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const INKS_DARK = ["#f08a3c", "#6cb6f0", "#3fcf9f", "#e29ac4", "#f5b83d", "#8fd0f7"];

function plot(figure, { title, text, xLabel, x, curves, isShare, bound, onPick, xs }) {
  figure.replaceChildren(make("figcaption", {}, make("b", { text: title }), make("span", { text })));
  const box = make("div");
  figure.append(box);
  const inks = dark.matches ? INKS_DARK : INKS;
  const show = (value) => (value === null || value === undefined ? "–" : isShare ? percent(value) : String(+value.toPrecision(3)));
  const showX = xs ?? seconds;
  const axis = { stroke: ink("--soft"), grid: { stroke: ink("--line"), width: 1 }, ticks: { stroke: ink("--line") }, font: "13px system-ui, sans-serif" };
  const chart = new uPlot({
    width: Math.max(260, figure.clientWidth),
    height: 230,
    cursor: { drag: { x: false, y: false }, points: { size: 7 } },
    scales: { x: { time: false }, y: { range: (_, low, high) => [0, isShare ? 1 : Math.max(1, high * 1.05)] } },
    axes: [
      { ...axis, values: (_, ticks) => ticks.map((tick) => `${+tick.toPrecision(6)}`), label: xLabel, labelSize: 22, labelFont: "13px system-ui, sans-serif" },
      { ...axis, size: 62, values: (_, ticks) => ticks.map((tick) => (isShare ? percent(tick) : `${+tick.toPrecision(6)}`)) },
    ],
    series: [
      { label: xLabel, value: (_, value) => (value === null ? "–" : showX(value)) },
      ...curves.map(([label], place) => ({
        label, stroke: inks[place % inks.length], width: 2.2, dash: DASHES[place % DASHES.length],
        value: (_, value) => show(value), spanGaps: false, points: { show: x.length < 30 },
      })),
    ],
    hooks: { draw: bound ? [(chart) => drawBound(chart, bound)] : [] },
  }, [x, ...curves.map(([, values]) => values)], box);
  chart.over.setAttribute("aria-hidden", "true");
  if (!onPick) return { chart };
  const now = make("div", { class: "now" });
  chart.over.append(now);
  chart.over.addEventListener("click", () => onPick(chart.posToVal(chart.cursor.left, "x")));
  return { chart, mark: (time) => { now.style.transform = `translateX(${chart.valToPos(time, "x") - 1}px)`; } };
}

function drawBound(chart, bound) {
  const { ctx: pen, bbox } = chart;
  const x = chart.valToPos(bound, "x", true);
  if (!(x >= bbox.left && x <= bbox.left + bbox.width)) return;
  pen.save();
  pen.strokeStyle = ink("--soft");
  pen.fillStyle = ink("--soft");
  pen.lineWidth = devicePixelRatio;
  pen.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
  pen.beginPath();
  pen.moveTo(x, bbox.top);
  pen.lineTo(x, bbox.top + bbox.height);
  pen.stroke();
  pen.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
  const isRight = x > bbox.left + bbox.width * 0.6;
  pen.textAlign = isRight ? "right" : "left";
  pen.textBaseline = "top";
  pen.fillText("least possible", x + (isRight ? -6 : 6) * devicePixelRatio, bbox.top + 4 * devicePixelRatio);
  pen.restore();
}

/** All charts of a run; gives what moves their line. */
function chartsOf(run, onPick) {
  const { series } = run;
  const rows = (curves) => curves.map(({ label, values }) => [label, values]);
  const common = { xLabel: "seconds", x: series.times, onPick };
  const marks = [
    plot($("completion"), { ...common, curves: rows(series.completion), isShare: true, bound: run.bound, title: "How much each has", text: "Share of the pieces. The dashed upright line is the least time in which any swarm could do it." }),
    plot($("availability"), { ...common, curves: rows(series.availability), title: "Copies in the swarm", text: "If the rarest piece has no copy, nobody can finish. Rarest first keeps it close to the average." }),
    plot($("uplink"), { ...common, curves: rows(series.uplink), isShare: true, title: "Uplinks in use", text: "What a swarm has to spend is what its members can send. Unused uplink is lost time." }),
  ];
  return (time) => marks.forEach(({ mark }) => mark(time));
}

const MATRIX_MAX = 24;

/** Who would give to whom, now. */
class Matrix {
  constructor(figure, swarm) {
    this.swarm = swarm;
    const { peers } = swarm.run;
    const caption = make("figcaption", {}, make("b", { text: "Who would give to whom" }),
      make("span", { text: "Each chooses a few whom it gives to (unchokes ●); the others wait (○). Rows give, columns get; a dot: not connected." }));
    if (peers.length > MATRIX_MAX || swarm.run.chokes.length === 0) {
      figure.hidden = true;
      return;
    }
    figure.hidden = false;
    this.cells = peers.map(() => peers.map(() => make("td")));
    const head = make("tr", {}, make("td"), ...peers.map((peer) => make("th", { scope: "col", text: peer.name.slice(0, 6) })));
    const rows = peers.map((peer, by) => make("tr", {}, make("th", { scope: "row", text: peer.name.slice(0, 6) }), ...this.cells[by]));
    const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
    figure.replaceChildren(caption, make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Who would give to whom" }, table));
  }

  draw() {
    this.cells?.forEach((row, by) => row.forEach((cell, to) => {
      const open = this.swarm.isOpen(by, to);
      const linked = by !== to && this.swarm.links.has(this.swarm.pair(by, to));
      const [sign, word] = open ? ["●", "gives"] : linked ? ["○", "waits"] : ["·", by === to ? "itself" : "not connected"];
      if (cell.dataset.word === word) return;
      cell.dataset.word = word;
      cell.replaceChildren(make("span", { "aria-hidden": "true", text: sign }), make("span", { class: "sr", text: word }));
      cell.classList.toggle("open", open);
    }));
  }
}
