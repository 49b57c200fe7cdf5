//! How fast bytes have been moving lately.

use std::time::Duration;

use riverrun_base::Time;

/// How long bytes are counted before the rate follows them.
const WINDOW: Duration = Duration::from_secs(2);
/// Over less than this no rate is told from: a burst would count as a rate.
const AT_ONCE_MIN: Duration = Duration::from_millis(250);

/// Nothing has come for so long: a pause as long as that no line makes between two blocks at a rate worth the name.
const SILENCE: Duration = Duration::from_secs(10);

/// A rate over the last few seconds, without a timer: it is looked at when bytes come or somebody asks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meter {
    since: Time,
    bytes: u64,
    /// Of the window before, in bytes per second.
    last_rate: u64,
}

impl Meter {
    pub(crate) fn add(&mut self, now: Time, bytes: u64) {
        self.roll(now);
        self.bytes += bytes;
    }

    /// Bytes per second.
    pub(crate) fn rate(&self, now: Time) -> u64 {
        let elapsed = now.since(self.since);
        if elapsed < WINDOW {
            return self.last_rate;
        }
        per_second(self.bytes, elapsed)
    }

    /// Bytes per second as people want to know it: zero when nothing comes any more, where [`Self::rate`] falls for ever.
    pub(crate) fn rate_shown(&self, now: Time) -> u64 {
        // Whatever was counted since came within a window of its start.
        if now.since(self.since) >= SILENCE {
            return 0;
        }
        self.rate(now)
    }

    /// Bytes per second as far as can be told at once: from the first bytes on, and not lower for a pause of less
    /// than a window.
    pub(crate) fn rate_at_once(&self, now: Time) -> u64 {
        let elapsed = now.since(self.since).max(AT_ONCE_MIN);
        self.rate(now).max(per_second(self.bytes, elapsed))
    }

    fn roll(&mut self, now: Time) {
        let elapsed = now.since(self.since);
        if elapsed >= WINDOW {
            self.last_rate = per_second(self.bytes, elapsed);
            self.bytes = 0;
            self.since = now;
        }
    }
}

fn per_second(bytes: u64, elapsed: Duration) -> u64 {
    let micros = elapsed.as_micros().max(1);
    u64::try_from(u128::from(bytes) * 1_000_000 / micros).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_what_moves_and_falls_when_nothing_does() {
        let mut meter = Meter::default();
        for tick in 0..100 {
            meter.add(Time::from_millis(tick * 100), 1000);
        }
        assert!((9_000..=11_000).contains(&meter.rate(Time::from_secs(10))));
        assert!(meter.rate(Time::from_secs(60)) < 500);
        let shown = |secs| meter.rate_shown(Time::from_secs(secs));
        assert_eq!(shown(10), meter.rate(Time::from_secs(10)));
        assert!(shown(15) > 0);
        assert_eq!(shown(20), 0);
    }

    #[test]
    fn the_first_bytes_show_a_rate_already() {
        let mut meter = Meter::default();
        meter.add(Time::from_secs(5), 1000);
        let soon = Time::from_millis(5500);
        meter.add(soon, 1000);
        assert_eq!(meter.rate(soon), 0);
        assert_eq!(meter.rate_at_once(soon), 4000);
    }
}
