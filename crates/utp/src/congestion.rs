//! Delays and losses of one connection, as LEDBAT wants them.

use std::time::Duration;

use riverrun_base::Time;

use crate::config::UtpConfig;
use crate::delay::DelayHistory;
use crate::ledbat::{Ledbat, Progress};

/// What has arrived at the peer, by an acknowledgement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub(crate) bytes: usize,
    /// How many bytes were under way before.
    pub(crate) flight: usize,
    /// How long the way there and back takes, in the mean.
    pub(crate) round_trip: Duration,
}

/// What one connection knows of the path.
#[derive(Clone, Debug)]
pub(crate) struct Congestion {
    ledbat: Ledbat,
    to_peer: DelayHistory,
    from_peer: DelayHistory,
    /// Until a transmission from here on has arrived, more losses are news of the same congestion.
    recovery_until: u64,
}

impl Congestion {
    pub(crate) fn new(config: &UtpConfig) -> Self {
        Self {
            ledbat: Ledbat::new(
                config.target_delay,
                config.gain_bytes,
                config.send_buffer_bytes_max,
            ),
            to_peer: DelayHistory::new(),
            from_peer: DelayHistory::new(),
            recovery_until: 0,
        }
    }

    pub(crate) fn window_bytes(&self) -> usize {
        self.ledbat.window_bytes()
    }

    /// A packet of the peer's took so long by the two clocks (µs).
    pub(crate) fn saw_delay_from_peer(&mut self, now: Time, micros: u32) {
        if let Some(drift) = self.from_peer.drift(now, micros) {
            self.to_peer.shift(drift);
        }
    }

    /// A packet of ours took so long by the two clocks (µs), says the peer.
    pub(crate) fn saw_delay_to_peer(&mut self, now: Time, micros: u32) {
        let queue = self.to_peer.sample(now, micros);
        self.ledbat.delayed(queue);
    }

    /// Something has arrived. `order` is one past the latest transmission that has.
    pub(crate) fn acked(&mut self, now: Time, arrived: Arrived, order: u64, packet_len: usize) {
        if order <= self.recovery_until {
            return;
        }
        let Arrived {
            bytes,
            flight,
            round_trip,
        } = arrived;
        let progress = Progress {
            bytes,
            is_limited: flight + packet_len >= self.ledbat.window_bytes(),
            round_trip,
        };
        self.ledbat.acked(now, progress, packet_len);
    }

    /// Transmission `order` was lost; `next` will be the next.
    pub(crate) fn lost(&mut self, order: u64, next: u64, packet_len: usize) {
        if order >= self.recovery_until {
            self.recovery_until = next;
            self.ledbat.lost(packet_len);
        }
    }

    /// Nothing was heard for a whole timeout.
    pub(crate) fn timed_out(&mut self, next: u64, packet_len: usize) {
        self.recovery_until = next;
        self.ledbat.timed_out(packet_len);
    }
}
