//! The names of nodes, how far apart they are, and which of them an address may bear (BEP 42).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use riverrun_base::{InfoHash, Nearness, ParseDigestError, Rng};

/// How many bits a name has.
pub(crate) const ID_BITS: u32 = 160;

/// The bits of an IPv4 address that decide about a node's id (BEP 42).
const MASK_V4: [u8; 4] = [0x03, 0x0f, 0x3f, 0xff];
/// The same for the upper half of an IPv6 address.
const MASK_V6: [u8; 8] = [0x01, 0x03, 0x07, 0x0f, 0x1f, 0x3f, 0x7f, 0xff];

/// A name in the space of the DHT: of a node, or of what is looked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 20]);

/// How far two names are apart: their XOR, as a number. In words, from the first: they compare faster than bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Distance(u64, u64, u32);

impl Distance {
    /// Farther than any name is.
    pub(crate) const MAX: Self = Self(u64::MAX, u64::MAX, u32::MAX);

    /// The first 64 bits; enough to count the nodes of any network.
    pub(crate) const fn leading(self) -> u64 {
        self.0
    }
}

impl NodeId {
    /// A random name.
    pub fn random(rng: &mut Rng) -> Self {
        let mut id = [0; 20];
        rng.fill(&mut id);
        Self(id)
    }

    /// A random name that a node with this address may bear (BEP 42).
    pub fn for_ip(ip: IpAddr, rng: &mut Rng) -> Self {
        let mut id = Self::random(rng);
        let prefix = prefix_of(ip, id.0[19]).to_be_bytes();
        id.0[0] = prefix[0];
        id.0[1] = prefix[1];
        id.0[2] = prefix[2] & 0xf8 | id.0[2] & 0x07;
        id
    }

    /// Whether a node with this address may bear this name (BEP 42). Addresses of local networks may bear any.
    pub fn suits(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let prefix = prefix_of(ip, self.0[19]).to_be_bytes();
        let bears = self.0[..2] == prefix[..2] && (self.0[2] ^ prefix[2]) & 0xf8 == 0;
        bears || Nearness::is_local(ip)
    }

    /// A random name with the first `bits` bits of this one and another bit after them.
    pub(crate) fn sibling(&self, bits: u32, rng: &mut Rng) -> Self {
        let random = Self::random(rng);
        let mut id = *self;
        for (at, byte) in id.0.iter_mut().enumerate() {
            // Bits before `bits` stay, the one at `bits` is turned, those behind it are random.
            let first = u32::try_from(at * 8).unwrap_or(ID_BITS);
            let keep = bits.saturating_sub(first).min(8);
            let kept = !(0xff_u8.checked_shr(keep).unwrap_or(0));
            let turned = if (first..first + 8).contains(&bits) {
                0x80 >> (bits - first)
            } else {
                0
            };
            *byte = *byte & kept | (*byte ^ turned) & turned | random.0[at] & !kept & !turned;
        }
        id
    }

    /// How far away another name is.
    pub fn distance(&self, to: &Self) -> Distance {
        let (a, b) = (self.words(), to.words());
        Distance(a.0 ^ b.0, a.1 ^ b.1, a.2 ^ b.2)
    }

    fn words(&self) -> (u64, u64, u32) {
        let [a, b] = [0, 8].map(|at| {
            // Invariant: eight of twenty bytes.
            u64::from_be_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
        });
        // Invariant: the last four of twenty bytes.
        let c = u32::from_be_bytes(self.0[16..].try_into().expect("four bytes"));
        (a, b, c)
    }

    /// How many bits at the start two names share; 160 if they are one.
    pub fn shared_bits(&self, with: &Self) -> u32 {
        for (bits, (ours, theirs)) in (0..).step_by(8).zip(self.0.iter().zip(&with.0)) {
            let differs = ours ^ theirs;
            if differs != 0 {
                return bits + differs.leading_zeros();
            }
        }
        ID_BITS
    }

    /// The name that these bytes are, if they are twenty.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl From<InfoHash> for NodeId {
    fn from(hash: InfoHash) -> Self {
        Self(hash.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        InfoHash(self.0).fmt(f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for NodeId {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        text.parse::<InfoHash>().map(Self::from)
    }
}

/// The start of the id that BEP 42 gives to an address and the three low bits of a random byte.
fn prefix_of(ip: IpAddr, random: u8) -> u32 {
    let marked = |mut masked: [u8; 8], len: usize| {
        masked[0] |= (random & 0x07) << 5;
        crc32c(&masked[..len])
    };
    let mut masked = [0; 8];
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            for (out, (byte, mask)) in masked.iter_mut().zip(ip.octets().iter().zip(MASK_V4)) {
                *out = byte & mask;
            }
            marked(masked, 4)
        }
        IpAddr::V6(ip) => {
            for (out, (byte, mask)) in masked.iter_mut().zip(ip.octets().iter().zip(MASK_V6)) {
                *out = byte & mask;
            }
            marked(masked, 8)
        }
    }
}

/// CRC-32C (Castagnoli), bit by bit: the input has eight bytes at most.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use riverrun_base::Rng;

    use super::*;

    /// The vectors of BEP 42: an address, its random byte, and an id that suits it.
    const VECTORS: [(&str, &str); 5] = [
        ("124.31.75.21", "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
        ("21.75.31.124", "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
        ("65.23.51.170", "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
        ("84.124.73.14", "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
        ("43.213.53.83", "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
    ];

    #[test]
    fn the_vectors_of_bep_42_suit_their_addresses_and_no_other() {
        for (ip, id) in VECTORS {
            let id: NodeId = id.parse().unwrap();
            for (other, _) in VECTORS {
                assert_eq!(
                    id.suits(other.parse().unwrap()),
                    other == ip,
                    "{id} {other}"
                );
            }
        }
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn local_addresses_may_bear_any_id() {
        let id: NodeId = VECTORS[0].1.parse().unwrap();
        for ip in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "::1",
            "fe80::1",
        ] {
            assert!(id.suits(ip.parse().unwrap()), "{ip}");
        }
    }

    proptest! {
        #[test]
        fn a_name_made_for_an_address_suits_it(ip: [u8; 4], ip6: [u8; 16], seed: u64) {
            let mut rng = Rng::new(seed);
            for ip in [IpAddr::from(ip), IpAddr::from(ip6)] {
                prop_assert!(NodeId::for_ip(ip, &mut rng).suits(ip), "{}", ip);
            }
        }

        #[test]
        fn a_sibling_shares_exactly_the_bits_that_were_asked_for(id: [u8; 20], bits in 0_u32..160, seed: u64) {
            let id = NodeId(id);
            let sibling = id.sibling(bits, &mut Rng::new(seed));
            prop_assert_eq!(id.shared_bits(&sibling), bits);
        }

        #[test]
        fn more_shared_bits_are_nearer(a: [u8; 20], b: [u8; 20], c: [u8; 20]) {
            let (a, b, c) = (NodeId(a), NodeId(b), NodeId(c));
            if a.shared_bits(&b) > a.shared_bits(&c) {
                prop_assert!(a.distance(&b) < a.distance(&c));
            }
            prop_assert_eq!(a.distance(&b), b.distance(&a));
        }
    }
}
