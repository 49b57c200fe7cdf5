//! `riverrun simulate chaos`: random worlds with random faults, judged by what must hold.

use riverrun_sim::chaos::{Outcome as Ended, Plan, draw, shrink};
use serde_json::json;

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::screen::Screen;
use crate::summary::count;

/// The name by which it is asked for.
pub(super) const NAME: &str = "chaos";

/// Runs the worlds of so many seeds.
pub(super) fn run(first: u64, seeds: u64, screen: &mut Screen) -> Outcome {
    screen.say("Random worlds in which random things go wrong; nothing of what riverrun promises may break.");
    let (mut events, mut failed) = (0, Vec::new());
    for seed in (0..seeds).map(|n| first.wrapping_add(n)) {
        let plan = draw(seed);
        let ended = plan.run();
        events += ended.events;
        tell(seed, &ended, screen)?;
        if let Some(violation) = ended.violations.first() {
            screen.warn(format!("seed {seed}: {violation}"));
            if failed.is_empty() {
                let (smaller, _) = shrink(&plan, violation.property);
                show(&smaller, screen)?;
            }
            failed.push(seed);
        }
    }
    screen.event(&json!({"event": "done", "seeds": seeds, "missed": failed.len()}))?;
    if !screen.is_json() {
        screen.line(&format!(
            "{}, {events} events: {} failed",
            count(usize::try_from(seeds).unwrap_or(usize::MAX), "world"),
            failed.len()
        ))?;
    }
    let Some(seed) = failed.first() else {
        return Ok(());
    };
    let text = format!("{} went wrong", count(failed.len(), "world"));
    Err(Failure::say(ExitCode::Other, text)
        .about(NAME)
        .hint(format!(
            "see it again: riverrun simulate chaos --seed {seed}"
        )))
}

/// Runs one world from its plan, as `chaos` gives it for one that fails.
pub(super) fn run_plan(name: &str, plan: &Plan, screen: &mut Screen) -> Outcome {
    let ended = plan.run();
    tell(plan.seed, &ended, screen)?;
    for violation in &ended.violations {
        screen.warn(violation.to_string());
    }
    if ended.violations.is_empty() {
        return screen.finding("nothing went wrong");
    }
    let text = count(ended.violations.len(), "violation");
    Err(Failure::say(ExitCode::Other, text).about(name))
}

/// A plan, if the text of a file is one and not a scenario.
pub(super) fn plan(text: &str) -> Option<Plan> {
    toml::from_str(text).ok()
}

fn tell(seed: u64, ended: &Ended, screen: &mut Screen) -> Outcome {
    let violations: Vec<_> = ended
        .violations
        .iter()
        .map(|violation| {
            json!({"property": violation.property, "number": violation.property.number(),
                "at": violation.at.as_micros(), "host": violation.host, "text": violation.what})
        })
        .collect();
    screen.event(&json!({
        "event": "run", "scenario": NAME, "seed": seed, "events": ended.events, "end": ended.end.as_micros(),
        "trace": ended.trace, "violations": violations, "searches": ended.searches.count,
        "searches_in_vain": ended.searches.in_vain,
    }))
}

/// What is left of a plan that fails, made smaller: a file for `riverrun simulate`.
fn show(plan: &Plan, screen: &mut Screen) -> Outcome {
    let text = toml::to_string(plan).map_err(|e| Failure::say(ExitCode::Other, e.to_string()))?;
    screen.event(&json!({"event": "plan", "toml": text}))?;
    if !screen.is_json() {
        for line in text.lines() {
            screen.line(line)?;
        }
    }
    Ok(())
}
