//! Recordings: what the decisions of an engine were given, as a file, and the same decisions made again from it.
//!
//! ```text
//! "riverrun record\n"
//! length: u32  seal: 8 bytes  chunk      what was given in one turn (see `riverrun_swarm::Recorder`), until
//! 0       : u32                          the recording was ended in order
//! ```
//!
//! Numbers are little-endian; a seal is the beginning of the SHA-1 of its chunk. A file that breaks off is good up to
//! there.

mod reader;
mod writer;

pub use self::reader::{Recording, RecordingError};
pub(crate) use self::writer::{RecordWriter, Written};

/// What a recording begins with.
const MAGIC: &[u8; 16] = b"riverrun record\n";

/// The longest chunk, in bytes: what is given in one turn, which may be the metadata of many torrents.
const CHUNK_BYTES_MAX: u32 = 1 << 30;

fn seal(chunk: &[u8]) -> [u8; 8] {
    let digest = riverrun_hash::sha1(chunk).0;
    let mut seal = [0; 8];
    seal.copy_from_slice(&digest[..8]);
    seal
}
