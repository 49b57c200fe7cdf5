//! Congestion control: how much may be in flight (BEP 29 and RFC 6817, LEDBAT).
//!
//! The window grows while packets wait less than the target in queues and shrinks while they wait longer, in
//! proportion. The sentence in BEP 29 that has it the other way round is a slip.

use std::time::Duration;

/// What a new connection may have in flight.
const INITIAL_WINDOW_BYTES: i64 = 8 * 1024;

/// Delays that are compared for their least, against noise of single packets.
const FILTER_SAMPLES: usize = 3;

/// Slow start ends when the queue has grown to this part of the target: a window that doubles until then is at
/// most twice too large one round trip later, when we hear of it.
const SLOW_START_EXIT_PART: i64 = 4;

/// Fractions of a byte that the window is counted in, or small windows would never grow.
const FRACTION: i64 = 1 << 16;

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

    /// The peer has received `bytes` more. `is_limited`: the window was what held us back; only then is its
    /// growth earned.
    pub(crate) fn acked(&mut self, bytes: usize, is_limited: bool, packet_len: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(0);
        let queue = self.queue_micros();
        if self.is_slow_start() {
            if queue > self.target_micros / SLOW_START_EXIT_PART {
                self.slow_start_until = self.window;
            } else if is_limited {
                self.window = (self.window + bytes * FRACTION).min(self.window_max);
            }
            return;
        }
        // At most one target too late counts, or a single stall of the path would close the window.
        let off_target = (self.target_micros - queue).max(-self.target_micros);
        if off_target > 0 && !is_limited {
            return;
        }
        let part = bytes * FRACTION / (self.window / FRACTION).max(1);
        let gain = i128::from(self.gain_bytes) * i128::from(part) * i128::from(off_target)
            / i128::from(self.target_micros);
        self.window += i64::try_from(gain).unwrap_or(0);
        self.clamp(2 * packet_len);
    }

    /// A packet was lost. To be called at most once for all that was in flight at one time.
    pub(crate) fn lost(&mut self, packet_len: usize) {
        self.window /= 2;
        self.clamp(2 * packet_len);
        self.slow_start_until = self.window;
    }

    /// Nothing was heard for a whole timeout: begin with one packet, and find the way back to half quickly.
    pub(crate) fn timed_out(&mut self, packet_len: usize) {
        self.slow_start_until = self.slow_start_until.min(self.window / 2);
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

    /// One round trip: a whole window is acknowledged with this delay.
    fn round(ledbat: &mut Ledbat, delay_millis: u32) {
        let mut left = ledbat.window_bytes();
        while left > 0 {
            let bytes = left.min(PACKET);
            ledbat.delayed(delay_millis * 1000);
            ledbat.acked(bytes, true, PACKET);
            left -= bytes;
        }
    }

    #[test]
    fn the_window_moves_by_the_gain_times_the_distance_from_the_target() {
        for (delay, change) in [
            (0, 3000_i64),
            (50, 1500),
            (100, 0),
            (150, -1500),
            (900, -3000),
        ] {
            let mut ledbat = past_slow_start(100_000);
            for _ in 0..3 {
                ledbat.delayed(delay * 1000);
            }
            round(&mut ledbat, delay);
            let moved = i64::try_from(ledbat.window_bytes()).unwrap() - 100_000;
            assert!((moved - change).abs() <= 60, "{delay} ms: {moved}");
        }
    }

    #[test]
    fn slow_start_doubles_until_a_queue_builds() {
        let mut ledbat = Ledbat::new(TARGET, 3000, 1 << 22);
        round(&mut ledbat, 0);
        round(&mut ledbat, 20);
        assert_eq!(ledbat.window_bytes(), 32 * 1024);
        round(&mut ledbat, 30);
        round(&mut ledbat, 30);
        assert!(!ledbat.is_slow_start());
        assert!(
            ledbat.window_bytes() < 45 * 1024,
            "{}",
            ledbat.window_bytes()
        );
    }

    #[test]
    fn what_did_not_fill_the_window_does_not_widen_it() {
        let mut ledbat = past_slow_start(100_000);
        ledbat.acked(PACKET, false, PACKET);
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
