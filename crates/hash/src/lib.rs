//! SHA-1 and SHA-256: one stream, and many independent messages at once.
//!
//! One stream is bound by the latency of the processor's own SHA instructions, whatever the library; what
//! can be won is won across independent messages (the pieces of a v1 torrent, the blocks of a v2 one), so the
//! `_many` functions are the ones to build on. They keep the lanes of the widest vectors full: see [`Kernel`].
//!
//! This crate knows no pieces and no torrents.

mod block;
mod columns;
mod kernel;
mod lanes;
mod many;
mod plan;
mod scheduler;
mod sha1;
mod sha256;
mod stream;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use kernel::{Algorithm, Kernel};
pub use lanes::{
    Sha1, Sha1Lanes, Sha256, Sha256Lanes, sha1, sha1_many, sha1_many_into, sha1_many_parts,
    sha1_many_parts_into, sha256, sha256_many, sha256_many_into, sha256_many_parts,
    sha256_many_parts_into,
};
