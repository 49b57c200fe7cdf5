//! Whether the bytes of a piece are what they must be.

use riverrun_base::{BLOCK_LEN, Sha1Digest, Sha256Digest};
use riverrun_hash::{Sha1, sha1_many, sha256_many};
use riverrun_metainfo::PieceHash;
use riverrun_metainfo::merkle;
use riverrun_swarm::BlockDigests;

/// Takes the blocks of a piece one after the other, and says at the end whether they are right.
///
/// Memory does not grow with the piece, but for 32 bytes a block of a v2 torrent.
pub(crate) struct Judge {
    expected: PieceHash,
    sha1: Sha1,
    leaves: Vec<Sha256Digest>,
    /// How many bytes were taken.
    at: usize,
}

impl Judge {
    pub(crate) fn new(expected: PieceHash) -> Self {
        Self {
            expected,
            sha1: Sha1::new(),
            leaves: Vec::new(),
            at: 0,
        }
    }

    /// Takes the next blocks: whole ones, but for the last of the piece.
    pub(crate) fn update(&mut self, blocks: &[&[u8]]) {
        if self.expected.v1.is_some() {
            for block in blocks {
                self.sha1.update(block);
            }
        }
        if let Some(expected) = self.expected.v2 {
            let cut = |block: &&[u8], at: usize| {
                (expected.len as usize).saturating_sub(at).min(block.len())
            };
            let mut at = self.at;
            let mut inputs = Vec::with_capacity(blocks.len());
            for block in blocks {
                inputs.push(&block[..cut(block, at)]);
                at += block.len();
            }
            inputs.retain(|input| !input.is_empty());
            self.leaves.extend(sha256_many(&inputs));
        }
        self.at += blocks.iter().map(|block| block.len()).sum::<usize>();
    }

    /// Whether all hashes that are known are right.
    pub(crate) fn passes(self) -> bool {
        let PieceHash { v1, v2 } = self.expected;
        let right_v1 = v1.is_none_or(|expected| self.sha1.finish() == expected);
        let right_v2 = v2.is_none_or(|expected| {
            self.leaves.len() <= expected.leaves as usize
                && merkle::root_of(&self.leaves, expected.leaves) == expected.root
        });
        right_v1 && right_v2 && (v1.is_some() || v2.is_some())
    }
}

/// What the blocks of a piece hash to: leaves of the merkle tree if it has one.
#[derive(Debug)]
pub(crate) enum Digests {
    V1(Vec<Sha1Digest>),
    V2 {
        leaves: Vec<Sha256Digest>,
        len: usize,
        at: usize,
    },
}

impl Digests {
    pub(crate) fn new(expected: &PieceHash) -> Self {
        match expected.v2 {
            Some(root) => Self::V2 {
                leaves: Vec::new(),
                len: root.len as usize,
                at: 0,
            },
            None => Self::V1(Vec::new()),
        }
    }

    /// The leaves of the first `len` bytes of a piece.
    pub(crate) const fn leaves_of(len: u32) -> Self {
        Self::V2 {
            leaves: Vec::new(),
            len: len as usize,
            at: 0,
        }
    }

    /// Takes the next block.
    pub(crate) fn update(&mut self, block: &[u8]) {
        match self {
            Self::V1(digests) => digests.extend(sha1_many(&[block])),
            Self::V2 { leaves, len, at } => {
                let cut = len.saturating_sub(*at).min(block.len());
                if cut > 0 {
                    leaves.extend(sha256_many(&[&block[..cut]]));
                }
                *at += block.len();
            }
        }
    }

    pub(crate) fn finish(self) -> BlockDigests {
        match self {
            Self::V1(digests) => BlockDigests::V1(digests),
            Self::V2 { leaves, .. } => BlockDigests::V2(leaves),
        }
    }
}

/// Zeros, as long as a block: what is not there, and padding.
pub(crate) static ZEROS: [u8; BLOCK_LEN as usize] = [0; BLOCK_LEN as usize];
