//! Torrents of v2 alone (BEP 52): layers from peers, and wrong blocks found by their hashes.

use riverrun_base::{Bitfield, Time};
use riverrun_metainfo::{PieceHashes, PieceLayers};
use riverrun_swarm::{Event, TorrentOptions};

use crate::content::Content;
use crate::node::Manners;
use crate::world::World;

const RATE: u64 = 1_000_000;

#[test]
fn a_v2_torrent_completes() {
    let content = Content::v2(12, 4, 1);
    let mut world = World::new(1);
    world.seed(&content, RATE);
    let leechers = [world.leech(&content, RATE), world.leech(&content, RATE)];
    world.run_to_completion(&leechers, Time::from_secs(60));
}

#[test]
fn missing_piece_layers_come_from_peers() {
    let content = Content::v2(700, 1, 2);
    let mut world = World::new(2);
    world.is_checked = false;
    world.seed(&content, RATE);
    let mut bare = content.clone();
    bare.hashes = PieceHashes::new(&content.info, &PieceLayers::new());
    assert!(!bare.hashes.is_complete());
    let leech = world.add_node(&bare, RATE);
    world.add_torrent(
        leech,
        Bitfield::new(bare.pieces()),
        TorrentOptions::default(),
    );
    world.run_to_completion(&[leech], Time::from_secs(200));
    // And it can pass them on.
    let second = world.add_node(&bare, RATE);
    world.kill(0);
    world.add_torrent(
        second,
        Bitfield::new(bare.pieces()),
        TorrentOptions::default(),
    );
    world.run_to_completion(&[second], Time::from_secs(400));
}

#[test]
fn only_wrong_blocks_come_again_and_their_senders_are_banned() {
    for seed in 0..10 {
        let content = Content::v2(12, 16, seed);
        let mut world = World::new(seed);
        let mut liars = Vec::new();
        for n in 0..4 {
            let node = world.seed(&content, RATE / 4);
            if n == 0 {
                world.set_manners(
                    node,
                    Manners {
                        poison_every: Some(5),
                        ..Manners::default()
                    },
                );
                liars.push(node);
            }
        }
        world.run_until(Time::from_secs(1));
        let leech = world.leech(&content, RATE);
        world.run_to_completion(&[leech], Time::from_secs(200));
        let torrent = world.nodes[leech].torrent.unwrap();
        let stats = world.nodes[leech].shard.stats(world.now, torrent).unwrap();
        let extra = stats.downloaded_bytes - content.len_bytes();
        assert!(
            extra < content.len_bytes() / 4,
            "seed {seed}: {extra} bytes came twice"
        );
        let ends = world.ends_of(leech);
        for event in &world.nodes[leech].events {
            if let Event::PeerDisconnected {
                conn,
                why: riverrun_peer::CloseReason::Banned,
                ..
            } = event
            {
                assert!(liars.contains(&ends[conn]), "seed {seed}");
            }
        }
    }
}
