//! Many independent inputs at once.

use riverrun_base::{Sha1Digest, Sha256Digest};

use crate::stream::{sha1, sha256};

/// The SHA-1 of each input, in order.
pub fn sha1_many(inputs: &[&[u8]]) -> Vec<Sha1Digest> {
    inputs.iter().map(|input| sha1(input)).collect()
}

/// The SHA-256 of each input, in order.
pub fn sha256_many(inputs: &[&[u8]]) -> Vec<Sha256Digest> {
    inputs.iter().map(|input| sha256(input)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_equal_one_by_one() {
        let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
        let inputs: Vec<&[u8]> = (1..37).map(|n| &bytes[n..n * 1800]).filter(|i| !i.is_empty()).collect();
        let digests = (sha1_many(&inputs), sha256_many(&inputs));
        for (n, input) in inputs.iter().enumerate() {
            assert_eq!((digests.0[n], digests.1[n]), (sha1(input), sha256(input)));
        }
        assert!(sha1_many(&[]).is_empty());
    }
}
