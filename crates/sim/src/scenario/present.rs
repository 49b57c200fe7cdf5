//! A scenario's results for people.

use super::file::Scenario;
use super::outcome::Metric;
use super::run::Ran;
use crate::report::{Chart, Labelled, Report, Table};

/// The columns of a table of runs.
const COLUMNS: [(Metric, &str); 9] = [
    (Metric::Complete, "complete"),
    (Metric::Incomplete, "incomplete"),
    (Metric::Median, "median s"),
    (Metric::Slowest, "slowest s"),
    (Metric::OfBound, "× least possible"),
    (Metric::SeedCopies, "copies from the seed"),
    (Metric::FirstCopy, "until each piece was out"),
    (Metric::Failed, "wrong pieces"),
    (Metric::Banned, "banned"),
];

/// The runs of one seed beside each other; groups of those who want something have a line each if there are several.
pub fn table(scenario: &Scenario, runs: &[Ran]) -> Table {
    let mut rows: Vec<(String, Vec<Option<f64>>)> = Vec::new();
    for ran in runs {
        let figures = |group| {
            COLUMNS
                .iter()
                .map(|(metric, _)| ran.outcome.figure(*metric, group))
                .collect()
        };
        rows.push((ran.label.clone(), figures(None)));
        let wanting = wanting(scenario, ran);
        if wanting.len() > 1 {
            for group in wanting {
                let name = &scenario.hosts[group].name;
                let label = if ran.label.is_empty() {
                    name.clone()
                } else {
                    format!("{}: {name}", ran.label)
                };
                let mut row: Vec<Option<f64>> = figures(Some(group));
                // What is of the whole run stands in the line of the run.
                row.iter_mut().skip(4).for_each(|figure| *figure = None);
                rows.push((label, row));
            }
        }
    }
    // A column that says nothing is left out.
    let says = |column: usize| {
        let mut told = rows.iter().filter_map(|(_, figures)| figures[column]);
        if COLUMNS[column].0.is_trouble() {
            told.any(|value| value > 0.0)
        } else {
            told.next().is_some()
        }
    };
    let shown: Vec<usize> = (0..COLUMNS.len()).filter(|column| says(*column)).collect();
    Table {
        title: "What came of it".to_owned(),
        heads: std::iter::once("run")
            .chain(shown.iter().map(|column| COLUMNS[*column].1))
            .map(str::to_owned)
            .collect(),
        rows: rows
            .into_iter()
            .map(|(label, figures)| {
                let label = if label.is_empty() {
                    "all".to_owned()
                } else {
                    label
                };
                let cells = shown
                    .iter()
                    .map(|column| COLUMNS[*column].0.show(figures[*column]));
                std::iter::once(label).chain(cells).collect()
            })
            .collect(),
    }
}

/// The groups that want something, by their places.
fn wanting(scenario: &Scenario, ran: &Ran) -> Vec<usize> {
    let wants = |group: &usize| {
        ran.outcome
            .hosts
            .iter()
            .any(|host| host.group == *group && !host.seed)
    };
    (0..scenario.hosts.len()).filter(wants).collect()
}

/// The chart of a scenario, if it has one.
pub fn chart(scenario: &Scenario, runs: &[Ran]) -> Option<Chart> {
    let chart = scenario.chart.as_ref()?;
    let placed =
        || {
            scenario.runs.iter().zip(runs).filter_map(|(run, ran)| {
                Some((run.x?, run.curve.as_deref().unwrap_or_default(), ran))
            })
        };
    let mut x: Vec<f64> = placed().map(|(x, ..)| x).collect();
    x.sort_by(f64::total_cmp);
    x.dedup();
    let mut curves: Vec<(String, Vec<Option<f64>>)> = Vec::new();
    for (at, name, ran) in placed() {
        if !curves.iter().any(|(known, _)| known == name) {
            curves.push((name.to_owned(), vec![None; x.len()]));
        }
        let value = ran
            .outcome
            .figure(chart.metric, None)
            .filter(|value| value.is_finite());
        let place = x.iter().position(|known| known.total_cmp(&at).is_eq());
        if let Some((curve, place)) = curves
            .iter_mut()
            .find(|(known, _)| known == name)
            .zip(place)
        {
            curve.1[place] = value;
        }
    }
    Some(Chart {
        title: chart.title.clone(),
        x_label: chart.x.clone(),
        y_label: chart.y.clone(),
        x,
        curves,
    })
}

/// A scenario and what came of it as a page. `replay` is the command that makes it again.
pub fn report<'a>(scenario: &Scenario, runs: &'a [Ran], replay: String) -> Report<'a> {
    let kept = runs
        .iter()
        .filter_map(|ran| Some((&ran.label, ran.recording.as_ref()?)));
    Report {
        title: scenario.title.clone(),
        about: scenario.about.clone(),
        runs: kept
            .map(|(label, recording)| Labelled {
                label: label.clone(),
                recording,
            })
            .collect(),
        tables: if runs.len() > 1 {
            vec![table(scenario, runs)]
        } else {
            Vec::new()
        },
        charts: chart(scenario, runs).into_iter().collect(),
        replay,
    }
}
