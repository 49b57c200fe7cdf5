//! What the peer says.

use riverrun_base::{BlockSpan, PieceIndex, Sha256Digest, Time};

use super::{Link, Session, report_rejected};
use crate::blocks::BlockRun;
use crate::codec::extended::{TheirHandshake, id as extended_id};
use crate::codec::message::Message;
use crate::error::PeerMisbehaved;
use crate::event::PeerEvent;
use crate::exchange::PeerExchange;
use crate::hashes::{HashRequest, Hashes};
use crate::holepunch::Holepunch;
use crate::metadata::MetadataMessage;
use crate::their_pieces::{Change, Claim};

/// How many pieces a peer may allow fast; BEP 6 speaks of ten. More are passed over.
const ALLOWED_FAST_MAX: usize = 64;
/// How many bytes of answers may wait for a peer that asks and does not read. Its requests for blocks and metadata
/// have bounds of their own and wait elsewhere.
const ANSWERS_LEN_MAX: usize = 1024 * 1024;
/// With how many bytes waiting we take on no more requests for hashes.
const HASHES_WAIT_LEN: usize = 256 * 1024;

impl Session {
    /// A whole message, other than `piece`, has come.
    pub(crate) fn handle_message(
        &mut self,
        now: Time,
        message: Message<'_>,
        link: &mut Link,
    ) -> Result<(), PeerMisbehaved> {
        self.check_allowed(&message)?;
        match message {
            // These may stand before the first word on pieces: the order is not agreed on in the field.
            Message::Extended { id, payload } => {
                return self.handle_extended(now, id, payload, link);
            }
            Message::Port(0) => return Ok(()),
            Message::Port(port) => {
                link.events.push_back(PeerEvent::DhtPort(port));
                return Ok(());
            }
            Message::Bitfield(bytes) => return self.handle_claim(Claim::Some(bytes.into()), link),
            Message::HaveAll => return self.handle_claim(Claim::All, link),
            Message::HaveNone => return self.handle_claim(Claim::None, link),
            _ => self.require_claim(link)?,
        }
        match message {
            Message::Choke => self.handle_choke(now, link),
            Message::Unchoke => self.handle_unchoke(now, link),
            Message::Interested => self.handle_interest(true, link),
            Message::NotInterested => self.handle_interest(false, link),
            Message::Have(piece) => self.handle_change(Change::Has, piece, link)?,
            Message::Suggest(piece) => self.handle_change(Change::Suggested, piece, link)?,
            Message::AllowedFast(piece) => self.handle_change(Change::AllowedFast, piece, link)?,
            Message::Request(span) => self.handle_request(span, link)?,
            Message::Cancel(span) => self.handle_cancel(span, link),
            Message::Reject(span) => self.handle_reject(now, span, link),
            Message::HashRequest(request) => self.handle_hash_request(request, link),
            Message::Hashes { request, hashes } => self.handle_hashes(request, hashes, link)?,
            Message::HashReject(request) => self.handle_hash_reject(request, link),
            // Dealt with above.
            Message::Extended { .. } | Message::Port(_) | Message::Bitfield(_) => {}
            Message::HaveAll | Message::HaveNone => {}
        }
        if link.out.answer_bytes() > ANSWERS_LEN_MAX {
            let limit = self.config.request_queue_max.into();
            return Err(PeerMisbehaved::RequestFlood { limit });
        }
        Ok(())
    }

    /// Whether what was agreed on in the handshake allows this message at all.
    fn check_allowed(&self, message: &Message<'_>) -> Result<(), PeerMisbehaved> {
        let features = self.hello.features;
        let id = message.id();
        match message {
            Message::HaveAll | Message::HaveNone | Message::Reject(_) if !features.fast => {
                Err(PeerMisbehaved::UnexpectedMessage { id })
            }
            Message::Suggest(_) | Message::AllowedFast(_) if !features.fast => {
                Err(PeerMisbehaved::UnexpectedMessage { id })
            }
            Message::Extended { .. } if !features.extended => {
                Err(PeerMisbehaved::UnexpectedMessage { id })
            }
            Message::HashRequest(_) | Message::Hashes { .. } | Message::HashReject(_)
                if !features.v2 =>
            {
                Err(PeerMisbehaved::HashesNotRequested)
            }
            _ => Ok(()),
        }
    }

    fn handle_claim(&mut self, claim: Claim, link: &mut Link) -> Result<(), PeerMisbehaved> {
        link.events.extend(self.pieces.claim(claim)?);
        Ok(())
    }

    fn handle_change(
        &mut self,
        change: Change,
        piece: PieceIndex,
        link: &mut Link,
    ) -> Result<(), PeerMisbehaved> {
        if let Some(event) = self.pieces.change(change, piece)? {
            self.report_change(event, link);
        }
        Ok(())
    }

    /// Reports what became of a word on pieces.
    pub(super) fn report_change(&mut self, event: PeerEvent, link: &mut Link) {
        if let PeerEvent::AllowedFast(piece) = event {
            if self.allowed_fast.len() == ALLOWED_FAST_MAX || self.allowed_fast.contains(&piece) {
                return;
            }
            self.allowed_fast.push(piece);
        }
        link.events.push_back(event);
    }

    fn handle_choke(&mut self, now: Time, link: &mut Link) {
        if std::mem::replace(&mut self.peer_choking, true) {
            return;
        }
        self.choked_at = now;
        if self.hello.features.fast {
            self.watch_answers_from(now, link);
        } else {
            report_rejected(self.pending.give_up(|_| true), link);
        }
        link.events.push_back(PeerEvent::Choked);
        self.watch(now, link);
    }

    fn handle_unchoke(&mut self, now: Time, link: &mut Link) {
        if std::mem::replace(&mut self.peer_choking, false) {
            link.events.push_back(PeerEvent::Unchoked);
            self.watch(now, link);
        }
    }

    fn handle_interest(&mut self, interested: bool, link: &mut Link) {
        if std::mem::replace(&mut self.interest.theirs, interested) != interested {
            link.events.push_back(if interested {
                PeerEvent::Interested
            } else {
                PeerEvent::NotInterested
            });
        }
    }

    fn handle_request(&mut self, span: BlockSpan, link: &mut Link) -> Result<(), PeerMisbehaved> {
        let Some(info) = &self.info else {
            self.serving.note_in_vain()?;
            self.refuse([span], link);
            return Ok(());
        };
        if !Self::is_requestable(info, span) {
            return Err(PeerMisbehaved::RequestOutOfRange(span));
        }
        if self.serving.admit(span)? {
            link.events.push_back(PeerEvent::Wants(span));
        } else {
            self.refuse([span], link);
        }
        Ok(())
    }

    fn handle_cancel(&mut self, span: BlockSpan, link: &mut Link) {
        // Otherwise it was answered already: every request gets one answer (BEP 6).
        if self.serving.cancel(span) {
            link.events.push_back(PeerEvent::Unwants(span));
            self.refuse([span], link);
        }
    }

    fn handle_hash_request(&mut self, request: HashRequest, link: &mut Link) {
        let busy = link.out.answer_bytes() > HASHES_WAIT_LEN;
        if self.info.is_some() && !busy && self.hashes.admit(request) {
            link.events.push_back(PeerEvent::WantsHashes(request));
        } else {
            link.out.send(Message::HashReject(request));
        }
    }

    fn handle_hashes(
        &mut self,
        request: HashRequest,
        hashes: &[[u8; 32]],
        link: &mut Link,
    ) -> Result<(), PeerMisbehaved> {
        if !self.hashes.answered(&request) {
            return Err(PeerMisbehaved::HashesNotRequested);
        }
        let hashes = hashes.iter().copied().map(Sha256Digest).collect();
        link.events
            .push_back(PeerEvent::Hashes(Hashes { request, hashes }));
        Ok(())
    }

    fn handle_hash_reject(&mut self, request: HashRequest, link: &mut Link) {
        if self.hashes.answered(&request) {
            link.events.push_back(PeerEvent::HashesRejected(request));
        }
    }

    fn handle_extended(
        &mut self,
        now: Time,
        id: u8,
        payload: &[u8],
        link: &mut Link,
    ) -> Result<(), PeerMisbehaved> {
        match id {
            extended_id::HANDSHAKE => self.handle_handshake(payload, link),
            extended_id::METADATA => self.handle_metadata(payload, link),
            extended_id::EXCHANGE => self.handle_exchange(now, payload, link),
            extended_id::HOLEPUNCH => {
                if self.ours.exchange && self.config.holepunch {
                    let message = Holepunch::parse(payload)?;
                    link.events.extend(message.map(PeerEvent::Holepunch));
                }
                Ok(())
            }
            extended_id::UPLOAD_ONLY => {
                self.handle_upload_only(payload, link);
                Ok(())
            }
            extended_id::DONT_HAVE => self.handle_dont_have(now, payload, link),
            extended_id::HAVE_BLOCKS => self.handle_have_blocks(payload, link),
            // We never offered it; what a peer sends all the same does no harm.
            _ => Ok(()),
        }
    }

    fn handle_handshake(&mut self, payload: &[u8], link: &mut Link) -> Result<(), PeerMisbehaved> {
        let theirs = TheirHandshake::parse(payload)?;
        self.ids.add(theirs.ids);
        let ours_too = self.shares_blocks();
        let hello = &mut self.hello;
        hello.features.metadata = self.ids.metadata.is_some_and(|id| id != 0);
        hello.features.dont_have = self.ids.dont_have.is_some_and(|id| id != 0);
        hello.features.blocks = ours_too && self.ids.have_blocks.is_some_and(|id| id != 0);
        hello.features.holepunch = self.ids.holepunch.is_some_and(|id| id != 0);
        hello.features.exchange = self.ids.exchange.is_some_and(|id| id != 0);
        hello.client = theirs.client.or(hello.client.take());
        hello.listen_port = theirs.listen_port.or(hello.listen_port);
        hello.request_queue_max = theirs.request_queue_max.or(hello.request_queue_max);
        hello.metadata_len = theirs.metadata_len.or(hello.metadata_len);
        hello.our_ip = theirs.our_ip.or(hello.our_ip);
        hello.ipv4 = theirs.ipv4.or(hello.ipv4);
        hello.ipv6 = theirs.ipv6.or(hello.ipv6);
        hello.upload_only = theirs.upload_only.unwrap_or(hello.upload_only);
        hello.prefers_encryption = theirs
            .prefers_encryption
            .unwrap_or(hello.prefers_encryption);
        if let Some(max) = theirs.request_queue_max {
            self.window.set_peer_queue_max(max);
        }
        self.report_hello(link);
        self.tell_window(link);
        Ok(())
    }

    fn report_hello(&self, link: &mut Link) {
        // Of several in one read the last says it all; a flood of them must not pile up.
        if let Some(PeerEvent::Extended(_)) = link.events.back() {
            link.events.pop_back();
        }
        let hello = Box::new(self.hello.clone());
        link.events.push_back(PeerEvent::Extended(hello));
    }

    fn handle_metadata(&mut self, payload: &[u8], link: &mut Link) -> Result<(), PeerMisbehaved> {
        let Some(message) = MetadataMessage::parse(payload)? else {
            return Ok(());
        };
        match message {
            MetadataMessage::Request(piece) => {
                let Some(id) = self.metadata_id() else {
                    return Ok(());
                };
                let raw = self.info.as_ref().map(|info| &info.raw()[..]);
                if !self.metadata.admit(piece, raw) {
                    let payload = &MetadataMessage::Reject(piece).encode();
                    link.out.send(Message::Extended { id, payload });
                }
                if link.out.answer_bytes() > ANSWERS_LEN_MAX {
                    let limit = self.config.request_queue_max.into();
                    return Err(PeerMisbehaved::RequestFlood { limit });
                }
            }
            MetadataMessage::Data {
                piece,
                total_len,
                bytes,
            } => {
                if self.metadata.answered(piece) {
                    let bytes = bytes.to_vec();
                    link.events.push_back(PeerEvent::Metadata {
                        piece,
                        total_len,
                        bytes,
                    });
                }
            }
            MetadataMessage::Reject(piece) => {
                if self.metadata.answered(piece) {
                    link.events.push_back(PeerEvent::MetadataRejected(piece));
                }
            }
        }
        Ok(())
    }

    fn handle_exchange(
        &mut self,
        now: Time,
        payload: &[u8],
        link: &mut Link,
    ) -> Result<(), PeerMisbehaved> {
        // Of a private torrent nobody was asked to tell; what comes all the same is not read (BEP 27).
        if self.ours.exchange && self.exchange.admit(now)? {
            let exchange = Box::new(PeerExchange::parse(payload)?);
            link.events.push_back(PeerEvent::Exchange(exchange));
        }
        Ok(())
    }

    /// As the most widespread library has it: one byte. Other lengths are ignored, as there.
    fn handle_upload_only(&mut self, payload: &[u8], link: &mut Link) {
        if let [flag] = payload {
            self.hello.upload_only = *flag != 0;
            self.report_hello(link);
        }
    }

    fn handle_have_blocks(
        &mut self,
        payload: &[u8],
        link: &mut Link,
    ) -> Result<(), PeerMisbehaved> {
        // Who has no metadata can ask for no block; and what was not offered is not read.
        let Some(info) = self.info.clone().filter(|_| self.shares_blocks()) else {
            return Ok(());
        };
        let run = BlockRun::parse(payload)?;
        self.require_claim(link)?;
        let (index, count) = (run.piece.0, info.layout().piece_count());
        if index >= count {
            return Err(PeerMisbehaved::PieceOutOfRange { index, count });
        }
        if run.blocks().end > info.layout().block_count(run.piece) {
            return Err(PeerMisbehaved::Extended(
                "rr_have_blocks beyond the end of a piece",
            ));
        }
        link.events.push_back(PeerEvent::HasBlocks(run));
        Ok(())
    }

    fn handle_dont_have(
        &mut self,
        now: Time,
        payload: &[u8],
        link: &mut Link,
    ) -> Result<(), PeerMisbehaved> {
        let index = payload.try_into().map(u32::from_be_bytes);
        let index =
            index.map_err(|_| PeerMisbehaved::Extended("lt_donthave of the wrong length"))?;
        let piece = PieceIndex(index);
        self.require_claim(link)?;
        if !self.hello.features.fast {
            // BEP 54: as with a choke. With the extension rejects follow.
            let lost = self.pending.give_up(|request| request.span.piece == piece);
            report_rejected(lost, link);
            self.watch(now, link);
        }
        self.handle_change(Change::Lost, piece, link)
    }
}
