//! Single blocks of pieces that a peer has not whole: the extension `rr_have_blocks`.
//!
//! In a v2 torrent every block has a hash of its own (BEP 52), so that one can be passed on before the rest of its piece
//! has come. A hop of a crowd then takes the time of a block instead of that of a piece. The message is one of the
//! extension protocol (BEP 10), and `docs/have-blocks.md` of the project describes it for others.

use riverrun_base::PieceIndex;
use serde::{Deserialize, Serialize};

use crate::error::PeerMisbehaved;

/// Blocks that follow each other in a piece: those that a peer has verified, and gives. None at all says that it gives no
/// block of the piece any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRun {
    /// Of which piece.
    pub piece: PieceIndex,
    /// The number of the first in the piece.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

impl BlockRun {
    /// The numbers of the blocks.
    pub const fn blocks(&self) -> std::ops::Range<u32> {
        self.first..self.first.saturating_add(self.count)
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        let words = [self.piece.0, self.first, self.count];
        words.into_iter().flat_map(u32::to_be_bytes).collect()
    }

    pub(crate) fn parse(payload: &[u8]) -> Result<Self, PeerMisbehaved> {
        let (words, rest) = payload.as_chunks();
        let ([piece, first, count], []) = (words, rest) else {
            return Err(PeerMisbehaved::Extended(
                "rr_have_blocks of the wrong length",
            ));
        };
        Ok(Self {
            piece: PieceIndex(u32::from_be_bytes(*piece)),
            first: u32::from_be_bytes(*first),
            count: u32::from_be_bytes(*count),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_three_numbers_and_nothing_else() {
        let run = BlockRun {
            piece: PieceIndex(0x0102_0304),
            first: 5,
            count: 0x0600_0000,
        };
        let encoded = run.encode();
        assert_eq!(encoded, b"\x01\x02\x03\x04\0\0\0\x05\x06\0\0\0");
        assert_eq!(BlockRun::parse(&encoded), Ok(run));
        for wrong in [&encoded[..11], &[&encoded[..], b"\0"].concat(), b""] {
            assert!(BlockRun::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
