//! `riverrun get`: downloads torrents.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use riverrun_base::InfoHashes;
use riverrun_engine::{
    AddError, AddTorrent, Engine, Magnet, Publications, PublisherLink, TorrentHandle,
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::screen::{Screen, Surroundings};
use crate::signals::{Interrupt, Interrupts};
use crate::torrent::{self, Torrent};
use crate::transfer::{
    self, Ending, Feed, NetworkFlags, Newer, Progress, SeedGoal, Watched, hashes_json,
};
use crate::values::{InvalidDuration, PathGlob, Span, TrackerTier, WebSeed};

/// How long a magnet link may take to its metadata if `--timeout` says nothing.
const METADATA_TIMEOUT: Duration = Duration::from_mins(1);

/// How many newer torrents of a publisher wait until they are watched: the next is not looked for before.
const NEWER_WAITING: usize = 1;

/// Download torrents
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
A download that was interrupted goes on with the same command. What lies in DIR already is checked and used;
a file that is something else is never overwritten.")]
pub(crate) struct Get {
    /// Torrent files, magnet links (to publishers too), info-hashes, URLs of torrent files, or - for a torrent on stdin
    #[arg(required = true, value_name = "TORRENT")]
    sources: Vec<String>,
    /// Put the torrent's file or directory into this directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Only files whose path matches, as in '*.iso' or 'docs/**'; repeat for several
    #[arg(short, long, value_name = "GLOB")]
    select: Vec<PathGlob>,
    /// Go on giving after the download: for ever, to a ratio like 2.0, or for a time like 30m
    #[arg(long, value_name = "RATIO|TIME", num_args = 0..=1, require_equals = true, default_missing_value = "forever")]
    seed: Option<SeedGoal>,
    /// Give up what is not complete after this time, as in 90s, 5m or 2h
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
    /// Ask this tracker too; a comma separates trackers of one tier; repeat for several tiers
    #[arg(short, long, value_name = "URL")]
    tracker: Vec<TrackerTier>,
    /// Download from this web server too, which has the file, or the directory below which all lie; repeat for several
    #[arg(long, value_name = "URL")]
    web_seed: Vec<WebSeed>,
    /// Look so often whether a publisher names a newer torrent, while one of his is downloaded or given (BEP 46)
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_interval)]
    follow: Span,
    /// Fetch pieces in order, for reading while it downloads; slower for the swarm
    #[arg(long)]
    sequential: bool,
    /// Replace files that are in the way and are not the torrent's
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    network: NetworkFlags,
}

/// How often something may be looked for.
fn parse_interval(text: &str) -> Result<Span, String> {
    let span: Span = text
        .parse()
        .map_err(|error: InvalidDuration| error.to_string())?;
    if span.0 < Publications::INTERVAL_MIN {
        let least = Publications::INTERVAL_MIN.as_secs();
        return Err(format!("expected {least}s or more, found {text:?}"));
    }
    Ok(span)
}

/// Runs the command.
pub(crate) fn run(args: &Get, around: &Surroundings, screen: &mut Screen) -> Outcome {
    let mut read = Vec::new();
    let mut failure = None;
    for source in &args.sources {
        match read_argument(source, around) {
            Ok(source) => read.push(source),
            Err(wrong) => failure = failure.or(Some(screen.tell_failure(wrong))),
        }
    }
    let done = if read.is_empty() {
        Ok(())
    } else {
        transfer::block_on(download(args, read, around, screen))
    };
    match (done, failure) {
        (Ok(()), Some(failure)) => Err(failure),
        (done, _) => done,
    }
}

async fn download(
    args: &Get,
    arguments: Vec<Argument>,
    around: &Surroundings,
    screen: &mut Screen,
) -> Outcome {
    let mut interrupts = Interrupts::listen()?;
    let engine = transfer::start(&args.network, around).await?;
    let mut progress = Progress::new(screen);
    let transfer = transfer(
        args,
        arguments,
        around,
        &engine,
        &mut interrupts,
        &mut progress,
    )
    .await;
    transfer::leave(engine, transfer, &mut interrupts).await
}

async fn transfer(
    args: &Get,
    arguments: Vec<Argument>,
    around: &Surroundings,
    engine: &Engine,
    interrupts: &mut Interrupts,
    progress: &mut Progress<'_>,
) -> Outcome<Option<Interrupt>> {
    let feed = Feed::of(engine);
    let taken = tokio::select! {
        biased;
        interrupt = interrupts.next() => Err(interrupt),
        taken = take_in(args, arguments, around, engine, progress) => Ok(taken?),
    };
    let taken = match taken {
        Ok(taken) => taken,
        Err(interrupt) => {
            progress.say("interrupted before the download began; the same command goes on");
            return Ok(Some(interrupt));
        }
    };
    let timeout = args.timeout.map(|Span(time)| time);
    let ending = Ending {
        timeout,
        metadata_timeout: timeout.unwrap_or(METADATA_TIMEOUT),
        seed: args.seed,
        metadata_only: false,
    };
    let watched = transfer::watch(feed, taken.watched, ending, interrupts, progress).await?;
    match (watched, taken.failure) {
        (None, Some(failure)) => Err(failure),
        (interrupt, _) => Ok(interrupt),
    }
}

/// What became of the arguments.
#[derive(Default)]
struct Taken {
    watched: Vec<Watched>,
    /// The first failure; all have been told.
    failure: Option<Failure>,
}

/// Adds all sources side by side. One that is slow or fails does not harm the others.
async fn take_in(
    args: &Get,
    arguments: Vec<Argument>,
    around: &Surroundings,
    engine: &Engine,
    progress: &mut Progress<'_>,
) -> Outcome<Taken> {
    let named = args.network.resolve_peers(engine);
    let peers = in_time(args.timeout, "--peer", named).await?;
    let dir = around.path(&args.output);
    let mut adding = JoinSet::new();
    for argument in arguments {
        let is_known = matches!(
            argument,
            Argument::Source(Source::Torrent(Torrent::File(_)))
        );
        let taking = Taking {
            args: args.clone(),
            dir: dir.clone(),
            peers: peers.clone(),
            engine: engine.clone(),
        };
        adding.spawn(async move { (taking.take(argument).await, is_known) });
    }
    let mut taken = Taken::default();
    while let Some(added) = adding.join_next().await {
        let (added, is_known) = added.map_err(|error| Failure::new(ExitCode::Other, error))?;
        let (torrent, newer) = match added {
            Ok(added) => added,
            Err(failure) => {
                let failure = progress.failure(failure);
                taken.failure.get_or_insert(failure);
                continue;
            }
        };
        progress.event(&added_event(&torrent))?;
        progress.detail(format!("{}: added", torrent.name()));
        let mut watching = Watched::new(torrent, progress);
        if !is_known {
            watching.select_later(args.select.clone());
        }
        if let Some(newer) = newer {
            watching.replaced_by(Newer::new(newer, args.select.clone()));
        }
        taken.watched.push(watching);
    }
    Ok(taken)
}

/// What a publisher names later.
type Incoming = mpsc::Receiver<Outcome<TorrentHandle>>;

/// How sources become torrents.
#[derive(Clone)]
struct Taking {
    args: Get,
    dir: PathBuf,
    peers: Vec<SocketAddr>,
    engine: Engine,
}

impl Taking {
    /// Takes a source in, or what a publisher names, now and later.
    async fn take(self, argument: Argument) -> Outcome<(TorrentHandle, Option<Incoming>)> {
        let link = match argument {
            Argument::Source(source) => return Ok((self.add(source).await?, None)),
            Argument::Publisher(link) => *link,
        };
        let (publications, named) = self.look_up(link).await?;
        let torrent = self.add(named).await?;
        let (sender, newer) = mpsc::channel(NEWER_WAITING);
        tokio::spawn(self.follow(publications, torrent.clone(), sender));
        Ok((torrent, Some(newer)))
    }

    /// What a publisher names now, and what tells of the rest.
    async fn look_up(&self, link: PublisherLink) -> Outcome<(Publications, Source)> {
        let what = link.to_string();
        let looking = async {
            let publications = self.engine.publications(link, self.args.follow.0);
            let mut publications = publications.map_err(cannot_add)?;
            let named = publications
                .look()
                .await
                .map_err(|error| cannot_add(error.into()))?;
            let magnet = named.ok_or_else(|| cannot_add(AddError::NotPublished))?;
            Ok((publications, Source::named(magnet)))
        };
        in_time(self.args.timeout, &what, looking).await
    }

    async fn add(&self, source: Source) -> Outcome<TorrentHandle> {
        let what = source.to_string();
        let add = source
            .into_add(&self.args.select)?
            .dir(&self.dir)
            .peers(self.peers.iter().copied());
        let adding = async {
            let added = self.engine.add(configure(add, &self.args)).await;
            added.map_err(|error| match error {
                AddError::Metainfo(_) => cannot_add(error).about(&what),
                error => cannot_add(error),
            })
        };
        in_time(self.args.timeout, &what, adding).await
    }

    /// Puts the torrent that a publisher names in the place of the one that he named before, whenever he names another.
    /// Ends with the engine, or when nobody watches any more.
    async fn follow(
        self,
        mut publications: Publications,
        mut torrent: TorrentHandle,
        newer: mpsc::Sender<Outcome<TorrentHandle>>,
    ) {
        loop {
            let named = tokio::select! {
                named = publications.next() => named,
                () = newer.closed() => return,
            };
            let Ok(magnet) = named else {
                return;
            };
            if magnet
                .hashes
                .wire()
                .any(|hash| torrent.info_hashes().matches(hash))
            {
                continue;
            }
            // Both may have files of the same names: the old one must have let go of them.
            if torrent.remove().await.is_err() {
                return;
            }
            let added = self.add(Source::named(magnet)).await;
            let next = added.as_ref().ok().cloned();
            match (newer.send(added).await, next) {
                (Ok(()), Some(next)) => torrent = next,
                _ => return,
            }
        }
    }
}

/// Does something that asks others, within the time that the user gives it.
pub(crate) async fn in_time<T>(
    time: Option<Span>,
    what: &str,
    work: impl Future<Output = Outcome<T>>,
) -> Outcome<T> {
    let Some(Span(time)) = time else {
        return work.await;
    };
    let late = |_| {
        let message = format!("{what}: no answer after {}", transfer::duration(time));
        Failure::say(ExitCode::Network, message)
    };
    tokio::time::timeout(time, work).await.map_err(late)?
}

fn configure(mut add: AddTorrent, args: &Get) -> AddTorrent {
    for tier in &args.tracker {
        add = add.tracker_tier(tier.0.iter().cloned());
    }
    add = add.web_seeds(args.web_seed.iter().filter_map(WebSeed::url));
    if args.sequential {
        add = add.sequential();
    }
    if args.overwrite {
        add = add.overwrite();
    }
    add
}

fn added_event(torrent: &TorrentHandle) -> serde_json::Value {
    let event = json!({ "event": "added", "name": torrent.name() });
    transfer::joined(event, hashes_json(torrent.info_hashes()))
}

pub(crate) fn cannot_add(error: AddError) -> Failure {
    let code = match &error {
        AddError::Metainfo(_) | AddError::Magnet(_) => ExitCode::BadTorrent,
        AddError::Fetch { .. } => ExitCode::Network,
        AddError::NotPublished => ExitCode::NotFound,
        AddError::Read { .. } => ExitCode::Io,
        _ => ExitCode::Other,
    };
    Failure::new(code, error)
}

/// What is to be downloaded.
#[derive(Debug)]
enum Argument {
    Source(Source),
    /// Whatever a publisher names.
    Publisher(Box<PublisherLink>),
}

/// Where a torrent comes from.
#[derive(Debug)]
enum Source {
    Torrent(Torrent),
    Hashes(InfoHashes),
    Url(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torrent(Torrent::File(metainfo)) => f.write_str(metainfo.info.name()),
            Self::Torrent(Torrent::Link(magnet)) => magnet.hashes.primary().fmt(f),
            Self::Hashes(hashes) => hashes.primary().fmt(f),
            Self::Url(url) => f.write_str(url),
        }
    }
}

fn read_argument(argument: &str, around: &Surroundings) -> Outcome<Argument> {
    match torrent::read_publisher(argument) {
        Some(link) => link.map(|link| Argument::Publisher(Box::new(link))),
        None => read_source(argument, around).map(Argument::Source),
    }
}

fn read_source(argument: &str, around: &Surroundings) -> Outcome<Source> {
    let is_url = ["http://", "https://"].iter().any(|scheme| {
        argument
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    });
    if is_url {
        return Ok(Source::Url(argument.to_owned()));
    }
    if let Some(hashes) = torrent::parse_hashes(argument, around) {
        return Ok(Source::Hashes(hashes));
    }
    torrent::read(argument, around).map(Source::Torrent)
}

impl Source {
    fn named(magnet: Magnet) -> Self {
        Self::Torrent(Torrent::Link(Box::new(magnet)))
    }

    fn into_add(self, select: &[PathGlob]) -> Outcome<AddTorrent> {
        match self {
            Self::Url(url) => Ok(held_back(AddTorrent::from_url(url), select)),
            Self::Hashes(hashes) => Ok(held_back(AddTorrent::from_info_hashes(hashes), select)),
            Self::Torrent(Torrent::Link(magnet)) => {
                Ok(held_back(AddTorrent::from_magnet(*magnet), select))
            }
            Self::Torrent(Torrent::File(metainfo)) => {
                let priorities = transfer::priorities(&metainfo.info, select)?;
                Ok(AddTorrent::from_metainfo(*metainfo).priorities(priorities))
            }
        }
    }
}

/// With a selection, nothing is fetched before the files are known: see [`Watched::select_later`].
fn held_back(add: AddTorrent, select: &[PathGlob]) -> AddTorrent {
    if select.is_empty() {
        add
    } else {
        add.skip_all_files()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_are_not_looked_for_all_the_time() {
        let check = |text, expect: Result<u64, &str>| {
            let expect = expect.map(Duration::from_secs).map_err(str::to_owned);
            assert_eq!(parse_interval(text).map(|span| span.0), expect, "{text}");
        };
        check("1", Ok(1));
        check("2h", Ok(7200));
        check("0", Err("expected 1s or more, found \"0\""));
        check("0m", Err("expected 1s or more, found \"0m\""));
        assert!(parse_interval("often").is_err());
    }
}
