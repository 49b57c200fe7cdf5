//! What must come of a scenario.

use serde::Deserialize;

use super::file::{InvalidScenario, wrong};
use super::group::Group;
use super::outcome::{Metric, Outcome};
use super::run::Ran;

/// A figure and where it must lie.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expectation {
    /// Which figure.
    pub(crate) metric: Metric,
    /// In which run; in each if none is named.
    pub(crate) run: Option<String>,
    /// Of which hosts.
    pub(crate) group: Option<String>,
    /// As a multiple of the same figure in this run.
    pub(crate) over_run: Option<String>,
    /// As a multiple of the same figure of these hosts.
    pub(crate) over_group: Option<String>,
    /// The least that it must be.
    pub(crate) min: Option<f64>,
    /// The most that it must be.
    pub(crate) max: Option<f64>,
}

/// An expectation that a run did not meet.
#[derive(Clone, Debug, PartialEq)]
pub struct Missed {
    /// What was expected, and what came of it.
    pub text: String,
}

impl Expectation {
    /// What it names must exist.
    pub(crate) fn check(&self, labels: &[&str], groups: &[Group]) -> Result<(), InvalidScenario> {
        if self.min.is_none() && self.max.is_none() {
            return Err(wrong(
                format!("expect {}", self.metric.name()),
                "needs min, max or both",
            ));
        }
        for run in [&self.run, &self.over_run].into_iter().flatten() {
            if !labels.contains(&run.as_str()) {
                return Err(wrong("expect", format!("there is no run {run:?}")));
            }
        }
        for group in [&self.group, &self.over_group].into_iter().flatten() {
            if !groups.iter().any(|known| known.name == *group) {
                return Err(wrong("expect", format!("there is no group {group:?}")));
            }
        }
        Ok(())
    }

    /// Holds it against what came of the runs of one seed.
    pub(crate) fn hold(&self, runs: &[Ran], groups: &[Group]) -> Vec<Missed> {
        let meant = |ran: &&Ran| self.run.as_ref().is_none_or(|run| *run == ran.label);
        runs.iter()
            .filter(meant)
            .filter_map(|ran| self.hold_one(ran, runs, groups))
            .collect()
    }

    fn hold_one(&self, ran: &Ran, runs: &[Ran], groups: &[Group]) -> Option<Missed> {
        let place = |name: &Option<String>| {
            name.as_ref()
                .and_then(|name| groups.iter().position(|g| g.name == *name))
        };
        let figure = |outcome: &Outcome, group| outcome.figure(self.metric, group);
        let mut value = figure(&ran.outcome, place(&self.group));
        if self.over_run.is_some() || self.over_group.is_some() {
            let other = self
                .over_run
                .as_ref()
                .and_then(|label| runs.iter().find(|ran| ran.label == *label));
            let group = self.over_group.as_ref().or(self.group.as_ref()).cloned();
            let base = figure(&other.unwrap_or(ran).outcome, place(&group));
            value = value.zip(base).map(|(value, base)| value / base);
        }
        let is_met = value.is_some_and(|value| {
            self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
        });
        (!is_met).then(|| Missed {
            text: self.tell(ran, value),
        })
    }

    /// `random: slowest over rarest first is 1.01, not at least 1.05`.
    fn tell(&self, ran: &Ran, value: Option<f64>) -> String {
        let mut text = String::new();
        if !ran.label.is_empty() {
            text = format!("{}: ", ran.label);
        }
        text.push_str(self.metric.name());
        let parts = [
            (" of ", &self.group),
            (" over ", &self.over_run),
            (" over ", &self.over_group),
        ];
        for (word, name) in parts {
            if let Some(name) = name {
                text = format!("{text}{word}{name}");
            }
        }
        let value = value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.3}"));
        let limits = [("at least", self.min), ("at most", self.max)];
        let limits = limits
            .iter()
            .filter_map(|(word, limit)| Some(format!("{word} {}", (*limit)?)));
        format!(
            "{text} is {value}, not {}",
            limits.collect::<Vec<_>>().join(" and ")
        )
    }
}
