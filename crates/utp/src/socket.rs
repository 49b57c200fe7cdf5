//! One connection's state machine.
//!
//! ```text
//! dialled:   SynSent ──STATE──► Connected ──both ends finished──► Closing ──a moment──► Ended
//! accepted:  SynReceived ──first proper ACK──► Connected
//! any:       RESET, a lie, or silence ──► Ended
//! ```

mod incoming;
mod outgoing;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use riverrun_base::{Rng, Time};

use crate::config::{DatagramLimits, UtpConfig};
use crate::congestion::Congestion;
use crate::demux::ConnectionIds;
use crate::mtu::PathMtu;
use crate::packet::{HEADER_LEN, Packet, PacketKind, SACK_BYTES_MAX};
use crate::recv::RecvBuffer;
use crate::rtt::Rtt;
use crate::send::{Run, SendBuffer};
use crate::seq::{Seq, random_u16};
use crate::timer::{Due, RetransmitTimer};

/// How often a `SYN` is sent: after 0, 1 and 3 seconds; 7 seconds are the end.
const SYN_ATTEMPTS_MAX: u32 = 3;

/// How long a peer that dialled has to show that it hears us.
const UNCONFIRMED_TIMEOUT: Duration = Duration::from_secs(4);

/// Timeouts in a row after which the peer is gone: a minute at least.
const TIMEOUTS_MAX: u32 = 6;

/// Timeouts in a row after which the path is suspected to carry only small packets.
const BLACK_HOLE_TIMEOUTS: u32 = 2;

/// Routers forget a mapping of UDP after half a minute of silence.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(29);

/// A peer that says nothing for so long is gone: all of the field sends something every two minutes, as the
/// protocol above demands (BEP 3), or keeps the path open like us.
const SILENCE_MAX: Duration = Duration::from_mins(5);

/// A control packet at its longest: header, selective acknowledgement.
const CONTROL_LEN_MAX: usize = HEADER_LEN + 2 + SACK_BYTES_MAX;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UtpEnd {
    /// Both sides have sent and received all.
    #[error("the connection was closed")]
    Finished,
    /// The peer does not answer, or not any more.
    #[error("no answer")]
    TimedOut,
    /// The peer ended it.
    #[error("the connection was reset by the peer")]
    Reset,
    /// The peer acknowledged what was never sent: it lies to be sent more than it can take, or it is broken.
    #[error("the peer acknowledged a packet that was never sent")]
    AckOfUnsent,
    /// We ended it.
    #[error("the connection was aborted")]
    Aborted,
}

/// Datagrams to send to the peer, side by side.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// All of them.
    pub bytes: &'a [u8],
    /// How long each is; the last may be shorter.
    pub segment_len: usize,
    /// It is one that is larger than what is known to pass, and cannot be cut anew: it must go so that routers may
    /// take it apart (IPv4 without "don't fragment"). All others are better lost than taken apart, for that is how
    /// the size of the path is found.
    pub may_fragment: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SynSent { attempts: u32, again: Time },
    SynReceived { until: Time },
    Connected,
    Closing { until: Time },
    Ended(UtpEnd),
}

/// Whether the peer waits for an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AckDue {
    No,
    /// After that many packets, at that time at the latest.
    Later(u32, Time),
    Now,
}

/// What [`UtpSocket::poll_transmit`] gave.
#[derive(Clone, Copy, Debug)]
enum Offer {
    Control(PacketKind),
    Run(Run),
}

/// What we know of the peer's side.
#[derive(Clone, Copy, Debug, Default)]
struct PeerSide {
    /// How much it can take.
    window: usize,
    /// How much later than its timestamp its last packet arrived.
    delay_micros: u32,
    /// What we last told it that we can take.
    told_window: usize,
    /// When it was last heard.
    heard_at: Time,
}

/// One uTP connection.
///
/// After any input, send what [`Self::poll_transmit`] gives until it gives nothing, confirming each with
/// [`Self::handle_transmitted`]; and call [`Self::handle_timeout`] at [`Self::poll_timeout`].
#[derive(Debug)]
pub struct UtpSocket {
    config: UtpConfig,
    ids: ConnectionIds,
    state: State,
    send: SendBuffer,
    recv: RecvBuffer,
    congestion: Congestion,
    rtt: Rtt,
    mtu: PathMtu,
    peer: PeerSide,
    ack: AckDue,
    timer: RetransmitTimer,
    reset_due: bool,
    last_sent: Time,
    offer: Option<Offer>,
    control: [u8; CONTROL_LEN_MAX],
}

impl UtpSocket {
    /// A connection that we dial: a `SYN` is the first to leave.
    pub fn connect(
        now: Time,
        config: UtpConfig,
        peer: SocketAddr,
        ids: ConnectionIds,
        seed: u64,
    ) -> Self {
        let origin = Seq(random_u16(&mut Rng::new(seed)));
        let state = State::SynSent {
            attempts: 0,
            again: now,
        };
        // The `SYN` has the number before the first packet's. BEP 29 has it begin at 1; all that is read from it
        // is what comes next, and a number that cannot be guessed keeps forgers out.
        Self::new(now, config, peer.ip(), ids, state, origin, Seq(0))
    }

    /// A connection that a peer dials; `syn` is its first packet. `None` if it is none.
    pub fn accept(
        now: Time,
        config: UtpConfig,
        peer: SocketAddr,
        ids: ConnectionIds,
        syn: &Packet<'_>,
        seed: u64,
    ) -> Option<Self> {
        if syn.header.kind != PacketKind::Syn {
            return None;
        }
        let origin = Seq(random_u16(&mut Rng::new(seed)));
        let state = State::SynReceived {
            until: now + UNCONFIRMED_TIMEOUT,
        };
        let mut socket = Self::new(now, config, peer.ip(), ids, state, origin, syn.header.seq);
        socket.note_header(now, &syn.header);
        socket.note_window(&syn.header);
        socket.ack = AckDue::Now;
        Some(socket)
    }

    fn new(
        now: Time,
        config: UtpConfig,
        peer: IpAddr,
        ids: ConnectionIds,
        state: State,
        origin: Seq,
        last_received: Seq,
    ) -> Self {
        Self {
            ids,
            state,
            send: SendBuffer::new(origin),
            recv: RecvBuffer::new(last_received, config.receive_buffer_bytes_max),
            congestion: Congestion::new(&config),
            rtt: Rtt::default(),
            mtu: PathMtu::new(DatagramLimits::of(peer)),
            peer: PeerSide::default(),
            ack: AckDue::No,
            timer: RetransmitTimer::default(),
            reset_due: false,
            last_sent: now,
            offer: None,
            control: [0; CONTROL_LEN_MAX],
            config,
        }
    }

    /// The ids under which the connection is known to both sides.
    pub const fn ids(&self) -> ConnectionIds {
        self.ids
    }

    /// Whether the peer has answered and not ended the connection.
    pub const fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected | State::Closing { .. })
    }

    /// How the connection ended, if it has.
    pub const fn end(&self) -> Option<UtpEnd> {
        match self.state {
            State::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// How many bytes may be in flight, by congestion control.
    pub fn congestion_window_bytes(&self) -> usize {
        self.congestion.window_bytes()
    }

    /// The mean round trip, if any was measured.
    pub const fn round_trip(&self) -> Option<Duration> {
        self.rtt.smoothed()
    }

    /// The largest datagram that is known to pass.
    pub const fn datagram_len(&self) -> usize {
        self.mtu.datagram_len()
    }

    /// How many bytes can be read.
    pub const fn readable_len(&self) -> usize {
        self.recv.readable_len()
    }

    /// Bytes to read: not all, if there are many.
    pub fn readable(&self) -> &[u8] {
        self.recv.readable()
    }

    /// Takes the first `count` bytes that can be read as read.
    ///
    /// # Panics
    ///
    /// If `count` is more than there is.
    pub fn consume(&mut self, count: usize) {
        self.recv.consume(count);
        self.was_read();
    }

    /// Takes all of [`Self::readable`] as read, without copying it, in exchange for a buffer that is no longer used.
    /// Gives an empty one if there is nothing to read.
    #[must_use]
    pub fn take_readable(&mut self, buffer: Vec<u8>) -> Vec<u8> {
        let taken = self.recv.take(buffer);
        self.was_read();
        taken
    }

    fn was_read(&mut self) {
        // A window that was nearly shut and is wide again is news.
        let (told, limit) = (self.peer.told_window, self.recv.limit());
        let is_news = told < limit / 4 && self.recv.window() >= limit / 2;
        if self.state == State::Connected && is_news {
            self.ack = AckDue::Now;
        }
    }

    /// Whether the peer has finished and all that it sent was read.
    pub fn is_at_end(&self) -> bool {
        self.recv.is_finished() && self.recv.readable_len() == 0
    }

    /// How many bytes [`Self::write`] takes now.
    pub fn writable_len(&self) -> usize {
        if self.send.has_fin() || matches!(self.state, State::Ended(_)) {
            return 0;
        }
        self.send_limit().saturating_sub(self.send.buffered_bytes())
    }

    /// Whether half of the room or more is free: what is written before that makes many small writes.
    pub fn is_writable(&self) -> bool {
        self.is_connected() && self.writable_len() >= self.send_limit() / 2
    }

    /// As much as the window lets go and as much again, so that there is always more to send; not more, or old
    /// data would stand in front of new.
    fn send_limit(&self) -> usize {
        let wanted = (2 * self.congestion.window_bytes()).max(64 * 1024);
        wanted.min(self.config.send_buffer_bytes_max)
    }

    /// Takes in bytes to send, as many as there is room for, and says how many.
    pub fn write(&mut self, now: Time, data: &[u8]) -> usize {
        if matches!(self.state, State::Ended(_)) {
            return 0;
        }
        let limit = self.send_limit();
        let written = self.send.write(now, &mut self.mtu, data, limit);
        if self.state == State::Connected && written > 0 {
            // The peer may have no room: then this is the only clock that runs.
            self.timer.arm(now);
        }
        written
    }

    /// Ends our direction when all has been sent. The other stays open until the peer does the same.
    pub fn close(&mut self, now: Time) {
        match self.state {
            State::Connected => {
                self.send.finish(now, &mut self.mtu);
                self.timer.arm(now);
            }
            State::SynSent { .. } | State::SynReceived { .. } => {
                self.state = State::Ended(UtpEnd::Aborted);
            }
            State::Closing { .. } | State::Ended(_) => {}
        }
    }

    /// Ends the connection at once. The peer is told, if it has proved to be there.
    pub fn abort(&mut self) {
        if self.is_connected() {
            self.reset_due = true;
        }
        if self.end().is_none() {
            self.state = State::Ended(UtpEnd::Aborted);
        }
    }

    /// When to call [`Self::handle_timeout`]; `None` if there is nothing to wait for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let ack = match self.ack {
            AckDue::Later(_, at) => Some(at),
            AckDue::No | AckDue::Now => None,
        };
        match self.state {
            State::Ended(_) => None,
            State::SynSent { again, .. } => Some(again),
            State::SynReceived { until } | State::Closing { until } => Some(until),
            State::Connected => {
                let keepalive = self.last_sent + KEEPALIVE_AFTER;
                let retransmit = self.timer.deadline(&self.rtt, self.has_stalled());
                let silence = self.peer.heard_at + SILENCE_MAX;
                [ack, retransmit, Some(keepalive), Some(silence)]
                    .into_iter()
                    .flatten()
                    .min()
            }
        }
    }

    /// Whether data waits that no acknowledgement will set free.
    fn has_stalled(&self) -> bool {
        !self.send.is_outstanding() && self.send.has_waiting()
    }

    /// Does what the time has come for.
    pub fn handle_timeout(&mut self, now: Time) {
        match self.state {
            State::SynSent { attempts, again } if now >= again && attempts >= SYN_ATTEMPTS_MAX => {
                self.state = State::Ended(UtpEnd::TimedOut);
            }
            State::SynReceived { until } if now >= until => {
                self.state = State::Ended(UtpEnd::TimedOut);
            }
            State::Closing { until } if now >= until => {
                self.state = State::Ended(UtpEnd::Finished);
            }
            State::Connected => self.handle_timeout_connected(now),
            _ => {}
        }
    }

    fn handle_timeout_connected(&mut self, now: Time) {
        if now.since(self.last_sent) >= KEEPALIVE_AFTER {
            self.ack = AckDue::Now;
        }
        if now.since(self.peer.heard_at) >= SILENCE_MAX {
            self.give_up();
            return;
        }
        let stalled = self.has_stalled();
        match self.timer.due(now, &self.rtt, stalled) {
            None => {}
            Some(Due::Probe) => {
                let repeated = self.send.repeat_last();
                // Not a loss yet, except of a probe, which is not repeated as one.
                if repeated.probe_arrived == Some(false) {
                    self.mtu.lost(now);
                }
            }
            Some(Due::Timeout { in_a_row }) if in_a_row > TIMEOUTS_MAX => self.give_up(),
            Some(Due::Timeout { in_a_row }) => {
                self.rtt.timed_out();
                let lost = self.send.lose_all();
                if lost.probe_arrived == Some(false) {
                    self.mtu.lost(now);
                }
                if in_a_row == BLACK_HOLE_TIMEOUTS {
                    self.mtu.black_hole(now);
                }
                if !stalled && !self.peer_is_full() {
                    self.congestion
                        .timed_out(self.send.next_order(), self.packet_len());
                }
            }
        }
    }

    /// The peer does not answer any more. If it only cannot be heard, it is told.
    fn give_up(&mut self) {
        self.reset_due = true;
        self.state = State::Ended(UtpEnd::TimedOut);
    }
}

/// The time as it goes on the wire: microseconds, wrapped.
fn clock(now: Time) -> u32 {
    u32::try_from(now.as_micros() & u64::from(u32::MAX)).unwrap_or(0)
}
