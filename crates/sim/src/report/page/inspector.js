// A closer look at one peer: what it has, what it does, and why.
const REASONS_SHOWN = 6;

class Inspector {
  constructor(root, swarm, onChoose) {
    this.root = root;
    this.swarm = swarm;
    this.body = make("div");
    const { peers } = swarm.run;
    const options = peers.map((peer, index) => make("option", { value: index, text: `${peer.name} (${peer.role})` }));
    this.select = make("select", { "aria-labelledby": "inspected", on: {
      change: () => onChoose(this.select.value === "" ? null : +this.select.value),
    } }, make("option", { value: "", text: "Choose a peer" }), ...options);
    root.replaceChildren(this.select, this.body);
  }

  draw(held) {
    put(this.select, "value", held === null ? "" : String(held));
    const key = held === null ? "" : `${held} ${this.swarm.at.toFixed(2)}`;
    if (key === this.key) return;
    this.key = key;
    if (held === null) {
      this.body.replaceChildren(make("p", { text: "Point at a peer, or choose one, to see what it does and why." }));
      return;
    }
    const facts = this.facts(held).flatMap(([name, value]) => [make("dt", { text: name }), make("dd", { text: value })]);
    const reasons = this.reasons(held).map(([at, text]) => make("li", {}, make("span", { text: `${seconds(at)} ` }), text));
    const parts = [make("dl", {}, ...facts)];
    if (reasons.length > 0) parts.push(make("b", { text: "What it decided, and why" }), make("ul", {}, ...reasons));
    this.body.replaceChildren(...parts);
  }

  name(index) { return this.swarm.run.peers[index]?.name ?? "?"; }

  facts(held) {
    const { swarm } = this;
    const { run } = swarm;
    const peer = run.peers[held];
    const facts = [["has", `${swarm.counts[held]} of ${run.pieces} pieces`], ["can send", `${size(peer.up)}/s`]];
    if (!swarm.isThere(held)) facts.push(["is", swarm.at < peer.joined ? "not here yet" : "gone"]);
    const moving = (mine, other) => swarm.flights.filter((f) => f[mine] === held)
      .map((f) => `${f[2]} ${mine === 1 ? "from" : "to"} ${this.name(f[other])}`);
    const [gets, gives] = [moving(1, 0), moving(0, 1)];
    if (gets.length > 0) facts.push(["gets", `piece ${list(gets)}`]);
    if (gives.length > 0) facts.push(["gives", `piece ${list(gives)}`]);
    if (run.chokes.length > 0) {
      const open = run.peers.map((_, to) => to).filter((to) => swarm.isOpen(held, to));
      facts.push(["would give to", open.length > 0 ? list(open.map((to) => this.name(to))) : "nobody now"]);
    }
    if (peer.completed !== null) facts.push(["complete", swarm.at >= peer.completed ? `since ${seconds(peer.completed)}` : "not yet"]);
    return facts;
  }

  reasons(held) {
    const { run, at } = this.swarm;
    const why = (place) => (place === null ? "" : `: ${run.reasons[place]}`);
    const recent = [];
    const look = (rows, tell) => {
      for (let place = rows.length - 1, found = 0; place >= 0 && found < REASONS_SHOWN; place--) {
        if (rows[place][0] <= at && rows[place][1] === held) { recent.push([rows[place][0], tell(rows[place])]); found += 1; }
      }
    };
    look(run.requests, ([, , to, piece, reason]) => `asks ${this.name(to)} for piece ${piece}${why(reason)}`);
    look(run.chokes, ([, , to, choked, reason]) => `${choked ? "lets" : "begins to give to"} ${this.name(to)}${choked ? " wait" : ""}${why(reason)}`);
    return recent.sort((a, b) => b[0] - a[0]).slice(0, REASONS_SHOWN);
  }
}
