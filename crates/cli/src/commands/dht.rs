//! `riverrun dht`: what the distributed hash table knows, and a node of it.

mod items;
mod node;
mod peers;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use riverrun_base::InfoHashes;
use riverrun_engine::{DhtConfig, DhtNode, DhtSearch, Finding, HostPort, Question, Report};
use serde_json::json;

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::progress::threads;
use crate::screen::{Screen, Surroundings};
use crate::signals::{Interrupts, runtime};
use crate::torrent::{self, Torrent};
use crate::transfer::{ListenAddr, ReachFlags, cannot_start, dht_config};
use crate::values::Span;

/// Ask the distributed hash table, store in it, or be a node of it
#[derive(Args, Debug)]
#[command(after_long_help = "\
Each command but node is a visit: it asks, and does not answer others (BEP 43). A node of one's own network is
`riverrun dht node` on one machine, and --dht-bootstrap with its address on the others.")]
pub(crate) struct Dht {
    #[command(subcommand)]
    command: DhtCommand,
}

#[derive(Debug, Subcommand)]
enum DhtCommand {
    /// Find the peers of a torrent
    GetPeers(peers::GetPeers),
    /// Tell that this machine has a torrent, or wants it
    Announce(peers::Announce),
    /// Get an item (BEP 44), or the torrent that a publisher names (BEP 46)
    Get(items::Get),
    /// Store an item, or name a torrent as its publisher
    Put(items::Put),
    /// See which torrents nodes near an id have peers of (BEP 51)
    Sample(peers::Sample),
    /// Be a node until Ctrl-C
    Node(node::Node),
}

/// Flags of all commands that visit the DHT.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Network options")]
struct VisitFlags {
    /// Ask from here [default: any port of all addresses]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<ListenAddr>,
    #[command(flatten)]
    entry: EntryFlags,
    /// Give up after this time
    #[arg(long, value_name = "TIME", default_value = "30s")]
    timeout: Span,
}

/// Runs the command.
pub(crate) fn run(args: &Dht, around: &Surroundings, screen: &mut Screen) -> Outcome {
    let runtime = runtime(threads().get())?;
    let outcome = runtime.block_on(async {
        match &args.command {
            DhtCommand::GetPeers(args) => peers::get(args, around, screen).await,
            DhtCommand::Announce(args) => peers::announce(args, around, screen).await,
            DhtCommand::Get(args) => items::get(args, around, screen).await,
            DhtCommand::Put(args) => items::put(args, around, screen).await,
            DhtCommand::Sample(args) => peers::sample(args, around, screen).await,
            DhtCommand::Node(args) => node::run(args, around, screen).await,
        }
    });
    // A name that is being resolved is not waited for.
    runtime.shutdown_background();
    outcome
}

/// Flags of every node: how it reaches others, and by whom it enters.
#[derive(Args, Clone, Debug)]
struct EntryFlags {
    #[command(flatten)]
    reach: ReachFlags,
    /// Enter the distributed hash table by this node, not by the public ones; repeat for several
    #[arg(long, value_name = "HOST:PORT")]
    dht_bootstrap: Vec<HostPort>,
}

impl EntryFlags {
    /// Starts a node where it is to listen: there, or at this port of all addresses.
    async fn start(
        &self,
        around: &Surroundings,
        (listen, port): (&[ListenAddr], u16),
        state: Option<&Path>,
        change: impl FnOnce(DhtConfig) -> DhtConfig,
    ) -> Outcome<DhtNode> {
        let named: Vec<_> = listen.iter().flat_map(|addr| addr.addrs()).collect();
        let config = change(dht_config(&self.dht_bootstrap, &named));
        let all = [
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        ];
        let listen = if named.is_empty() { &all[..] } else { &named };
        let network = self.reach.options(around)?;
        let node = DhtNode::start(config, listen, network, state).await;
        node.map_err(cannot_start)
    }
}

impl VisitFlags {
    /// A node that only asks.
    async fn start(&self, around: &Surroundings) -> Outcome<DhtNode> {
        let (listen, config) = ((&self.listen[..], 0), DhtConfig::read_only);
        self.entry.start(around, listen, None, config).await
    }

    /// Asks, shows what is found, and waits for the end.
    async fn ask(
        &self,
        node: &DhtNode,
        question: Question,
        mut show: impl FnMut(Finding) -> Outcome,
    ) -> Outcome<Report> {
        let mut interrupts = Interrupts::listen()?;
        let search = node.handle().search(question).await;
        let mut search = search.map_err(|e| Failure::new(ExitCode::Other, e))?;
        let late = tokio::time::sleep(self.timeout.0);
        tokio::pin!(late);
        loop {
            tokio::select! {
                biased;
                interrupt = interrupts.next() => return Err(interrupt.into_failure()),
                found = search.next() => match found {
                    Some(found) => show(found)?,
                    None => return ended(search),
                },
                () = &mut late => return Err(too_late(self.timeout.0)),
            }
        }
    }
}

fn ended(search: DhtSearch) -> Outcome<Report> {
    let stopped = || Failure::say(ExitCode::Other, "the node has stopped");
    let report = search.into_report().ok_or_else(stopped)?;
    if report.answers == 0 {
        let nobody = Failure::say(ExitCode::Network, "no node of the DHT has answered");
        return Err(nobody.hint("name a node that is there with --dht-bootstrap HOST:PORT"));
    }
    Ok(report)
}

fn too_late(time: Duration) -> Failure {
    let message = format!("no end after {}", crate::transfer::duration(time));
    Failure::say(ExitCode::Network, message).hint("a longer --timeout may do")
}

/// The event that ends a search.
fn done_event(report: &Report) -> serde_json::Value {
    json!({
        "event": "done", "queries": report.queries, "answers": report.answers,
        "stored": report.stored, "refused": report.refused,
    })
}

/// The names of a torrent: an info-hash, a magnet link, or a torrent file.
fn hashes(argument: &str, around: &Surroundings) -> Outcome<InfoHashes> {
    if let Some(hashes) = torrent::parse_hashes(argument, around) {
        return Ok(hashes);
    }
    Ok(match torrent::read(argument, around)? {
        Torrent::File(metainfo) if metainfo.info.is_private() => {
            let private = "the torrent is private: only its trackers may know of it";
            return Err(Failure::say(ExitCode::Usage, private));
        }
        Torrent::File(metainfo) => metainfo.info.hashes(),
        Torrent::Link(magnet) => magnet.hashes,
    })
}
