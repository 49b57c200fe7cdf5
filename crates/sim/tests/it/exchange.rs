//! Peers that are known only through other peers (BEP 11).

use riverrun_base::Time;
use riverrun_sim::{Content, HostId};
use riverrun_swarm::{Input, PeerSource};

use crate::arena::Arena;

const RATE: u64 = 1_000_000;

/// A hub that has dialled a seed, and one more who knows the hub alone.
fn chain(content: &Content) -> (Arena, [HostId; 3]) {
    let mut world = Arena::new(5, content);
    let seed = world.seed(RATE);
    world.run_until(Time::from_secs(1));
    let hub = world.leech(RATE);
    world.run_until(Time::from_secs(2));
    let dialled = world.host(seed).addr();
    assert!(world.dials().contains(&(hub, dialled)));
    world.set_down(0, true);
    let last = world.leech(RATE);
    world.run_until(Time::from_secs(3));
    let found = Input::Found {
        torrent: world.torrent(last),
        source: PeerSource::User,
        peers: vec![world.host(hub).addr()],
    };
    world.input(last, found);
    (world, [seed, hub, last])
}

fn has_dialled(world: &Arena, from: HostId, to: HostId) -> bool {
    world.dials().contains(&(from, world.host(to).addr()))
}

#[test]
fn a_peer_hears_of_others_from_the_one_that_it_knows() {
    let (mut world, [seed, _, last]) = chain(&Content::tokens(400, 16));
    world.run_until(Time::from_secs(4));
    assert!(!has_dialled(&world, last, seed));
    world.run_until(Time::from_secs(12));
    assert!(has_dialled(&world, last, seed));
}

#[test]
fn only_those_are_told_of_whom_the_teller_has_dialled() {
    let (mut world, [seed, _, last]) = chain(&Content::tokens(400, 16));
    world.run_until(Time::from_secs(12));
    // The hub was dialled by the last, which the seed therefore does not hear of from it.
    assert!(!has_dialled(&world, seed, last));
}

#[test]
fn nobody_is_told_of_the_peers_of_a_private_torrent() {
    let (mut world, [seed, _, last]) = chain(&Content::private(400, 16));
    world.run_until(Time::from_secs(80));
    assert!(!has_dialled(&world, last, seed));
}
