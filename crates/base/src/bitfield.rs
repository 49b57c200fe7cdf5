//! Which pieces: a set of piece indices of fixed length, in the wire's bit order.

use std::fmt::{self, Write as _};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::PieceIndex;

/// A bitfield from the wire that does not fit its torrent (BEP 3: "spare bits at the end are set to zero.
/// … clients should drop the connection if …").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum InvalidBitfield {
    /// It has the wrong number of bytes.
    #[error("a bitfield of {actual} bytes where {expected} were due")]
    Length {
        /// How many bytes the number of pieces asks for.
        expected: usize,
        /// How many came.
        actual: usize,
    },
    /// A bit past the last piece is set.
    #[error("a bitfield with spare bits set")]
    SpareBits,
}

/// A set of pieces out of a fixed number, one bit each; piece 0 is the highest bit of the first byte.
///
/// Knows how many are set, so that "all", "none" and the count cost nothing.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Bitfield {
    bytes: Box<[u8]>,
    len: u32,
    ones: u32,
}

impl Bitfield {
    /// `len` pieces, none of them set.
    pub fn new(len: u32) -> Self {
        Self {
            bytes: vec![0; (len as usize).div_ceil(8)].into(),
            len,
            ones: 0,
        }
    }

    /// `len` pieces, all of them set.
    pub fn full(len: u32) -> Self {
        let mut bytes: Box<[u8]> = vec![0xff; (len as usize).div_ceil(8)].into();
        if let Some(last) = bytes.last_mut() {
            *last &= spare_mask(len);
        }
        Self {
            bytes,
            len,
            ones: len,
        }
    }

    /// From the payload of a `bitfield` message for a torrent of `len` pieces.
    pub fn from_bytes(bytes: &[u8], len: u32) -> Result<Self, InvalidBitfield> {
        let expected = (len as usize).div_ceil(8);
        if bytes.len() != expected {
            return Err(InvalidBitfield::Length {
                expected,
                actual: bytes.len(),
            });
        }
        if bytes
            .last()
            .is_some_and(|last| last & !spare_mask(len) != 0)
        {
            return Err(InvalidBitfield::SpareBits);
        }
        let ones = bytes.iter().map(|byte| byte.count_ones()).sum();
        Ok(Self {
            bytes: bytes.into(),
            len,
            ones,
        })
    }

    /// As the payload of a `bitfield` message.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many pieces there are, set or not.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are no pieces at all.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many pieces are set.
    pub const fn count_ones(&self) -> u32 {
        self.ones
    }

    /// Whether every piece is set.
    pub const fn all(&self) -> bool {
        self.ones == self.len
    }

    /// Whether no piece is set.
    pub const fn none(&self) -> bool {
        self.ones == 0
    }

    /// Whether `piece` is set; false past the end.
    pub fn has(&self, piece: PieceIndex) -> bool {
        piece.0 < self.len && self.bytes[piece.as_usize() / 8] & bit(piece) != 0
    }

    /// Sets `piece`; whether that changed anything. Past the end nothing happens.
    pub fn set(&mut self, piece: PieceIndex) -> bool {
        if piece.0 >= self.len || self.has(piece) {
            return false;
        }
        self.bytes[piece.as_usize() / 8] |= bit(piece);
        self.ones += 1;
        true
    }

    /// Clears `piece`; whether that changed anything.
    pub fn clear(&mut self, piece: PieceIndex) -> bool {
        if !self.has(piece) {
            return false;
        }
        self.bytes[piece.as_usize() / 8] &= !bit(piece);
        self.ones -= 1;
        true
    }

    /// The set pieces, in order.
    pub fn ones(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.bytes
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte != 0)
            .flat_map(|(at, byte)| {
                let first = u32::try_from(at * 8).unwrap_or(u32::MAX);
                (0..8)
                    .filter(move |n| byte & (0x80 >> n) != 0)
                    .map(move |n| PieceIndex(first + n))
            })
    }

    /// The pieces that are not set, in order.
    pub fn zeros(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        (0..self.len)
            .map(PieceIndex)
            .filter(|piece| !self.has(*piece))
    }

    /// Whether some piece is set here and not in `other`: are they of interest to us?
    pub fn has_any_not_in(&self, other: &Self) -> bool {
        self.bytes
            .iter()
            .zip(&other.bytes)
            .any(|(ours, theirs)| ours & !theirs != 0)
    }
}

impl Serialize for Bitfield {
    /// As hex where people read it, which is not read back.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let digits = |mut hex: String, byte: &u8| {
                // Writing to a string cannot fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            };
            self.bytes
                .iter()
                .fold(String::new(), digits)
                .serialize(serializer)
        } else {
            (self.len, &self.bytes).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Bitfield {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (len, bytes) = <(u32, Vec<u8>)>::deserialize(deserializer)?;
        Self::from_bytes(&bytes, len).map_err(D::Error::custom)
    }
}

impl fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bitfield({}/{})", self.ones, self.len)
    }
}

const fn bit(piece: PieceIndex) -> u8 {
    0x80 >> (piece.0 % 8)
}

/// The bits of the last byte that stand for pieces.
const fn spare_mask(len: u32) -> u8 {
    match len % 8 {
        0 => 0xff,
        used => !(0xff >> used),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_order_is_high_bit_first() {
        let mut field = Bitfield::new(10);
        field.set(PieceIndex(0));
        field.set(PieceIndex(9));
        assert_eq!(field.as_bytes(), [0x80, 0x40]);
        assert_eq!(
            field.ones().collect::<Vec<_>>(),
            [PieceIndex(0), PieceIndex(9)]
        );
        assert_eq!(field.zeros().count(), 8);
        assert_eq!(Bitfield::full(10).as_bytes(), [0xff, 0xc0]);
        assert_eq!(Bitfield::full(8).as_bytes(), [0xff]);
        assert!(Bitfield::full(0).all() && Bitfield::full(0).none());
    }

    #[test]
    fn counts_follow_every_change() {
        let mut field = Bitfield::new(3);
        assert!(field.set(PieceIndex(2)) && !field.set(PieceIndex(2)));
        assert!(!field.set(PieceIndex(3)), "past the end");
        assert_eq!(field.count_ones(), 1);
        assert!(field.clear(PieceIndex(2)) && !field.clear(PieceIndex(2)));
        assert!(field.none());
    }

    #[test]
    fn a_bitfield_from_the_wire_must_fit() {
        assert_eq!(
            Bitfield::from_bytes(&[0xff], 9),
            Err(InvalidBitfield::Length {
                expected: 2,
                actual: 1
            })
        );
        assert_eq!(
            Bitfield::from_bytes(&[0xff, 0xc0], 9),
            Err(InvalidBitfield::SpareBits)
        );
        assert!(Bitfield::from_bytes(&[0xff, 0x80], 9).unwrap().all());
    }

    #[test]
    fn interest_is_exact() {
        let mut ours = Bitfield::new(20);
        let mut theirs = Bitfield::new(20);
        ours.set(PieceIndex(17));
        theirs.set(PieceIndex(17));
        assert!(!theirs.has_any_not_in(&ours));
        theirs.set(PieceIndex(3));
        assert!(theirs.has_any_not_in(&ours));
    }
}
