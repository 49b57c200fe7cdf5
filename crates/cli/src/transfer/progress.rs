//! How a transfer is shown: bars for a person at a terminal, a line an event for a log, JSON for a program.

use std::fmt::Display;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar};
use riverrun_base::{ByteSize, InfoHashes, Rate};
use riverrun_engine::{TorrentHandle, TorrentState, TorrentStats};
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};
use crate::screen::Screen;
use crate::visible::visible;

/// JSON events of progress come this often at most.
const JSON_INTERVAL: Duration = Duration::from_secs(1);

/// Info-hashes as fields of an event.
pub(crate) fn hashes_json(hashes: InfoHashes) -> Value {
    json!({
        "info_hash_v1": hashes.v1().map(|hash| hash.to_string()),
        "info_hash_v2": hashes.v2().map(|hash| hash.to_string()),
    })
}

/// Joins the fields of two JSON objects.
pub(crate) fn joined(mut first: Value, second: Value) -> Value {
    if let (Value::Object(fields), Value::Object(more)) = (&mut first, second) {
        fields.extend(more);
    }
    first
}

/// The screen during a transfer.
pub(crate) struct Progress<'a> {
    screen: &'a mut Screen,
    bars: MultiProgress,
    /// Programs want to know how it goes, not only what comes of it.
    has_events: bool,
}

/// One torrent's place on the screen.
#[derive(Debug)]
pub(crate) struct TorrentLine {
    bar: ProgressBar,
    reported_at: Option<Instant>,
}

impl TorrentLine {
    /// Takes the torrent's bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl<'a> Progress<'a> {
    pub(crate) fn new(screen: &'a mut Screen) -> Self {
        let bars = screen.bars();
        Self {
            screen,
            bars,
            has_events: true,
        }
    }

    /// For a command whose events are its data: of how it goes, only people are told.
    pub(crate) fn without_events(screen: &'a mut Screen) -> Self {
        Self {
            has_events: false,
            ..Self::new(screen)
        }
    }

    /// A place for one more torrent.
    pub(crate) fn add_line(&mut self) -> TorrentLine {
        let bar = self.bars.add(self.screen.transfer_bar());
        TorrentLine {
            bar,
            reported_at: None,
        }
    }

    /// A place for one more line of text that changes.
    pub(crate) fn add_text(&mut self) -> ProgressBar {
        self.bars.add(Screen::text_bar())
    }

    /// Whether events are wanted.
    pub(crate) const fn is_json(&self) -> bool {
        self.screen.is_json()
    }

    /// Whether lines may have colours.
    pub(crate) const fn is_coloured(&self) -> bool {
        self.screen.is_coloured()
    }

    /// An event for programs.
    pub(crate) fn event(&mut self, event: &Value) -> Outcome {
        if self.has_events {
            self.screen.event(event)
        } else {
            Ok(())
        }
    }

    /// Something for people, above the bars.
    pub(crate) fn say(&mut self, text: impl Display) {
        let screen = &mut *self.screen;
        self.bars.suspend(|| screen.say(text));
    }

    /// A detail for people who asked for details.
    pub(crate) fn detail(&mut self, text: impl Display) {
        let screen = &mut *self.screen;
        self.bars.suspend(|| screen.detail(text));
    }

    /// Something that should not be so.
    pub(crate) fn warn(&mut self, text: impl Display) {
        let screen = &mut *self.screen;
        self.bars.suspend(|| screen.warn(text));
    }

    /// The failure of one torrent, told now: the others go on.
    pub(crate) fn failure(&mut self, failure: Failure) -> Failure {
        let screen = &mut *self.screen;
        self.bars.suspend(|| screen.tell_failure(failure))
    }

    /// The end of one torrent's download.
    pub(crate) fn done(&mut self, text: impl Display) {
        let screen = &mut *self.screen;
        self.bars.suspend(|| screen.done(text));
    }

    /// Shows where a torrent is now.
    pub(crate) fn update(
        &mut self,
        line: &mut TorrentLine,
        torrent: &TorrentHandle,
        stats: &TorrentStats,
    ) -> Outcome {
        // A bar of nothing would be full.
        if stats.state != TorrentState::Metadata {
            line.bar.set_length(stats.wanted_bytes);
        }
        line.bar.set_position(got_bytes(stats));
        line.bar.set_prefix(visible(&torrent.name()).into_owned());
        line.bar.set_message(visible(&tail(stats)).into_owned());
        let due = line
            .reported_at
            .is_none_or(|at| at.elapsed() >= JSON_INTERVAL);
        if !self.screen.is_json() || !due {
            return Ok(());
        }
        line.reported_at = Some(Instant::now());
        self.event(&progress_event(torrent, stats))
    }
}

fn progress_event(torrent: &TorrentHandle, stats: &TorrentStats) -> Value {
    json!({
        "event": "progress",
        "name": torrent.name(),
        "info_hash": torrent.info_hashes().primary().to_string(),
        "state": state_name(&stats.state),
        "verified_bytes": got_bytes(stats),
        "wanted_bytes": stats.wanted_bytes,
        "down_bytes_per_s": stats.download_rate.bytes_per_second(),
        "up_bytes_per_s": stats.upload_rate.bytes_per_second(),
        "downloaded_bytes": stats.downloaded_bytes,
        "uploaded_bytes": stats.uploaded_bytes,
        "peers": stats.connected,
        "utp_peers": stats.utp,
        "seeds": stats.seeds,
        "web_seeds": stats.web_seeds,
    })
}

/// One word for what a torrent does; the vocabulary of `--json`.
pub(crate) const fn state_name(state: &TorrentState) -> &'static str {
    match state {
        TorrentState::Stopped => "stopped",
        TorrentState::Opening => "opening",
        TorrentState::Metadata => "metadata",
        TorrentState::Checking => "checking",
        TorrentState::Downloading => "downloading",
        TorrentState::Finished => "finished",
        TorrentState::Seeding => "seeding",
        TorrentState::Faulted(_) => "faulted",
        TorrentState::Stopping => "stopping",
        TorrentState::Invalid(_) => "invalid",
        _ => "unknown",
    }
}

/// How much of what is wanted is there.
pub(crate) const fn got_bytes(stats: &TorrentStats) -> u64 {
    stats.wanted_bytes.saturating_sub(stats.wanted_left_bytes)
}

/// What stands behind the bar.
fn tail(stats: &TorrentStats) -> String {
    let (down, up) = (stats.download_rate, stats.upload_rate);
    let peers = match stats.utp {
        0 => format!("peers {}", stats.connected),
        utp => format!("peers {} ({utp} uTP)", stats.connected),
    };
    let peers = match stats.web_seeds {
        0 => peers,
        web_seeds => format!("{peers}  web seeds {web_seeds}"),
    };
    match &stats.state {
        TorrentState::Metadata => format!("asking for the metadata  {peers}"),
        TorrentState::Checking => "checking what is there".to_owned(),
        TorrentState::Downloading if stats.connected + stats.web_seeds == 0 => {
            "looking for peers".to_owned()
        }
        TorrentState::Downloading => {
            let left = stats.wanted_left_bytes;
            format!("↓ {down} ↑ {up}  {peers}{}", eta(left, down))
        }
        TorrentState::Seeding | TorrentState::Finished => {
            format!(
                "seeding  ↑ {up}  {peers}  gave {}",
                ByteSize(stats.uploaded_bytes)
            )
        }
        TorrentState::Faulted(fault) => fault.to_string(),
        state => state_name(state).to_owned(),
    }
}

fn eta(left_bytes: u64, rate: Rate) -> String {
    match left_bytes.checked_div(rate.bytes_per_second()) {
        None => String::new(),
        Some(seconds) => format!("  ETA {}", duration(Duration::from_secs(seconds))),
    }
}

/// A length of time with its two largest units.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_units_at_most() {
        let check = |seconds, text| assert_eq!(duration(Duration::from_secs(seconds)), text);
        assert_eq!(duration(Duration::from_millis(34)), "34 ms");
        check(3, "3.0 s");
        check(59, "59 s");
        check(61, "1 min 1 s");
        check(7_265, "2 h 1 min");
        check(200_000, "2 d 7 h");
    }

    #[test]
    fn no_rate_is_no_promise() {
        assert_eq!(eta(100, Rate::ZERO), "");
        assert_eq!(eta(100, Rate::from_bytes_per_second(1)), "  ETA 1 min 40 s");
    }
}
