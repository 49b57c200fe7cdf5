//! SHA-1 and SHA-256: one stream, and many independent inputs at once.
//!
//! One stream is bound by the latency of the processor's own SHA instructions, whatever the library; what
//! can be won is won across independent inputs (the pieces of a v1 torrent, the blocks of a v2 one), so the
//! `_many` functions are the ones to build on.
//!
//! This crate knows no pieces and no torrents.

mod many;
mod stream;

pub use many::{sha1_many, sha256_many};
pub use stream::{Sha1, Sha256, sha1, sha256};
