//! Swarms that people come to and leave: how many there are, and whether they become ever more.

use std::time::Duration;

use riverrun_base::{BLOCK_LEN, Time};

use super::{Claim, Experiment, seconds, world_of};
use crate::config::{HostConfig, Start, Stay};
use crate::content::Content;
use crate::host::Life;
use crate::ids::HostId;
use crate::observe::{Happening, Observer};
use crate::world::World;

/// Counts who is there, by whether they have everything, over time.
#[derive(Default)]
struct Population {
    from: f64,
    last: f64,
    now: [f64; 2],
    /// Sums of people × seconds: who lacks something, who has everything.
    sums: [f64; 2],
}

impl Population {
    /// On average since `from`.
    fn mean(&self) -> [f64; 2] {
        self.sums.map(|sum| sum / (self.last - self.from))
    }
}

impl Observer for Population {
    fn observe(&mut self, world: &World, happenings: &[Happening]) {
        let now = seconds(world);
        let passed = now - self.last.max(self.from);
        if passed > 0.0 {
            for (sum, count) in self.sums.iter_mut().zip(self.now) {
                *sum += count * passed;
            }
        }
        self.last = now;
        for happening in happenings {
            match happening {
                Happening::Joined { host } if !is_source(*host) => self.now[0] += 1.0,
                Happening::Completed { host } if !is_source(*host) => {
                    self.now[0] -= 1.0;
                    self.now[1] += 1.0;
                }
                Happening::Left { host } if world.host(*host).tally().completed_at.is_some() => {
                    self.now[1] -= 1.0;
                }
                _ => {}
            }
        }
    }
}

/// The first host has everything and stays.
const fn is_source(host: HostId) -> bool {
    host.0 == 0
}

const HAJEK: &str = "Hajek and Zhu 2011: a swarm in which people leave with their last piece is stable if they come slower than the seed gives pieces, whatever piece is chosen; else all but one piece is common, and those who lack it become more by the difference";

/// Pieces of one block; the seed gives one in a second.
const PIECES: u32 = 20;
const SPAN: f64 = 600.0;
/// Who lacks only the first piece when it begins.
const CLUB: u32 = 60;

/// By how many those who are there become more in a second, if so many come in a second.
fn growth(seed: u64, per_second: f64) -> f64 {
    let mut world = world_of(seed);
    let content = world.add_content(Content::tokens(PIECES, 1));
    let second = u64::from(BLOCK_LEN);
    world.add_host(content, HostConfig::seed().up(second));
    let mut peer = HostConfig::leecher().up(second).down(8 * second);
    peer.stay = Stay::AfterCompletion(0.0);
    let mut club = peer.clone();
    club.start = Start::Pieces((1..PIECES).collect());
    for _ in 0..CLUB {
        world.add_host(content, club.clone());
    }
    let end = Time::ZERO + Duration::from_secs_f64(SPAN);
    world.add_arrivals(content, &peer, per_second, end);
    world.run_until(end);
    let there = world
        .hosts()
        .filter(|(_, host)| host.life() == Life::Up)
        .count();
    // The seed does not count.
    let there = u32::try_from(there).unwrap_or(u32::MAX) - 1;
    (f64::from(there) - f64::from(CLUB)) / SPAN
}

pub(super) const STABLE: Experiment = Experiment {
    id: "V5-stable",
    title: "0.8 people come while the seed gives one piece; 60 lack only one piece at first",
    source: HAJEK,
    is_quick: false,
    claims: &[Claim::at_most(
        "by how many they become more in a second",
        0.0,
    )],
    measure: |seed| vec![growth(seed, 0.8)],
};

pub(super) const UNSTABLE: Experiment = Experiment {
    id: "V5-unstable",
    title: "2 people come while the seed gives one piece; 60 lack only one piece at first",
    source: HAJEK,
    is_quick: false,
    claims: &[Claim::from_to(
        "by how many they become more in a second",
        0.8,
        1.2,
    )],
    measure: |seed| vec![growth(seed, 2.0)],
};

const QIU: &str = "Qiu and Srikant 2004, from memory, and derived again by Little's law: T = max(1/c, 1/mu - 1/gamma), x = lambda T, y = lambda / gamma";

/// How long a host takes to send the content once, in seconds: 1/mu.
const UP_SECS: u32 = 160;
/// How long it takes to receive it: 1/c.
const DOWN_SECS: u32 = 100;
/// How many come in a second: lambda.
const COME: f64 = 1.0;

/// How many lack something, and how many have everything, on average over the last two thirds of 1500 s, as multiples of
/// what the model says, if who has everything stays for so many seconds.
fn steady(seed: u64, stay_secs: u32) -> Vec<f64> {
    let mut world = world_of(seed);
    let content = world.add_content(Content::tokens(64, 1));
    let len = world.content(content).len_bytes();
    let (up, down) = (len / u64::from(UP_SECS), len / u64::from(DOWN_SECS));
    world.add_host(content, HostConfig::seed().up(up));
    let mut peer = HostConfig::leecher().up(up).down(down);
    peer.stay = Stay::AfterCompletion(stay_secs.into());
    peer.connections_max = 30;
    let end = Time::from_secs(1500);
    world.add_arrivals(content, &peer, COME, end);
    let mut population = Population {
        from: 500.0,
        ..Population::default()
    };
    world.observe_until(end, &mut population);
    let time = DOWN_SECS.max(UP_SECS.saturating_sub(stay_secs));
    let [leechers, seeds] = population.mean();
    vec![
        leechers / (COME * f64::from(time)),
        seeds / (COME * f64::from(stay_secs)),
    ]
}

const STEADY: [Claim; 2] = [
    Claim::from_to("people who lack something / the model's", 0.9, 1.1),
    Claim::from_to("people who have everything / the model's", 0.9, 1.1),
];

pub(super) const SEEDS_STAY: Experiment = Experiment {
    id: "V6-stay",
    title: "who has everything stays for 200 s: downlinks bind",
    source: QIU,
    is_quick: false,
    claims: &STEADY,
    measure: |seed| steady(seed, 200),
};

pub(super) const SEEDS_GO: Experiment = Experiment {
    id: "V6-go",
    title: "who has everything stays for 40 s: uplinks bind",
    source: QIU,
    is_quick: false,
    claims: &STEADY,
    measure: |seed| steady(seed, 40),
};
