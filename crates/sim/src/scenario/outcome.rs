//! What came of a run, in figures.

use std::cell::Cell;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::check::{Checker, Violation};
use crate::config::Start;
use crate::ids::{ContentId, HostId};
use crate::manners::Manners;
use crate::observe::{Happening, Observer};
use crate::recording::Recorder;
use crate::seconds;
use crate::world::World;

/// A figure of a run. Times are seconds from when a host came to when it had everything; hosts that never had
/// everything make them infinite. Hostile hosts and those who had everything from the start do not count, unless a
/// group is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// How many have everything.
    Complete,
    /// How many do not.
    Incomplete,
    /// The time of the first.
    Fastest,
    /// The time of the one in the middle.
    Median,
    /// The mean of the times.
    Mean,
    /// The time within which ninety-nine of a hundred are through.
    P99,
    /// The same over the time of the one in the middle.
    P99OfMedian,
    /// The time of the last.
    Slowest,
    /// The least time that any swarm could take.
    Bound,
    /// The slowest, over the least possible.
    OfBound,
    /// What those who had everything from the start have sent, in copies of the content.
    SeedCopies,
    /// The same until every piece was with somebody else.
    FirstCopy,
    /// How many pieces did not match their hashes.
    Failed,
    /// How many hosts somebody would have nothing to do with any more.
    Banned,
    /// How many of those were honest.
    HonestBanned,
    /// How many copies of the rarest piece there are in the end.
    RarestCopies,
    /// How often peers were sought, or told of, elsewhere than at trackers: in the distributed hash table, in the local
    /// network, among each other.
    Elsewhere,
}

impl Metric {
    /// All that are shown.
    pub const ALL: [Self; 17] = [
        Self::Complete,
        Self::Incomplete,
        Self::Fastest,
        Self::Median,
        Self::Mean,
        Self::P99,
        Self::P99OfMedian,
        Self::Slowest,
        Self::Bound,
        Self::OfBound,
        Self::SeedCopies,
        Self::FirstCopy,
        Self::Failed,
        Self::Banned,
        Self::HonestBanned,
        Self::RarestCopies,
        Self::Elsewhere,
    ];

    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
            Self::Fastest => "fastest",
            Self::Median => "median",
            Self::Mean => "mean",
            Self::P99 => "p99",
            Self::P99OfMedian => "p99_of_median",
            Self::Slowest => "slowest",
            Self::Bound => "bound",
            Self::OfBound => "of_bound",
            Self::SeedCopies => "seed_copies",
            Self::FirstCopy => "first_copy",
            Self::Failed => "failed",
            Self::Banned => "banned",
            Self::HonestBanned => "honest_banned",
            Self::RarestCopies => "rarest_copies",
            Self::Elsewhere => "elsewhere",
        }
    }

    /// A figure as people read it.
    pub fn show(self, value: Option<f64>) -> String {
        match value {
            None => "–".to_owned(),
            Some(value) if value.is_infinite() => "never".to_owned(),
            Some(value) if self.is_count() || value >= 100.0 => format!("{value:.0}"),
            Some(value) if value >= 10.0 => format!("{value:.1}"),
            Some(value) => format!("{value:.2}"),
        }
    }

    /// Whether it counts what should not be.
    pub const fn is_trouble(self) -> bool {
        matches!(
            self,
            Self::Incomplete | Self::Failed | Self::Banned | Self::HonestBanned
        )
    }

    const fn is_count(self) -> bool {
        matches!(
            self,
            Self::Complete
                | Self::Incomplete
                | Self::Failed
                | Self::Banned
                | Self::HonestBanned
                | Self::RarestCopies
                | Self::Elsewhere
        )
    }
}

/// What became of a host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HostOutcome {
    /// Its name.
    pub name: String,
    /// The place of its group.
    #[serde(skip)]
    pub(crate) group: usize,
    /// Whether it had everything from the start.
    pub seed: bool,
    /// Whether it does all that it should.
    pub honest: bool,
    /// When it came, in seconds.
    pub joined: f64,
    /// When it had everything, verified, in seconds.
    pub completed: Option<f64>,
    /// What it has sent, in bytes.
    pub sent_bytes: u64,
    /// What it has received, in bytes.
    pub received_bytes: u64,
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// When it was over, in seconds.
    pub end: f64,
    /// The least time that any swarm could take, in seconds, where that is known.
    pub bound: Option<f64>,
    /// The length of the content, in bytes.
    pub content_bytes: u64,
    /// What came of each host.
    pub hosts: Vec<HostOutcome>,
    /// See [`Metric::FirstCopy`].
    pub first_copy: Option<f64>,
    /// See [`Metric::Failed`].
    pub failed: usize,
    /// The hosts of [`Metric::Banned`].
    #[serde(skip)]
    banned: BTreeSet<u32>,
    /// See [`Metric::RarestCopies`].
    pub rarest_copies: u32,
    /// See [`Metric::Elsewhere`].
    pub elsewhere: u64,
    /// What [must hold](crate::check) in every world and did not.
    #[serde(skip)]
    pub violations: Vec<Violation>,
}

impl Outcome {
    /// A figure, of one group if it is named by its place; `None` if the run has none.
    #[expect(clippy::cast_precision_loss, reason = "counts of hosts and pieces")]
    pub(crate) fn figure(&self, metric: Metric, group: Option<usize>) -> Option<f64> {
        let counted: Vec<&HostOutcome> = self
            .hosts
            .iter()
            .filter(|host| match group {
                Some(group) => host.group == group,
                None => host.honest && !host.seed,
            })
            .collect();
        let count = |wanted: fn(&HostOutcome) -> bool| {
            counted.iter().filter(|host| wanted(host)).count() as f64
        };
        let banned = |wanted: fn(&HostOutcome) -> bool| {
            self.banned
                .iter()
                .filter_map(|host| self.hosts.get(*host as usize))
                .filter(|host| wanted(host))
                .count() as f64
        };
        match metric {
            Metric::Complete => Some(count(|host| host.completed.is_some())),
            Metric::Incomplete => Some(count(|host| host.completed.is_none())),
            Metric::Fastest | Metric::Median | Metric::Mean | Metric::P99 | Metric::Slowest => {
                time(&times(&counted), metric)
            }
            Metric::P99OfMedian => {
                let times = times(&counted);
                Some(time(&times, Metric::P99)? / time(&times, Metric::Median)?)
            }
            Metric::Bound => self.bound,
            Metric::OfBound => Some(time(&times(&counted), Metric::Slowest)? / self.bound?),
            Metric::SeedCopies => {
                let seeds = self.hosts.iter().filter(|host| host.seed);
                Some(copies(
                    seeds.map(|host| host.sent_bytes).sum(),
                    self.content_bytes,
                ))
            }
            Metric::FirstCopy => Some(self.first_copy.unwrap_or(f64::INFINITY)),
            Metric::Failed => Some(self.failed as f64),
            Metric::Banned => Some(banned(|_| true)),
            Metric::HonestBanned => Some(banned(|host| host.honest)),
            Metric::RarestCopies => Some(self.rarest_copies.into()),
            Metric::Elsewhere => Some(self.elsewhere as f64),
        }
    }
}

/// How long each took, ascending.
fn times(hosts: &[&HostOutcome]) -> Vec<f64> {
    let took = |host: &&HostOutcome| host.completed.map_or(f64::INFINITY, |at| at - host.joined);
    let mut times: Vec<f64> = hosts.iter().map(took).collect();
    times.sort_by(f64::total_cmp);
    times
}

fn time(times: &[f64], metric: Metric) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 hosts")]
    let count = times.len() as f64;
    match metric {
        Metric::Fastest => times.first().copied(),
        Metric::Median => times.get(times.len() / 2).copied(),
        Metric::P99 => times
            .get((times.len() * 99).div_ceil(100).saturating_sub(1))
            .copied(),
        Metric::Mean => (!times.is_empty()).then(|| times.iter().sum::<f64>() / count),
        _ => times.last().copied(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shares for people")]
fn copies(bytes: u64, of: u64) -> f64 {
    bytes as f64 / of.max(1) as f64
}

/// Looks at a run for its outcome, and keeps a record if one is wanted.
pub(crate) struct Watcher<'a> {
    content: ContentId,
    /// Who is yet to have everything, or to go.
    waiting: Vec<bool>,
    /// How many those are.
    left: &'a Cell<usize>,
    /// When each had everything.
    completed: Vec<Option<f64>>,
    first_copy: Option<f64>,
    failed: usize,
    banned: BTreeSet<u32>,
    recorder: Option<Recorder>,
    checker: Checker,
}

impl<'a> Watcher<'a> {
    pub(crate) fn new(
        world: &World,
        content: ContentId,
        recorder: Option<Recorder>,
        left: &'a Cell<usize>,
    ) -> Self {
        // Those who only take are waited for as well; what comes of liars is of no interest.
        let takes = |manners: &Manners| {
            Manners {
                free_rider: false,
                ..manners.clone()
            }
            .is_honest()
        };
        let is_wanting = |host: &crate::host::Host| {
            takes(&host.config.manners) && host.config.start != Start::Full
        };
        let waiting: Vec<bool> = world.hosts().map(|(_, host)| is_wanting(host)).collect();
        left.set(waiting.iter().filter(|waits| **waits).count());
        Self {
            content,
            left,
            completed: vec![None; waiting.len()],
            waiting,
            first_copy: None,
            failed: 0,
            banned: BTreeSet::new(),
            recorder,
            checker: Checker::new(),
        }
    }

    fn settle(&mut self, host: HostId) {
        if let Some(waits) = self.waiting.get_mut(host.as_usize())
            && std::mem::take(waits)
        {
            self.left.set(self.left.get() - 1);
        }
    }

    /// What came of it, and the record.
    pub(crate) fn finish(
        self,
        world: &World,
        groups: &[usize],
        bound: Option<f64>,
    ) -> (Outcome, Option<Recorder>) {
        let each = world.hosts().zip(groups).zip(self.completed);
        let hosts = each.map(|(((_, host), group), completed)| {
            let tally = host.tally();
            HostOutcome {
                name: host.config.name.clone(),
                group: *group,
                seed: host.config.start == Start::Full,
                honest: host.config.manners.is_honest(),
                joined: tally.joined_at.map_or(0.0, seconds::of),
                completed,
                sent_bytes: tally.sent_bytes,
                received_bytes: tally.received_bytes,
            }
        });
        let outcome = Outcome {
            end: seconds::of(world.now()),
            bound,
            content_bytes: world.content(self.content).len_bytes(),
            hosts: hosts.collect(),
            first_copy: self.first_copy,
            failed: self.failed,
            banned: self.banned,
            rarest_copies: rarest(world, self.content),
            elsewhere: world.counts().elsewhere,
            violations: self.checker.finish(world),
        };
        (outcome, self.recorder)
    }
}

/// How many of those who are there have the rarest piece.
fn rarest(world: &World, content: ContentId) -> u32 {
    let mut copies = vec![0; world.content(content).pieces() as usize];
    for have in world.hosts().filter_map(|(_, host)| host.have()) {
        have.ones().for_each(|piece| copies[piece.as_usize()] += 1);
    }
    copies.into_iter().min().unwrap_or(0)
}

impl Observer for Watcher<'_> {
    fn wants_reasons(&self) -> bool {
        self.recorder.as_ref().is_some_and(Observer::wants_reasons)
    }

    fn observe(&mut self, world: &World, happenings: &[Happening]) {
        for happening in happenings {
            match happening {
                Happening::Verified { host, .. } => {
                    if world.host(*host).has_all() {
                        self.completed[host.as_usize()].get_or_insert(seconds::of(world.now()));
                        self.settle(*host);
                    }
                    if self.first_copy.is_none() && world.is_spread(self.content) {
                        let seeds = world
                            .hosts()
                            .filter(|(_, host)| host.config.start == Start::Full);
                        let sent = seeds.map(|(_, host)| host.tally().sent_bytes).sum();
                        self.first_copy =
                            Some(copies(sent, world.content(self.content).len_bytes()));
                    }
                }
                Happening::Left { host } => self.settle(*host),
                Happening::Failed { .. } => self.failed += 1,
                Happening::Banned {
                    host: Some(host), ..
                } => {
                    self.banned.insert(host.0);
                }
                _ => {}
            }
        }
        self.checker.observe(world, happenings);
        if let Some(recorder) = &mut self.recorder {
            recorder.observe(world, happenings);
        }
    }
}
