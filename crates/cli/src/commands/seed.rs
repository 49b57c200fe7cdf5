//! `riverrun seed`: gives what is there, after checking it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use riverrun_engine::{AddTorrent, Engine, Metainfo, TorrentHandle, TorrentState};
use serde_json::json;

use crate::commands::create::{self, Content};
use crate::commands::get::cannot_add;
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::screen::{Screen, Surroundings};
use crate::signals::{Interrupt, Interrupts};
use crate::torrent;
use crate::transfer::{self, Ending, Feed, NetworkFlags, Progress, SeedGoal, Watched, hashes_json};

/// Seed torrents, or publish files and directories
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
A torrent file is seeded from what lies in DIR, which is checked first. Any other file, or a directory, is
published: its torrent is made, written to NAME.torrent in the current directory if that is not there yet, and
seeded from where the files are.")]
pub(crate) struct Seed {
    /// Torrent files, or files and directories to publish
    #[arg(required = true, value_name = "TORRENT|PATH")]
    sources: Vec<PathBuf>,
    /// The directory in which the torrent's file or directory lies
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// End after a ratio like 2.0, or a time like 30m
    #[arg(long, value_name = "RATIO|TIME")]
    until: Option<SeedGoal>,
    /// Reveal pieces one by one until others have them all: for the first seed of a torrent
    #[arg(long = "super-seed")]
    reveals_slowly: bool,
    #[command(flatten)]
    content: Content,
    #[command(flatten)]
    network: NetworkFlags,
}

/// A torrent and where its data is.
struct Seeded {
    metainfo: Metainfo,
    dir: PathBuf,
}

/// Runs the command.
pub(crate) fn run(args: &Seed, around: &Surroundings, screen: &mut Screen) -> Outcome {
    let mut seeded = Vec::new();
    for source in &args.sources {
        seeded.push(open(source, args, around, screen)?);
    }
    transfer::block_on(serve(args, seeded, around, screen))
}

fn open(source: &Path, args: &Seed, around: &Surroundings, screen: &mut Screen) -> Outcome<Seeded> {
    let path = around.path(source);
    let is_torrent = path.is_file() && path.extension().is_some_and(|ending| ending == "torrent");
    if is_torrent || source == Path::new("-") {
        let argument = source.to_string_lossy();
        let mut metainfo = torrent::read_file(&argument, around)?;
        metainfo.trackers.extend(args.content.tiers());
        return Ok(Seeded {
            metainfo,
            dir: around.path(&args.output),
        });
    }
    let metainfo = create::publish(source, &args.content, around, screen)?;
    let parent = std::path::absolute(&path)
        .ok()
        .and_then(|path| path.parent().map(Path::to_owned));
    let dir =
        parent.ok_or_else(|| Failure::say(ExitCode::Usage, "the root has no name to publish"))?;
    Ok(Seeded { metainfo, dir })
}

async fn serve(
    args: &Seed,
    seeded: Vec<Seeded>,
    around: &Surroundings,
    screen: &mut Screen,
) -> Outcome {
    let mut interrupts = Interrupts::listen()?;
    let engine = transfer::start(&args.network, around).await?;
    let mut progress = Progress::new(screen);
    let outcome = seed_all(args, seeded, &engine, &mut interrupts, &mut progress).await;
    transfer::leave(engine, outcome, &mut interrupts).await
}

async fn seed_all(
    args: &Seed,
    seeded: Vec<Seeded>,
    engine: &Engine,
    interrupts: &mut Interrupts,
    progress: &mut Progress<'_>,
) -> Outcome<Option<Interrupt>> {
    let feed = Feed::of(engine);
    let peers = args.network.resolve_peers(engine).await?;
    let mut torrents = Vec::new();
    for Seeded { metainfo, dir } in seeded {
        let magnet = metainfo.magnet();
        let add = AddTorrent::from_metainfo(metainfo).dir(dir).upload_only();
        let add = add.peers(peers.iter().copied());
        let add = if args.reveals_slowly {
            add.super_seed()
        } else {
            add
        };
        let torrent = engine.add(add).await.map_err(cannot_add)?;
        let checked = tokio::select! {
            biased;
            interrupt = interrupts.next() => return Ok(Some(interrupt)),
            checked = wait_checked(&torrent) => checked,
        };
        checked?;
        tell(engine, &torrent, &magnet.to_string(), progress)?;
        torrents.push(Watched::seeding(torrent, progress));
    }
    let ending = Ending {
        timeout: None,
        metadata_timeout: Duration::MAX,
        seed: Some(args.until.unwrap_or(SeedGoal::Forever)),
        metadata_only: false,
    };
    transfer::watch(feed, torrents, ending, interrupts, progress).await
}

/// Waits until it is known what of a torrent is there; nothing at all is a failure.
pub(crate) async fn wait_checked(torrent: &TorrentHandle) -> Outcome {
    let is_known = |state: &TorrentState| {
        !matches!(
            state,
            TorrentState::Opening | TorrentState::Checking | TorrentState::Stopped
        )
    };
    let state = torrent
        .wait_state(is_known)
        .await
        .map_err(|e| Failure::new(ExitCode::Other, e))?;
    if let TorrentState::Faulted(fault) = state {
        return Err(transfer::storage_failure(&fault));
    }
    if torrent.pieces().none() && !torrent.pieces().is_empty() {
        let place = torrent.root().join(torrent.name());
        let message = format!("{}: nothing of the torrent is there", place.display());
        let code = if place.exists() {
            ExitCode::Mismatch
        } else {
            ExitCode::NotFound
        };
        return Err(Failure::say(code, message).hint("-o names the directory in which it lies"));
    }
    Ok(())
}

fn tell(
    engine: &Engine,
    torrent: &TorrentHandle,
    magnet: &str,
    progress: &mut Progress<'_>,
) -> Outcome {
    let pieces = torrent.pieces();
    let listen: Vec<String> = engine
        .listen_addrs()
        .iter()
        .map(ToString::to_string)
        .collect();
    let event = json!({
        "event": "seeding",
        "name": torrent.name(),
        "complete": pieces.all(),
        "pieces": pieces.count_ones(),
        "pieces_total": pieces.len(),
        "listen": listen,
        "magnet": magnet,
    });
    progress.event(&transfer::joined(event, hashes_json(torrent.info_hashes())))?;
    if !pieces.all() {
        let (have, of) = (pieces.count_ones(), pieces.len());
        progress.warn(format!(
            "{}: {have} of {of} pieces are there, only these are given",
            torrent.name()
        ));
    }
    progress.done(format!(
        "seeding {} at {}",
        torrent.name(),
        listen.join(" ")
    ));
    progress.say(format!("  {magnet}"));
    Ok(())
}
