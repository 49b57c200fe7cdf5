//! How many requests to keep under way at the peer.
//!
//! Depth is rate × (shortest round trip + the peer's service interval) × 1.5: what fills the pipe, and half
//! as much again, so that a path that was underestimated shows a higher rate and is believed. It begins
//! small and doubles every round trip until requests begin to wait at the peer (slow start), and is then
//! computed from what was measured.
//!
//! ```text
//! SlowStart ── requests wait at the peer ──► Cruise
//!     ▲                                        │
//!     └── a block comes ── Snubbed ◄── none came for long
//! ```

use std::time::Duration;

use riverrun_base::{BLOCK_LEN, Time};

use crate::patience::Patience;

/// With how many a connection begins: 64 KiB, what a peer of whom nothing is known may cost.
const DEPTH_INITIAL: u32 = 4;
/// Never fewer: one that is being sent and one that waits, or the peer would rest for a round trip.
const DEPTH_MIN: u32 = 2;
/// How many a peer is taken to keep waiting that does not say (BEP 10, `reqq`).
const PEER_QUEUE_DEFAULT: u32 = 250;
/// The bounds of what is believed of a peer's service interval. Rate limits are served in rounds of 100 ms and
/// more, and from a burst at the start of a round nothing can be told of its length: with less asked ahead, a peer
/// that could give more in a round has nothing to give. Above the upper bound it is a stall and not a rhythm.
const SERVICE_MIN: Duration = Duration::from_millis(100);
const SERVICE_MAX: Duration = Duration::from_millis(500);
/// Requests that follow the last block within this time follow it at once: deciding and telling take no longer.
const REFILL_MAX: Duration = Duration::from_millis(20);
/// The shortest time over which a rate is measured.
const INTERVAL_MIN: Duration = Duration::from_millis(50);
/// Over how long all round trips must be too long before the path is believed to have become longer.
const REROUTE_AFTER: Duration = Duration::from_secs(5);

/// A block that was requested and has come.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Its length.
    pub len: u32,
    /// How long ago it was requested.
    pub latency: Duration,
    /// How many requests were under way, itself counted.
    pub under_way: usize,
}

/// The request window of one connection: what a [`PeerConn`](crate::PeerConn) reports as
/// [`PeerEvent::Window`](crate::PeerEvent::Window), for whoever joins decisions without one.
#[derive(Clone, Debug)]
pub struct Window {
    depth_max: u32,
    time_max: Duration,
    peer_queue_max: u32,
    phase: Phase,
    depth: u32,
    /// What was told last.
    told: u32,
    path: Path,
    delivery: Delivery,
    patience: Patience,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    SlowStart,
    Cruise,
    Snubbed,
}

impl Window {
    /// A window of at most `depth_max` requests, and at most `time_max` worth of data.
    pub fn new(depth_max: u32, time_max: Duration) -> Self {
        Self {
            depth_max,
            time_max,
            peer_queue_max: PEER_QUEUE_DEFAULT,
            phase: Phase::SlowStart,
            depth: DEPTH_INITIAL,
            told: 0,
            path: Path::default(),
            delivery: Delivery::default(),
            patience: Patience::default(),
        }
    }

    /// For how long the peer may send nothing of what it owes, where others may for `timeout`: longer if it was seen to
    /// answer late.
    #[must_use]
    pub fn patience(&self, timeout: Duration) -> Duration {
        self.patience.of(timeout)
    }

    /// The peer says how many requests it keeps waiting.
    pub fn set_peer_queue_max(&mut self, max: u32) {
        self.peer_queue_max = max;
    }

    /// The depth, if it has changed by so much since it was told last that it matters.
    pub fn take_change(&mut self) -> Option<u32> {
        let depth = self.clamped();
        let matters = depth.abs_diff(self.told) >= (self.told / 8).max(1);
        matters.then(|| {
            self.told = depth;
            depth
        })
    }

    /// Requests go out and none were under way. After a pause of ours, the time since the last block says nothing
    /// of the peer; at once, it does: a peer that serves in rounds has just answered all at the end of one, and
    /// shows how long a round is with the next block.
    pub fn handle_start(&mut self, now: Time) {
        let paused = |last: Time| now.since(last) > REFILL_MAX;
        if self.path.last_arrival.is_some_and(|last| !paused(last)) {
            return;
        }
        self.path.last_arrival = None;
        self.delivery.restart(now);
    }

    /// A requested block has come.
    pub fn handle_arrival(&mut self, now: Time, arrival: Arrival) {
        self.patience.note(now, arrival.latency);
        if self.phase == Phase::Snubbed {
            self.phase = Phase::SlowStart;
            self.depth = DEPTH_MIN;
            self.delivery = Delivery::default();
            self.delivery.restart(now);
        }
        self.path.handle_arrival(now, arrival.latency);
        if arrival.under_way < self.depth as usize / 2 {
            self.delivery.starved = true;
        }
        let over = self.delivery.add(now, arrival.len, self.path.interval());
        match self.phase {
            Phase::SlowStart => self.grow(arrival.latency),
            Phase::Cruise if over => self.depth = self.computed(),
            Phase::Cruise | Phase::Snubbed => {}
        }
        if over {
            let ahead = self.path.ahead();
            self.path.reroute(now, ahead, self.delivery.rate_bytes);
        }
    }

    /// The peer owes blocks and sends none.
    pub fn handle_snub(&mut self) {
        self.phase = Phase::Snubbed;
        self.depth = 1;
    }

    fn grow(&mut self, latency: Duration) {
        let waits_there = latency > self.path.fills() * 2;
        let far_enough = self.delivery.rate_bytes > 0 && self.depth > self.blocks_in(self.time_max);
        if (waits_there || far_enough) && self.delivery.rate_bytes > 0 {
            self.phase = Phase::Cruise;
            // What was measured while the window grew is too low by as much as it grew.
            self.delivery.starved = true;
        } else if !waits_there {
            self.depth = self.depth.saturating_add(1).min(self.limit());
        }
    }

    fn computed(&self) -> u32 {
        self.blocks_in(self.path.ahead().min(self.time_max))
    }

    /// How many blocks come in `time`, rounded up.
    fn blocks_in(&self, time: Duration) -> u32 {
        let bytes = u128::from(self.delivery.rate_bytes) * time.as_micros() / 1_000_000;
        let blocks = bytes.div_ceil(u128::from(BLOCK_LEN));
        u32::try_from(blocks).unwrap_or(u32::MAX)
    }

    fn limit(&self) -> u32 {
        self.depth_max.min(self.peer_queue_max).max(1)
    }

    fn clamped(&self) -> u32 {
        let min = if self.phase == Phase::Snubbed {
            1
        } else {
            DEPTH_MIN
        };
        self.depth.max(min).min(self.limit())
    }
}

/// The way to the peer and back, and how regularly it serves.
#[derive(Clone, Debug)]
struct Path {
    /// The shortest time that a request took.
    round_trip: Option<Duration>,
    /// The longest pause between blocks while some were owed; falls slowly.
    service: Duration,
    last_arrival: Option<Time>,
    /// The shortest time that a request took lately.
    lately: Lately,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lately {
    since: Time,
    shortest: Option<Duration>,
    rate_bytes: u64,
}

impl Default for Path {
    fn default() -> Self {
        Self {
            round_trip: None,
            service: SERVICE_MIN,
            last_arrival: None,
            lately: Lately::default(),
        }
    }
}

impl Path {
    fn handle_arrival(&mut self, now: Time, latency: Duration) {
        let shortest = |known: Option<Duration>| Some(known.map_or(latency, |k| k.min(latency)));
        self.round_trip = shortest(self.round_trip);
        self.lately.shortest = shortest(self.lately.shortest);
        if let Some(last) = self.last_arrival {
            let pause = now.since(last).min(SERVICE_MAX);
            let falling = self.service * 63 / 64;
            self.service = pause.max(falling).max(SERVICE_MIN);
        }
        self.last_arrival = Some(now);
    }

    /// How much time's worth of requests just fills the path.
    fn fills(&self) -> Duration {
        self.round_trip.unwrap_or_default() + self.service
    }

    /// How much time's worth to request ahead.
    fn ahead(&self) -> Duration {
        self.fills() * 3 / 2
    }

    /// Over how long to measure a rate: at least one round trip, or the same blocks would count as a burst
    /// now and a pause then.
    fn interval(&self) -> Duration {
        self.fills().max(INTERVAL_MIN)
    }

    /// Lets the round trip become longer. A window computed from one that is too short starves: the rate
    /// falls, with it the window, and so on; or blocks come in bursts, a round trip apart. Then every request takes
    /// longer than was asked ahead, which our own requests waiting at the peer cannot explain: with a falling rate
    /// by anything, else by so much that no error of measurement does.
    fn reroute(&mut self, now: Time, ahead: Duration, rate_bytes: u64) {
        if now.since(self.lately.since) < REROUTE_AFTER {
            return;
        }
        let fell = rate_bytes < self.lately.rate_bytes / 4 * 3;
        let explained = if fell { ahead } else { ahead * 5 / 4 };
        let shortest = self.lately.shortest;
        if shortest.is_some_and(|shortest| shortest > explained) {
            self.round_trip = shortest;
        }
        self.lately = Lately {
            since: now,
            shortest: None,
            rate_bytes,
        };
    }
}

/// How fast blocks come.
#[derive(Clone, Debug, Default)]
struct Delivery {
    /// Bytes per second; 0 before the first measurement.
    rate_bytes: u64,
    since: Time,
    bytes: u64,
    /// Too few requests were under way to show what the peer can do: may raise the rate, not lower it.
    starved: bool,
}

impl Delivery {
    fn restart(&mut self, now: Time) {
        (self.since, self.bytes, self.starved) = (now, 0, false);
    }

    /// Counts a block; whether that ended a measurement.
    fn add(&mut self, now: Time, len: u32, interval: Duration) -> bool {
        self.bytes += u64::from(len);
        let micros = now.since(self.since).as_micros();
        if micros < interval.as_micros() {
            return false;
        }
        let rate = u128::from(self.bytes) * 1_000_000 / micros.max(1);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        if rate >= self.rate_bytes {
            self.rate_bytes = rate;
        } else if !self.starved {
            // Quickly up and slowly down: a short stall must not empty the pipe.
            self.rate_bytes -= (self.rate_bytes - rate) / 8;
        }
        self.restart(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A peer at the end of a path: serves `rate_bytes` a second, in ticks of `tick`, `round_trip` away.
    #[derive(Clone, Copy)]
    struct Peer {
        rate_bytes: u64,
        round_trip: Duration,
        tick: Duration,
    }

    const fn peer(rate_bytes: u64, round_trip_micros: u64) -> Peer {
        Peer {
            rate_bytes,
            round_trip: Duration::from_micros(round_trip_micros),
            tick: Duration::ZERO,
        }
    }

    struct Run {
        window: Window,
        now: Time,
        /// When each request was sent, and when its block comes.
        under_way: VecDeque<(Time, Time)>,
        busy_until: Time,
    }

    impl Run {
        fn new(peer_queue_max: u32) -> Self {
            let mut window = Window::new(2000, Duration::from_secs(3));
            window.set_peer_queue_max(peer_queue_max);
            let (now, busy_until) = (Time::ZERO, Time::ZERO);
            Self {
                window,
                now,
                under_way: VecDeque::new(),
                busy_until,
            }
        }

        /// Keeps the window full for `time`; gives bytes per second over its second half.
        fn drive(&mut self, peer: Peer, time: Duration) -> u64 {
            let (end, half) = (self.now + time, self.now + time / 2);
            let mut bytes = 0;
            loop {
                while self.under_way.len() < self.window.clamped() as usize {
                    self.request(peer);
                }
                let (sent, comes) = self.under_way[0];
                if comes > end {
                    self.now = end;
                    return bytes * 1_000_000 / u64::try_from((end - half).as_micros()).unwrap();
                }
                self.now = comes;
                bytes += if comes > half {
                    u64::from(BLOCK_LEN)
                } else {
                    0
                };
                let arrival = Arrival {
                    len: BLOCK_LEN,
                    latency: comes - sent,
                    under_way: self.under_way.len(),
                };
                self.under_way.pop_front();
                self.window.handle_arrival(comes, arrival);
            }
        }

        fn request(&mut self, peer: Peer) {
            let block = Duration::from_micros(u64::from(BLOCK_LEN) * 1_000_000 / peer.rate_bytes);
            let starts = (self.now + peer.round_trip / 2).max(self.busy_until);
            self.busy_until = starts + block;
            let mut leaves = self.busy_until.as_micros();
            if let Ok(tick @ 1..) = u64::try_from(peer.tick.as_micros()) {
                leaves = leaves.next_multiple_of(tick);
            }
            let comes = Time::from_micros(leaves) + peer.round_trip / 2;
            self.under_way.push_back((self.now, comes));
        }
    }

    #[track_caller]
    fn fills(peer: Peer, depth: std::ops::RangeInclusive<u32>) {
        let mut run = Run::new(2000);
        let rate = run.drive(peer, Duration::from_secs(20));
        assert!(rate >= peer.rate_bytes / 100 * 97, "only {rate} bytes/s");
        let found = run.window.clamped();
        assert!(depth.contains(&found), "depth {found}");
    }

    #[test]
    fn the_window_fills_the_pipe_and_not_much_more() {
        fills(peer(125_000_000, 20_000), 230..=1500);
        fills(peer(12_500_000, 50_000), 57..=190);
        fills(peer(1_000_000, 200_000), 18..=35);
        fills(peer(100_000, 100_000), 2..=8);
        // Loopback: no round trip to speak of, half a gigabyte a second.
        fills(peer(500_000_000, 100), 100..=2000);
    }

    #[test]
    fn a_slow_peer_is_asked_for_seconds_and_not_minutes() {
        let mut run = Run::new(2000);
        run.drive(peer(8_000, 100_000), Duration::from_mins(1));
        assert!(run.window.clamped() <= 3, "{}", run.window.clamped());
    }

    #[test]
    fn a_peer_that_serves_in_ticks_is_kept_busy() {
        let ticking = Peer {
            tick: Duration::from_millis(250),
            ..peer(5_000_000, 20_000)
        };
        fills(ticking, 90..=400);
    }

    #[test]
    fn a_peer_that_answers_all_once_a_round_is_asked_for_more_each_round() {
        const ROUND_BLOCKS: u32 = 100;
        let mut window = Window::new(2000, Duration::from_secs(3));
        let arrival = |latency, under_way| Arrival {
            len: BLOCK_LEN,
            latency,
            under_way,
        };
        window.handle_start(Time::ZERO);
        window.handle_arrival(
            Time::from_micros(100),
            arrival(Duration::from_micros(100), 1),
        );
        let mut sent = Time::from_micros(200);
        for round in 1..=100 {
            window.handle_start(sent);
            let comes = Time::from_millis(round * 100);
            for left in (1..=window.clamped().min(ROUND_BLOCKS)).rev() {
                window.handle_arrival(comes, arrival(comes - sent, left as usize));
            }
            sent = comes + Duration::from_millis(1);
        }
        assert!(window.clamped() >= ROUND_BLOCKS, "{}", window.clamped());
    }

    #[test]
    fn a_fast_path_is_full_within_a_few_round_trips() {
        let mut run = Run::new(2000);
        let peer = peer(125_000_000, 20_000);
        run.drive(peer, Duration::from_millis(200));
        assert!(run.window.clamped() >= 153, "{}", run.window.clamped());
    }

    #[test]
    fn the_peers_queue_bounds_the_window() {
        let mut run = Run::new(100);
        run.drive(peer(125_000_000, 20_000), Duration::from_secs(2));
        assert_eq!(run.window.clamped(), 100);
        run.window.set_peer_queue_max(1);
        assert_eq!(run.window.take_change(), Some(1));
    }

    #[test]
    fn a_path_that_becomes_longer_or_faster_is_learned_again() {
        let mut run = Run::new(2000);
        run.drive(peer(5_000_000, 20_000), Duration::from_secs(20));
        let longer = peer(5_000_000, 300_000);
        let rate = run.drive(longer, Duration::from_mins(2));
        assert!(rate >= 4_800_000, "only {rate} bytes/s");
        let faster = peer(20_000_000, 20_000);
        let rate = run.drive(faster, Duration::from_secs(20));
        assert!(rate >= 19_000_000, "only {rate} bytes/s");
    }

    #[test]
    fn a_snub_leaves_one_request_until_a_block_comes() {
        let mut run = Run::new(2000);
        run.drive(peer(5_000_000, 20_000), Duration::from_secs(5));
        run.window.take_change();
        run.window.handle_snub();
        assert_eq!(run.window.take_change(), Some(1));
        let rate = run.drive(peer(5_000_000, 20_000), Duration::from_secs(5));
        assert!(rate >= 4_800_000, "only {rate} bytes/s");
    }

    #[test]
    fn only_changes_that_matter_are_told() {
        let mut window = Window::new(2000, Duration::from_secs(3));
        assert_eq!(window.take_change(), Some(DEPTH_INITIAL));
        assert_eq!(window.take_change(), None);
        window.set_peer_queue_max(2000);
        (window.depth, window.told) = (107, 100);
        assert_eq!(window.take_change(), None);
        window.depth = 112;
        assert_eq!(window.take_change(), Some(112));
    }
}
