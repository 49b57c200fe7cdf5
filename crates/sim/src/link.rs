//! Lines and what TCP makes of them.
//!
//! TCP is a fluid here, in drops of a block: a host's uplink sends the blocks of its connections in turn, which
//! shares it fairly; a downlink takes them as they come, and a connection whose blocks wait there has its window
//! closed by them, so that the sender's line is free for others. What a packet-level model would add is below the
//! noise of choices that are made per block.

use std::collections::VecDeque;
use std::time::Duration;

use riverrun_base::Time;
use serde::{Deserialize, Serialize};

use crate::seconds;

/// What one packet carries, in bytes.
const SEGMENT_BYTES: u64 = 1448;
/// With how many segments a connection begins (RFC 6928).
const WINDOW_INITIAL: u64 = 10 * SEGMENT_BYTES;
/// The least that loss leaves.
const WINDOW_MIN: u64 = 2 * SEGMENT_BYTES;

/// How TCP behaves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TcpConfig {
    /// The largest window, in bytes.
    pub window_max: u64,
    /// How long a queue before a downlink may become until packets are dropped from it.
    #[serde(with = "seconds")]
    pub queue_max: Duration,
}

impl Default for TcpConfig {
    /// What a Linux host allows by default, and a home router's queue.
    fn default() -> Self {
        Self {
            window_max: 6 * 1024 * 1024,
            queue_max: Duration::from_millis(200),
        }
    }
}

/// One direction of a line: passes so many bytes a second, one thing after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    /// In bytes per second; `None` is at once.
    rate: Option<u64>,
    /// When it has passed all that it was given.
    free_at: Time,
    /// What rounding to microseconds has left over, in millionths of a byte.
    rest: u64,
}

impl Gate {
    pub(crate) const fn new(rate: Option<u64>) -> Self {
        Self {
            rate,
            free_at: Time::ZERO,
            rest: 0,
        }
    }

    pub(crate) const fn set_rate(&mut self, rate: Option<u64>) {
        self.rate = rate;
    }

    /// How long something that comes now has to wait.
    pub(crate) const fn wait(&self, now: Time) -> Duration {
        self.free_at.since(now)
    }

    /// Passes `len` bytes, of which the first is there at `from`; gives when the last is through.
    pub(crate) fn pass(&mut self, from: Time, len: u64) -> Time {
        let begin = from.max(self.free_at);
        self.free_at = begin + self.takes(len);
        self.free_at
    }

    /// Passes `len` bytes whose last is there at `at`, the others having come before it at this gate's pace or
    /// slower: without a queue it costs no time.
    pub(crate) fn pass_through(&mut self, at: Time, len: u64) -> Time {
        let takes = self.takes(len);
        let done = at.max(self.free_at + takes);
        self.free_at = done;
        done
    }

    fn takes(&mut self, len: u64) -> Duration {
        let Some(rate) = self.rate else {
            return Duration::ZERO;
        };
        let millionths = len.saturating_mul(1_000_000) + self.rest;
        let micros = millionths / rate.max(1);
        self.rest = millionths % rate.max(1);
        Duration::from_micros(micros)
    }
}

/// What a TCP connection may have under way in one direction.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    /// In bytes.
    window: u64,
    /// Above this the window grows by a segment a round trip only.
    threshold: u64,
    under_way: u64,
    /// What will be acknowledged, and when.
    acks: VecDeque<(Time, u64)>,
    last_ack: Time,
    /// No second cut of the window before this.
    cut_again: Time,
}

impl Flow {
    pub(crate) const fn new() -> Self {
        Self {
            window: WINDOW_INITIAL,
            threshold: u64::MAX,
            under_way: 0,
            acks: VecDeque::new(),
            last_ack: Time::ZERO,
            cut_again: Time::ZERO,
        }
    }

    /// Whether there is room for a block; one goes whole if there is any.
    pub(crate) fn has_room(&mut self, now: Time, window_max: u64) -> bool {
        while let Some((at, len)) = self.acks.front().copied()
            && at <= now
        {
            self.acks.pop_front();
            self.under_way -= len;
            self.grow(len, window_max);
        }
        self.under_way < self.window
    }

    /// When the next acknowledgement comes, if one is on its way.
    pub(crate) fn next_ack(&self) -> Option<Time> {
        self.acks.front().map(|(at, _)| *at)
    }

    fn grow(&mut self, acked: u64, window_max: u64) {
        let more = if self.window < self.threshold {
            acked
        } else {
            acked * SEGMENT_BYTES / self.window
        };
        self.window = (self.window + more).min(window_max);
    }

    /// A block has left.
    pub(crate) const fn send(&mut self, len: u64) {
        self.under_way += len;
    }

    /// A block has arrived, and is acknowledged at `at`, or later if others were shortly before: a window a round trip
    /// is the rate, and a block may be larger than a window.
    pub(crate) fn arrive(&mut self, at: Time, len: u64, round_trip: Duration) -> Time {
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        let apart = Duration::from_micros(len.saturating_mul(micros) / self.window);
        let at = at.max(self.last_ack + apart);
        self.last_ack = at;
        self.acks.push_back((at, len));
        at
    }

    /// A packet was lost: half the window, once a round trip.
    pub(crate) fn cut(&mut self, now: Time, round_trip: Duration) {
        if now >= self.cut_again {
            self.window = (self.window / 2).max(WINDOW_MIN);
            self.threshold = self.window;
            self.cut_again = now + round_trip;
        }
    }
}

/// The largest window under random loss (Mathis et al. 1997), in bytes.
pub(crate) fn window_under_loss(loss: f64, window_max: u64) -> u64 {
    if loss <= 0.0 {
        return window_max;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a float becomes the nearest integer, and the result is clamped"
    )]
    let window = (SEGMENT_BYTES as f64 * 1.22 / loss.sqrt()) as u64;
    window.clamp(WINDOW_MIN, window_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_keeps_its_rate_exactly() {
        let mut gate = Gate::new(Some(300_000_000));
        let mut last = Time::ZERO;
        for _ in 0..300_000_000 / 16_384 {
            last = gate.pass(last, 16_384);
        }
        let micros = last.as_micros();
        assert!((999_900..=1_000_000).contains(&micros), "{micros}");
    }

    #[test]
    fn two_gates_of_one_rate_in_a_row_cost_no_more_than_one() {
        let (mut up, mut down) = (Gate::new(Some(1000)), Gate::new(Some(1000)));
        let sent = up.pass(Time::ZERO, 1000);
        assert_eq!(down.pass_through(sent, 1000), sent);
        let crowd = down.pass_through(sent, 1000);
        assert_eq!(crowd, sent + Duration::from_secs(1), "a second one waits");
    }

    #[test]
    fn a_window_a_round_trip_is_the_rate() {
        // 100 ms away, and loss keeps the window at 14,480 bytes.
        let (round_trip, window_max) = (Duration::from_millis(100), 14_480);
        let (mut flow, mut now, mut sent) = (Flow::new(), Time::ZERO, 0);
        while now < Time::from_secs(100) {
            assert!(flow.has_room(now, window_max));
            flow.send(16_384);
            sent += 16_384;
            now = flow.arrive(now + round_trip, 16_384, round_trip);
        }
        let rate = sent / 100;
        assert!((140_000..150_000).contains(&rate), "{rate}");
    }

    #[test]
    fn slow_start_doubles_and_loss_halves() {
        let round_trip = Duration::from_millis(100);
        let mut flow = Flow::new();
        let before = flow.window;
        flow.send(before);
        flow.arrive(Time::from_millis(100), before, round_trip);
        assert!(flow.has_room(Time::from_millis(100), u64::MAX));
        assert_eq!(flow.window, before * 2);
        flow.cut(Time::from_millis(100), round_trip);
        flow.cut(Time::from_millis(150), round_trip);
        assert_eq!(flow.window, before);
    }

    #[test]
    fn one_percent_of_loss_is_twelve_segments() {
        assert_eq!(window_under_loss(0.01, u64::MAX), 17_665);
        assert_eq!(window_under_loss(0.0, 7), 7);
    }
}
