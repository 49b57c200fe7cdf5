//! One seed, many leechers, all at once: how near the makespan comes to its bound.

use std::time::Duration;

use riverrun_base::{Bitfield, Time};
use riverrun_swarm::TorrentOptions;

use crate::content::Content;
use crate::world::World;

const RATE: u64 = 1_000_000;

/// The fluid bound (Kumar and Ross 2006).
fn bound(len_bytes: u64, leechers: u64, seed_rate: u64) -> Duration {
    let micros = |bytes: u64, rate: u64| bytes * 1_000_000 / rate;
    let by_seed = micros(len_bytes, seed_rate);
    let by_all = micros(leechers * len_bytes, seed_rate + leechers * RATE);
    Duration::from_micros(by_seed.max(by_all))
}

struct Crowd {
    leechers: usize,
    pieces: u32,
    blocks: u32,
    slots: u32,
    super_seed: bool,
    seed_rate: u64,
}

/// What came of it, in thousandths.
struct Outcome {
    /// Makespan of the bound.
    makespan: u64,
    /// What the seed sent until the others together had everything, of the torrent.
    first_copy: u64,
}

const USUAL: Crowd = Crowd {
    leechers: 8,
    pieces: 64,
    blocks: 16,
    slots: 4,
    super_seed: false,
    seed_rate: RATE,
};

fn run(crowd: &Crowd, seed: u64) -> Outcome {
    let content = Content::tokens(crowd.pieces, crowd.blocks);
    let mut world = World::new(seed);
    world.is_checked = false;
    let mut add = |rate: u64, have: Bitfield, super_seed: bool| {
        let config = world.config(crowd.slots);
        let node = world.add_node_with(config, &content, rate);
        let mut options = TorrentOptions::default();
        options.super_seed = super_seed;
        world.add_torrent(node, have, options);
        node
    };
    let origin = add(
        crowd.seed_rate,
        Bitfield::full(crowd.pieces),
        crowd.super_seed,
    );
    let leechers: Vec<usize> = (0..crowd.leechers)
        .map(|_| add(RATE, Bitfield::new(crowd.pieces), false))
        .collect();
    let limit = Time::from_secs(20_000);
    world.run_while(limit, |world| !world.is_spread(&content));
    let first_copy = world.nodes[origin].sent_bytes * 1000 / content.len_bytes();
    let end = world.run_to_completion(&leechers, limit);
    let bound = bound(content.len_bytes(), crowd.leechers as u64, crowd.seed_rate);
    let makespan = end.as_micros() * 1000 / u64::try_from(bound.as_micros()).expect("short");
    let given: u64 = leechers
        .iter()
        .map(|node| world.nodes[*node].sent_bytes)
        .sum();
    let could = RATE * crowd.leechers as u64 * end.as_micros() / 1_000_000;
    let uplinks = given * 1000 / could;
    crate::say(&format!(
        "{} leechers, {} pieces, {} slots, super-seed {}, seed {seed}: {end} of {bound:?} = {makespan}, \
         first copy {first_copy}, leechers' uplinks {uplinks} (thousandths), {} inputs",
        crowd.leechers, crowd.pieces, crowd.slots, crowd.super_seed, world.inputs
    ));
    Outcome {
        makespan,
        first_copy,
    }
}

#[test]
fn eight_leechers_come_near_the_bound() {
    for seed in 0..5 {
        let outcome = run(&USUAL, seed);
        assert!(outcome.makespan <= 1350, "{}", outcome.makespan);
        assert!(outcome.first_copy <= 1100, "{}", outcome.first_copy);
    }
}

#[test]
fn a_super_seed_sends_hardly_a_piece_twice() {
    for seed in 0..5 {
        let outcome = run(
            &Crowd {
                super_seed: true,
                ..USUAL
            },
            seed,
        );
        assert!(outcome.makespan <= 1350, "{}", outcome.makespan);
        assert!(outcome.first_copy <= 1100, "{}", outcome.first_copy);
    }
}

#[test]
fn a_slow_seed_is_the_only_bound() {
    for (super_seed, copies_max) in [(false, 1120), (true, 1020)] {
        let crowd = Crowd {
            leechers: 12,
            pieces: 128,
            seed_rate: RATE / 4,
            super_seed,
            ..USUAL
        };
        let outcome = run(&crowd, 1);
        assert!(outcome.makespan <= 1120, "{}", outcome.makespan);
        assert!(outcome.first_copy <= copies_max, "{}", outcome.first_copy);
    }
}

#[test]
fn thirty_leechers_of_a_fast_seed() {
    let crowd = Crowd {
        leechers: 30,
        pieces: 100,
        blocks: 8,
        seed_rate: 4 * RATE,
        ..USUAL
    };
    // A short run: the first seconds, in which most have nothing to give, weigh much.
    let outcome = run(&crowd, 1);
    assert!(outcome.makespan <= 1500, "{}", outcome.makespan);
}
