//! Where a tracker is: its announce URL.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use thiserror::Error;
use url::{Host, Url};

/// The longest URL that is accepted, in bytes. Private trackers' URLs with their keys have some hundred.
const URL_LEN_MAX: usize = 4096;

/// What stands behind the host of nearly every tracker that knows no users.
const COMMON_PATH: &str = "/announce";

/// How what stands behind the host begins where it is masked, and how many hexadecimal digits of a digest follow.
const MASK: &str = "/masked-";
const MASK_DIGITS: usize = 16;

/// What an announce says over HTTP, and no tracker's URL may say for it; libtorrent has the same list.
const ANNOUNCE_ARGUMENTS: [&str; 9] = [
    "info_hash",
    "peer_id",
    "port",
    "uploaded",
    "downloaded",
    "left",
    "corrupt",
    "event",
    "key",
];

/// A text that is no tracker's announce URL.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidTrackerUrl {
    /// It is too long.
    #[error("a tracker url of {actual} bytes where at most {URL_LEN_MAX} are accepted")]
    TooLong {
        /// Its length in bytes.
        actual: usize,
    },
    /// It is no URL.
    #[error("no url: {0}")]
    NotAUrl(#[from] url::ParseError),
    /// No tracker protocol has this scheme.
    #[error("unknown scheme {0:?}: expected http, https, udp, ws or wss")]
    Scheme(String),
    /// It names no host.
    #[error("a tracker url without a host")]
    NoHost,
    /// Nothing can listen there.
    #[error("a tracker url with port 0")]
    PortZero,
}

/// How to talk to a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrackerScheme {
    /// HTTP (BEP 3).
    Http,
    /// HTTP over TLS.
    Https,
    /// UDP (BEP 15).
    Udp,
    /// WebSocket: recognised, not spoken yet.
    Ws,
    /// WebSocket over TLS: recognised, not spoken yet.
    Wss,
}

impl TrackerScheme {
    fn parse(scheme: &str) -> Option<Self> {
        Some(match scheme {
            "http" => Self::Http,
            "https" => Self::Https,
            "udp" => Self::Udp,
            "ws" => Self::Ws,
            "wss" => Self::Wss,
            _ => return None,
        })
    }

    /// The port if the URL has none. BEP 15 names no default for UDP; 80 is what clients use.
    const fn default_port(self) -> u16 {
        match self {
            Self::Https | Self::Wss => 443,
            Self::Http | Self::Udp | Self::Ws => 80,
        }
    }
}

/// The host in a tracker's URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrackerHost {
    /// A name to resolve, in lower case, in its ASCII form (IDNA).
    Name(String),
    /// An address.
    Ip(IpAddr),
}

impl fmt::Display for TrackerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// A tracker's announce URL, valid and normalised. Two that are written alike are one tracker.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackerUrl {
    url: Url,
    scheme: TrackerScheme,
    host: TrackerHost,
}

impl TrackerUrl {
    /// Reads a URL; white space around it and a fragment are dropped.
    pub fn parse(text: &str) -> Result<Self, InvalidTrackerUrl> {
        if text.len() > URL_LEN_MAX {
            return Err(InvalidTrackerUrl::TooLong { actual: text.len() });
        }
        let mut url = Url::parse(text)?;
        url.set_fragment(None);
        let scheme = TrackerScheme::parse(url.scheme())
            .ok_or_else(|| InvalidTrackerUrl::Scheme(url.scheme().chars().take(32).collect()))?;
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or(InvalidTrackerUrl::NoHost)?;
        // The parser leaves hosts of schemes that browsers do not know (udp) as they are.
        let host = match Host::parse(host)? {
            Host::Domain(name) => TrackerHost::Name(name),
            Host::Ipv4(ip) => TrackerHost::Ip(ip.into()),
            Host::Ipv6(ip) => TrackerHost::Ip(IpAddr::V6(ip).to_canonical()),
        };
        match url.port() {
            Some(0) => Err(InvalidTrackerUrl::PortZero),
            _ => Ok(Self { url, scheme, host }),
        }
    }

    /// The whole URL. It may hold a user's secret key: show [`TrackerUrl::host`] where others look.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// How to talk to it.
    pub const fn scheme(&self) -> TrackerScheme {
        self.scheme
    }

    /// Whether we can talk to it.
    pub const fn is_supported(&self) -> bool {
        matches!(
            self.scheme,
            TrackerScheme::Http | TrackerScheme::Https | TrackerScheme::Udp
        )
    }

    /// Its host.
    pub const fn host(&self) -> &TrackerHost {
        &self.host
    }

    /// Its port, the scheme's own if the URL has none.
    pub fn port(&self) -> u16 {
        self.url
            .port()
            .unwrap_or_else(|| self.scheme.default_port())
    }

    /// A URL of the same tracker that holds no secret of a user's: what stands behind the host is a digest of it, unless
    /// everybody has the same there. Two that are different stay so, and one that is masked stays as it is.
    pub fn masked(&self) -> Self {
        let has_user = !self.url.username().is_empty() || self.url.password().is_some();
        let rest = self.path_and_query();
        let is_masked = rest.strip_prefix(MASK).is_some_and(|hex| {
            hex.len() == MASK_DIGITS && hex.bytes().all(|b| b.is_ascii_hexdigit())
        });
        if !has_user && (rest == COMMON_PATH || is_masked) {
            return self.clone();
        }
        let digest = riverrun_hash::sha256(self.as_str().as_bytes()).to_string();
        let mut masked = self.clone();
        masked
            .url
            .set_path(&[MASK, &digest[..MASK_DIGITS]].concat());
        masked.url.set_query(None);
        // Refused for URLs without a host, of which there is none here.
        let _ = masked.url.set_username("");
        let _ = masked.url.set_password(None);
        masked
    }

    /// The path, and the query if there is one: what BEP 41 tells a UDP tracker.
    pub fn path_and_query(&self) -> &str {
        &self.url[url::Position::BeforePath..url::Position::AfterQuery]
    }

    /// Whether the URL has arguments of an announce already, so that ours would not be the only ones: a URL like
    /// that is made to say something else than an announce, maybe to somebody who is no tracker.
    pub fn has_announce_arguments(&self) -> bool {
        let mut names = self.url.query_pairs().map(|(name, _)| name);
        names.any(|name| {
            ANNOUNCE_ARGUMENTS
                .iter()
                .any(|argument| name.eq_ignore_ascii_case(argument))
        })
    }

    /// The query, without its question mark.
    pub(crate) fn query(&self) -> Option<&str> {
        self.url.query()
    }

    /// The URL up to the query.
    pub(crate) fn before_query(&self) -> &str {
        &self.url[..url::Position::AfterPath]
    }
}

impl Serialize for TrackerUrl {
    /// As [`TrackerUrl::masked`] has it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.masked())
    }
}

impl FromStr for TrackerUrl {
    type Err = InvalidTrackerUrl;

    fn from_str(text: &str) -> Result<Self, InvalidTrackerUrl> {
        Self::parse(text)
    }
}

impl fmt::Display for TrackerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Debug for TrackerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::TrackerScheme::{Http, Https, Udp, Wss};
    use super::*;

    #[test]
    fn a_url_with_arguments_of_an_announce_is_known() {
        let check = |text: &str| TrackerUrl::parse(text).unwrap().has_announce_arguments();
        assert!(!check("http://a.example/announce"));
        assert!(!check("http://a.example/announce?passkey=1&uid=2"));
        assert!(check("http://a.example/announce?x=1&Event=stopped"));
        assert!(check("http://a.example/announce?info%5fhash=1"));
    }

    #[test]
    fn a_masked_url_is_of_the_same_tracker_and_tells_no_secret() {
        let masked = |text: &str| TrackerUrl::parse(text).unwrap().masked().to_string();
        let plain = "udp://t.example:1337/announce";
        assert_eq!(masked(plain), plain);
        let secrets = [
            "https://t.example/0123456789abcdef/announce",
            "https://t.example/announce?passkey=0123456789abcdef",
            "https://me:0123456789abcdef@t.example/announce",
            "https://me:0123456789abcdef@t.example/masked-0123456789abcdef",
            "udp://me:x@[::1]:80",
        ];
        let mut seen = std::collections::BTreeSet::new();
        for secret in secrets {
            let text = masked(secret);
            let (before, after) = (
                TrackerUrl::parse(secret).unwrap(),
                TrackerUrl::parse(&text).unwrap(),
            );
            let place = |url: &TrackerUrl| (url.scheme(), url.host().clone(), url.port());
            assert_eq!(place(&before), place(&after), "{text}");
            assert!(
                !text.contains("0123456789abcdef") && !text.contains('@'),
                "{text}"
            );
            assert_eq!(masked(&text), text);
            assert!(seen.insert(text));
        }
    }

    #[test]
    fn urls_of_trackers_are_read() {
        let check = |text: &str, scheme, host: &str, port, path: &str| {
            let url: TrackerUrl = text.parse().unwrap();
            let actual = (
                url.scheme(),
                url.host().to_string(),
                url.port(),
                url.path_and_query(),
            );
            assert_eq!(actual, (scheme, host.to_owned(), port, path), "{text}");
        };
        check(
            "http://Tracker.Example/announce",
            Http,
            "tracker.example",
            80,
            "/announce",
        );
        check(
            " https://t.example:8443/k/announce?a=b#f\n",
            Https,
            "t.example",
            8443,
            "/k/announce?a=b",
        );
        check(
            "udp://Tracker.Example:6969/announce",
            Udp,
            "tracker.example",
            6969,
            "/announce",
        );
        check("udp://tracker.example", Udp, "tracker.example", 80, "");
        check("udp://[2001:db8::1]:80/?x", Udp, "2001:db8::1", 80, "/?x");
        check("udp://192.0.2.1:80", Udp, "192.0.2.1", 80, "");
        check("udp://[::ffff:192.0.2.1]:80", Udp, "192.0.2.1", 80, "");
        check(
            "http://b\u{fc}cher.example/a",
            Http,
            "xn--bcher-kva.example",
            80,
            "/a",
        );
        check(
            "udp://b\u{fc}cher.example:1/a",
            Udp,
            "xn--bcher-kva.example",
            1,
            "/a",
        );
        check("wss://t.example", Wss, "t.example", 443, "/");
    }

    #[test]
    fn websockets_are_known_and_not_spoken() {
        let supported = |text: &str| text.parse::<TrackerUrl>().unwrap().is_supported();
        assert!(supported("udp://t.example:1") && supported("https://t.example"));
        assert!(!supported("wss://t.example") && !supported("ws://t.example"));
    }

    #[test]
    fn what_is_no_tracker_url_says_why() {
        let check =
            |text: &str, error| assert_eq!(text.parse::<TrackerUrl>(), Err(error), "{text}");
        check(
            "ftp://t.example/announce",
            InvalidTrackerUrl::Scheme("ftp".into()),
        );
        check("udp:///announce", InvalidTrackerUrl::NoHost);
        check("http://t.example:0/announce", InvalidTrackerUrl::PortZero);
        check(
            "announce",
            InvalidTrackerUrl::NotAUrl(url::ParseError::RelativeUrlWithoutBase),
        );
        let long = format!("http://t.example/{}", "a".repeat(URL_LEN_MAX));
        check(&long, InvalidTrackerUrl::TooLong { actual: long.len() });
    }
}
