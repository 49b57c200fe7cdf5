//! Packets out.

use riverrun_base::Time;

use super::{AckDue, Offer, State, Transmit, UtpSocket, clock};
use crate::packet::{HEADER_LEN, Header, PacketKind, SACK_BYTES_MAX};
use crate::send::Allowance;

impl UtpSocket {
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
                Some(Transmit {
                    bytes,
                    segment_len: len,
                    may_fragment: false,
                })
            }
            Offer::Run(run) => {
                let may_fragment = self.send.exceeds(run, self.packet_len());
                let (bytes, segment_len) = self.send.prepare(run, header);
                Some(Transmit {
                    bytes,
                    segment_len,
                    may_fragment,
                })
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
                    packet_len: self.packet_len(),
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
}
