//! Passing single blocks on before their piece is whole.
//!
//! A piece moves through a crowd in hops, and a hop takes slots × piece / uplink, for nobody may give what is not verified.
//! With v2 each block has a hash of its own (BEP 52): fetched while the piece comes, they make the hop a block long. Peers
//! that speak `rr_have_blocks` are told of such blocks, and ask for them as for any others.

use std::collections::BTreeMap;

use riverrun_base::{BLOCK_LEN, Bitfield, Block, BlockDigest, BlockSpan, PieceIndex, Sha256Digest};
use riverrun_peer::{BlockRun, PeerCommand};

use super::peers::Peer;
use super::{Cx, Torrent};
use crate::bans::DigestKind;
use crate::key::ConnKey;
use crate::outbox::Event;
use crate::picker::BlockIndex;

/// Of how many pieces a peer may have some blocks, as far as we remember.
const PARTS_MAX: usize = 256;

/// The pieces that are being passed on.
#[derive(Debug, Default)]
pub(super) struct Relay {
    pieces: BTreeMap<PieceIndex, Relayed>,
}

/// A piece that has come in part.
#[derive(Debug)]
struct Relayed {
    /// What its blocks must hash to, once that is known.
    leaves: Option<Box<[Sha256Digest]>>,
    /// What those hash to that came before that was known.
    came: BTreeMap<u32, Sha256Digest>,
    /// Those that are right, and held.
    right: Bitfield,
}

/// What a block is that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It cannot be told, or not yet.
    Open,
    /// It is what it must be, and may be given.
    Right,
    /// It is not.
    Wrong,
}

impl Relay {
    /// Whether a block of a piece that is not whole is right, and may be given.
    pub(super) fn has(&self, at: BlockIndex) -> bool {
        let piece = self.pieces.get(&at.piece);
        piece.is_some_and(|piece| piece.right.has(PieceIndex(at.block)))
    }

    /// Whether something is being passed on.
    pub(super) fn is_active(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// What the blocks of a piece must hash to, if that is known.
    pub(super) fn leaves(&self, piece: PieceIndex) -> Option<&[Sha256Digest]> {
        self.pieces.get(&piece)?.leaves.as_deref()
    }

    /// A block has come that hashes to this.
    fn judge(&mut self, at: BlockIndex, digest: Sha256Digest) -> Judgement {
        let piece = self.pieces.get_mut(&at.piece);
        piece.map_or(Judgement::Open, |piece| piece.judge(at.block, digest))
    }

    /// What the blocks of a piece must hash to; of those that came before, which are wrong.
    fn set_leaves(&mut self, piece: PieceIndex, leaves: &[Sha256Digest]) -> Vec<u32> {
        let Some(relayed) = self.pieces.get_mut(&piece) else {
            return Vec::new();
        };
        relayed.leaves = Some(leaves.into());
        let came = std::mem::take(&mut relayed.came).into_iter();
        came.filter(|(block, digest)| relayed.judge(*block, *digest) == Judgement::Wrong)
            .map(|(block, _)| block)
            .collect()
    }

    /// All that may be given, in runs.
    fn runs(&self) -> impl Iterator<Item = BlockRun> + '_ {
        self.pieces
            .iter()
            .flat_map(|(piece, relayed)| runs(*piece, &relayed.right))
    }

    /// Whether it is not known yet what the blocks of a piece must hash to that is to be passed on.
    pub(super) fn awaits_leaves(&self, piece: PieceIndex) -> bool {
        let piece = self.pieces.get(&piece);
        piece.is_some_and(|piece| piece.leaves.is_none())
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
    }
}

impl Relayed {
    fn judge(&mut self, block: u32, digest: Sha256Digest) -> Judgement {
        let Some(leaves) = &self.leaves else {
            self.came.insert(block, digest);
            return Judgement::Open;
        };
        if leaves.get(block as usize) == Some(&digest) {
            self.right.set(PieceIndex(block));
            Judgement::Right
        } else {
            Judgement::Wrong
        }
    }
}

/// Blocks of a piece as runs of neighbours.
fn runs(piece: PieceIndex, blocks: &Bitfield) -> Vec<BlockRun> {
    let mut runs: Vec<BlockRun> = Vec::new();
    for PieceIndex(block) in blocks.ones() {
        match runs.last_mut() {
            Some(run) if run.blocks().end == block => run.count += 1,
            _ => runs.push(BlockRun {
                piece,
                first: block,
                count: 1,
            }),
        }
    }
    runs
}

impl Torrent {
    /// A block has come that is wanted, and is to be judged before it is held.
    pub(super) fn judge(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnKey,
        at: BlockIndex,
        block: &Block,
    ) -> Judgement {
        if !self.relay.pieces.contains_key(&at.piece) && !self.begin_relay(cx, conn, at.piece) {
            return Judgement::Open;
        }
        match self.digest(at, block, DigestKind::V2) {
            BlockDigest::V2(digest) => self.relay.judge(at, digest),
            BlockDigest::V1(_) => Judgement::Open,
        }
    }

    /// Passes a piece on from now on, if that gains anything. Whether it does.
    fn begin_relay(&mut self, cx: &mut Cx<'_>, conn: ConnKey, piece: PieceIndex) -> bool {
        let Some(blocks) = self.relayed_blocks(piece) else {
            return false;
        };
        let least = cx.config.tuning.relay_after;
        let Some(peer) = self.peers.get(conn).filter(|_| !least.is_zero()) else {
            return false;
        };
        let in_time = u128::from(peer.down.meter.rate(cx.now)) * least.as_micros() / 1_000_000;
        if in_time >= u128::from(self.piece_len(piece)) {
            return false;
        }
        let takes = |peer: &Peer| peer.conn != conn && peer.hears_of_blocks(piece);
        if !self.peers.ready().any(takes) {
            return false;
        }
        if !self.request_leaves(cx, piece) {
            return false;
        }
        let relayed = Relayed {
            leaves: None,
            came: BTreeMap::new(),
            right: Bitfield::new(blocks),
        };
        self.relay.pieces.insert(piece, relayed);
        true
    }

    /// How many blocks a piece has, if each has a hash of its own.
    fn relayed_blocks(&self, piece: PieceIndex) -> Option<u32> {
        let meta = self.meta.as_ref()?;
        let leaves = meta.hashes.get(piece)?.v2?.leaves;
        (leaves > 1).then(|| meta.info.layout().block_count(piece))
    }

    /// A block is right and held: tells of it.
    pub(super) fn relay_block(&mut self, cx: &mut Cx<'_>, at: BlockIndex) {
        let run = BlockRun {
            piece: at.piece,
            first: at.block,
            count: 1,
        };
        self.tell_blocks(cx, run);
    }

    fn tell_blocks(&mut self, cx: &mut Cx<'_>, run: BlockRun) {
        let lacks = |peer: &&Peer| {
            let part = peer.parts.get(&run.piece);
            let has = |block| part.is_some_and(|part| part.has(PieceIndex(block)));
            peer.keeps_up() && peer.hears_of_blocks(run.piece) && !run.blocks().all(has)
        };
        let mut conns: Vec<_> = self.peers.ready().filter(lacks).map(|p| p.conn).collect();
        // As with whole pieces: in one order for all, the same few would trade with each other.
        self.rng.shuffle(&mut conns);
        for conn in conns {
            cx.tell(conn, PeerCommand::HaveBlocks(run));
        }
    }

    /// A peer that did not need to be told of each block does now: tells of all.
    pub(super) fn tell_all_blocks(&self, cx: &mut Cx<'_>, conn: ConnKey) {
        let Some(peer) = self.peers.get(conn) else {
            return;
        };
        let runs = self.relay.runs();
        for run in runs.filter(|run| peer.hears_of_blocks(run.piece)) {
            cx.tell(conn, PeerCommand::HaveBlocks(run));
        }
    }

    /// What the blocks of a piece must hash to is known.
    pub(super) fn relay_leaves(
        &mut self,
        cx: &mut Cx<'_>,
        piece: PieceIndex,
        leaves: &[Sha256Digest],
    ) {
        let wrong = self.relay.set_leaves(piece, leaves);
        // What storage is about to find wrong would else be laid to whoever sends it the second time.
        let is_hashed = self
            .pieces
            .as_ref()
            .is_some_and(|it| it.is_verifying(piece));
        let right = self.relay.pieces.get(&piece).map(|piece| &piece.right);
        for run in right.map_or_else(Vec::new, |right| runs(piece, right)) {
            self.tell_blocks(cx, run);
        }
        if !wrong.is_empty() && !is_hashed {
            self.blocks_failed(cx, piece, &wrong);
        }
    }

    /// Blocks are wrong, by hashes of their own: whoever sent them has lied.
    pub(super) fn blocks_failed(&mut self, cx: &mut Cx<'_>, piece: PieceIndex, blocks: &[u32]) {
        cx.event(Event::PieceFailed {
            torrent: self.key,
            piece,
        });
        self.rates
            .failed(blocks.len() as u64 * u64::from(BLOCK_LEN));
        self.fetch_blocks_again(cx, piece, blocks);
    }

    /// A piece is whole, or what was held of it is let go.
    pub(super) fn end_relay(&mut self, cx: &mut Cx<'_>, piece: PieceIndex) {
        let Some(relayed) = self.relay.pieces.remove(&piece) else {
            return;
        };
        let is_whole = self.pieces.as_ref().is_some_and(|p| p.have().has(piece));
        if is_whole || relayed.right.none() {
            return;
        }
        let none = BlockRun {
            piece,
            first: 0,
            count: 0,
        };
        for peer in self.peers.ready().filter(|p| p.hears_of_blocks(piece)) {
            cx.tell(peer.conn, PeerCommand::HaveBlocks(none));
        }
    }

    /// A peer has blocks of a piece.
    pub(super) fn has_blocks(&mut self, cx: &mut Cx<'_>, conn: ConnKey, run: BlockRun) {
        let layout = self.meta.as_ref().map(|meta| meta.info.layout());
        let blocks = layout.map(|layout| layout.block_count(run.piece));
        let (Some(peer), Some(blocks)) = (self.peers.get_mut(conn), blocks) else {
            return;
        };
        if !peer.has_told || peer.have.has(run.piece) || run.blocks().end > blocks {
            return;
        }
        peer.down.dry = None;
        if run.count == 0 {
            self.drop_part(conn, run.piece);
        } else if let Some(part) = peer.parts.get_mut(&run.piece) {
            set_all(part, &run);
        } else if peer.parts.len() < PARTS_MAX {
            let mut part = Bitfield::new(blocks);
            set_all(&mut part, &run);
            peer.parts.insert(run.piece, part);
            if let Some(picker) = self.pieces.as_mut().and_then(|pieces| pieces.picker_mut()) {
                picker.add_part(run.piece);
            }
        }
        self.update_interest(cx, conn);
        self.fill(cx, conn);
    }

    /// A peer passes nothing of a piece on any more, or has it whole.
    pub(super) fn drop_part(&mut self, conn: ConnKey, piece: PieceIndex) {
        let peer = self.peers.get_mut(conn);
        let was_there = peer.is_some_and(|peer| peer.parts.remove(&piece).is_some());
        let picker = self.pieces.as_mut().and_then(|pieces| pieces.picker_mut());
        if let Some(picker) = picker.filter(|_| was_there) {
            picker.remove_part(piece);
        }
    }

    /// A block has come, or a whole piece: peers that pass that piece on may be of no more interest.
    pub(super) fn review_parts(&mut self, cx: &mut Cx<'_>, piece: PieceIndex) {
        let picker = self.pieces.as_ref().and_then(|pieces| pieces.picker_ref());
        if picker.is_none_or(|picker| picker.rarity().in_part(piece) == 0) {
            return;
        }
        let with_part = self.peers.iter().filter(|p| p.parts.contains_key(&piece));
        for conn in with_part.map(|peer| peer.conn).collect::<Vec<_>>() {
            self.update_interest(cx, conn);
        }
    }

    /// Whether a peer passes a block on that has not come.
    pub(super) fn passes_on_something(&self, peer: &Peer) -> bool {
        let Some(pieces) = &self.pieces else {
            return false;
        };
        let lacks = |piece: PieceIndex, part: &Bitfield| match pieces.picker_ref() {
            Some(picker) => picker.lacks_of(piece, part),
            None => true,
        };
        let mut parts = peer.parts.iter();
        parts.any(|(piece, part)| pieces.needs(*piece) && lacks(*piece, part))
    }

    /// A span as a block that may be given although its piece is not whole.
    pub(crate) fn relays(&self, span: BlockSpan) -> bool {
        self.block_index(span).is_some_and(|at| self.relay.has(at))
    }
}

fn set_all(part: &mut Bitfield, run: &BlockRun) {
    for block in run.blocks() {
        part.set(PieceIndex(block));
    }
}

impl Peer {
    /// Whether it should know what the blocks of a piece hash to.
    pub(super) fn knows_leaves(&self, piece: PieceIndex) -> bool {
        self.have.has(piece) || self.parts.contains_key(&piece)
    }

    /// Whether it wants to hear of single blocks of a piece.
    fn hears_of_blocks(&self, piece: PieceIndex) -> bool {
        let hears = self.hello.as_ref().is_some_and(|it| it.features.blocks);
        hears && self.has_told && !self.is_upload_only() && !self.have.has(piece)
    }

    /// Whether it is told of each block as it comes: it may ask for it, or wants nothing else of us.
    const fn keeps_up(&self) -> bool {
        self.up.is_unchoked || !self.up.is_interested
    }
}
