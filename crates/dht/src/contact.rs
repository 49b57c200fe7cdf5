//! Where a node or a peer is, in the compact forms of BEP 5 and BEP 32.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::id::NodeId;

/// An address family: each has a DHT of its own (BEP 32).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(addr: SocketAddr) -> Self {
        if addr.ip().to_canonical().is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// How long a compact address is, in bytes.
    const fn addr_len(self) -> usize {
        match self {
            Self::V4 => 6,
            Self::V6 => 18,
        }
    }

    /// How long a compact contact is, in bytes.
    pub(crate) const fn contact_len(self) -> usize {
        20 + self.addr_len()
    }
}

/// A node: its name, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contact {
    /// Its name.
    pub id: NodeId,
    /// Where it is.
    pub addr: SocketAddr,
}

/// Appends an address in compact form: 6 bytes or 18.
pub(crate) fn put_addr(out: &mut Vec<u8>, addr: SocketAddr) {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => out.extend(ip.octets()),
        IpAddr::V6(ip) => out.extend(ip.octets()),
    }
    out.extend(addr.port().to_be_bytes());
}

/// The address of a compact form, if it has 6 bytes or 18.
pub(crate) fn read_addr(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let ip = match ip.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

/// Contacts in compact form.
pub(crate) fn put_contacts(contacts: &[Contact]) -> Vec<u8> {
    let mut out = Vec::with_capacity(contacts.len() * 38);
    for contact in contacts {
        out.extend(contact.id.0);
        put_addr(&mut out, contact.addr);
    }
    out
}

/// The contacts of a compact list; a rest that is no contact is left out.
pub(crate) fn read_contacts(
    bytes: &[u8],
    family: Family,
) -> impl Iterator<Item = Contact> + use<'_> {
    bytes
        .chunks_exact(family.contact_len())
        .filter_map(|chunk| {
            let (id, addr) = chunk.split_first_chunk::<20>()?;
            Some(Contact {
                id: NodeId(*id),
                addr: read_addr(addr)?,
            })
        })
}

/// Whether strangers may name an address as a node's or a peer's: it has a port, and one host may have it.
pub(crate) fn is_host(addr: SocketAddr) -> bool {
    let ip_ok = match addr.ip().to_canonical() {
        IpAddr::V4(ip) => !ip.is_broadcast() && !ip.is_multicast() && ip.octets()[0] != 0,
        IpAddr::V6(ip) => !ip.is_multicast() && !ip.is_unspecified(),
    };
    ip_ok && addr.port() != 0
}

/// The network that an address belongs to as far as one owner is assumed: a /24, or a /64.
pub(crate) fn network_of(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => u64::from(u32::from(ip) >> 8),
        // Invariant: the upper half of 128 bits is 64. The top bit keeps the families apart.
        IpAddr::V6(ip) => u64::try_from(u128::from(ip) >> 64).unwrap_or(0) | 1 << 63,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_contacts_read_back() {
        for (family, addr) in [
            (Family::V4, "192.0.2.7:6881"),
            (Family::V6, "[2001:db8::7]:1"),
        ] {
            let contact = Contact {
                id: NodeId([7; 20]),
                addr: addr.parse().unwrap(),
            };
            let bytes = put_contacts(&[contact, contact]);
            assert_eq!(bytes.len(), 2 * family.contact_len());
            let back: Vec<_> = read_contacts(&bytes[..bytes.len() - 1], family).collect();
            assert_eq!(back, [contact]);
        }
        assert_eq!(read_addr(&[0; 7]), None);
        assert_eq!(read_addr(&[]), None);
    }

    #[test]
    fn only_hosts_with_ports_are_contacts() {
        for (addr, ok) in [
            ("192.0.2.1:1", true),
            ("192.0.2.1:0", false),
            ("224.0.0.1:1", false),
            ("0.0.0.0:1", false),
            ("255.255.255.255:1", false),
            ("[ff02::1]:1", false),
            ("[::]:1", false),
            ("127.0.0.1:1", true),
        ] {
            assert_eq!(is_host(addr.parse().unwrap()), ok, "{addr}");
        }
    }
}
