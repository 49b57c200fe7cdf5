//! Magnet links (BEP 9, BEP 46, BEP 53).

mod publisher;

use std::fmt::{self, Write as _};
use std::ops::RangeInclusive;
use std::str::FromStr;

use data_encoding::BASE32;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use riverrun_base::{InfoHashes, Sha1Digest, Sha256Digest};
use thiserror::Error;

use crate::url::tracker_url;
use crate::{HostPort, Layout};

/// The longest link that is read, in bytes: room for a thousand trackers.
const LINK_LEN_MAX: usize = 64 * 1024;
/// The multihash prefix of a SHA-256: its code and its length.
const SHA256_PREFIX: &str = "1220";
/// What stays as it is in the value of a parameter (RFC 3986, "unreserved").
const VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A text that is no magnet link.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MagnetError {
    /// It does not start with `magnet:?`.
    #[error("a magnet link starts with \"magnet:?\"")]
    Scheme,
    /// It is too long.
    #[error("a link of {0} bytes, more than {LINK_LEN_MAX}")]
    TooLong(usize),
    /// It names no torrent.
    #[error("the link has no info-hash (urn:btih or urn:btmh)")]
    NoHash,
    /// An info-hash is neither 40 hexadecimal digits nor 32 of base 32, or, after `urn:btmh:1220`,
    /// not 64 hexadecimal digits.
    #[error("{0:?} is no info-hash")]
    InvalidHash(String),
    /// It names more than one torrent.
    #[error("the link names two torrents: {0:?} is the second")]
    TwoTorrents(String),
    /// It names no publisher (BEP 46).
    #[error("the link has no public key (urn:btpk)")]
    NoKey,
    /// A public key is not 64 hexadecimal digits.
    #[error("{0:?} is no public key")]
    InvalidKey(String),
    /// A salt is not hexadecimal, or longer than 64 bytes (BEP 44).
    #[error("{0:?} is no salt: up to 64 bytes in hexadecimal")]
    InvalidSalt(String),
}

pub use publisher::PublisherLink;

/// A magnet link: what is needed to get the metadata of a torrent from peers.
///
/// Its text form, by [`fmt::Display`], reads back as the same link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Magnet {
    /// The info-hashes (`xt`).
    pub hashes: InfoHashes,
    /// A name to show until the metadata is here (`dn`).
    pub name: Option<String>,
    /// Trackers (`tr`), each once, each a tier of its own.
    pub trackers: Vec<String>,
    /// Web seeds (`ws`), each once.
    pub web_seeds: Vec<String>,
    /// Peers (`x.pe`).
    pub peers: Vec<HostPort>,
    /// DHT nodes (`dht`).
    pub nodes: Vec<HostPort>,
    /// Which files to fetch (`so`, BEP 53), from zero, pad files not counted; sorted, no two touch.
    /// `None` is all.
    pub select: Option<Vec<RangeInclusive<u32>>>,
}

impl Magnet {
    /// A link with nothing but the info-hashes.
    pub const fn new(hashes: InfoHashes) -> Self {
        Self {
            hashes,
            name: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            peers: Vec::new(),
            nodes: Vec::new(),
            select: None,
        }
    }

    /// Which files of `layout` are to be fetched, by index; pad files count as wanted.
    pub fn wanted(&self, layout: &Layout) -> Vec<bool> {
        let mut number = 0;
        let mut next = || {
            number += 1;
            number - 1
        };
        layout
            .files()
            .iter()
            .map(|file| file.is_pad() || self.selects(next()))
            .collect()
    }

    /// Whether file number `number`, pad files not counted, is to be fetched.
    fn selects(&self, number: u32) -> bool {
        self.select
            .as_ref()
            .is_none_or(|ranges| ranges.iter().any(|range| range.contains(&number)))
    }
}

/// The parameters as far as they are read.
#[derive(Default)]
struct Parameters {
    v1: Option<Sha1Digest>,
    v2: Option<Sha256Digest>,
    name: Option<String>,
    trackers: Vec<String>,
    web_seeds: Vec<String>,
    peers: Vec<HostPort>,
    nodes: Vec<HostPort>,
    select: Option<Vec<RangeInclusive<u32>>>,
    /// Who publishes the torrent, and under which salt, in hexadecimal (BEP 46).
    public_key: Option<[u8; 32]>,
    salt: Option<String>,
}

impl Parameters {
    fn read(text: &str) -> Result<Self, MagnetError> {
        let text = text.trim();
        if text.len() > LINK_LEN_MAX {
            return Err(MagnetError::TooLong(text.len()));
        }
        let query = text
            .split_at_checked("magnet:?".len())
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("magnet:?"));
        let (_, query) = query.ok_or(MagnetError::Scheme)?;
        let mut read = Self::default();
        for parameter in query.split('&') {
            // Links copied from HTML source have `&amp;` between parameters.
            let parameter = parameter.strip_prefix("amp;").unwrap_or(parameter);
            if let Some((key, value)) = parameter.split_once('=') {
                read.take(key, value)?;
            }
        }
        Ok(read)
    }
}

impl FromStr for Magnet {
    type Err = MagnetError;

    fn from_str(text: &str) -> Result<Self, MagnetError> {
        let read = Parameters::read(text)?;
        let hashes = InfoHashes::new(read.v1, read.v2).ok_or(MagnetError::NoHash)?;
        Ok(read.into_magnet(hashes))
    }
}

impl Parameters {
    fn into_magnet(self, hashes: InfoHashes) -> Magnet {
        let Self {
            name,
            trackers,
            web_seeds,
            peers,
            nodes,
            select,
            ..
        } = self;
        Magnet {
            hashes,
            name,
            trackers,
            web_seeds,
            peers,
            nodes,
            select,
        }
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), MagnetError> {
        // `xt.1`, `tr.2`: the number only tells parameters with the same key apart.
        let numbered = key
            .split_once('.')
            .filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
        let key = numbered.map_or(key, |(key, _)| key).to_ascii_lowercase();
        let decoded = percent_decode_str(value).decode_utf8_lossy();
        match key.as_str() {
            "xt" => self.take_topic(&decoded)?,
            "xs" => self.take_source(&decoded)?,
            "s" => self.salt = Some(decoded.into_owned()),
            "dn" => {
                let spaced = value.replace('+', " ");
                let name = percent_decode_str(&spaced).decode_utf8_lossy();
                self.name = Some(name.into_owned()).filter(|name| !name.is_empty());
            }
            "tr" => push_new(
                &mut self.trackers,
                tracker_url(&percent_decode_str(value).collect::<Vec<_>>()),
            ),
            "ws" => push_new(
                &mut self.web_seeds,
                Some(decoded.into_owned()).filter(|url| url.contains("://")),
            ),
            "x.pe" => push_new(&mut self.peers, decoded.parse().ok()),
            "dht" => push_new(&mut self.nodes, decoded.parse().ok()),
            "so" => self.select = select(&decoded).or(self.select.take()),
            _ => {}
        }
        Ok(())
    }

    /// Takes an exact source; those that are no public key are for other networks.
    fn take_source(&mut self, source: &str) -> Result<(), MagnetError> {
        let urn = source.split_at_checked("urn:btpk:".len());
        let Some((_, key)) = urn.filter(|(urn, _)| urn.eq_ignore_ascii_case("urn:btpk:")) else {
            return Ok(());
        };
        let digits = key.parse::<Sha256Digest>();
        let Sha256Digest(key) = digits.map_err(|_| MagnetError::InvalidKey(key.to_owned()))?;
        self.public_key = Some(key);
        Ok(())
    }

    /// Takes an exact topic; those that are no info-hash are for other networks.
    fn take_topic(&mut self, topic: &str) -> Result<(), MagnetError> {
        let invalid = || MagnetError::InvalidHash(topic.to_owned());
        let Some((urn, hash)) = topic.split_at_checked("urn:btih:".len()) else {
            return Ok(());
        };
        let taken = match urn.to_ascii_lowercase().as_str() {
            "urn:btih:" => set(&mut self.v1, btih(hash).ok_or_else(invalid)?),
            "urn:btmh:" => {
                let hash = hash
                    .strip_prefix(SHA256_PREFIX)
                    .and_then(|hash| hash.parse().ok());
                set(&mut self.v2, hash.ok_or_else(invalid)?)
            }
            _ => true,
        };
        if taken {
            Ok(())
        } else {
            Err(MagnetError::TwoTorrents(topic.to_owned()))
        }
    }
}

/// Whether `slot` is now, or was already, `value`.
fn set<T: Copy + PartialEq>(slot: &mut Option<T>, value: T) -> bool {
    *slot.get_or_insert(value) == value
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, new: Option<T>) {
    list.extend(new.filter(|new| !list.contains(new)));
}

fn btih(hash: &str) -> Option<Sha1Digest> {
    match hash.len() {
        40 => hash.parse().ok(),
        32 => Sha1Digest::from_slice(&BASE32.decode(hash.to_ascii_uppercase().as_bytes()).ok()?),
        _ => None,
    }
}

/// The ranges of a selection, sorted and merged; `None` if there is anything else in it than
/// numbers, `-` and `,`. Parts that are no range are left out.
fn select(text: &str) -> Option<Vec<RangeInclusive<u32>>> {
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b','))
    {
        return None;
    }
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last).then_some((first, last))
    };
    let mut ranges: Vec<_> = text.split(',').filter_map(range).collect();
    ranges.sort_unstable();
    let mut merged: Vec<RangeInclusive<u32>> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged
            .last_mut()
            .filter(|before| first <= before.end().saturating_add(1))
        {
            Some(before) => *before = *before.start()..=last.max(*before.end()),
            None => merged.push(first..=last),
        }
    }
    Some(merged)
}

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v1 = self.hashes.v1().map(|hash| format!("xt=urn:btih:{hash}"));
        let v2 = self
            .hashes
            .v2()
            .map(|hash| format!("xt=urn:btmh:{SHA256_PREFIX}{hash}"));
        let value = |key: &str, value: &str| format!("{key}={}", utf8_percent_encode(value, VALUE));
        let mut parameters: Vec<_> = v1.into_iter().chain(v2).collect();
        parameters.extend(self.name.iter().map(|name| value("dn", name)));
        parameters.extend(self.trackers.iter().map(|url| value("tr", url)));
        parameters.extend(self.web_seeds.iter().map(|url| value("ws", url)));
        parameters.extend(
            self.select
                .iter()
                .map(|ranges| format!("so={}", Selection(ranges))),
        );
        parameters.extend(self.peers.iter().map(|peer| format!("x.pe={peer}")));
        parameters.extend(self.nodes.iter().map(|node| format!("dht={node}")));
        write!(f, "magnet:?{}", parameters.join("&"))
    }
}

struct Selection<'a>(&'a [RangeInclusive<u32>]);

impl fmt::Display for Selection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, range) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_char(',')?;
            }
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{first}")?,
                (first, last) => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";
    const V2: &str = "abababababababababababababababababababababababababababababababab";

    fn parse(query: &str) -> Result<Magnet, MagnetError> {
        format!("magnet:?{query}").parse()
    }

    #[test]
    fn hashes_come_in_every_spelling() {
        let v1 = InfoHashes::v1_only(V1.parse().unwrap());
        let v2: Sha256Digest = V2.parse().unwrap();
        for (query, hashes) in [
            (format!("xt=urn:btih:{V1}"), v1),
            (format!("XT=URN:BTIH:{}", V1.to_uppercase()), v1),
            (format!("xt=urn%3Abtih%3A{V1}"), v1),
            (format!("xt=urn:btih:{}%64", &V1[..39]), v1),
            (format!("xt.1=urn:btih:{V1}&xt.2=urn:btih:{V1}"), v1),
            ("xt=urn:btih:ZXG43TONZXG43TONZXG43TONZXG43TON".into(), v1),
            ("xt=urn:btih:zxg43tonzxg43tonzxg43tonzxg43ton".into(), v1),
            (format!("xt=urn:btmh:1220{V2}"), InfoHashes::v2_only(v2)),
            (
                format!("xt=urn:btmh:1220{V2}&xt=urn:btih:{V1}"),
                InfoHashes::hybrid(v1.v1().unwrap(), v2),
            ),
            (format!("xt=urn:sha1:abc&xt=urn:btih:{V1}"), v1),
            (format!("dn=a&amp;xt=urn:btih:{V1}"), v1),
        ] {
            assert_eq!(
                parse(&query).map(|magnet| magnet.hashes),
                Ok(hashes),
                "{query}"
            );
        }
    }

    #[test]
    fn what_is_no_link_says_why() {
        let check =
            |query: &str, error: MagnetError| assert_eq!(parse(query), Err(error), "{query}");
        check("dn=foo", MagnetError::NoHash);
        check("xt=blah", MagnetError::NoHash);
        for hash in [
            "urn:btih:abababab",
            &format!("urn:btih:{}z", &V1[1..]),
            "urn:btih:",
            "urn:btmh:1220ab",
        ] {
            check(
                &format!("xt={hash}"),
                MagnetError::InvalidHash(hash.to_owned()),
            );
        }
        let sha1_multihash = format!("urn:btmh:1221{V2}");
        check(
            &format!("xt={sha1_multihash}"),
            MagnetError::InvalidHash(sha1_multihash.clone()),
        );
        let other = format!("urn:btih:{}", V1.replace("cd", "ef"));
        check(
            &format!("xt=urn:btih:{V1}&xt={other}"),
            MagnetError::TwoTorrents(other.clone()),
        );
        assert_eq!("http://x".parse::<Magnet>(), Err(MagnetError::Scheme));
        assert_eq!("magn\u{e9}t:?".parse::<Magnet>(), Err(MagnetError::Scheme));
        let long = "x".repeat(LINK_LEN_MAX + 1);
        assert_eq!(
            long.parse::<Magnet>(),
            Err(MagnetError::TooLong(long.len()))
        );
    }

    #[test]
    fn the_rest_is_taken_as_far_as_it_makes_sense() {
        let query = "dn=foo+bar%20%26&tr=udp%3A%2F%2Fa.b%3A1&tr=udp://a.b:1&tr.1=http://c/%25&tr=nonsense&tr=\
             &ws=http%3A%2F%2Fw%2F&x.pe=1.2.3.4:5&x.pe=[::1]:6&x.pe=%5B::1%5D:6&x.pe=host:7&x.pe=junk&dht=n:8&junk&=x";
        let magnet = parse(&format!("xt=urn:btih:{V1}&{query}")).unwrap();
        assert_eq!(magnet.name.as_deref(), Some("foo bar &"));
        assert_eq!(magnet.trackers, ["udp://a.b:1", "http://c/%"]);
        assert_eq!(magnet.web_seeds, ["http://w/"]);
        let peers: Vec<_> = magnet.peers.iter().map(ToString::to_string).collect();
        assert_eq!(peers, ["1.2.3.4:5", "[::1]:6", "host:7"]);
        assert_eq!(magnet.nodes.len(), 1);
        assert_eq!(magnet.to_string().parse(), Ok(magnet));
    }

    #[test]
    fn selections_are_sorted_and_merged() {
        let check = |text: &str, expected: &str| {
            let magnet = parse(&format!("xt=urn:btih:{V1}&so={text}")).unwrap();
            let shown = magnet
                .select
                .as_deref()
                .map(|ranges| Selection(ranges).to_string());
            assert_eq!(shown.as_deref().unwrap_or("all"), expected, "{text}");
            assert_eq!(magnet.to_string().parse(), Ok(magnet));
        };
        check("0,2,4,6-8", "0,2,4,6-8");
        check("8,6-7,0-3,2-9", "0-9");
        check("1,1,2", "1-2");
        check("4-3,-1,1-,,5", "5");
        check(
            "99999999999,4294967295,4294967294-4294967295",
            "4294967294-4294967295",
        );
        check("", "");
        check("a,1", "all");
    }
}
