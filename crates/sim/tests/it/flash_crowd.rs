//! One seed, many leechers, all at once: how near the makespan comes to its bound.

use riverrun_base::Time;
use riverrun_sim::{Content, HostConfig, HostId, fluid};

use crate::arena::Arena;

const RATE: u64 = 1_000_000;

struct Crowd {
    leechers: usize,
    pieces: u32,
    blocks: u32,
    slots: u32,
    super_seed: bool,
    seed_rate: u64,
    /// What a leecher sends, and receives, in bytes per second.
    rates: (u64, Option<u64>),
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
    rates: (RATE, None),
};

fn run(crowd: &Crowd, seed: u64) -> Outcome {
    let content = Content::tokens(crowd.pieces, crowd.blocks);
    let mut world = Arena::unchecked(seed, &content);
    let mut add = |rate: u64, mut config: HostConfig| {
        config.slots = Some(crowd.slots);
        let super_seed = std::mem::take(&mut config.super_seed);
        let mut options = riverrun_swarm::TorrentOptions::default();
        options.super_seed = super_seed;
        world.host_with(config, rate, &options)
    };
    let mut origin = HostConfig::seed();
    origin.super_seed = crowd.super_seed;
    let origin = add(crowd.seed_rate, origin);
    let leechers: Vec<HostId> = (0..crowd.leechers)
        .map(|_| {
            let mut leecher = HostConfig::leecher();
            leecher.down = crowd.rates.1;
            add(crowd.rates.0, leecher)
        })
        .collect();
    let limit = Time::from_secs(20_000);
    world.run_while(limit, |world| !world.is_all_out());
    let first_copy = world.sent_bytes(origin) * 1000 / content.len_bytes();
    let end = world.run_to_completion(&leechers, limit);
    let rate = |bytes: u64| u32::try_from(bytes).map(f64::from).expect("a usual rate");
    let len = content.len_bytes();
    let down = crowd.rates.1.map_or(f64::INFINITY, rate);
    let own = rate(crowd.rates.0);
    let bound = fluid::Crowd::equal(len, rate(crowd.seed_rate), crowd.leechers, own, down);
    let bound = std::time::Duration::from_secs_f64(bound.makespan());
    let makespan = end.as_micros() * 1000 / u64::try_from(bound.as_micros()).expect("short");
    let given: u64 = leechers.iter().map(|host| world.sent_bytes(*host)).sum();
    let could = crowd.rates.0 * crowd.leechers as u64 * end.as_micros() / 1_000_000;
    let uplinks = given * 1000 / could;
    crate::say(&format!(
        "{} leechers, {} pieces, {} slots, super-seed {}, seed {seed}: {end} of {bound:?} = {makespan}, \
         first copy {first_copy}, leechers' uplinks {uplinks} (thousandths), {} inputs",
        crowd.leechers,
        crowd.pieces,
        crowd.slots,
        crowd.super_seed,
        world.counts().inputs
    ));
    Outcome {
        makespan,
        first_copy,
    }
}

#[test]
fn eight_leechers_come_near_the_bound() {
    // One run is up to five in a hundred from the next.
    let outcomes: Vec<_> = (0..5).map(|seed| run(&USUAL, seed)).collect();
    let makespans: Vec<_> = outcomes.iter().map(|outcome| outcome.makespan).collect();
    assert!(makespans.iter().sum::<u64>() <= 5 * 1200, "{makespans:?}");
    for outcome in outcomes {
        assert!(outcome.makespan <= 1260, "{}", outcome.makespan);
        assert!(outcome.first_copy <= 1020, "{}", outcome.first_copy);
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
        assert!(outcome.makespan <= 1250, "{}", outcome.makespan);
        assert!(outcome.first_copy <= 1020, "{}", outcome.first_copy);
    }
}

#[test]
fn a_slow_seed_is_the_only_bound() {
    for (super_seed, copies_max) in [(false, 1040), (true, 1010)] {
        let crowd = Crowd {
            leechers: 12,
            pieces: 128,
            seed_rate: RATE / 4,
            super_seed,
            ..USUAL
        };
        let outcome = run(&crowd, 1);
        assert!(outcome.makespan <= 1060, "{}", outcome.makespan);
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
    assert!(outcome.makespan <= 1180, "{}", outcome.makespan);
}

#[test]
fn two_dozen_leechers_come_near_the_bound() {
    for seed in 0..3 {
        let crowd = Crowd {
            leechers: 24,
            slots: 8,
            ..USUAL
        };
        let outcome = run(&crowd, seed);
        assert!(outcome.makespan <= 1300, "{}", outcome.makespan);
        assert!(outcome.first_copy <= 1040, "{}", outcome.first_copy);
    }
}

#[test]
fn slow_peers_do_not_keep_the_fast_one_from_the_last_block() {
    let crowd = Crowd {
        slots: 8,
        seed_rate: 100 * RATE,
        rates: (1000, Some(RATE)),
        ..USUAL
    };
    let outcome = run(&crowd, 1);
    assert!(outcome.makespan <= 1150, "{}", outcome.makespan);
}
