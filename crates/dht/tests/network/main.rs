//! Many nodes and no sockets: what a network of them finds, how fast, and in spite of whom.

mod hostile;
mod world;

use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::InfoHash;
use riverrun_dht::{
    Finding, ItemName, Keypair, NodeId, PeersQuestion, Question, Stored, torrent_pointer,
};

use crate::world::{Plan, World, percentile};

const MINUTE: Duration = Duration::from_mins(1);

fn peers_of(hash: NodeId) -> Question {
    Question::Peers(PeersQuestion::new(InfoHash(hash.0)))
}

#[test]
fn who_announces_is_found_by_all() {
    let mut world = World::grow(Plan::honest(1, 100), MINUTE);
    let hash = NodeId::random(&mut world.rng);
    let announced = world.announce(7, hash);
    assert_eq!(announced.report.stored, 8, "{:?}", announced.report);
    let expected = SocketAddr::new(world.addr(7).ip(), 7000);
    for asker in 0..100 {
        let found = world.find(asker, &peers_of(hash));
        assert_eq!(found.peers(), [expected], "{asker} {:?}", found.report);
    }
}

#[test]
fn two_nodes_are_a_network() {
    let mut world = World::grow(Plan::honest(2, 2), MINUTE);
    let hash = NodeId([1; 20]);
    assert_eq!(world.announce(0, hash).report.stored, 1);
    assert_eq!(world.find(1, &peers_of(hash)).report.answers, 1);
    assert_eq!(world.announce(1, hash).report.stored, 1);
    // Each knows by itself what the other has announced to it.
    assert_eq!(world.find(0, &peers_of(hash)).peers().len(), 2);
}

#[test]
fn a_search_without_nodes_ends_by_itself() {
    let mut world = World::grow(Plan::honest(3, 1), MINUTE);
    let found = world.find(0, &peers_of(NodeId([1; 20])));
    assert_eq!(found.report.answers, 0);
    assert!(found.ended.unwrap() < Duration::from_secs(20));
}

#[test]
fn items_are_kept_changed_and_guarded() {
    let mut world = World::grow(Plan::honest(4, 60), MINUTE);
    let long = format!("990:{}", "x".repeat(990)).into_bytes();
    let item = Stored::immutable(long).unwrap();
    let put = Question::Put {
        item: item.clone(),
        cas: None,
    };
    assert_eq!(world.find(1, &put).report.stored, 8);
    let name = ItemName::Immutable(item.target());
    let found = world.find(2, &Question::Item(name));
    assert_eq!(found.findings, [Finding::Item(item)]);

    let pair = Keypair::from_secret([5; 32]);
    let name = ItemName::Mutable {
        key: pair.public(),
        salt: b"news".to_vec(),
    };
    for (seq, cas, stored) in [(1, None, 8), (2, Some(1), 8), (3, Some(1), 0), (1, None, 0)] {
        let value = torrent_pointer(InfoHash([seq; 20]));
        let item = pair.sign(value, b"news".to_vec(), seq.into()).unwrap();
        let put = world.find(3, &Question::Put { item, cas });
        assert_eq!(put.report.stored, stored, "{seq} {:?}", put.report);
        let code = put.report.refusal.map(|(code, _)| code);
        let expected = (stored == 0).then_some(if seq == 3 { 301 } else { 302 });
        assert_eq!(code, expected);
    }
    let found = world.find(4, &Question::Item(name));
    let Some(Finding::Item(last)) = found.findings.last() else {
        panic!("nothing found");
    };
    assert_eq!(
        (last.seq(), last.info_hash()),
        (Some(2), Some(InfoHash([2; 20])))
    );
}

#[test]
fn samples_tell_what_is_stored_and_scrapes_how_many_there_are() {
    let mut world = World::grow(Plan::honest(5, 80), MINUTE);
    let hash = NodeId::random(&mut world.rng);
    for peer in 0..40 {
        world.announce(peer, hash);
    }
    let sampled = world.find(50, &Question::Samples(hash));
    let has = |finding: &Finding| matches!(finding, Finding::Samples { info_hashes, .. } if info_hashes.contains(&InfoHash(hash.0)));
    let holders = sampled
        .findings
        .iter()
        .filter(|finding| has(finding))
        .count();
    assert!(holders >= 8, "{holders}");
    let question = PeersQuestion {
        scrape: true,
        ..PeersQuestion::new(InfoHash(hash.0))
    };
    let (peers, seeds) = world
        .find(51, &Question::Peers(question))
        .report
        .scrape
        .unwrap();
    assert!((peers - 40.0).abs() < 3.0 && seeds < 1.0, "{peers} {seeds}");
}

/// With a fifth of all table entries dead. The same at ten thousand nodes is in the simulator.
#[test]
fn searches_are_quick_though_a_fifth_of_the_table_is_dead() {
    let mut world = World::grow(Plan::honest(6, 300), 2 * MINUTE);
    let hashes: Vec<_> = (0..60).map(|_| NodeId::random(&mut world.rng)).collect();
    for hash in &hashes {
        let someone = world.someone();
        world.announce(someone, *hash);
    }
    world.kill(200);
    let mut first = Vec::new();
    let mut queries = 0;
    for hash in &hashes {
        let someone = world.someone();
        let found = world.find(someone, &peers_of(*hash));
        first.push(found.first_value.expect("a value is found"));
        queries += found.report.queries;
    }
    let (half, most) = (percentile(&mut first, 0.5), percentile(&mut first, 0.95));
    assert!(half <= Duration::from_millis(230), "{half:?}");
    assert!(most <= Duration::from_millis(350), "{most:?}");
    assert!(queries / 60 <= 40, "{queries}");
}

#[test]
fn lost_datagrams_do_not_lose_peers() {
    let plan = Plan {
        lost_permille: 50,
        ..Plan::honest(7, 200)
    };
    let mut world = World::grow(plan, MINUTE);
    let mut stored = 0;
    for _ in 0..30 {
        let hash = NodeId::random(&mut world.rng);
        let (from, to) = (world.someone(), world.someone());
        stored += world.announce(from, hash).report.stored;
        assert_eq!(world.find(to, &peers_of(hash)).peers().len(), 1);
    }
    // One in ten of the eight answers is lost, on its way there or back.
    assert!(stored >= 30 * 8 * 85 / 100, "{stored}");
}

/// Thirty in a hundred nodes, in 64 networks, want to be found instead of the honest.
#[test]
fn honest_peers_are_found_among_hostile_nodes() {
    let plan = Plan {
        hostile: 128,
        hostile_networks: 64,
        ..Plan::honest(8, 300)
    };
    let mut world = World::grow(plan, 2 * MINUTE);
    let mut found = 0;
    for _ in 0..100 {
        let hash = NodeId::random(&mut world.rng);
        let (from, to) = (world.someone(), world.someone());
        world.announce(from, hash);
        let peers = world.find(to, &peers_of(hash)).peers();
        found += usize::from(peers.contains(&SocketAddr::new(world.addr(from).ip(), 7000)));
    }
    assert!(found >= 95, "{found} of 100");
    for at in 0..300 {
        let hostile = world.dht(at).unwrap().save(world.now).nodes;
        let of_one_network = hostile.iter().filter(|contact| {
            matches!(contact.addr.ip(), std::net::IpAddr::V4(ip) if ip.octets()[..3] == [60, 0, 0])
        });
        assert!(of_one_network.count() <= 2);
    }
}

/// Each half has forgotten the other when the way is free again.
#[test]
fn a_network_that_was_cut_in_two_becomes_one_again() {
    let mut world = World::grow(Plan::honest(11, 80), MINUTE);
    world.is_cut = true;
    world.run_until(world.now + 120 * MINUTE);
    let hash = NodeId::random(&mut world.rng);
    world.announce(0, hash);
    assert_eq!(world.find(1, &peers_of(hash)).peers(), []);
    world.is_cut = false;
    world.run_until(world.now + 45 * MINUTE);
    let mut found = 0;
    for (from, to) in (0..20).map(|n| (2 * n, 2 * n + 1)) {
        let hash = NodeId::random(&mut world.rng);
        world.announce(from, hash);
        found += world.find(to, &peers_of(hash)).peers().len();
    }
    assert_eq!(found, 20);
}

#[test]
fn a_world_replays_from_its_seed() {
    let run = |seed| {
        let mut world = World::grow(Plan::honest(seed, 50), MINUTE);
        let hash = NodeId([3; 20]);
        world.announce(1, hash);
        (world.datagrams, world.find(2, &peers_of(hash)).first_value)
    };
    assert_eq!(run(9), run(9));
    assert_ne!(run(9), run(10));
}
