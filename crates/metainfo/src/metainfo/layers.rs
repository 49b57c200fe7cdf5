//! The key `piece layers` of a torrent file (BEP 52).

use std::sync::Arc;

use riverrun_base::{FileIndex, Sha256Digest};
use riverrun_bencode::{Dict, Writer};
use thiserror::Error;

use crate::{Info, PieceLayer, PieceLayers, WrongLayer};

/// Piece layers that do not fit their info dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PieceLayerError {
    /// A key is no hash, or a value no string of hashes.
    #[error("an entry is not hashes by their root")]
    Malformed,
    /// No file that is longer than a piece has this root, or the root is there twice.
    #[error("no file, or one already seen, has the root {0}")]
    UnknownRoot(Sha256Digest),
    /// There are not as many hashes as the file has pieces.
    #[error("{actual} hashes for the file with the root {root}, which has {expected} pieces")]
    Count {
        /// The root of the file.
        root: Sha256Digest,
        /// How many hashes there are.
        actual: usize,
        /// How many pieces the file has.
        expected: usize,
    },
    /// The hashes are wrong.
    #[error(transparent)]
    Wrong(#[from] WrongLayer),
}

/// All layers, each checked against the root that is its key.
pub(super) fn parse(layers: Dict<'_, '_>, info: &Info) -> Result<PieceLayers, PieceLayerError> {
    let layout = info.layout();
    let mut pieces_by_root = std::collections::BTreeMap::new();
    for (index, file) in (0..).map(FileIndex).zip(layout.files()) {
        if let Some(root) = file
            .pieces_root
            .filter(|_| file.len > u64::from(layout.nominal_piece_len()))
        {
            pieces_by_root
                .entry(root)
                .or_insert_with(|| layout.pieces_of(index).len());
        }
    }
    let mut parsed = PieceLayers::new();
    for (key, value) in layers.iter() {
        let root = Sha256Digest::from_slice(key).ok_or(PieceLayerError::Malformed)?;
        let bytes = value.as_bytes().ok_or(PieceLayerError::Malformed)?;
        if !bytes.len().is_multiple_of(Sha256Digest::LEN) {
            return Err(PieceLayerError::Malformed);
        }
        let expected = pieces_by_root
            .remove(&root)
            .ok_or(PieceLayerError::UnknownRoot(root))?;
        let hashes: Box<[_]> = bytes
            .chunks_exact(Sha256Digest::LEN)
            .filter_map(Sha256Digest::from_slice)
            .collect();
        if hashes.len() != expected {
            return Err(PieceLayerError::Count {
                root,
                actual: hashes.len(),
                expected,
            });
        }
        parsed.insert(
            root,
            Arc::new(PieceLayer::verified(
                hashes,
                layout.nominal_piece_len(),
                root,
            )?),
        );
    }
    Ok(parsed)
}

/// The value of the key.
pub(super) fn to_bytes(layers: &PieceLayers) -> Box<[u8]> {
    let mut writer = Writer::new();
    writer.dict();
    for (root, layer) in layers {
        writer.key(&root.0).bytes(
            layer
                .hashes()
                .iter()
                .flat_map(|hash| hash.0)
                .collect::<Vec<_>>()
                .as_slice(),
        );
    }
    writer.end();
    writer.finish().into()
}
