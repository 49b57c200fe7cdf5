//! Torrents without bytes: metadata whose pieces nobody hashes, and tokens for blocks.

use std::sync::Arc;

use riverrun_base::{BLOCK_LEN, Block, BlockSpan, PieceIndex, Rng, Sha256Digest};
use riverrun_hash::sha256;
use riverrun_metainfo::{Info, PieceHashes, PieceLayer, PieceLayers, merkle};

/// What every honest block consists of.
pub(crate) const RIGHT: &[u8] = &[0];

/// A torrent of the world.
#[derive(Clone)]
pub(crate) struct Content {
    pub(crate) info: Arc<Info>,
    /// What its pieces must hash to, as a torrent file would tell.
    pub(crate) hashes: PieceHashes,
    /// The real bytes, for torrents whose hashes matter; otherwise blocks are tokens.
    bytes: Option<Arc<Vec<u8>>>,
}

impl Content {
    /// One file of `pieces` pieces of `blocks` blocks each.
    pub(crate) fn tokens(pieces: u32, blocks: u32) -> Self {
        Self::dictionary(pieces, blocks, "")
    }

    /// Files of that many pieces of `blocks` blocks each.
    pub(crate) fn files(pieces: &[u32], blocks: u32) -> Self {
        let piece_len = blocks * BLOCK_LEN;
        let file = |(n, pieces): (usize, &u32)| {
            let len = u64::from(*pieces) * u64::from(piece_len);
            format!("d6:lengthi{len}e4:pathl1:{n}ee")
        };
        let list: String = pieces.iter().enumerate().map(file).collect();
        let count = pieces.iter().sum::<u32>() as usize * 20;
        let head =
            format!("d5:filesl{list}e4:name4:test12:piece lengthi{piece_len}e6:pieces{count}:");
        let raw = [head.as_bytes(), &vec![b'h'; count], b"e"].concat();
        Self::parse(&raw)
    }

    pub(crate) fn private(pieces: u32, blocks: u32) -> Self {
        Self::dictionary(pieces, blocks, "7:privatei1e")
    }

    fn dictionary(pieces: u32, blocks: u32, rest: &str) -> Self {
        let piece_len = blocks * BLOCK_LEN;
        let len = u64::from(pieces) * u64::from(piece_len);
        let head = format!(
            "d6:lengthi{len}e4:name4:test12:piece lengthi{piece_len}e6:pieces{}:",
            pieces * 20
        );
        let hashes = vec![b'h'; pieces as usize * 20];
        let raw = [head.as_bytes(), &hashes, rest.as_bytes(), b"e"].concat();
        Self::parse(&raw)
    }

    fn parse(raw: &[u8]) -> Self {
        let info = Info::from_bytes(raw).expect("a legal dictionary");
        let hashes = PieceHashes::new(&info, &PieceLayers::new());
        Self {
            info: Arc::new(info),
            hashes,
            bytes: None,
        }
    }

    /// A v2 torrent of real bytes.
    pub(crate) fn v2(pieces: u32, blocks: u32, seed: u64) -> Self {
        let piece_len = blocks * BLOCK_LEN;
        // The last piece is not full.
        let len = (pieces * piece_len - BLOCK_LEN - 100) as usize;
        let mut bytes = vec![0; len];
        Rng::new(seed).fill(&mut bytes);
        let leaves: Vec<_> = bytes.chunks(BLOCK_LEN as usize).map(sha256).collect();
        let of_piece = leaves
            .chunks(blocks as usize)
            .map(|leaves| merkle::root_of(leaves, blocks));
        let layer = PieceLayer::new(of_piece.collect(), piece_len);
        let head = format!("d9:file treed4:testd0:d6:lengthi{len}e11:pieces root32:");
        let tail = format!("eee12:meta versioni2e4:name4:test12:piece lengthi{piece_len}ee");
        let raw = [head.as_bytes(), layer.root().as_bytes(), tail.as_bytes()].concat();
        let info = Info::from_bytes(&raw).expect("a legal dictionary");
        let layers = [(layer.root(), Arc::new(layer))].into();
        let hashes = PieceHashes::new(&info, &layers);
        Self {
            info: Arc::new(info),
            hashes,
            bytes: Some(Arc::new(bytes)),
        }
    }

    pub(crate) fn pieces(&self) -> u32 {
        self.info.layout().piece_count()
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.info.layout().payload_len()
    }

    /// What an honest peer sends for a span.
    pub(crate) fn block(&self, span: BlockSpan) -> Block {
        let Some(bytes) = &self.bytes else {
            return Block::unbudgeted(RIGHT);
        };
        let start = span.piece.as_usize() * self.info.layout().nominal_piece_len() as usize;
        let start = start + span.offset as usize;
        Block::unbudgeted(&bytes[start..start + span.len as usize])
    }

    /// What the blocks of a piece hash to.
    pub(crate) fn leaves(&self, piece: PieceIndex) -> Vec<Sha256Digest> {
        let layout = self.info.layout();
        let spans = (0..layout.block_count(piece)).filter_map(|block| layout.span(piece, block));
        spans.map(|span| sha256(&self.block(span))).collect()
    }

    /// What a liar sends.
    pub(crate) fn wrong(&self, span: BlockSpan) -> Block {
        let mut bytes = self.block(span).to_vec();
        bytes[0] ^= 0xff;
        Block::unbudgeted(&bytes)
    }

    /// Whether a block is what it should be.
    pub(crate) fn is_right(&self, span: BlockSpan, block: &Block) -> bool {
        **block == *self.block(span)
    }
}
