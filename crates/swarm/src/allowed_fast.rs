//! Which pieces a choked peer may take (BEP 6, "Allowed Fast Set Generation").

use std::net::IpAddr;

use riverrun_base::{InfoHash, PieceIndex};
use riverrun_hash::sha1;

/// The set for a peer: from its address, so that reconnecting gives it no more. BEP 6 defines it for IPv4; for IPv6
/// the first 48 bits stand for the network.
pub(crate) fn allowed_fast_set(
    ip: IpAddr,
    info_hash: InfoHash,
    piece_count: u32,
    len: usize,
) -> Vec<PieceIndex> {
    let len = len.min(piece_count as usize);
    let mut x = match ip.to_canonical() {
        IpAddr::V4(ip) => [&ip.octets()[..3], &[0]].concat(),
        IpAddr::V6(ip) => ip.octets()[..6].to_vec(),
    };
    x.extend(info_hash.0);
    let mut set = Vec::new();
    while set.len() < len {
        let digest = sha1(&x).0;
        for four in digest.chunks_exact(4) {
            let four = four
                .iter()
                .fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
            let piece = PieceIndex(four % piece_count);
            if set.len() < len && !set.contains(&piece) {
                set.push(piece);
            }
        }
        x = digest.to_vec();
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example at the end of BEP 6.
    #[test]
    fn the_sets_of_bep_6() {
        let set = |len| -> Vec<u32> {
            let ip = "80.4.4.200".parse().unwrap();
            allowed_fast_set(ip, InfoHash([0xaa; 20]), 1313, len)
                .iter()
                .map(|p| p.0)
                .collect()
        };
        assert_eq!(set(7), [1059, 431, 808, 1217, 287, 376, 1188]);
        assert_eq!(set(9), [1059, 431, 808, 1217, 287, 376, 1188, 353, 508]);
    }

    #[test]
    fn a_small_torrent_has_no_larger_set_than_pieces() {
        let ip = "192.0.2.1".parse().unwrap();
        assert_eq!(allowed_fast_set(ip, InfoHash([0; 20]), 3, 10).len(), 3);
        assert!(allowed_fast_set(ip, InfoHash([0; 20]), 0, 10).is_empty());
    }
}
