//! Merkle trees over the blocks of one file (BEP 52).
//!
//! Level 0 is the layer of the leaves, which are the hashes of the 16 KiB blocks; what is missing
//! to a full width there are zeros, so that on every level above the padding is a hash of its own.

use std::sync::LazyLock;

use riverrun_base::{BLOCK_LEN, Sha256Digest};
use riverrun_hash::{Sha256, sha256_many};

/// Levels that a tree can have: leaves are counted in 32 bits.
const LEVELS: usize = 33;

/// The most nodes that are given for one request. BEP 52 says that nobody should ask for more than
/// 512; the largest client answers up to this, a piece of 128 MiB.
pub const HASHES_MAX: u32 = 8192;

/// The root of a tree of `2^level` leaves that are all padding: what stands for missing nodes on
/// `level`.
pub fn pad_hash(level: u32) -> Sha256Digest {
    static PADS: LazyLock<[Sha256Digest; LEVELS]> = LazyLock::new(|| {
        let mut pads = [Sha256Digest([0; 32]); LEVELS];
        for level in 1..LEVELS {
            pads[level] = parent(&pads[level - 1], &pads[level - 1]);
        }
        pads
    });
    PADS[(level as usize).min(LEVELS - 1)]
}

/// The node above `left` and `right`.
pub fn parent(left: &Sha256Digest, right: &Sha256Digest) -> Sha256Digest {
    let mut hasher = Sha256::new();
    hasher.update(left.as_bytes());
    hasher.update(right.as_bytes());
    hasher.finish()
}

/// The root over `leaves`, padded to `width`, a power of two that is not less than their number.
pub fn root_of(leaves: &[Sha256Digest], width: u32) -> Sha256Digest {
    root_of_layer(leaves, 0, width)
}

/// The root over `nodes`, which are on `level`, padded to `width`, a power of two that is not less
/// than their number.
pub fn root_of_layer(nodes: &[Sha256Digest], level: u32, width: u32) -> Sha256Digest {
    let height = width.max(1).ilog2();
    let top = lift(nodes.to_vec(), level, level + height);
    top.first()
        .copied()
        .unwrap_or_else(|| pad_hash(level + height))
}

/// The nodes on level `to` over `nodes`, which are on level `from`; those that are only padding are
/// left out.
pub(crate) fn lift(mut nodes: Vec<Sha256Digest>, from: u32, to: u32) -> Vec<Sha256Digest> {
    for level in from..to {
        nodes = parents(&nodes, pad_hash(level));
    }
    nodes
}

fn parents(nodes: &[Sha256Digest], pad: Sha256Digest) -> Vec<Sha256Digest> {
    let pairs: Vec<[u8; 64]> = nodes
        .chunks(2)
        .map(|pair| {
            let mut bytes = [0; 64];
            bytes[..32].copy_from_slice(&pair[0].0);
            bytes[32..].copy_from_slice(&pair.get(1).unwrap_or(&pad).0);
            bytes
        })
        .collect();
    sha256_many(&pairs.iter().map(<[u8; 64]>::as_slice).collect::<Vec<_>>())
}

/// The number of leaves, a power of two, of the tree over a file of `len` bytes.
pub fn width_of(len: u64) -> u64 {
    len.div_ceil(BLOCK_LEN.into()).max(1).next_power_of_two()
}

/// A run of nodes of one level, and how much of the way to the root the proof is to go: the fields
/// of a hash request (BEP 52).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRange {
    /// The level of the nodes.
    pub base_layer: u32,
    /// The first node; a multiple of `count`.
    pub index: u32,
    /// How many nodes; a power of two, at least 2.
    pub count: u32,
    /// How many levels above the base the proof covers; the first `log2(count) - 1` of them need no
    /// hashes.
    pub proof_layers: u32,
}

impl NodeRange {
    /// The run with all the proof that a tree of `height` levels above its leaves takes.
    pub const fn with_full_proof(base_layer: u32, index: u32, count: u32, height: u32) -> Self {
        let proof_layers = height.saturating_sub(base_layer).saturating_sub(1);
        Self {
            base_layer,
            index,
            count,
            proof_layers,
        }
    }

    /// Whether a tree of `height` levels above its leaves has these nodes, and that much above
    /// them.
    pub fn fits(&self, height: u32) -> bool {
        let Some(above) = height
            .checked_sub(self.base_layer)
            .filter(|above| (1..32).contains(above))
        else {
            return false;
        };
        let end = u64::from(self.index) + u64::from(self.count);
        self.count.is_power_of_two()
            && (2..=HASHES_MAX).contains(&self.count)
            && self.index.is_multiple_of(self.count)
            && end <= 1 << above
            && self.proof_layers < above
    }

    /// How many uncle hashes follow the nodes.
    pub fn uncles(&self) -> u32 {
        self.proof_layers
            .saturating_sub(self.count.max(2).ilog2() - 1)
    }

    /// The level of the first uncle: that of the root of the nodes themselves.
    pub(crate) fn uncle_level(&self) -> u32 {
        self.base_layer + self.count.max(1).ilog2()
    }

    /// The uncles, from the lowest, as pairs of level and index.
    pub(crate) fn uncle_nodes(self) -> impl Iterator<Item = (u32, u32)> {
        let own = self.index / self.count.max(1);
        (0..self.uncles()).map(move |n| (self.uncle_level() + n, own.unbounded_shr(n) ^ 1))
    }
}

/// Whether `hashes`, the answer to a request for `range`, belong to the tree of `height` levels
/// above its leaves whose root is `root`. Only full proofs can be verified: the last uncle is the
/// sibling just below the root.
pub fn verify_proof(
    root: &Sha256Digest,
    height: u32,
    range: NodeRange,
    hashes: &[Sha256Digest],
) -> bool {
    if !range.fits(height) || range.uncle_level() + range.uncles() != height {
        return false;
    }
    let count = range.count as usize;
    if hashes.len() != count + range.uncles() as usize {
        return false;
    }
    let (nodes, uncles) = hashes.split_at(count);
    let own = root_of_layer(nodes, range.base_layer, range.count);
    let top = range
        .uncle_nodes()
        .zip(uncles)
        .fold(own, |node, ((_, index), uncle)| {
            if index % 2 == 0 {
                parent(uncle, &node)
            } else {
                parent(&node, uncle)
            }
        });
    top == *root
}

#[cfg(test)]
mod tests {
    use super::*;
    use riverrun_hash::sha256;

    fn leaves(count: u8) -> Vec<Sha256Digest> {
        (0..count).map(|n| sha256(&[n])).collect()
    }

    #[test]
    fn missing_leaves_are_zeros() {
        let zero = Sha256Digest([0; 32]);
        assert_eq!(pad_hash(0), zero);
        assert_eq!(pad_hash(1), parent(&zero, &zero));
        let three = leaves(3);
        let by_hand = parent(&parent(&three[0], &three[1]), &parent(&three[2], &zero));
        assert_eq!(root_of(&three, 4), by_hand);
        assert_eq!(root_of(&three, 8), parent(&by_hand, &pad_hash(2)));
        assert_eq!(root_of(&three[..1], 1), three[0]);
        assert_eq!(root_of(&[], 4), pad_hash(2));
    }

    #[test]
    fn a_layer_has_the_root_of_its_leaves() {
        let leaves = leaves(11);
        let layer: Vec<_> = leaves.chunks(4).map(|piece| root_of(piece, 4)).collect();
        assert_eq!(root_of_layer(&layer, 2, 4), root_of(&leaves, 16));
    }

    #[test]
    fn proofs_hold_and_changed_ones_do_not() {
        let leaves = leaves(13);
        let root = root_of(&leaves, 16);
        for count in [2_u32, 4, 8, 16] {
            for index in (0..16).step_by(count as usize) {
                let range = NodeRange::with_full_proof(0, index, count, 4);
                let padded = |n: u32| leaves.get(n as usize).copied().unwrap_or(pad_hash(0));
                let mut hashes: Vec<_> = (index..index + count).map(padded).collect();
                hashes.extend(range.uncle_nodes().map(|(level, index)| {
                    lift(leaves.clone(), 0, level)
                        .get(index as usize)
                        .copied()
                        .unwrap_or(pad_hash(level))
                }));
                assert!(verify_proof(&root, 4, range, &hashes), "{range:?}");
                for at in 0..hashes.len() {
                    let mut wrong = hashes.clone();
                    wrong[at].0[0] ^= 1;
                    assert!(!verify_proof(&root, 4, range, &wrong), "{range:?} {at}");
                }
                hashes.push(root);
                assert!(!verify_proof(&root, 4, range, &hashes));
            }
        }
    }

    #[test]
    fn ranges_that_no_tree_has_are_refused() {
        let fits = |base_layer, index, count, proof_layers| {
            NodeRange {
                base_layer,
                index,
                count,
                proof_layers,
            }
            .fits(4)
        };
        assert!(fits(0, 0, 16, 3) && fits(0, 8, 8, 0) && fits(3, 0, 2, 0));
        assert!(!fits(0, 0, 32, 0), "wider than the layer");
        assert!(!fits(0, 16, 2, 0), "past the end");
        assert!(!fits(0, u32::MAX - 1, 2, 0));
        assert!(!fits(0, 1, 2, 0), "not a multiple");
        assert!(!fits(0, 0, 3, 0) && !fits(0, 0, 1, 0) && !fits(0, 0, 0, 0));
        assert!(!fits(0, 0, 2, 4), "a proof beyond the root");
        assert!(!fits(4, 0, 2, 0) && !fits(u32::MAX, 0, 2, 0));
    }
}
