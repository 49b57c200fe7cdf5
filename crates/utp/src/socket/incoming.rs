//! Packets in.

use std::time::Duration;

use riverrun_base::Time;

use super::{AckDue, State, UtpEnd, UtpSocket, clock};
use crate::congestion::Arrived;
use crate::packet::{HEADER_LEN, Header, Packet, PacketKind};
use crate::recv::{Received, RecvBuffer};
use crate::send::Acked;
use crate::seq::Seq;

/// An acknowledgement waits that long for data to go with, or for a second packet.
const ACK_DELAY: Duration = Duration::from_millis(20);

/// How many packets one acknowledgement may stand for, if they come one by one.
const ACK_PACKETS: u32 = 2;

/// How long a finished connection still answers a peer that has not heard so.
const CLOSING_TIME: Duration = Duration::from_secs(1);

/// How far a number without payload may be off from what we have, before it is a forgery or from another time.
const SEQ_DISTANCE_MAX: i16 = 8192;

impl UtpSocket {
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

    pub(super) fn syn_seq(&self) -> Seq {
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

    pub(super) fn note_header(&mut self, now: Time, header: &Header) {
        let delay = clock(now).wrapping_sub(header.timestamp);
        self.peer.delay_micros = delay;
        self.peer.heard_at = now;
        self.congestion.saw_delay_from_peer(now, delay);
    }

    pub(super) fn note_window(&mut self, header: &Header) {
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
            let arrived = Arrived {
                bytes: acked.bytes,
                flight,
                round_trip: self.rtt.smoothed().unwrap_or_default(),
            };
            let (order, packet_len) = (self.send.acked_order(), self.packet_len());
            self.congestion.acked(now, arrived, order, packet_len);
            let waits = self.send.is_outstanding() || self.send.has_waiting();
            self.timer.progressed(now, waits);
        }
    }

    /// Whether the peer has no room for a packet.
    pub(super) fn peer_is_full(&self) -> bool {
        self.peer.window < self.packet_len()
    }

    pub(super) fn packet_len(&self) -> usize {
        self.mtu.datagram_len() - HEADER_LEN
    }

    fn note_losses(&mut self, now: Time, acked: &Acked) {
        match acked.probe_arrived {
            Some(true) => self.mtu.acked(now),
            Some(false) => self.mtu.lost(now),
            None => {}
        }
        if let Some(len) = acked.lost_often {
            self.mtu.lost_often(now, HEADER_LEN + len);
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
}
