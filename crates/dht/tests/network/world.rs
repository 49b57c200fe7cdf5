//! A network of nodes in virtual time: the same `Dht` as in the program, with latencies, losses and the dead.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use riverrun_base::{Rng, Time};
use riverrun_dht::{
    Announce, Config, Dht, Event, Finding, LookupId, NodeId, Outbox, PeersQuestion, Question,
    Report, SavedState,
};

use crate::hostile::{Hostile, Kind};

/// What a world is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) honest: usize,
    /// Hostile nodes, in how many networks of 256 addresses.
    pub(crate) hostile: usize,
    pub(crate) hostile_networks: usize,
    /// How many datagrams of a thousand are lost.
    pub(crate) lost_permille: usize,
}

impl Plan {
    pub(crate) const fn honest(seed: u64, honest: usize) -> Self {
        Self {
            seed,
            honest,
            hostile: 0,
            hostile_networks: 0,
            lost_permille: 0,
        }
    }
}

/// The median round trip between two nodes, and how wide its logarithm spreads.
const RTT_MEDIAN_SECS: f64 = 0.1;
const RTT_SIGMA: f64 = 0.7;

enum Body {
    Honest(Box<Dht>),
    Hostile(Hostile),
}

struct Member {
    addr: SocketAddr,
    body: Body,
    is_alive: bool,
    wakes_at: Option<Time>,
}

enum Happening {
    Arrives {
        to: SocketAddr,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    Wakes(usize),
}

/// What became of one search.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) began: Time,
    pub(crate) first_value: Option<Duration>,
    pub(crate) ended: Option<Duration>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) report: Report,
}

impl Outcome {
    pub(crate) fn peers(&self) -> Vec<SocketAddr> {
        let peers = self.findings.iter().flat_map(|finding| match finding {
            Finding::Peers(peers) => peers.clone(),
            _ => Vec::new(),
        });
        peers.collect()
    }
}

/// The world.
pub(crate) struct World {
    plan: Plan,
    pub(crate) now: Time,
    members: Vec<Member>,
    by_addr: BTreeMap<SocketAddr, usize>,
    heap: BinaryHeap<Reverse<(Time, u64, usize)>>,
    happenings: Vec<Option<Happening>>,
    free: Vec<usize>,
    order: u64,
    pub(crate) rng: Rng,
    outcomes: BTreeMap<(usize, LookupId), Outcome>,
    pub(crate) datagrams: u64,
    /// Nothing passes between nodes of even and of odd number.
    pub(crate) is_cut: bool,
}

/// Where a node lives: honest ones in a network of their own each.
fn address(plan: &Plan, at: usize) -> SocketAddr {
    let number = |n: usize| u32::try_from(n).expect("small");
    let ip = if at < plan.honest {
        number(20 << 24) + (number(at) << 8) + 1
    } else {
        let at = at - plan.honest;
        let network = at % plan.hostile_networks;
        number(60 << 24) + (number(network) << 8) + number(at / plan.hostile_networks) + 1
    };
    SocketAddr::new(IpAddr::from(ip.to_be_bytes()), 6881)
}

impl World {
    /// A network whose nodes have joined one after the other, and have been there for a while.
    pub(crate) fn grow(plan: Plan, settle: Duration) -> Self {
        let mut world = Self {
            plan,
            now: Time::ZERO,
            members: Vec::new(),
            by_addr: BTreeMap::new(),
            heap: BinaryHeap::new(),
            happenings: Vec::new(),
            free: Vec::new(),
            order: 0,
            rng: Rng::new(plan.seed),
            outcomes: BTreeMap::new(),
            datagrams: 0,
            is_cut: false,
        };
        let count = plan.honest + plan.hostile;
        let hostile: Vec<_> = (plan.honest..count).map(|at| address(&plan, at)).collect();
        let kind = Kind::new(&hostile, &mut world.rng);
        for at in 0..count {
            let body = match at.checked_sub(plan.honest) {
                None => Body::Honest(Box::new(world.new_node(at))),
                Some(member) => Body::Hostile(Hostile::new(kind.clone(), member)),
            };
            world.join(at, body);
        }
        world.introduce();
        world.run_until(world.now + settle);
        world
    }

    /// Hostile nodes make themselves known: each honest node hears of some, as from queries of theirs.
    fn introduce(&mut self) {
        for at in 0..self.plan.honest {
            for _ in 0..30.min(self.plan.hostile) {
                let hostile = self.plan.honest + self.rng.below(self.plan.hostile);
                let addr = self.members[hostile].addr;
                self.act(at, |dht, now, out| dht.ping(now, addr, out));
            }
        }
    }

    fn new_node(&mut self, at: usize) -> Dht {
        let mut secret = [0; 32];
        self.rng.fill(&mut secret);
        let addr = address(&self.plan, at);
        let state = SavedState::default();
        let config = Config::new(secret);
        Dht::new(self.now, config, &[addr], &state, self.rng.next_u64())
    }

    /// Somebody joins: it knows a few of those that are there.
    fn join(&mut self, at: usize, body: Body) {
        let addr = address(&self.plan, at);
        self.by_addr.insert(addr, at);
        self.members.push(Member {
            addr,
            body,
            is_alive: true,
            wakes_at: None,
        });
        let known = at.min(self.plan.honest);
        let routers: Vec<_> = (0..3.min(known))
            .map(|_| address(&self.plan, self.rng.below(known)))
            .collect();
        self.act(at, |dht, now, _| dht.add_routers(now, &routers));
        let pause = Duration::from_millis(20);
        self.run_until(self.now + pause);
    }

    /// An honest node that is alive.
    pub(crate) fn someone(&mut self) -> usize {
        loop {
            let at = self.rng.below(self.plan.honest);
            if self.members[at].is_alive {
                return at;
            }
        }
    }

    /// This many of a thousand nodes go without a word.
    pub(crate) fn kill(&mut self, permille: usize) {
        for at in 0..self.plan.honest {
            if self.rng.below(1000) < permille {
                self.members[at].is_alive = false;
            }
        }
    }

    pub(crate) fn addr(&self, at: usize) -> SocketAddr {
        self.members[at].addr
    }

    pub(crate) fn dht(&self, at: usize) -> Option<&Dht> {
        match &self.members[at].body {
            Body::Honest(dht) => Some(dht),
            Body::Hostile(_) => None,
        }
    }

    /// Begins a search.
    pub(crate) fn search(&mut self, at: usize, question: &Question) -> (usize, LookupId) {
        let mut name = None;
        let now = self.now;
        self.act(at, |dht, now, out| name = dht.search(now, question, out));
        let name = (at, name.expect("there is room for a search"));
        let outcome = self.outcomes.entry(name).or_default();
        outcome.began = now;
        // What the node stores itself was told before it was known when.
        outcome.first_value = outcome.first_value.map(|_| Duration::ZERO);
        name
    }

    /// Runs a search to its end.
    pub(crate) fn find(&mut self, at: usize, question: &Question) -> Outcome {
        let name = self.search(at, question);
        let limit = self.now + Duration::from_mins(2);
        while self.outcomes[&name].ended.is_none() {
            assert!(self.now < limit, "the search does not end");
            self.run_until(self.now + Duration::from_millis(50));
        }
        self.outcomes[&name].clone()
    }

    pub(crate) fn announce(&mut self, at: usize, info_hash: NodeId) -> Outcome {
        let announce = Some(Announce::at(7000, false));
        let question = PeersQuestion {
            announce,
            ..PeersQuestion::new(riverrun_base::InfoHash(info_hash.0))
        };
        self.find(at, &Question::Peers(question))
    }

    pub(crate) fn run_until(&mut self, end: Time) {
        while let Some(&Reverse((at, _, place))) = self.heap.peek() {
            if at > end {
                break;
            }
            self.heap.pop();
            self.now = at;
            let happening = self.happenings[place].take();
            self.free.push(place);
            match happening {
                Some(Happening::Arrives { to, from, bytes }) => self.arrive(to, from, &bytes),
                Some(Happening::Wakes(at)) => self.wake(at),
                None => {}
            }
        }
        self.now = end;
    }

    fn arrive(&mut self, to: SocketAddr, from: SocketAddr, bytes: &[u8]) {
        let Some(at) = self.by_addr.get(&to).copied() else {
            return;
        };
        if !self.members[at].is_alive {
            return;
        }
        if let Body::Hostile(hostile) = &self.members[at].body {
            if let Some(reply) = hostile.reply(bytes) {
                self.send(to, from, reply);
            }
            return;
        }
        self.act(at, |dht, now, out| {
            dht.handle_datagram(now, 0, from, bytes, out);
        });
    }

    fn wake(&mut self, at: usize) {
        if !self.members[at].is_alive || self.members[at].wakes_at.is_none_or(|due| due > self.now)
        {
            return;
        }
        self.members[at].wakes_at = None;
        self.act(at, Dht::handle_timeout);
    }

    fn act(&mut self, at: usize, act: impl FnOnce(&mut Dht, Time, &mut Outbox)) {
        let mut out = Outbox::default();
        let addr = self.members[at].addr;
        let Body::Honest(dht) = &mut self.members[at].body else {
            return;
        };
        act(dht, self.now, &mut out);
        let due = dht.poll_timeout();
        for datagram in out.datagrams {
            self.send(addr, datagram.to, datagram.bytes);
        }
        for event in out.events {
            self.note(at, event);
        }
        if let Some(due) = due.map(|due| due.max(self.now))
            && self.members[at].wakes_at.is_none_or(|known| due < known)
        {
            self.members[at].wakes_at = Some(due);
            self.push(due, Happening::Wakes(at));
        }
    }

    fn note(&mut self, at: usize, event: Event) {
        match event {
            Event::Found { lookup, finding } => {
                let outcome = self.outcomes.entry((at, lookup)).or_default();
                let taken = self.now - outcome.began;
                outcome.first_value.get_or_insert(taken);
                outcome.findings.push(finding);
            }
            Event::Ended { lookup, report } => {
                let outcome = self.outcomes.entry((at, lookup)).or_default();
                outcome.ended = Some(self.now - outcome.began);
                outcome.report = report;
            }
            _ => {}
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.datagrams += 1;
        if self.rng.below(1000) < self.plan.lost_permille {
            return;
        }
        let side = |addr| self.by_addr.get(&addr).map(|at| at % 2);
        if self.is_cut && side(from) != side(to) {
            return;
        }
        let arrives = self.now + one_way(from, to);
        self.push(arrives, Happening::Arrives { to, from, bytes });
    }

    fn push(&mut self, at: Time, happening: Happening) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.happenings.push(None);
            self.happenings.len() - 1
        });
        self.happenings[place] = Some(happening);
        self.order += 1;
        self.heap.push(Reverse((at, self.order, place)));
    }
}

/// Half the round trip between two addresses: the same in both directions, and always.
fn one_way(from: SocketAddr, to: SocketAddr) -> Duration {
    let number = |addr: SocketAddr| match addr.ip() {
        IpAddr::V4(ip) => u64::from(u32::from(ip)),
        IpAddr::V6(_) => 0,
    };
    let (a, b) = (number(from), number(to));
    let mut rng = Rng::new(a.min(b) << 32 | a.max(b));
    let uniform = |rng: &mut Rng| (f64::from(rng.next_u32()) + 1.0) / (f64::from(u32::MAX) + 2.0);
    // Box and Muller.
    let radius = (-2.0 * uniform(&mut rng).ln()).sqrt();
    let normal = radius * (std::f64::consts::TAU * uniform(&mut rng)).cos();
    Duration::from_secs_f64(RTT_MEDIAN_SECS * (RTT_SIGMA * normal).exp() / 2.0)
}

/// The value below which that part of all values lies.
pub(crate) fn percentile(values: &mut [Duration], part: f64) -> Duration {
    values.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a short list"
    )]
    let at = ((values.len() - 1) as f64 * part).round() as usize;
    values[at]
}
