//! Who is connected to whom, and how many.

use std::collections::BTreeMap;
use std::time::Duration;

use riverrun_base::{Bitfield, Time};
use riverrun_peer::CloseReason;
use riverrun_swarm::{Event, Input, Outbox, StorageDone, TorrentOptions, TorrentState};

use crate::content::Content;
use crate::world::World;

const RATE: u64 = 1_000_000;

#[test]
fn two_peers_that_dial_each_other_keep_one_connection() {
    let content = Content::tokens(400, 16);
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.is_checked = false;
        let nodes: Vec<usize> = (0..6).map(|_| world.leech(&content, RATE)).collect();
        world.seed(&content, RATE);
        // All announce at once and again, so that each is told of each.
        world.run_until(Time::from_secs(1));
        for node in &nodes {
            let torrent = world.nodes[*node].torrent.unwrap();
            let source = riverrun_swarm::PeerSource::Tracker;
            let peers = world.nodes.iter().map(|node| node.addr).collect();
            world.input(
                *node,
                Input::Found {
                    torrent,
                    source,
                    peers,
                },
            );
        }
        world.run_until(Time::from_secs(10));
        for node in &nodes {
            let ends = world.ends_of(*node);
            let mut count = BTreeMap::<usize, usize>::new();
            for conn in world.nodes[*node].conns.keys() {
                *count.entry(ends[conn]).or_default() += 1;
            }
            assert_eq!(count.len(), 6, "seed {seed}: {node} is connected to all");
            assert!(
                count.values().all(|count| *count == 1),
                "seed {seed}: {node} {count:?}"
            );
        }
    }
}

#[test]
fn no_torrent_has_more_connections_than_it_may() {
    let content = Content::tokens(200, 16);
    let mut world = World::new(1);
    world.is_checked = false;
    let seed = world.add_node(&content, RATE);
    let mut options = TorrentOptions::default();
    options.connections_max = 5;
    world.add_torrent(seed, Bitfield::full(content.pieces()), options);
    for _ in 0..12 {
        world.leech(&content, RATE);
    }
    for second in 1..60 {
        world.run_until(Time::from_secs(second));
        assert!(world.nodes[seed].conns.len() <= 5);
    }
}

#[test]
fn idle_connections_make_room_for_new_ones() {
    let content = Content::tokens(60, 16);
    let mut world = World::new(2);
    let hub = world.add_node(&content, RATE);
    let mut options = TorrentOptions::default();
    options.connections_max = 3;
    options.upload_only = true;
    world.add_torrent(hub, Bitfield::new(content.pieces()), options);
    // Others that have nothing either: nobody wants anything of anybody.
    for _ in 0..3 {
        world.leech(&content, RATE);
    }
    world.run_until(Time::from_secs(60));
    assert_eq!(world.nodes[hub].conns.len(), 3);
    let late = world.leech(&content, RATE);
    world.run_until(Time::from_secs(70));
    let crowded = world.nodes[hub].events.iter().any(|event| {
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
    let mut world = World::new(3);
    world.seed(&good, RATE);
    let mut config = world.config(4);
    config.contain_panics = true;
    let node = world.add_node_with(config, &good, RATE);
    world.add_torrent(
        node,
        Bitfield::new(good.pieces()),
        TorrentOptions::default(),
    );
    let healthy = world.nodes[node].torrent.unwrap();
    let add = riverrun_swarm::AddTorrent {
        request: 1,
        hashes: bad.info.hashes(),
        metadata: Some((bad.info.clone(), bad.hashes.clone())),
        trackers: Vec::new(),
        peers: Vec::new(),
        options: TorrentOptions::default(),
    };
    world.nodes[node]
        .shard
        .handle(world.now, Input::Add(Box::new(add)), &mut Outbox::default());
    let torrent = world.nodes[node]
        .shard
        .find(bad.info.hashes().primary())
        .unwrap();
    let done = StorageDone::Opened {
        have: Bitfield::new(7),
        unchecked: Bitfield::new(7),
    };
    world.input(node, Input::Storage { torrent, done });
    let broken = world.nodes[node]
        .events
        .iter()
        .find_map(|event| match event {
            Event::Broken { torrent, message } => Some((*torrent, message.clone())),
            _ => None,
        });
    let (which, message) = broken.expect("it is told");
    assert!(
        which == torrent && message.contains("another torrent"),
        "{message}"
    );
    world.input(
        node,
        Input::Storage {
            torrent,
            done: StorageDone::Closed,
        },
    );
    let stats = world.nodes[node].shard.stats(world.now, torrent).unwrap();
    assert_eq!(stats.state, TorrentState::Stopped);
    world.nodes[node].torrent = Some(healthy);
    world.run_to_completion(&[node], Time::from_secs(60));
}

#[test]
fn the_end_of_a_connection_tells_all_that_came_through_it() {
    let content = Content::tokens(40, 16);
    let mut world = World::new(4);
    let seed = world.seed(&content, RATE);
    let leech = world.leech(&content, RATE);
    world.run_while(Time::from_secs(600), |world| {
        world.nodes[leech].completed_at.is_none()
    });
    world.run_until(world.now + Duration::from_mins(1));
    let [sent, received] = [seed, leech].map(|node| {
        let ends = world.nodes[node].events.iter();
        let through = ends.filter_map(|event| match event {
            Event::PeerDisconnected {
                uploaded_bytes,
                downloaded_bytes,
                ..
            } => Some(uploaded_bytes + downloaded_bytes),
            _ => None,
        });
        through.sum::<u64>()
    });
    let len = content.info.layout().payload_len();
    assert_eq!((sent, received), (len, len));
}
