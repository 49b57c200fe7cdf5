// Many peers: each a small glass that fills with what it has.
class Crowd {
  constructor(root, swarm, onFocus) {
    this.root = root;
    this.swarm = swarm;
    this.canvas = make("canvas", { role: "img" });
    root.replaceChildren(this.canvas);
    this.canvas.addEventListener("mousemove", (event) => onFocus(this.under(event), false));
    this.canvas.addEventListener("mouseleave", () => onFocus(null, false));
    this.canvas.addEventListener("click", (event) => onFocus(this.under(event), true));
  }

  measure() {
    const { clientWidth: width, clientHeight: height } = this.root;
    const ratio = window.devicePixelRatio || 1;
    if (this.width === width && this.height === height && this.ratio === ratio) return;
    Object.assign(this, { width, height, ratio });
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    const space = 14;
    this.columns = Math.max(1, Math.ceil(Math.sqrt((this.swarm.n * (width - 2 * space) * 1.5) / (height - 2 * space))));
    const rows = Math.ceil(this.swarm.n / this.columns);
    this.cellWidth = (width - 2 * space) / this.columns;
    this.cellHeight = (height - 2 * space) / rows;
    this.space = space;
  }

  under(event) {
    const column = Math.floor((event.offsetX - this.space) / this.cellWidth);
    const row = Math.floor((event.offsetY - this.space) / this.cellHeight);
    const index = row * this.columns + column;
    return column >= 0 && column < this.columns && index >= 0 && index < this.swarm.n ? index : null;
  }

  draw(held) {
    this.measure();
    const { swarm, space, cellWidth, cellHeight } = this;
    const pen = this.canvas.getContext("2d");
    pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    const colours = { line: ink("--link"), accent: ink("--accent"), good: ink("--good"), bad: ink("--bad"), ink: ink("--ink") };
    const gap = Math.min(4, cellWidth * 0.18);
    let [done, there] = [0, 0];
    for (let index = 0; index < swarm.n; index++) {
      const x = space + (index % this.columns) * cellWidth + gap / 2;
      const y = space + Math.floor(index / this.columns) * cellHeight + gap / 2;
      const [width, height] = [cellWidth - gap, cellHeight - gap];
      if (!swarm.isThere(index)) {
        pen.fillStyle = colours.line;
        pen.fillRect(x + width / 2 - 1, y + height / 2 - 1, 2, 2);
        continue;
      }
      there += 1;
      const share = swarm.counts[index] / Math.max(1, swarm.run.pieces);
      done += share >= 1;
      pen.strokeStyle = swarm.run.peers[index].role === "hostile" ? colours.bad : colours.line;
      pen.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
      pen.fillStyle = share >= 1 ? colours.good : colours.accent;
      pen.fillRect(x, y + height * (1 - share), width, height * share);
      if (share >= 1) this.tick(pen, x, y, width, height);
      if (held === index) {
        pen.strokeStyle = colours.ink;
        pen.lineWidth = 3;
        pen.strokeRect(x - 1, y - 1, width + 2, height + 2);
        pen.lineWidth = 1;
      }
    }
    const label = `${there} peers are there, ${done} have everything`;
    if (this.canvas.getAttribute("aria-label") !== label) this.canvas.setAttribute("aria-label", label);
  }

  /** Complete is told by shape too. */
  tick(pen, x, y, width, height) {
    if (width < 8) return;
    pen.strokeStyle = ink("--paper");
    pen.lineWidth = Math.max(1.2, width / 9);
    pen.beginPath();
    pen.moveTo(x + width * 0.25, y + height * 0.52);
    pen.lineTo(x + width * 0.44, y + height * 0.52 + width * 0.2);
    pen.lineTo(x + width * 0.76, y + height * 0.52 - width * 0.22);
    pen.stroke();
    pen.lineWidth = 1;
  }
}
