//! A model of TCP to compare with: Reno with selective acknowledgements (RFC 5681, 6675), always with data to
//! send, its acknowledgements never lost.

use std::collections::BTreeMap;
use std::time::Duration;

use riverrun_base::Time;

/// Payload of a segment.
pub(crate) const SEGMENT: usize = 1448;

const RTO_MIN: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TcpSegment {
    number: u64,
    order: u64,
    sent_at: Time,
}

impl TcpSegment {
    pub(crate) const fn wire_len(self) -> usize {
        let _ = self;
        SEGMENT + 52
    }
}

#[derive(Debug)]
pub(crate) struct TcpFlow {
    next: u64,
    order: u64,
    window: f64,
    threshold: f64,
    /// Transmission order → segment number.
    in_flight: BTreeMap<u64, u64>,
    lost: Vec<u64>,
    recovery_until: u64,
    smoothed: Duration,
    last_progress: Time,
    pub(crate) delivered: u64,
    done: std::collections::BTreeSet<u64>,
    first_open: u64,
}

impl TcpFlow {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            next: 0,
            order: 0,
            window: 10.0,
            threshold: f64::INFINITY,
            in_flight: BTreeMap::new(),
            lost: Vec::new(),
            recovery_until: 0,
            smoothed: Duration::from_millis(200),
            last_progress: now,
            delivered: 0,
            done: std::collections::BTreeSet::new(),
            first_open: 0,
        }
    }

    pub(crate) fn poll_transmit(&mut self, now: Time) -> Option<TcpSegment> {
        if self.in_flight.len() >= self.window_segments() {
            return None;
        }
        let number = self.lost.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        let order = self.order;
        self.order += 1;
        self.in_flight.insert(order, number);
        Some(TcpSegment {
            number,
            order,
            sent_at: now,
        })
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a window is positive and small"
    )]
    fn window_segments(&self) -> usize {
        self.window as usize
    }

    pub(crate) fn handle_ack(&mut self, now: Time, segment: TcpSegment) {
        self.in_flight.remove(&segment.order);
        self.last_progress = now;
        let sample = now - segment.sent_at;
        self.smoothed = (self.smoothed * 7 + sample) / 8;
        if segment.number >= self.first_open && self.done.insert(segment.number) {
            self.delivered += SEGMENT as u64;
            while self.done.remove(&self.first_open) {
                self.first_open += 1;
            }
            if segment.order >= self.recovery_until {
                self.window += if self.window < self.threshold {
                    1.0
                } else {
                    1.0 / self.window
                };
            }
        }
        let until = segment.order.saturating_sub(3);
        let kept = self.in_flight.split_off(&until);
        let lost = std::mem::replace(&mut self.in_flight, kept);
        if lost.keys().any(|order| *order >= self.recovery_until) {
            self.recovery_until = self.order;
            self.threshold = (self.window / 2.0).max(2.0);
            self.window = self.threshold;
        }
        self.lost.extend(lost.into_values());
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let wait = (self.smoothed * 2).max(RTO_MIN);
        (!self.in_flight.is_empty()).then(|| self.last_progress + wait)
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        if self.poll_timeout().is_some_and(|at| now >= at) {
            self.last_progress = now;
            let lost = std::mem::take(&mut self.in_flight);
            self.lost.extend(lost.into_values());
            self.threshold = (self.window / 2.0).max(2.0);
            self.window = 1.0;
            self.recovery_until = self.order;
        }
    }
}
