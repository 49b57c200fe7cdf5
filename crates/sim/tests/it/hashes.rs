//! Torrents of v2 alone (BEP 52): layers from peers, and wrong blocks found by their hashes.

use riverrun_base::Time;
use riverrun_sim::Content;

use crate::arena::Arena;

const RATE: u64 = 1_000_000;

#[test]
fn a_v2_torrent_completes() {
    let content = Content::v2(12, 4, 1);
    let mut world = Arena::new(1, &content);
    world.seed(RATE);
    let leechers = [world.leech(RATE), world.leech(RATE)];
    world.run_to_completion(&leechers, Time::from_secs(60));
}

#[test]
fn missing_piece_layers_come_from_peers() {
    let content = Content::v2(700, 1, 2);
    let mut world = Arena::unchecked(2, &content);
    let seed = world.seed(RATE);
    let leech = world.leech_without_layers(RATE);
    world.run_to_completion(&[leech], Time::from_secs(200));
    // And it can pass them on.
    world.kill(seed);
    let second = world.leech_without_layers(RATE);
    world.run_to_completion(&[second], Time::from_secs(400));
}

#[test]
fn only_wrong_blocks_come_again_and_their_senders_are_banned() {
    for seed in 0..10 {
        let content = Content::v2(12, 16, seed);
        let mut world = Arena::new(seed, &content);
        let liar = world.poisoner(RATE / 4, 5);
        for _ in 0..3 {
            world.seed(RATE / 4);
        }
        world.run_until(Time::from_secs(1));
        let leech = world.leech(RATE);
        world.run_to_completion(&[leech], Time::from_secs(200));
        let stats = world.stats(leech);
        let extra = stats.downloaded_bytes - content.len_bytes();
        assert!(
            extra < content.len_bytes() / 4,
            "seed {seed}: {extra} bytes came twice"
        );
        let banned = world.banned(leech);
        assert!(banned.iter().all(|host| *host == liar), "seed {seed}");
    }
}
