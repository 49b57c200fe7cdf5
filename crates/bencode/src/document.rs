//! A parsed input: its bytes and the flat table of its values.

use crate::error::{ParseError, SyntaxError};
use crate::parse::{self, Token};
use crate::value::Value;

/// How much of a stranger's input to take on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How deeply lists and dictionaries may nest.
    pub depth: u32,
    /// How many values there may be, keys counted; each costs 16 bytes of memory.
    pub tokens: u32,
    /// How long the input may be, in bytes; at most `u32::MAX`.
    pub bytes: usize,
}

impl Limits {
    /// For torrent files: the depth and the number of values are those of the most widespread
    /// library, the length that of the most widespread client.
    pub const TORRENT: Self = Self {
        depth: 100,
        tokens: 3_000_000,
        bytes: 100_000_000,
    };
    /// For messages of peers, DHT nodes and trackers: none in any BEP nests more than five levels,
    /// and the largest are tracker replies with some thousand peers.
    pub const MESSAGE: Self = Self {
        depth: 8,
        tokens: 100_000,
        bytes: 4 << 20,
    };
}

/// A value and everything in it, parsed: the input and the table of its tokens.
#[derive(Clone, Debug)]
pub struct Document<'src> {
    source: &'src [u8],
    tokens: Vec<Token>,
}

impl<'src> Document<'src> {
    /// Parses `source`, which must be one value and nothing after it.
    pub fn parse(source: &'src [u8], limits: Limits) -> Result<Self, ParseError> {
        let (document, len) = Self::parse_prefix(source, limits)?;
        match source.len() - len {
            0 => Ok(document),
            rest => Err(ParseError {
                offset: len,
                cause: SyntaxError::TrailingBytes(rest),
            }),
        }
    }

    /// Parses the value at the start of `source`; also gives how many bytes it takes up (a message
    /// of BEP 9 is a dictionary followed by raw bytes).
    pub fn parse_prefix(source: &'src [u8], limits: Limits) -> Result<(Self, usize), ParseError> {
        let tokens = parse::tokenize(source, limits)?;
        let document = Self { source, tokens };
        let len = document.root().raw().len();
        Ok((
            Self {
                source: &source[..len],
                ..document
            },
            len,
        ))
    }

    /// The value.
    pub fn root(&self) -> Value<'_, 'src> {
        Value::at(&self.tokens, self.source, 0)
    }

    /// The bytes of the value.
    pub const fn source(&self) -> &'src [u8] {
        self.source
    }
}
