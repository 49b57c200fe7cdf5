//! The info dictionary: the part of a torrent that its info-hash covers.

mod attributes;
pub(crate) mod duplicates;
mod edit;
mod error;
mod file_list;
mod file_tree;
pub(crate) mod hybrid;
mod parse;
pub(crate) mod symlinks;

use std::ops::Range;
use std::sync::Arc;

use riverrun_base::{InfoHash, InfoHashes, PieceIndex, Sha1Digest};
use riverrun_bencode::{Document, Limits, Value};
use serde::{Serialize, Serializer};

use crate::Layout;

pub use edit::InfoEdit;
pub use error::InfoError;
pub(crate) use parse::{collections, similar};

/// Which generation of metadata a torrent has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetaVersion {
    /// BEP 3: SHA-1 over pieces that run across files.
    V1,
    /// BEP 52: a SHA-256 merkle tree a file.
    V2,
    /// Both, over the same bytes.
    Hybrid,
}

/// An info dictionary: parsed, checked and immutable, beside the bytes that were hashed.
#[derive(Clone, Debug)]
pub struct Info {
    raw: Arc<[u8]>,
    hashes: InfoHashes,
    name: String,
    layout: Arc<Layout>,
    version: MetaVersion,
    single_file: bool,
    private: bool,
    source: Option<String>,
    /// Where in `raw` the v1 hashes stand.
    v1_pieces: Option<Range<usize>>,
    similar: Vec<InfoHash>,
    collections: Vec<String>,
}

impl Serialize for Info {
    /// As its info-hashes, which say all of it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.hashes.serialize(serializer)
    }
}

impl Info {
    /// Parses an info dictionary with nothing before or after it, as it comes from peers (BEP 9).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InfoError> {
        Self::from_value(Document::parse(bytes, Limits::TORRENT)?.root())
    }

    pub(crate) fn from_value(value: Value<'_, '_>) -> Result<Self, InfoError> {
        parse::parse(value)
    }

    /// The bytes that the info-hash covers.
    pub const fn raw(&self) -> &Arc<[u8]> {
        &self.raw
    }

    /// The info-hashes.
    pub const fn hashes(&self) -> InfoHashes {
        self.hashes
    }

    /// The name, made safe: one path element.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Files, pieces and blocks.
    pub const fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Only peers from its trackers may be used (BEP 27).
    pub const fn is_private(&self) -> bool {
        self.private
    }

    /// Which metadata there is.
    pub const fn version(&self) -> MetaVersion {
        self.version
    }

    /// The key `source`, by which private trackers tell their torrents apart.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// The torrent is one file without a directory.
    pub const fn is_single_file(&self) -> bool {
        self.single_file
    }

    /// The SHA-1 of a piece, if there is v1 metadata; `None` past the end.
    pub fn piece_v1(&self, piece: PieceIndex) -> Option<Sha1Digest> {
        let hashes = &self.raw[self.v1_pieces.clone()?];
        hashes
            .chunks_exact(Sha1Digest::LEN)
            .nth(piece.as_usize())
            .and_then(Sha1Digest::from_slice)
    }

    /// Torrents that may have some of the same files (BEP 38).
    pub fn similar(&self) -> &[InfoHash] {
        &self.similar
    }

    /// Names of collections; torrents in one collection may have some of the same files (BEP 38).
    pub fn collections(&self) -> &[String] {
        &self.collections
    }

    pub(crate) fn v1_pieces(&self) -> Option<Range<usize>> {
        self.v1_pieces.clone()
    }
}
