//! What lines carry: uplinks in turn, what is on the way, downlinks.

use std::time::Duration;

use riverrun_base::Time;
use riverrun_peer::{CloseReason, PeerEvent};

use super::World;
use crate::ids::{EndId, HostId};
use crate::schedule::What;
use crate::streams::happens;
use crate::wire::{Chunk, Message, Sending, Talk, sender};

/// How often an end that cannot be reached is tried again while the network is split.
const SPLIT_RETRY: Duration = Duration::from_secs(1);

impl World {
    /// Sends a small message from an end to the other.
    pub(super) fn send(&mut self, from: EndId, message: Message) {
        let now = self.now;
        let Some(wire) = self.wires[from.wire()].as_deref_mut() else {
            return;
        };
        let host = wire.ends[from.side()].host;
        let at = now + wire.latency;
        let len = message.len_bytes();
        if len > 0 {
            self.hosts[host.as_usize()].up.gate.pass(now, len);
        }
        self.put_on_way(from.other(), at, message);
    }

    fn put_on_way(&mut self, to: EndId, at: Time, message: Message) {
        let Some(wire) = self.wires[to.wire()].as_deref_mut() else {
            return;
        };
        if let Some(at) = wire.ends[to.side()].pipe.push(at, message) {
            self.schedule.add(at, What::Arrive(to));
        }
    }

    /// An end has something to send that lines have to carry: its turn will come.
    pub(super) fn offer(&mut self, end_id: EndId) {
        let Some(wire) = self.wires[end_id.wire()].as_deref_mut() else {
            return;
        };
        let end = &mut wire.ends[end_id.side()];
        if end.has_turn || end.waits_for_room || !end.has_bulk() {
            return;
        }
        end.has_turn = true;
        let host = end.host;
        self.host_mut(host).up.turns.push_back(end_id);
        self.transmit(host);
    }

    /// Begins to send the next block of a host, if its uplink is free.
    fn transmit(&mut self, host: HostId) {
        while self.host(host).up.sending.is_none() {
            let Some(end_id) = self.host_mut(host).up.turns.pop_front() else {
                return;
            };
            self.take_turn(host, end_id);
        }
    }

    fn take_turn(&mut self, host: HostId, end_id: EndId) {
        let now = self.now;
        let limits = self.config.tcp.is_some();
        let Some(wire) = self.wires[end_id.wire()].as_deref_mut() else {
            return;
        };
        let window_max = wire.window_max;
        let end = &mut wire.ends[end_id.side()];
        end.has_turn = false;
        if !end.has_bulk() {
            return;
        }
        if limits && !end.flow.has_room(now, window_max) {
            end.waits_for_room = true;
            if let Some(at) = end.flow.next_ack() {
                self.schedule.add(at, What::Room(end_id));
            }
            return;
        }
        let len = match &mut end.talk {
            Talk::Direct(direct) => {
                let Some((span, payload)) = direct.queue.pop_front() else {
                    return;
                };
                if let Some(credit) = &mut direct.send_credit {
                    *credit -= i64::from(span.len);
                }
                direct.sending = Some((span, payload, now));
                u64::from(span.len)
            }
            Talk::Bytes(bytes) => {
                let chunk = bytes.take_chunk();
                bytes.fill(now);
                let len = chunk.len() as u64;
                bytes.sending = Some((chunk, now));
                len
            }
        };
        if limits {
            end.flow.send(len);
        }
        let again = end.has_bulk();
        end.has_turn = again;
        let up = &mut self.hosts[host.as_usize()].up;
        up.sending = Some(end_id);
        if again {
            up.turns.push_back(end_id);
        }
        let done = up.gate.pass(now, len);
        self.schedule.add(done, What::Sent(host));
    }

    /// A host's uplink has sent what it was sending.
    pub(super) fn sent(&mut self, host: HostId) {
        if let Some(until) = self.asleep(host) {
            self.schedule.add(until, What::Sent(host));
            return;
        }
        let Some(end_id) = self.host_mut(host).up.sending.take() else {
            return;
        };
        self.leave_uplink(host, end_id);
        self.transmit(host);
    }

    fn leave_uplink(&mut self, host: HostId, end_id: EndId) {
        let Some(wire) = self.wires[end_id.wire()].as_deref_mut() else {
            return;
        };
        let (latency, round_trip, loss) = (wire.latency, wire.round_trip(), wire.block_loss);
        let end = &mut wire.ends[end_id.side()];
        let is_open = end.key.is_some();
        let (message, len, served) = match &mut end.talk {
            Talk::Direct(direct) => {
                let Some((span, payload, began)) = direct.sending.take() else {
                    return;
                };
                let sending = Sending {
                    span,
                    payload,
                    began,
                };
                (Message::Block(sending), u64::from(span.len), Some(span))
            }
            Talk::Bytes(bytes) => {
                let Some((bytes, began)) = bytes.sending.take() else {
                    return;
                };
                let len = bytes.len() as u64;
                let chunk = Box::new(Chunk { bytes, began });
                (Message::Bytes(chunk), len, None)
            }
        };
        let mut at = self.pass_line_up(host, len) + latency;
        if happens(&mut self.streams.packets, loss) {
            // A packet of it is sent again.
            at += round_trip;
        }
        self.put_on_way(end_id.other(), at, message);
        match served {
            Some(span) if is_open => {
                self.counts.blocks += 1;
                self.note_sent(host, len);
                self.peer_at(end_id, PeerEvent::Served(span));
            }
            Some(_) => {}
            // What took its place in the batch is to be reported.
            None => self.pump(end_id),
        }
    }

    /// Counts payload that has left a host.
    pub(super) fn note_sent(&mut self, host: HostId, len: u64) {
        self.host_mut(host).tally.sent_bytes += len;
        self.leave_after_giving(host);
    }

    fn pass_line_up(&mut self, host: HostId, len: u64) -> Time {
        let now = self.now;
        match self.hosts[host.as_usize()].line {
            Some(line) => self.lines[line.0 as usize].up.pass_through(now, len),
            None => now,
        }
    }

    pub(super) fn pass_down(&mut self, host: HostId, at: Time, len: u64) -> Time {
        let host = &mut self.hosts[host.as_usize()];
        let at = match host.line {
            Some(line) => self.lines[line.0 as usize].down.pass_through(at, len),
            None => at,
        };
        host.down.pass_through(at, len)
    }

    /// There may be room in the transport's window again.
    pub(super) fn room(&mut self, end_id: EndId) {
        let Some(wire) = self.wires[end_id.wire()].as_deref_mut() else {
            return;
        };
        wire.ends[end_id.side()].waits_for_room = false;
        self.offer(end_id);
    }

    /// Something arrives at an end.
    pub(super) fn arrive(&mut self, end_id: EndId) {
        if let Some(wire) = self.wires[end_id.wire()].as_deref_mut() {
            wire.ends[end_id.side()].pipe.is_scheduled = false;
        }
        if let Some(at) = self.held_up(end_id) {
            self.arrive_later(end_id, at);
            return;
        }
        loop {
            let Some(wire) = self.wires[end_id.wire()].as_deref_mut() else {
                return;
            };
            let end = &mut wire.ends[end_id.side()];
            let Some(head) = end.pipe.queue.front() else {
                return;
            };
            if head.at > self.now {
                let at = head.at;
                self.arrive_later(end_id, at);
                return;
            }
            if let (Some(len), false) = (head.message.bulk_len(), head.is_through) {
                self.come_down(end_id, len);
                continue;
            }
            if !may_read(&mut end.talk, &head.message) {
                end.pipe.is_stalled = true;
                return;
            }
            if let Some(arrived) = end.pipe.queue.pop_front() {
                self.take_in(end_id, arrived.message);
            }
        }
    }

    fn take_in(&mut self, end_id: EndId, message: Message) {
        let Some(wire) = self.wires[end_id.wire()].as_deref_mut() else {
            return;
        };
        match (&wire.ends[end_id.side()].talk, message) {
            (Talk::Bytes(_), Message::Bytes(chunk)) => self.hear_bytes(end_id, &chunk),
            (Talk::Bytes(_), Message::Closed) => self.hear_end(end_id),
            (_, message) => self.hear(end_id, message),
        }
    }

    fn arrive_later(&mut self, end_id: EndId, at: Time) {
        let Some(wire) = self.wires[end_id.wire()].as_deref_mut() else {
            return;
        };
        let pipe = &mut wire.ends[end_id.side()].pipe;
        if !std::mem::replace(&mut pipe.is_scheduled, true) {
            self.schedule.add(at, What::Arrive(end_id));
        }
    }

    /// Until when nothing arrives at an end: its host sleeps, or is cut off.
    fn held_up(&self, end_id: EndId) -> Option<Time> {
        let wire = self.wires[end_id.wire()].as_deref()?;
        let [host, other] = [end_id, end_id.other()].map(|end| wire.ends[end.side()].host);
        self.asleep(host).or_else(|| {
            self.are_split(host, other)
                .then_some(self.now + SPLIT_RETRY)
        })
    }

    /// The first in a pipe passes the downlink, and is acknowledged.
    fn come_down(&mut self, end_id: EndId, len: u64) {
        let Some(wire) = self.wires[end_id.wire()].as_deref() else {
            return;
        };
        let host = wire.ends[end_id.side()].host;
        let at = self.pass_down(host, self.now, len);
        let tcp = self.config.tcp;
        let now = self.now;
        let Some(wire) = self.wires[end_id.wire()].as_deref_mut() else {
            return;
        };
        let (latency, round_trip) = (wire.latency, wire.round_trip());
        if let Some(head) = wire.ends[end_id.side()].pipe.queue.front_mut() {
            (head.at, head.is_through) = (at, true);
        }
        let Some(tcp) = tcp else { return };
        let from = sender(end_id);
        let end = &mut wire.ends[from.side()];
        if at - now > tcp.queue_max {
            end.flow.cut(now, round_trip);
        }
        let acked = end.flow.arrive(at + latency, len, round_trip);
        if end.waits_for_room {
            self.schedule.add(acked, What::Room(from));
        }
    }

    /// An end may read, or send, again.
    pub(super) fn resume(&mut self, end_id: EndId) {
        let Some(wire) = self.wires[end_id.wire()].as_deref_mut() else {
            return;
        };
        let pipe = &mut wire.ends[end_id.side()].pipe;
        if std::mem::take(&mut pipe.is_stalled) && !pipe.queue.is_empty() {
            self.arrive_later(end_id, self.now);
        }
        self.offer(end_id);
    }

    /// Whether two hosts cannot reach each other now.
    pub(super) fn are_split(&self, a: HostId, b: HostId) -> bool {
        self.is_split && self.host(a).group != self.host(b).group
    }

    /// Connections between hosts that cannot reach each other are forgotten once they are silent for too long.
    pub(super) fn forget_cut(&mut self) {
        for at in 0..self.wires.len() {
            let Some(wire) = &self.wires[at] else {
                continue;
            };
            let [a, b] = [0, 1].map(|side: usize| wire.ends[side].host);
            if !self.are_split(a, b) {
                continue;
            }
            for side in 0..2 {
                let why = CloseReason::Transport("the connection has timed out".to_owned());
                self.report_end(EndId::new(super::index(at), side), why);
            }
        }
    }
}

fn may_read(talk: &mut Talk, message: &Message) -> bool {
    match (talk, message) {
        (Talk::Direct(direct), Message::Block(_)) => direct.may_receive(),
        (Talk::Bytes(bytes), Message::Bytes(_)) => bytes.conn.wants_read(),
        _ => true,
    }
}
