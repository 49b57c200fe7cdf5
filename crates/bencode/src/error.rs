//! Why bytes are not bencode.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What is wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("at byte {offset}: {cause}")]
pub struct ParseError {
    /// The offset in the input of the value, or of the byte, that is at fault.
    pub offset: usize,
    /// What is wrong with it.
    pub cause: SyntaxError,
}

/// What is wrong with a byte string that should be bencode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SyntaxError {
    /// The input ends inside a value.
    #[error("unexpected end of input")]
    UnexpectedEnd,
    /// Neither a value nor an end starts with this byte.
    #[error("expected a value, found byte 0x{0:02x}")]
    ExpectedValue(u8),
    /// The keys of a dictionary are byte strings.
    #[error("expected a byte string as key, found byte 0x{0:02x}")]
    ExpectedKey(u8),
    /// A dictionary ends after a key.
    #[error("a key without a value")]
    MissingValue,
    /// An integer, or the length of a byte string, is not made of digits.
    #[error("expected a digit, found byte 0x{0:02x}")]
    ExpectedDigit(u8),
    /// A number has a needless leading zero.
    #[error("a number with a leading zero")]
    LeadingZero,
    /// Zero has no sign.
    #[error("negative zero")]
    NegativeZero,
    /// An integer fits neither 64 bits with a sign nor 64 bits without.
    #[error("an integer of more than 64 bits")]
    IntegerOverflow,
    /// A byte string claims more bytes than the input has.
    #[error("a byte string of {claimed} bytes where {left} are left")]
    StringTooLong {
        /// The length that it claims; saturates.
        claimed: u64,
        /// The bytes that are left.
        left: usize,
    },
    /// Bytes follow the value.
    #[error("{0} bytes after the end of the value")]
    TrailingBytes(usize),
    /// Lists and dictionaries nest too deeply.
    #[error("nested more than {0} levels deep")]
    TooDeep(u32),
    /// There are too many values.
    #[error("more than {0} values")]
    TooManyTokens(u32),
    /// The input is too long.
    #[error("{actual} bytes where at most {limit} are accepted")]
    TooLong {
        /// The length of the input.
        actual: usize,
        /// The limit.
        limit: usize,
    },
}
