// A run at a moment: who has what, who is connected to whom, what is under way.
class Swarm {
  constructor(run) {
    this.run = run;
    this.n = run.peers.length;
    this.logs = [
      [run.haves, (row) => this.gain(row)],
      [run.links, ([, a, b, up]) => { up ? this.links.add(this.pair(a, b)) : this.links.delete(this.pair(a, b)); }],
      [run.chokes, ([, by, to, choked, why]) => this.chokes.set(`${by} ${to}`, { choked: !!choked, why })],
      [run.fails, ([at, peer, piece]) => this.failed.set(`${peer} ${piece}`, at)],
    ];
    this.byTaker = new Map();
    for (const flight of run.flights) {
      const key = `${flight[1]} ${flight[2]}`;
      if (!this.byTaker.has(key)) this.byTaker.set(key, []);
      this.byTaker.get(key).push(flight);
    }
    this.reset();
  }

  pair(a, b) { return a < b ? `${a} ${b}` : `${b} ${a}`; }

  reset() {
    const { pieces, peers } = this.run;
    this.at = -1;
    this.cursors = this.logs.map(() => 0);
    this.links = new Set();
    this.chokes = new Map();
    this.failed = new Map();
    this.have = peers.map((peer) => {
      const have = new Uint8Array(pieces);
      for (const [first, last] of peer.start) have.fill(1, first, last + 1);
      return have;
    });
    this.counts = this.have.map((have) => have.reduce((sum, bit) => sum + bit, 0));
  }

  gain([, peer, piece]) {
    if (!this.have[peer] || this.have[peer][piece]) return;
    this.have[peer][piece] = 1;
    this.counts[peer] += 1;
  }

  seek(time) {
    if (time < this.at) this.reset();
    this.logs.forEach(([rows, apply], log) => {
      let next = this.cursors[log];
      while (next < rows.length && rows[next][0] <= time) apply(rows[next++]);
      this.cursors[log] = next;
    });
    this.at = time;
    this.flights = this.run.flights.filter((f) => f[3] <= time && time < f[4]);
  }

  isThere(peer) {
    const { joined, left } = this.run.peers[peer];
    return joined <= this.at && (left === null || this.at < left);
  }

  isDone(peer) { return this.counts[peer] === this.run.pieces; }

  /** How much of a piece has come to a peer that does not have it yet, 0 to 1. */
  part(peer, piece) {
    if (this.have[peer][piece]) return 1;
    const after = this.failed.get(`${peer} ${piece}`) ?? -1;
    let bytes = 0;
    for (const f of this.byTaker.get(`${peer} ${piece}`) ?? []) {
      if (f[3] >= after && f[3] <= this.at) bytes += f[5] * Math.min(1, (this.at - f[3]) / Math.max(1e-9, f[4] - f[3]));
    }
    return Math.min(1, bytes / this.run.piece_len);
  }

  isOpen(by, to) {
    const choke = this.chokes.get(`${by} ${to}`);
    return choke !== undefined && !choke.choked && this.links.has(this.pair(by, to));
  }
}

/** The times at which something is to be seen, each once. */
function eventTimes(run) {
  const times = new Set([0, run.end]);
  if (run.flights.length <= 500) {
    for (const f of run.flights) times.add((f[3] + f[4]) / 2);
  }
  const rows = run.haves.length <= 2000 ? run.haves : [];
  for (const [at] of [...rows, ...run.log]) times.add(at);
  for (const step of run.steps) times.add(step.until);
  return [...times].filter((time) => time >= 0 && time <= run.end).sort((a, b) => a - b)
    .filter((time, place, all) => place === 0 || time - all[place - 1] > run.end * 0.002);
}
