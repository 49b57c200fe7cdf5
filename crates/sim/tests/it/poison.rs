//! Liars: found exactly, banned, and nobody else.

use riverrun_base::Time;
use riverrun_sim::{Content, HostConfig, HostId};
use riverrun_swarm::Event;

use crate::arena::{Arena, poison};

const RATE: u64 = 4_000_000;

fn failures(world: &Arena, host: HostId) -> usize {
    let events = world.events(host).iter();
    events
        .filter(|event| matches!(event, Event::PieceFailed { .. }))
        .count()
}

/// A leecher among honest seeds and liars. Gives how many of its pieces failed.
fn run(seed: u64, honest: usize, liars: usize) -> usize {
    let content = Content::tokens(24, 8);
    let mut world = Arena::new(seed, &content);
    for _ in 0..honest {
        world.seed(RATE / 4);
    }
    let liars: Vec<HostId> = (0..liars).map(|_| world.poisoner(RATE / 4, 7)).collect();
    world.run_until(Time::from_secs(1));
    let leech = world.leech(RATE);
    world.run_to_completion(&[leech], Time::from_secs(600));
    world.run_for(std::time::Duration::from_secs(2));
    for other in world.banned(leech) {
        assert!(
            liars.contains(&other),
            "seed {seed}: honest {other} was banned"
        );
    }
    failures(&world, leech)
}

#[test]
fn liars_are_banned_and_honest_peers_never() {
    let mut most = 0;
    for seed in 0..60 {
        most = most.max(run(seed, 4, 2));
    }
    crate::say(&format!("at most {most} failed pieces"));
    assert!(most <= 10, "{most} pieces failed");
}

#[test]
fn a_liar_that_alone_has_a_piece_does_not_stop_the_others() {
    for seed in 0..10 {
        let failed = run(seed, 1, 5);
        assert!(failed <= 14, "{failed}");
    }
}

#[test]
fn in_a_swarm_every_honest_leecher_completes() {
    for seed in 0..5 {
        let content = Content::tokens(32, 8);
        let mut world = Arena::new(seed, &content);
        let origin = world.seed(RATE);
        let liars: Vec<HostId> = (0..2)
            .map(|_| world.bad(HostConfig::leecher(), RATE, poison(3)))
            .collect();
        let leechers: Vec<HostId> = (0..6).map(|_| world.leech(RATE)).collect();
        world.run_to_completion(&leechers, Time::from_secs(600));
        for host in leechers.iter().chain(&liars).chain(&[origin]) {
            for other in world.banned(*host) {
                assert!(
                    liars.contains(&other),
                    "seed {seed}: {host} banned honest {other}"
                );
            }
        }
    }
}

/// The address of a liar is of no use to find it again.
#[test]
fn a_banned_peer_is_not_dialled_again() {
    let content = Content::tokens(8, 4);
    let mut world = Arena::new(3, &content);
    let liar = world.poisoner(RATE, 1);
    world.run_until(Time::from_secs(1));
    let leech = world.leech(RATE);
    world.run_until(Time::from_secs(3000));
    let addr = world.host(liar).addr();
    let dials = world.dials().iter();
    let dials = dials.filter(|(from, to)| *from == leech && *to == addr);
    assert_eq!(dials.count(), 1);
    // The liar tries again, less and less often.
    assert!(world.banned(leech).len() <= 10);
    assert_eq!(failures(&world, leech), 1);
}
