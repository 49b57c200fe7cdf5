//! Whether the bytes of a piece are what they must be.

use riverrun_base::{BLOCK_LEN, Sha1Digest, Sha256Digest};
use riverrun_hash::{Sha1, sha1_many, sha256_many};
use riverrun_metainfo::PieceHash;
use riverrun_metainfo::merkle;
use riverrun_swarm::BlockDigests;

/// Hashes a piece, block after block: its SHA-1, the leaves of its merkle tree, or both in one pass.
///
/// Memory does not grow with the piece, but for 32 bytes a block of a v2 torrent.
pub(crate) struct PieceHasher {
    sha1: Option<Sha1>,
    /// How many bytes of the piece its merkle tree covers.
    tree_len: usize,
    leaves: Vec<Sha256Digest>,
    /// How many bytes were taken.
    at: usize,
}

/// The SHA-1 of a piece and the leaves of its merkle tree, as far as they were asked for.
pub(crate) type Hashed = (Option<Sha1Digest>, Vec<Sha256Digest>);

impl PieceHasher {
    /// For the SHA-1 of all bytes if `v1`, and the merkle tree over the first `tree_len`, if that is more than none.
    pub(crate) fn new(v1: bool, tree_len: u32) -> Self {
        Self {
            sha1: v1.then(Sha1::new),
            tree_len: tree_len as usize,
            leaves: Vec::new(),
            at: 0,
        }
    }

    /// For what is to be compared with `expected`.
    pub(crate) fn of(expected: &PieceHash) -> Self {
        Self::new(
            expected.v1.is_some(),
            expected.v2.map_or(0, |root| root.len),
        )
    }

    /// Takes the next blocks: whole ones, but for the last of the piece.
    pub(crate) fn update(&mut self, blocks: &[&[u8]]) {
        Self::update_many(&mut [self], &[blocks]);
    }

    /// Takes the next blocks of each of these pieces, side by side: `blocks[i]` are of `hashers[i]`.
    pub(crate) fn update_many(hashers: &mut [&mut Self], blocks: &[&[&[u8]]]) {
        let (mut streams, mut bytes) = (Vec::new(), Vec::new());
        for (hasher, blocks) in hashers.iter_mut().zip(blocks) {
            if let Some(sha1) = &mut hasher.sha1 {
                streams.push(sha1);
                bytes.push(*blocks);
            }
        }
        Sha1::update_many(&mut streams, &bytes);
        let mut inputs = Vec::new();
        let mut counts = Vec::with_capacity(hashers.len());
        for (hasher, blocks) in hashers.iter_mut().zip(blocks) {
            let before = inputs.len();
            for block in *blocks {
                let covered = hasher.tree_len.saturating_sub(hasher.at).min(block.len());
                if covered > 0 {
                    inputs.push(&block[..covered]);
                }
                hasher.at += block.len();
            }
            counts.push(inputs.len() - before);
        }
        let mut leaves = sha256_many(&inputs).into_iter();
        for (hasher, count) in hashers.iter_mut().zip(counts) {
            hasher.leaves.extend(leaves.by_ref().take(count));
        }
    }

    /// What was asked for.
    pub(crate) fn finish(self) -> Hashed {
        (self.sha1.map(Sha1::finish), self.leaves)
    }
}

/// Whether all hashes that are known are right.
pub(crate) fn is_right(expected: &PieceHash, (sha1, leaves): &Hashed) -> bool {
    let PieceHash { v1, v2 } = expected;
    let right_v2 = v2.is_none_or(|expected| {
        leaves.len() <= expected.leaves as usize
            && merkle::root_of(leaves, expected.leaves) == expected.root
    });
    sha1 == v1 && right_v2 && (v1.is_some() || v2.is_some())
}

/// What the blocks of a piece hash to, each by itself: the leaves of the merkle tree if it has one.
pub(crate) enum Digests {
    V1(Vec<Sha1Digest>),
    V2(PieceHasher),
}

impl Digests {
    pub(crate) fn new(expected: &PieceHash) -> Self {
        match expected.v2 {
            Some(root) => Self::V2(PieceHasher::new(false, root.len)),
            None => Self::V1(Vec::new()),
        }
    }

    /// Takes the next blocks.
    pub(crate) fn update(&mut self, blocks: &[&[u8]]) {
        match self {
            Self::V1(digests) => digests.extend(sha1_many(blocks)),
            Self::V2(hasher) => hasher.update(blocks),
        }
    }

    pub(crate) fn finish(self) -> BlockDigests {
        match self {
            Self::V1(digests) => BlockDigests::V1(digests),
            Self::V2(hasher) => BlockDigests::V2(hasher.finish().1),
        }
    }
}

/// Zeros, as long as a block: what is not there, and padding.
pub(crate) static ZEROS: [u8; BLOCK_LEN as usize] = [0; BLOCK_LEN as usize];
