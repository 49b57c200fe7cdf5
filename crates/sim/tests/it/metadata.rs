//! Magnets: metadata from peers, liars among them.

use riverrun_base::Time;
use riverrun_sim::{Content, HostConfig, HostId, Manners};
use riverrun_swarm::{Event, TorrentState};

use crate::arena::Arena;

const RATE: u64 = 1_000_000;

fn liar(world: &mut Arena) -> HostId {
    let manners = Manners {
        metadata_liar: true,
        ..Manners::default()
    };
    world.bad(HostConfig::seed(), RATE, manners)
}

#[test]
fn a_magnet_becomes_a_torrent_and_completes() {
    let content = Content::tokens(16, 4);
    let mut world = Arena::new(1, &content);
    world.seed(RATE);
    world.run_until(Time::from_secs(1));
    let magnet = world.magnet(RATE);
    assert_eq!(world.state(magnet), TorrentState::Metadata);
    world.run_to_completion(&[magnet], Time::from_secs(60));
    let mut events = world.events(magnet).iter();
    assert!(events.any(|event| matches!(event, Event::Metadata { .. })));
}

#[test]
fn a_magnet_completes_from_one_honest_peer_among_twenty_liars() {
    for seed in 0..10 {
        // Metadata of several pieces, so that liars and the honest one fill it together.
        let content = Content::tokens(5000, 1);
        let mut world = Arena::unchecked(seed, &content);
        for _ in 0..20 {
            liar(&mut world);
        }
        world.run_until(Time::from_secs(1));
        let magnet = world.magnet(RATE);
        world.run_until(Time::from_secs(3));
        assert_eq!(world.state(magnet), TorrentState::Metadata);
        // The honest one comes last.
        let honest = world.seed(RATE);
        world.run_while(Time::from_secs(200), |world| {
            world.state(magnet) == TorrentState::Metadata
        });
        assert!(!world.banned(magnet).contains(&honest), "seed {seed}");
    }
}

#[test]
fn two_magnets_wait_for_one_that_knows() {
    let content = Content::tokens(16, 4);
    let mut world = Arena::new(2, &content);
    let magnets: Vec<HostId> = (0..3).map(|_| world.magnet(RATE)).collect();
    world.run_until(Time::from_secs(30));
    world.seed(RATE);
    world.run_to_completion(&magnets, Time::from_secs(200));
}

#[test]
fn wrong_metadata_is_never_believed() {
    let content = Content::tokens(16, 4);
    let mut world = Arena::new(3, &content);
    let magnet = world.magnet(RATE);
    liar(&mut world);
    world.run_until(Time::from_secs(100));
    assert_eq!(world.state(magnet), TorrentState::Metadata);
}
