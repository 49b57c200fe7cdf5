//! Whose word about its own address is taken.

use std::net::IpAddr;

/// Those who may announce an address other than the one they send from: the tracker's own host, and others
/// that its operator trusts.
///
/// From anybody else, `ip=` would make the tracker send swarms of peers against a third party. Do not put a
/// reverse proxy in front of the tracker on the same host: all its clients would be believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedSources(Vec<IpAddr>);

impl TrustedSources {
    /// These, and loopback.
    pub fn new(sources: impl IntoIterator<Item = IpAddr>) -> Self {
        Self(sources.into_iter().map(|ip| ip.to_canonical()).collect())
    }

    /// The address to record for a peer that sends from `source` and claims to be at `claimed`.
    pub fn peer_ip(&self, source: IpAddr, claimed: Option<IpAddr>) -> IpAddr {
        let source = source.to_canonical();
        let claimed = claimed.map(|ip| ip.to_canonical()).filter(is_of_one_host);
        claimed.filter(|_| self.trusts(source)).unwrap_or(source)
    }

    fn trusts(&self, source: IpAddr) -> bool {
        source.is_loopback() || self.0.contains(&source)
    }
}

fn is_of_one_host(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !(ip.is_unspecified() || ip.is_multicast() || broadcast)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_trusted_speak_for_others() {
        let trusted = TrustedSources::new(["192.0.2.7".parse().unwrap()]);
        let check = |source: &str, claimed: &str, recorded: &str| {
            let ip = |text: &str| text.parse().unwrap();
            let actual = trusted.peer_ip(ip(source), Some(ip(claimed)));
            assert_eq!(actual, ip(recorded), "{source} claims {claimed}");
        };
        check("198.51.100.1", "203.0.113.1", "198.51.100.1");
        check("192.0.2.7", "203.0.113.1", "203.0.113.1");
        check("::ffff:192.0.2.7", "::ffff:203.0.113.1", "203.0.113.1");
        check("127.0.0.1", "2001:db8::1", "2001:db8::1");
        check("::1", "203.0.113.1", "203.0.113.1");
        check("127.0.0.1", "255.255.255.255", "127.0.0.1");
        check("127.0.0.1", "ff02::1", "127.0.0.1");
        check("127.0.0.1", "0.0.0.0", "127.0.0.1");
        let source = "127.0.0.1".parse().unwrap();
        assert_eq!(trusted.peer_ip(source, None), source);
    }
}
