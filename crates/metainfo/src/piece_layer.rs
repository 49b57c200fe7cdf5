//! The piece layer of one file: the hashes of its pieces, verified against the root of its merkle
//! tree.

use std::collections::BTreeMap;
use std::sync::Arc;

use riverrun_base::Sha256Digest;
use thiserror::Error;

use crate::merkle::{self, NodeRange};

/// Piece layers by the root of the file that they belong to.
pub type PieceLayers = BTreeMap<Sha256Digest, Arc<PieceLayer>>;

/// Levels between the piece layer and the nodes that are kept of the tree above it: 512 pieces a
/// node, so that the answer to any hash request costs some thousand hashes at most, for a 512th of
/// the layer's memory.
const KEPT_LEVELS: u32 = 9;

/// Hashes that are not the piece layer they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{count} piece hashes do not add up to the root {root}")]
pub struct WrongLayer {
    /// The root that was expected.
    pub root: Sha256Digest,
    /// How many hashes there were.
    pub count: usize,
}

/// The hashes of the pieces of one file, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceLayer {
    hashes: Box<[Sha256Digest]>,
    /// The level of the hashes: 0 if a piece is a block.
    level: u32,
    /// The nodes [`KEPT_LEVELS`] above the hashes, padding left out.
    kept: Box<[Sha256Digest]>,
    root: Sha256Digest,
}

impl PieceLayer {
    /// The layer of these hashes, for pieces of `piece_len` bytes (a power of two), if they add up
    /// to `root`.
    pub fn verified(
        hashes: Box<[Sha256Digest]>,
        piece_len: u32,
        root: Sha256Digest,
    ) -> Result<Self, WrongLayer> {
        let layer = Self::new(hashes, piece_len);
        if layer.root == root {
            Ok(layer)
        } else {
            Err(WrongLayer {
                root,
                count: layer.hashes.len(),
            })
        }
    }

    /// The layer of the hashes of all pieces of a file, for pieces of `piece_len` bytes (a power of
    /// two).
    pub fn new(hashes: Box<[Sha256Digest]>, piece_len: u32) -> Self {
        let level = level_of(piece_len);
        let height = level + hashes.len().next_power_of_two().ilog2();
        let keep = (level + KEPT_LEVELS).min(height);
        let kept: Box<[_]> = merkle::lift(hashes.to_vec(), level, keep).into();
        let top = merkle::lift(kept.to_vec(), keep, height);
        let root = top
            .first()
            .copied()
            .unwrap_or_else(|| merkle::pad_hash(height));
        Self {
            hashes,
            level,
            kept,
            root,
        }
    }

    /// The hashes, one a piece.
    pub fn hashes(&self) -> &[Sha256Digest] {
        &self.hashes
    }

    /// The root of the file's tree.
    pub const fn root(&self) -> Sha256Digest {
        self.root
    }

    /// How many levels the tree has above its leaves.
    pub const fn height(&self) -> u32 {
        self.level + self.hashes.len().next_power_of_two().ilog2()
    }

    /// The nodes of `range` with their proof; `None` if the tree has none such, or they are below
    /// this layer.
    pub fn answer(&self, range: NodeRange) -> Option<Vec<Sha256Digest>> {
        if range.base_layer < self.level || !range.fits(self.height()) {
            return None;
        }
        let mut hashes = self.nodes(range.base_layer, range.index, range.count);
        hashes.extend(
            range
                .uncle_nodes()
                .map(|(level, index)| self.node(level, index)),
        );
        Some(hashes)
    }

    /// The node at `index` of `level`, which is not below this layer.
    pub(crate) fn node(&self, level: u32, index: u32) -> Sha256Digest {
        self.nodes(level, index, 1)[0]
    }

    fn nodes(&self, level: u32, index: u32, count: u32) -> Vec<Sha256Digest> {
        let keep = (self.level + KEPT_LEVELS).min(self.height());
        let (from, source) = if level < keep {
            (self.level, &self.hashes)
        } else {
            (keep, &self.kept)
        };
        // The descendants of the wanted nodes; there are none of padding.
        let at = |index: u32| (u64::from(index) << (level - from)).min(source.len() as u64);
        let bound = |at: u64| usize::try_from(at).unwrap_or(source.len());
        let below = &source[bound(at(index))..bound(at(index.saturating_add(count)))];
        let mut nodes = merkle::lift(below.to_vec(), from, level);
        nodes.resize(count as usize, merkle::pad_hash(level));
        nodes
    }
}

/// The level of the hashes of pieces of `piece_len` bytes.
pub(crate) const fn level_of(piece_len: u32) -> u32 {
    let blocks = piece_len / riverrun_base::BLOCK_LEN;
    if blocks == 0 { 0 } else { blocks.ilog2() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use riverrun_base::BLOCK_LEN;
    use riverrun_hash::sha256;

    fn layer(count: u32, piece_len: u32) -> PieceLayer {
        PieceLayer::new(
            (0..count).map(|n| sha256(&n.to_be_bytes())).collect(),
            piece_len,
        )
    }

    #[test]
    fn answers_prove_themselves() {
        for (pieces, piece_len) in [
            (2, BLOCK_LEN),
            (3, 2 * BLOCK_LEN),
            (600, BLOCK_LEN),
            (1500, 4 * BLOCK_LEN),
        ] {
            let layer = layer(pieces, piece_len);
            let (level, height) = (level_of(piece_len), layer.height());
            for base in level..height {
                for count in [2_u32, 8, 512] {
                    for at in 0..3 {
                        let range = NodeRange::with_full_proof(base, at * count, count, height);
                        let Some(hashes) = layer.answer(range) else {
                            assert!(!range.fits(height), "{range:?}");
                            continue;
                        };
                        assert!(
                            merkle::verify_proof(&layer.root(), height, range, &hashes),
                            "{range:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_below_is_not_answered() {
        let layer = layer(4, 2 * BLOCK_LEN);
        assert_eq!(
            layer.answer(NodeRange::with_full_proof(0, 0, 2, layer.height())),
            None
        );
        assert_eq!(
            layer.answer(NodeRange::with_full_proof(1, 0, 8, layer.height())),
            None
        );
    }

    #[test]
    fn a_layer_that_is_not_the_roots_is_refused() {
        let good = layer(5, BLOCK_LEN);
        let mut hashes: Box<[_]> = good.hashes().into();
        assert_eq!(
            PieceLayer::verified(hashes.clone(), BLOCK_LEN, good.root()),
            Ok(good.clone())
        );
        hashes[4].0[31] ^= 1;
        let wrong = WrongLayer {
            root: good.root(),
            count: 5,
        };
        assert_eq!(
            PieceLayer::verified(hashes, BLOCK_LEN, good.root()),
            Err(wrong)
        );
    }
}
