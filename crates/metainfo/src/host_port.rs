//! A host and a port, as links and torrent files name peers and nodes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

/// A host, by name or by address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port; not 0.
    pub port: u16,
}

/// A text that is no host and port.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected host:port or [address]:port, found {0:?}")]
pub struct ParseHostPortError(pub String);

impl HostPort {
    /// The socket address, if the host is an address.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.host
            .parse::<IpAddr>()
            .ok()
            .map(|ip| SocketAddr::new(ip, self.port))
    }
}

impl FromStr for HostPort {
    type Err = ParseHostPortError;

    fn from_str(text: &str) -> Result<Self, ParseHostPortError> {
        let parse = || {
            let (host, port) = text.rsplit_once(':')?;
            let port = port.parse().ok().filter(|port| *port > 0)?;
            let host = match host.strip_prefix('[') {
                Some(literal) => literal
                    .strip_suffix(']')
                    .filter(|literal| literal.parse::<IpAddr>().is_ok())?,
                None => host,
            };
            let clean = |c: char| {
                !c.is_control() && !c.is_whitespace() && !matches!(c, '[' | ']' | '/' | '@')
            };
            let valid = !host.is_empty() && host.chars().all(clean);
            // More than one colon is an address without brackets, whose end is not clear.
            let valid = valid && (text.starts_with('[') || !host.contains(':'));
            valid.then(|| Self {
                host: host.to_owned(),
                port,
            })
        };
        parse().ok_or_else(|| ParseHostPortError(text.to_owned()))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_read_back() {
        for text in [
            "127.0.0.1:6881",
            "[2001:db8::1]:1",
            "peer.example.com:65535",
        ] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        let addr = |text: &str| text.parse::<HostPort>().unwrap().socket_addr();
        assert_eq!(addr("[::1]:80"), Some("[::1]:80".parse().unwrap()));
        assert_eq!(addr("example.com:80"), None);
    }

    #[test]
    fn what_is_no_host_and_port_is_refused() {
        for text in [
            "",
            ":1",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "::1:80",
            "[::1:80",
            "[]:1",
            "[x]:1",
            "a b:1",
        ] {
            assert_eq!(
                text.parse::<HostPort>(),
                Err(ParseHostPortError(text.to_owned()))
            );
        }
    }
}
