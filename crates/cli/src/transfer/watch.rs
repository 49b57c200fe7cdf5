//! Watches torrents until each has reached its end: complete, given up, out of time, or interrupted.

mod newer;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use riverrun_base::ByteSize;
use riverrun_engine::{
    BroadcastStream, Engine, Event, NetworkState, Revision, StorageFault, TorrentHandle,
    TorrentKey, TorrentState, TorrentStats, WaitError, Why,
};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_stream::StreamExt as _;

pub(crate) use newer::Newer;

use super::mappings::{self, Mappings};
use super::progress::{Progress, TorrentLine, duration, got_bytes, hashes_json, joined};
use super::select::priorities;
use super::stall::Stall;
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::signals::{Interrupt, Interrupts};
use crate::values::{PathGlob, Span};

/// How often the screen follows.
const TICK: Duration = Duration::from_millis(200);

/// How long a torrent goes on after it is complete.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum SeedGoal {
    /// Until the user ends it.
    Forever,
    /// Until it has given this many times its size.
    Ratio(f64),
    /// For this long.
    Time(Duration),
}

/// A text that is no goal for seeding.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected a ratio like 2.0, a time like 30m, or forever, found {0:?}")]
pub(crate) struct InvalidSeedGoal(String);

impl FromStr for SeedGoal {
    type Err = InvalidSeedGoal;

    fn from_str(text: &str) -> Result<Self, InvalidSeedGoal> {
        if text == "forever" {
            return Ok(Self::Forever);
        }
        if let Ok(ratio) = text.parse::<f64>()
            && ratio.is_finite()
            && ratio >= 0.0
        {
            return Ok(Self::Ratio(ratio));
        }
        text.parse()
            .map(|Span(time)| Self::Time(time))
            .map_err(|_| InvalidSeedGoal(text.to_owned()))
    }
}

impl SeedGoal {
    fn is_reached(self, stats: &TorrentStats, since: Instant) -> bool {
        match self {
            Self::Forever => false,
            #[expect(
                clippy::cast_precision_loss,
                reason = "a ratio needs no more than 52 bits"
            )]
            Self::Ratio(ratio) => {
                stats.uploaded_bytes as f64 >= ratio * stats.wanted_bytes.max(1) as f64
            }
            Self::Time(time) => since.elapsed() >= time,
        }
    }
}

/// One torrent being watched.
pub(crate) struct Watched {
    pub(crate) torrent: TorrentHandle,
    line: TorrentLine,
    /// Its figures when they last changed.
    stats: Option<TorrentStats>,
    added_at: Instant,
    /// Downloading began; checks before do not count into the speed.
    downloading_since: Option<Instant>,
    completed_at: Option<Instant>,
    outcome: Option<Outcome>,
    tracker_failed: Option<String>,
    had_peers: bool,
    stall: Stall,
    /// What is wanted of a magnet link's files, once they are known.
    select: Vec<PathGlob>,
    newer: Option<Newer>,
}

impl Watched {
    pub(crate) fn new(torrent: TorrentHandle, progress: &mut Progress<'_>) -> Self {
        Self {
            torrent,
            line: progress.add_line(),
            stats: None,
            added_at: Instant::now(),
            downloading_since: None,
            completed_at: None,
            outcome: None,
            tracker_failed: None,
            had_peers: false,
            stall: Stall::new(std::time::Instant::now()),
            select: Vec::new(),
            newer: None,
        }
    }

    /// Wants only files that match, as soon as the metadata tells which there are.
    pub(crate) fn select_later(&mut self, select: Vec<PathGlob>) {
        self.select = select;
    }

    async fn select_now(&mut self) -> Outcome {
        let Some(info) = self.torrent.info().filter(|_| !self.select.is_empty()) else {
            return Ok(());
        };
        let priorities = priorities(&info, &std::mem::take(&mut self.select))?;
        let stopped = |e| Failure::new(ExitCode::Other, e);
        let chosen = self.torrent.set_priorities(priorities).await;
        chosen.map_err(stopped)?;
        // Until that is carried out the torrent is complete, as nothing was wanted: whoever is answered comes after it.
        let _ = self.torrent.stats().await;
        Ok(())
    }

    /// For a torrent whose data is there already: its end is the goal of seeding, not completion.
    pub(crate) fn seeding(torrent: TorrentHandle, progress: &mut Progress<'_>) -> Self {
        Self {
            completed_at: Some(Instant::now()),
            ..Self::new(torrent, progress)
        }
    }

    /// It is downloading now.
    fn begins(&mut self) {
        self.downloading_since.get_or_insert_with(Instant::now);
    }

    fn is_over(&self) -> bool {
        self.outcome.is_some()
    }

    /// It is left before its end: says what stays of a download, and how that goes on.
    fn break_off(&self, ending: Ending, progress: &mut Progress<'_>) {
        self.line.finish();
        if self.completed_at.is_some() || ending.metadata_only {
            return;
        }
        let name = self.torrent.name();
        let (have, of) = match &self.stats {
            Some(stats) if self.torrent.info().is_some() => {
                (ByteSize(got_bytes(stats)), ByteSize(stats.wanted_bytes))
            }
            _ => {
                progress.say(format!(
                    "{name}: interrupted before there was anything to keep"
                ));
                return;
            }
        };
        progress.say(format!(
            "{name}: interrupted: {have} of {of} stay, and the same command goes on from there"
        ));
    }

    fn end(&mut self, outcome: Outcome) {
        self.line.finish();
        // Nobody is waited for any longer.
        self.newer = None;
        self.outcome = Some(outcome);
    }
}

/// When to give up, and when to stop seeding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// Give up what is not complete by then.
    pub(crate) timeout: Option<Duration>,
    /// Give up a magnet link whose metadata has not come by then.
    pub(crate) metadata_timeout: Duration,
    /// Go on after completion; `None` ends at once.
    pub(crate) seed: Option<SeedGoal>,
    /// The metadata is all that is wanted.
    pub(crate) metadata_only: bool,
}

/// What an engine has to tell, from the moment on at which this was made: before the first torrent is added, so that
/// nothing is missed.
pub(crate) struct Feed {
    engine: Engine,
    /// Up to where changes were asked for.
    revision: Revision,
    events: BroadcastStream<Event>,
    network: Receiver<NetworkState>,
    mappings: Mappings,
}

impl Feed {
    pub(crate) fn of(engine: &Engine) -> Self {
        let (events, mut network) = (engine.events(), engine.network());
        if *network.borrow() != NetworkState::Online {
            network.mark_changed();
        }
        Self {
            engine: engine.clone(),
            revision: Revision::START,
            events,
            network,
            mappings: Mappings::of(engine),
        }
    }

    /// Brings the figures of the torrents that have changed up to date; one that was removed is over.
    async fn catch_up(&mut self, torrents: &mut [Watched]) -> Outcome {
        let changes = self.engine.changes(self.revision).await;
        let changes = changes.map_err(|e| Failure::new(ExitCode::Other, e))?;
        self.revision = changes.revision;
        for (torrent, stats) in changes.torrents {
            if let Some(watched) = running(torrents, torrent.key()) {
                watched.stats = Some(stats);
            }
        }
        for key in changes.removed {
            if let Some(watched) = running(torrents, key) {
                watched.removed();
            }
        }
        Ok(())
    }
}

/// Watches until all torrents are over. Gives the first failure, or the signal that ended it.
pub(crate) async fn watch(
    mut feed: Feed,
    mut torrents: Vec<Watched>,
    ending: Ending,
    interrupts: &mut Interrupts,
    progress: &mut Progress<'_>,
) -> Outcome<Option<Interrupt>> {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while torrents.iter().any(|watched| !watched.is_over()) {
        tokio::select! {
            biased;
            interrupt = interrupts.next() => {
                for watched in torrents.iter().filter(|watched| !watched.is_over()) {
                    watched.break_off(ending, progress);
                }
                return Ok(Some(interrupt));
            }
            Some(event) = feed.events.next() => {
                // A listener that lags misses talk; what counts is asked for at each tick.
                if let Ok(event) = event {
                    note_event(&mut torrents, &event, progress)?;
                    let may_end = matches!(event, Event::Completed { .. } | Event::Metadata { .. });
                    let may_end = may_end
                        .then(|| running(&mut torrents, event.torrent()))
                        .flatten();
                    if let Some(watched) = may_end {
                        refresh(watched).await?;
                        follow(watched, ending, progress).await?;
                    }
                }
            }
            Ok(()) = feed.network.changed() => {
                let state = feed.network.borrow_and_update().clone();
                note_network(&state, progress)?;
            }
            mapping = feed.mappings.next() => mappings::tell(&mapping, progress)?,
            _ = tick.tick() => {
                feed.catch_up(&mut torrents).await?;
                for watched in torrents.iter_mut().filter(|watched| !watched.is_over()) {
                    follow(watched, ending, progress).await?;
                }
            }
        }
    }
    let outcomes = torrents.into_iter().filter_map(|watched| watched.outcome);
    outcomes.collect::<Outcome<Vec<()>>>().map(|_| None)
}

/// Tells that the network that the user allows has gone, or come back.
fn note_network(state: &NetworkState, progress: &mut Progress<'_>) -> Outcome {
    if let NetworkState::Offline { why } = state {
        progress.event(&json!({ "event": "network", "state": "offline", "message": why }))?;
        progress.warn(format!("network: {why}: nothing is sent until it is back"));
    } else {
        progress.event(&json!({ "event": "network", "state": "online" }))?;
        progress.say("network: it is back");
    }
    Ok(())
}

/// The torrent of a key, unless it is over.
fn running(torrents: &mut [Watched], key: TorrentKey) -> Option<&mut Watched> {
    torrents
        .iter_mut()
        .find(|watched| watched.torrent.key() == key && !watched.is_over())
}

/// Asks for the figures of one torrent now.
async fn refresh(watched: &mut Watched) -> Outcome {
    match watched.torrent.stats().await {
        Ok(stats) => watched.stats = Some(stats),
        Err(WaitError::Removed) => watched.removed(),
        Err(error) => return Err(Failure::new(ExitCode::Other, error)),
    }
    Ok(())
}

/// Brings the screen up to date with one torrent, and sees whether it is over.
async fn follow(watched: &mut Watched, ending: Ending, progress: &mut Progress<'_>) -> Outcome {
    if watched.replace(progress)? {
        // What changed before it was watched is told by nobody again.
        refresh(watched).await?;
    }
    if watched.is_over() {
        return Ok(());
    }
    let Some(stats) = watched.stats.take() else {
        return Ok(());
    };
    let followed = follow_stats(watched, &stats, ending, progress).await;
    watched.stats.get_or_insert(stats);
    followed
}

async fn follow_stats(
    watched: &mut Watched,
    stats: &TorrentStats,
    ending: Ending,
    progress: &mut Progress<'_>,
) -> Outcome {
    watched.had_peers |= stats.connected + stats.web_seeds > 0;
    if ending.metadata_only && watched.torrent.info().is_some() {
        watched.end(Ok(()));
        return Ok(());
    }
    if stats.state == TorrentState::Downloading {
        watched.begins();
    }
    progress.update(&mut watched.line, &watched.torrent, stats)?;
    if watched.completed_at.is_none() {
        explain(watched, stats, progress).await?;
    }
    // With nothing selected yet, nothing is wanted, and that would be complete.
    let is_complete = watched.select.is_empty() && watched.torrent.is_completed();
    if watched.completed_at.is_none() && is_complete {
        watched.completed_at = Some(Instant::now());
        announce_done(watched, stats, progress)?;
    }
    let over = match watched.select_now().await {
        Ok(()) => verdict(watched, stats, ending),
        failed => Some(failed),
    };
    if let Some(outcome) = over {
        if outcome.is_err() {
            // What is there stays, and the others go on; this one holds no files or peers any longer.
            let _ = watched.torrent.request_stop().await;
        }
        watched.end(outcome);
    }
    Ok(())
}

/// Says why nothing comes, if nothing has for a while.
async fn explain(
    watched: &mut Watched,
    stats: &TorrentStats,
    progress: &mut Progress<'_>,
) -> Outcome {
    let now = std::time::Instant::now();
    let Some(lasts) = watched.stall.lasts(now, stats.downloaded_bytes) else {
        return Ok(());
    };
    // It may just have been removed, which is seen the next time.
    let Ok(why) = watched.torrent.why().await else {
        return Ok(());
    };
    let is_news = watched.stall.is_news(why);
    if let Some(why) = watched.stall.reason().filter(|_| is_news) {
        let name = watched.torrent.name();
        progress.event(&stalled_event(&name, lasts, why)?)?;
        progress.say(format!("{name}: nothing for {}: {why}", duration(lasts)));
    }
    Ok(())
}

/// The reason for programs: its code, and what it knows more under names of its own.
fn stalled_event(name: &str, lasts: Duration, why: &Why) -> Outcome<Value> {
    let told = serde_json::to_value(why).map_err(|e| Failure::new(ExitCode::Other, e))?;
    let details = told.get(why.code()).filter(|details| details.is_object());
    Ok(json!({
        "event": "stalled",
        "name": name,
        "code": why.code(),
        "details": details.cloned().unwrap_or_else(|| json!({})),
        "message": why.to_string(),
        "seconds": lasts.as_secs(),
    }))
}

/// Whether a torrent is over, and how.
fn verdict(watched: &Watched, stats: &TorrentStats, ending: Ending) -> Option<Outcome> {
    if let Some(at) = watched.completed_at {
        return ending
            .seed
            .is_none_or(|goal| goal.is_reached(stats, at))
            .then_some(Ok(()));
    }
    if let TorrentState::Faulted(fault) = &stats.state {
        return Some(Err(storage_failure(fault)));
    }
    if let TorrentState::Invalid(why) = &stats.state {
        let message = format!(
            "{}: what peers have makes no torrent: {why}",
            watched.torrent.name()
        );
        return Some(Err(Failure::say(ExitCode::BadTorrent, message)));
    }
    let waited = watched.added_at.elapsed();
    if ending.timeout.is_some_and(|timeout| waited >= timeout) {
        return Some(Err(out_of_time(watched, stats, waited, ending)));
    }
    let no_metadata = watched.torrent.info().is_none() && waited >= ending.metadata_timeout;
    no_metadata.then(|| Err(no_metadata_failure(watched, waited, ending)))
}

/// The failure for a fault of storage, with its exit code.
pub(crate) fn storage_failure(fault: &StorageFault) -> Failure {
    let failure = |code| Failure::new(code, fault.clone());
    match fault {
        StorageFault::Conflict { .. } => failure(ExitCode::Exists)
            .hint("nothing was overwritten: move it away, choose another -o, or say --overwrite"),
        StorageFault::Changed { .. } => failure(ExitCode::Exists)
            .hint("nothing was overwritten: put it right, or say the same command to fetch again what is wrong"),
        StorageFault::Locked { .. } => {
            failure(ExitCode::Exists).hint("the other process has to end first")
        }
        StorageFault::NoSpace { .. } => {
            failure(ExitCode::Io).hint("nothing is lost: the same command goes on where it was")
        }
        _ => failure(ExitCode::Io),
    }
}

fn out_of_time(
    watched: &Watched,
    stats: &TorrentStats,
    waited: Duration,
    ending: Ending,
) -> Failure {
    if watched.torrent.info().is_none() {
        return no_metadata_failure(watched, waited, ending);
    }
    let name = watched.torrent.name();
    if let Some(message) = watched
        .tracker_failed
        .as_ref()
        .filter(|_| !watched.had_peers)
    {
        return Failure::say(
            ExitCode::Network,
            format!("{name}: no peer found: {message}"),
        );
    }
    let (have, of) = (ByteSize(got_bytes(stats)), ByteSize(stats.wanted_bytes));
    let why = watched.stall.clause();
    let what = format!("{name}: {have} of {of} after {}{why}", duration(waited));
    Failure::say(ExitCode::Incomplete, what).hint("the same command goes on where it was")
}

fn no_metadata_failure(watched: &Watched, waited: Duration, ending: Ending) -> Failure {
    let what = format!(
        "magnet metadata of {} not found after {}{}",
        watched.torrent.name(),
        duration(waited),
        watched.stall.clause()
    );
    let failure = Failure::say(ExitCode::NotFound, what);
    let failure = match &watched.tracker_failed {
        Some(message) => failure.hint(format!("a tracker failed: {message}")),
        None => failure,
    };
    failure.hint(if ending.metadata_only {
        "name a peer with --peer or a tracker in the link, or raise --timeout"
    } else {
        "add a tracker with --tracker or a peer with --peer, or raise --timeout"
    })
}

fn announce_done(
    watched: &mut Watched,
    stats: &TorrentStats,
    progress: &mut Progress<'_>,
) -> Outcome {
    let torrent = &watched.torrent;
    let took = watched
        .downloading_since
        .map_or(Duration::ZERO, |since| since.elapsed());
    let path = path_of(torrent);
    let rate = average(stats.downloaded_bytes, took);
    let event = json!({
        "event": "done",
        "name": torrent.name(),
        "path": path.display().to_string(),
        "bytes": stats.wanted_bytes,
        "downloaded_bytes": stats.downloaded_bytes,
        "seconds": took.as_secs_f64(),
        "bytes_per_s": rate,
        "pieces": torrent.pieces().count_ones(),
    });
    progress.event(&joined(event, hashes_json(torrent.info_hashes())))?;
    let size = ByteSize(stats.wanted_bytes);
    let pieces = torrent.pieces();
    let verified = format!("verified {}/{} pieces", pieces.count_ones(), pieces.len());
    if stats.downloaded_bytes == 0 {
        progress.done(format!(
            "{}  {size}, {verified} → {}",
            torrent.name(),
            path.display()
        ));
    } else {
        let speed = format!("in {} (avg {}/s)", duration(took), ByteSize(rate));
        progress.done(format!(
            "{}  {size} {speed}, {verified} → {}",
            torrent.name(),
            path.display()
        ));
    }
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people, of positive numbers"
)]
fn average(bytes: u64, time: Duration) -> u64 {
    (bytes as f64 / time.as_secs_f64().max(0.001)) as u64
}

/// Where a torrent's file, or directory of files, is.
pub(crate) fn path_of(torrent: &TorrentHandle) -> PathBuf {
    torrent.root().join(torrent.name())
}

/// A tracker has failed.
fn note_tracker(
    watched: &mut Watched,
    (url, message): (&str, &str),
    progress: &mut Progress<'_>,
) -> Outcome {
    let (name, text) = (watched.torrent.name(), format!("{url}: {message}"));
    progress.event(
        &json!({ "event": "tracker_failed", "name": name, "url": url, "message": message }),
    )?;
    // Said once: a tracker that stays away is no news.
    if watched.tracker_failed.as_ref() != Some(&text) {
        progress.warn(format!("{name}: {text}"));
    }
    watched.tracker_failed = Some(text);
    Ok(())
}

/// A web seed has failed.
fn note_web_seed(name: &str, event: &Event, progress: &mut Progress<'_>) -> Outcome {
    let Event::WebSeedFailed {
        url,
        message,
        retry,
        ..
    } = event
    else {
        return Ok(());
    };
    progress.event(&json!({
        "event": "web_seed_failed",
        "name": name,
        "url": url.as_str(),
        "message": message,
        "retry_secs": retry.map(|wait| wait.as_secs()),
    }))?;
    let text = format!("{name}: {url}: {message}");
    match retry {
        // One that is busy is no news; others, and peers, go on.
        Some(wait) => progress.detail(format!("{text}, used again in {}", duration(*wait))),
        None => progress.warn(format!("{text}, not used any more")),
    }
    Ok(())
}

/// What an event has to tell people and programs.
fn note_event(torrents: &mut [Watched], event: &Event, progress: &mut Progress<'_>) -> Outcome {
    let key: TorrentKey = event.torrent();
    let Some(watched) = torrents
        .iter_mut()
        .find(|watched| watched.torrent.key() == key)
    else {
        return Ok(());
    };
    let name = watched.torrent.name();
    match event {
        Event::State {
            state: TorrentState::Downloading,
            ..
        } => watched.begins(),
        Event::Metadata { info, .. } => {
            let event =
                json!({ "event": "metadata", "name": info.name(), "bytes": info.raw().len() });
            progress.event(&joined(event, hashes_json(info.hashes())))?;
            progress.say(format!("{}: metadata found", info.name()));
        }
        Event::PieceFailed { piece, .. } => {
            progress.event(&json!({ "event": "piece_failed", "name": name, "piece": piece.0 }))?;
            progress.detail(format!("{name}: piece {piece} was wrong and comes again"));
        }
        Event::PeerBanned { ip, .. } => {
            progress
                .event(&json!({ "event": "peer_banned", "name": name, "ip": ip.to_string() }))?;
            progress.detail(format!("{name}: {ip} sent wrong data and is banned"));
        }
        Event::Announced {
            url,
            peers,
            warning,
            ..
        } => {
            watched.tracker_failed = None;
            progress.event(
                &json!({ "event": "announced", "name": name, "url": url, "peers": peers }),
            )?;
            progress.detail(format!("{name}: {url} named {peers} peers"));
            if let Some(warning) = warning {
                progress.warn(format!("{name}: {url} says: {warning}"));
            }
        }
        Event::TrackerFailed { url, message, .. } => {
            note_tracker(watched, (url, message), progress)?;
        }
        Event::WebSeedFailed { .. } => note_web_seed(&name, event, progress)?,
        Event::United { .. } => {
            progress.event(&json!({ "event": "united", "name": name }))?;
            progress.say(format!(
                "{name}: the same torrent as another one here, and goes on as that"
            ));
        }
        Event::Broken { message, .. } => {
            progress.warn(format!("{name}: stopped by a bug in riverrun: {message}"));
            let failure = Failure::say(ExitCode::Other, format!("{name}: {message}"));
            watched.end(Err(failure));
        }
        event => note_storage(&name, event, progress)?,
    }
    Ok(())
}

/// What an event has to tell of what happens to the files.
fn note_storage(name: &str, event: &Event, progress: &mut Progress<'_>) -> Outcome {
    match event {
        Event::FileChanged { path, .. } => {
            progress.event(&json!({ "event": "file_changed", "name": name, "path": path }))?;
            progress.warn(format!(
                "{name}: {path} was changed by another program: it is checked, and only what is right is given"
            ));
        }
        Event::State {
            state: TorrentState::Faulted(fault),
            ..
        } => {
            let message = fault.to_string();
            progress.event(&json!({ "event": "fault", "name": name, "message": message }))?;
            progress.detail(format!("{name}: {message}"));
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_a_ratio_or_a_time() {
        assert_eq!("2".parse(), Ok(SeedGoal::Ratio(2.0)));
        assert_eq!("1.5".parse(), Ok(SeedGoal::Ratio(1.5)));
        assert_eq!("30m".parse(), Ok(SeedGoal::Time(Duration::from_mins(30))));
        assert_eq!("forever".parse(), Ok(SeedGoal::Forever));
        for wrong in ["", "-1", "nan", "x", "5y"] {
            assert!(wrong.parse::<SeedGoal>().is_err(), "{wrong}");
        }
    }
}
