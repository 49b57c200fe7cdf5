//! Ids, time, bitfields, units and rates: what every other crate of riverrun speaks in.
//!
//! Nothing here knows a format, a socket, a clock or a file. All arithmetic is checked or saturating,
//! since most of the numbers come from strangers.

mod bitfield;
mod block;
mod bucket;
mod digest;
mod id;
mod map;
mod nearness;
mod rng;
mod span;
mod time;
mod units;

pub use bitfield::{Bitfield, InvalidBitfield};
pub use block::{Block, BlockDigest, BlockMut, BlockPool, Blocks, Stock};
pub use bucket::TokenBucket;
pub use digest::{ParseDigestError, Sha1Digest, Sha256Digest};
pub use id::{InfoHash, InfoHashes, NoInfoHash, PeerId};
pub use map::{Map, SeededState, Set};
pub use nearness::Nearness;
pub use rng::Rng;
pub use span::{BLOCK_LEN, BlockSpan, FileIndex, PieceIndex};
pub use time::Time;
pub use units::{ByteSize, ParseUnitError, Rate};
