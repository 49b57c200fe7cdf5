//! How long to leave a failing tracker alone.

use std::time::Duration;

/// The wait after the first failure is this times 3.5.
const STEP: Duration = Duration::from_secs(5);
/// No wait is longer: a tracker that comes back is noticed within the hour.
const WAIT_MAX: Duration = Duration::from_hours(1);

/// The number of failures in a row, and the wait that follows from it: 5 s · (1 + 2.5·n²), at most an hour.
/// It grows with the square, so that a short outage costs little and a dead tracker is hardly asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// No failures yet.
    pub const fn new() -> Self {
        Self { failures: 0 }
    }

    /// Failures since the last success.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Takes note of a failure; gives how long to wait now.
    pub fn fail(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let squared = self.failures.saturating_mul(self.failures);
        // 1 + 2.5·n² in halves.
        let halves = squared.saturating_mul(5).saturating_add(2);
        STEP.saturating_mul(halves).min(WAIT_MAX * 2) / 2
    }

    /// Takes note of a success.
    pub const fn succeed(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_with_the_square_up_to_an_hour() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..20).map(|_| backoff.fail().as_millis()).collect();
        assert_eq!(waits[..4], [17_500, 55_000, 117_500, 205_000]);
        assert_eq!(waits[16..], [3_600_000; 4]);
        assert!(waits.is_sorted());
        backoff.succeed();
        assert_eq!(backoff.fail(), Duration::from_millis(17_500));
    }

    #[test]
    fn failures_for_ever_do_not_overflow() {
        let mut backoff = Backoff {
            failures: u32::MAX - 1,
        };
        assert_eq!((backoff.fail(), backoff.fail()), (WAIT_MAX, WAIT_MAX));
    }
}
