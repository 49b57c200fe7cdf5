//! Connections that run byte by byte: two real `PeerConn`s with a line between them.

use std::time::Duration;

use riverrun_base::Time;
use riverrun_peer::{Attach, CloseReason, PeerCommand, PeerEvent, veiled};

use super::World;
use crate::ids::{EndId, HostId};
use crate::schedule::What;
use crate::wire::bytes::{BytesEnd, Plenty};
use crate::wire::{Chunk, Sending};

impl World {
    fn bytes_end(&mut self, end: EndId) -> Option<(HostId, &mut BytesEnd)> {
        let wire = self.wires[end.wire()].as_deref_mut()?;
        let end = &mut wire.ends[end.side()];
        let host = end.host;
        Some((host, end.bytes()?))
    }

    pub(super) fn tell_bytes(&mut self, end: EndId, command: PeerCommand) {
        let now = self.end_time(end);
        if let Some((_, bytes)) = self.bytes_end(end) {
            bytes.conn.handle_command(now, command);
        }
        self.pump(end);
        self.resume(end);
    }

    pub(super) fn attach_bytes(&mut self, end: EndId, attach: Box<Attach>) {
        self.tell_bytes(end, PeerCommand::Attach(attach));
    }

    /// The time by the clock of an end's host.
    fn end_time(&self, end: EndId) -> Time {
        let host = self.wires[end.wire()]
            .as_ref()
            .map(|wire| wire.ends[end.side()].host);
        host.map_or(self.now, |host| self.now_at(host))
    }

    /// Bytes have arrived.
    pub(super) fn hear_bytes(&mut self, end: EndId, chunk: &Chunk) {
        if let Some((_, bytes)) = self.bytes_end(end) {
            bytes.inbox.extend_from_slice(&chunk.bytes);
            bytes.began = chunk.began;
        }
        self.parse(end);
        self.pump(end);
    }

    fn parse(&mut self, end: EndId) {
        let now = self.end_time(end);
        let Some((_, bytes)) = self.bytes_end(end) else {
            return;
        };
        // A breach of the protocol is told by `close_requested`.
        if let Ok(consumed) = bytes.conn.handle_bytes(now, &mut bytes.inbox, &Plenty) {
            bytes.inbox.drain(..consumed);
        } else {
            bytes.inbox.clear();
        }
    }

    /// The other end has closed its side.
    pub(super) fn hear_end(&mut self, end: EndId) {
        let is_open = self.wires[end.wire()]
            .as_ref()
            .is_some_and(|wire| wire.ends[end.side()].key.is_some());
        if is_open {
            self.report_end(end, CloseReason::PeerClosed);
        }
    }

    /// A timer of a connection is due.
    pub(super) fn conn_timer(&mut self, end: EndId) {
        let now = self.end_time(end);
        let Some((_, bytes)) = self.bytes_end(end) else {
            return;
        };
        bytes.timer_at = None;
        // A breach of the protocol is told by `close_requested`.
        let _ = bytes.conn.handle_timeout(now);
        self.pump(end);
    }

    /// Takes what a connection reports, and sends what it has to send.
    pub(super) fn pump(&mut self, end: EndId) {
        loop {
            let now = self.end_time(end);
            let Some((host, bytes)) = self.bytes_end(end) else {
                return;
            };
            let event = bytes.conn.poll_event().or_else(|| {
                bytes.fill(now);
                // What goes out now is reported too.
                bytes.conn.poll_event()
            });
            let Some(event) = event else {
                let close = bytes.conn.close_requested();
                if let (Some(why), false) = (close, bytes.has_output()) {
                    self.end_bytes(end, why);
                    return;
                }
                break;
            };
            self.bytes_event(end, host, event);
        }
        // What was read before the torrent was attached, or before there was credit.
        let waits = self
            .bytes_end(end)
            .is_some_and(|(_, bytes)| !bytes.inbox.is_empty() && bytes.conn.wants_read());
        if waits {
            let before = self.inbox_len(end);
            self.parse(end);
            if self.inbox_len(end) < before {
                self.pump(end);
                return;
            }
        }
        self.set_conn_timer(end);
        self.offer(end);
    }

    fn inbox_len(&mut self, end: EndId) -> usize {
        self.bytes_end(end)
            .map_or(0, |(_, bytes)| bytes.inbox.len())
    }

    fn end_bytes(&mut self, end: EndId, why: CloseReason) {
        let has_key = self.wires[end.wire()]
            .as_ref()
            .is_some_and(|wire| wire.ends[end.side()].key.is_some());
        self.send(end, crate::wire::Message::Closed);
        if has_key {
            self.report_end(end, why);
        }
    }

    fn bytes_event(&mut self, end: EndId, host: HostId, event: PeerEvent) {
        match event {
            PeerEvent::KeyExchange => self.tell_bytes(end, PeerCommand::ExchangeKeys),
            PeerEvent::Veiled(name) => {
                let meant = self.wires[end.wire()].as_ref().map(|wire| wire.info_hash);
                if let Some(hash) = meant.filter(|hash| veiled(*hash) == name) {
                    self.tell_bytes(end, PeerCommand::Unveil(hash));
                }
            }
            PeerEvent::Handshake(_) => {
                let from = self.wires[end.wire()]
                    .as_ref()
                    .map(|wire| wire.ends[end.other().side()].host);
                if let Some(from) = from {
                    let from = self.source_of_dial(from);
                    let input = self.incoming(end, from);
                    self.input_later(host, Duration::ZERO, input);
                }
            }
            PeerEvent::Received { span, block } => {
                let Some(wire) = &self.wires[end.wire()] else {
                    return;
                };
                let payload = self.content(wire.content).payload(span, &block);
                let began = self
                    .bytes_end(end)
                    .map_or(Time::ZERO, |(_, bytes)| bytes.began);
                self.host_mut(host).tally.received_bytes += u64::from(span.len);
                let sending = Sending {
                    span,
                    payload,
                    began,
                };
                self.deliver(end, sending);
            }
            PeerEvent::Ready(hello) => {
                self.note_connected(end);
                self.peer_at(end, PeerEvent::Ready(hello));
            }
            PeerEvent::Served(span) => {
                self.counts.blocks += 1;
                self.note_sent(host, span.len.into());
                self.peer_at(end, PeerEvent::Served(span));
            }
            event => self.peer_at(end, event),
        }
    }

    fn set_conn_timer(&mut self, end: EndId) {
        let ahead = self.wires[end.wire()]
            .as_ref()
            .map(|wire| self.host(wire.ends[end.side()].host).clock.ahead)
            .unwrap_or_default();
        let now = self.now;
        let Some((_, bytes)) = self.bytes_end(end) else {
            return;
        };
        let Some(due) = bytes.conn.poll_timeout() else {
            return;
        };
        let ahead = u64::try_from(ahead.as_micros()).unwrap_or(u64::MAX);
        let at = Time::from_micros(due.as_micros().saturating_sub(ahead));
        let at = at.max(now + Duration::from_micros(1));
        // Timers mostly move later: whoever comes too early looks again.
        if bytes.timer_at.is_none_or(|timer| at < timer) {
            bytes.timer_at = Some(at);
            self.schedule.add(at, What::Timer(end));
        }
    }

    /// Hands a connection a block that was read for it.
    pub(super) fn serve_bytes(
        &mut self,
        end: EndId,
        span: riverrun_base::BlockSpan,
        payload: crate::content::Payload,
    ) {
        let Some(wire) = &self.wires[end.wire()] else {
            return;
        };
        let block = self.content(wire.content).whole(span, payload);
        self.tell_bytes(end, PeerCommand::Serve { span, block });
    }
}
