//! A node that stays.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use riverrun_base::Rate;
use riverrun_engine::{DhtNode, HostPort};
use serde_json::json;

use crate::failure::Outcome;
use crate::screen::{Screen, Surroundings};
use crate::signals::Interrupts;
use crate::transfer::{ListenAddr, ReachFlags, cannot_start, dht_config};

/// The port of a node if nothing is said: the first of BitTorrent's.
const DEFAULT_PORT: u16 = 6881;

/// The arguments of `dht node`.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Network options")]
pub(crate) struct Node {
    /// Listen here [default: port 6881 of all addresses]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<ListenAddr>,
    #[command(flatten)]
    reach: ReachFlags,
    /// Enter the distributed hash table by this node; repeat for several [default: the public ones]
    #[arg(long, value_name = "HOST:PORT")]
    dht_bootstrap: Vec<HostPort>,
    /// Enter by no node: others enter by this one
    #[arg(long, conflicts_with = "dht_bootstrap")]
    first: bool,
    /// Send at most this much a second as answers
    #[arg(long, value_name = "RATE", default_value = "1MiB")]
    limit_up: Rate,
    /// Keep what is known for the next start in this directory [default: in that of the program's state]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

pub(crate) async fn run(args: &Node, around: &Surroundings, screen: &mut Screen) -> Outcome {
    let mut interrupts = Interrupts::listen()?;
    let named: Vec<_> = args.listen.iter().flat_map(|addr| addr.addrs()).collect();
    let all = [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT)),
    ];
    let listen = if named.is_empty() { &all[..] } else { &named };
    let mut config = dht_config(&args.dht_bootstrap, &named).reply_rate(args.limit_up);
    if args.first {
        config = config.bootstrap([]);
    }
    let state = match &args.state {
        Some(dir) => around.path(dir),
        None => around.state_dir()?.join("node"),
    };
    let network = args.reach.options(around)?;
    let node = DhtNode::start(config, listen, network, Some(&state));
    let node = node.map_err(cannot_start)?;
    let addrs: Vec<_> = node
        .listen_addrs()
        .iter()
        .map(ToString::to_string)
        .collect();
    screen.event(&json!({ "event": "listening", "listen": addrs }))?;
    if !screen.is_json() {
        addrs.iter().try_for_each(|addr| screen.line(addr))?;
        screen.flush()?;
    }
    screen.say("a node of the DHT; Ctrl-C ends it");
    let stopped = interrupts.next().await;
    node.shutdown().await;
    screen.event(&json!({ "event": "done" }))?;
    Err(stopped.into_failure())
}
