//! Scenarios as data: who takes part in a run, what happens to them, what must come of it, and the story to tell.
//!
//! A scenario is a TOML file, `docs/simulate.md` describes it; unknown keys are errors. Some come with the program.

mod build;
mod builtin;
mod expect;
mod file;
mod group;
mod outcome;
mod present;
mod run;

pub use builtin::{Builtin, builtin};
pub use expect::Missed;
pub use file::{InvalidScenario, Scenario};
pub use outcome::{HostOutcome, Metric, Outcome};
pub use present::{chart, report, table};
pub use run::{Keep, Ran, run};
