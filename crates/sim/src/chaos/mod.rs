//! Random worlds with random faults, judged by the [checkers](crate::check).
//!
//! A seed draws a [`Plan`]: hosts, lines, manners, and what befalls them. After [`Plan::heal_at`] nothing more goes
//! wrong, and every sound host has to reach its end within three times what the lines allow (the two phases of
//! `TigerBeetle`'s simulator). A plan is plain data: one that fails is [made smaller](shrink) and kept.

mod draw;
mod fault;
mod shrink;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use riverrun_base::Time;
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::check::{Checker, Property, Searches, Violation, is_sound, unfinished, unlike};
use crate::config::{HostConfig, Start, WorldConfig};
use crate::content::{Content, Version};
use crate::fluid::Crowd;
use crate::host::{Host, Life};
use crate::ids::HostId;
use crate::link::TcpConfig;
use crate::manners::Manners;
use crate::planted::Planted;
use crate::seconds;
use crate::services::Service;
use crate::tracker::TrackerConfig;
use crate::world::World;

pub use self::draw::draw;
pub use self::fault::{Accident, Fault};
pub use self::shrink::shrink;

/// How many times the fluid bound honest hosts have, once all is well again.
const BOUND_TIMES: u32 = 3;
/// What they have beyond that: for silent connections to be noticed, trackers asked again, bans cleared up.
const GRACE: Duration = Duration::from_mins(10);

/// The same where nobody but the DHT tells who is there: it is asked every quarter of an hour.
const GRACE_WITHOUT_TRACKER: Duration = Duration::from_mins(30);

/// How often trackers want to be asked: often enough that everybody has heard of everybody within the grace.
const ANNOUNCE_EVERY: Duration = Duration::from_mins(5);

/// A world with everything that will happen to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Decides what is still left to chance.
    pub seed: u64,
    /// How many pieces the torrent has.
    pub pieces: u32,
    /// How many blocks a piece has.
    pub blocks: u32,
    /// Which hashes it has.
    pub version: Version,
    /// Nodes of the DHT beside the hosts, which take no part in the torrent.
    #[serde(default, skip_serializing_if = "Nodes::are_none")]
    pub nodes: Nodes,
    /// Whether there is no tracker.
    #[serde(default)]
    pub trackerless: bool,
    /// Whether TCP takes its time to fill a line.
    pub tcp: bool,
    /// When everything is well again.
    #[serde(with = "seconds")]
    pub heal_at: Duration,
    /// The mistake that is planted in every host, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planted: Option<Planted>,
    /// Who takes part.
    pub hosts: Vec<HostConfig>,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// Nodes of the DHT that take no part in the torrent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nodes {
    /// Those that are as they should be.
    pub honest: u32,
    /// Those that want to be found instead of others.
    pub liars: u32,
    /// Whether somebody asks in the name of others.
    pub forger: bool,
}

impl Nodes {
    fn are_none(&self) -> bool {
        *self == Self::default()
    }

    /// Their configurations: each runs all that a host can run over UDP.
    fn hosts(self) -> Vec<HostConfig> {
        let host = |node_liar, forges| HostConfig {
            name: "node".to_owned(),
            serves: Service::ALL.to_vec(),
            manners: Manners {
                node_liar,
                forges,
                ..Manners::default()
            },
            ..HostConfig::default()
        };
        let all = |count, host: HostConfig| std::iter::repeat_n(host, count as usize);
        all(self.honest, host(false, false))
            .chain(all(self.liars, host(true, false)))
            .chain(self.forger.then(|| host(false, true)))
            .collect()
    }
}

/// What became of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What should have held and did not; none is the good outcome.
    pub violations: Vec<Violation>,
    /// Events of the world.
    pub events: u64,
    /// How searches in the DHT went, of which something can be said.
    pub searches: Searches,
    /// When the last sound host was through, or the time was up.
    pub end: Time,
    /// Over everything that the decisions did.
    pub trace: String,
}

impl Plan {
    /// Runs it.
    pub fn run(&self) -> Outcome {
        let mut world = self.world();
        let mut checker = Checker::new();
        let heal = Time::ZERO + self.heal_at;
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            world.observe_until(heal, &mut checker);
            heal_all(&mut world);
            let limit = heal + self.time_to_finish(&world);
            world.observe_while(limit, &mut checker, unfinished_hosts);
            unfinished(&world)
        }));
        let end = world.now();
        let (late, broken) = match panicked {
            Ok(late) => ([late, unlike(&mut world)].concat(), None),
            Err(panic) => (Vec::new(), Some(broken(end, panic.as_ref()))),
        };
        let searches = checker.searches();
        let mut violations = checker.finish(&world);
        violations.extend(late);
        violations.extend(broken);
        Outcome {
            violations,
            events: world.counts().events,
            searches,
            end,
            trace: world.trace_hash().unwrap_or_default(),
        }
    }

    /// The world before anything has happened.
    fn world(&self) -> World {
        let tracker = TrackerConfig {
            interval: ANNOUNCE_EVERY,
            ..TrackerConfig::default()
        };
        let mut world = World::new(WorldConfig {
            seed: self.seed,
            tcp: self.tcp.then(TcpConfig::default),
            trackers: if self.trackerless {
                Vec::new()
            } else {
                vec![vec![tracker]]
            },
            check_invariants: true,
            trace: true,
            record: true,
            models: true,
            ..WorldConfig::default()
        });
        let content = Content::of(self.version, self.pieces, self.blocks, self.seed);
        let content = world.add_content(content);
        for config in &self.hosts {
            let host = world.add_host(content, config.clone());
            if let Some(planted) = self.planted {
                world.setup(host).plant(planted);
            }
        }
        for config in self.nodes.hosts() {
            let node = world.add_bare_host(config);
            if let Some(planted) = self.planted {
                world.setup(node).plant(planted);
            }
            world.plan(Time::ZERO, Action::Join(node));
        }
        for fault in &self.faults {
            fault.plan(&mut world, self.pieces);
        }
        world
    }

    /// How long sound hosts have once all is well.
    fn time_to_finish(&self, world: &World) -> Duration {
        let sound = sound_hosts(world);
        let sound: Vec<&HostConfig> = sound.map(|(_, host)| &host.config).collect();
        let (seeds, leechers): (Vec<&HostConfig>, Vec<&HostConfig>) =
            sound.iter().partition(|host| host.start == Start::Full);
        let up = |host: &&HostConfig| least(host.up, host.upload_limit);
        let down = |host: &&HostConfig| least(host.down, host.download_limit);
        let crowd = Crowd {
            len_bytes: u64::from(self.pieces) * u64::from(self.blocks * riverrun_base::BLOCK_LEN),
            seed_up: seeds.iter().map(up).sum(),
            up: leechers.iter().map(up).collect(),
            down: leechers.iter().map(down).collect(),
        };
        let bound = Duration::try_from_secs_f64(crowd.makespan()).unwrap_or(Duration::ZERO);
        let grace = if self.trackerless {
            GRACE_WITHOUT_TRACKER
        } else {
            GRACE
        };
        bound * BOUND_TIMES + grace
    }
}

/// The rate of a line under a limit, in bytes per second.
fn least(rate: Option<u64>, limit: Option<u64>) -> f64 {
    let least = [rate, limit].into_iter().flatten().min();
    #[expect(clippy::cast_precision_loss, reason = "a bound, not an account")]
    least.map_or(f64::INFINITY, |rate| rate as f64)
}

/// Ends everything that is wrong.
fn heal_all(world: &mut World) {
    let hosts: Vec<HostId> = world.hosts().map(|(id, _)| id).collect();
    world.act(Action::Heal);
    for tracker in 0..world.config().trackers.iter().flatten().count() {
        world.act(Action::Tracker {
            index: tracker,
            down: false,
        });
    }
    for host in hosts {
        world.act(Action::DiskFails(host, Duration::ZERO));
        world.act(Action::DiskSpace(host, None));
        if world.host(host).life() == Life::Crashed {
            world.act(Action::Restart(host));
        }
    }
}

/// Whether some sound host has not all, or has all and is about something that should pass.
fn unfinished_hosts(world: &World) -> bool {
    let mut there = sound_hosts(world).filter(|(_, host)| host.life() == Life::Up);
    there.any(|(_, host)| !host.has_all()) || !unfinished(world).is_empty()
}

/// Hosts that do their part in the torrent.
fn sound_hosts(world: &World) -> impl Iterator<Item = (HostId, &Host)> {
    let takes_part = |(id, host): &(HostId, &Host)| host.has_torrents() && is_sound(world, *id);
    world.hosts().filter(takes_part)
}

/// An assertion that did not hold.
fn broken(at: Time, panic: &(dyn std::any::Any + Send)) -> Violation {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    Violation {
        property: Property::Invariants,
        at,
        host: None,
        what: text.unwrap_or("a panic without a message").to_owned(),
    }
}
