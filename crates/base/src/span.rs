//! Where in a torrent: pieces, blocks, files.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A block, the unit of requests: 16 KiB, except the last of a piece (BEP 3; BEP 52 makes it the leaf
/// of the merkle trees).
pub const BLOCK_LEN: u32 = 16 * 1024;

/// The number of a piece, from zero.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct PieceIndex(pub u32);

impl PieceIndex {
    /// As an index into a slice.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a file in its torrent's list, pad files counted, from zero.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct FileIndex(pub u32);

impl FileIndex {
    /// As an index into a slice.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for FileIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A run of bytes inside one piece: what a `request`, `piece` or `cancel` message speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockSpan {
    /// The piece.
    pub piece: PieceIndex,
    /// Where in the piece, in bytes.
    pub offset: u32,
    /// How many bytes.
    pub len: u32,
}

impl BlockSpan {
    /// The span of block number `block` in `piece`, whose length is `piece_len`; `None` past its end.
    pub fn of_block(piece: PieceIndex, block: u32, piece_len: u32) -> Option<Self> {
        let offset = block.checked_mul(BLOCK_LEN)?;
        let rest = piece_len.checked_sub(offset).filter(|rest| *rest > 0)?;
        Some(Self {
            piece,
            offset,
            len: rest.min(BLOCK_LEN),
        })
    }

    /// The number of the block in its piece, if the span starts on a block.
    pub const fn block(&self) -> Option<u32> {
        if self.offset.is_multiple_of(BLOCK_LEN) {
            Some(self.offset / BLOCK_LEN)
        } else {
            None
        }
    }

    /// Where the span ends in the piece, in bytes; saturates.
    pub const fn end(&self) -> u32 {
        self.offset.saturating_add(self.len)
    }
}

impl fmt::Display for BlockSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}+{}", self.piece, self.offset, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_block_of_a_piece_is_short() {
        let piece = PieceIndex(7);
        let span = |block| BlockSpan::of_block(piece, block, BLOCK_LEN + 5);
        assert_eq!(
            span(0),
            Some(BlockSpan {
                piece,
                offset: 0,
                len: BLOCK_LEN
            })
        );
        assert_eq!(
            span(1),
            Some(BlockSpan {
                piece,
                offset: BLOCK_LEN,
                len: 5
            })
        );
        assert_eq!(span(2), None);
        assert_eq!(span(u32::MAX), None);
        assert_eq!(span(1).and_then(|s| s.block()), Some(1));
    }
}
