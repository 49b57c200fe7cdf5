//! How far away an address is: what strangers may point us at depends on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far away a host is, as far as its address tells; the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// This machine.
    Machine,
    /// The same cable or radio (`169.254/16`, `fe80::/10`). Clouds answer there with a machine's secrets.
    Link,
    /// The same private network, or the provider's (RFC 1918, RFC 4193, RFC 6598).
    Network,
    /// Anywhere.
    World,
}

impl Nearness {
    /// How far away an address is; `None` if no single host can have it. An IPv4 address that is written inside of
    /// an IPv6 one (mapped, NAT64, 6to4) counts as itself.
    pub fn of(ip: IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            IpAddr::V4(ip) => of_v4(ip),
            IpAddr::V6(ip) => match embedded(ip) {
                Some(ip) => of_v4(ip),
                None => of_v6(ip),
            },
        }
    }

    /// Whether many peers may share the address because it is one of our surroundings.
    pub fn is_local(ip: IpAddr) -> bool {
        Self::of(ip).is_some_and(|nearness| nearness < Self::World)
    }
}

fn of_v4(ip: Ipv4Addr) -> Option<Nearness> {
    let [first, second, ..] = ip.octets();
    Some(match (first, second) {
        // "This network", multicast, and what is reserved, broadcast too.
        (0 | 224.., _) => return None,
        (127, _) => Nearness::Machine,
        (169, 254) => Nearness::Link,
        (100, 64..128) => Nearness::Network,
        _ if ip.is_private() => Nearness::Network,
        _ => Nearness::World,
    })
}

const fn of_v6(ip: Ipv6Addr) -> Option<Nearness> {
    Some(match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Nearness::Machine,
        // Nobody, and the abandoned way to write IPv4 addresses.
        [0, 0, 0, 0, 0, 0, ..] => return None,
        _ if ip.is_multicast() => return None,
        _ if ip.is_unicast_link_local() => Nearness::Link,
        _ if ip.is_unique_local() => Nearness::Network,
        _ => Nearness::World,
    })
}

/// The IPv4 address behind a NAT64 (RFC 6052) or 6to4 (RFC 3056) one.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [first, second, third, _, _, _, high, low] = ip.segments();
    let (high, low) = match (first, second) {
        (0x64, 0xff9b) => (high, low),
        (0x2002, _) => (second, third),
        _ => return None,
    };
    Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_as_near_as_the_host_that_it_leads_to() {
        let check = |ip: &str, nearness| {
            assert_eq!(Nearness::of(ip.parse().unwrap()), nearness, "{ip}");
        };
        for here in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            check(here, Some(Nearness::Machine));
        }
        for link in ["169.254.169.254", "fe80::1", "64:ff9b::169.254.169.254"] {
            check(link, Some(Nearness::Link));
        }
        for near in [
            "10.0.0.1",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "fd00::1",
        ] {
            check(near, Some(Nearness::Network));
        }
        check("2002:c0a8:0101::1", Some(Nearness::Network));
        for far in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2001:db8::1"] {
            check(far, Some(Nearness::World));
        }
        for nobody in [
            "0.0.0.0",
            "::",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
            "::7f00:1",
        ] {
            check(nobody, None);
        }
    }
}
