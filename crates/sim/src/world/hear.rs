//! From what arrives at a connection to the event that its shard gets.

use riverrun_base::{BLOCK_LEN, BlockSpan};
use riverrun_peer::{CloseReason, PeerEvent, PeerMisbehaved};

use super::World;
use crate::ids::EndId;
use crate::observe::Happening;
use crate::wire::{Message, MetadataPiece, Sending, Talk};

impl World {
    /// A message has arrived at an end that talks in messages.
    pub(super) fn hear(&mut self, end_id: EndId, message: Message) {
        let Some(wire) = self.wires[end_id.wire()].as_deref_mut() else {
            return;
        };
        let end = &mut wire.ends[end_id.side()];
        if end.key.is_none() {
            return;
        }
        let Talk::Direct(direct) = &mut end.talk else {
            return;
        };
        let event = match message {
            Message::Have(_) | Message::Pieces(_) if direct.info.is_none() => {
                direct.owes_pieces = true;
                return;
            }
            Message::Have(piece) => PeerEvent::Has(piece),
            Message::Pieces(pieces) => PeerEvent::HasPieces(*pieces),
            Message::HaveBlocks(_) if direct.info.is_none() => return,
            Message::HaveBlocks(run) => PeerEvent::HasBlocks(run),
            Message::DontHave(piece) => PeerEvent::LostPiece(piece),
            Message::Choke(lost) => return self.hear_choke(end_id, &lost),
            Message::Unchoke => PeerEvent::Unchoked,
            Message::Interested(true) => PeerEvent::Interested,
            Message::Interested(false) => PeerEvent::NotInterested,
            Message::Requests(spans) => return self.hear_requests(end_id, &spans),
            Message::Cancel(span) => return self.hear_cancel(end_id, span),
            Message::Reject(span) => return self.hear_reject(end_id, span),
            Message::Block(sending) => return self.hear_block(end_id, sending),
            Message::Suggest(piece) => PeerEvent::Suggested(piece),
            Message::AllowFast(piece) => PeerEvent::AllowedFast(piece),
            Message::RequestHashes(request) => PeerEvent::WantsHashes(*request),
            Message::Hashes(hashes) => PeerEvent::Hashes(*hashes),
            Message::RejectHashes(request) => PeerEvent::HashesRejected(*request),
            Message::RequestMetadata(piece) => return self.answer_metadata(end_id, piece),
            Message::Metadata(answer) => PeerEvent::Metadata {
                piece: answer.piece,
                total_len: answer.total_len,
                bytes: answer.bytes,
            },
            Message::RejectMetadata(piece) => PeerEvent::MetadataRejected(piece),
            Message::UploadOnly => PeerEvent::Extended(Box::new(self.hello(end_id.other()))),
            Message::Holepunch(message) => PeerEvent::Holepunch(message),
            Message::Exchange(told) => PeerEvent::Exchange(told),
            Message::Closed => return self.report_end(end_id, CloseReason::PeerClosed),
            // What is no message, from one who floods.
            Message::Bytes(_) => {
                let what = PeerMisbehaved::UnexpectedMessage { id: u8::MAX };
                return self.misbehaved(end_id, what);
            }
        };
        self.peer_at(end_id, event);
    }

    /// Whether both ends have the fast extension.
    fn is_fast(&self, end: EndId) -> bool {
        let wire = self.wires[end.wire()].as_ref();
        wire.is_some_and(|wire| wire.ends.iter().all(|end| self.host(end.host).config.fast))
    }

    fn hear_choke(&mut self, end: EndId, lost: &[BlockSpan]) {
        let all = self.direct_requests(end);
        let lost = if self.is_fast(end) { lost } else { &all };
        for span in lost {
            self.hear_reject(end, *span);
        }
        self.peer_at(end, PeerEvent::Choked);
    }

    fn direct_requests(&mut self, end: EndId) -> Vec<BlockSpan> {
        let wire = self.wires[end.wire()].as_deref_mut();
        wire.and_then(|wire| wire.ends[end.side()].direct().map(|end| end.requested()))
            .unwrap_or_default()
    }

    fn hear_requests(&mut self, end: EndId, spans: &[BlockSpan]) {
        for span in spans {
            let Some(wire) = self.wires[end.wire()].as_deref_mut() else {
                return;
            };
            let own = &mut wire.ends[end.side()];
            let host = own.host;
            let queue_max = self.hosts[host.as_usize()].peer_config.request_queue_max;
            let admitted = own
                .direct()
                .and_then(|direct| direct.admit(*span, queue_max.into()));
            match admitted {
                Some(true) => self.peer_at(end, PeerEvent::Wants(*span)),
                Some(false) => self.send(end, Message::Reject(*span)),
                None => {
                    let limit = u32::from(queue_max) * 2;
                    return self.misbehaved(end, PeerMisbehaved::RequestFlood { limit });
                }
            }
        }
    }

    /// Ends a connection for something that the other end did.
    pub(super) fn misbehaved(&mut self, end: EndId, what: PeerMisbehaved) {
        self.close(end, CloseReason::Misbehaved(what));
    }

    /// The peer takes a request back: it is answered nevertheless (BEP 6).
    fn hear_cancel(&mut self, end: EndId, span: BlockSpan) {
        let Some(wire) = self.wires[end.wire()].as_deref_mut() else {
            return;
        };
        let was_due = wire.ends[end.side()]
            .direct()
            .is_some_and(|direct| direct.take_back(span));
        if was_due {
            self.send(end, Message::Reject(span));
            self.peer_at(end, PeerEvent::Unwants(span));
        }
    }

    fn hear_reject(&mut self, end: EndId, span: BlockSpan) {
        let Some(wire) = self.wires[end.wire()].as_deref_mut() else {
            return;
        };
        let waited = wire.ends[end.side()]
            .direct()
            .is_some_and(|direct| direct.rejected(span));
        if waited {
            self.peer_at(end, PeerEvent::Rejected(span));
        }
    }

    fn hear_block(&mut self, end: EndId, sending: Sending) {
        let now = self.now;
        let Some(wire) = self.wires[end.wire()].as_deref_mut() else {
            return;
        };
        let host = wire.ends[end.side()].host;
        let span = sending.span;
        let wanted = wire.ends[end.side()]
            .direct()
            .is_some_and(|direct| direct.received(now, span));
        self.hosts[host.as_usize()].tally.received_bytes += u64::from(span.len);
        if !wanted {
            self.peer_at(end, PeerEvent::Unwanted(span));
            return;
        }
        self.deliver(end, sending);
    }

    /// Gives a block that was waited for to the decisions.
    pub(super) fn deliver(&mut self, end: EndId, sending: Sending) {
        let Some(wire) = self.wires[end.wire()].as_deref() else {
            return;
        };
        let content = wire.content;
        let (to, from) = (
            wire.ends[end.side()].host,
            wire.ends[end.other().side()].host,
        );
        let Sending {
            span,
            payload,
            began,
        } = sending;
        self.happen(|| Happening::Received {
            from,
            to,
            content,
            span,
            payload,
            began,
        });
        self.tell_window(end);
        let block = self.content(content).block(span, payload);
        self.peer_at(end, PeerEvent::Received { span, block });
    }

    fn answer_metadata(&mut self, end: EndId, piece: u32) {
        let Some(wire) = self.wires[end.wire()].as_deref_mut() else {
            return;
        };
        let content = wire.content;
        let own = &mut wire.ends[end.side()];
        let host = own.host;
        let known = own.direct().is_some_and(|direct| direct.info.is_some());
        let lies = self.host(host).config.manners.metadata_liar;
        let raw = self.content(content).info().raw();
        let start = (piece as usize).saturating_mul(BLOCK_LEN as usize);
        if !(known || lies) || start >= raw.len() {
            self.send(end, Message::RejectMetadata(piece));
            return;
        }
        let mut bytes = raw[start..raw.len().min(start + BLOCK_LEN as usize)].to_vec();
        if lies {
            bytes[0] ^= 1;
        }
        let total_len = u32::try_from(raw.len()).unwrap_or(u32::MAX);
        let answer = MetadataPiece {
            piece,
            total_len,
            bytes,
        };
        self.send(end, Message::Metadata(Box::new(answer)));
    }
}
