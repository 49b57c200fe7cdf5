//! Torrents of v2 alone (BEP 52): layers from peers, and wrong blocks found by their hashes.

use std::time::Duration;

use riverrun_base::Time;
use riverrun_sim::Content;
use riverrun_swarm::{Config, Tuning};

use crate::arena::Arena;

const RATE: u64 = 1_000_000;

/// Of v2 alone and hybrid by turns: where a piece of a hybrid ends in padding, its blocks are not what is hashed.
fn of_seed(seed: u64, pieces: u32) -> Content {
    if seed.is_multiple_of(2) {
        Content::v2(pieces, 16, seed)
    } else {
        Content::hybrid(pieces, 16, seed)
    }
}

#[test]
fn a_v2_torrent_completes() {
    for content in [Content::v2(12, 4, 1), Content::hybrid(12, 4, 1)] {
        let mut world = Arena::new(1, &content);
        world.seed(RATE);
        let leechers = [world.leech(RATE), world.leech(RATE)];
        world.run_to_completion(&leechers, Time::from_secs(60));
    }
}

#[test]
fn missing_piece_layers_come_from_peers() {
    let content = Content::v2(700, 1, 2);
    let mut world = Arena::unchecked(2, &content);
    let seed = world.seed(RATE);
    let leech = world.leech_without_layers(RATE);
    world.run_to_completion(&[leech], Time::from_secs(200));
    // And it can pass them on.
    world.kill(seed);
    let second = world.leech_without_layers(RATE);
    world.run_to_completion(&[second], Time::from_secs(400));
}

#[test]
fn only_wrong_blocks_come_again_and_their_senders_are_banned() {
    for seed in 0..10 {
        let content = of_seed(seed, 12);
        let mut world = Arena::new(seed, &content);
        let liar = world.poisoner(RATE / 4, 5);
        for _ in 0..3 {
            world.seed(RATE / 4);
        }
        world.run_until(Time::from_secs(1));
        let leech = world.leech(RATE);
        world.run_to_completion(&[leech], Time::from_secs(200));
        let stats = world.stats(leech);
        let extra = stats.downloaded_bytes - content.len_bytes();
        assert!(
            extra < content.len_bytes() / 4,
            "seed {seed}: {extra} bytes came twice"
        );
        let banned = world.banned(leech);
        assert!(banned.iter().all(|host| *host == liar), "seed {seed}");
    }
}

/// When a crowd of these has everything, in a world that passes blocks on in this manner.
fn crowd_takes(seed: u64, relay_after: Duration) -> Time {
    let content = Content::v2(40, 16, seed);
    let mut world = Arena::new(seed, &content);
    world.seed(RATE / 8);
    let tune = |config: &mut Config| config.tuning.relay_after = relay_after;
    let leechers: Vec<_> = (0..12).map(|_| world.leech_tuned(RATE / 8, tune)).collect();
    world.run_to_completion(&leechers, Time::from_secs(900))
}

#[test]
fn a_crowd_that_passes_single_blocks_on_is_through_earlier() {
    let mut sums = [0, 0];
    for seed in 0..4 {
        let whole = crowd_takes(seed, Duration::ZERO).as_micros();
        let blocks = crowd_takes(seed, Tuning::DEFAULT.relay_after).as_micros();
        crate::say(&format!(
            "seed {seed}: whole {whole} µs, block by block {blocks} µs"
        ));
        sums[0] += whole;
        sums[1] += blocks;
    }
    assert!(sums[1] * 100 < sums[0] * 97, "{sums:?}");
}

#[test]
fn wrong_blocks_are_not_passed_on_and_cost_their_sender_at_once() {
    for seed in 0..10 {
        let content = of_seed(seed, 20);
        let mut world = Arena::new(seed, &content);
        let liar = world.poisoner(RATE / 4, 5);
        world.seed(RATE / 4);
        let leechers: Vec<_> = (0..6).map(|_| world.leech(RATE / 4)).collect();
        world.run_to_completion(&leechers, Time::from_secs(600));
        for leech in &leechers {
            let banned = world.banned(*leech);
            assert!(banned.iter().all(|host| *host == liar), "seed {seed}");
        }
    }
}
