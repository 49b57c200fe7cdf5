//! How far a pass over files is: a bar for people, events for scripts, a rate for both.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use riverrun_storage::{Progress, Watch};
use serde_json::json;

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::screen::Screen;

/// A script hears this often of work under way.
const EVENTS: u64 = 100;

/// What the threads of a pass report to.
struct Reports<'a> {
    screen: &'a mut Screen,
    bar: ProgressBar,
    last: Progress,
    events: u64,
    failure: Option<Failure>,
}

impl Reports<'_> {
    /// Takes a report; false if nobody listens any more.
    fn take(&mut self, progress: Progress) -> bool {
        // Reports of several threads overtake each other.
        if progress.done_bytes < self.last.done_bytes {
            return true;
        }
        self.last = progress;
        self.bar.set_position(progress.done_bytes);
        let due = progress.done_bytes.saturating_mul(EVENTS) / progress.total_bytes.max(1);
        if due > self.events && self.failure.is_none() {
            self.events = due;
            let event = json!({
                "event": "progress", "bytes": progress.done_bytes, "total": progress.total_bytes,
                "bytes_per_s": progress.bytes_per_second(),
            });
            self.failure = self.screen.event(&event).err();
        }
        self.failure.is_none()
    }
}

/// Does `work` on `total_bytes` while telling how far it is. Gives its result and the bytes done per second.
pub(crate) fn watched<T>(
    screen: &mut Screen,
    what: &'static str,
    total_bytes: u64,
    work: impl FnOnce(Watch<'_>) -> T,
) -> Outcome<(T, u64)> {
    let bar = screen.bar(total_bytes).with_message(what);
    let last = Progress {
        done_bytes: 0,
        total_bytes,
        elapsed: Duration::ZERO,
    };
    let reports = Mutex::new(Reports {
        screen,
        bar,
        last,
        events: 0,
        failure: None,
    });
    let cancel = AtomicBool::new(false);
    let progress = |progress| {
        let mut reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
        if !reports.take(progress) {
            cancel.store(true, Ordering::Relaxed);
        }
    };
    let result = work(Watch {
        progress: &progress,
        cancel: &cancel,
    });
    let reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.bar.finish_and_clear();
    match reports.failure {
        Some(failure) => Err(failure),
        None => Ok((result, reports.last.bytes_per_second())),
    }
}

/// Ends a pass when whoever waits for it goes away.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does `work` while the runtime goes on, without telling how far it is. Dropped before its end, it cancels the pass.
pub(crate) async fn background<T: Send + 'static>(
    work: impl FnOnce(Watch<'_>) -> T + Send + 'static,
) -> Outcome<T> {
    let cancel = Cancel(Arc::default());
    let cancelled = cancel.0.clone();
    let pass = move || {
        work(Watch {
            progress: &|_| {},
            cancel: &cancelled,
        })
    };
    let done = tokio::task::spawn_blocking(pass).await;
    done.map_err(|e| Failure::new(ExitCode::Other, e))
}

/// As many threads as there are cores.
pub(crate) fn threads() -> NonZero<usize> {
    std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}
