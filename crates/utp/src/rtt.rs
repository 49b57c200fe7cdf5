//! Round trips, and how long to wait for an acknowledgement (BEP 29, "timeouts").

use std::time::Duration;

/// The least time to wait.
const RTO_MIN: Duration = Duration::from_millis(500);

/// The time to wait before anything was measured.
const RTO_INITIAL: Duration = Duration::from_secs(1);

/// The most time to wait, after however many failures.
const RTO_MAX: Duration = Duration::from_mins(1);

/// What a peer may let us wait for an acknowledgement on purpose: libutp holds one back for 100 ms.
const ACK_DELAY_MAX: Duration = Duration::from_millis(100);

/// The estimate of one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rtt {
    smoothed: Option<Duration>,
    variance: Duration,
    min: Option<Duration>,
    /// How often in a row the wait was in vain: each doubles the next.
    backoff: u32,
}

impl Rtt {
    /// A packet that was sent once was acknowledged after `sample`.
    pub(crate) fn measured(&mut self, sample: Duration) {
        self.backoff = 0;
        self.min = Some(self.min.map_or(sample, |min| min.min(sample)));
        let Some(smoothed) = self.smoothed else {
            self.smoothed = Some(sample);
            self.variance = sample / 2;
            return;
        };
        let delta = smoothed.abs_diff(sample);
        self.variance = (self.variance * 3 + delta) / 4;
        self.smoothed = Some((smoothed * 7 + sample) / 8);
    }

    /// Acknowledgements come, though none that can be measured.
    pub(crate) fn progressed(&mut self) {
        self.backoff = 0;
    }

    /// The wait was in vain.
    pub(crate) fn timed_out(&mut self) {
        self.backoff += 1;
    }

    /// The mean round trip, if any was measured.
    pub(crate) const fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The shortest round trip, if any was measured.
    pub(crate) const fn min(&self) -> Option<Duration> {
        self.min
    }

    /// How long to wait before all that is in flight counts as lost.
    pub(crate) fn timeout(&self) -> Duration {
        let base = self.smoothed.map_or(RTO_INITIAL, |smoothed| {
            (smoothed + self.variance * 4).max(RTO_MIN)
        });
        let doubled = base.checked_mul(1 << self.backoff.min(10));
        doubled.unwrap_or(RTO_MAX).min(RTO_MAX)
    }

    /// How long to wait before the last packet is sent again to learn whether it was lost (RFC 8985, "tail loss
    /// probe"); `None` if that is no sooner than the timeout.
    pub(crate) fn probe_timeout(&self) -> Option<Duration> {
        let wait = self.smoothed? * 2 + ACK_DELAY_MAX;
        (wait < self.timeout()).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_timeout_follows_the_round_trip_and_doubles_in_vain() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(), 1000 * MS);
        rtt.measured(20 * MS);
        assert_eq!(rtt.timeout(), 500 * MS);
        rtt.measured(2000 * MS);
        assert!(rtt.timeout() > 2000 * MS, "{:?}", rtt.timeout());
        let before = rtt.timeout();
        rtt.timed_out();
        assert_eq!(rtt.timeout(), before * 2);
        for _ in 0..100 {
            rtt.timed_out();
        }
        assert_eq!(rtt.timeout(), RTO_MAX);
        rtt.progressed();
        assert_eq!(rtt.timeout(), before);
    }

    #[test]
    fn a_probe_comes_before_the_timeout_or_not_at_all() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.probe_timeout(), None);
        rtt.measured(50 * MS);
        assert_eq!(rtt.probe_timeout(), Some(200 * MS));
        for _ in 0..40 {
            rtt.measured(900 * MS);
        }
        assert_eq!(rtt.probe_timeout(), None);
    }
}
