//! Running a scenario.

use std::cell::Cell;

use riverrun_base::Time;

use super::build::build;
use super::expect::Missed;
use super::file::Scenario;
use super::group::secs;
use super::outcome::{Metric, Outcome, Watcher};
use crate::recording::{Detail, Recorder, Recording};

/// After the end a run goes on for this share of the time it took, so that the end can be looked at.
const AFTERMATH: f64 = 0.04;

/// Runs with up to so many hosts are recorded block by block.
const MOMENTS_HOSTS_MAX: usize = 40;

/// What is kept of a run beside its figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Figures,
    /// A record, for runs that can be played.
    Records,
}

/// A run that is over.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its name among the others.
    pub label: String,
    /// The seed that gives it again.
    pub seed: u64,
    /// What came of it.
    pub outcome: Outcome,
    /// What happened, if it was kept.
    pub recording: Option<Recording>,
}

impl Ran {
    /// A figure, if the run has it.
    pub fn figure(&self, metric: Metric) -> Option<f64> {
        self.outcome.figure(metric, None)
    }
}

/// Runs all runs of a scenario with one seed.
pub fn run(scenario: &Scenario, seed: u64, keep: Keep) -> Vec<Ran> {
    (0..scenario.runs.len())
        .map(|place| run_one(scenario, place, seed, keep))
        .collect()
}

fn run_one(scenario: &Scenario, place: usize, seed: u64, keep: Keep) -> Ran {
    let run = &scenario.runs[place];
    let mut built = build(scenario, run, seed);
    let is_kept = keep == Keep::Records && run.is_played();
    let recorder = is_kept.then(|| Recorder::new(&scenario.title, detail(built.groups.len())));
    let left = Cell::new(0);
    let mut watcher = Watcher::new(&built.world, built.content, recorder, &left);
    let limit = Time::ZERO + secs(scenario.limit);
    let last_action = built.last_action;
    let is_over = built.world.observe_while(limit, &mut watcher, |world| {
        left.get() > 0 || world.now() < last_action
    });
    if !is_over {
        built.world.observe_until(limit, &mut watcher);
    }
    let took = built.world.now() - Time::ZERO;
    built
        .world
        .observe_until(built.world.now() + took.mul_f64(AFTERMATH), &mut watcher);
    let (outcome, recorder) = watcher.finish(&built.world, &built.groups, built.bound);
    Ran {
        label: run.label.clone(),
        seed,
        outcome,
        recording: recorder.map(|recorder| recorder.finish(&built.world, built.bound)),
    }
}

fn violations(ran: &Ran) -> impl Iterator<Item = Missed> {
    let text = |violation| match ran.label.as_str() {
        "" => format!("{violation}"),
        label => format!("{label}: {violation}"),
    };
    let violations = ran.outcome.violations.iter();
    violations.map(move |violation| Missed {
        text: text(violation),
    })
}

const fn detail(hosts: usize) -> Detail {
    if hosts <= MOMENTS_HOSTS_MAX {
        Detail::Moments
    } else {
        Detail::Pieces
    }
}

impl Scenario {
    /// What of its expectations the runs of one seed did not meet, and what of all that must hold in any world did not.
    pub fn missed(&self, runs: &[Ran]) -> Vec<Missed> {
        let expected = self.expect.iter();
        let missed = expected.flat_map(|expectation| expectation.hold(runs, &self.hosts));
        missed.chain(runs.iter().flat_map(violations)).collect()
    }
}
