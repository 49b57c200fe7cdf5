//! One input, given in parts.

use riverrun_base::{Sha1Digest, Sha256Digest};
use sha1::Digest as _;

macro_rules! stream {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $digest:ident, $(#[$fn_doc:meta])* $function:ident) => {
        $(#[$doc])*
        #[derive(Clone, Default)]
        pub struct $name($inner);

        impl $name {
            /// Of nothing yet.
            pub fn new() -> Self {
                Self::default()
            }

            /// Takes the next bytes.
            pub fn update(&mut self, bytes: &[u8]) {
                self.0.update(bytes);
            }

            /// The digest of all the bytes taken.
            pub fn finish(self) -> $digest {
                $digest(self.0.finalize().into())
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }

        $(#[$fn_doc])*
        pub fn $function(bytes: &[u8]) -> $digest {
            $digest(<$inner>::digest(bytes).into())
        }
    };
}

stream!(
    /// SHA-1 (FIPS 180-4) of a stream.
    Sha1,
    sha1::Sha1,
    Sha1Digest,
    /// The SHA-1 of `bytes`.
    sha1
);
stream!(
    /// SHA-256 (FIPS 180-4) of a stream.
    Sha256,
    sha2::Sha256,
    Sha256Digest,
    /// The SHA-256 of `bytes`.
    sha256
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standards_vectors_hold() {
        // FIPS 180-4 examples: "abc", the empty input, and a million times "a".
        let million = vec![b'a'; 1_000_000];
        for (input, one, two) in [
            (
                &b"abc"[..],
                "a9993e364706816aba3e25717850c26c9cd0d89d",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                b"",
                "da39a3ee5e6b4b0d3255bfef95601890afd80709",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ),
            (
                &million,
                "34aa973cd4c4daa4f61eeb2bdbad27316534016f",
                "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
            ),
        ] {
            assert_eq!(sha1(input).to_string(), one);
            assert_eq!(sha256(input).to_string(), two);
        }
    }

    #[test]
    fn parts_make_the_whole() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
        for cut in [0, 1, 63, 64, 65, 4999] {
            let mut one = Sha1::new();
            let mut two = Sha256::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                one.update(part);
                two.update(part);
            }
            assert_eq!(one.finish(), sha1(&bytes));
            assert_eq!(two.finish(), sha256(&bytes));
        }
    }
}
