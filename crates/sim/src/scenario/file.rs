//! The file of a scenario, as it is written.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use riverrun_base::{BLOCK_LEN, ByteSize};
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use super::expect::Expectation;
use super::group::Group;
use crate::config::WorldConfig;
use crate::content::Version;

/// The most hosts of one run.
const HOSTS_MAX: usize = 100_000;
/// The most runs of one scenario.
const RUNS_MAX: usize = 100;
/// The most pieces.
const PIECES_MAX: u32 = 100_000;

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a few words.
    pub title: String,
    /// The story to tell, a paragraph each; the first is the most important sentence.
    #[serde(default)]
    pub about: Vec<String>,
    /// The seed of the run, unless another is asked for.
    #[serde(default = "one")]
    pub seed: u64,
    /// It takes minutes of a processor: not for tests.
    #[serde(default)]
    pub long: bool,
    /// A run that is not over by then ends, in seconds of its own time.
    pub(crate) limit: f64,
    /// What is spread.
    pub(crate) content: ContentFile,
    /// The network and the trackers; its seed is that of the scenario.
    #[serde(default)]
    pub(crate) world: WorldConfig,
    /// Who takes part, in the order in which they are shown.
    pub(crate) hosts: Vec<Group>,
    /// What is done to them.
    #[serde(default)]
    pub(crate) actions: Vec<Planned>,
    /// The runs, side by side; one plain run if there are none.
    #[serde(default)]
    pub(crate) runs: Vec<RunFile>,
    /// A chart over all runs that have a place on it.
    pub(crate) chart: Option<ChartFile>,
    /// What must come of it.
    #[serde(default)]
    pub(crate) expect: Vec<Expectation>,
}

/// What is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContentFile {
    /// How many pieces.
    pub(crate) pieces: u32,
    /// How long each is; a multiple of 16 KiB.
    pub(crate) piece_size: Size,
    /// Which hashes it has.
    #[serde(default)]
    pub(crate) version: Version,
    /// Found through its trackers alone (BEP 27).
    #[serde(default)]
    pub(crate) private: bool,
}

impl ContentFile {
    /// How many blocks a piece has.
    pub(crate) fn blocks(&self) -> u32 {
        u32::try_from(self.piece_size.0 / u64::from(BLOCK_LEN)).unwrap_or(u32::MAX)
    }
}

/// A number of bytes, or of bytes a second, written as people do: `"256KiB"`, `"4MB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, like \"256KiB\"")
            }

            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(E::custom)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                let text = text.trim_end_matches("/s");
                ByteSize::from_str(text)
                    .map(|size| Size(size.0))
                    .map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// One of the runs: what is different in it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunFile {
    /// Its name among the others.
    pub(crate) label: String,
    /// What is different for all hosts.
    pub(crate) all: Option<Group>,
    /// What is different for a group of hosts.
    #[serde(default)]
    pub(crate) hosts: BTreeMap<String, Group>,
    /// Whether the content is private, if it is not as the scenario says.
    pub(crate) private: Option<bool>,
    /// Whether what is done to hosts is done in this run.
    pub(crate) actions: Option<bool>,
    /// The curve of the chart to which it belongs.
    pub(crate) curve: Option<String>,
    /// Its abscissa there.
    pub(crate) x: Option<f64>,
    /// Whether it can be played in a report; by default those without an abscissa.
    pub(crate) play: Option<bool>,
}

impl RunFile {
    /// Whether it can be played in a report.
    pub(crate) fn is_played(&self) -> bool {
        self.play.unwrap_or(self.x.is_none())
    }
}

/// A chart over runs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChartFile {
    /// What it shows.
    pub(crate) title: String,
    /// What the abscissa is.
    pub(crate) x: String,
    /// What the ordinate is.
    pub(crate) y: String,
    /// Which figure the ordinate is.
    pub(crate) metric: super::outcome::Metric,
}

/// Something that is done at a time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Planned {
    /// When, in seconds.
    pub(crate) at: f64,
    /// What.
    #[serde(rename = "do")]
    pub(crate) what: Deed,
}

/// Something that is done to a run. Hosts are named by name or by group.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Deed {
    /// Say goodbye and go.
    Leave(String),
    /// End without a word.
    Crash(String),
    /// The power fails: what was not synced is lost, and nobody is told.
    PowerCut(String),
    /// Start again after a crash.
    Restart(String),
    /// The bytes of a piece rot on the disk.
    Spoil {
        /// Whose disk.
        host: String,
        /// Which piece.
        piece: u32,
    },
    /// The lines become faster or slower; without a rate, nothing limits them.
    Rates {
        /// Whose.
        host: String,
        /// The uplink.
        up: Option<Size>,
        /// The downlink.
        down: Option<Size>,
    },
    /// These cannot reach the others, nor be reached.
    CutOff(String),
    /// Everybody can reach everybody again.
    Heal,
    /// A tracker, by its place, answers nobody.
    TrackerDown(usize),
    /// It answers again.
    TrackerUp(usize),
    /// A remark for whoever reads.
    Note(String),
}

/// A file that is no scenario.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidScenario {
    /// It is no TOML, or not of this form. The message names the line.
    #[error("{0}")]
    Form(String),
    /// A value makes no sense.
    #[error("{what}: {why}")]
    Value {
        /// Which value.
        what: String,
        /// Why.
        why: String,
    },
}

/// A value that makes no sense, and why.
pub(crate) fn wrong(what: impl Into<String>, why: impl Into<String>) -> InvalidScenario {
    let (what, why) = (what.into(), why.into());
    InvalidScenario::Value { what, why }
}

const fn one() -> u64 {
    1
}

impl Scenario {
    /// Reads a scenario.
    pub fn parse(text: &str) -> Result<Self, InvalidScenario> {
        let mut scenario: Self = toml::from_str(text)
            .map_err(|e| InvalidScenario::Form(e.to_string().trim_end().to_owned()))?;
        if scenario.runs.is_empty() {
            scenario.runs.push(RunFile::default());
        }
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), InvalidScenario> {
        if !(self.limit > 0.0 && self.limit.is_finite()) {
            return Err(wrong("limit", "must be a time, in seconds"));
        }
        self.check_content()?;
        if self.runs.len() > RUNS_MAX {
            return Err(wrong(
                "runs",
                format!("{} are more than {RUNS_MAX}", self.runs.len()),
            ));
        }
        for run in &self.runs {
            let known = |name: &&String| !self.hosts.iter().any(|group| group.name == **name);
            if let Some(unknown) = run.hosts.keys().find(known) {
                return Err(wrong(
                    format!("run {:?}", run.label),
                    format!("there is no group {unknown:?}"),
                ));
            }
            let count: usize = self.groups(run).iter().map(Group::count).sum();
            if !(1..=HOSTS_MAX).contains(&count) {
                return Err(wrong(
                    "hosts",
                    format!("{count} are not between 1 and {HOSTS_MAX}"),
                ));
            }
        }
        self.check_names()
    }

    fn check_content(&self) -> Result<(), InvalidScenario> {
        let ContentFile {
            pieces, piece_size, ..
        } = self.content;
        if !(1..=PIECES_MAX).contains(&pieces) {
            return Err(wrong(
                "content.pieces",
                format!("{pieces} is not between 1 and {PIECES_MAX}"),
            ));
        }
        let is_whole = piece_size.0.is_multiple_of(u64::from(BLOCK_LEN));
        if !is_whole || !(1..=4096).contains(&self.content.blocks()) {
            return Err(wrong(
                "content.piece_size",
                "must be a multiple of 16 KiB, 64 MiB at most",
            ));
        }
        if self.content.version != Version::V1 && !piece_size.0.is_power_of_two() {
            return Err(wrong(
                "content.piece_size",
                "must be a power of two with v2",
            ));
        }
        Ok(())
    }

    /// What the story, the actions and the expectations name must exist.
    fn check_names(&self) -> Result<(), InvalidScenario> {
        let labels: Vec<&str> = self.runs.iter().map(|run| run.label.as_str()).collect();
        for expectation in &self.expect {
            expectation.check(&labels, &self.hosts)?;
        }
        for planned in &self.actions {
            if !(planned.at >= 0.0 && planned.at.is_finite()) {
                return Err(wrong("actions.at", format!("{} is no time", planned.at)));
            }
            self.check_place(&planned.what)?;
            let Some(name) = planned.what.host() else {
                continue;
            };
            if !self.hosts.iter().any(|group| group.answers_to(name)) {
                return Err(wrong(
                    "actions",
                    format!("there is no host or group {name:?}"),
                ));
            }
        }
        Ok(())
    }

    /// A tracker or piece to which something is done must exist.
    fn check_place(&self, deed: &Deed) -> Result<(), InvalidScenario> {
        let trackers = self.world.trackers.iter().flatten().count();
        let what = match deed {
            Deed::TrackerDown(place) | Deed::TrackerUp(place) if *place >= trackers => {
                format!("there is no tracker {place}: the first is 0")
            }
            Deed::Spoil { piece, .. } if *piece >= self.content.pieces => {
                format!("there is no piece {piece}: the first is 0")
            }
            _ => return Ok(()),
        };
        Err(wrong("actions", what))
    }

    /// The groups as they are in a run.
    pub(crate) fn groups(&self, run: &RunFile) -> Vec<Group> {
        self.hosts
            .iter()
            .map(|group| {
                let own = run.hosts.get(&group.name);
                group.clone().changed(run.all.as_ref()).changed(own)
            })
            .collect()
    }
}

impl Deed {
    /// The host or group to which it is done.
    fn host(&self) -> Option<&str> {
        match self {
            Self::Leave(host)
            | Self::Crash(host)
            | Self::PowerCut(host)
            | Self::Restart(host)
            | Self::CutOff(host)
            | Self::Spoil { host, .. }
            | Self::Rates { host, .. } => Some(host),
            Self::Heal | Self::TrackerDown(_) | Self::TrackerUp(_) | Self::Note(_) => None,
        }
    }
}
