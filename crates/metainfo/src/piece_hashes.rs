//! What each piece must hash to.

use std::ops::Range;
use std::sync::Arc;

use riverrun_base::{FileIndex, PieceIndex, Sha1Digest, Sha256Digest};
use serde::Serialize;
use thiserror::Error;

use crate::merkle::{self, NodeRange};
use crate::piece_layer::level_of;
use crate::{Info, PieceLayer, PieceLayers, WrongLayer};

/// What the bytes of one piece must hash to. In a hybrid torrent both hashes must be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PieceHash {
    /// The SHA-1 of all its bytes on the wire, padding included.
    pub v1: Option<Sha1Digest>,
    /// The root of the merkle tree over the bytes of its file.
    pub v2: Option<PieceRoot>,
}

/// The root of the merkle tree over the blocks of one piece (BEP 52).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PieceRoot {
    /// The root.
    pub root: Sha256Digest,
    /// How many leaves the tree has, a power of two; those without a block are zeros.
    pub leaves: u32,
    /// How many bytes of the piece, from its start, are of its file; the rest, padding, is not in
    /// the tree.
    pub len: u32,
}

/// A piece layer that fits no file which lacks one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AddLayerError {
    /// No file has that root and that many pieces.
    #[error("no file has the root {root} and {count} pieces")]
    UnknownFile {
        /// The root.
        root: Sha256Digest,
        /// The number of hashes.
        count: usize,
    },
    /// The hashes are wrong.
    #[error(transparent)]
    Wrong(#[from] WrongLayer),
}

/// A file whose piece layer is still to be fetched from peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingLayer {
    /// The file.
    pub file: FileIndex,
    /// The root of its tree.
    pub root: Sha256Digest,
    /// How many hashes are missing.
    pub pieces: u32,
    /// The level of the layer, for hash requests.
    pub base_layer: u32,
    /// How many levels its tree has above its leaves.
    pub height: u32,
}

/// What each piece must hash to. Of a v2 torrent not all may be known at first: piece layers are
/// outside of the info dictionary, and come from the torrent file or from peers.
///
/// Clones share the hashes.
#[derive(Clone, Debug)]
pub struct PieceHashes {
    info: Arc<[u8]>,
    /// Where in `info` the v1 hashes stand.
    v1: Option<Range<usize>>,
    piece_len: u32,
    /// The v2 files that are not empty, by their first piece.
    trees: Box<[FileTree]>,
}

#[derive(Clone, Debug)]
struct FileTree {
    file: FileIndex,
    first_piece: u32,
    pieces: u32,
    len: u64,
    root: Sha256Digest,
    /// Files of one piece need none.
    layer: Option<Arc<PieceLayer>>,
}

impl PieceHashes {
    /// What is known of the pieces of `info` with these layers. Layers of other files are ignored.
    pub fn new(info: &Info, layers: &PieceLayers) -> Self {
        let layout = info.layout();
        let trees = (0..)
            .map(FileIndex)
            .zip(layout.files())
            .filter(|(_, file)| file.len > 0)
            .filter_map(|(index, file)| {
                let (root, pieces) = (file.pieces_root?, layout.pieces_of(index));
                let fits = |layer: &&Arc<PieceLayer>| {
                    pieces.len() > 1 && layer.hashes().len() == pieces.len()
                };
                Some(FileTree {
                    file: index,
                    first_piece: pieces.start,
                    pieces: pieces.end - pieces.start,
                    len: file.len,
                    root,
                    layer: layers.get(&root).filter(fits).cloned(),
                })
            })
            .collect();
        let (info, v1) = (info.raw().clone(), info.v1_pieces());
        Self {
            info,
            v1,
            piece_len: layout.nominal_piece_len(),
            trees,
        }
    }

    /// What `piece` must hash to, as far as it is known; `None` if nothing is, or past the end.
    pub fn get(&self, piece: PieceIndex) -> Option<PieceHash> {
        let (v1, v2) = (self.v1(piece), self.v2(piece));
        (v1.is_some() || v2.is_some()).then_some(PieceHash { v1, v2 })
    }

    /// Whether all is known.
    pub fn is_complete(&self) -> bool {
        self.missing_layers().next().is_none()
    }

    /// The files whose layer is still missing.
    pub fn missing_layers(&self) -> impl Iterator<Item = MissingLayer> + '_ {
        let missing = |tree: &&FileTree| tree.pieces > 1 && tree.layer.is_none();
        self.trees.iter().filter(missing).map(|tree| MissingLayer {
            file: tree.file,
            root: tree.root,
            pieces: tree.pieces,
            base_layer: level_of(self.piece_len),
            height: tree.height(),
        })
    }

    /// Takes the piece layer of the files that have this root and lack it.
    pub fn add_layer(
        &mut self,
        root: Sha256Digest,
        hashes: Vec<Sha256Digest>,
    ) -> Result<(), AddLayerError> {
        let count = hashes.len();
        let lacks = |tree: &FileTree| {
            tree.root == root
                && tree.pieces > 1
                && tree.pieces as usize == count
                && tree.layer.is_none()
        };
        if !self.trees.iter().any(lacks) {
            return Err(AddLayerError::UnknownFile { root, count });
        }
        let layer = Arc::new(PieceLayer::verified(hashes.into(), self.piece_len, root)?);
        for tree in self.trees.iter_mut().filter(|tree| lacks(tree)) {
            tree.layer = Some(layer.clone());
        }
        Ok(())
    }

    /// The piece hashes of a file with this root, if known: files of one piece have none beside the
    /// root.
    pub fn layer(&self, root: Sha256Digest) -> Option<&[Sha256Digest]> {
        let layer = self
            .trees
            .iter()
            .filter(|tree| tree.root == root)
            .find_map(|tree| tree.layer.as_ref())?;
        Some(layer.hashes())
    }

    /// All layers that are known, for a torrent file.
    pub fn layers(&self) -> PieceLayers {
        let known = self
            .trees
            .iter()
            .filter_map(|tree| Some((tree.root, tree.layer.clone()?)));
        known.collect()
    }

    /// The answer to a hash request that the known layers can give: nodes on the piece layer or
    /// above.
    pub fn answer(&self, root: Sha256Digest, range: NodeRange) -> Option<Vec<Sha256Digest>> {
        let layers = self.trees.iter().filter(|tree| tree.root == root);
        layers
            .filter_map(|tree| tree.layer.as_ref())
            .find_map(|layer| layer.answer(range))
    }

    /// The one piece under which all nodes of `range` are, whose blocks have to be hashed to answer
    /// for them: see [`PieceHashes::answer_below`].
    pub fn piece_above(&self, root: Sha256Digest, range: NodeRange) -> Option<PieceIndex> {
        let (tree, index) = self.tree_above(root, range)?;
        Some(PieceIndex(tree.first_piece + index))
    }

    /// The answer to a hash request for nodes below the piece layer, from the hashes of the blocks
    /// of the piece [above them](PieceHashes::piece_above).
    pub fn answer_below(
        &self,
        root: Sha256Digest,
        range: NodeRange,
        leaves: &[Sha256Digest],
    ) -> Option<Vec<Sha256Digest>> {
        let (tree, piece) = self.tree_above(root, range)?;
        let top = tree.piece_level(self.piece_len);
        if leaves.len() > 1 << top {
            return None;
        }
        let inner = |level: u32, first: u32, count: u32| {
            let nodes = merkle::lift(leaves.to_vec(), 0, level);
            let first = first - (piece << (top - level));
            (first..first + count).map(move |index| {
                nodes
                    .get(index as usize)
                    .copied()
                    .unwrap_or_else(|| merkle::pad_hash(level))
            })
        };
        let mut hashes: Vec<_> = inner(range.base_layer, range.index, range.count).collect();
        for (level, index) in range.uncle_nodes() {
            match &tree.layer {
                _ if level < top => hashes.extend(inner(level, index, 1)),
                Some(layer) => hashes.push(layer.node(level, index)),
                None => return None,
            }
        }
        Some(hashes)
    }

    /// The tree and the piece of its file under which all nodes of `range` are.
    fn tree_above(&self, root: Sha256Digest, range: NodeRange) -> Option<(&FileTree, u32)> {
        self.trees
            .iter()
            .filter(|tree| tree.root == root && range.fits(tree.height()))
            .find_map(|tree| {
                let top = tree.piece_level(self.piece_len);
                let below = range.base_layer < top && range.uncle_level() <= top;
                let piece = range.index >> top.saturating_sub(range.base_layer);
                (below && piece < tree.pieces).then_some((tree, piece))
            })
    }

    fn v1(&self, piece: PieceIndex) -> Option<Sha1Digest> {
        let hashes = &self.info[self.v1.clone()?];
        hashes
            .chunks_exact(Sha1Digest::LEN)
            .nth(piece.as_usize())
            .and_then(Sha1Digest::from_slice)
    }

    fn v2(&self, piece: PieceIndex) -> Option<PieceRoot> {
        let after = self
            .trees
            .partition_point(|tree| tree.first_piece <= piece.0);
        let tree = &self.trees[after.checked_sub(1)?];
        let index = piece.0 - tree.first_piece;
        if index >= tree.pieces {
            return None;
        }
        let root = match tree.pieces {
            1 => tree.root,
            _ => *tree.layer.as_ref()?.hashes().get(index as usize)?,
        };
        let rest = tree.len - u64::from(index) * u64::from(self.piece_len);
        let len = u32::try_from(rest).map_or(self.piece_len, |rest| rest.min(self.piece_len));
        Some(PieceRoot {
            root,
            leaves: 1 << tree.piece_level(self.piece_len),
            len,
        })
    }
}

impl FileTree {
    /// How many levels the tree has above its leaves.
    const fn height(&self) -> u32 {
        let blocks = self.len.div_ceil(riverrun_base::BLOCK_LEN as u64);
        if blocks <= 1 {
            0
        } else {
            blocks.next_power_of_two().ilog2()
        }
    }

    /// The level of the root of one piece; that of the tree itself for a file of one piece.
    fn piece_level(&self, piece_len: u32) -> u32 {
        level_of(piece_len).min(self.height())
    }
}
