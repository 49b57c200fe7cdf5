//! `riverrun simulate science`: published results and physical bounds, measured.

use riverrun_sim::science::{Experiment, Finding};
use serde_json::json;

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::screen::Screen;
use crate::summary::count;

/// The name by which it is asked for.
pub(super) const NAME: &str = "science";

/// Runs the experiments whose numbers begin with `only`, or all.
pub(super) fn run(only: Option<&str>, seed: u64, screen: &mut Screen) -> Outcome {
    let wanted = |experiment: &&Experiment| only.is_none_or(|only| experiment.id.starts_with(only));
    let experiments: Vec<&Experiment> = Experiment::ALL.iter().filter(wanted).collect();
    if experiments.is_empty() {
        let text = "there is no such experiment";
        return Err(Failure::say(ExitCode::Usage, text).about(only.unwrap_or(NAME)));
    }
    let mut missed = 0;
    for experiment in &experiments {
        if !screen.is_json() {
            screen.line(&format!("{}: {}", experiment.id, experiment.title))?;
        }
        for finding in experiment.run(seed) {
            missed += usize::from(!finding.holds());
            tell(experiment, &finding, seed, screen)?;
        }
    }
    screen.event(&json!({"event": "done", "experiments": experiments.len(), "missed": missed}))?;
    if missed == 0 {
        return Ok(());
    }
    let text = format!(
        "{} not hold",
        count(missed, "claim") + if missed == 1 { " does" } else { " do" }
    );
    Err(Failure::say(ExitCode::Other, text).about(NAME))
}

fn tell(experiment: &Experiment, finding: &Finding, seed: u64, screen: &mut Screen) -> Outcome {
    let Finding { claim, measured } = finding;
    let finite = |limit: f64| limit.is_finite().then_some(limit);
    screen.event(&json!({
        "event": "finding", "experiment": experiment.id, "title": experiment.title, "source": experiment.source,
        "seed": seed, "what": claim.what, "measured": measured, "least": finite(claim.least),
        "most": finite(claim.most), "holds": finding.holds(),
    }))?;
    if screen.is_json() {
        return Ok(());
    }
    let verdict = if finding.holds() {
        "holds"
    } else {
        "does NOT hold"
    };
    screen.line(&format!(
        "  {}: {measured:.3}, expected {claim}: {verdict}",
        claim.what
    ))
}
