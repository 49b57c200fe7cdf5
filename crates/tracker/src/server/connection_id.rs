//! Connection ids of BEP 15 that need no memory.

use std::net::{IpAddr, Ipv6Addr};

use riverrun_base::Time;
use riverrun_hash::Sha256;

use crate::udp::packet::ConnectionId;

/// How long a connection id is good after it was given (BEP 15: two minutes), in seconds.
const AGE_MAX_SECS: u64 = 120;
/// How many of the 64 bits prove that we gave the id; the others say when.
const TAG_BITS: u32 = 48;

/// Gives connection ids, and knows its own again, by a secret instead of a table.
///
/// An id is the low 16 bits of the second in which it was given, and 48 bits of
/// SHA-256(secret ‖ address ‖ second). That is a sound keyed hash here, though it is not HMAC: the message has
/// one fixed length and most of the digest is never shown, so that there is nothing to extend; and it fits one
/// compression of SHA-256. To guess an id takes 2^48 datagrams on average within two minutes, and then opens
/// one address. `SipHash` would be faster; but the standard library's has no public way to give it a key of
/// full length.
#[derive(Clone)]
pub struct ConnectionIds {
    secret: [u8; 32],
}

impl ConnectionIds {
    /// With a secret; random, except in a simulator.
    pub const fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// An id for a client at `ip`.
    pub(super) fn issue(&self, now: Time, ip: IpAddr) -> ConnectionId {
        let second = second_of(now);
        ConnectionId(self.tag(second, ip) | second << TAG_BITS)
    }

    /// Whether we gave this id to `ip`, at most two minutes ago.
    pub(super) fn verify(&self, now: Time, ip: IpAddr, id: ConnectionId) -> bool {
        let now = second_of(now);
        // What seems to be from the future is from almost 2^16 seconds ago.
        let age = (now & 0xffff).wrapping_sub(id.0 >> TAG_BITS) & 0xffff;
        let Some(second) = now.checked_sub(age).filter(|_| age <= AGE_MAX_SECS) else {
            return false;
        };
        let tag = id.0 & ((1 << TAG_BITS) - 1);
        // One comparison of machine words: its time says nothing about how many bits were right.
        self.tag(second, ip) ^ tag == 0
    }

    fn tag(&self, second: u64, ip: IpAddr) -> u64 {
        let ip: Ipv6Addr = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        // Five bytes of seconds are 34,000 years.
        let [_, _, _, second @ ..] = second.to_be_bytes();
        let mut hash = Sha256::new();
        hash.update(&self.secret);
        hash.update(&ip.octets());
        hash.update(&second);
        let mut tag = [0; 8];
        tag[2..].copy_from_slice(&hash.finish().0[..6]);
        u64::from_be_bytes(tag)
    }
}

impl std::fmt::Debug for ConnectionIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConnectionIds")
    }
}

fn second_of(time: Time) -> u64 {
    time.as_micros() / 1_000_000
}

#[cfg(test)]
mod tests {
    use riverrun_base::Rng;

    use super::*;

    fn ids() -> ConnectionIds {
        ConnectionIds::new([7; 32])
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_id_is_good_for_two_minutes() {
        // Also across the wrap of the 16 bits of seconds.
        for issued in [0, 1, 1000, 65_500, 65_536, 10_000_000] {
            let id = ids().issue(Time::from_secs(issued), ip("192.0.2.1"));
            let verify = |secs| ids().verify(Time::from_secs(secs), ip("192.0.2.1"), id);
            for age in [0, 1, 60, 120] {
                assert!(verify(issued + age), "{issued} + {age}");
            }
            for age in [121, 1000, 65_535, 65_536, 65_537, 131_072] {
                assert!(!verify(issued + age), "{issued} + {age}");
            }
        }
    }

    #[test]
    fn an_id_from_the_future_is_not_good() {
        let id = ids().issue(Time::from_secs(200), ip("192.0.2.1"));
        for secs in [0, 100, 199] {
            assert!(
                !ids().verify(Time::from_secs(secs), ip("192.0.2.1"), id),
                "{secs}"
            );
        }
    }

    #[test]
    fn an_id_is_good_for_one_address_and_one_secret() {
        let now = Time::from_secs(5);
        let id = ids().issue(now, ip("192.0.2.1"));
        assert!(ids().verify(now, ip("::ffff:192.0.2.1"), id));
        assert!(!ids().verify(now, ip("192.0.2.2"), id));
        assert!(!ids().verify(now, ip("::c000:201"), id));
        assert!(!ConnectionIds::new([8; 32]).verify(now, ip("192.0.2.1"), id));
    }

    #[test]
    fn guesses_fail() {
        let (mut rng, now) = (Rng::new(1), Time::from_secs(1000));
        let id = ids().issue(now, ip("192.0.2.1"));
        for _ in 0..20_000 {
            // The time is public; only the tag is to be guessed.
            let guess = ConnectionId(id.0 >> TAG_BITS << TAG_BITS | rng.next_u64() >> 16);
            assert!(guess == id || !ids().verify(now, ip("192.0.2.1"), guess));
        }
        for bit in 0..64 {
            assert!(
                !ids().verify(now, ip("192.0.2.1"), ConnectionId(id.0 ^ 1 << bit)),
                "{bit}"
            );
        }
    }
}
