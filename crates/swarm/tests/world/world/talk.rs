//! From the command of one end of a wire to the event of the other.

use std::sync::Arc;

use riverrun_base::{BLOCK_LEN, Bitfield, Block, BlockSpan};
use riverrun_metainfo::Info;
use riverrun_peer::{CloseReason, Credit, PeerCommand, PeerEvent};
use riverrun_swarm::{ConnKey, Input};

use super::{Message, SNUB_TIME, What, World};
use crate::wire::Side;

impl World {
    /// What a connection of a client is told to do.
    pub(super) fn tell(&mut self, node: usize, conn: ConnKey, command: PeerCommand) {
        let Some((wire, side)) = self.nodes[node].conns.get(&conn).copied() else {
            return;
        };
        let is_ready = self.wires[wire].is_ready;
        let is_free_rider = self.nodes[node].manners.is_free_rider;
        let end = &mut self.wires[wire].ends[side];
        let message = match command {
            PeerCommand::Have(piece) if is_ready && end.told.set(piece) => Message::Have(piece),
            PeerCommand::Have(piece) => {
                if let (Some(attach), false) = (&mut end.attach, is_ready) {
                    attach.have.set(piece);
                }
                return;
            }
            PeerCommand::DontHave(piece) => {
                end.told.clear(piece);
                Message::DontHave(piece)
            }
            PeerCommand::Choke => Message::Choke(self.choke(wire, side)),
            PeerCommand::Unchoke if is_free_rider => return,
            PeerCommand::Unchoke => {
                end.is_choking = false;
                Message::Unchoke
            }
            PeerCommand::Interested => Message::Interested(true),
            PeerCommand::NotInterested => Message::Interested(false),
            PeerCommand::Request(spans) => {
                self.note_requests(wire, side, &spans);
                Message::Requests(spans)
            }
            PeerCommand::Cancel(span) => {
                assert!(end.take_request(span), "{span} was not requested");
                end.cancelled.push(span);
                Message::Cancel(span)
            }
            PeerCommand::Serve { .. } => unreachable!("storage serves"),
            PeerCommand::Reject(span) => {
                end.take_asked(span);
                Message::Reject(span)
            }
            PeerCommand::Suggest(piece) => Message::Suggest(piece),
            PeerCommand::AllowFast(piece) => {
                end.allowed.insert(piece);
                Message::AllowFast(piece)
            }
            PeerCommand::RequestHashes(request) => Message::RequestHashes(request),
            PeerCommand::SendHashes(hashes) => Message::Hashes(hashes),
            PeerCommand::RejectHashes(request) => Message::RejectHashes(request),
            PeerCommand::RequestMetadata(piece) => Message::RequestMetadata(piece),
            PeerCommand::Metadata(info) => {
                self.learn_metadata(wire, side, &info);
                return;
            }
            PeerCommand::UploadOnly(upload_only) => {
                end.upload_only = upload_only;
                Message::UploadOnly
            }
            PeerCommand::Credit(credit) => {
                self.credit(node, (wire, side), credit);
                return;
            }
            PeerCommand::Close(why) => {
                self.report_end(wire, side, why);
                Message::Closed
            }
            PeerCommand::Attach(_) => unreachable!("accepting attaches"),
        };
        self.send(wire, side, message);
    }

    /// A connection that was attached without metadata gets to know it: what the peer said of its pieces counts.
    pub(super) fn learn_metadata(&mut self, wire: usize, side: Side, info: &Arc<Info>) {
        let end = &mut self.wires[wire].ends[side];
        if let Some(attach) = &mut end.attach {
            attach.info = Some(info.clone());
        }
        end.told = Bitfield::new(info.layout().piece_count());
        if std::mem::take(&mut end.owes_pieces) {
            let theirs = self.wires[wire].ends[1 - side].told.clone();
            self.peer_at(wire, side, PeerEvent::HasPieces(theirs));
        }
    }

    /// Sends from a side of a wire to the other.
    pub(super) fn send(&mut self, wire: usize, side: Side, message: Message) {
        self.after(self.latency, What::Deliver(wire, 1 - side, message));
    }

    /// Something arrives at a side of a wire.
    pub(super) fn deliver(&mut self, wire: usize, side: Side, message: Message) {
        if self.wires[wire].ends[side].key.is_none() {
            return;
        }
        self.wires[wire].ends[side].unread.push_back(message);
        self.read_wire(wire, side);
    }

    /// Reads what has arrived, as far as credit goes.
    pub(super) fn read_wire(&mut self, wire: usize, side: Side) {
        loop {
            let end = &mut self.wires[wire].ends[side];
            let blocked = end.receive_credit.is_some_and(|credit| credit <= 0);
            match end.unread.front() {
                None => return,
                Some(Message::Block(..)) if blocked => return,
                Some(_) => {}
            }
            let Some(message) = end.unread.pop_front() else {
                return;
            };
            self.message(wire, side, message);
        }
    }

    pub(super) fn message(&mut self, wire: usize, side: Side, message: Message) {
        if self.wires[wire].ends[side].key.is_none() {
            return;
        }
        let end = &mut self.wires[wire].ends[side];
        let knows = end
            .attach
            .as_ref()
            .is_some_and(|attach| attach.info.is_some());
        let event = match message {
            Message::Closed => {
                self.report_end(wire, side, CloseReason::PeerClosed);
                return;
            }
            Message::Have(_) | Message::Pieces(_) if !knows => {
                end.owes_pieces = true;
                return;
            }
            Message::Have(piece) => PeerEvent::Has(piece),
            Message::Pieces(pieces) => PeerEvent::HasPieces(pieces),
            Message::DontHave(piece) => PeerEvent::LostPiece(piece),
            Message::Choke(lost) => {
                self.lose(wire, side, lost);
                PeerEvent::Choked
            }
            Message::Unchoke => PeerEvent::Unchoked,
            Message::Interested(true) => PeerEvent::Interested,
            Message::Interested(false) => PeerEvent::NotInterested,
            Message::Requests(spans) => {
                for span in spans {
                    self.wires[wire].ends[side].asked.push(span);
                    self.peer_at(wire, side, PeerEvent::Wants(span));
                }
                return;
            }
            Message::Cancel(span) => {
                self.take_back(wire, side, span);
                return;
            }
            Message::Reject(span) => {
                self.rejected(wire, side, span);
                return;
            }
            Message::Block(span, block) => {
                self.block(wire, side, span, block);
                return;
            }
            Message::Suggest(piece) => PeerEvent::Suggested(piece),
            Message::AllowFast(piece) => PeerEvent::AllowedFast(piece),
            Message::RequestHashes(request) => PeerEvent::WantsHashes(request),
            Message::Hashes(hashes) => PeerEvent::Hashes(hashes),
            Message::RejectHashes(request) => PeerEvent::HashesRejected(request),
            Message::RequestMetadata(piece) => {
                self.answer_metadata(wire, side, piece);
                return;
            }
            Message::Metadata(piece, total_len, bytes) => PeerEvent::Metadata {
                piece,
                total_len,
                bytes,
            },
            Message::RejectMetadata(piece) => PeerEvent::MetadataRejected(piece),
            Message::UploadOnly => PeerEvent::Extended(Box::new(self.hello(wire, 1 - side))),
        };
        self.peer_at(wire, side, event);
    }

    pub(super) fn answer_metadata(&mut self, wire: usize, side: Side, piece: u32) {
        let end = &self.wires[wire].ends[side];
        let node = &self.nodes[end.node];
        let info = end.attach.as_ref().and_then(|attach| attach.info.clone());
        let lie = node
            .manners
            .is_metadata_liar
            .then(|| node.content.info.clone());
        let Some(info) = lie.clone().or(info) else {
            self.send(wire, side, Message::RejectMetadata(piece));
            return;
        };
        let raw = info.raw();
        let start = (piece * BLOCK_LEN) as usize;
        let mut bytes = raw[start..raw.len().min(start + BLOCK_LEN as usize)].to_vec();
        if lie.is_some() {
            bytes[0] ^= 1;
        }
        let len = u32::try_from(raw.len()).expect("small");
        self.send(wire, side, Message::Metadata(piece, len, bytes));
    }

    pub(super) fn peer_at(&mut self, wire: usize, side: Side, event: PeerEvent) {
        let end = &self.wires[wire].ends[side];
        if let Some(conn) = end.key {
            self.peer(end.node, conn, event);
        }
    }

    pub(super) fn peer(&mut self, node: usize, conn: ConnKey, event: PeerEvent) {
        self.input(node, Input::Peer { conn, event });
    }

    /// Ends all that waits for a choked peer; gives what it will not get.
    fn choke(&mut self, wire: usize, side: Side) -> Vec<BlockSpan> {
        let end = &mut self.wires[wire].ends[side];
        end.is_choking = true;
        let allowed = end.allowed.clone();
        let is_kept = |span: &BlockSpan| allowed.contains(&span.piece);
        let (kept, mut lost): (Vec<_>, Vec<_>) = std::mem::take(&mut end.asked)
            .into_iter()
            .partition(is_kept);
        end.asked = kept;
        lost.extend(
            end.queue
                .iter()
                .map(|(span, _)| *span)
                .filter(|span| !is_kept(span)),
        );
        end.queue.retain(|(span, _)| is_kept(span));
        lost
    }

    fn note_requests(&mut self, wire: usize, side: Side, spans: &[BlockSpan]) {
        let end = &mut self.wires[wire].ends[side];
        for span in spans {
            assert!(!end.requests.contains(span), "{span} is requested twice");
        }
        assert!(end.requests.len() + spans.len() <= end.window.max(4) as usize + 1);
        if end.requests.is_empty() {
            end.touch(self.now);
        }
        end.requests.extend(spans);
        if !std::mem::replace(&mut end.snub_check, true) {
            self.after(SNUB_TIME, What::SnubCheck(wire, side));
        }
    }

    fn credit(&mut self, node: usize, (wire, side): (usize, Side), credit: Credit) {
        let add = |before: Option<i64>, more: Option<u64>| {
            let more = i64::try_from(more?).unwrap_or(i64::MAX);
            Some(before.unwrap_or(0).saturating_add(more))
        };
        let end = &mut self.wires[wire].ends[side];
        end.credit_bytes = add(end.credit_bytes, credit.send_bytes);
        end.receive_credit = add(end.receive_credit, credit.receive_bytes);
        if end.may_send() {
            self.offer(node, wire, side);
        }
        self.read_wire(wire, side);
    }

    /// A choke has come: what will not be answered.
    fn lose(&mut self, wire: usize, side: Side, lost: Vec<BlockSpan>) {
        let all = self.wires[wire].ends[side].requests.clone();
        for span in if self.fast { lost } else { all } {
            self.rejected(wire, side, span);
        }
    }

    /// A peer takes a request back: it is answered nevertheless (BEP 6).
    fn take_back(&mut self, wire: usize, side: Side, span: BlockSpan) {
        let end = &mut self.wires[wire].ends[side];
        let queued = end.queue.iter().position(|(other, _)| *other == span);
        let was_due = match queued {
            Some(at) => end.queue.remove(at).is_some(),
            None => end.take_asked(span),
        };
        if was_due {
            self.send(wire, side, Message::Reject(span));
            self.peer_at(wire, side, PeerEvent::Unwants(span));
        }
    }

    fn block(&mut self, wire: usize, side: Side, span: BlockSpan, block: Block) {
        let end = &mut self.wires[wire].ends[side];
        if let Some(credit) = &mut end.receive_credit {
            *credit -= i64::from(span.len);
        }
        if end.take_cancelled(span) || !end.take_request(span) {
            return;
        }
        if let Some(window) = end.measure(self.now, span.len, self.latency * 2) {
            self.peer_at(wire, side, PeerEvent::Window(window));
        }
        self.peer_at(wire, side, PeerEvent::Received { span, block });
    }
}
