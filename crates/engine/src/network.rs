//! What the user allows of the network.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use thiserror::Error;
use url::Url;

use crate::authorities::Authorities;

/// The longest name of an interface on Linux, in bytes (`IFNAMSIZ` with its zero).
const INTERFACE_NAME_LEN_MAX: usize = 15;

/// The longest user or password that SOCKS5 carries (RFC 1929).
const LOGIN_LEN_MAX: usize = 255;

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
    /// The proxy by which everything goes: nothing leaves but to it, and no name is resolved but its own. Nothing
    /// listens then.
    pub proxy: Option<Proxy>,
    /// The mark on what is sent to peers, by which routers may rank it (RFC 2474).
    pub dscp: Option<Dscp>,
}

impl NetworkOptions {
    /// Uses these addresses and interfaces and no others.
    pub fn bind(mut self, binds: impl IntoIterator<Item = Bind>) -> Self {
        self.bind.extend(binds);
        self
    }

    /// Goes by this proxy and by no other way.
    pub fn proxy(mut self, proxy: Option<Proxy>) -> Self {
        self.proxy = proxy;
        self
    }

    /// Marks connections of peers over TCP.
    pub fn dscp(mut self, dscp: Option<Dscp>) -> Self {
        self.dscp = dscp;
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

/// A differentiated services code point: six bits (RFC 2474 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dscp(u8);

/// A text that is no code point.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected a number from 0 to 63, or a name like le, cs1 or af11, found {0:?}")]
pub struct ParseDscpError(String);

impl Dscp {
    /// The byte of the IP header in which it stands, without a mark of congestion.
    pub(crate) const fn traffic_class(self) -> u32 {
        (self.0 as u32) << 2
    }
}

impl FromStr for Dscp {
    type Err = ParseDscpError;

    fn from_str(text: &str) -> Result<Self, ParseDscpError> {
        let wrong = || ParseDscpError(text.to_owned());
        let lower = text.to_ascii_lowercase();
        let digits = |prefix: &str| {
            let digits = lower.strip_prefix(prefix)?;
            digits
                .bytes()
                .map(|b| b.checked_sub(b'0'))
                .collect::<Option<Vec<u8>>>()
        };
        if let Some([class @ 0..=7]) = digits("cs").as_deref() {
            return Ok(Self(class * 8));
        }
        // RFC 2597 §6.
        if let Some([class @ 1..=4, drop @ 1..=3]) = digits("af").as_deref() {
            return Ok(Self(class * 8 + drop * 2));
        }
        match lower.as_str() {
            // Lower effort: what is left of the line (RFC 8622).
            "le" => Ok(Self(1)),
            "ef" => Ok(Self(46)),
            number => number
                .parse()
                .ok()
                .filter(|n| *n < 64)
                .map(Self)
                .ok_or_else(wrong),
        }
    }
}

/// A proxy by which everything goes. Shown without its login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    pub(crate) kind: ProxyKind,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) login: Option<Login>,
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyKind {
    /// SOCKS5, with names left to the proxy (RFC 1928).
    Socks5,
    /// HTTP: CONNECT for all but plain HTTP (RFC 9110 §9.3.6).
    Http,
}

/// A user and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Secret,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A text that names no proxy. Does not repeat it: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseProxyError {
    /// It is no URL.
    #[error("expected a URL like socks5://host:1080")]
    Url,
    /// Its scheme is another one.
    #[error("expected a proxy of socks5:// or http://")]
    Scheme,
    /// It names no host, or no port where there is no usual one.
    #[error("expected a host and a port, as in socks5://host:1080")]
    Host,
    /// Something follows the port.
    #[error("expected nothing after the port of the proxy")]
    Path,
    /// The user or the password is too long, or no text.
    #[error("user and password of a proxy are texts of at most 255 bytes")]
    Login,
}

impl FromStr for Proxy {
    type Err = ParseProxyError;

    fn from_str(text: &str) -> Result<Self, ParseProxyError> {
        let url = Url::parse(text).map_err(|_| ParseProxyError::Url)?;
        let (kind, port) = match url.scheme() {
            // Both leave names to the proxy: the difference that curl makes would be a leak.
            "socks5" | "socks5h" => (ProxyKind::Socks5, 1080),
            "http" => (ProxyKind::Http, 80),
            _ => return Err(ParseProxyError::Scheme),
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or(ParseProxyError::Host)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(ParseProxyError::Path);
        }
        Ok(Self {
            kind,
            host: host.to_owned(),
            port: url.port().unwrap_or(port),
            login: login(&url)?,
        })
    }
}

/// Without the login.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::Socks5 => "socks5",
            ProxyKind::Http => "http",
        };
        let Self { host, port, .. } = self;
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

fn login(url: &Url) -> Result<Option<Login>, ParseProxyError> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decode = |text: &str| {
        let bytes = percent_decode_str(text);
        let text = bytes.decode_utf8().map_err(|_| ParseProxyError::Login)?;
        if text.len() > LOGIN_LEN_MAX {
            return Err(ParseProxyError::Login);
        }
        Ok(text.into_owned())
    };
    Ok(Some(Login {
        user: decode(url.username())?,
        password: Secret(decode(url.password().unwrap_or_default())?),
    }))
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
    fn code_points_have_numbers_and_names() {
        let class = |text: &str| text.parse::<Dscp>().unwrap().traffic_class();
        assert_eq!((class("0"), class("63"), class("LE")), (0, 252, 4));
        assert_eq!(
            (class("cs1"), class("af11"), class("AF43"), class("ef")),
            (32, 40, 152, 184)
        );
        for wrong in [
            "", "64", "-1", "cs8", "af14", "af50", "af", "cs", "cs11", "x",
        ] {
            assert!(wrong.parse::<Dscp>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_proxy_is_read_with_its_login_and_shown_without() {
        let proxy: Proxy = "socks5://ann:p%40ss@[2001:db8::1]:9050".parse().unwrap();
        let login = proxy.login.clone().unwrap();
        assert_eq!(
            (login.user.as_str(), login.password.reveal()),
            ("ann", "p@ss")
        );
        assert_eq!(proxy.to_string(), "socks5://[2001:db8::1]:9050");
        assert!(!format!("{proxy:?}").contains("p@ss"));
        for (text, shown) in [
            ("socks5h://proxy.example", "socks5://proxy.example:1080"),
            ("http://192.0.2.1:3128/", "http://192.0.2.1:3128"),
            ("http://proxy.example", "http://proxy.example:80"),
        ] {
            assert_eq!(text.parse::<Proxy>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_proxy_is_not_repeated() {
        use ParseProxyError as Error;
        let long = format!("socks5://{}@h:1", "x".repeat(256));
        for (text, expected) in [
            ("proxy.example:1080", Error::Scheme),
            ("secret", Error::Url),
            ("socks4://u:secret@h:1", Error::Scheme),
            ("https://u:secret@h:1", Error::Scheme),
            ("socks5://u:secret@:1", Error::Url),
            ("socks5://u:secret@h:1/secret", Error::Path),
            ("socks5://u:%ff@h:1", Error::Login),
            (long.as_str(), Error::Login),
        ] {
            let error = text.parse::<Proxy>().unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("secret"));
        }
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
