//! Getting pieces: what peers have and want to give, requests, blocks, and what follows when a piece is through.

use std::time::Duration;

use riverrun_base::{BLOCK_LEN, Bitfield, Block, BlockSpan, PieceIndex, Rate, Time};
use riverrun_peer::PeerCommand;

use super::peers::{Peer, Silence};
use super::relay::Judgement;
use super::web;
use super::{Cx, Torrent};
use crate::key::ConnKey;
use crate::outbox::{Event, StorageJob};
use crate::picker::{Asker, BlockIndex, Order, Pace, Receipt};

/// A piece whose deadline is nearer than this is requested from more than one peer.
const LATE: Duration = Duration::from_secs(2);
/// In the end game blocks are asked for twice in any case when no more are owed than this.
const COPY_MIN: usize = 8;
/// What all together may owe in any case, in blocks: 2 MiB, before a rate is known. One block of each comes on top.
const OWED_MIN: usize = 128;
/// Open pieces that nobody connected has, beyond which their blocks are let go.
const OPEN_MAX: usize = 64;

impl Torrent {
    /// All that a peer has.
    pub(super) fn has_pieces(&mut self, cx: &mut Cx<'_>, conn: ConnKey, have: Bitfield) {
        let Some(meta) = &self.meta else { return };
        if have.len() != meta.info.layout().piece_count() {
            return;
        }
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        let before = std::mem::replace(&mut peer.have, have);
        let told = std::mem::replace(&mut peer.has_told, true);
        if let Some(picker) = self.pieces.as_mut().and_then(|pieces| pieces.picker_mut()) {
            if told {
                picker.remove_peer(&before);
            }
            picker.add_peer(&peer.have);
        }
        peer.down.dry = None;
        let whole = peer.parts.keys().filter(|piece| peer.have.has(**piece));
        for piece in whole.copied().collect::<Vec<_>>() {
            self.drop_part(conn, piece);
        }
        self.note_seed(conn);
        self.count_wanted(conn);
        self.update_interest(cx, conn);
        self.part_if_useless(cx, conn);
        self.reveal_news(cx, conn, None);
        self.request_layers(cx);
        self.fill(cx, conn);
    }

    /// A peer has one piece more.
    pub(super) fn has(&mut self, cx: &mut Cx<'_>, conn: ConnKey, piece: PieceIndex) {
        self.drop_part(conn, piece);
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        if !peer.has_told || !peer.have.set(piece) {
            return;
        }
        if let Some(pieces) = &mut self.pieces {
            if let Some(picker) = pieces.picker_mut() {
                picker.add_piece(piece, &peer.have);
            }
            if pieces.needs(piece) {
                peer.down.wanted += 1;
                peer.down.dry = None;
            }
        }
        if peer.have.all() {
            self.note_seed(conn);
            self.part_if_useless(cx, conn);
        }
        self.update_interest(cx, conn);
        self.reveal_news(cx, conn, Some(piece));
        self.fill(cx, conn);
    }

    /// A peer no longer has a piece (BEP 54).
    pub(super) fn lost_piece(&mut self, cx: &mut Cx<'_>, conn: ConnKey, piece: PieceIndex) {
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        if !peer.have.clear(piece) {
            return;
        }
        if let Some(pieces) = &mut self.pieces {
            if let Some(picker) = pieces.picker_mut() {
                picker.remove_piece(piece, &peer.have);
            }
            peer.down.wanted -= u32::from(pieces.needs(piece));
        }
        self.update_interest(cx, conn);
    }

    fn note_seed(&mut self, conn: ConnKey) {
        let Some(peer) = self.peers.get(conn) else {
            return;
        };
        if let Some(addr) = peer.listen_addr() {
            self.candidates.set_seed(addr, peer.is_seed());
        }
    }

    /// Counts anew how many pieces a peer has that we want.
    pub(super) fn count_wanted(&mut self, conn: ConnKey) {
        let (Some(pieces), Some(peer)) = (&self.pieces, self.peers.get_mut(conn)) else {
            return;
        };
        peer.down.wanted = if peer.has_told {
            pieces.needed_of(&peer.have)
        } else {
            0
        };
        peer.down.dry = None;
    }

    /// Interest is exact (BEP 3): told whenever it changes.
    pub(super) fn update_interest(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        let downloads = self.life.is_running() && !self.options.upload_only;
        let peer = self.peers.get(conn);
        let gives_parts = downloads && peer.is_some_and(|peer| self.passes_on_something(peer));
        let Some(peer) = self.peers.get_mut(conn).filter(|peer| peer.is_up()) else {
            return;
        };
        let interested = downloads && (peer.down.wanted > 0 || gives_parts);
        if interested != peer.down.is_interested {
            peer.down.is_interested = interested;
            let command = if interested {
                PeerCommand::Interested
            } else {
                PeerCommand::NotInterested
            };
            cx.tell(conn, command);
        }
    }

    pub(super) fn choked(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        peer.down.is_choking = true;
        // The rejections just before were the choke's, not the peer's unwillingness.
        self.end_wait(conn);
        self.abandon_if_idle(cx, conn);
        self.fill(cx, conn);
    }

    pub(super) fn unchoked(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        peer.down.is_choking = false;
        peer.down.dry = None;
        self.end_wait(conn);
        self.fill(cx, conn);
    }

    pub(super) fn window(&mut self, cx: &mut Cx<'_>, conn: ConnKey, window: u32) {
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.down.window = window;
            self.fill(cx, conn);
        }
    }

    pub(super) fn allowed_fast(&mut self, cx: &mut Cx<'_>, conn: ConnKey, piece: PieceIndex) {
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.down.allow(piece);
            peer.down.dry = None;
            self.fill(cx, conn);
        }
    }

    pub(super) fn suggested(&mut self, conn: ConnKey, piece: PieceIndex) {
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.down.suggest(piece);
        }
    }

    /// Requests as many blocks from a peer as it should owe.
    pub(super) fn fill(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        if !self.life.is_running() || self.is_faulted() || self.options.upload_only {
            return;
        }
        let is_suspect = self.is_suspect(conn);
        self.note_others(cx.now);
        let trusted_elsewhere = is_suspect && self.bans.others_give();
        let order = self.order(cx);
        let pardons = self.bans.pardons();
        let (Some(meta), Some(pieces)) = (&self.meta, &mut self.pieces) else {
            return;
        };
        let Some(peer) = self.peers.get(conn).filter(|peer| may_ask(peer, cx.now)) else {
            return;
        };
        let layout = meta.info.layout();
        let dry = peer.down.dry;
        let picker = pieces.picker(&self.peers, order);
        let rate = self.rates.rate_at_once(cx.now);
        let copy_time = cx.config.tuning.copy_time;
        let owed_little = self.peers.owed() <= blocks_in(copy_time, rate).max(COPY_MIN);
        picker.set_manner(owed_little && !copy_time.is_zero(), self.relay.is_active());
        if dry == Some(picker.epoch() + pardons) {
            return;
        }
        let asker = Asker {
            conn,
            have: &peer.have,
            parts: &peer.parts,
            only: peer.down.is_choking.then_some(&peer.down.allowed),
            suggested: &peer.down.suggested,
            current: peer.down.current,
            pace: pace(cx, peer, is_suspect, layout.nominal_piece_len()),
            random_first: cx.config.tuning.random_first,
            is_idle: peer.down.requests.is_empty(),
            is_best: peer.down.requests.is_empty() && self.peers.gives_most(peer),
            late: cx.now + LATE,
            is_suspect: trusted_elsewhere,
        };
        picker.set_explaining(cx.config.explain);
        let owed_max = blocks_in(cx.config.tuning.owed_time, rate).max(OWED_MIN);
        let shared = owed_max.saturating_sub(self.peers.owed());
        let room = web::room(peer, cx.now, shared);
        let picked = picker.pick(&asker, room, layout.as_ref(), &mut self.rng);
        let epoch = picker.epoch() + pardons;
        let reasons = picker.take_reasons();
        let spans: Vec<_> = picked
            .iter()
            .filter_map(|at| layout.span(at.piece, at.block))
            .collect();
        if self.peers.owe(conn, &spans) {
            self.begin_silence(conn);
        }
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        peer.down.current = spans.last().map(|span| span.piece).or(peer.down.current);
        if spans.len() < room {
            peer.down.dry = Some(epoch);
            self.peers.hungry.insert(conn);
        } else {
            self.peers.hungry.remove(&conn);
        }
        self.tell_picks(cx, conn, reasons);
        if !spans.is_empty() {
            cx.tell(conn, PeerCommand::Request(spans));
            self.want_credit(cx);
        }
    }

    fn tell_picks(
        &self,
        cx: &mut Cx<'_>,
        conn: ConnKey,
        reasons: Vec<(PieceIndex, crate::PickReason)>,
    ) {
        for (piece, why) in reasons {
            let torrent = self.key;
            cx.event(Event::Picked {
                torrent,
                conn,
                piece,
                why,
            });
        }
    }

    /// Lets peers that had nothing to do look again, if something has changed.
    pub(super) fn feed_hungry(&mut self, cx: &mut Cx<'_>) {
        self.note_others(cx.now);
        let picker = self.pieces.as_ref().and_then(|pieces| pieces.picker_ref());
        let Some(epoch) = picker.map(crate::picker::Picker::epoch) else {
            return;
        };
        let epoch = epoch + self.bans.pardons();
        if self.peers.hungry.is_empty() || self.peers.fed == epoch {
            return;
        }
        self.peers.fed = epoch;
        let mut conns: Vec<_> = self.peers.hungry.iter().copied().collect();
        // Silent ones come last: two of them would hand what only one peer may be asked for to each other for ever.
        let is_silent = |conn: &ConnKey| self.peers.get(*conn).is_some_and(|it| it.down.is_snubbed);
        conns.sort_by_key(is_silent);
        for conn in conns {
            self.fill(cx, conn);
        }
    }

    /// Whether some peer that is under no suspicion gives us blocks. One that says that it has them, and answers
    /// with silence or refusal, does not.
    fn any_trusted_source(&self, now: Time) -> bool {
        self.peers.up().any(|peer| {
            let down = &peer.down;
            let gives = down.gives(now) && !down.is_snubbed;
            gives && down.wanted > 0 && !self.bans.is_suspect(peer.culprit())
        })
    }

    /// Notes it, while anybody is under suspicion.
    fn note_others(&mut self, now: Time) {
        if self.bans.has_suspects() {
            let others_give = self.any_trusted_source(now);
            self.bans.note_others(others_give);
        }
    }

    fn is_suspect(&self, conn: ConnKey) -> bool {
        let suspected = |peer: &Peer| self.bans.is_suspect(peer.culprit());
        self.bans.has_suspects() && self.peers.get(conn).is_some_and(suspected)
    }

    /// A block has come.
    pub(super) fn received(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnKey,
        span: BlockSpan,
        block: Block,
    ) {
        self.peers.settle(conn, span);
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        peer.down.received(cx.now, span.len.into());
        self.pay_received(cx, conn, span.len.into());
        self.begin_silence(conn);
        if !self.take_block(cx, conn, span, block) {
            self.rates.wasted(span.len.into());
        }
        self.abandon_if_idle(cx, conn);
        self.fill(cx, conn);
    }

    /// A block has come whose request was taken back.
    pub(super) fn unwanted(&mut self, cx: &mut Cx<'_>, conn: ConnKey, span: BlockSpan) {
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        let was_snubbed = peer.down.is_snubbed;
        peer.down.received(cx.now, span.len.into());
        self.pay_received(cx, conn, span.len.into());
        self.begin_silence(conn);
        self.rates.wasted(span.len.into());
        if was_snubbed {
            // It may be asked for what can be asked of no silent peer.
            self.fill(cx, conn);
        }
    }

    /// Hands a block on if it is wanted; whether it is.
    fn take_block(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnKey,
        span: BlockSpan,
        block: Block,
    ) -> bool {
        let at = self.block_index(span);
        let layout = self.meta.as_ref().map(|meta| meta.info.layout());
        let picker = self.pieces.as_mut().and_then(|pieces| pieces.picker_mut());
        let (Some(at), Some(layout), Some(picker)) = (at, layout, picker) else {
            return false;
        };
        let Receipt::Taken { cancel, complete } = picker.receive(at, conn, layout.as_ref()) else {
            return false;
        };
        self.remember_digest(at, &block);
        let judgement = self.judge(cx, conn, at, &block);
        if judgement != Judgement::Wrong {
            cx.store(self.key, StorageJob::Store { span, block });
        }
        for other in cancel {
            self.cancel(cx, other, span);
        }
        match judgement {
            Judgement::Open => {}
            Judgement::Right => self.relay_block(cx, at),
            Judgement::Wrong => {
                self.blocks_failed(cx, at.piece, &[at.block]);
                return true;
            }
        }
        self.review_parts(cx, at.piece);
        if complete {
            self.verify(cx, span.piece);
        }
        true
    }

    /// A span as a block of the torrent, which is what we request.
    pub(super) fn block_index(&self, span: BlockSpan) -> Option<BlockIndex> {
        let meta = self.meta.as_ref()?;
        let block = span.block()?;
        let is_block = meta.info.layout().span(span.piece, block) == Some(span);
        is_block.then_some(BlockIndex {
            piece: span.piece,
            block,
        })
    }

    fn remember_digest(&mut self, at: BlockIndex, block: &Block) {
        let Some(kind) = self.bans.wants_digest(at.piece) else {
            return;
        };
        let digest = self.digest(at, block, kind);
        self.bans.remember(at.piece, at.block, digest);
    }

    /// Takes a request back that another peer has answered.
    fn cancel(&mut self, cx: &mut Cx<'_>, conn: ConnKey, span: BlockSpan) {
        if self.peers.settle(conn, span) {
            if let Some(peer) = self.peers.get_mut(conn) {
                peer.down.dry = None;
            }
            cx.tell(conn, PeerCommand::Cancel(span));
            self.fill(cx, conn);
        }
    }

    /// A block will not come.
    pub(super) fn rejected(&mut self, cx: &mut Cx<'_>, conn: ConnKey, span: BlockSpan) {
        if !self.peers.settle(conn, span) {
            return;
        }
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        // A choke refuses everything at once; what it allows all the same, it may not refuse without being left alone.
        if !peer.down.is_choking || peer.down.allowed.contains(&span.piece) {
            let before = peer.down.wait_until;
            peer.down.rejected(cx.now);
            let until = peer.down.wait_until;
            self.peers.waits.remove(&(before, conn));
            self.peers.waits.insert((until, conn));
        }
        self.release(conn, span);
        self.abandon_if_idle(cx, conn);
    }

    fn release(&mut self, conn: ConnKey, span: BlockSpan) {
        let at = self.block_index(span);
        let picker = self.pieces.as_mut().and_then(|pieces| pieces.picker_mut());
        if let (Some(at), Some(picker)) = (at, picker) {
            picker.release(at, conn);
        }
    }

    fn end_wait(&mut self, conn: ConnKey) {
        if let Some(peer) = self.peers.get_mut(conn) {
            let until = std::mem::take(&mut peer.down.wait_until);
            self.peers.waits.remove(&(until, conn));
        }
    }

    /// Asks peers again that were left alone for a while.
    pub(super) fn waits_over(&mut self, cx: &mut Cx<'_>) {
        while let Some((until, conn)) = self.peers.waits.first().copied()
            && until <= cx.now
        {
            self.peers.waits.pop_first();
            if let Some(peer) = self.peers.get_mut(conn) {
                peer.down.dry = None;
            }
            self.reveal_to_silent(cx, conn);
            self.fill(cx, conn);
        }
    }

    /// From now on a peer's silence counts.
    fn begin_silence(&mut self, conn: ConnKey) {
        let come = self.rates.received();
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.down.silence = Silence::begin(come);
        }
    }

    /// A peer owes blocks for too long: others get them, and it gets one at a time of pieces that can wait.
    pub(super) fn snubbed(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        let owed = self.peers.owed() as u64 * u64::from(BLOCK_LEN);
        let come = self.rates.received();
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        if peer.down.silence.is_explained(come, owed) {
            return;
        }
        peer.down.is_snubbed = true;
        self.take_back_requests(cx, conn);
        // Others come first, or it would be given the same block again and again.
        self.peers.hungry.remove(&conn);
        self.feed_hungry(cx);
        self.fill(cx, conn);
    }

    /// Cancels everything that a peer owes.
    fn take_back_requests(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        let Some(peer) = self.peers.get(conn) else {
            return;
        };
        for span in &peer.down.requests {
            cx.tell(conn, PeerCommand::Cancel(*span));
        }
        self.drop_requests(cx, conn);
    }

    /// Cancels everything that anybody owes.
    pub(super) fn stop_requests(&mut self, cx: &mut Cx<'_>) {
        for conn in self.peers.conns() {
            self.take_back_requests(cx, conn);
        }
    }

    /// Frees everything that a peer owes; whatever comes of it is not counted on.
    pub(super) fn drop_requests(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        peer.down.dry = None;
        for span in self.peers.settle_all(conn, |_| false) {
            self.release(conn, span);
        }
        self.abandon(cx, conn);
    }

    /// What a peer that chokes us and owes nothing has begun is for others to finish.
    fn abandon_if_idle(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        let Some(peer) = self.peers.get(conn) else {
            return;
        };
        // One that refuses what it offers is not waited for either, or it could keep a piece from us for good.
        if !peer.down.gives(cx.now) && peer.down.requests.is_empty() {
            self.abandon(cx, conn);
        }
    }

    fn abandon(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        let Some(picker) = self.pieces.as_mut().and_then(|pieces| pieces.picker_mut()) else {
            return;
        };
        let claimed = picker.claimed_by(conn);
        for piece in picker.abandon(conn, &claimed) {
            self.bans.restart(piece);
            self.discard(cx, piece);
        }
    }

    /// Lets go of what is held of a piece.
    pub(super) fn discard(&mut self, cx: &mut Cx<'_>, piece: PieceIndex) {
        self.end_relay(cx, piece);
        cx.store(self.key, StorageJob::Discard(piece));
    }

    /// Lets the blocks of pieces go that nobody connected could finish.
    pub(super) fn discard_unreachable(&mut self, cx: &mut Cx<'_>) {
        let max = OPEN_MAX + 2 * self.peers.len();
        while let Some(picker) = self.pieces.as_mut().and_then(|pieces| pieces.picker_mut())
            && let Some(piece) = picker.unreachable(max)
        {
            picker.forget(piece);
            self.discard(cx, piece);
        }
    }

    /// Pieces are no longer wanted: nothing of them is waited for.
    pub(super) fn give_up(&mut self, cx: &mut Cx<'_>, pieces: &[PieceIndex]) {
        for conn in self.peers.conns() {
            let Some(peer) = self.peers.get_mut(conn) else {
                continue;
            };
            peer.down.dry = None;
            let keep = |span: &BlockSpan| !pieces.contains(&span.piece);
            for span in self.peers.settle_all(conn, keep) {
                cx.tell(conn, PeerCommand::Cancel(span));
            }
        }
        for piece in pieces {
            self.discard(cx, *piece);
        }
    }

    pub(super) fn set_sequential(&mut self, cx: &Cx<'_>, sequential: bool) {
        self.options.sequential = sequential;
        if let Some(picker) = self.pieces.as_mut().and_then(|pieces| pieces.picker_mut()) {
            picker.set_order(Order::new(cx.config.picking, sequential));
        }
    }

    /// In which order pieces are begun.
    pub(super) const fn order(&self, cx: &Cx<'_>) -> Order {
        Order::new(cx.config.picking, self.options.sequential)
    }

    pub(super) fn set_deadline(&mut self, cx: &mut Cx<'_>, piece: PieceIndex, at: Time) {
        let order = self.order(cx);
        let Some(pieces) = &mut self.pieces else {
            return;
        };
        pieces.picker(&self.peers, order).set_deadline(piece, at);
        for conn in self.peers.conns() {
            self.fill(cx, conn);
        }
    }

    pub(super) fn clear_deadlines(&mut self) {
        if let Some(picker) = self.pieces.as_mut().and_then(|pieces| pieces.picker_mut()) {
            picker.clear_deadlines();
        }
    }

    /// Has a piece hashed whose blocks are all there, if it is known what it must hash to.
    pub(super) fn verify(&mut self, cx: &mut Cx<'_>, piece: PieceIndex) {
        let (Some(meta), Some(pieces)) = (&self.meta, &mut self.pieces) else {
            return;
        };
        match meta.hashes.get(piece) {
            Some(expected) if pieces.begin_verify(piece) => {
                cx.store(self.key, StorageJob::Verify { piece, expected });
            }
            Some(_) => {}
            None => self.request_layers(cx),
        }
    }

    /// Pieces of padding alone come without being requested.
    pub(super) fn verify_padding(&mut self, cx: &mut Cx<'_>) {
        let (Some(meta), Some(pieces)) = (&self.meta, &self.pieces) else {
            return;
        };
        let layout = meta.info.layout();
        if layout.payload_len() == layout.wire_len() {
            return;
        }
        let padding = pieces
            .needed()
            .filter(|piece| layout.is_padding(layout.piece_span(*piece)));
        for piece in padding.collect::<Vec<_>>() {
            self.verify(cx, piece);
        }
    }

    /// A piece is right.
    pub(super) fn verified(&mut self, cx: &mut Cx<'_>, piece: PieceIndex) {
        let senders = self.senders(piece);
        let Some(pieces) = &mut self.pieces else {
            return;
        };
        pieces.end_verify(piece);
        if !pieces.verified(piece) {
            return;
        }
        cx.event(Event::PieceVerified {
            torrent: self.key,
            piece,
        });
        self.clear_up(cx, piece, &senders);
        self.end_relay(cx, piece);
        self.announce_piece(cx, piece);
        if self
            .pieces
            .as_ref()
            .is_some_and(|pieces| pieces.left() == 0)
        {
            self.finished(cx);
        }
    }

    /// Tells all peers of a piece; some of them are of no more interest then. Who asks first is served first, so those
    /// come first who have nothing, and for the rest it is left to chance: in one order for all, the same few would
    /// trade with each other and the others wait.
    fn announce_piece(&mut self, cx: &mut Cx<'_>, piece: PieceIndex) {
        let mut order: Vec<_> = self
            .peers
            .iter()
            .map(|peer| (!peer.have.none(), self.rng.next_u32(), peer.conn))
            .collect();
        order.sort_unstable();
        for (_, _, conn) in order {
            cx.tell(conn, PeerCommand::Have(piece));
        }
        for peer in self.peers.iter_mut() {
            if peer.have.has(piece) {
                peer.down.wanted = peer.down.wanted.saturating_sub(1);
            }
        }
        let uninteresting = self
            .peers
            .iter()
            .filter(|p| p.down.is_interested && p.down.wanted == 0);
        for conn in uninteresting.map(|peer| peer.conn).collect::<Vec<_>>() {
            self.update_interest(cx, conn);
        }
    }

    /// Everything wanted is there.
    fn finished(&mut self, cx: &mut Cx<'_>) {
        if self.is_complete() {
            self.announcer.complete(cx.now);
        }
        cx.store(self.key, StorageJob::Sync);
        for conn in self.peers.conns() {
            cx.tell(conn, PeerCommand::UploadOnly(true));
            self.part_if_useless(cx, conn);
        }
        self.complete_if_settled(cx);
        self.fill_slots(cx);
        self.announce_due(cx);
    }

    /// Panics if requests do not agree with what the picker knows of them.
    pub(super) fn check_download(&self) {
        let Some(pieces) = &self.pieces else { return };
        let Some(picker) = pieces.picker_ref() else {
            assert!(self.peers.iter().all(|peer| peer.down.requests.is_empty()));
            return;
        };
        picker.check_invariants();
        let mut owed = std::collections::BTreeMap::<BlockIndex, usize>::new();
        for span in self.peers.iter().flat_map(|peer| &peer.down.requests) {
            let at = self.block_index(*span).expect("requests are blocks");
            *owed.entry(at).or_default() += 1;
        }
        for (at, count) in &owed {
            assert_eq!(picker.asked_of(*at), *count, "{at:?}");
        }
        assert_eq!(picker.asked() as usize, owed.len());
        assert_eq!(self.peers.owed(), owed.values().sum::<usize>());
        let mut parts = std::collections::BTreeMap::<PieceIndex, u32>::new();
        for piece in self.peers.iter().flat_map(|peer| peer.parts.keys()) {
            *parts.entry(*piece).or_default() += 1;
        }
        assert_eq!(picker.rarity().all_in_part(), &parts);
        for peer in self.peers.iter().filter(|peer| peer.has_told) {
            assert_eq!(
                peer.down.wanted,
                pieces.needed_of(&peer.have),
                "{}",
                peer.conn
            );
        }
        assert!(!pieces.durable().has_any_not_in(pieces.have()));
    }
}

/// Whether a peer may be asked for blocks now.
fn may_ask(peer: &Peer, now: Time) -> bool {
    let down = &peer.down;
    let gives = !down.is_choking || !down.allowed.is_empty();
    peer.is_up() && down.is_interested && gives && down.wait_until <= now && down.room() > 0
}

/// How many blocks come in a time at a rate in bytes per second.
pub(super) fn blocks_in(time: Duration, rate: u64) -> usize {
    let bytes = Rate::from_bytes_per_second(rate).bytes_in(time);
    usize::try_from(bytes / u64::from(BLOCK_LEN)).unwrap_or(usize::MAX)
}

fn pace(cx: &Cx<'_>, peer: &Peer, is_suspect: bool, piece_len: u32) -> Pace {
    let rate = Rate::from_bytes_per_second(peer.down.meter.rate(cx.now));
    let in_time = rate.bytes_in(cx.config.tuning.whole_piece);
    if is_suspect {
        Pace::Parole
    } else if peer.web_seed.is_some() {
        Pace::Runs
    } else if peer.down.is_snubbed {
        Pace::Snubbed
    } else if in_time >= u64::from(piece_len) {
        Pace::Whole
    } else {
        Pace::Shared
    }
}
