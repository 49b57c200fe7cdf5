//! The canonical peer priority (BEP 40): all peers agree on which pairs should be connected first.

use std::net::{IpAddr, SocketAddr};

/// The priority of a pair of peers; `None` if they are of different address families.
pub(crate) fn peer_priority(ours: SocketAddr, theirs: SocketAddr) -> Option<u32> {
    let (our_ip, their_ip) = (ours.ip().to_canonical(), theirs.ip().to_canonical());
    match (our_ip, their_ip) {
        (a, b) if a == b => Some(of_pair(
            &ours.port().to_be_bytes(),
            &theirs.port().to_be_bytes(),
        )),
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let same = common_bytes(&a.octets(), &b.octets());
            Some(of_masked(
                a.octets(),
                b.octets(),
                if same < 2 { 2 } else { same + 1 },
            ))
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let same = common_bytes(&a.octets(), &b.octets());
            Some(of_masked(
                a.octets(),
                b.octets(),
                if same < 6 { 6 } else { same + 1 },
            ))
        }
        _ => None,
    }
}

fn common_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Masks all but the first `whole` bytes with 0x55.
fn of_masked<const N: usize>(a: [u8; N], b: [u8; N], whole: usize) -> u32 {
    let mask = |mut ip: [u8; N]| {
        ip.iter_mut().skip(whole).for_each(|byte| *byte &= 0x55);
        ip
    };
    of_pair(&mask(a), &mask(b))
}

fn of_pair(a: &[u8], b: &[u8]) -> u32 {
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    crc32c(low.iter().chain(high))
}

/// CRC-32C (Castagnoli), bit by bit: it is asked for a few bytes a candidate.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let crc = bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 }
        })
    });
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_bep_40() {
        let check = |a: &str, b: &str, expected| {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(peer_priority(a, b), expected, "{a} {b}");
            assert_eq!(peer_priority(b, a), expected, "{b} {a}");
        };
        check("123.213.32.10:1", "98.76.54.32:2", Some(0xec2d_7224));
        check("123.213.32.10:1", "123.213.32.234:2", Some(0x9956_8189));
        check("123.213.32.10:1", "[2001:db8::1]:2", None);
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283);
    }

    #[test]
    fn one_address_is_told_apart_by_ports() {
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let priority = |a, b| peer_priority(addr(a), addr(b));
        assert_eq!(priority(1, 2), priority(2, 1));
        assert_ne!(priority(1, 2), priority(1, 3));
    }
}
