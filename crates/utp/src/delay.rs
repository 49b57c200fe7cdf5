//! One-way delays: the least of the last minutes is the path's own, what is above it waits in queues.
//!
//! Delays are differences between two clocks that do not know each other, so that only their changes mean
//! something, and all arithmetic wraps at 32 bits.

use std::time::Duration;

use riverrun_base::Time;

/// How many minutes are remembered (RFC 6817, `BASE_HISTORY`).
const MINUTES: usize = 10;

const MINUTE: Duration = Duration::from_mins(1);

/// A step of the peer's clock up to this is drift; more is a change of the path, or a lie (µs).
const DRIFT_MICROS_MAX: u32 = 10_000;

/// The least delay, minute by minute.
#[derive(Clone, Debug)]
pub(crate) struct DelayHistory {
    minutes: [u32; MINUTES],
    current: usize,
    minute_start: Time,
    base: Option<u32>,
}

impl DelayHistory {
    pub(crate) const fn new() -> Self {
        Self {
            minutes: [0; MINUTES],
            current: 0,
            minute_start: Time::ZERO,
            base: None,
        }
    }

    /// Takes a delay in (µs), and gives how much of it is above the base.
    pub(crate) fn sample(&mut self, now: Time, delay: u32) -> u32 {
        let Some(base) = self.base else {
            self.minutes = [delay; MINUTES];
            self.minute_start = now;
            self.base = Some(delay);
            return 0;
        };
        let mut base = lesser(base, delay);
        if now.since(self.minute_start) >= MINUTE {
            self.minute_start = now;
            self.current = (self.current + 1) % MINUTES;
            self.minutes[self.current] = delay;
            base = self.minutes.into_iter().fold(delay, lesser);
        }
        self.minutes[self.current] = lesser(self.minutes[self.current], delay);
        self.base = Some(base);
        delay.wrapping_sub(base)
    }

    /// Takes in a delay from the peer to us, and gives by how much the peer's clock has run slow, if its least
    /// delay fell: then delays from us to the peer have risen by as much, and only seem to.
    pub(crate) fn drift(&mut self, now: Time, delay: u32) -> Option<u32> {
        let before = self.base;
        self.sample(now, delay);
        let fall = before?.wrapping_sub(self.base?);
        (1..=DRIFT_MICROS_MAX).contains(&fall).then_some(fall)
    }

    /// Moves all that is remembered up by `micros`.
    pub(crate) fn shift(&mut self, micros: u32) {
        for minute in &mut self.minutes {
            *minute = minute.wrapping_add(micros);
        }
        self.base = self.base.map(|base| base.wrapping_add(micros));
    }
}

/// The lesser of two delays, across the wrap.
const fn lesser(a: u32, b: u32) -> u32 {
    if a.wrapping_sub(b).cast_signed() < 0 {
        a
    } else {
        b
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_the_least_of_ten_minutes() {
        let mut history = DelayHistory::new();
        let minute = |n: u64| Time::from_secs(60 * n);
        assert_eq!(history.sample(minute(0), 5_000), 0);
        assert_eq!(history.sample(minute(0), 4_000), 0);
        assert_eq!(history.sample(minute(0), 9_000), 5_000);
        for n in 1..10 {
            assert_eq!(history.sample(minute(n), 6_000), 2_000, "minute {n}");
        }
        // The path has become longer, and its old length is forgotten.
        assert_eq!(history.sample(minute(10), 6_000), 0);
    }

    #[test]
    fn delays_wrap() {
        let mut history = DelayHistory::new();
        history.sample(Time::ZERO, u32::MAX - 10);
        assert_eq!(history.sample(Time::ZERO, 89), 100);
        assert_eq!(history.sample(Time::ZERO, u32::MAX - 20), 0);
    }

    #[test]
    fn a_slow_clock_is_no_queue() {
        let (mut ours, mut theirs) = (DelayHistory::new(), DelayHistory::new());
        ours.sample(Time::ZERO, 1_000);
        theirs.sample(Time::ZERO, 50_000);
        let drift = theirs.drift(Time::ZERO, 49_500).unwrap();
        ours.shift(drift);
        assert_eq!(ours.sample(Time::ZERO, 1_500), 0);
        // A jump is not drift, and a rise is a queue.
        assert_eq!(theirs.drift(Time::ZERO, 10_000), None);
        assert_eq!(theirs.drift(Time::ZERO, 30_000), None);
    }
}
