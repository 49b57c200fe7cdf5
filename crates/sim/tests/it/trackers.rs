//! Announces: events, intervals, tiers.

use std::time::Duration;

use riverrun_base::Time;
use riverrun_sim::{Content, HostId};
use riverrun_tracker::AnnounceEvent;

use crate::arena::Arena;

const RATE: u64 = 1_000_000;

fn urls(world: &Arena, host: HostId) -> Vec<&str> {
    let announced = world
        .announces()
        .iter()
        .filter(|announce| announce.host == host);
    announced.map(|announce| announce.url.as_str()).collect()
}

fn url(name: &str) -> String {
    format!("http://{name}.example/announce")
}

#[test]
fn started_once_then_at_intervals_and_completed_once() {
    let content = Content::tokens(16, 4);
    let mut world = Arena::new(1, &content);
    let seed = world.seed(RATE);
    let leech = world.leech(RATE);
    world.run_until(Time::from_secs(2 * 3600));
    assert_eq!(
        world.announced(seed),
        ["started"],
        "complete from the start"
    );
    assert_eq!(world.announced(leech), ["started", "completed"]);
    let mut last = Time::ZERO;
    for announce in world
        .announces()
        .iter()
        .filter(|announce| announce.host == leech)
    {
        let gap = announce.at - last;
        let event = announce.request.event;
        assert!(
            event != AnnounceEvent::None || gap >= Duration::from_mins(1),
            "{event:?} after {gap:?}"
        );
        last = announce.at;
        assert_eq!(announce.request.key, world.announces()[1].request.key);
    }
    let plain = world
        .announces()
        .iter()
        .filter(|announce| announce.host == seed);
    assert_eq!(plain.count(), 4, "started, and every half hour");
    let done = world
        .announces()
        .iter()
        .find(|a| a.request.event == AnnounceEvent::Completed)
        .unwrap();
    assert_eq!(
        (done.request.left, done.request.downloaded),
        (Some(0), content.len_bytes())
    );
    assert_eq!(done.request.tracker_id.as_deref(), Some(&b"id"[..]));
}

#[test]
fn nobody_says_goodbye_to_a_tracker_that_never_answered() {
    let content = Content::tokens(4, 4);
    let mut world = Arena::tracked(2, &content, &[&["up"], &["down"]]);
    world.set_down(1, true);
    let seed = world.seed(RATE);
    world.run_until(Time::from_secs(1));
    world.command(seed, riverrun_swarm::TorrentCommand::Stop);
    let goodbyes: Vec<_> = world
        .announces()
        .iter()
        .filter(|a| a.request.event == AnnounceEvent::Stopped)
        .collect();
    assert_eq!(goodbyes.len(), 1);
    assert_eq!(goodbyes[0].url, url("up"));
    assert_eq!(goodbyes[0].request.num_want, Some(0));
}

#[test]
fn the_next_tracker_of_a_tier_is_asked_when_one_fails() {
    let content = Content::tokens(4, 4);
    let mut world = Arena::tracked(3, &content, &[&["a", "b", "c"]]);
    world.set_down(0, true);
    world.set_down(1, true);
    let seed = world.seed(RATE);
    world.run_until(Time::from_secs(5));
    assert_eq!(*urls(&world, seed).last().unwrap(), url("c"));
    let before = urls(&world, seed).len();
    assert!(before <= 3);
    world.run_until(Time::from_secs(3700));
    assert!(
        urls(&world, seed)[before..]
            .iter()
            .all(|used| *used == url("c")),
        "the one that works stays"
    );
    world.set_down(0, false);
    world.set_down(2, true);
    world.run_until(Time::from_secs(2 * 3700));
    assert_eq!(*urls(&world, seed).last().unwrap(), url("a"));
}

#[test]
fn public_torrents_use_a_tracker_of_each_tier_and_private_ones_one_of_all() {
    for (content, expected) in [(Content::tokens(4, 4), 2), (Content::private(4, 4), 1)] {
        let mut world = Arena::tracked(4, &content, &[&["a"], &["b"]]);
        let seed = world.seed(RATE);
        world.run_until(Time::from_secs(60));
        assert_eq!(urls(&world, seed).len(), expected);
    }
}

#[test]
fn a_private_torrent_that_switches_trackers_leaves_its_peers() {
    let content = Content::private(400, 16);
    let mut world = Arena::tracked(5, &content, &[&["a"], &["b"]]);
    let seed = world.seed(RATE);
    let leech = world.leech(RATE);
    world.run_until(Time::from_secs(20));
    assert!(world.host(leech).connections() > 0);
    world.set_down(0, true);
    world.command(leech, riverrun_swarm::TorrentCommand::Announce);
    world.run_until(Time::from_secs(120));
    assert_eq!(*urls(&world, leech).last().unwrap(), url("b"));
    let left = world
        .events(leech)
        .iter()
        .any(|event| matches!(event, riverrun_swarm::Event::PeerDisconnected { .. }));
    assert!(left, "{seed}");
}

#[test]
fn a_dead_tracker_is_asked_less_and_less_often() {
    let content = Content::tokens(4, 4);
    let mut world = Arena::new(6, &content);
    world.set_down(0, true);
    let seed = world.seed(RATE);
    world.run_until(Time::from_secs(6 * 3600));
    let count = urls(&world, seed).len();
    assert!((10..=25).contains(&count), "{count}");
}
