//! A client of the world: a shard, an instant disk, an uplink, and its manners.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use riverrun_base::{Bitfield, Block, BlockSpan, PeerId, PieceIndex, Sha256Digest, Time};
use riverrun_hash::{sha1, sha256};
use riverrun_metainfo::{PieceHash, merkle};
use riverrun_swarm::{
    BlockDigests, Config, ConnKey, Event, Outbox, Shard, StorageDone, TorrentKey,
};

use crate::content::Content;
use crate::wire::Side;

/// How a client behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a vice of its own")]
pub(crate) struct Manners {
    /// Sends wrong bytes for every n-th block.
    pub(crate) poison_every: Option<u32>,
    /// Takes requests and never answers.
    pub(crate) is_mute: bool,
    /// Gives nothing: never unchokes.
    pub(crate) is_free_rider: bool,
    /// Cannot be dialled.
    pub(crate) is_hidden: bool,
    /// Gives wrong metadata.
    pub(crate) is_metadata_liar: bool,
}

pub(crate) struct Node {
    pub(crate) shard: Shard,
    pub(crate) out: Outbox,
    pub(crate) addr: SocketAddr,
    pub(crate) peer_id: PeerId,
    pub(crate) torrent: Option<TorrentKey>,
    pub(crate) manners: Manners,
    pub(crate) conns: BTreeMap<ConnKey, (usize, Side)>,
    pub(crate) content: Content,
    pub(crate) disk: Disk,
    pub(crate) uplink: Uplink,
    /// When the next timeout is in the heap.
    pub(crate) wakes_at: Option<Time>,
    pub(crate) events: Vec<Event>,
    pub(crate) completed_at: Option<Time>,
    pub(crate) is_dead: bool,
    /// Payload sent.
    pub(crate) sent_bytes: u64,
    pub(crate) next_port: u16,
}

/// An uplink that sends one block at a time, in turn for each connection.
pub(crate) struct Uplink {
    /// In bytes per second.
    pub(crate) rate: u64,
    pub(crate) is_busy: bool,
    pub(crate) turns: VecDeque<(usize, Side)>,
}

/// What storage holds.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) have: Option<Bitfield>,
    held: BTreeMap<PieceIndex, BTreeMap<u32, Block>>,
    pub(crate) is_open: bool,
}

impl Node {
    pub(crate) fn new(
        index: usize,
        config: Config,
        seed: u64,
        content: Content,
        rate: u64,
    ) -> Self {
        let port = u16::try_from(20_000 + index % 40_000).expect("a port");
        let peer_id = config.peer_id;
        Self {
            shard: Shard::new(Arc::new(config), seed),
            out: Outbox::default(),
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            peer_id,
            torrent: None,
            manners: Manners::default(),
            conns: BTreeMap::new(),
            content,
            disk: Disk::default(),
            uplink: Uplink {
                rate,
                is_busy: false,
                turns: VecDeque::new(),
            },
            wakes_at: None,
            events: Vec::new(),
            completed_at: None,
            is_dead: false,
            sent_bytes: 0,
            next_port: 0,
        }
    }

    /// What this client sends for a span.
    pub(crate) fn read(&self, span: BlockSpan) -> Block {
        let number = span.piece.0 * 7 + span.offset / riverrun_base::BLOCK_LEN;
        match self.manners.poison_every {
            Some(every) if number.is_multiple_of(every) => self.content.wrong(span),
            _ => self.content.block(span),
        }
    }

    pub(crate) fn has_all(&self) -> bool {
        self.torrent
            .and_then(|torrent| self.shard.pieces(torrent))
            .is_some_and(Bitfield::all)
    }
}

impl Disk {
    pub(crate) fn store(&mut self, span: BlockSpan, block: Block) {
        let at = span.offset / riverrun_base::BLOCK_LEN;
        self.held.entry(span.piece).or_default().insert(at, block);
    }

    pub(crate) fn discard(&mut self, piece: PieceIndex) {
        self.held.remove(&piece);
    }

    /// Hashes a piece.
    pub(crate) fn verify(
        &mut self,
        content: &Content,
        piece: PieceIndex,
        hash: PieceHash,
    ) -> StorageDone {
        let layout = content.info.layout();
        let held = self.held.entry(piece).or_default();
        assert_eq!(
            held.len(),
            layout.block_count(piece) as usize,
            "all blocks of {piece} are stored"
        );
        let spans = (0..layout.block_count(piece)).filter_map(|block| layout.span(piece, block));
        let right = spans
            .zip(held.values())
            .all(|(span, block)| content.is_right(span, block));
        if !right {
            let blocks = match hash.v2 {
                Some(_) => BlockDigests::V2(held.values().map(|block| sha256(block)).collect()),
                None => BlockDigests::V1(held.values().map(|block| sha1(block)).collect()),
            };
            return StorageDone::Failed { piece, blocks };
        }
        if let Some(root) = hash.v2 {
            let leaves: Vec<Sha256Digest> = held.values().map(|block| sha256(block)).collect();
            assert_eq!(merkle::root_of(&leaves, root.leaves), root.root);
        }
        self.held.remove(&piece);
        if let Some(have) = &mut self.have {
            have.set(piece);
        }
        StorageDone::Verified(piece)
    }
}
