//! Torrent files, magnet links, piece layouts and merkle trees.
//!
//! [`Metainfo`] is a torrent file, [`Info`] the part of it that its info-hash covers, [`Layout`]
//! says which bytes of which files make up which piece, [`PieceHashes`] what they must hash to.
//! Everything here comes from strangers: it is parsed within limits, and paths are made harmless
//! once, as [`SafePath`].
//!
//! This crate knows no disks and no peers.

pub mod create;
mod file;
mod host_port;
mod info;
mod layout;
mod magnet;
pub mod merkle;
mod metainfo;
mod path;
mod piece_hashes;
mod piece_layer;
mod sanitize;
mod url;

pub use file::{File, FileKind};
pub use host_port::{HostPort, ParseHostPortError};
pub use info::{Info, InfoEdit, InfoError, MetaVersion};
pub use layout::{
    FileSlice, Layout, LayoutError, PIECE_LEN_MAX, PIECES_MAX, Spacing, TOTAL_LEN_MAX,
};
pub use magnet::{Magnet, MagnetError, PublisherLink};
pub use metainfo::{Metainfo, MetainfoError, PieceLayerError};
pub use path::SafePath;
pub use piece_hashes::{AddLayerError, MissingLayer, PieceHash, PieceHashes, PieceRoot};
pub use piece_layer::{PieceLayer, PieceLayers, WrongLayer};
