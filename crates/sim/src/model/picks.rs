//! What is asked of whom.

use std::collections::{BTreeMap, BTreeSet};

use riverrun_base::{Bitfield, BlockSpan, PieceIndex};
use riverrun_metainfo::Layout;
use riverrun_swarm::{ConnKey, Outbox, StorageJob};

use super::{Peer, Peers};

/// How many peers may owe one block at once, in the end game.
const ASKED_MAX: usize = 4;

/// A peer is asked for what it has told that it has, and gives; for nothing that is there; for nothing that another owes
/// while some peer has a block that nobody was asked for; and a piece is not begun before one that fewer have.
#[derive(Debug, Default)]
pub(super) struct Picks {
    /// Blocks that have come, of pieces that are not verified, and from whom, if that is known.
    came: BTreeMap<PieceIndex, BTreeMap<u32, Option<ConnKey>>>,
    /// Pieces that were wrong, of which it is not known from outside which blocks are asked for again.
    doubtful: BTreeSet<PieceIndex>,
    /// Some piece was wrong: who is suspected is not known from outside, and others are asked for other pieces.
    has_failed: bool,
    is_over: bool,
    /// Who sent the block that has just come.
    sender: Option<ConnKey>,
}

/// What is known when a peer is asked.
pub(super) struct Known<'a> {
    pub(super) layout: &'a Layout,
    pub(super) have: &'a Bitfield,
    /// The rarest is to be first now.
    pub(super) may_rank: bool,
}

impl Picks {
    /// Nothing is judged any more.
    pub(super) const fn end(&mut self) {
        self.is_over = true;
    }

    /// All that was held is let go.
    pub(super) fn forget(&mut self) {
        self.came.clear();
        self.doubtful.clear();
    }

    /// Nothing is held of a piece any more, or all of it.
    pub(super) fn let_go(&mut self, piece: PieceIndex) {
        self.came.remove(&piece);
        self.doubtful.remove(&piece);
    }

    pub(super) fn failed(&mut self, piece: PieceIndex) {
        self.doubtful.insert(piece);
        self.has_failed = true;
    }

    /// The shard is given a block.
    pub(super) const fn came_from(&mut self, conn: ConnKey) {
        self.sender = Some(conn);
    }

    pub(super) fn see_storage(&mut self, out: &Outbox) {
        for (_, job) in &out.storage {
            match job {
                StorageJob::Store { span, .. } => {
                    let blocks = self.came.entry(span.piece).or_default();
                    blocks.extend(span.block().map(|block| (block, self.sender)));
                }
                StorageJob::Discard(piece) => self.let_go(*piece),
                _ => {}
            }
        }
    }

    /// A peer is not believed any more: what it sent of pieces that are not whole comes again.
    pub(super) fn distrust(&mut self, conn: ConnKey, layout: &Layout) {
        for (piece, blocks) in &mut self.came {
            if blocks.len() < layout.block_count(*piece) as usize {
                blocks.retain(|_, from| *from != Some(conn));
            }
        }
    }

    /// A peer is asked for a block.
    pub(super) fn ask(
        &mut self,
        peers: &mut Peers,
        conn: ConnKey,
        span: BlockSpan,
        known: &Known<'_>,
        found: &mut Vec<String>,
    ) {
        if !self.is_over
            && let Some(what) = self.wrong(peers, conn, span, known)
        {
            found.push(format!("asks {conn} for {span:?}, {what}"));
        }
        if let Some(peer) = peers.get_mut(&conn) {
            peer.asked.insert(span);
        }
    }

    /// What is wrong with asking a peer for a block.
    fn wrong(
        &self,
        peers: &Peers,
        conn: ConnKey,
        span: BlockSpan,
        known: &Known<'_>,
    ) -> Option<String> {
        let Some(peer) = peers.get(&conn) else {
            return Some("to whom it is not connected".to_owned());
        };
        let piece = span.piece;
        let block = span.block()?;
        let copies = |piece| peers.values().filter(|peer| peer.has_some(piece)).count();
        let says = |what: &str| Some(what.to_owned());
        if known.layout.span(piece, block) != Some(span) {
            return says("which is no block of the torrent");
        }
        if !peer.has_block(piece, block) {
            return says("who has not said that it has it");
        }
        if peer.is_choking && !peer.allowed.contains(&piece) {
            return says("who chokes it");
        }
        if peer.asked.contains(&span) {
            return says("who owes it already");
        }
        if known.have.has(piece) || self.has_come(piece, block) {
            return says("which is there");
        }
        let owed = peers.values().filter(|peer| peer.asked.contains(&span));
        let owed = owed.count();
        if owed >= ASKED_MAX {
            return Some(format!("which {owed} others owe"));
        }
        if owed > 0
            && let Some(free) = self.free(peers, known)
        {
            return Some(format!("which another owes, while nobody owes {free:?}"));
        }
        let begins = owed == 0 && self.is_untouched(peers, piece, known.layout);
        let may_rank = known.may_rank
            && !peer.is_web_seed
            && !peer.is_choking
            && !peer.is_snubbed
            && !self.has_failed;
        if begins && may_rank {
            let rarer = self.rarer(peers, peer, piece, known)?;
            return Some(format!(
                "and begins it with {} copies, while {rarer} has {}",
                copies(piece),
                copies(rarer)
            ));
        }
        None
    }

    fn has_come(&self, piece: PieceIndex, block: u32) -> bool {
        let blocks = self.came.get(&piece);
        !self.doubtful.contains(&piece) && blocks.is_some_and(|blocks| blocks.contains_key(&block))
    }

    /// A block that somebody has, and that nobody was asked for.
    fn free(&self, peers: &Peers, known: &Known<'_>) -> Option<BlockSpan> {
        let missing = known.have.zeros().filter(|piece| {
            !self.doubtful.contains(piece) && peers.values().any(|p| p.has(*piece))
        });
        let mut blocks = missing.flat_map(|piece| {
            let all = 0..known.layout.block_count(piece);
            all.filter(move |block| !self.has_come(piece, *block))
                .filter_map(move |block| known.layout.span(piece, block))
        });
        blocks.find(|span| {
            let is_owed = peers.values().any(|peer| peer.asked.contains(span));
            !is_owed && !known.layout.is_padding(*span)
        })
    }

    /// Whether nothing of a piece has come or is on its way.
    fn is_untouched(&self, peers: &Peers, piece: PieceIndex, layout: &Layout) -> bool {
        let none_came = self.came.get(&piece).is_none_or(BTreeMap::is_empty);
        let whole = layout.piece_span(piece);
        let is_of = |span: &BlockSpan| span.piece == whole.piece;
        none_came && !peers.values().any(|peer| peer.asked.iter().any(is_of))
    }

    /// A piece that could be begun with a peer, and that fewer have.
    fn rarer(
        &self,
        peers: &Peers,
        peer: &Peer,
        piece: PieceIndex,
        known: &Known<'_>,
    ) -> Option<PieceIndex> {
        let copies = |piece| peers.values().filter(|peer| peer.has_some(piece)).count();
        let own = copies(piece);
        let mut missing = known.have.zeros();
        missing.find(|other| {
            peer.has(*other)
                && copies(*other) < own
                && self.is_untouched(peers, *other, known.layout)
        })
    }
}
