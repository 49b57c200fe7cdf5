//! Rate limits hold, and are shared.

use std::time::Duration;

use riverrun_base::{Bitfield, Rate, Time};
use riverrun_swarm::{Input, Limits, TorrentCommand, TorrentOptions};

use crate::content::Content;
use crate::world::World;

const FAST: u64 = 20_000_000;

fn limit(upload: Option<u64>, download: Option<u64>) -> Limits {
    let rate = |bytes: Option<u64>| bytes.map(Rate::from_bytes_per_second);
    Limits {
        upload: rate(upload),
        download: rate(download),
    }
}

/// Runs for 5 s, then measures for 10 s what `node` sends.
fn sent_in_ten_seconds(world: &mut World, node: usize) -> u64 {
    world.run_until(world.now + Duration::from_secs(5));
    let before = world.nodes[node].sent_bytes;
    world.run_until(world.now + Duration::from_secs(10));
    world.nodes[node].sent_bytes - before
}

fn assert_near(bytes: u64, expected: u64) {
    let slack = expected / 20;
    assert!(
        bytes.abs_diff(expected) <= slack,
        "{bytes} bytes for {expected}"
    );
}

#[test]
fn an_upload_limit_holds_within_five_percent() {
    for rate in [40_000, 300_000, 5_000_000] {
        let content = Content::tokens(400, 16);
        let mut world = World::new(1);
        world.is_checked = false;
        let seed = world.seed(&content, FAST);
        world.input(seed, Input::Limits(limit(Some(rate), None)));
        for _ in 0..3 {
            world.leech(&content, FAST);
        }
        let sent = sent_in_ten_seconds(&mut world, seed);
        assert_near(sent, rate * 10);
    }
}

#[test]
fn the_limit_of_a_torrent_holds_too_and_can_be_lifted() {
    let content = Content::tokens(2000, 16);
    let mut world = World::new(2);
    world.is_checked = false;
    let seed = world.seed(&content, FAST);
    world.leech(&content, FAST);
    world.command(seed, TorrentCommand::Limits(limit(Some(200_000), None)));
    let sent = sent_in_ten_seconds(&mut world, seed);
    assert_near(sent, 2_000_000);
    world.command(seed, TorrentCommand::Limits(limit(None, None)));
    let sent = sent_in_ten_seconds(&mut world, seed);
    assert!(sent > 100_000_000, "{sent}");
}

#[test]
fn a_limit_is_shared_fairly() {
    let content = Content::tokens(400, 16);
    let mut world = World::new(3);
    world.is_checked = false;
    let seed = world.seed(&content, FAST);
    world.command(seed, TorrentCommand::Limits(limit(Some(400_000), None)));
    let leechers: Vec<usize> = (0..4)
        .map(|_| {
            let node = world.add_node(&content, FAST);
            let mut options = TorrentOptions::default();
            // They are alone with the seed, so that what they have is what it gave.
            options.connections_max = 1;
            world.add_torrent(node, Bitfield::new(400), options);
            node
        })
        .collect();
    world.run_until(Time::from_secs(30));
    let have: Vec<u32> = leechers.iter().map(|node| world.have(*node)).collect();
    let connected = have.iter().filter(|have| **have > 0).count();
    let (least, most) = (
        have.iter().filter(|have| **have > 0).min().unwrap(),
        have.iter().max().unwrap(),
    );
    assert!(connected >= 2, "{have:?}");
    assert!(*most - *least <= 3, "{have:?}");
}

#[test]
fn a_download_limit_holds_within_five_percent() {
    let content = Content::tokens(400, 16);
    let mut world = World::new(4);
    world.is_checked = false;
    for _ in 0..3 {
        world.seed(&content, FAST);
    }
    world.run_until(Time::from_secs(1));
    let leech = world.leech(&content, FAST);
    world.command(leech, TorrentCommand::Limits(limit(None, Some(500_000))));
    world.run_until(Time::from_secs(6));
    let stats = |world: &World| {
        let torrent = world.nodes[leech].torrent.unwrap();
        world.nodes[leech]
            .shard
            .stats(world.now, torrent)
            .unwrap()
            .downloaded_bytes
    };
    let before = stats(&world);
    world.run_until(Time::from_secs(16));
    assert_near(stats(&world) - before, 5_000_000);
}
