//! From the command of a shard to what its connection sends.

use std::sync::Arc;

use riverrun_base::{Bitfield, BlockSpan, PieceIndex};
use riverrun_metainfo::Info;
use riverrun_peer::{CloseReason, PeerCommand, PeerEvent};
use riverrun_swarm::{ConnKey, PickReason, SlotReason};

use super::World;
use crate::ids::{EndId, HostId};
use crate::manners::Claims;
use crate::observe::Happening;
use crate::schedule::What;
use crate::wire::direct::DirectEnd;
use crate::wire::{Message, Talk};

impl World {
    /// What a connection of a host is told to do.
    pub(super) fn tell(&mut self, host: HostId, conn: ConnKey, command: PeerCommand) {
        let Some(end) = self.host(host).conns.get(conn) else {
            return self.tell_web_seed(host, conn, command);
        };
        let Some(command) = self.bend(host, command) else {
            return;
        };
        self.watch_command(host, (conn, end), &command);
        let Some(wire) = self.wires[end.wire()].as_deref_mut() else {
            return;
        };
        match &mut wire.ends[end.side()].talk {
            Talk::Direct(_) => self.tell_direct(end, command),
            Talk::Bytes(_) => self.tell_bytes(end, command),
        }
    }

    /// What becomes of a command by the manners of its host.
    fn bend(&self, host: HostId, command: PeerCommand) -> Option<PeerCommand> {
        let manners = &self.host(host).config.manners;
        match command {
            PeerCommand::Unchoke if manners.free_rider => None,
            PeerCommand::Have(_) if manners.claims != Claims::Honest => None,
            command => Some(command),
        }
    }

    fn watch_command(
        &mut self,
        host: HostId,
        (conn, end): (ConnKey, EndId),
        command: &PeerCommand,
    ) {
        if !self.watch.happenings {
            return;
        }
        let Some(wire) = &self.wires[end.wire()] else {
            return;
        };
        let to = wire.ends[end.other().side()].host;
        match command {
            PeerCommand::Choke | PeerCommand::Unchoke if !self.watch.reasons => {
                let choked = matches!(command, PeerCommand::Choke);
                self.happen(|| Happening::Choked {
                    by: host,
                    to,
                    conn,
                    choked,
                    why: None,
                });
            }
            PeerCommand::Request(spans) if !self.watch.reasons => {
                let mut last = None;
                for piece in spans.iter().map(|span| span.piece) {
                    if last.replace(piece) != Some(piece) {
                        self.happen(|| Happening::Requested {
                            by: host,
                            to,
                            piece,
                            why: None,
                        });
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn explain_pick(
        &mut self,
        by: HostId,
        conn: ConnKey,
        piece: PieceIndex,
        why: PickReason,
    ) {
        if let (true, Some(to)) = (self.watch.reasons, self.other_end(by, conn)) {
            self.happen(|| Happening::Requested {
                by,
                to,
                piece,
                why: Some(why),
            });
        }
    }

    pub(super) fn explain_slot(
        &mut self,
        by: HostId,
        conn: ConnKey,
        unchoked: bool,
        why: SlotReason,
    ) {
        if let (true, Some(to)) = (self.watch.reasons, self.other_end(by, conn)) {
            self.happen(|| Happening::Choked {
                by,
                to,
                conn,
                choked: !unchoked,
                why: Some(why),
            });
        }
    }

    fn direct(&mut self, end: EndId) -> Option<&mut DirectEnd> {
        self.wires[end.wire()].as_deref_mut()?.ends[end.side()].direct()
    }

    fn tell_direct(&mut self, end: EndId, command: PeerCommand) {
        let Some(direct) = self.direct(end) else {
            return;
        };
        let message = match command {
            PeerCommand::Have(piece) => match &mut direct.attach {
                Some(attach) => {
                    attach.have.set(piece);
                    return;
                }
                None if direct.told.set(piece) => Message::Have(piece),
                None => return,
            },
            PeerCommand::DontHave(piece) => {
                direct.told.clear(piece);
                Message::DontHave(piece)
            }
            PeerCommand::HaveBlocks(run) => Message::HaveBlocks(run),
            PeerCommand::Choke => Message::Choke(direct.choke()),
            PeerCommand::Unchoke => {
                direct.unchoke();
                Message::Unchoke
            }
            PeerCommand::Interested => Message::Interested(true),
            PeerCommand::NotInterested => Message::Interested(false),
            PeerCommand::Request(spans) => return self.request(end, &spans),
            PeerCommand::Cancel(span) => {
                direct.cancel(span);
                Message::Cancel(span)
            }
            PeerCommand::Reject(span) => {
                direct.take_asked(span);
                Message::Reject(span)
            }
            PeerCommand::Suggest(piece) => Message::Suggest(piece),
            PeerCommand::AllowFast(piece) => {
                direct.allowed.push(piece);
                Message::AllowFast(piece)
            }
            PeerCommand::RequestHashes(request) => Message::RequestHashes(Box::new(request)),
            PeerCommand::SendHashes(hashes) => Message::Hashes(Box::new(hashes)),
            PeerCommand::RejectHashes(request) => Message::RejectHashes(Box::new(request)),
            PeerCommand::RequestMetadata(piece) => Message::RequestMetadata(piece),
            PeerCommand::Metadata(info) => return self.learn_metadata(end, &info),
            PeerCommand::UploadOnly(upload_only) => {
                direct.upload_only = upload_only;
                Message::UploadOnly
            }
            PeerCommand::Holepunch(message) => {
                self.counts.elsewhere += 1;
                Message::Holepunch(message)
            }
            PeerCommand::Exchange(told) => {
                self.counts.elsewhere += 1;
                Message::Exchange(told)
            }
            PeerCommand::Credit(credit) => {
                direct.grant(credit.send_bytes, credit.receive_bytes);
                return self.resume(end);
            }
            PeerCommand::Close(why) => return self.close(end, why),
            PeerCommand::Serve { .. } => unreachable!("storage serves"),
            PeerCommand::ExchangeKeys | PeerCommand::Unveil(_) | PeerCommand::Attach(_) => {
                unreachable!("accepting attaches")
            }
        };
        self.say(end, message);
    }

    /// Sends a message, after the first word on pieces if that is due.
    fn say(&mut self, end: EndId, message: Message) {
        if message.is_of_pieces() {
            self.claim_nothing(end);
        }
        self.send(end, message);
    }

    /// Ends a connection, as its host decides.
    pub(super) fn close(&mut self, end: EndId, why: CloseReason) {
        self.send(end, Message::Closed);
        self.report_end(end, why);
    }

    fn request(&mut self, end: EndId, spans: &[BlockSpan]) {
        let now = self.now;
        let Some(direct) = self.direct(end) else {
            return;
        };
        if direct.request(now, spans) {
            let timeout = self.snub_timeout(end);
            self.after(timeout, What::LookForSnub(end));
        }
        self.send(end, Message::Requests(spans.into()));
    }

    fn snub_timeout(&self, end: EndId) -> std::time::Duration {
        let host = self.wires[end.wire()]
            .as_ref()
            .map(|wire| wire.ends[end.side()].host);
        host.map_or(std::time::Duration::ZERO, |host| {
            self.host(host).peer_config.snub_timeout
        })
    }

    pub(super) fn look_for_snub(&mut self, end: EndId) {
        let (now, timeout) = (self.now, self.snub_timeout(end));
        let Some(direct) = self.direct(end) else {
            return;
        };
        let (is_snubbed, again) = direct.look_for_snub(now, timeout);
        if let Some(at) = again {
            self.schedule.add(at, What::LookForSnub(end));
        }
        if is_snubbed {
            self.peer_at(end, PeerEvent::Snubbed);
            self.tell_window(end);
        }
    }

    /// Tells an end how many requests should be under way, if that has changed.
    pub(super) fn tell_window(&mut self, end: EndId) {
        let change = self.direct(end).and_then(DirectEnd::window_change);
        if let Some(window) = change {
            self.peer_at(end, PeerEvent::Window(window));
        }
    }

    /// A connection that was attached without metadata gets to know it: what the peer said of its pieces counts.
    fn learn_metadata(&mut self, end: EndId, info: &Arc<Info>) {
        let Some(wire) = self.wires[end.wire()].as_deref_mut() else {
            return;
        };
        let [own, other] = sides(&mut wire.ends, end);
        let (Some(own), Some(other)) = (own.direct(), other.direct()) else {
            return;
        };
        if let Some(attach) = &mut own.attach {
            attach.info = Some(info.clone());
            attach.have = Bitfield::new(info.layout().piece_count());
        }
        own.info = Some(info.clone());
        own.told = Bitfield::new(info.layout().piece_count());
        if std::mem::take(&mut own.owes_pieces) {
            let theirs = other.told.clone();
            self.peer_at(end, PeerEvent::HasPieces(theirs));
        }
    }
}

/// The two ends of a wire, the named one first.
fn sides<T>(ends: &mut [T; 2], end: EndId) -> [&mut T; 2] {
    let [first, second] = ends;
    if end.side() == 0 {
        [first, second]
    } else {
        [second, first]
    }
}
