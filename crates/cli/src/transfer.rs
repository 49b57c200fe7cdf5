//! What `get` and `seed` share: an engine set up from flags, signals, and the loop that watches torrents.

mod engine;
mod mappings;
mod progress;
mod select;
mod stall;
mod watch;

pub(crate) use engine::{ListenAddr, NetworkFlags, ReachFlags, cannot_start, dht_config, start};
pub(crate) use progress::{Progress, duration, hashes_json};
pub(crate) use select::priorities;
pub(crate) use watch::{Ending, Feed, Newer, SeedGoal, Watched, storage_failure, watch};

use riverrun_engine::Engine;

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::progress::threads;
use crate::signals::{Interrupt, Interrupts, runtime};

pub(crate) use progress::joined;

/// Runs a transfer on a runtime of its own.
pub(crate) fn block_on<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    // What wakes up often has little to do then. With a thread for each core they would wake each other in vain, while
    // others hash and have files to read and write.
    let runtime = runtime(threads().get().div_ceil(2))?;
    let outcome = runtime.block_on(work);
    // What is left, such as a name being resolved, is not waited for.
    runtime.shutdown_background();
    outcome
}

/// Shuts the engine down, in about a second, and says how it all ended. A second signal does not wait.
pub(crate) async fn leave(
    engine: Engine,
    outcome: Outcome<Option<Interrupt>>,
    interrupts: &mut Interrupts,
) -> Outcome {
    let second = interrupts.finish(engine.shutdown()).await.err();
    match second.or(outcome.map_err(unread)?) {
        None => Ok(()),
        Some(interrupt) => Err(interrupt.into_failure()),
    }
}

/// A reader of events that leaves is no failure of its own, but a transfer that ends for it has not reached its end.
fn unread(failure: Failure) -> Failure {
    if failure.code != ExitCode::Ok {
        return failure;
    }
    Failure::say(ExitCode::Incomplete, "nobody reads the events any more")
        .hint("the same command goes on where it was")
}
