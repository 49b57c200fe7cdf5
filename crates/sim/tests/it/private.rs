//! Private torrents (BEP 27).

use riverrun_base::Time;
use riverrun_sim::Content;
use riverrun_swarm::{Input, PeerSource};

use crate::arena::Arena;

const RATE: u64 = 1_000_000;

#[test]
fn a_private_torrent_uses_no_peer_from_elsewhere() {
    for source in [PeerSource::Dht, PeerSource::Exchange, PeerSource::Local] {
        let content = Content::private(8, 4);
        let mut world = Arena::new(1, &content);
        let seed = world.seed(RATE);
        world.run_until(Time::from_secs(1));
        let addr = world.host(seed).addr();
        world.set_down(0, true);
        let leech = world.leech(RATE);
        world.run_until(Time::from_secs(2));
        let torrent = world.torrent(leech);
        world.input(
            leech,
            Input::Found {
                torrent,
                source,
                peers: vec![addr],
            },
        );
        world.run_until(Time::from_secs(30));
        assert!(world.dials().is_empty(), "{source:?}");
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
    let mut world = Arena::new(2, &content);
    let seed = world.seed(RATE);
    world.run_until(Time::from_secs(1));
    let addr = world.host(seed).addr();
    world.set_down(0, true);
    let magnet = world.magnet(RATE);
    let torrent = world.torrent(magnet);
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
    assert_eq!(world.dials().len(), 1);
    assert_eq!(world.host(magnet).connections(), 0);
    assert_eq!(world.have(magnet), 0);
}
