//! Plans drawn from a seed.

use std::time::Duration;

use riverrun_base::Rng;

use super::{Accident, Fault, Nodes, Plan};
use crate::config::{HostConfig, Level, Nat, Start};
use crate::content::Version;
use crate::manners::{Claims, Flood, Manners, Poison};
use crate::services::Service;
use crate::streams::{happens, mix};

/// Faults of one plan, at most.
const FAULTS_MAX: u64 = 8;
/// Leechers of one plan, at most.
const LEECHERS_MAX: u64 = 8;
/// Hostile hosts of one plan, at most.
const HOSTILE_MAX: u64 = 3;

/// Keeps what is drawn of disks apart, so that a seed's world is else what it was without them.
const DISKS: u64 = 0x6469_736b;
/// How many nodes of a DHT are honest, beside the hosts.
const NODES_MAX: u32 = 24;

/// The same for a DHT.
const NODES: u64 = 0x6e6f_6465;
/// The same for who dozes.
const DOZERS: u64 = 0x646f_7a65;
/// The same for which torrents with v2 have v1 too.
const HYBRIDS: u64 = 0x6879_6272;

/// What can befall a host that is not there for the others alone.
const ACCIDENTS: [Accident; 14] = [
    Accident::Kill,
    Accident::PowerCut,
    Accident::Sleep,
    Accident::Leap,
    Accident::Split,
    Accident::TrackerDown,
    Accident::DiskFails,
    Accident::DiskFull,
    Accident::Rot,
    Accident::Pause,
    Accident::Recheck,
    Accident::Sequential,
    Accident::UploadOnly,
    Accident::Slow,
];

/// The plan of a seed.
///
/// How likely each kind of fault is, is drawn first (swarm testing, Groce et al. 2012): a world in which everything
/// goes wrong a little hides what a world shows in which one thing goes wrong often.
pub fn draw(seed: u64) -> Plan {
    let mut rng = Rng::new(mix(seed));
    let v2 = happens(&mut rng, 0.3);
    let version = match v2 {
        false => Version::V1,
        true if happens(&mut Rng::new(mix(seed ^ HYBRIDS)), 0.5) => Version::Hybrid,
        true => Version::V2,
    };
    let mut plan = Plan {
        seed,
        pieces: between(&mut rng, 2, 40),
        blocks: if v2 {
            1 << between(&mut rng, 0, 3)
        } else {
            between(&mut rng, 1, 8)
        },
        version,
        nodes: Nodes::default(),
        trackerless: false,
        tcp: happens(&mut rng, 0.5),
        heal_at: Duration::from_secs(u64::from(between(&mut rng, 30, 240))),
        planted: None,
        hosts: Vec::new(),
        faults: Vec::new(),
    };
    draw_hosts(&mut rng, &mut plan);
    draw_faults(&mut rng, &mut plan);
    draw_disks(&mut Rng::new(mix(seed ^ DISKS)), &mut plan);
    draw_dozers(&mut Rng::new(mix(seed ^ DOZERS)), &mut plan);
    draw_nodes(&mut Rng::new(mix(seed ^ NODES)), &mut plan);
    plan
}

/// In some worlds there is a DHT, and in half of these nobody else who tells of peers.
fn draw_nodes(rng: &mut Rng, plan: &mut Plan) {
    if !happens(rng, 0.25) {
        return;
    }
    plan.trackerless = happens(rng, 0.5);
    let honest = between(rng, 8, NODES_MAX);
    plan.nodes = Nodes {
        honest,
        // With the honest ones and themselves, one in five at most.
        liars: between(rng, 0, honest / 4),
        forger: happens(rng, 0.5),
    };
    for host in &mut plan.hosts {
        host.serves = vec![Service::Node];
    }
}

/// Some hosts let go of what nobody uses, and of that soon: there is not much time.
fn draw_dozers(rng: &mut Rng, plan: &mut Plan) {
    if !happens(rng, 0.3) {
        return;
    }
    for host in &mut plan.hosts {
        if happens(rng, 0.7) {
            host.doze_after = Some(between(rng, 0, 20));
        }
    }
}

/// Some disks write where they should not. The first host's does not: what it loses may be lost to all.
fn draw_disks(rng: &mut Rng, plan: &mut Plan) {
    for host in plan.hosts.iter_mut().skip(1) {
        if happens(rng, 0.03) {
            host.disk.misdirected_writes = 0.1;
        }
    }
}

fn draw_hosts(rng: &mut Rng, plan: &mut Plan) {
    let bytes = happens(rng, 0.3);
    let limited = happens(rng, 0.3);
    let far = happens(rng, 0.4);
    for _ in 0..between(rng, 1, 2) {
        plan.hosts.push(HostConfig {
            start: Start::Full,
            ..host(rng, bytes, limited, far)
        });
    }
    plan.hosts[0].super_seed = happens(rng, 0.15);
    for _ in 0..=rng.next_u64() % LEECHERS_MAX {
        let mut leecher = host(rng, bytes, limited, far);
        leecher.join_at = Duration::from_millis(u64::from(between(rng, 0, 40_000)));
        leecher.start = if happens(rng, 0.15) {
            Start::Magnet
        } else {
            Start::Empty
        };
        if happens(rng, 0.2) {
            leecher.nat = Nat::PortRestricted;
        }
        plan.hosts.push(leecher);
    }
    if happens(rng, 0.5) {
        for _ in 0..=rng.next_u64() % HOSTILE_MAX {
            let mut hostile = host(rng, false, false, far);
            hostile.manners = manners(rng);
            // Who floods is heard best by those who serve it, because it lacks something.
            let lacks = hostile.manners.claims != Claims::Honest || hostile.manners.flood.is_some();
            if !lacks && happens(rng, 0.7) {
                hostile.start = Start::Full;
            }
            plan.hosts.push(hostile);
        }
    }
}

fn host(rng: &mut Rng, bytes: bool, limited: bool, far: bool) -> HostConfig {
    let mut host = HostConfig {
        up: Some(u64::from(between(rng, 20_000, 2_000_000))),
        down: happens(rng, 0.5).then(|| u64::from(between(rng, 100_000, 8_000_000))),
        ..HostConfig::default()
    };
    if far {
        host.latency = Duration::from_millis(u64::from(between(rng, 1, 150)));
        host.loss = f64::from(between(rng, 0, 20)) / 1000.0;
    }
    if bytes && happens(rng, 0.5) {
        host.level = Level::Bytes;
    }
    if limited && happens(rng, 0.5) {
        host.upload_limit = Some(u64::from(between(rng, 30_000, 500_000)));
    }
    if limited && happens(rng, 0.3) {
        host.download_limit = Some(u64::from(between(rng, 30_000, 500_000)));
    }
    host.fast = !happens(rng, 0.15);
    host.slots = happens(rng, 0.5).then(|| between(rng, 1, 6));
    if happens(rng, 0.3) {
        host.disk.rate = Some(u64::from(between(rng, 1_000_000, 50_000_000)));
    }
    host
}

fn manners(rng: &mut Rng) -> Manners {
    let mut manners = Manners::default();
    match rng.next_u64() % 8 {
        0 => manners.poison = Poison::Every(between(rng, 1, 6)),
        1 => manners.poison = Poison::Once,
        2 => manners.mute = true,
        3 => manners.free_rider = true,
        4 => manners.metadata_liar = true,
        5 => manners.claims = Claims::All,
        6 => manners.claims = Claims::Nothing,
        _ => {
            manners.flood = Some(Flood {
                every: Duration::from_millis(u64::from(between(rng, 200, 5000))),
                requests: between(rng, 0, 30),
                haves: between(rng, 0, 30),
                garbage: happens(rng, 0.2),
            });
        }
    }
    manners
}

fn draw_faults(rng: &mut Rng, plan: &mut Plan) {
    let kinds = 1 + rng.next_u64() % 4;
    let kinds: Vec<Accident> = (0..kinds)
        .filter_map(|_| rng.choose(&ACCIDENTS).copied())
        .collect();
    let heal = u32::try_from(plan.heal_at.as_millis()).unwrap_or(u32::MAX);
    for _ in 0..rng.next_u64() % (FAULTS_MAX + 1) {
        let Some(what) = rng.choose(&kinds).copied() else {
            return;
        };
        let at = between(rng, 100, heal - 100);
        let lasts = between(rng, 10, (heal - at).clamp(11, 120_000));
        // What rots at the first seed may be lost to all.
        let first = u32::from(what == Accident::Rot);
        plan.faults.push(Fault {
            at: Duration::from_millis(at.into()),
            lasts: Duration::from_millis(lasts.into()),
            host: between(rng, first, u32::try_from(plan.hosts.len()).unwrap_or(1) - 1),
            what,
        });
    }
    draw_departure(rng, plan);
}

/// One who is not needed may leave for good.
fn draw_departure(rng: &mut Rng, plan: &mut Plan) {
    let hosts = u32::try_from(plan.hosts.len()).unwrap_or(1);
    if happens(rng, 0.3) && hosts > 2 {
        plan.faults.push(Fault {
            at: plan.heal_at / 2,
            lasts: Duration::ZERO,
            host: between(rng, 1, hosts - 1),
            what: Accident::Leave,
        });
    }
}

/// A number from `low` to `high`, both included.
fn between(rng: &mut Rng, low: u32, high: u32) -> u32 {
    let span = u64::from(high.saturating_sub(low)) + 1;
    low + u32::try_from(rng.next_u64() % span).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_one_plan_and_another_seed_another() {
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn some_worlds_have_a_dht_and_some_of_these_no_tracker() {
        let plans: Vec<Plan> = (0..300).map(draw).collect();
        let count = |is_one: fn(&&Plan) -> bool| plans.iter().filter(is_one).count();
        assert!((50..100).contains(&count(|plan| plan.nodes.honest > 0)));
        assert!((20..60).contains(&count(|plan| plan.trackerless)));
        assert!((20..60).contains(&count(|plan| plan.nodes.forger)));
        for Nodes { honest, liars, .. } in plans.iter().map(|plan| plan.nodes) {
            assert!(liars * 5 <= honest + liars, "{liars} beside {honest}");
        }
    }

    #[test]
    fn some_disks_write_where_they_should_not() {
        let misdirects = |seed| {
            draw(seed)
                .hosts
                .iter()
                .filter(|host| host.disk.misdirected_writes > 0.0)
                .count()
        };
        let count: usize = (0..300).map(misdirects).sum();
        assert!((20..100).contains(&count), "{count}");
    }

    #[test]
    fn every_accident_is_drawn_by_some_seed() {
        let drawn: Vec<Accident> = (0..300)
            .flat_map(|seed| draw(seed).faults)
            .map(|fault| fault.what)
            .collect();
        for accident in ACCIDENTS {
            assert!(drawn.contains(&accident), "{accident:?}");
        }
    }
}
