//! Crashes, sleep, splits, full and failing disks, floods, churn: what worlds do to hosts, and that hosts get over it.

use std::time::Duration;

use riverrun_base::{PieceIndex, Time};
use riverrun_sim::{
    Action, Claims, Content, Flood, Happening, HostConfig, HostId, Level, Life, Manners, Nat,
    Observer, Stay, World,
};
use riverrun_swarm::{Event, StorageFault, TorrentOptions, TorrentState};

use crate::arena::Arena;

const RATE: u64 = 1_000_000;

#[test]
fn after_a_power_cut_only_what_was_durable_is_believed() {
    let content = Content::tokens(64, 8);
    let mut world = Arena::new(1, &content);
    world.seed(RATE);
    let leech = world.leech(RATE);
    world.run_until(Time::from_secs(5));
    let before = world.have(leech);
    let durable = world.host(leech).durable().unwrap().count_ones();
    assert!(
        durable < before,
        "some pieces wait for a sync: {durable} of {before}"
    );
    let power = true;
    world.act(Action::Crash { host: leech, power });
    assert_eq!(world.host(leech).life(), Life::Crashed);
    let kept = world.host(leech).written().unwrap().count_ones();
    assert!(
        (durable..before).contains(&kept),
        "{durable} {kept} {before}"
    );
    world.run_for(Duration::from_secs(1));
    world.act(Action::Restart(leech));
    world.run_for(Duration::from_millis(1200));
    assert_eq!(
        world.have(leech),
        kept,
        "what is there and was not claimed is checked"
    );
    world.run_to_completion(&[leech], Time::from_secs(300));
}

#[test]
fn a_killed_process_loses_nothing_that_was_written() {
    let content = Content::tokens(64, 8);
    let mut world = Arena::new(2, &content);
    world.seed(RATE);
    let leech = world.leech(RATE);
    world.run_until(Time::from_secs(5));
    let before = world.have(leech);
    world.kill(leech);
    world.act(Action::Restart(leech));
    world.run_for(Duration::from_millis(200));
    assert_eq!(world.have(leech), before);
    world.run_to_completion(&[leech], Time::from_secs(300));
}

#[test]
fn a_suspended_host_goes_on_where_it_was() {
    for (sleep, keeps) in [
        (Duration::from_secs(40), true),
        (Duration::from_hours(1), false),
    ] {
        let content = Content::tokens(64, 8);
        let mut world = Arena::new(3, &content);
        world.seed(RATE);
        let leech = world.leech(RATE);
        world.run_until(Time::from_secs(3));
        let before = world.have(leech);
        world.act(Action::Sleep(leech, sleep));
        world.run_for(sleep.saturating_sub(Duration::from_secs(1)));
        assert_eq!(world.have(leech), before, "nothing happens while it sleeps");
        let wakes = world.now() + Duration::from_secs(1);
        let done = world.run_to_completion(&[leech], wakes + Duration::from_mins(5));
        assert!(done > wakes);
        let dialled = world.dials().len();
        assert_eq!(dialled == 1, keeps, "{sleep:?}: {dialled} dials");
    }
}

#[test]
fn a_clock_that_leaps_ahead_harms_nothing() {
    let content = Content::tokens(64, 8);
    let mut world = Arena::new(4, &content);
    world.seed(RATE);
    let leech = world.leech(RATE);
    world.run_until(Time::from_secs(2));
    world.act(Action::Leap(leech, Duration::from_hours(24 * 365)));
    world.run_to_completion(&[leech], Time::from_secs(60));
}

#[test]
fn a_split_network_works_in_its_parts_and_again_as_a_whole() {
    let content = Content::tokens(128, 16);
    let mut world = Arena::unchecked(5, &content);
    let seed = world.seed(RATE);
    let near = world.leech(RATE);
    let far = [world.leech(RATE), world.leech(RATE)];
    world.run_until(Time::from_secs(10));
    let groups = far.map(|host| (host, 1));
    world.act(Action::Split(groups.to_vec()));
    world.run_for(Duration::from_mins(1));
    let before = far.map(|host| world.have(host));
    world.run_to_completion(&[near], Time::from_secs(300));
    world.run_for(Duration::from_mins(3));
    assert_eq!(far.map(|host| world.have(host)), before);
    assert!(before.iter().all(|have| *have < 128));
    let between = world
        .met(far[0])
        .filter(|(conn, other)| *other == seed && world.other_end(far[0], *conn).is_some());
    assert_eq!(between.count(), 0, "the connections have timed out");
    world.act(Action::Heal);
    let limit = world.now() + Duration::from_hours(1);
    world.run_to_completion(&far, limit);
}

#[test]
fn a_full_disk_is_told_and_ends_by_itself() {
    let content = Content::tokens(32, 8);
    let mut world = Arena::new(6, &content);
    world.seed(RATE);
    let mut config = HostConfig::leecher();
    config.disk.space = Some(10 * 8 * 16 * 1024);
    let leech = world.host_with(config, RATE, &TorrentOptions::default());
    world.run_until(Time::from_secs(20));
    let state = world.state(leech);
    assert!(
        matches!(state, TorrentState::Faulted(StorageFault::NoSpace { .. })),
        "{state:?}"
    );
    assert_eq!(world.host(leech).written().unwrap().count_ones(), 10);
    world.act(Action::DiskSpace(leech, None));
    world.run_to_completion(&[leech], Time::from_secs(120));
    world.run_for(Duration::from_secs(2));
    assert!(world.host(leech).durable().unwrap().all());
}

#[test]
fn a_disk_that_fails_for_a_while_costs_that_while() {
    let content = Content::tokens(32, 8);
    let mut world = Arena::new(7, &content);
    let seed = world.seed(RATE);
    let leech = world.leech(RATE);
    world.run_until(Time::from_secs(1));
    for host in [seed, leech] {
        world.act(Action::DiskFails(host, Duration::from_secs(10)));
    }
    world.run_to_completion(&[leech], Time::from_secs(120));
    world.run_for(Duration::from_secs(2));
    assert!(world.host(leech).durable().unwrap().all());
}

#[test]
fn a_slow_disk_slows_what_it_serves() {
    let time = |rate: Option<u64>| {
        let content = Content::tokens(32, 8);
        let mut world = Arena::new(8, &content);
        let mut config = HostConfig::seed();
        config.disk.rate = rate;
        world.host_with(config, RATE, &TorrentOptions::default());
        let leech = world.leech(RATE);
        world.run_to_completion(&[leech], Time::from_secs(600))
    };
    assert!(time(Some(RATE / 10)) > time(None) + Duration::from_secs(10));
}

#[test]
fn rotten_bytes_are_noticed_by_whoever_gets_them() {
    let content = Content::tokens(16, 8);
    let mut world = Arena::new(9, &content);
    let rotten = world.seed(RATE);
    world.act(Action::Spoil(rotten, PieceIndex(3)));
    world.seed(RATE);
    let leech = world.leech(RATE);
    world.run_to_completion(&[leech], Time::from_secs(60));
    let failed = |event: &Event| matches!(event, Event::PieceFailed { .. });
    assert!(world.events(leech).iter().any(failed));
}

#[test]
fn floods_and_lies_do_not_stop_a_download() {
    let flood = |requests, haves, garbage| Manners {
        flood: Some(Flood {
            every: Duration::from_millis(500),
            requests,
            haves,
            garbage,
        }),
        ..Manners::default()
    };
    let claims = |claims| Manners {
        claims,
        ..Manners::default()
    };
    let bad = [
        flood(2000, 0, false),
        flood(10, 500, false),
        flood(0, 0, true),
        claims(Claims::All),
        claims(Claims::Nothing),
    ];
    for level in [Level::Direct, Level::Bytes] {
        for manners in &bad {
            let content = Content::tokens(32, 8);
            let mut world = Arena::new(10, &content);
            world.seed(RATE);
            for _ in 0..2 {
                let mut config = HostConfig::leecher();
                config.level = level;
                world.bad(config, RATE, manners.clone());
            }
            let leechers = [world.leech(RATE), world.leech(RATE)];
            let end = world.run_to_completion(&leechers, Time::from_secs(120));
            assert!(end < Time::from_secs(60), "{level:?} {manners:?}: {end}");
        }
    }
}

#[test]
fn who_cannot_be_dialled_dials() {
    let content = Content::tokens(16, 8);
    let mut world = Arena::new(11, &content);
    let mut config = HostConfig::seed();
    config.nat = Nat::PortRestricted;
    world.host_with(config, RATE, &TorrentOptions::default());
    world.run_until(Time::from_secs(1));
    let leech = world.leech(RATE);
    // The leecher has to wait until the seed hears of it.
    world.run_to_completion(&[leech], Time::from_secs(3600));
}

/// What became of hosts.
#[derive(Default)]
struct Gone(Vec<HostId>);

impl Observer for Gone {
    fn observe(&mut self, _: &World, happenings: &[Happening]) {
        self.0
            .extend(happenings.iter().filter_map(|happening| match happening {
                Happening::Left { host } => Some(*host),
                _ => None,
            }));
    }
}

#[test]
fn hosts_stay_as_long_as_they_should() {
    let content = Content::tokens(16, 8);
    let mut world = Arena::new(12, &content);
    let options = TorrentOptions::default();
    let mut stay = |config: HostConfig, stay| {
        let mut config = config;
        config.stay = stay;
        world.host_with(config, RATE, &options)
    };
    let seed = stay(HostConfig::seed(), Stay::UntilSpread);
    let short = stay(HostConfig::leecher(), Stay::For(1.5));
    let done = stay(HostConfig::leecher(), Stay::AfterCompletion(2.0));
    let gives = stay(HostConfig::leecher(), Stay::Sent(0.2));
    let last = stay(HostConfig::leecher(), Stay::Forever);
    // Whoever leaves early may take a piece along that nobody else has.
    stay(HostConfig::seed(), Stay::Forever);
    let mut gone = Gone::default();
    world.observe_until(Time::from_secs(60), &mut gone);
    for host in [seed, short, done, gives] {
        assert_eq!(world.host(host).life(), Life::Gone, "{host}");
        assert!(gone.0.contains(&host));
    }
    assert!(world.host(last).has_all());
    let dwelt = world.host(done).tally();
    assert!(dwelt.left_at >= dwelt.completed_at.map(|at| at + Duration::from_secs(2)));
}

#[test]
fn loss_and_distance_slow_a_connection_as_they_should() {
    // One seed with all the line it wants: what the window allows a round trip is the rate (Mathis et al. 1997).
    let rate = |loss: f64, latency: u64| {
        let content = Content::tokens(16, 16);
        let mut world = Arena::with(13, &content, |config| {
            config.tcp = Some(riverrun_sim::TcpConfig::default());
            config.check_invariants = false;
        });
        let mut config = HostConfig::seed();
        config.loss = loss;
        config.latency = Duration::from_millis(latency);
        world.host_with(config, 100_000_000, &TorrentOptions::default());
        let leech = world.leech(RATE);
        let end = world.run_to_completion(&[leech], Time::from_secs(3600));
        content.len_bytes() * 1000 / (end.as_micros() / 1000)
    };
    let clean = rate(0.0, 40);
    assert!(clean > 2_000_000, "{clean}");
    // 1448 × 1.22 / √0.01 a round trip of 100 ms is 177 kB/s; blocks that need a packet again take a bit more.
    let lossy = rate(0.01, 40);
    assert!((100_000..200_000).contains(&lossy), "{lossy}");
    let far = rate(0.01, 140);
    assert!((30_000..70_000).contains(&far), "{far}");
}

#[test]
fn hosts_that_come_at_random_come_as_often_as_they_should() {
    let content = Content::tokens(4, 1);
    let mut world = Arena::unchecked(14, &content);
    world.seed(RATE);
    let mut config = HostConfig::leecher().up(RATE);
    config.stay = Stay::AfterCompletion(0.0);
    let until = Time::from_secs(100);
    let own = world.own_content();
    let hosts = world.add_arrivals(own, &config, 2.0, until);
    assert!((160..240).contains(&hosts.len()), "{}", hosts.len());
    world.run_until(Time::from_secs(200));
    let joined: Vec<Time> = hosts
        .iter()
        .filter_map(|host| world.host(*host).tally().joined_at)
        .collect();
    assert_eq!(joined.len(), hosts.len());
    let half = joined
        .iter()
        .filter(|at| **at < Time::from_secs(50))
        .count();
    assert!((hosts.len() * 2 / 5..hosts.len() * 3 / 5).contains(&half));
    let gone = hosts
        .iter()
        .filter(|host| world.host(**host).life() == Life::Gone);
    assert_eq!(gone.count(), hosts.len());
}

#[test]
fn a_disk_that_syncs_at_once_makes_durable_what_is_verified() {
    let content = Content::tokens(16, 4);
    for seek in [Duration::ZERO, Duration::from_millis(1)] {
        let mut world = Arena::new(21, &content);
        world.seed(RATE);
        let mut config = HostConfig::leecher();
        (config.disk.sync, config.disk.seek) = (Duration::ZERO, seek);
        let leech = world.host_with(config, RATE, &TorrentOptions::default());
        world.run_to_completion(&[leech], Time::from_secs(60));
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.state(leech), TorrentState::Seeding);
        assert!(
            world
                .host(leech)
                .durable()
                .is_some_and(riverrun_base::Bitfield::all)
        );
    }
}

#[test]
fn writes_that_land_elsewhere_harm_nobody_but_their_host() {
    let content = Content::tokens(40, 4);
    let mut world = Arena::new(22, &content);
    world.seed(RATE);
    let mut config = HostConfig::leecher();
    config.disk.misdirected_writes = 0.3;
    let bad = world.host_with(config, 4 * RATE, &TorrentOptions::default());
    let others = [world.leech(RATE), world.leech(RATE)];
    world.run_to_completion(&others, Time::from_secs(300));
    assert!(world.host(bad).has_rotted());
    for other in others {
        assert!(
            world
                .host(other)
                .written()
                .is_some_and(riverrun_base::Bitfield::all)
        );
    }
}
