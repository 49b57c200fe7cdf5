//! Digests as values: twenty bytes of SHA-1, thirty-two of SHA-256, and how they read as hex.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// A text that is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected {expected} hexadecimal digits, found {found:?}")]
pub struct ParseDigestError {
    /// How many digits there must be.
    pub expected: usize,
    /// How many bytes the text has, if their number was wrong; `None` if one of them is no digit.
    pub found: Option<usize>,
}

fn parse_hex(text: &str, out: &mut [u8]) -> Result<(), ParseDigestError> {
    let expected = out.len() * 2;
    if text.len() != expected {
        return Err(ParseDigestError {
            expected,
            found: Some(text.len()),
        });
    }
    let nibble = |byte: u8| char::from(byte).to_digit(16);
    for (pair, byte) in text.as_bytes().chunks_exact(2).zip(out) {
        let (Some(high), Some(low)) = (nibble(pair[0]), nibble(pair[1])) else {
            return Err(ParseDigestError {
                expected,
                found: None,
            });
        };
        // Invariant: two hexadecimal digits are at most 0xff.
        *byte = u8::try_from(high << 4 | low).expect("two digits fit a byte");
    }
    Ok(())
}

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Its length in bytes.
            pub const LEN: usize = $len;

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The digest that these bytes are, if their number is right.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            /// As hex where people read it, which is not read back.
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl FromStr for $name {
            type Err = ParseDigestError;

            fn from_str(text: &str) -> Result<Self, ParseDigestError> {
                let mut bytes = [0; $len];
                parse_hex(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }
    };
}

digest!(
    /// A SHA-1 digest: of a v1 piece, or of an info dictionary.
    Sha1Digest,
    20
);
digest!(
    /// A SHA-256 digest: a node of a merkle tree (BEP 52), or of an info dictionary.
    Sha256Digest,
    32
);
digest!(
    /// The 20 bytes that name a torrent in handshakes, announces and the DHT: the SHA-1 of a v1 info
    /// dictionary, or the first 20 bytes of the SHA-256 of a v2 one (BEP 52, "infohash").
    WireHash,
    20
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_reads_back() {
        let text = "0efbab84cc74084b9716206db42fc1ad5cf2b889";
        assert_eq!(text.parse::<Sha1Digest>().unwrap().to_string(), text);
        assert_eq!(
            text.to_uppercase()
                .parse::<Sha1Digest>()
                .unwrap()
                .to_string(),
            text
        );
    }

    #[test]
    fn wrong_hex_says_what_was_expected() {
        assert_eq!(
            "abc".parse::<Sha1Digest>(),
            Err(ParseDigestError {
                expected: 40,
                found: Some(3)
            })
        );
        let odd = "zefbab84cc74084b9716206db42fc1ad5cf2b889";
        assert_eq!(
            odd.parse::<Sha1Digest>(),
            Err(ParseDigestError {
                expected: 40,
                found: None
            })
        );
    }
}
