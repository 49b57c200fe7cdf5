//! Swarms of unlike people: fast and slow, those who give and those who do not.

use riverrun_base::Time;

use super::{Claim, Experiment, as_f64, seconds, world_of};
use crate::config::HostConfig;
use crate::content::Content;
use crate::fluid;
use crate::ids::HostId;
use crate::manners::Manners;
use crate::observe::{Happening, Observer};
use crate::world::World;

const LIMIT: Time = Time::from_secs(100_000);
/// Bytes a second.
const KBIT: u64 = 125;

fn completed(world: &World, host: HostId) -> f64 {
    let at = world.host(host).tally().completed_at;
    at.map_or(f64::INFINITY, crate::seconds::of)
}

fn median(world: &World, hosts: &[HostId]) -> f64 {
    let mut times: Vec<f64> = hosts.iter().map(|host| completed(world, *host)).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Down and up in kbit/s, and how many of two hundred.
const MIX_CLASSES: [(u64, u64, u32); 4] = [
    (784, 128, 40),
    (1500, 384, 80),
    (3000, 1000, 50),
    (10_000, 5000, 30),
];

pub(super) const MIX: Experiment = Experiment {
    id: "V4",
    title: "200 people with four kinds of lines, 25 MiB",
    source: "Bharambe et al. 2006: near-optimal use of uplinks; its lines and threshold from memory. The bound of the slowest is derived",
    is_quick: false,
    claims: &[
        Claim::at_least("use of uplinks until the first has everything", 0.90),
        Claim::at_least("median of the slowest lines / of the fastest", 1.0),
        Claim::from_to("last / fluid bound", 1.0, 1.08),
    ],
    measure: mix,
};

fn mix(seed: u64) -> Vec<f64> {
    let mut world = world_of(seed);
    let content = world.add_content(Content::tokens(100, 16));
    let seed_up = 6000 * KBIT;
    world.add_host(content, HostConfig::seed().up(seed_up));
    let mut classes: Vec<Vec<HostId>> = Vec::new();
    let (mut ups, mut downs) = (Vec::new(), Vec::new());
    for (down, up, count) in MIX_CLASSES {
        let host = HostConfig::leecher().up(up * KBIT).down(down * KBIT);
        classes.push(
            (0..count)
                .map(|_| world.add_host(content, host.clone()))
                .collect(),
        );
        for _ in 0..count {
            ups.push(as_f64(up * KBIT));
            downs.push(as_f64(down * KBIT));
        }
    }
    let all = classes.concat();
    world.observe_while(LIMIT, &mut (), |world| {
        !all.iter().any(|host| world.host(*host).has_all())
    });
    let sent: u64 = all
        .iter()
        .map(|host| world.host(*host).tally().sent_bytes)
        .sum();
    let use_of = as_f64(sent) / (ups.iter().sum::<f64>() * seconds(&world));
    world.run_to_completion(&all, LIMIT);
    let last = all
        .iter()
        .map(|host| completed(&world, *host))
        .fold(0.0, f64::max);
    let crowd = fluid::Crowd {
        len_bytes: world.content(content).len_bytes(),
        seed_up: as_f64(seed_up),
        up: ups,
        down: downs,
    };
    let slow_over_fast = median(&world, &classes[0]) / median(&world, &classes[3]);
    vec![use_of, slow_over_fast, last / crowd.makespan()]
}

/// What each host has received of whom, until the first has everything.
struct Given {
    /// The class of each host; none for the seed.
    classes: Vec<Option<usize>>,
    inside: u64,
    all: u64,
}

impl Observer for Given {
    fn observe(&mut self, _: &World, happenings: &[Happening]) {
        for happening in happenings {
            let Happening::Received { from, to, span, .. } = happening else {
                continue;
            };
            let [from, to] = [from, to].map(|host| self.classes[host.as_usize()]);
            if from.is_some() {
                self.all += u64::from(span.len);
                self.inside += u64::from(span.len) * u64::from(from == to);
            }
        }
    }
}

pub(super) const CLUSTERS: Experiment = Experiment {
    id: "V7",
    title: "39 people with uplinks of 20, 50 and 200 kB/s",
    source: "Legout et al. 2007: those with like uplinks give to each other, unless the seed is slow; the thresholds are from memory",
    is_quick: false,
    claims: &[
        Claim::at_least(
            "share of bytes that stay in their class, of what leechers give",
            0.6,
        ),
        Claim::at_most("the same with a seed of 20 kB/s, of that", 0.9),
    ],
    measure: |seed| {
        let [fast, slow] = [400_000, 20_000].map(|up| inside(seed, up));
        vec![fast, slow / fast]
    },
};

fn inside(seed: u64, seed_up: u64) -> f64 {
    let mut world = world_of(seed);
    let content = world.add_content(Content::tokens(100, 16));
    world.add_host(content, HostConfig::seed().up(seed_up));
    let mut given = Given {
        classes: vec![None],
        inside: 0,
        all: 0,
    };
    let mut hosts = Vec::new();
    for (class, up) in [20_000, 50_000, 200_000].into_iter().enumerate() {
        for _ in 0..13 {
            hosts.push(world.add_host(content, HostConfig::leecher().up(up)));
            given.classes.push(Some(class));
        }
    }
    world.observe_while(LIMIT, &mut given, |world| {
        !hosts.iter().any(|host| world.host(*host).has_all())
    });
    as_f64(given.inside) / as_f64(given.all)
}

/// How long each host was unchoked by the first.
struct Turns {
    since: Vec<Option<f64>>,
    held: Vec<f64>,
}

impl Observer for Turns {
    fn observe(&mut self, world: &World, happenings: &[Happening]) {
        for happening in happenings {
            let Happening::Choked {
                by: HostId(0),
                to,
                choked,
                ..
            } = happening
            else {
                continue;
            };
            let since = &mut self.since[to.as_usize()];
            match (choked, *since) {
                (false, None) => *since = Some(seconds(world)),
                (true, Some(from)) => {
                    self.held[to.as_usize()] += seconds(world) - from;
                    *since = None;
                }
                _ => {}
            }
        }
    }
}

pub(super) const TURNS: Experiment = Experiment {
    id: "V8",
    title: "a seed with one slot, 20 who wait, half an hour",
    source: "libtorrent's test_optimistic_unchoke: each has the slot for 90 s, give or take 1.5 s",
    is_quick: true,
    claims: &[
        Claim::at_least(
            "the shortest time that one has had the slot, in seconds",
            88.5,
        ),
        Claim::at_most("the longest", 91.5),
    ],
    measure: turns,
};

fn turns(seed: u64) -> Vec<f64> {
    let (others, span) = (20, 1800);
    let mut world = world_of(seed);
    // Nobody gets through in that time, and nobody gives to anybody else.
    let content = world.add_content(Content::tokens(2000, 16));
    let mut source = HostConfig::seed().up(100_000);
    source.slots = Some(1);
    world.add_host(content, source);
    let mut rider = HostConfig::leecher();
    rider.manners = Manners {
        free_rider: true,
        ..Manners::default()
    };
    for _ in 0..others {
        world.add_host(content, rider.clone());
    }
    let mut turns = Turns {
        since: vec![None; others + 1],
        held: vec![0.0; others + 1],
    };
    world.observe_until(Time::from_secs(span), &mut turns);
    let end = seconds(&world);
    let running = turns
        .since
        .iter()
        .map(|since| since.map_or(0.0, |from| end - from));
    let held: Vec<f64> = turns
        .held
        .iter()
        .zip(running)
        .skip(1)
        .map(|(held, more)| held + more)
        .collect();
    let least = held.iter().copied().fold(f64::INFINITY, f64::min);
    vec![least, held.iter().copied().fold(0.0, f64::max)]
}

pub(super) const FREE_RIDERS: Experiment = Experiment {
    id: "V11",
    title: "ten who give nothing among thirty who do",
    source: "the aim of tit-for-tat (Cohen 2003); the threshold is ours",
    is_quick: true,
    claims: &[Claim::at_least("median of riders / of givers", 1.5)],
    measure: |seed| {
        let mut world = world_of(seed);
        let content = world.add_content(Content::tokens(100, 16));
        world.add_host(content, HostConfig::seed().up(200_000));
        let mut crowd = |count, free_rider| -> Vec<HostId> {
            let mut host = HostConfig::leecher().up(200_000).down(1_000_000);
            host.manners.free_rider = free_rider;
            (0..count)
                .map(|_| world.add_host(content, host.clone()))
                .collect()
        };
        let (givers, riders) = (crowd(30, false), crowd(10, true));
        let all = [givers.clone(), riders.clone()].concat();
        world.run_to_completion(&all, LIMIT);
        vec![median(&world, &riders) / median(&world, &givers)]
    },
};
