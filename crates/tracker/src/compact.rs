//! Peers as packed bytes: 6 each for IPv4 (BEP 23), 18 each for IPv6 (BEP 7), port last, big-endian.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of an IPv4 peer.
pub(crate) const STRIDE_V4: usize = 6;
/// Bytes of an IPv6 peer.
pub(crate) const STRIDE_V6: usize = 18;

/// The peers in a packed list of IPv4 addresses; a remainder is left out.
pub(crate) fn read_v4(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> {
    bytes
        .as_chunks::<STRIDE_V4>()
        .0
        .iter()
        .map(|&[a, b, c, d, high, low]| {
            let port = u16::from_be_bytes([high, low]);
            SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
        })
}

/// The peers in a packed list of IPv6 addresses; a remainder is left out. A mapped IPv4 address becomes IPv4.
pub(crate) fn read_v6(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> {
    bytes
        .as_chunks::<STRIDE_V6>()
        .0
        .iter()
        .map(|&[ip @ .., high, low]| {
            let port = u16::from_be_bytes([high, low]);
            SocketAddr::new(IpAddr::V6(Ipv6Addr::from(ip)).to_canonical(), port)
        })
}

/// Appends an IPv4 peer.
pub(crate) fn write_v4(out: &mut Vec<u8>, peer: SocketAddrV4) {
    out.extend_from_slice(&peer.ip().octets());
    out.extend_from_slice(&peer.port().to_be_bytes());
}

/// Appends an IPv6 peer.
pub(crate) fn write_v6(out: &mut Vec<u8>, peer: SocketAddrV6) {
    out.extend_from_slice(&peer.ip().octets());
    out.extend_from_slice(&peer.port().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_peers_read_back() {
        let mut out = Vec::new();
        write_v4(&mut out, "10.0.0.1:51413".parse().unwrap());
        write_v4(&mut out, "127.0.0.1:6881".parse().unwrap());
        assert_eq!(out, [10, 0, 0, 1, 0xc8, 0xd5, 127, 0, 0, 1, 0x1a, 0xe1]);
        let read: Vec<_> = read_v4(&out).map(|peer| peer.to_string()).collect();
        assert_eq!(read, ["10.0.0.1:51413", "127.0.0.1:6881"]);
        assert_eq!(read_v4(&out[..11]).count(), 1);

        let mut out = Vec::new();
        write_v6(&mut out, "[2001:db8::1]:80".parse().unwrap());
        write_v6(&mut out, "[::ffff:10.0.0.1]:81".parse().unwrap());
        let read: Vec<_> = read_v6(&out).map(|peer| peer.to_string()).collect();
        assert_eq!(read, ["[2001:db8::1]:80", "10.0.0.1:81"]);
    }
}
