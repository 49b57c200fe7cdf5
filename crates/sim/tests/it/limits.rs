//! Rate limits hold, and are shared.

use std::time::Duration;

use riverrun_base::{Rate, Time};
use riverrun_sim::{Content, HostConfig, HostId};
use riverrun_swarm::{Input, Limits, TorrentCommand, TorrentOptions};

use crate::arena::Arena;

const FAST: u64 = 20_000_000;

fn limit(upload: Option<u64>, download: Option<u64>) -> Limits {
    let rate = |bytes: Option<u64>| bytes.map(Rate::from_bytes_per_second);
    Limits {
        upload: rate(upload),
        download: rate(download),
    }
}

/// Runs for 5 s, then measures for 10 s what `host` sends.
fn sent_in_ten_seconds(world: &mut Arena, host: HostId) -> u64 {
    world.run_for(Duration::from_secs(5));
    let before = world.sent_bytes(host);
    world.run_for(Duration::from_secs(10));
    world.sent_bytes(host) - before
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
        let mut world = Arena::unchecked(1, &content);
        let seed = world.seed(FAST);
        world.input(seed, Input::Limits(limit(Some(rate), None)));
        for _ in 0..3 {
            world.leech(FAST);
        }
        let sent = sent_in_ten_seconds(&mut world, seed);
        assert_near(sent, rate * 10);
    }
}

/// A limit says what the uplink gives: that need not be found out block by block.
#[test]
fn an_upload_limit_is_used_up_from_the_start() {
    let rate = 4_000_000;
    let content = Content::tokens(1000, 4);
    let mut world = Arena::unchecked(1, &content);
    let seed = world.seed(FAST);
    world.input(seed, Input::Limits(limit(Some(rate), None)));
    for _ in 0..4 {
        world.leech(FAST);
    }
    world.run_for(Duration::from_secs(1));
    let before = world.sent_bytes(seed);
    world.run_for(Duration::from_secs(1));
    assert_near(world.sent_bytes(seed) - before, rate);
}

#[test]
fn slots_under_a_limit_follow_parts_of_seconds() {
    let content = Content::tokens(400, 4);
    let mut world = Arena::new(1, &content);
    let mut config = HostConfig::seed().up(FAST);
    config.upload_limit = Some(4 * 65_536);
    let content = world.own_content();
    let seed = world.add_host(content, config);
    let hop_max = Duration::from_millis(1_500);
    world
        .setup(seed)
        .shard(|config| config.tuning.hop_max = hop_max);
    for _ in 0..8 {
        world.leech(FAST);
    }
    world.run_until(Time::from_secs(5));
    // In a second and a half the limit moves six pieces.
    assert_eq!(world.stats(seed).unchoked, 6);
}

#[test]
fn the_limit_of_a_torrent_holds_too_and_can_be_lifted() {
    let content = Content::tokens(2000, 16);
    let mut world = Arena::unchecked(2, &content);
    let seed = world.seed(FAST);
    world.leech(FAST);
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
    let mut world = Arena::unchecked(3, &content);
    let seed = world.seed(FAST);
    world.command(seed, TorrentCommand::Limits(limit(Some(400_000), None)));
    let leechers: Vec<HostId> = (0..4)
        .map(|_| {
            let mut options = TorrentOptions::default();
            // They are alone with the seed, so that what they have is what it gave.
            options.connections_max = 1;
            world.leech_with(FAST, &options)
        })
        .collect();
    world.run_until(Time::from_secs(30));
    let have: Vec<u32> = leechers.iter().map(|host| world.have(*host)).collect();
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
    let mut world = Arena::unchecked(4, &content);
    for _ in 0..3 {
        world.seed(FAST);
    }
    world.run_until(Time::from_secs(1));
    let leech = world.leech(FAST);
    world.command(leech, TorrentCommand::Limits(limit(None, Some(500_000))));
    world.run_until(Time::from_secs(6));
    let stats = |world: &Arena| world.stats(leech).downloaded_bytes;
    let before = stats(&world);
    world.run_until(Time::from_secs(16));
    assert_near(stats(&world) - before, 5_000_000);
}

/// Far more peers give than the line takes: each block waits behind those of all others.
#[test]
fn a_thin_line_below_a_hundred_seeds_takes_no_longer_than_it_must() {
    const THIN: u64 = 16_384;
    let content = Content::tokens(100, 1);
    let mut world = Arena::unchecked(5, &content);
    for _ in 0..100 {
        world.seed(THIN);
    }
    let leech = world.host_with(
        HostConfig::leecher().down(THIN),
        THIN,
        &TorrentOptions::default(),
    );
    let end = world.run_to_completion(&[leech], Time::from_secs(1000));
    assert!(end <= Time::from_secs(125), "{end}");
    let wasted = world.stats(leech).wasted_bytes;
    assert!(wasted <= 10 * THIN, "{wasted}");
}
