//! Engines that find each other by nothing but the distributed hash table, over loopback.

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use riverrun_bencode::{Document, Limits, Writer};
use riverrun_engine::{
    AddTorrent, DhtConfig, DhtNode, Engine, Finding, HostPort, InfoHashes, ItemName, Keypair,
    NetworkOptions, PeersQuestion, PublisherLink, Question, Stored, TorrentState, Transports,
    torrent_pointer,
};
use riverrun_metainfo::MetaVersion;
use riverrun_metainfo::create::CreateOptions;
use support::{Published, engine, soon};
use tempfile::TempDir;
use tokio::net::UdpSocket;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn host_port(addr: SocketAddr) -> HostPort {
    HostPort {
        host: addr.ip().to_string(),
        port: addr.port(),
    }
}

/// A network of one's own that is entered by this node, if there is one.
fn config(entry: Option<SocketAddr>) -> DhtConfig {
    DhtConfig::new()
        .local_network()
        .bootstrap(entry.map(host_port))
}

async fn node(entry: Option<SocketAddr>) -> DhtNode {
    let network = NetworkOptions::default();
    let node = DhtNode::start(config(entry), &[LOOPBACK], network, None);
    node.await.unwrap()
}

async fn engine_with_dht(dir: &Path, config: DhtConfig) -> Engine {
    let builder = Engine::builder(dir.join("state"));
    builder
        .listen([LOOPBACK])
        .dht(config)
        .start()
        .await
        .unwrap()
}

/// How many nodes an engine's nodes know together.
async fn nodes_known(engine: &Engine) -> usize {
    let stats = engine.dht().unwrap().stats().await.unwrap();
    stats.iter().map(|node| node.nodes).sum()
}

async fn seed(engine: &Engine, published: &Published) {
    let add = AddTorrent::from_metainfo(published.metainfo.clone()).dir(published.dir.path());
    let torrent = engine.add(add).await.unwrap();
    soon(torrent.wait_state(|state| *state == TorrentState::Seeding))
        .await
        .unwrap();
}

/// Waits until somebody has announced himself under this name.
async fn announced(node: &DhtNode, hashes: InfoHashes) {
    for hash in hashes.wire() {
        let found = soon(async {
            loop {
                let question = Question::Peers(PeersQuestion::new(hash));
                let mut search = node.handle().search(question).await.unwrap();
                if let Some(Finding::Peers(peers)) = search.next().await {
                    return peers;
                }
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(found.await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_and_a_node_are_enough_to_download() {
    for version in [MetaVersion::V1, MetaVersion::V2, MetaVersion::Hybrid] {
        let published = Published::new(&[300_001, 5], version, 1);
        let (home, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let entry = node(None).await;
        let addr = entry.listen_addrs()[0];
        let seeder = engine_with_dht(home.path(), config(Some(addr))).await;
        seed(&seeder, &published).await;
        let hashes = published.metainfo.info.hashes();
        announced(&entry, hashes).await;

        let leecher = engine_with_dht(other.path(), config(Some(addr))).await;
        let add = AddTorrent::from_info_hashes(hashes).dir(other.path().join("data"));
        let torrent = leecher.add(add).await.unwrap();
        soon(torrent.wait_completed()).await.unwrap();
        published.assert_copied_to(&other.path().join("data"));
        leecher.shutdown().await;
        seeder.shutdown().await;
        entry.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_tell_each_other_of_their_nodes() {
    let published = Published::new(&[50_000], MetaVersion::V1, 2);
    let (home, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let seeder = engine_with_dht(home.path(), config(None)).await;
    seed(&seeder, &published).await;
    let leecher = engine_with_dht(other.path(), config(None)).await;
    let add = AddTorrent::from_metainfo(published.metainfo.clone())
        .dir(other.path().join("data"))
        .peers(seeder.listen_addrs().iter().copied());
    let torrent = leecher.add(add).await.unwrap();
    soon(torrent.wait_completed()).await.unwrap();
    soon(async {
        while nodes_known(&leecher).await == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torrent_of_the_last_run_is_enough_to_begin() {
    let home = TempDir::new().unwrap();
    let entry = node(None).await;
    let nodes = vec![host_port(entry.listen_addrs()[0])];
    let name_node = |options: &mut CreateOptions| options.nodes = nodes;
    let published = Published::with(&[50_000], MetaVersion::V1, 2, name_node);
    for is_complete in [false, true] {
        let state = home.path().join(format!("complete-{is_complete}"));
        let keeping = || {
            let builder = Engine::builder(&state).listen([LOOPBACK]).keep_torrents();
            builder.dht(config(None)).start()
        };
        let engine = keeping().await.unwrap();
        let dir = if is_complete {
            published.dir.path()
        } else {
            &state
        };
        let add = AddTorrent::from_metainfo(published.metainfo.clone()).dir(dir);
        let torrent = engine.add(add).await.unwrap();
        let checked = |state: &TorrentState| match state {
            TorrentState::Downloading => !is_complete,
            state => *state == TorrentState::Seeding,
        };
        soon(torrent.wait_state(checked)).await.unwrap();
        engine.shutdown().await;
        // All that is known of the DHT is what the torrent says.
        let _ = std::fs::remove_file(state.join("dht.state"));
        let engine = keeping().await.unwrap();
        soon(async {
            while nodes_known(&engine).await == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_the_last_run_are_enough_to_begin() {
    let home = TempDir::new().unwrap();
    let entry = node(None).await;
    let first = engine_with_dht(home.path(), config(Some(entry.listen_addrs()[0]))).await;
    let has_nodes = async |engine: &Engine| {
        while nodes_known(engine).await == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon(has_nodes(&first)).await;
    let id = first.dht().unwrap().stats().await.unwrap()[0].id;
    first.shutdown().await;
    let second = engine_with_dht(home.path(), config(None)).await;
    soon(has_nodes(&second)).await;
    assert_eq!(second.dht().unwrap().stats().await.unwrap()[0].id, id);
}

/// BEP 27, on the wire: a spy is the only node there is, so all that is asked is asked of it.
#[tokio::test(flavor = "multi_thread")]
async fn no_datagram_names_a_private_torrent() {
    let spy = UdpSocket::bind(LOOPBACK).await.unwrap();
    let home = TempDir::new().unwrap();
    let seeder = engine_with_dht(home.path(), config(Some(spy.local_addr().unwrap()))).await;
    let private = Published::with(
        &[40_000],
        MetaVersion::Hybrid,
        3,
        |options: &mut CreateOptions| {
            options.private = true;
        },
    );
    let public = Published::new(&[40_000], MetaVersion::V1, 4);
    seed(&seeder, &private).await;
    // The public one comes second: what the spy hears of it is said after all that could be said of the first.
    seed(&seeder, &public).await;
    let names: Vec<_> = private.metainfo.info.hashes().wire().collect();
    let known = public.metainfo.info.hashes().primary();
    let names_of = |bytes: &[u8], hash: [u8; 20]| bytes.windows(20).any(|part| part == hash);
    let mut buffer = [0; 2048];
    soon(async {
        loop {
            let (len, _) = spy.recv_from(&mut buffer).await.unwrap();
            let datagram = &buffer[..len];
            assert!(!names.iter().any(|hash| names_of(datagram, hash.0)));
            if names_of(datagram, known.0) {
                return;
            }
        }
    })
    .await;
    seeder.shutdown().await;
    while let Ok((len, _)) = spy.try_recv_from(&mut buffer) {
        assert!(!names.iter().any(|hash| names_of(&buffer[..len], hash.0)));
    }
}

/// Plays a node that lets everybody store with it; the first announce that it hears.
async fn hear_announce(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    loop {
        let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
        let datagram = &buffer[..len];
        let limits = Limits {
            depth: 8,
            tokens: 100,
            bytes: 2048,
        };
        let query = Document::parse(datagram, limits).unwrap();
        let query = query.root().as_dict().unwrap();
        let field = |key: &[u8]| query.get(key).and_then(|value| value.as_bytes());
        if field(b"q") == Some(b"announce_peer") {
            return datagram.to_vec();
        }
        let mut reply = Writer::new();
        reply.dict().key(b"r").dict();
        reply.key(b"id").bytes(&[7; 20]).key(b"token").bytes(b"yes");
        reply.end().key(b"t").bytes(field(b"t").unwrap());
        reply.key(b"y").bytes(b"r").end();
        socket.send_to(&reply.finish(), from).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_nat_others_are_to_dial_the_port_from_which_they_hear_us() {
    for (transports, implied) in [
        (Transports::TcpFirst, true),
        (Transports::UtpOnly, true),
        (Transports::TcpOnly, false),
    ] {
        let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
        let home = TempDir::new().unwrap();
        let builder = Engine::builder(home.path().join("state")).listen([LOOPBACK]);
        let config = config(Some(socket.local_addr().unwrap()));
        let engine = builder
            .transports(transports)
            .dht(config)
            .start()
            .await
            .unwrap();
        let published = Published::new(&[40_000], MetaVersion::V1, 5);
        seed(&engine, &published).await;
        let announce = soon(hear_announce(&socket)).await;
        let says = b"12:implied_porti1e";
        let is_implied = announce.windows(says.len()).any(|part| part == says);
        assert_eq!(is_implied, implied, "{transports:?}");
        engine.shutdown().await;
    }
}

/// Puts an item, when there is somebody to put it to.
async fn put(node: &DhtNode, item: &Stored) {
    let put = Question::Put {
        item: item.clone(),
        cas: None,
    };
    let report = soon(async {
        loop {
            let search = node.handle().search(put.clone()).await.unwrap();
            let report = search.report().await.unwrap();
            if report.stored > 0 {
                return report;
            }
        }
    });
    assert_eq!(report.await.refused, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_publisher_hears_of_each_torrent_once() {
    let home = TempDir::new().unwrap();
    let entry = node(None).await;
    let entry_addr = entry.listen_addrs()[0];
    let publisher = node(Some(entry_addr)).await;
    let follower = engine_with_dht(home.path(), config(Some(entry_addr))).await;
    let pair = Keypair::from_secret([8; 32]);
    let link = PublisherLink::new(pair.public(), b"news".to_vec());
    let mut publications = follower.publications(link, Duration::ZERO).unwrap();
    // The second version names the first one's torrent again.
    for (seq, byte) in [(1, 1), (2, 1), (3, 2), (7, 3)] {
        let hash = riverrun_engine::InfoHash([byte; 20]);
        let item = pair.sign(torrent_pointer(hash), b"news".to_vec(), seq);
        put(&publisher, &item.unwrap()).await;
        let named = match seq {
            2 => {
                assert!(soon(publications.look()).await.unwrap().is_none());
                continue;
            }
            1 => soon(publications.look()).await.unwrap().unwrap(),
            _ => soon(publications.next()).await.unwrap(),
        };
        assert!(named.hashes.matches(hash), "{seq}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn items_are_put_and_found() {
    let entry = node(None).await;
    let mut others = Vec::new();
    for _ in 0..12 {
        others.push(node(Some(entry.listen_addrs()[0])).await);
    }
    let pair = Keypair::from_secret([7; 32]);
    let hash = riverrun_engine::InfoHash([9; 20]);
    let item = pair.sign(torrent_pointer(hash), Vec::new(), 1).unwrap();
    put(&others[0], &item).await;
    let name = ItemName::Mutable {
        key: pair.public(),
        salt: Vec::new(),
    };
    let found = soon(others[11].handle().item(name)).await.unwrap();
    assert_eq!(found.unwrap().info_hash(), Some(hash));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_without_a_node_is_none() {
    let home = TempDir::new().unwrap();
    assert!(engine(home.path()).await.dht().is_none());
}
