//! Magnets: metadata from peers, liars among them.

use riverrun_base::{InfoHashes, Time};
use riverrun_swarm::{Event, TorrentState};

use crate::content::Content;
use crate::node::Manners;
use crate::world::World;

const RATE: u64 = 1_000_000;

#[test]
fn a_magnet_becomes_a_torrent_and_completes() {
    let content = Content::tokens(16, 4);
    let mut world = World::new(1);
    world.seed(&content, RATE);
    world.run_until(Time::from_secs(1));
    let magnet = world.add_node(&content, RATE);
    world.add_magnet(magnet, content.info.hashes());
    assert_eq!(world.state(magnet), TorrentState::Metadata);
    world.run_to_completion(&[magnet], Time::from_secs(60));
    let learnt = world.nodes[magnet]
        .events
        .iter()
        .any(|event| matches!(event, Event::Metadata { .. }));
    assert!(learnt);
}

#[test]
fn a_magnet_completes_from_one_honest_peer_among_twenty_liars() {
    for seed in 0..10 {
        // Metadata of several pieces, so that liars and the honest one fill it together.
        let content = Content::tokens(5000, 1);
        let mut world = World::new(seed);
        world.is_checked = false;
        for _ in 0..20 {
            let liar = world.seed(&content, RATE);
            world.set_manners(
                liar,
                Manners {
                    is_metadata_liar: true,
                    ..Manners::default()
                },
            );
        }
        world.run_until(Time::from_secs(1));
        let magnet = world.add_node(&content, RATE);
        world.add_magnet(magnet, content.info.hashes());
        world.run_until(Time::from_secs(3));
        assert_eq!(world.state(magnet), TorrentState::Metadata);
        // The honest one comes last.
        let honest = world.seed(&content, RATE);
        world.run_while(Time::from_secs(200), |world| {
            world.state(magnet) == TorrentState::Metadata
        });
        let who = world.ends_of(magnet);
        for event in &world.nodes[magnet].events {
            if let Event::PeerDisconnected {
                conn,
                why: riverrun_peer::CloseReason::Banned,
                ..
            } = event
            {
                assert_ne!(who[conn], honest, "seed {seed}");
            }
        }
    }
}

#[test]
fn two_magnets_wait_for_one_that_knows() {
    let content = Content::tokens(16, 4);
    let mut world = World::new(2);
    let magnets: Vec<usize> = (0..3)
        .map(|_| {
            let magnet = world.add_node(&content, RATE);
            world.add_magnet(magnet, content.info.hashes());
            magnet
        })
        .collect();
    world.run_until(Time::from_secs(30));
    world.seed(&content, RATE);
    world.run_to_completion(&magnets, Time::from_secs(200));
}

#[test]
fn wrong_metadata_is_never_believed() {
    let content = Content::tokens(16, 4);
    let other = Content::tokens(17, 4);
    let mut world = World::new(3);
    let magnet = world.add_node(&content, RATE);
    let hashes = InfoHashes::v1_only(other.info.hashes().v1().unwrap());
    world.add_magnet(magnet, hashes);
    let liar = world.seed(&content, RATE);
    world.set_manners(
        liar,
        Manners {
            is_metadata_liar: true,
            ..Manners::default()
        },
    );
    world.run_until(Time::from_secs(100));
    assert_eq!(world.state(magnet), TorrentState::Metadata);
}
