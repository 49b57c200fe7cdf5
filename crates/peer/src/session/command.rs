//! What we are told to do.

use std::sync::Arc;

use riverrun_base::{Block, BlockSpan, PieceIndex, Time};
use riverrun_metainfo::Info;

use super::{HAVE_WAIT, Link, Session};
use crate::codec::message::{Message, answer_len};
use crate::command::PeerCommand;
use crate::error::PeerMisbehaved;
use crate::event::PeerEvent;
use crate::hashes::{HashRequest, Hashes};
use crate::metadata::MetadataMessage;
use crate::pending::Cancelled;
use crate::timers::Timer;

/// What a command asks of the part that reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Unchanged,
    /// The block that is coming in is not wanted any more.
    SkipBlock,
}

impl Session {
    /// Carries out a command. An error is the peer's: what it said before the metadata was there does not fit.
    pub(crate) fn handle_command(
        &mut self,
        now: Time,
        command: PeerCommand,
        link: &mut Link,
    ) -> Result<Reading, PeerMisbehaved> {
        match command {
            PeerCommand::Metadata(info) => self.size(info, link)?,
            PeerCommand::Have(piece) => self.have(now, piece, link),
            PeerCommand::DontHave(piece) => self.unhave(piece, link),
            PeerCommand::HaveBlocks(run) => {
                if let Some(id) = self.ids.have_blocks.filter(|id| *id != 0) {
                    let payload = &run.encode();
                    link.out.send(Message::Extended { id, payload });
                }
            }
            PeerCommand::Choke => self.choke(link),
            PeerCommand::Unchoke => {
                if self.serving.unchoke() {
                    link.out.send(Message::Unchoke);
                }
            }
            PeerCommand::Interested => self.set_interest(true, link),
            PeerCommand::NotInterested => self.set_interest(false, link),
            PeerCommand::Request(spans) => self.request(now, spans, link),
            PeerCommand::Cancel(span) => return Ok(self.cancel(now, span, link)),
            PeerCommand::Serve { span, block } => self.serve(span, block, link),
            PeerCommand::Reject(span) => {
                if self.serving.refuse(span) {
                    self.refuse([span], link);
                }
            }
            PeerCommand::Suggest(piece) => {
                if self.hello.features.fast {
                    link.out.send(Message::Suggest(piece));
                }
            }
            PeerCommand::AllowFast(piece) => {
                if self.hello.features.fast && self.serving.allow(piece) {
                    link.out.send(Message::AllowedFast(piece));
                }
            }
            PeerCommand::RequestHashes(request) => self.request_hashes(request, link),
            PeerCommand::SendHashes(hashes) => self.send_hashes(&hashes, link),
            PeerCommand::RejectHashes(request) => {
                if self.hashes.close(&request) {
                    link.out.send(Message::HashReject(request));
                }
            }
            PeerCommand::RequestMetadata(piece) => self.request_metadata(piece, link),
            PeerCommand::UploadOnly(upload_only) => self.set_upload_only(upload_only, link),
            PeerCommand::Exchange(exchange) => {
                if let Some(id) = self.ids.exchange.filter(|id| *id != 0) {
                    let payload = &exchange.encode();
                    link.out.send(Message::Extended { id, payload });
                }
            }
            PeerCommand::Holepunch(message) => {
                if let Some(id) = self.ids.holepunch.filter(|id| *id != 0) {
                    let payload = &message.encode();
                    link.out.send(Message::Extended { id, payload });
                }
            }
            // The connection's own, or too late.
            PeerCommand::ExchangeKeys | PeerCommand::Unveil(_) | PeerCommand::Attach(_) => {}
            PeerCommand::Credit(_) | PeerCommand::Close(_) => {}
        }
        Ok(Reading::Unchanged)
    }

    fn size(&mut self, info: Arc<Info>, link: &mut Link) -> Result<(), PeerMisbehaved> {
        if self.info.is_some() {
            return Ok(());
        }
        let count = info.layout().piece_count();
        self.info = Some(info);
        self.metadata.give_up();
        for event in self.pieces.resize(count)? {
            self.report_change(event, link);
        }
        // A peer that looks for the metadata too asks those who said how long it is.
        if self.metadata_id().is_some() && self.hello.metadata_len.is_none() {
            self.send_handshake(link);
        }
        Ok(())
    }

    /// Told even to a peer that has the piece: so a seed learns when we become one, and a seed that hides how far its
    /// pieces have spread (BEP 16).
    fn have(&mut self, now: Time, piece: PieceIndex, link: &mut Link) {
        link.out.have(piece);
        let timers = &mut link.timers;
        if !self.interest.theirs && !self.pieces.has(piece) {
            // It wants nothing else of us, and may have waited for just this.
            link.out.urge_haves();
        } else if !timers.is_set(Timer::Haves) {
            timers.set(Timer::Haves, now + HAVE_WAIT);
        }
    }

    fn unhave(&mut self, piece: PieceIndex, link: &mut Link) {
        let told = !link.out.unhave(piece);
        if let Some(id) = self.ids.dont_have.filter(|id| told && *id != 0) {
            let payload = &piece.0.to_be_bytes();
            link.out.send(Message::Extended { id, payload });
        }
        let lost = self.serving.lose(piece);
        self.refuse(lost, link);
    }

    fn choke(&mut self, link: &mut Link) {
        if let Some(refused) = self.serving.choke() {
            // In this order, so that the peer does not request them again at once (BEP 6).
            link.out.send(Message::Choke);
            self.refuse(refused, link);
        }
    }

    fn set_interest(&mut self, interested: bool, link: &mut Link) {
        if std::mem::replace(&mut self.interest.ours, interested) != interested {
            link.out.send(if interested {
                Message::Interested
            } else {
                Message::NotInterested
            });
        }
    }

    fn request(&mut self, now: Time, spans: Vec<BlockSpan>, link: &mut Link) {
        if self.pending.wanted() == 0 {
            self.window.handle_start(now);
        }
        for span in spans {
            if self.may_request(span) {
                self.pending.push(span, now);
                link.out.send(Message::Request(span));
            } else {
                // It was decided before a choke, or a reject, was known there.
                link.events.push_back(PeerEvent::Rejected(span));
            }
        }
        self.watch(now, link);
    }

    fn may_request(&self, span: BlockSpan) -> bool {
        let known = self
            .info
            .as_ref()
            .is_some_and(|info| Self::is_requestable(info, span));
        known && (!self.peer_choking || self.allowed_fast.contains(&span.piece))
    }

    fn cancel(&mut self, now: Time, span: BlockSpan, link: &mut Link) -> Reading {
        let cancelled = self.pending.cancel(span, self.hello.features.fast);
        self.watch(now, link);
        match cancelled {
            Cancelled::Request => {
                link.out.send(Message::Cancel(span));
                Reading::Unchanged
            }
            Cancelled::Receiving => {
                link.events.push_back(PeerEvent::Unwanted(span));
                Reading::SkipBlock
            }
            Cancelled::Nothing => Reading::Unchanged,
        }
    }

    fn serve(&mut self, span: BlockSpan, block: Block, link: &mut Link) {
        debug_assert_eq!(block.len(), span.len as usize, "a block of another span");
        if block.len() == span.len as usize {
            self.serving.serve(span, block);
        } else if self.serving.refuse(span) {
            self.refuse([span], link);
        }
    }

    fn request_hashes(&mut self, request: HashRequest, link: &mut Link) {
        if self.hello.features.v2 {
            self.hashes.ask(request);
            link.out.send(Message::HashRequest(request));
        } else {
            link.events.push_back(PeerEvent::HashesRejected(request));
        }
    }

    fn send_hashes(&mut self, hashes: &Hashes, link: &mut Link) {
        let request = hashes.request;
        if !self.hashes.close(&request) {
            return;
        }
        debug_assert_eq!(
            hashes.hashes.len() as u64,
            answer_len(&request),
            "{request:?}"
        );
        if hashes.hashes.len() as u64 == answer_len(&request) {
            let hashes: Vec<_> = hashes.hashes.iter().map(|hash| hash.0).collect();
            let hashes = &hashes[..];
            link.out.send(Message::Hashes { request, hashes });
        } else {
            link.out.send(Message::HashReject(request));
        }
    }

    fn request_metadata(&mut self, piece: u32, link: &mut Link) {
        let Some(id) = self.metadata_id() else {
            link.events.push_back(PeerEvent::MetadataRejected(piece));
            return;
        };
        if self.metadata.ask(piece) {
            let payload = &MetadataMessage::Request(piece).encode();
            link.out.send(Message::Extended { id, payload });
        }
    }

    fn set_upload_only(&mut self, upload_only: bool, link: &mut Link) {
        let before = std::mem::replace(&mut self.ours.upload_only, upload_only);
        if before == upload_only || self.ours.hidden {
            return;
        }
        if let Some(id) = self.ids.upload_only.filter(|id| *id != 0) {
            let payload = &[u8::from(upload_only)];
            link.out.send(Message::Extended { id, payload });
        }
    }
}
