//! The one place where the core's time comes from.

use std::pin::Pin;

use riverrun_base::Time;
use tokio::time::{Instant, Sleep};

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

    /// An alarm that is not set.
    pub(crate) fn alarm(self) -> Alarm {
        Alarm {
            clock: self,
            sleep: Box::pin(tokio::time::sleep_until(self.start)),
            set_for: None,
        }
    }
}

/// A sleep for a loop whose deadline moves with each turn, mostly away. A timer is set only for one that is nearer than
/// that for which it was set, as setting it costs more than the rest of a turn may.
#[derive(Debug)]
pub(crate) struct Alarm {
    clock: Clock,
    sleep: Pin<Box<Sleep>>,
    /// Not after the deadline that was asked for last, if there is one.
    set_for: Option<Time>,
}

impl Alarm {
    /// Sleeps until `deadline`, or until an earlier one that was asked for before; for ever if there is none.
    pub(crate) async fn ring(&mut self, deadline: Option<Time>) {
        let nearer = deadline.filter(|at| self.set_for.is_none_or(|set| *at < set));
        if let Some(at) = nearer
            && let Some(instant) = self.clock.start.checked_add(at.since(Time::ZERO))
        {
            self.sleep.as_mut().reset(instant);
            self.set_for = Some(at);
        }
        if self.set_for.is_none() {
            return std::future::pending().await;
        }
        self.sleep.as_mut().await;
        self.set_for = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_at_the_nearest_deadline_and_early_for_one_that_has_moved() {
        let clock = Clock::start();
        let mut alarm = clock.alarm();
        let at = |secs| Some(Time::from_secs(secs));
        let passed = || clock.now().since(Time::ZERO).as_secs();
        for (given_up, asked, rings) in [(20, 10, 10), (40, 50, 40), (60, 50, 50)] {
            let before = at(rings - 1);
            tokio::select! {
                () = alarm.ring(at(given_up)) => {}
                () = clock.sleep_until(before) => {}
            }
            assert_eq!(passed(), rings - 1);
            alarm.ring(at(asked)).await;
            assert_eq!(passed(), rings);
        }
        let silent = tokio::time::timeout(Duration::from_hours(1), alarm.ring(None));
        assert!(silent.await.is_err());
    }
}
