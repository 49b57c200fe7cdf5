//! A thousand real nodes on loopback: whether searches succeed, how long they take, and what answers cost.
//!
//! `cargo run --release -p riverrun-engine --example dht -- 1000`
//!
//! The nodes are in this process, each with a socket and an address of its own in 127.0.0.0/8. They join one after the
//! other by the first of them. Then torrents are announced and found by others, and last another process floods one of
//! the nodes with queries, and the CPU time of this one is divided by the answers. Reads `/proc`.

#![expect(clippy::print_stdout, reason = "an example talks to its user")]

mod process;

use std::collections::VecDeque;
use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use riverrun_base::{Rate, Rng};
use riverrun_bencode::Writer;
use riverrun_engine::{
    Announce, DhtConfig, DhtNode, Finding, HostPort, InfoHash, NetworkOptions, PeersQuestion,
    Question,
};

use self::process::cpu_seconds;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const SEARCHES: u16 = 300;
/// How many queries are sent, and how many of them wait for their answers at once.
const QUERIES: usize = 1_000_000;
const WINDOW: usize = 256;
/// How many nodes join at once.
const JOINING: usize = 50;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flood, addr] = args.as_slice()
        && flood == "flood"
    {
        return self::flood(addr.parse()?);
    }
    let count = args.first().map_or(Ok(1000), |count| count.parse())?;
    let begun = Instant::now();
    let nodes = grow(count).await?;
    println!(
        "{count} nodes after {:.1?}, {:.1} CPU s",
        begun.elapsed(),
        cpu_seconds()?
    );
    search(&nodes).await?;
    let before = cpu_seconds()?;
    let me = std::env::current_exe()?;
    let addr = nodes[count / 2].listen_addrs()[0].to_string();
    // This thread may wait: the nodes have others.
    let flood = Command::new(me).args(["flood", &addr]).output()?;
    let answers: f64 = String::from_utf8(flood.stdout)?.trim().parse()?;
    let used = cpu_seconds()? - before;
    println!(
        "{answers} of {QUERIES} queries answered in {used:.2} CPU s: {:.0} a second and core",
        answers / used
    );
    Ok(())
}

/// Starts nodes, and waits until each has found some others.
async fn grow(count: usize) -> Result<Vec<DhtNode>> {
    let mut nodes: Vec<DhtNode> = Vec::new();
    for number in 0..count {
        let entry = nodes.first().map(|first| HostPort {
            host: first.listen_addrs()[0].ip().to_string(),
            port: first.listen_addrs()[0].port(),
        });
        let rate = Rate::from_bytes_per_second(u64::MAX / 2);
        let config = DhtConfig::new().local_network().reply_rate(rate);
        let [high, low] = u16::try_from(number)?.to_be_bytes();
        let listen = SocketAddr::from(([127, 1, high, low], 0));
        let network = NetworkOptions::default();
        let node = DhtNode::start(config.bootstrap(entry), &[listen], network, None).await?;
        nodes.push(node);
        if number % JOINING == JOINING - 1 {
            wait_known(&nodes[number + 1 - JOINING..]).await?;
        }
    }
    wait_known(&nodes).await?;
    Ok(nodes)
}

async fn wait_known(nodes: &[DhtNode]) -> Result<()> {
    for node in nodes {
        while node.handle().stats().await?[0].nodes < 8 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// Announces torrents and has others find them.
async fn search(nodes: &[DhtNode]) -> Result<()> {
    let mut rng = Rng::new(1);
    let someone = |rng: &mut Rng| rng.below(nodes.len());
    let (mut found, mut queries, mut firsts) = (0, 0, Vec::new());
    for number in 0..SEARCHES {
        let mut hash = InfoHash([0; 20]);
        rng.fill(&mut hash.0);
        let port = number + 1;
        let announce = Announce::at(port, true);
        let announce = PeersQuestion {
            announce: Some(announce),
            ..PeersQuestion::new(hash)
        };
        let node = &nodes[someone(&mut rng)];
        let search = node.handle().search(Question::Peers(announce)).await?;
        search.report().await;
        let question = Question::Peers(PeersQuestion::new(hash));
        let begun = Instant::now();
        let mut search = nodes[someone(&mut rng)].handle().search(question).await?;
        let mut first = None;
        while let Some(finding) = search.next().await {
            if let Finding::Peers(peers) = finding
                && peers.iter().any(|peer| peer.port() == port)
            {
                first.get_or_insert(begun.elapsed());
            }
        }
        found += usize::from(first.is_some());
        firsts.extend(first);
        queries += search.into_report().map_or(0, |report| report.queries);
    }
    firsts.sort();
    println!(
        "{found} of {SEARCHES} found, {:.1} queries each, the first value after {:.1?} (p50), {:.1?} (p95)",
        f64::from(u32::try_from(queries)?) / f64::from(SEARCHES),
        firsts[firsts.len() / 2],
        firsts[firsts.len() * 95 / 100],
    );
    Ok(())
}

/// Asks a node as fast as it answers, and prints how many answers there were.
fn flood(addr: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(addr)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let queries = queries();
    let (mut sent, mut answers) = (0, 0);
    let mut waiting = VecDeque::new();
    let mut answer = [0; 2048];
    while sent < QUERIES || !waiting.is_empty() {
        while sent < QUERIES && waiting.len() < WINDOW {
            socket.send(&queries[sent % queries.len()])?;
            waiting.push_back(());
            sent += 1;
        }
        match socket.recv(&mut answer) {
            Ok(len) => {
                answers += usize::from(answer[..len].ends_with(b"1:y1:re"));
                waiting.pop_front();
            }
            // The rest of them is lost.
            Err(_) => waiting.clear(),
        }
    }
    println!("{answers}");
    Ok(())
}

/// Questions for nodes and for peers, by turns.
fn queries() -> Vec<Vec<u8>> {
    let mut rng = Rng::new(2);
    let kinds = [
        (&b"find_node"[..], &b"target"[..]),
        (b"get_peers", b"info_hash"),
    ];
    let mut target = [0; 20];
    let query = |(method, key): (&[u8], &[u8])| {
        rng.fill(&mut target);
        let mut out = Writer::new();
        out.dict().key(b"a").dict();
        out.key(b"id").bytes(&[7; 20]).key(key).bytes(&target);
        out.end().key(b"q").bytes(method).key(b"t").bytes(b"abcd");
        out.key(b"y").bytes(b"q").end();
        out.finish()
    };
    kinds.into_iter().cycle().take(1024).map(query).collect()
}
