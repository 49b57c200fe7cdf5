//! Who has which torrent.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use riverrun_base::InfoHash;
use riverrun_engine::{
    Announce as AnnounceAs, Finding, NodeId, PeersQuestion, Question, draw_secret,
};
use serde_json::{Value, json};

use super::{VisitFlags, done_event, hashes};
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::screen::{Screen, Surroundings};

/// The arguments of `dht get-peers`.
#[derive(clap::Args, Debug)]
pub(crate) struct GetPeers {
    /// An info-hash, a magnet link or a torrent file
    #[arg(value_name = "TORRENT")]
    torrent: String,
    /// Count seeds and downloaders too (BEP 33)
    #[arg(long)]
    scrape: bool,
    #[command(flatten)]
    visit: VisitFlags,
}

/// The arguments of `dht announce`.
#[derive(clap::Args, Debug)]
pub(crate) struct Announce {
    /// An info-hash, a magnet link or a torrent file
    #[arg(value_name = "TORRENT")]
    torrent: String,
    /// The port where the torrent is given
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// All of it is here (BEP 33)
    #[arg(long)]
    seed: bool,
    #[command(flatten)]
    visit: VisitFlags,
}

/// The arguments of `dht sample`.
#[derive(clap::Args, Debug)]
pub(crate) struct Sample {
    /// Nodes near this id are asked; a random one if there is none
    #[arg(value_name = "ID")]
    near: Option<InfoHash>,
    #[command(flatten)]
    visit: VisitFlags,
}

pub(crate) async fn get(args: &GetPeers, around: &Surroundings, screen: &mut Screen) -> Outcome {
    let hashes = hashes(&args.torrent, around)?;
    let node = args.visit.start(around).await?;
    let mut known = BTreeSet::new();
    for hash in hashes.wire() {
        let question = PeersQuestion {
            scrape: args.scrape,
            ..PeersQuestion::new(hash)
        };
        let show = |finding| match finding {
            Finding::Peers(peers) => peers.into_iter().try_for_each(|peer| {
                screen.event(&peer_event(peer, hash))?;
                // Most who have a hybrid torrent are found by both of its names.
                if known.insert(peer) {
                    screen.finding(&peer.to_string())?;
                }
                screen.flush()
            }),
            _ => Ok(()),
        };
        let report = args
            .visit
            .ask(&node, Question::Peers(question), show)
            .await?;
        screen.event(&done_event(&report))?;
        screen.detail(format!("{hash}: {} nodes have answered", report.answers));
        if let Some((peers, seeds)) = report.scrape {
            let (peers, seeds) = (peers.round(), seeds.round());
            screen.event(&json!({
                "event": "scrape", "info_hash": hash.to_string(), "seeders": seeds, "leechers": peers,
            }))?;
            screen.say(format!("about {seeds} seeding, {peers} downloading"));
        }
    }
    node.shutdown().await;
    if known.is_empty() {
        return Err(Failure::say(
            ExitCode::NotFound,
            "no node knows a peer of it",
        ));
    }
    Ok(())
}

fn peer_event(peer: SocketAddr, hash: InfoHash) -> Value {
    json!({ "event": "peer", "addr": peer.to_string(), "info_hash": hash.to_string() })
}

pub(crate) async fn announce(
    args: &Announce,
    around: &Surroundings,
    screen: &mut Screen,
) -> Outcome {
    let hashes = hashes(&args.torrent, around)?;
    let node = args.visit.start(around).await?;
    let mut stored = 0;
    for hash in hashes.wire() {
        let announce = AnnounceAs::at(args.port, args.seed);
        let question = PeersQuestion {
            announce: Some(announce),
            ..PeersQuestion::new(hash)
        };
        let question = Question::Peers(question);
        let report = args.visit.ask(&node, question, |_| Ok(())).await?;
        screen.event(&done_event(&report))?;
        if report.stored > 0 {
            screen.done(format!("{hash}: announced to {} nodes", report.stored));
        }
        stored += report.stored;
    }
    node.shutdown().await;
    if stored == 0 {
        return Err(Failure::say(ExitCode::Network, "no node has taken it"));
    }
    Ok(())
}

fn random_id() -> NodeId {
    let secret = draw_secret();
    NodeId(std::array::from_fn(|at| secret[at]))
}

pub(crate) async fn sample(args: &Sample, around: &Surroundings, screen: &mut Screen) -> Outcome {
    let node = args.visit.start(around).await?;
    let near = args.near.map_or_else(random_id, NodeId::from);
    let mut known = BTreeSet::new();
    let show = |finding| match finding {
        Finding::Samples {
            from,
            info_hashes,
            count,
            interval,
        } => {
            let hashes: Vec<_> = info_hashes.iter().map(ToString::to_string).collect();
            screen.event(&json!({
                "event": "samples", "from": from.to_string(), "info_hashes": hashes, "count": count,
                "interval_secs": interval.as_secs(),
            }))?;
            // Neighbours have stored the same.
            let mut new = info_hashes.iter().filter(|hash| known.insert(**hash));
            new.try_for_each(|hash| screen.finding(&hash.to_string()))
        }
        _ => Ok(()),
    };
    let report = args.visit.ask(&node, Question::Samples(near), show).await?;
    node.shutdown().await;
    screen.event(&done_event(&report))
}
