//! Who is connected to whom, and how many.

use std::collections::BTreeMap;
use std::time::Duration;

use riverrun_base::{Bitfield, Time};
use riverrun_peer::{CloseReason, EncryptionPolicy};
use riverrun_sim::{Action, Content, HostConfig, HostId, Level};
use riverrun_swarm::{
    AddTorrent, Event, Input, PeerSource, StorageDone, TorrentOptions, TorrentState,
};

use crate::arena::Arena;

const RATE: u64 = 1_000_000;

#[test]
fn two_peers_that_dial_each_other_keep_one_connection() {
    let content = Content::tokens(400, 16);
    for seed in 0..20 {
        let mut world = Arena::unchecked(seed, &content);
        let hosts: Vec<HostId> = (0..6).map(|_| world.leech(RATE)).collect();
        world.seed(RATE);
        // All announce at once and again, so that each is told of each.
        world.run_until(Time::from_secs(1));
        for host in &hosts {
            let torrent = world.torrent(*host);
            let source = PeerSource::Tracker;
            let peers = world.hosts().map(|(_, host)| host.addr()).collect();
            let found = Input::Found {
                torrent,
                source,
                peers,
            };
            world.input(*host, found);
        }
        world.run_until(Time::from_secs(10));
        for host in &hosts {
            let met: BTreeMap<_, _> = world.met(*host).collect();
            let mut count = BTreeMap::<HostId, usize>::new();
            let peers = world.host(*host).shard().unwrap();
            for peer in peers.peers(world.now(), world.torrent(*host)) {
                *count.entry(met[&peer.conn]).or_default() += 1;
            }
            // It has dialled itself once, since the list had it.
            count.remove(host);
            assert_eq!(count.len(), 6, "seed {seed}: {host} is connected to all");
            assert!(
                count.values().all(|count| *count == 1),
                "seed {seed}: {host} {count:?}"
            );
        }
    }
}

#[test]
fn a_peer_is_reached_in_whichever_manner_it_takes() {
    use EncryptionPolicy::{Off, Prefer, Require};
    let content = Content::tokens(8, 4);
    let table = [
        (Prefer, Prefer, Some(1)),
        (Prefer, Off, Some(2)),
        (Prefer, Require, Some(1)),
        (Off, Off, Some(1)),
        (Off, Require, None),
        (Require, Require, Some(1)),
        (Require, Off, None),
    ];
    for level in [Level::Direct, Level::Bytes] {
        for (ours, theirs, expected_dials) in table {
            let mut world = Arena::new(3, &content);
            let [mut gives, mut takes] = [HostConfig::seed(), HostConfig::leecher()];
            (gives.level, takes.level) = (level, level);
            world.encrypting(gives, RATE, theirs);
            world.run_until(Time::from_secs(1));
            let leech = world.encrypting(takes, RATE, ours);
            world.run_until(Time::from_secs(20));
            let case = format!("{level:?} {ours} {theirs}");
            assert_eq!(
                world.host(leech).has_all(),
                expected_dials.is_some(),
                "{case}"
            );
            let dials = world.dials().iter().filter(|(host, _)| *host == leech);
            if let Some(expected) = expected_dials {
                assert_eq!(dials.count(), expected, "{case}");
            }
        }
    }
}

#[test]
fn the_only_peer_is_found_again_however_long_it_was_away() {
    let table = [
        (Duration::from_secs(40), Duration::from_mins(1)),
        (Duration::from_mins(5), Duration::from_mins(10)),
        (Duration::from_hours(5), Duration::from_mins(10)),
    ];
    for (away, found_within) in table {
        let content = Content::tokens(8, 4);
        let mut world = Arena::unchecked(3, &content);
        let seed = world.seed(RATE);
        // Nobody else names it, and it knows nobody.
        world.set_down(0, true);
        let leech = world.leech(RATE);
        world.run_until(Time::from_secs(2));
        world.kill(seed);
        let found = Input::Found {
            torrent: world.torrent(leech),
            source: PeerSource::User,
            peers: vec![world.host(seed).addr()],
        };
        world.input(leech, found);
        world.run_for(away);
        world.act(Action::Restart(seed));
        let back = world.now();
        world.run_to_completion(&[leech], back + found_within + Duration::from_secs(5));
    }
}

#[test]
fn no_torrent_has_more_connections_than_it_may() {
    let content = Content::tokens(200, 16);
    let mut world = Arena::unchecked(1, &content);
    let mut options = TorrentOptions::default();
    options.connections_max = 5;
    let seed = world.host_with(HostConfig::seed(), RATE, &options);
    for _ in 0..12 {
        world.leech(RATE);
    }
    for second in 1..60 {
        world.run_until(Time::from_secs(second));
        assert!(world.host(seed).connections() <= 5);
    }
}

#[test]
fn idle_connections_make_room_for_new_ones() {
    let content = Content::tokens(60, 16);
    let mut world = Arena::new(2, &content);
    let mut options = TorrentOptions::default();
    options.connections_max = 3;
    options.upload_only = true;
    let hub = world.leech_with(RATE, &options);
    // Others that have nothing either: nobody wants anything of anybody.
    for _ in 0..3 {
        world.leech(RATE);
    }
    world.run_until(Time::from_secs(60));
    assert_eq!(world.host(hub).connections(), 3);
    let late = world.leech(RATE);
    world.run_until(Time::from_secs(70));
    let crowded = world.events(hub).iter().any(|event| {
        matches!(
            event,
            Event::PeerDisconnected {
                why: CloseReason::Crowded,
                ..
            }
        )
    });
    assert!(crowded, "{late}");
}

#[test]
fn a_torrent_that_breaks_leaves_the_others_alone() {
    let (good, bad) = (Content::tokens(20, 4), Content::tokens(30, 4));
    let mut world = Arena::new(3, &good);
    world.seed(RATE);
    let host = world.leech_that_contains_panics(RATE);
    let healthy = world.torrent(host);
    let add = AddTorrent {
        request: 1,
        hashes: bad.info().hashes(),
        metadata: Some((bad.info().clone(), bad.hashes().clone())),
        summary: None,
        trackers: Vec::new(),
        peers: Vec::new(),
        web_seeds: Vec::new(),
        options: TorrentOptions::default(),
        uploaded_bytes: 0,
        downloaded_bytes: 0,
    };
    world.input(host, Input::Add(Box::new(add)));
    let shard = world.host(host).shard().unwrap();
    let torrent = shard.find(bad.info().hashes().primary()).unwrap();
    let done = StorageDone::Opened {
        have: Bitfield::new(7),
        unchecked: Bitfield::new(7),
    };
    world.input(host, Input::Storage { torrent, done });
    let broken = world.events(host).iter().find_map(|event| match event {
        Event::Broken { torrent, message } => Some((*torrent, message.clone())),
        _ => None,
    });
    let (which, message) = broken.expect("it is told");
    assert!(
        which == torrent && message.contains("another torrent"),
        "{message}"
    );
    let done = StorageDone::Closed;
    world.input(host, Input::Storage { torrent, done });
    let shard = world.host(host).shard().unwrap();
    let stats = shard.stats(world.now(), torrent).unwrap();
    assert_eq!(stats.state, TorrentState::Stopped);
    assert_eq!(world.torrent(host), healthy);
    world.run_to_completion(&[host], Time::from_secs(60));
}

#[test]
fn the_end_of_a_connection_tells_all_that_came_through_it() {
    let content = Content::tokens(40, 16);
    let mut world = Arena::new(4, &content);
    let seed = world.seed(RATE);
    let leech = world.leech(RATE);
    world.run_to_completion(&[leech], Time::from_secs(600));
    world.run_for(Duration::from_mins(1));
    let [sent, received] = [seed, leech].map(|host| {
        let through = world.events(host).iter().filter_map(|event| match event {
            Event::PeerDisconnected {
                uploaded_bytes,
                downloaded_bytes,
                ..
            } => Some(uploaded_bytes + downloaded_bytes),
            _ => None,
        });
        through.sum::<u64>()
    });
    let len = content.info().layout().payload_len();
    assert_eq!((sent, received), (len, len));
}
