//! Announce and scrape over HTTP, the tracker's side: the request's target, and the body to answer with.

use std::net::{IpAddr, SocketAddr};

use percent_encoding::percent_decode;
use riverrun_base::InfoHash;
use riverrun_bencode::Writer;
use thiserror::Error;

use super::announce::{Announce, AnnounceReply, Families, SwarmCounts};
use super::trusted::TrustedSources;
use crate::announce::AnnounceEvent;
use crate::compact;
use crate::failure::Retry;

/// The longest target of a request that is read, in bytes: that of an announce has some hundred, and this
/// is enough to scrape as many torrents as [`SCRAPE_HASHES_MAX`].
pub const TARGET_LEN_MAX: usize = 8 * 1024;

/// How many torrents one scrape may ask for; further ones are passed over.
pub const SCRAPE_HASHES_MAX: usize = 100;

/// Why a request is refused. Its message is fit for `failure reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// The target is too long.
    #[error("a request of {actual} bytes where at most {TARGET_LEN_MAX} are accepted")]
    TooLong {
        /// Its length in bytes.
        actual: usize,
    },
    /// The path ends in neither `announce` nor `scrape`.
    #[error("not found: expected announce or scrape")]
    UnknownPath,
    /// A parameter that must be there is not.
    #[error("missing {0}")]
    Missing(&'static str),
    /// A parameter has a value that it cannot have.
    #[error("invalid {0}")]
    Invalid(&'static str),
    /// An announce names several torrents.
    #[error("several info_hash in one announce")]
    SeveralTorrents,
    /// A scrape of everything is not offered: it costs much and tells all that is tracked.
    #[error("a scrape needs an info_hash")]
    FullScrape,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpRequest {
    /// An announce.
    Announce(HttpAnnounce),
    /// A scrape of these torrents, at least one and at most [`SCRAPE_HASHES_MAX`].
    Scrape(Vec<InfoHash>),
}

/// In which form a client takes peers (BEP 23).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerFormat {
    /// Packed into strings.
    Compact,
    /// As dictionaries. They have no `peer id`, as if the client had sent `no_peer_id=1`: nobody needs it, and
    /// it would be most of what a tracker has to remember.
    Dictionaries,
}

/// An announce as a client sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpAnnounce {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Where the client listens; not zero.
    pub port: u16,
    /// How many bytes it has still to get; if it does not say, some.
    pub left: u64,
    /// Why it announces.
    pub event: AnnounceEvent,
    /// How many peers it wants.
    pub num_want: Option<u32>,
    /// In which form.
    pub format: PeerFormat,
    /// The address that it claims to have.
    pub ip: Option<IpAddr>,
}

impl HttpAnnounce {
    /// What it means, coming from `source`.
    pub fn resolve(&self, source: IpAddr, trusted: &TrustedSources) -> Announce {
        Announce {
            info_hash: self.info_hash,
            peer: SocketAddr::new(trusted.peer_ip(source, self.ip), self.port),
            event: self.event,
            left: self.left,
            num_want: self.num_want,
            families: Families::Both,
        }
    }
}

/// Reads the target of a request: its path, of which the last element counts, and its query.
pub fn parse(target: &str) -> Result<HttpRequest, InvalidRequest> {
    if target.len() > TARGET_LEN_MAX {
        return Err(InvalidRequest::TooLong {
            actual: target.len(),
        });
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path.rsplit_once('/').map(|(_, last)| last) {
        Some("announce") => parse_announce(query).map(HttpRequest::Announce),
        Some("scrape") => parse_scrape(query).map(HttpRequest::Scrape),
        _ => Err(InvalidRequest::UnknownPath),
    }
}

fn parse_announce(query: &str) -> Result<HttpAnnounce, InvalidRequest> {
    let (mut torrent, mut peer_port, mut has_peer_id) = (None, None, false);
    let mut announce = HttpAnnounce {
        info_hash: InfoHash([0; InfoHash::LEN]),
        port: 0,
        left: u64::MAX,
        event: AnnounceEvent::None,
        num_want: None,
        format: PeerFormat::Compact,
        ip: None,
    };
    for (name, value) in parameters(query) {
        match name {
            "info_hash" if torrent.is_some() => return Err(InvalidRequest::SeveralTorrents),
            "info_hash" => torrent = Some(info_hash(value)?),
            "peer_id" => has_peer_id = decode(value, "peer_id")?.len() == 20,
            "port" => peer_port = Some(port(value)?),
            "left" => announce.left = left(value)?,
            "event" => announce.event = event(value),
            // What is no number, or negative, leaves it to us.
            "numwant" => announce.num_want = value.parse().ok(),
            "compact" if value == "0" => announce.format = PeerFormat::Dictionaries,
            "ip" => announce.ip = ip(value),
            _ => {}
        }
    }
    if !has_peer_id {
        return Err(InvalidRequest::Missing("peer_id of 20 bytes"));
    }
    let info_hash = torrent.ok_or(InvalidRequest::Missing("info_hash"))?;
    let port = peer_port.ok_or(InvalidRequest::Missing("port"))?;
    Ok(HttpAnnounce {
        info_hash,
        port,
        ..announce
    })
}

fn parse_scrape(query: &str) -> Result<Vec<InfoHash>, InvalidRequest> {
    let hashes = parameters(query).filter(|(name, _)| *name == "info_hash");
    let hashes: Result<Vec<_>, _> = hashes
        .take(SCRAPE_HASHES_MAX)
        .map(|(_, value)| info_hash(value))
        .collect();
    hashes.and_then(|hashes| {
        if hashes.is_empty() {
            Err(InvalidRequest::FullScrape)
        } else {
            Ok(hashes)
        }
    })
}

fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
}

/// Percent-decoded bytes, of which no parameter has more than 64.
fn decode(value: &str, name: &'static str) -> Result<Vec<u8>, InvalidRequest> {
    let decoded: Vec<u8> = percent_decode(value.as_bytes()).take(65).collect();
    if decoded.len() > 64 {
        Err(InvalidRequest::Invalid(name))
    } else {
        Ok(decoded)
    }
}

fn info_hash(value: &str) -> Result<InfoHash, InvalidRequest> {
    let bytes = decode(value, "info_hash")?;
    InfoHash::from_slice(&bytes).ok_or(InvalidRequest::Invalid("info_hash"))
}

/// Nobody listens on port zero.
fn port(value: &str) -> Result<u16, InvalidRequest> {
    value
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or(InvalidRequest::Invalid("port"))
}

/// Clients that do not know it send -1; it is enough to know that they are not complete.
fn left(value: &str) -> Result<u64, InvalidRequest> {
    let negative = value
        .strip_prefix('-')
        .and_then(|digits| digits.parse::<u64>().ok());
    match (value.parse(), negative) {
        (Ok(left), _) => Ok(left),
        (Err(_), Some(_)) => Ok(u64::MAX),
        (Err(_), None) => Err(InvalidRequest::Invalid("left")),
    }
}

fn event(value: &str) -> AnnounceEvent {
    match value {
        "started" => AnnounceEvent::Started,
        "completed" => AnnounceEvent::Completed,
        "stopped" => AnnounceEvent::Stopped,
        "paused" => AnnounceEvent::Paused,
        _ => AnnounceEvent::None,
    }
}

fn ip(value: &str) -> Option<IpAddr> {
    let decoded = decode(value, "ip").ok()?;
    std::str::from_utf8(&decoded).ok()?.parse().ok()
}

/// The body of an answer to an announce that came from `source`, which it is told (BEP 24).
pub fn announce_body(reply: &AnnounceReply, format: PeerFormat, source: IpAddr) -> Vec<u8> {
    let mut out = Writer::new();
    let counts = reply.counts;
    out.dict().key(b"complete").uint(counts.seeders.into());
    out.key(b"downloaded").uint(counts.downloaded.into());
    match source.to_canonical() {
        IpAddr::V4(ip) => out.key(b"external ip").bytes(&ip.octets()),
        IpAddr::V6(ip) => out.key(b"external ip").bytes(&ip.octets()),
    };
    out.key(b"incomplete").uint(counts.leechers.into());
    out.key(b"interval").uint(reply.interval.as_secs());
    out.key(b"min interval").uint(reply.interval_min.as_secs());
    match format {
        PeerFormat::Compact => push_compact(&mut out, &reply.peers),
        PeerFormat::Dictionaries => push_dictionaries(&mut out, &reply.peers),
    }
    out.end();
    out.finish()
}

fn push_compact(out: &mut Writer, peers: &[SocketAddr]) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for peer in peers {
        match peer {
            SocketAddr::V4(peer) => compact::write_v4(&mut v4, *peer),
            SocketAddr::V6(peer) => compact::write_v6(&mut v6, *peer),
        }
    }
    // Many clients take an answer without it for an error, even if it is empty.
    out.key(b"peers").bytes(&v4);
    if !v6.is_empty() {
        out.key(b"peers6").bytes(&v6);
    }
}

fn push_dictionaries(out: &mut Writer, peers: &[SocketAddr]) {
    out.key(b"peers").list();
    for peer in peers {
        let ip = peer.ip().to_string();
        out.dict()
            .key(b"ip")
            .bytes(ip.as_bytes())
            .key(b"port")
            .uint(peer.port().into())
            .end();
    }
    out.end();
}

/// The body of an answer to a scrape; a torrent that is asked for twice is answered once.
pub fn scrape_body(files: impl IntoIterator<Item = (InfoHash, SwarmCounts)>) -> Vec<u8> {
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort_unstable_by_key(|(info_hash, _)| *info_hash);
    files.dedup_by_key(|(info_hash, _)| *info_hash);
    let mut out = Writer::new();
    out.dict().key(b"files").dict();
    for (info_hash, counts) in files {
        out.key(info_hash.as_bytes()).dict();
        out.key(b"complete").uint(counts.seeders.into());
        out.key(b"downloaded").uint(counts.downloaded.into());
        out.key(b"downloaders").uint(counts.downloaders.into());
        out.key(b"incomplete").uint(counts.leechers.into());
        out.end();
    }
    out.end().end();
    out.finish()
}

/// The body of a refusal, and when to come back (BEP 31), in whole minutes.
pub fn failure_body(reason: &str, retry: Option<Retry>) -> Vec<u8> {
    let mut out = Writer::new();
    out.dict().key(b"failure reason").bytes(reason.as_bytes());
    match retry {
        Some(Retry::After(wait)) => {
            out.key(b"retry in").uint(wait.as_secs().div_ceil(60));
        }
        Some(Retry::Never) => {
            out.key(b"retry in").bytes(b"never");
        }
        None => {}
    }
    out.end();
    out.finish()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use riverrun_base::PeerId;

    use super::*;
    use crate::announce::{AnnounceRequest, AnnouncedEncryption};
    use crate::failure::TrackerFailure;
    use crate::http as client;

    const GOOD: &str = "info_hash=%00234567890123456789a&peer_id=12345678901234567890&port=6881";

    fn announce(query: &str) -> Result<HttpAnnounce, InvalidRequest> {
        match parse(&format!("/announce?{query}"))? {
            HttpRequest::Announce(announce) => Ok(announce),
            HttpRequest::Scrape(_) => panic!("an announce"),
        }
    }

    #[test]
    fn an_announce_is_read() {
        let read = announce(&format!(
            "{GOOD}&left=5&event=paused&numwant=7&compact=0&ip=%3a%3a1&key=x&supportcrypto=1&x&&=y"
        ));
        assert_eq!(
            read,
            Ok(HttpAnnounce {
                info_hash: InfoHash(*b"\x00234567890123456789a"),
                port: 6881,
                left: 5,
                event: AnnounceEvent::Paused,
                num_want: Some(7),
                format: PeerFormat::Dictionaries,
                ip: Some("::1".parse().unwrap()),
            })
        );
        assert_eq!(
            parse(&format!("/some/key/announce?{GOOD}")).unwrap(),
            parse(&format!("/announce?{GOOD}")).unwrap()
        );
    }

    #[test]
    fn what_may_be_missing_has_a_default() {
        let read = announce(GOOD).unwrap();
        assert_eq!(
            (read.left, read.event, read.num_want),
            (u64::MAX, AnnounceEvent::None, None)
        );
        assert_eq!((read.format, read.ip), (PeerFormat::Compact, None));
        let read = announce(&format!(
            "{GOOD}&left=-1&numwant=-1&event=&ip=localhost&compact=1"
        ))
        .unwrap();
        assert_eq!(
            (read.left, read.event, read.num_want, read.ip),
            (u64::MAX, AnnounceEvent::None, None, None)
        );
    }

    #[test]
    fn a_bad_announce_says_why() {
        let check = |query: &str, error| assert_eq!(announce(query), Err(error), "{query}");
        check("", InvalidRequest::Missing("peer_id of 20 bytes"));
        check(
            "peer_id=12345678901234567890&port=1",
            InvalidRequest::Missing("info_hash"),
        );
        check(
            "info_hash=12345678901234567890&peer_id=12345678901234567890",
            InvalidRequest::Missing("port"),
        );
        check(
            "info_hash=1234567890123456789&port=1",
            InvalidRequest::Invalid("info_hash"),
        );
        check(
            "info_hash=%zz345678901234567890",
            InvalidRequest::Invalid("info_hash"),
        );
        check(
            &format!("info_hash={}", "a".repeat(1000)),
            InvalidRequest::Invalid("info_hash"),
        );
        check(
            "peer_id=short&info_hash=12345678901234567890&port=1",
            InvalidRequest::Missing("peer_id of 20 bytes"),
        );
        for port in ["0", "65536", "-1", "x", ""] {
            check(&format!("port={port}"), InvalidRequest::Invalid("port"));
        }
        check(&format!("{GOOD}&left=x"), InvalidRequest::Invalid("left"));
        check(&format!("{GOOD}&left=-"), InvalidRequest::Invalid("left"));
        check(&format!("{GOOD}&{GOOD}"), InvalidRequest::SeveralTorrents);
    }

    #[test]
    fn only_announce_and_scrape_are_known() {
        for target in [
            "",
            "/",
            "/announce/",
            "announce",
            "/announcer",
            "/stats?x=/announce",
        ] {
            assert_eq!(parse(target), Err(InvalidRequest::UnknownPath), "{target}");
        }
        let actual = TARGET_LEN_MAX + 1;
        assert_eq!(
            parse(&"x".repeat(actual)),
            Err(InvalidRequest::TooLong { actual })
        );
    }

    #[test]
    fn a_scrape_has_one_torrent_or_some() {
        assert_eq!(parse("/scrape"), Err(InvalidRequest::FullScrape));
        assert_eq!(parse("/scrape?x=y"), Err(InvalidRequest::FullScrape));
        assert_eq!(
            parse("/scrape?info_hash=x"),
            Err(InvalidRequest::Invalid("info_hash"))
        );
        let one = "info_hash=12345678901234567890";
        let hashes = vec![InfoHash(*b"12345678901234567890"); 2];
        assert_eq!(
            parse(&format!("/scrape?{one}&{one}")),
            Ok(HttpRequest::Scrape(hashes))
        );
        let many = vec![one; 150].join("&");
        let Ok(HttpRequest::Scrape(hashes)) = parse(&format!("/scrape?{many}")) else {
            panic!("a scrape")
        };
        assert_eq!(hashes.len(), SCRAPE_HASHES_MAX);
    }

    fn reply() -> AnnounceReply {
        AnnounceReply {
            interval: Duration::from_mins(30),
            interval_min: Duration::from_mins(5),
            counts: SwarmCounts {
                seeders: 1,
                leechers: 2,
                downloaders: 1,
                downloaded: 3,
            },
            peers: vec![
                "192.0.2.1:1".parse().unwrap(),
                "[2001:db8::1]:2".parse().unwrap(),
            ],
        }
    }

    #[test]
    fn a_client_reads_what_the_tracker_writes() {
        let source: IpAddr = "::ffff:198.51.100.1".parse().unwrap();
        for format in [PeerFormat::Compact, PeerFormat::Dictionaries] {
            let response =
                client::parse_announce(&announce_body(&reply(), format, source)).unwrap();
            assert_eq!(response.peers, reply().peers);
            assert_eq!(
                (response.seeders, response.leechers, response.downloaded),
                (Some(1), Some(2), Some(3))
            );
            assert_eq!(response.interval, reply().interval);
            assert_eq!(response.min_interval, Some(reply().interval_min));
            assert_eq!(response.external_ip, Some(source.to_canonical()));
        }
        let (a, b) = (InfoHash([1; 20]), InfoHash([2; 20]));
        let body = scrape_body([
            (b, reply().counts),
            (a, SwarmCounts::default()),
            (b, reply().counts),
        ]);
        let response = client::parse_scrape(&body).unwrap();
        assert_eq!(response.files.len(), 2);
        let counts = response.counts(b).unwrap();
        assert_eq!((counts.seeders, counts.leechers), (Some(1), Some(2)));
        assert_eq!((counts.downloaded, counts.downloaders), (Some(3), Some(1)));
    }

    #[test]
    fn an_answer_without_peers_still_has_the_key() {
        let reply = AnnounceReply {
            peers: Vec::new(),
            ..reply()
        };
        let body = announce_body(&reply, PeerFormat::Compact, "192.0.2.1".parse().unwrap());
        assert!(body.ends_with(b"5:peers0:e"), "{}", body.escape_ascii());
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        let check = |retry| match client::parse_announce(&failure_body("no", retry)) {
            Err(TrackerFailure::Refused { reason, retry }) => (reason, retry),
            other => panic!("a refusal, not {other:?}"),
        };
        assert_eq!(check(None), ("no".to_owned(), None));
        assert_eq!(check(Some(Retry::Never)).1, Some(Retry::Never));
        let wait = Some(Retry::After(Duration::from_mins(2)));
        assert_eq!(check(Some(Retry::After(Duration::from_secs(61)))).1, wait);
    }

    proptest! {
        #[test]
        fn no_target_panics(target in "/(announce|scrape)?\\??([a-z_]{0,9}=?[%0-9a-f&.-]{0,70}){0,5}", any: String) {
            let _ = parse(&target);
            let _ = parse(&any);
            let _ = parse(&format!("/announce?info_hash={any}&port={any}"));
        }

        #[test]
        fn the_tracker_reads_what_a_client_asks(
            hash: [u8; 20],
            id: [u8; 20],
            port in 1_u16..,
            left in prop::option::of(0..u64::MAX >> 1),
            num_want: Option<u32>,
        ) {
            let request = AnnounceRequest {
                info_hash: InfoHash(hash),
                peer_id: PeerId(id),
                port,
                uploaded: 0,
                downloaded: 0,
                left,
                event: AnnounceEvent::Started,
                num_want,
                key: 0,
                tracker_id: None,
                encryption: AnnouncedEncryption::None,
            };
            let url = client::announce_url(&"http://t.example/announce?k=1".parse().unwrap(), &request);
            let target = url.strip_prefix("http://t.example").unwrap();
            let Ok(HttpRequest::Announce(read)) = parse(target) else { panic!("{target}") };
            prop_assert_eq!((read.info_hash, read.port, read.num_want), (request.info_hash, port, num_want));
            prop_assert_eq!(read.left, request.left_on_wire());
            prop_assert_eq!(read.format, PeerFormat::Compact);
        }
    }
}
