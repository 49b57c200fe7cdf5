//! The filters by which the peers of a torrent are counted without being named (BEP 33).

use std::net::IpAddr;

use riverrun_hash::sha1;

/// How many bits a filter has.
const BITS: u32 = 256 * 8;

/// A set of addresses in 256 bytes; good up to about 6,000 of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BloomFilter([u8; 256]);

impl Default for BloomFilter {
    fn default() -> Self {
        Self([0; 256])
    }
}

impl BloomFilter {
    /// The filter that these bytes are.
    pub const fn from_bytes(bytes: [u8; 256]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 256] {
        &self.0
    }

    /// Adds an address.
    pub fn insert(&mut self, ip: IpAddr) {
        let digest = match ip.to_canonical() {
            IpAddr::V4(ip) => sha1(&ip.octets()),
            IpAddr::V6(ip) => sha1(&ip.octets()),
        };
        for pair in digest.0[..4].chunks_exact(2) {
            let bit = usize::from(u16::from_le_bytes([pair[0], pair[1]]) % 2048);
            self.0[bit / 8] |= 1 << (bit % 8);
        }
    }

    /// Adds all that is in another filter.
    pub fn join(&mut self, other: &Self) {
        for (ours, theirs) in self.0.iter_mut().zip(other.0) {
            *ours |= theirs;
        }
    }

    /// How many addresses are in it, as an estimate.
    pub fn estimate(&self) -> f64 {
        let zeros: u32 = self.0.iter().map(|byte| byte.count_zeros()).sum();
        let bits = f64::from(BITS);
        let empty = f64::from(zeros.clamp(1, BITS));
        // With a single bit left the BEP's formula has no more to say.
        (empty / bits).ln() / (2.0 * (1.0 - 1.0 / bits).ln())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_of_bep_33_holds() {
        let mut filter = BloomFilter::default();
        for last in 0..=255 {
            filter.insert(IpAddr::from([192, 0, 2, last]));
        }
        for last in 0..=0x3e7_u16 {
            filter.insert(IpAddr::from([0x2001, 0x0db8, 0, 0, 0, 0, 0, last]));
        }
        assert_eq!(
            filter.as_bytes()[..8],
            [0xf6, 0xc3, 0xf5, 0xea, 0xa0, 0x7f, 0xfd, 0x91]
        );
        assert_eq!(filter.as_bytes()[252..], [0xfd, 0x8f, 0x72, 0xef]);
        assert!(
            (filter.estimate() - 1224.9308).abs() < 0.0001,
            "{}",
            filter.estimate()
        );
    }

    #[test]
    fn an_empty_filter_counts_nobody_and_a_full_one_is_finite() {
        assert!(BloomFilter::default().estimate().abs() < 0.01);
        assert!(BloomFilter::from_bytes([0xff; 256]).estimate().is_finite());
    }

    #[test]
    fn a_union_counts_nobody_twice() {
        let (mut left, mut right) = (BloomFilter::default(), BloomFilter::default());
        for last in 0..100 {
            left.insert(IpAddr::from([192, 0, 2, last]));
            right.insert(IpAddr::from([192, 0, 2, last + 50]));
        }
        left.join(&right);
        assert!(
            (left.estimate() - 150.0).abs() < 10.0,
            "{}",
            left.estimate()
        );
    }
}
