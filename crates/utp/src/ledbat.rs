//! Congestion control: how much may be in flight (BEP 29 and RFC 6817, LEDBAT).
//!
//! The window grows while packets wait less than the target in queues and shrinks while they wait longer, in
//! proportion. The sentence in BEP 29 that has it the other way round is a slip. That it shrinks in proportion to itself,
//! and lets the queue drain now and then, is LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus): so several share a queue.

use std::time::Duration;

use riverrun_base::Time;

/// What a new connection may have in flight: as much as one of TCP (RFC 6928).
const INITIAL_WINDOW_BYTES: i64 = 14_600;

/// Delays that are compared for their least, against noise of single packets.
const FILTER_SAMPLES: usize = 3;

/// Slow start ends when the queue has grown to this part of the target: a window that doubles until then is at
/// most twice too large one round trip later, when we hear of it.
const SLOW_START_EXIT_PART: i64 = 4;

/// Fractions of a byte that the window is counted in, or small windows would never grow.
const FRACTION: i64 = 1 << 16;

/// Where a queue of this many targets has a window neither grow nor shrink by a fixed number of bytes.
const GAIN_ENDS_AT: i64 = 2;

/// The window shrinks by this part of itself in a round trip for each target that the queue is too long. With the whole of
/// it, as in LEDBAT++, two flows that differ by 1 ms in what they hold for the path's own delay would differ by half in
/// what they send.
const DECLINE_PART: i64 = 4;

/// More targets too long than that do not count, or a single stall of the path would close the window: it halves at most.
const EXCESS_TARGETS_MAX: i64 = 2;

/// A slowdown shuts the window for a round trip, in which what was in flight leaves the queue, and opens it again from this
/// part of what it was, or half of what the path holds without a queue if that is more: the queue stays nearly empty for
/// some round trips more.
const OPENING_PART: i64 = 16;

/// How many times as long as a slowdown took it is until the next one at least, so that they cost a tenth at most.
const SLOWDOWN_PAUSES: u32 = 9;

/// How long after it has met a queue a window slows down for the first time: soon, as it may be the one that came later,
/// but not before most transfers are over.
const SLOWDOWN_INTERVAL_MIN: Duration = Duration::from_secs(2);

/// Each time it waits so many times as long: at the first one who was there may fill the queue still, at the second he has
/// retreated.
const SLOWDOWN_INTERVAL_GROWTH: u32 = 4;

/// And so long at most.
const SLOWDOWN_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// Whoever comes later finds the delay that others make, and takes it for the path's own for as long as they go on making
/// it (RFC 6817 §4.4): it would fill the queue by as much again, before which they retreat. So each flow lets its part of
/// the queue drain now and then, and all see how long the path is (LEDBAT++, "periodic slowdown").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slowdown {
    /// The window has not met a queue since it was last lost.
    Unplanned,
    /// Begins at this time, or when the window is used up after it.
    Due(Time),
    /// The window is shut; it was of that size.
    Shut {
        since: Time,
        until: Time,
        window: i64,
        /// From where it opens.
        opening: i64,
    },
    /// The window is on its way back to that size, whatever the delay: that was right before.
    Opening { since: Time, window: i64 },
}

/// The window of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Ledbat {
    target_micros: i64,
    gain_bytes: i64,
    window_max: i64,
    /// In 2^-16 bytes.
    window: i64,
    /// Below this the window doubles each round trip.
    slow_start_until: i64,
    delays: [u32; FILTER_SAMPLES],
    samples: usize,
    slowdown: Slowdown,
    /// How long after this one the next slowdown comes at least.
    slowdown_interval: Duration,
}

/// What an acknowledgement brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// How much has arrived at the peer.
    pub(crate) bytes: usize,
    /// The window was what held us back; only then is its growth earned.
    pub(crate) is_limited: bool,
    /// How long the way there and back takes, in the mean.
    pub(crate) round_trip: Duration,
}

impl Ledbat {
    pub(crate) fn new(target: Duration, gain_bytes: u32, window_bytes_max: usize) -> Self {
        let window_max = i64::try_from(window_bytes_max).unwrap_or(i64::from(u32::MAX)) * FRACTION;
        Self {
            target_micros: i64::try_from(target.as_micros()).unwrap_or(i64::MAX).max(1),
            gain_bytes: gain_bytes.into(),
            window_max,
            window: INITIAL_WINDOW_BYTES * FRACTION,
            slow_start_until: window_max,
            delays: [0; FILTER_SAMPLES],
            samples: 0,
            slowdown: Slowdown::Unplanned,
            slowdown_interval: SLOWDOWN_INTERVAL_MIN,
        }
    }

    /// How many bytes may be in flight.
    pub(crate) fn window_bytes(&self) -> usize {
        usize::try_from(self.window / FRACTION).unwrap_or(0)
    }

    /// Whether the window still doubles each round trip.
    pub(crate) const fn is_slow_start(&self) -> bool {
        self.window < self.slow_start_until
    }

    /// A packet waited so long in queues (µs).
    pub(crate) fn delayed(&mut self, micros: u32) {
        self.delays[self.samples % FILTER_SAMPLES] = micros;
        self.samples += 1;
    }

    fn queue_micros(&self) -> i64 {
        let known = self.samples.min(FILTER_SAMPLES);
        let least = self.delays[..known].iter().min();
        least.map_or(0, |micros| i64::from(*micros))
    }

    /// Something has arrived at the peer.
    pub(crate) fn acked(&mut self, now: Time, progress: Progress, packet_len: usize) {
        let Progress {
            bytes, is_limited, ..
        } = progress;
        let bytes = i64::try_from(bytes).unwrap_or(0);
        if self.slow_down(now, progress, packet_len) {
            return;
        }
        let queue = self.queue_micros();
        if self.is_slow_start() {
            if queue > self.target_micros / SLOW_START_EXIT_PART {
                self.slow_start_until = self.window;
            } else if is_limited {
                self.window = (self.window + bytes * FRACTION).min(self.window_max);
            }
            return;
        }
        if queue > self.target_micros || is_limited {
            self.window += self.gain(bytes, queue) - self.decline(bytes, queue);
            self.clamp(2 * packet_len);
        }
    }

    /// By how much the window grows for `bytes` that have arrived: the less, the longer the queue is. It still grows at the
    /// target, so that flows of different sizes meet where growing and shrinking are even.
    fn gain(&self, bytes: i64, queue: i64) -> i64 {
        let end = GAIN_ENDS_AT * self.target_micros;
        let part = bytes * FRACTION / (self.window / FRACTION).max(1);
        let gain =
            i128::from(self.gain_bytes) * i128::from(part) * i128::from((end - queue).max(0));
        i64::try_from(gain / i128::from(end)).unwrap_or(0)
    }

    /// By how much it shrinks for them, if the queue is longer than the target: in proportion to itself, so that of two
    /// flows the larger one gives more, until both are of one size.
    fn decline(&self, bytes: i64, queue: i64) -> i64 {
        let excess = (queue - self.target_micros).clamp(0, EXCESS_TARGETS_MAX * self.target_micros);
        let decline = i128::from(bytes * FRACTION) * i128::from(excess);
        i64::try_from(decline / i128::from(DECLINE_PART * self.target_micros)).unwrap_or(0)
    }

    /// Does what is due of a slowdown; whether that is all that is to be done now.
    fn slow_down(&mut self, now: Time, progress: Progress, packet_len: usize) -> bool {
        match self.slowdown {
            Slowdown::Unplanned => {
                if !self.is_slow_start() {
                    self.slowdown = Slowdown::Due(now + self.slowdown_interval);
                }
                false
            }
            Slowdown::Due(at) if now < at || !progress.is_limited => false,
            Slowdown::Due(_) => {
                self.slowdown = Slowdown::Shut {
                    since: now,
                    until: now + progress.round_trip,
                    window: self.window,
                    opening: self.opening(progress.round_trip),
                };
                let longer = self.slowdown_interval * SLOWDOWN_INTERVAL_GROWTH;
                self.slowdown_interval = longer.min(SLOWDOWN_INTERVAL_MAX);
                self.window = 0;
                self.clamp(2 * packet_len);
                true
            }
            Slowdown::Shut { until, .. } if now < until => true,
            Slowdown::Shut {
                since,
                window,
                opening,
                ..
            } => {
                self.window = self.window.max(opening);
                self.open(now, progress, since, window);
                true
            }
            Slowdown::Opening { since, window } => {
                self.open(now, progress, since, window);
                true
            }
        }
    }

    /// From where the window opens after it was shut.
    fn opening(&self, round_trip: Duration) -> i64 {
        let round_trip = i64::try_from(round_trip.as_micros()).unwrap_or(i64::MAX);
        let path = (round_trip - self.queue_micros()).max(0);
        let held = i128::from(self.window) * i128::from(path) / i128::from(round_trip.max(1));
        let half = i64::try_from(held / 2).unwrap_or(0);
        half.max(self.window / OPENING_PART)
    }

    /// Doubles the window each round trip until it is as large as it was.
    fn open(&mut self, now: Time, progress: Progress, since: Time, window: i64) {
        let bytes = i64::try_from(progress.bytes).unwrap_or(0);
        self.window = (self.window + bytes * FRACTION).min(window);
        self.slowdown = if self.window == window {
            let pause = SLOWDOWN_PAUSES * now.since(since);
            Slowdown::Due(now + pause.max(self.slowdown_interval))
        } else {
            Slowdown::Opening { since, window }
        };
    }

    /// The window, or what it will be again after a slowdown.
    const fn lasting_window(&self) -> i64 {
        match self.slowdown {
            Slowdown::Shut { window, .. } | Slowdown::Opening { window, .. } => window,
            Slowdown::Unplanned | Slowdown::Due(_) => self.window,
        }
    }

    /// A packet was lost. To be called at most once for all that was in flight at one time.
    pub(crate) fn lost(&mut self, packet_len: usize) {
        let half = self.lasting_window() / 2;
        self.slowdown = Slowdown::Unplanned;
        self.window /= 2;
        self.clamp(2 * packet_len);
        self.slow_start_until = self.window.max(half);
    }

    /// Nothing was heard for a whole timeout: begin with one packet, and find the way back to half quickly.
    pub(crate) fn timed_out(&mut self, packet_len: usize) {
        let half = self.lasting_window() / 2;
        self.slowdown = Slowdown::Unplanned;
        self.slow_start_until = self.slow_start_until.min(half);
        self.window = 0;
        self.clamp(packet_len);
        self.slow_start_until = self.slow_start_until.max(self.window);
    }

    fn clamp(&mut self, least_bytes: usize) {
        let least = i64::try_from(least_bytes).unwrap_or(0) * FRACTION;
        self.window = self.window.clamp(least, self.window_max.max(least));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: usize = 1400;
    const TARGET: Duration = Duration::from_millis(100);

    fn past_slow_start(window_bytes: usize) -> Ledbat {
        let mut ledbat = Ledbat::new(TARGET, 3000, 1 << 22);
        ledbat.window = i64::try_from(window_bytes).unwrap() * FRACTION;
        ledbat.slow_start_until = 0;
        ledbat
    }

    fn acked(ledbat: &mut Ledbat, bytes: usize, is_limited: bool) {
        let progress = Progress {
            bytes,
            is_limited,
            round_trip: Duration::from_millis(50),
        };
        ledbat.acked(Time::ZERO, progress, PACKET);
    }

    /// One round trip: a whole window is acknowledged with this delay.
    fn round(ledbat: &mut Ledbat, delay_millis: u32) {
        let mut left = ledbat.window_bytes();
        while left > 0 {
            let bytes = left.min(PACKET);
            ledbat.delayed(delay_millis * 1000);
            acked(ledbat, bytes, true);
            left -= bytes;
        }
    }

    #[test]
    fn the_window_grows_by_bytes_and_shrinks_by_parts_of_itself() {
        for (delay, change) in [
            (0, 3000_i64),
            (50, 2250),
            (100, 1500),
            (150, 750 - 12_500),
            (200, -25_000),
            (900, -50_000),
        ] {
            let mut ledbat = past_slow_start(100_000);
            for _ in 0..3 {
                ledbat.delayed(delay * 1000);
            }
            round(&mut ledbat, delay);
            let moved = i64::try_from(ledbat.window_bytes()).unwrap() - 100_000;
            assert!((moved - change).abs() <= 80, "{delay} ms: {moved}");
        }
    }

    #[test]
    fn the_queue_may_drain_now_and_then() {
        let mut ledbat = past_slow_start(100_000);
        let mut shut = Vec::new();
        let mut was_shut = false;
        for millis in (0..90_000).step_by(10) {
            ledbat.delayed(100_000);
            let progress = Progress {
                bytes: PACKET,
                is_limited: true,
                round_trip: Duration::from_millis(50),
            };
            ledbat.acked(Time::from_millis(millis), progress, PACKET);
            let is_shut = ledbat.window_bytes() == 2 * PACKET;
            if is_shut && !was_shut {
                shut.push((millis, 0));
            }
            if let Some((begun, len)) = shut.last_mut().filter(|_| is_shut) {
                *len = millis - *begun;
            }
            was_shut = is_shut;
        }
        // For a round trip; how long it takes to open is a matter of what arrives, here a packet in 10 ms.
        let [(2000, 40), (second, 40), (third, 40), (fourth, 40)] = shut[..] else {
            panic!("{shut:?}");
        };
        assert!((10_000..12_000).contains(&second), "{shut:?}");
        assert!((30_000..32_000).contains(&(third - second)), "{shut:?}");
        assert!((30_000..32_000).contains(&(fourth - third)), "{shut:?}");
    }

    #[test]
    fn a_loss_in_a_slowdown_halves_what_the_window_was_before() {
        let mut ledbat = past_slow_start(100_000);
        ledbat.slowdown = Slowdown::Due(Time::ZERO);
        acked(&mut ledbat, PACKET, true);
        assert_eq!(ledbat.window_bytes(), 2 * PACKET);
        ledbat.lost(PACKET);
        assert!(ledbat.is_slow_start());
        for _ in 0..6 {
            round(&mut ledbat, 0);
        }
        assert!((50_000..60_000).contains(&ledbat.window_bytes()));
    }

    #[test]
    fn slow_start_doubles_until_a_queue_builds() {
        let mut ledbat = Ledbat::new(TARGET, 3000, 1 << 22);
        round(&mut ledbat, 0);
        round(&mut ledbat, 20);
        assert_eq!(ledbat.window_bytes(), 4 * 14_600);
        round(&mut ledbat, 30);
        round(&mut ledbat, 30);
        assert!(!ledbat.is_slow_start());
        assert!(
            ledbat.window_bytes() < 6 * 14_600,
            "{}",
            ledbat.window_bytes()
        );
    }

    #[test]
    fn what_did_not_fill_the_window_does_not_widen_it() {
        let mut ledbat = past_slow_start(100_000);
        acked(&mut ledbat, PACKET, false);
        assert_eq!(ledbat.window_bytes(), 100_000);
    }

    #[test]
    fn a_loss_halves_and_a_timeout_begins_anew() {
        let mut ledbat = past_slow_start(100_000);
        ledbat.lost(PACKET);
        assert_eq!(ledbat.window_bytes(), 50_000);
        ledbat.slow_start_until = 50_000 * FRACTION;
        ledbat.timed_out(PACKET);
        assert_eq!(ledbat.window_bytes(), PACKET);
        assert!(ledbat.is_slow_start());
        for _ in 0..6 {
            round(&mut ledbat, 0);
        }
        assert!((25_000..60_000).contains(&ledbat.window_bytes()));
        // However bad it gets, two packets remain, or nothing would ever be measured.
        let mut ledbat = past_slow_start(3_000);
        ledbat.lost(PACKET);
        assert_eq!(ledbat.window_bytes(), 2 * PACKET);
    }
}
