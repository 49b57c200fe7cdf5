//! Crowds that begin together: how long until everybody has everything, against what is possible.

use std::time::Duration;

use riverrun_base::{BLOCK_LEN, Time};

use super::{Claim, Experiment, as_f64, seconds};
use crate::config::{HostConfig, WorldConfig};
use crate::content::Content;
use crate::fluid;
use crate::ids::{ContentId, HostId};
use crate::world::World;

/// What everybody sends in a second: a piece of one block takes a second of one uplink.
const PIECE_A_SECOND: u64 = BLOCK_LEN as u64;
/// No run is longer.
const LIMIT: Time = Time::from_secs(100_000);

/// One seed, and leechers that are all alike. Pieces are one block.
#[derive(Clone, Copy)]
struct Crowd {
    leechers: u32,
    pieces: u32,
    neighbours: u32,
    slots: Option<u32>,
    seed_up: u64,
    /// As a multiple of what they send; without limit if it is zero.
    down: u64,
    super_seed: bool,
    trace: bool,
}

impl Crowd {
    const fn new(leechers: u32) -> Self {
        Self {
            leechers,
            pieces: 100,
            neighbours: 50,
            slots: None,
            seed_up: PIECE_A_SECOND,
            down: 4,
            super_seed: false,
            trace: false,
        }
    }

    fn begin(self, seed: u64) -> Begun {
        let mut config = WorldConfig::default();
        (config.seed, config.trace) = (seed, self.trace);
        // What is modelled is who sends what to whom, not the way.
        config.tcp = None;
        config.trackers[0][0].latency = Duration::from_millis(1);
        let mut world = World::new(config);
        let content = world.add_content(Content::tokens(self.pieces, 1));
        let alike = |mut host: HostConfig, up: u64| {
            host.connections_max = self.neighbours;
            host.latency = Duration::from_millis(1);
            host.slots = self.slots;
            host.down = Some(self.down * PIECE_A_SECOND).filter(|down| *down > 0);
            host.up(up)
        };
        let mut source = alike(HostConfig::seed(), self.seed_up);
        source.super_seed = self.super_seed;
        let source = world.add_host(content, source);
        let leechers = (0..self.leechers)
            .map(|_| world.add_host(content, alike(HostConfig::leecher(), PIECE_A_SECOND)))
            .collect();
        Begun {
            crowd: self,
            world,
            content,
            source,
            leechers,
        }
    }
}

/// A crowd in its world.
struct Begun {
    crowd: Crowd,
    world: World,
    content: ContentId,
    source: HostId,
    leechers: Vec<HostId>,
}

impl Begun {
    /// Runs until all have everything; gives when each had, ascending.
    fn run(&mut self) -> Vec<f64> {
        let leechers = self.leechers.clone();
        let done = self.world.run_to_completion(&leechers, LIMIT);
        assert!(done.is_some(), "a crowd does not get through");
        let at = |host: &HostId| self.world.host(*host).tally().completed_at;
        let micros = leechers.iter().filter_map(at).map(Time::as_micros);
        let mut times: Vec<f64> = micros.map(|micros| as_f64(micros) / 1e6).collect();
        times.sort_by(f64::total_cmp);
        times
    }

    /// What the seed has sent, in copies.
    fn copies(&self) -> f64 {
        let sent = self.world.host(self.source).tally().sent_bytes;
        as_f64(sent) / as_f64(self.world.content(self.content).len_bytes())
    }

    /// The least time in rounds of a piece (Mundinger et al. 2008).
    fn rounds(&self) -> f64 {
        f64::from(fluid::rounds(self.crowd.pieces, self.crowd.leechers))
    }

    /// The least time of a fluid.
    fn fluid(&self) -> f64 {
        let len = self.world.content(self.content).len_bytes();
        let (up, count) = (as_f64(PIECE_A_SECOND), self.leechers.len());
        let down = match self.crowd.down {
            0 => f64::INFINITY,
            times => up * as_f64(times),
        };
        fluid::Crowd::equal(len, as_f64(self.crowd.seed_up), count, up, down).makespan()
    }
}

const MODEL: &str = "a model in rounds with rarest first and nothing else, eight runs (theory, 1.3); the least is 1 by Mundinger et al. 2008";

/// One upload at a time, as in the model.
fn rounds(seed: u64, leechers: u32, neighbours: u32) -> Vec<f64> {
    let mut crowd = Crowd::new(leechers);
    (crowd.slots, crowd.neighbours) = (Some(1), neighbours);
    let mut begun = crowd.begin(seed);
    let last = begun.run().last().copied().unwrap_or(f64::INFINITY);
    vec![last / begun.rounds(), begun.copies()]
}

const fn rounds_claims(most: f64, copies: f64) -> [Claim; 2] {
    [
        Claim::from_to("last / least rounds, one upload at a time", 1.0, most),
        Claim::from_to("copies that the seed sends", 1.0, copies),
    ]
}

pub(super) const ROUNDS_10: Experiment = Experiment {
    id: "V1-10",
    title: "10 leechers, 100 pieces, everybody knows everybody",
    source: MODEL,
    is_quick: true,
    claims: &rounds_claims(1.02, 1.25),
    measure: |seed| rounds(seed, 10, 50),
};

pub(super) const ROUNDS_100: Experiment = Experiment {
    id: "V1-100",
    title: "100 leechers, 100 pieces, 50 neighbours",
    source: MODEL,
    is_quick: true,
    claims: &rounds_claims(1.132, 1.25),
    measure: |seed| rounds(seed, 100, 50),
};

pub(super) const ROUNDS_1000: Experiment = Experiment {
    id: "V1-1000",
    title: "1000 leechers, 100 pieces, 50 neighbours",
    source: MODEL,
    is_quick: false,
    claims: &rounds_claims(1.132, 1.25),
    measure: |seed| rounds(seed, 1000, 50),
};

const FLUID: &str = "derived: a fluid needs F/u; pieces need 1 + log2(N)/M times that, and the first piece a second more";

/// As the decisions have it, slots chosen by them.
fn fluid(seed: u64, leechers: u32) -> Vec<f64> {
    let mut begun = Crowd::new(leechers).begin(seed);
    let times = begun.run();
    vec![times.last().copied().unwrap_or(f64::INFINITY) / begun.fluid()]
}

const FLUID_WHAT: &str = "last / fluid bound, slots as the decisions choose";

pub(super) const FLUID_1: Experiment = Experiment {
    id: "V2-1",
    title: "one leecher",
    source: FLUID,
    is_quick: true,
    claims: &[Claim::from_to(FLUID_WHAT, 1.0, 1.02)],
    measure: |seed| fluid(seed, 1),
};

pub(super) const FLUID_10: Experiment = Experiment {
    id: "V2-10",
    title: "10 leechers, all uplinks alike",
    source: FLUID,
    is_quick: true,
    claims: &[Claim::from_to(FLUID_WHAT, 1.0, 1.05)],
    measure: |seed| fluid(seed, 10),
};

pub(super) const FLUID_100: Experiment = Experiment {
    id: "V2-100",
    title: "100 leechers, all uplinks alike",
    source: FLUID,
    is_quick: false,
    claims: &[Claim::from_to(FLUID_WHAT, 1.0, 1.08)],
    measure: |seed| fluid(seed, 100),
};

pub(super) const FLUID_1000: Experiment = Experiment {
    id: "V2-1000",
    title: "1000 leechers, all uplinks alike",
    source: FLUID,
    is_quick: false,
    claims: &[Claim::from_to(FLUID_WHAT, 1.0, 1.11)],
    measure: |seed| fluid(seed, 1000),
};

pub(super) const SEED_LIMITED: Experiment = Experiment {
    id: "V3",
    title: "a seed with a quarter of a leecher's uplink, 40 leechers",
    source: "derived: every byte leaves the seed once, so nobody is done before F/u_s, and nobody needs to be much later",
    is_quick: true,
    claims: &[
        Claim::from_to("last / fluid bound", 1.0, 1.05),
        Claim::from_to("last / first", 1.0, 1.05),
        Claim::from_to("copies that the seed sends", 1.0, 1.05),
    ],
    measure: |seed| {
        let mut crowd = Crowd::new(40);
        crowd.seed_up = PIECE_A_SECOND / 4;
        let mut begun = crowd.begin(seed);
        let times = begun.run();
        let (first, last) = (times[0], times[times.len() - 1]);
        vec![last / begun.fluid(), last / first, begun.copies()]
    },
};

pub(super) const SUPER_SEED: Experiment = Experiment {
    id: "V9",
    title: "super-seeding: 40 leechers with 20 neighbours each, a seed with half their uplink",
    source: "BEP 16: 105 % of the content instead of 150 to 200 % until somebody else has all of it",
    is_quick: true,
    claims: &[
        Claim::from_to("copies until each piece is out, super-seeding", 1.0, 1.10),
        Claim::at_least("the same without", 1.3),
    ],
    measure: |seed| {
        [true, false]
            .map(|super_seed| first_copy(seed, super_seed))
            .to_vec()
    },
};

/// What the seed has sent when each piece is with somebody else, in copies.
fn first_copy(seed: u64, super_seed: bool) -> f64 {
    let mut crowd = Crowd::new(40);
    (crowd.super_seed, crowd.neighbours, crowd.seed_up) = (super_seed, 20, PIECE_A_SECOND / 2);
    let mut begun = crowd.begin(seed);
    let content = begun.content;
    begun
        .world
        .observe_while(LIMIT, &mut (), |world| !world.is_spread(content));
    begun.copies()
}

pub(super) const ONE_SEED_ONE_RUN: Experiment = Experiment {
    id: "V13",
    title: "one seed is one run",
    source: "by construction",
    is_quick: true,
    claims: &[
        Claim::from_to("traces of one seed that are alike, of two", 2.0, 2.0),
        Claim::from_to("traces of another seed that are like them", 0.0, 0.0),
    ],
    measure: |seed| {
        let trace = |seed| {
            let mut crowd = Crowd::new(8);
            crowd.trace = true;
            let mut begun = crowd.begin(seed);
            begun.run();
            assert!(seconds(&begun.world) > 0.0);
            begun.world.trace_hash()
        };
        let first = trace(seed);
        let like = |other| f64::from(u8::from(first.is_some() && trace(other) == first));
        vec![1.0 + like(seed), like(seed.wrapping_add(1))]
    },
};
