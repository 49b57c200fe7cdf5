//! A node that stays.

use std::path::PathBuf;

use riverrun_base::Rate;
use riverrun_engine::DhtConfig;
use serde_json::json;

use super::EntryFlags;
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::screen::{Screen, Surroundings};
use crate::signals::Interrupts;
use crate::transfer::ListenAddr;

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
    entry: EntryFlags,
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
    if args.entry.reach.is_proxied() {
        let failure = Failure::say(ExitCode::Usage, "nobody can ask a node behind a proxy");
        return Err(failure.hint("leave out --proxy, or use --bind to hold it to one interface"));
    }
    let state = match &args.state {
        Some(dir) => around.path(dir),
        None => around.state_dir()?.join("node"),
    };
    let listen = (&args.listen[..], DEFAULT_PORT);
    let config = |config: DhtConfig| {
        let config = config.reply_rate(args.limit_up);
        if args.first {
            config.bootstrap([])
        } else {
            config
        }
    };
    let node = args.entry.start(around, listen, Some(&state), config);
    let node = node.await?;
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
