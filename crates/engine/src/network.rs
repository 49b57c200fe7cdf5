//! What the user allows of the network.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

use crate::authorities::Authorities;

/// The longest name of an interface on Linux, in bytes (`IFNAMSIZ` with its zero).
const INTERFACE_NAME_LEN_MAX: usize = 15;

/// What the user allows of the network. The default is all of it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct NetworkOptions {
    /// The only addresses and interfaces that any socket may use: peers, trackers, the web, names. While none of
    /// them is there, nothing is sent. Empty for any.
    pub bind: Vec<Bind>,
    /// The name servers to ask when bound, instead of the system's.
    pub dns: Vec<SocketAddr>,
    /// Whom to trust with certificates beside the system's authorities.
    pub authorities: Authorities,
}

impl NetworkOptions {
    /// Uses these addresses and interfaces and no others.
    pub fn bind(mut self, binds: impl IntoIterator<Item = Bind>) -> Self {
        self.bind.extend(binds);
        self
    }

    /// Asks these name servers when bound.
    pub fn dns(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.dns.extend(servers);
        self
    }

    /// Trusts these authorities beside the system's.
    pub fn authorities(mut self, authorities: Authorities) -> Self {
        self.authorities = authorities;
        self
    }
}

/// An address of this machine, or one of its interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bind {
    /// An address; pinned to the interface that has it, too.
    Addr(IpAddr),
    /// An interface, by name: its addresses, and no way out but through it.
    Interface(String),
}

/// A text that names no address and cannot name an interface.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected an address or an interface like tun0, found {0:?}")]
pub struct ParseBindError(String);

impl FromStr for Bind {
    type Err = ParseBindError;

    fn from_str(text: &str) -> Result<Self, ParseBindError> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            if ip.is_unspecified() || ip.is_multicast() {
                return Err(ParseBindError(text.to_owned()));
            }
            return Ok(Self::Addr(ip.to_canonical()));
        }
        // What the kernel takes for a name (`dev_valid_name`), and no colon: that is an address with a slip.
        let fits =
            (1..=INTERFACE_NAME_LEN_MAX).contains(&text.len()) && text != "." && text != "..";
        let is_clean = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':');
        if fits && text.chars().all(is_clean) {
            return Ok(Self::Interface(text.to_owned()));
        }
        Err(ParseBindError(text.to_owned()))
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(ip) => ip.fmt(f),
            Self::Interface(name) => f.write_str(name),
        }
    }
}

/// Whether the network that the user allows is there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkState {
    /// It is: sockets can be made.
    Online,
    /// It is not: nothing is sent until it is back.
    Offline {
        /// What is missing.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_interfaces_are_told_apart() {
        let interface = |name: &str| Ok(Bind::Interface(name.to_owned()));
        assert_eq!("tun0".parse(), interface("tun0"));
        assert_eq!("wg-home.5".parse(), interface("wg-home.5"));
        for ip in ["10.8.0.2", "fd00::2"] {
            assert_eq!(ip.parse(), Ok(Bind::Addr(ip.parse().unwrap())));
        }
        let mapped = Bind::Addr("10.8.0.2".parse().unwrap());
        assert_eq!("::ffff:10.8.0.2".parse(), Ok(mapped));
    }

    #[test]
    fn what_would_allow_everything_or_nothing_is_refused() {
        for text in [
            "",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "a b",
            "10.0.0.1:80",
            "eth0/1",
            "..",
            "x".repeat(16).as_str(),
        ] {
            assert!(text.parse::<Bind>().is_err(), "{text}");
        }
    }
}
