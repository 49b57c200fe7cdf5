//! How long a magnet link takes until its first piece is verified, beside the same torrent with all that it needs.
//!
//! `cargo run --release -p riverrun-cli --example magnet -- 30`
//!
//! All is on loopback: a DHT of 64 nodes, half of which have gone without a word when the runs begin, a tracker, and a
//! seed that both know. Each run is an engine that has never seen anything; its time begins before it is started, and
//! it enters the DHT by two nodes, one of which is dead.

#![expect(clippy::print_stdout, reason = "it is what the program is for")]

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use riverrun_base::Rng;
use riverrun_engine::{
    AddTorrent, DhtConfig, DhtNode, Engine, Event, Finding, HostPort, InfoHash, NetworkOptions,
    PeersQuestion, Question, TorrentState,
};
use riverrun_hash::sha1;
use riverrun_trackerd::Trackerd;
use tempfile::TempDir;
use tokio_stream::StreamExt as _;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const NODES: u8 = 64;
const PIECES: usize = 1000;
const PIECE_LEN: usize = 1 << 16;
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What a run is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Torrent,
    Tracker,
    Dht,
    Both,
}

const WAYS: [(Way, &str); 4] = [
    (Way::Torrent, "torrent file, and the peer"),
    (Way::Tracker, "magnet link with a tracker"),
    (Way::Dht, "magnet link, by the DHT"),
    (Way::Both, "magnet link, by both"),
];

/// How long after its beginning a run had the metadata, and a piece.
#[derive(Clone, Copy, Debug)]
struct Times {
    metadata: Duration,
    piece: Duration,
}

/// A torrent and where it can be found.
struct World {
    metainfo: Vec<u8>,
    hash: InfoHash,
    seed: SocketAddr,
    tracker: String,
    /// By which nodes the DHT is entered.
    entries: Vec<SocketAddr>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let runs: usize = std::env::args()
        .nth(1)
        .map_or(Ok(30), |runs| runs.parse())?;
    let dir = TempDir::new()?;
    let (metainfo, hash) = publish(dir.path())?;
    let trackerd = Trackerd::builder().http(LOOPBACK).start().await?;
    let tracker = format!("http://{}/announce", trackerd.http_addrs()[0]);
    let mut nodes = grow().await?;
    let entries = vec![nodes[0].listen_addrs()[0], nodes[1].listen_addrs()[0]];
    let engine = engine(&dir.path().join("seed"), &entries).await?;
    let add = AddTorrent::from_bytes(&metainfo)?.dir(dir.path());
    let seed = engine.add(add.tracker_tier([tracker.clone()])).await?;
    seed.wait_state(|state| *state == TorrentState::Seeding)
        .await?;
    while !knows(&nodes[2], hash).await? {}
    // Every second one goes. The rest has them in its tables.
    let mut number = 0;
    nodes.retain(|_| {
        number += 1;
        number % 2 == 0
    });
    let world = World {
        metainfo,
        hash,
        seed: engine.listen_addrs()[0],
        tracker,
        entries,
    };
    let mut times: [Vec<Times>; WAYS.len()] = Default::default();
    for _ in 0..runs {
        // One after the other, so that whatever else the machine does hits all alike.
        for ((way, _), times) in WAYS.iter().zip(&mut times) {
            times.push(run(&world, *way).await?);
        }
    }
    tell(&times);
    Ok(())
}

/// Writes a file of random bytes, and makes its torrent.
fn publish(dir: &Path) -> Result<(Vec<u8>, InfoHash)> {
    let mut bytes = vec![0; PIECES * PIECE_LEN];
    Rng::new(1).fill(&mut bytes);
    std::fs::write(dir.join("payload"), &bytes)?;
    let mut info = format!(
        "d6:lengthi{}e4:name7:payload12:piece lengthi{PIECE_LEN}e6:pieces{}:",
        bytes.len(),
        20 * PIECES
    )
    .into_bytes();
    for piece in bytes.chunks(PIECE_LEN) {
        info.extend(sha1(piece).0);
    }
    info.push(b'e');
    let hash = InfoHash(sha1(&info).0);
    Ok(([b"d4:info", &info[..], b"e"].concat(), hash))
}

fn config(entries: &[SocketAddr]) -> DhtConfig {
    let entries = entries.iter().map(|addr| HostPort {
        host: addr.ip().to_string(),
        port: addr.port(),
    });
    DhtConfig::new().local_network().bootstrap(entries)
}

/// The nodes, each of which entered by the first and has looked around.
async fn grow() -> Result<Vec<DhtNode>> {
    let mut nodes: Vec<DhtNode> = Vec::new();
    for number in 1..=NODES {
        let listen = SocketAddr::from(([127, 0, 1, number], 0));
        let entry: Vec<_> = nodes
            .first()
            .map(|node| node.listen_addrs()[0])
            .into_iter()
            .collect();
        let network = NetworkOptions::default();
        let node = DhtNode::start(config(&entry), &[listen], network, None).await?;
        nodes.push(node);
    }
    for node in &nodes[1..] {
        while node.handle().stats().await?[0].nodes < 8 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(nodes)
}

/// Whether a node can find a peer.
async fn knows(node: &DhtNode, hash: InfoHash) -> Result<bool> {
    let question = Question::Peers(PeersQuestion::new(hash));
    let mut search = node.handle().search(question).await?;
    while let Some(found) = search.next().await {
        if matches!(found, Finding::Peers(_)) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn engine(dir: &Path, entries: &[SocketAddr]) -> Result<Engine> {
    let builder = Engine::builder(dir.join("state")).listen([LOOPBACK]);
    Ok(builder.dht(config(entries)).start().await?)
}

async fn run(world: &World, way: Way) -> Result<Times> {
    let dir = TempDir::new()?;
    let hex = world.hash.to_string();
    let add = match way {
        Way::Torrent => AddTorrent::from_bytes(&world.metainfo)?.peers([world.seed]),
        Way::Dht => AddTorrent::from_magnet_link(&format!("magnet:?xt=urn:btih:{hex}"))?,
        Way::Tracker | Way::Both => {
            let link = format!("magnet:?xt=urn:btih:{hex}&tr={}", world.tracker);
            AddTorrent::from_magnet_link(&link)?
        }
    };
    let entries: &[_] = match way {
        Way::Torrent | Way::Tracker => &[],
        Way::Dht | Way::Both => &world.entries,
    };
    let begun = Instant::now();
    let engine = engine(dir.path(), entries).await?;
    let mut events = engine.events();
    engine.add(add.dir(dir.path().join("taken"))).await?;
    let mut metadata = Duration::ZERO;
    while let Some(event) = events.next().await {
        match event? {
            Event::Metadata { .. } => metadata = begun.elapsed(),
            Event::PieceVerified { .. } => break,
            _ => {}
        }
    }
    let piece = begun.elapsed();
    engine.shutdown().await;
    Ok(Times { metadata, piece })
}

fn tell(times: &[Vec<Times>; WAYS.len()]) {
    println!("until the metadata and the first piece; p50 (most)");
    let of_torrent = percentiles(times[0].iter().map(|times| times.piece)).0;
    for ((_, name), times) in WAYS.iter().zip(times) {
        let (half, most) = percentiles(times.iter().map(|times| times.metadata));
        print!("{name:27} {half:7.1?} ({most:7.1?})  ");
        let (half, most) = percentiles(times.iter().map(|times| times.piece));
        let ratio = half.as_secs_f64() / of_torrent.as_secs_f64();
        println!("{half:7.1?} ({most:7.1?})  {ratio:.2} x");
    }
}

/// The middle, and the longest.
fn percentiles(times: impl Iterator<Item = Duration>) -> (Duration, Duration) {
    let mut times: Vec<_> = times.collect();
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}
