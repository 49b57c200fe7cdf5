//! Private torrents (BEP 27).

use riverrun_base::Time;
use riverrun_swarm::{Input, PeerSource};

use crate::content::Content;
use crate::world::World;

const RATE: u64 = 1_000_000;

#[test]
fn a_private_torrent_uses_no_peer_from_elsewhere() {
    for source in [PeerSource::Dht, PeerSource::Exchange, PeerSource::Local] {
        let content = Content::private(8, 4);
        let mut world = World::new(1);
        let seed = world.seed(&content, RATE);
        world.run_until(Time::from_secs(1));
        let addr = world.nodes[seed].addr;
        world.trackers_down = vec![crate::world::TRACKER.to_owned()];
        let leech = world.leech(&content, RATE);
        world.run_until(Time::from_secs(2));
        let torrent = world.nodes[leech].torrent.unwrap();
        world.input(
            leech,
            Input::Found {
                torrent,
                source,
                peers: vec![addr],
            },
        );
        world.run_until(Time::from_secs(30));
        assert!(world.dials.is_empty(), "{source:?}");
        world.input(
            leech,
            Input::Found {
                torrent,
                source: PeerSource::User,
                peers: vec![addr],
            },
        );
        world.run_to_completion(&[leech], Time::from_secs(60));
    }
}

#[test]
fn a_magnet_that_turns_out_private_leaves_peers_from_elsewhere() {
    let content = Content::private(200, 16);
    let mut world = World::new(2);
    let seed = world.seed(&content, RATE);
    world.run_until(Time::from_secs(1));
    let addr = world.nodes[seed].addr;
    world.trackers_down = vec![crate::world::TRACKER.to_owned()];
    let magnet = world.add_node(&content, RATE);
    world.add_magnet(magnet, content.info.hashes());
    let torrent = world.nodes[magnet].torrent.unwrap();
    // A peer of our surroundings is only taken from a stranger's list once another was met; Local may name it.
    world.input(
        magnet,
        Input::Found {
            torrent,
            source: PeerSource::Local,
            peers: vec![addr],
        },
    );
    world.run_until(Time::from_secs(5));
    assert_eq!(world.dials.len(), 1);
    assert!(world.nodes[magnet].conns.is_empty());
    assert_eq!(world.have(magnet), 0);
}
