//! The one place where the core's time comes from.

use riverrun_base::Time;
use tokio::time::Instant;

/// Microseconds since the engine started, on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    pub(crate) fn now(self) -> Time {
        let micros = self.start.elapsed().as_micros();
        Time::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// Sleeps until `deadline`, for ever if there is none.
    pub(crate) async fn sleep_until(self, deadline: Option<Time>) {
        let at = deadline.and_then(|time| self.start.checked_add(time.since(Time::ZERO)));
        match at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}
