//! The token bucket behind every rate limit.

use std::time::Duration;

use crate::{Rate, Time};

/// A bucket that fills at a rate and holds at most one burst.
///
/// A take may overdraw it (a block is sent whole or not at all); the debt is paid before the next take,
/// so that over any long time the rate holds to within one burst.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate: Rate,
    burst_bytes: u64,
    /// In millionths of a byte, so that nothing is lost to rounding at any rate.
    level_micro: i128,
    filled_at: Time,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(rate: Rate, burst_bytes: u64, now: Time) -> Self {
        Self {
            rate,
            burst_bytes,
            level_micro: i128::from(burst_bytes) * 1_000_000,
            filled_at: now,
        }
    }

    /// Changes the rate from now on.
    pub fn set_rate(&mut self, now: Time, rate: Rate) {
        self.fill(now);
        self.rate = rate;
    }

    /// How many bytes may go now.
    pub fn available(&mut self, now: Time) -> u64 {
        self.fill(now);
        u64::try_from(self.level_micro / 1_000_000).unwrap_or(0)
    }

    /// Takes `bytes`, even if that overdraws the bucket.
    pub fn take(&mut self, now: Time, bytes: u64) {
        self.fill(now);
        self.level_micro -= i128::from(bytes) * 1_000_000;
    }

    /// When `bytes` (at most one burst) will be there; `None` if the rate is zero.
    pub fn ready_at(&mut self, now: Time, bytes: u64) -> Option<Time> {
        self.fill(now);
        let missing = i128::from(bytes.min(self.burst_bytes)) * 1_000_000 - self.level_micro;
        if missing <= 0 {
            return Some(now);
        }
        let rate = i128::from(self.rate.bytes_per_second());
        (rate > 0).then(|| {
            let micros = u64::try_from((missing + rate - 1) / rate).unwrap_or(u64::MAX);
            now + Duration::from_micros(micros)
        })
    }

    fn fill(&mut self, now: Time) {
        let micros = now.since(self.filled_at).as_micros();
        self.filled_at = self.filled_at.max(now);
        let gained = micros.saturating_mul(u128::from(self.rate.bytes_per_second()));
        let gained = i128::try_from(gained).unwrap_or(i128::MAX);
        let full = i128::from(self.burst_bytes) * 1_000_000;
        self.level_micro = self.level_micro.saturating_add(gained).min(full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_long_time_the_rate_holds() {
        let mut bucket = TokenBucket::new(Rate::from_bytes_per_second(100_000), 16_384, Time::ZERO);
        let mut now = Time::ZERO;
        let mut sent = 0;
        while now < Time::from_secs(100) {
            if bucket.available(now) > 0 {
                bucket.take(now, 16_384);
                sent += 16_384_u64;
            }
            now += Duration::from_millis(7);
        }
        assert!((9_980_000..=10_050_000).contains(&sent), "{sent}");
    }

    #[test]
    fn says_when_it_will_be_ready() {
        let mut bucket = TokenBucket::new(Rate::from_bytes_per_second(1000), 1000, Time::ZERO);
        bucket.take(Time::ZERO, 1500);
        assert_eq!(bucket.available(Time::ZERO), 0);
        assert_eq!(bucket.ready_at(Time::ZERO, 500), Some(Time::from_secs(1)));
        assert_eq!(bucket.available(Time::from_secs(1)), 500);
        bucket.set_rate(Time::from_secs(1), Rate::ZERO);
        assert_eq!(bucket.ready_at(Time::from_secs(1), 1000), None);
        assert_eq!(
            bucket.ready_at(Time::from_secs(1), 500),
            Some(Time::from_secs(1))
        );
    }
}
