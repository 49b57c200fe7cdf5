//! Liars: found exactly, banned, and nobody else.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use riverrun_base::Time;
use riverrun_swarm::{ConnKey, Event};

use crate::content::Content;
use crate::node::Manners;
use crate::world::World;

const RATE: u64 = 4_000_000;

/// The connections that a client has banned, by the client at the other end.
fn banned(world: &World, node: usize) -> BTreeSet<ConnKey> {
    let closed = world.nodes[node]
        .events
        .iter()
        .filter_map(|event| match event {
            Event::PeerDisconnected {
                conn,
                why: riverrun_peer::CloseReason::Banned,
                ..
            } => Some(*conn),
            _ => None,
        });
    closed.collect()
}

fn failures(world: &World, node: usize) -> usize {
    world.nodes[node]
        .events
        .iter()
        .filter(|event| matches!(event, Event::PieceFailed { .. }))
        .count()
}

/// A leecher among honest seeds and liars. Gives how many of its pieces failed.
fn run(seed: u64, honest: usize, liars: usize) -> usize {
    let content = Content::tokens(24, 8);
    let mut world = World::new(seed);
    for _ in 0..honest {
        world.seed(&content, RATE / 4);
    }
    let liars: BTreeSet<usize> = (0..liars)
        .map(|_| {
            let liar = world.seed(&content, RATE / 4);
            world.set_manners(
                liar,
                Manners {
                    poison_every: Some(7),
                    ..Manners::default()
                },
            );
            liar
        })
        .collect();
    world.run_until(Time::from_secs(1));
    let leech = world.leech(&content, RATE);
    world.run_to_completion(&[leech], Time::from_secs(600));
    world.run_until(world.now + std::time::Duration::from_secs(2));
    let who = world.ends_of(leech);
    for conn in banned(&world, leech) {
        let other = who[&conn];
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
        let mut world = World::new(seed);
        let origin = world.seed(&content, RATE);
        let liars: Vec<usize> = (0..2)
            .map(|_| {
                let liar = world.leech(&content, RATE);
                world.set_manners(
                    liar,
                    Manners {
                        poison_every: Some(3),
                        ..Manners::default()
                    },
                );
                liar
            })
            .collect();
        let leechers: Vec<usize> = (0..6).map(|_| world.leech(&content, RATE)).collect();
        world.run_to_completion(&leechers, Time::from_secs(600));
        for node in leechers.iter().chain(&liars).chain(&[origin]) {
            let who = world.ends_of(*node);
            for conn in banned(&world, *node) {
                assert!(
                    liars.contains(&who[&conn]),
                    "seed {seed}: {node} banned honest {}",
                    who[&conn]
                );
            }
        }
    }
}

/// The address of a liar is of no use to find it again.
#[test]
fn a_banned_peer_is_not_dialled_again() {
    let content = Content::tokens(8, 4);
    let mut world = World::new(3);
    let liar = world.seed(&content, RATE);
    world.set_manners(
        liar,
        Manners {
            poison_every: Some(1),
            ..Manners::default()
        },
    );
    world.run_until(Time::from_secs(1));
    let leech = world.leech(&content, RATE);
    world.run_until(Time::from_secs(3000));
    let addr: SocketAddr = world.nodes[liar].addr;
    let dials = world
        .dials
        .iter()
        .filter(|(from, to)| *from == leech && *to == addr)
        .count();
    assert_eq!(dials, 1);
    // The liar tries again, less and less often.
    assert!(banned(&world, leech).len() <= 10);
    assert_eq!(failures(&world, leech), 1);
}
