//! One connection's state machine.
//!
//! ```text
//! dialled:   SynSent ──STATE──► Connected ──both ends finished──► Closing ──a moment──► Ended
//! accepted:  SynReceived ──first proper ACK──► Connected
//! any:       RESET, a lie, or silence ──► Ended
//! ```

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use riverrun_base::{Rng, Time};

use crate::config::{DatagramLimits, UtpConfig};
use crate::congestion::Congestion;
use crate::demux::ConnectionIds;
use crate::mtu::PathMtu;
use crate::packet::{HEADER_LEN, Header, Packet, PacketKind, SACK_BYTES_MAX};
use crate::recv::{Received, RecvBuffer};
use crate::rtt::Rtt;
use crate::send::{Acked, Allowance, Run, SendBuffer};
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

/// An acknowledgement waits that long for data to go with, or for a second packet.
const ACK_DELAY: Duration = Duration::from_millis(20);

/// How many packets one acknowledgement may stand for, if they come one by one.
const ACK_PACKETS: u32 = 2;

/// Routers forget a mapping of UDP after half a minute of silence.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(29);

/// A peer that says nothing for so long is gone: all of the field sends something every two minutes, as the
/// protocol above demands (BEP 3), or keeps the path open like us.
const SILENCE_MAX: Duration = Duration::from_mins(5);

/// How long a finished connection still answers a peer that has not heard so.
const CLOSING_TIME: Duration = Duration::from_secs(1);

/// A control packet at its longest: header, selective acknowledgement.
const CONTROL_LEN_MAX: usize = HEADER_LEN + 2 + SACK_BYTES_MAX;

/// How far a number without payload may be off from what we have, before it is a forgery or from another time.
const SEQ_DISTANCE_MAX: i16 = 8192;

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

    // Bytes.

    /// How many bytes can be read.
    pub fn readable_len(&self) -> usize {
        self.recv.readable_len()
    }

    /// Bytes to read: all, or those up to where the buffer wraps around.
    pub fn readable(&self) -> &[u8] {
        self.recv.readable()
    }

    /// Takes the first `count` bytes of [`Self::readable`] as read.
    ///
    /// # Panics
    ///
    /// If `count` is more than there is.
    pub fn consume(&mut self, count: usize) {
        self.recv.consume(count);
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

    // Packets in.

    /// Takes in a packet that [`Demux`](crate::Demux) has found to be for this connection.
    pub fn handle_packet(&mut self, now: Time, packet: &Packet<'_>) {
        let header = &packet.header;
        match (self.state, header.kind) {
            (State::Ended(_), _) => {}
            (_, PacketKind::Reset) => self.handle_reset(header),
            (State::SynReceived { .. }, PacketKind::Syn) if self.recv.ack() == header.seq => {
                // Ours was lost. One answer a question.
                self.ack = AckDue::Now;
            }
            (_, PacketKind::Syn) => {}
            (State::SynSent { .. }, kind) => self.handle_answer(now, header, kind),
            (State::SynReceived { .. }, _) => {
                // The proof that the peer hears us: it knows the number that we drew.
                if header.ack == self.send.next_seq().previous() && self.is_plausible(packet) {
                    self.state = State::Connected;
                    self.handle_connected(now, packet);
                }
            }
            (State::Connected | State::Closing { .. }, _) => self.handle_connected(now, packet),
        }
    }

    fn handle_reset(&mut self, header: &Header) {
        let is_ours = if let State::SynSent { attempts, .. } = self.state {
            attempts > 0 && header.ack == self.syn_seq()
        } else {
            // Whoever has not seen our numbers cannot say what it has received.
            let unsent = self.send.next_seq();
            (-SEQ_DISTANCE_MAX..=0).contains(&header.ack.offset_from(unsent))
        };
        if is_ours {
            self.state = State::Ended(UtpEnd::Reset);
        }
    }

    fn syn_seq(&self) -> Seq {
        self.send.next_seq().previous()
    }

    fn handle_answer(&mut self, now: Time, header: &Header, kind: PacketKind) {
        if kind != PacketKind::State || header.ack != self.syn_seq() {
            return;
        }
        if let State::SynSent { attempts: 1, .. } = self.state {
            self.rtt.measured(now.since(self.last_sent));
        }
        self.rtt.progressed();
        // A `STATE` has the number of the data that comes next, and uses none up, whatever the diagram in BEP 29
        // says: libutp and libtorrent agree.
        self.recv = RecvBuffer::new(header.seq.previous(), self.config.receive_buffer_bytes_max);
        self.state = State::Connected;
        self.note_header(now, header);
        self.note_window(header);
        // The peer may not send before it has heard from us.
        self.ack = AckDue::Later(0, now + ACK_DELAY);
    }

    /// Whether a packet can be from the peer as we know it: its number is near those that we have.
    fn is_plausible(&self, packet: &Packet<'_>) -> bool {
        let offset = packet.header.seq.offset_from(self.recv.ack());
        (-SEQ_DISTANCE_MAX..=SEQ_DISTANCE_MAX).contains(&offset)
    }

    fn handle_connected(&mut self, now: Time, packet: &Packet<'_>) {
        if !self.is_plausible(packet) {
            return;
        }
        let header = &packet.header;
        let is_pure = header.kind == PacketKind::State;
        let min_rtt = self.rtt.min().unwrap_or_default();
        let flight = self.send.in_flight_bytes();
        let result = self
            .send
            .acked(now, header.ack, packet.sack, is_pure, min_rtt);
        let Ok(acked) = result else {
            self.reset_due = true;
            self.state = State::Ended(UtpEnd::AckOfUnsent);
            return;
        };
        self.note_header(now, header);
        self.handle_acked(now, header, &acked, flight);
        if header.kind != PacketKind::State {
            let is_fin = header.kind == PacketKind::Fin;
            let received = self.recv.receive(header.seq, packet.payload, is_fin);
            self.owe_ack(now, received);
        }
        self.check_finished(now);
    }

    fn note_header(&mut self, now: Time, header: &Header) {
        let delay = clock(now).wrapping_sub(header.timestamp);
        self.peer.delay_micros = delay;
        self.peer.heard_at = now;
        self.congestion.saw_delay_from_peer(now, delay);
    }

    fn note_window(&mut self, header: &Header) {
        self.peer.window = usize::try_from(header.window).unwrap_or(usize::MAX);
    }

    fn handle_acked(&mut self, now: Time, header: &Header, acked: &Acked, flight: usize) {
        if let Some(sample) = acked.round_trip {
            self.rtt.measured(sample);
        }
        if !acked.is_old {
            self.note_window(header);
        }
        if self.peer_is_full() {
            // It is there, and has no room: as long as it says so it may take its time.
            self.timer.heard();
        }
        if acked.has_news && header.timestamp_difference != 0 {
            self.congestion
                .saw_delay_to_peer(now, header.timestamp_difference);
        }
        self.note_losses(now, acked);
        if acked.has_news {
            self.rtt.progressed();
            self.congestion.acked(
                acked.bytes,
                flight,
                self.send.acked_order(),
                self.packet_len(),
            );
            let waits = self.send.is_outstanding() || self.send.has_waiting();
            self.timer.progressed(now, waits);
        }
    }

    /// Whether the peer has no room for a packet.
    fn peer_is_full(&self) -> bool {
        self.peer.window < self.packet_len()
    }

    fn packet_len(&self) -> usize {
        self.mtu.datagram_len() - HEADER_LEN
    }

    fn note_losses(&mut self, now: Time, acked: &Acked) {
        match acked.probe_arrived {
            Some(true) => self.mtu.acked(now),
            Some(false) => self.mtu.lost(now),
            None => {}
        }
        if let Some(order) = acked.lost {
            let next = self.send.next_order();
            self.congestion.lost(order, next, self.packet_len());
        }
    }

    fn owe_ack(&mut self, now: Time, received: Received) {
        self.ack = match (received, self.ack) {
            // A gap, or its end, is news that cannot wait; so is that the peer repeats itself.
            (Received::Early | Received::Duplicate | Received::Refused, _) | (_, AckDue::Now) => {
                AckDue::Now
            }
            (Received::InOrder, _) if self.recv.has_gap() || self.recv.is_finished() => AckDue::Now,
            (Received::InOrder, AckDue::No) => AckDue::Later(1, now + ACK_DELAY),
            (Received::InOrder, AckDue::Later(count, at)) if count + 1 < ACK_PACKETS => {
                AckDue::Later(count + 1, at)
            }
            (Received::InOrder, AckDue::Later(..)) => AckDue::Now,
        };
    }

    fn check_finished(&mut self, now: Time) {
        if self.state == State::Connected && self.send.is_finished() && self.recv.is_finished() {
            self.state = State::Closing {
                until: now + CLOSING_TIME,
            };
        }
    }

    // Packets out.

    /// What to send next, up to `segments_max` datagrams of one size. Until [`Self::handle_transmitted`] confirms
    /// that it has left, the next call offers the like again.
    #[must_use]
    pub fn poll_transmit(&mut self, now: Time, segments_max: usize) -> Option<Transmit<'_>> {
        let offer = self.choose(now, segments_max)?;
        self.offer = Some(offer);
        let header = self.header(now);
        match offer {
            Offer::Control(kind) => {
                let len = self.write_control(kind, header);
                let bytes = &self.control[..len];
                let segment_len = len;
                Some(Transmit { bytes, segment_len })
            }
            Offer::Run(run) => {
                let (bytes, segment_len) = self.send.prepare(run, header);
                Some(Transmit { bytes, segment_len })
            }
        }
    }

    fn choose(&self, now: Time, segments_max: usize) -> Option<Offer> {
        if self.reset_due {
            return Some(Offer::Control(PacketKind::Reset));
        }
        let ack_due = match self.ack {
            AckDue::No => false,
            AckDue::Later(_, at) => now >= at,
            AckDue::Now => true,
        };
        let ack = ack_due.then_some(Offer::Control(PacketKind::State));
        match self.state {
            State::Ended(_) => None,
            State::SynSent { again, .. } => {
                (now >= again).then_some(Offer::Control(PacketKind::Syn))
            }
            State::SynReceived { .. } | State::Closing { .. } => ack,
            State::Connected => {
                // Data acknowledges too, but cannot say what came early.
                if ack_due && self.recv.has_gap() {
                    return ack;
                }
                let allowance = Allowance {
                    congestion: self.congestion.window_bytes(),
                    peer: self.peer.window,
                    forced: self.timer.is_forced(),
                    segments_max,
                };
                self.send.select(allowance).map(Offer::Run).or(ack)
            }
        }
    }

    fn header(&self, now: Time) -> Header {
        Header {
            kind: PacketKind::State,
            connection_id: self.ids.send,
            timestamp: clock(now),
            timestamp_difference: self.peer.delay_micros,
            window: u32::try_from(self.recv.window()).unwrap_or(u32::MAX),
            seq: self.send.next_seq(),
            ack: self.recv.ack(),
        }
    }

    fn write_control(&mut self, kind: PacketKind, header: Header) -> usize {
        let mut header = Header { kind, ..header };
        if kind == PacketKind::Syn {
            header.connection_id = self.ids.recv;
            header.seq = self.syn_seq();
        }
        let mut mask = [0; SACK_BYTES_MAX];
        let mask_len = match kind {
            PacketKind::State => self.recv.write_sack(&mut mask),
            _ => 0,
        };
        if mask_len == 0 {
            header.write(&mut self.control);
            return HEADER_LEN;
        }
        let len = HEADER_LEN + 2 + mask_len;
        header.write_with_sack(&mask[..mask_len], &mut self.control[..len]);
        len
    }

    /// What the last [`Self::poll_transmit`] gave has left.
    pub fn handle_transmitted(&mut self, now: Time) {
        let Some(offer) = self.offer.take() else {
            return;
        };
        self.last_sent = now;
        match offer {
            Offer::Control(PacketKind::Reset) => self.reset_due = false,
            Offer::Control(PacketKind::Syn) => {
                if let State::SynSent { attempts, .. } = self.state {
                    self.state = State::SynSent {
                        attempts: attempts + 1,
                        again: now + self.rtt.timeout(),
                    };
                    // Each wait is twice the last.
                    self.rtt.timed_out();
                }
            }
            Offer::Control(_) => {
                self.peer.told_window = self.recv.window();
                self.ack = AckDue::No;
            }
            Offer::Run(run) => {
                self.send.sent(now, run);
                self.timer.sent(now);
                self.peer.told_window = self.recv.window();
                if !self.recv.has_gap() {
                    self.ack = AckDue::No;
                }
            }
        }
    }

    // Time.

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
