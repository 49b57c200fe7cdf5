//! Announce and scrape over HTTP, the client's side: the URL to fetch, and the body that comes back.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use riverrun_base::InfoHash;
use riverrun_bencode::{Dict, Document, Limits, Value};

use crate::announce::{
    AnnounceRequest, AnnounceResponse, INTERVAL_DEFAULT, PEERS_MAX, interval_within_bounds,
};
use crate::compact::{self, STRIDE_V4, STRIDE_V6};
use crate::failure::{InvalidReply, Retry, TrackerFailure};
use crate::scrape::{ScrapeCounts, ScrapeResponse};
use crate::text::one_line;
use crate::url::TrackerUrl;

/// The longest body that is read, in bytes; a driver stops reading there. The longest honest one, thousands
/// of peers, has a tenth of it.
pub const BODY_LEN_MAX: usize = 1 << 20;

/// How many torrents one scrape asks for: more would make a URL that servers refuse.
pub const SCRAPE_HASHES_MAX: usize = 60;

/// The longest `tracker id` that is repeated to its tracker, in bytes; they are short tokens.
const TRACKER_ID_LEN_MAX: usize = 256;

/// Trackers nest three levels; see also [`BODY_LEN_MAX`].
const LIMITS: Limits = Limits {
    depth: 8,
    tokens: 100_000,
    bytes: BODY_LEN_MAX,
};

/// All but the unreserved characters of RFC 3986. Above all, a space is `%20`: not all trackers take `+`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The URL to fetch for an announce. The query of the tracker's own URL comes first, as private trackers want
/// it.
pub fn announce_url(tracker: &TrackerUrl, request: &AnnounceRequest) -> String {
    let mut url = tracker.before_query().to_owned();
    start_query(&mut url, tracker);
    push_bytes(&mut url, "info_hash", request.info_hash.as_bytes());
    push_bytes(&mut url, "&peer_id", request.peer_id.as_bytes());
    let (port, left) = (request.port, request.left_on_wire());
    let AnnounceRequest {
        uploaded,
        downloaded,
        key,
        ..
    } = request;
    // Invariant: writing to a string does not fail.
    let _ = write!(
        url,
        "&port={port}&uploaded={uploaded}&downloaded={downloaded}&left={left}&key={key:08X}"
    );
    if let Some(event) = request.event.as_str() {
        let _ = write!(url, "&event={event}");
    }
    if let Some(count) = request.num_want_on_wire() {
        let _ = write!(url, "&numwant={count}");
    }
    url.push_str("&compact=1&no_peer_id=1");
    url.push_str(request.encryption.arguments());
    if let Some(id) = &request.tracker_id {
        push_bytes(&mut url, "&trackerid", id);
    }
    url
}

/// The URL to fetch for a scrape of the first [`SCRAPE_HASHES_MAX`] of `info_hashes`. `None` if the last
/// element of the announce URL's path has no `announce` to replace (BEP 48): that tracker has no scrape.
pub fn scrape_url(tracker: &TrackerUrl, info_hashes: &[InfoHash]) -> Option<String> {
    let (parents, last) = tracker.before_query().rsplit_once('/')?;
    if !last.contains("announce") || !tracker.path_and_query().starts_with('/') {
        return None;
    }
    let mut url = format!("{parents}/{}", last.replacen("announce", "scrape", 1));
    start_query(&mut url, tracker);
    for (n, info_hash) in info_hashes.iter().take(SCRAPE_HASHES_MAX).enumerate() {
        push_bytes(
            &mut url,
            if n == 0 { "info_hash" } else { "&info_hash" },
            info_hash.as_bytes(),
        );
    }
    Some(url)
}

/// Reads the body of an answer to an announce; its HTTP status matters only if this fails with
/// [`TrackerFailure::InvalidReply`].
pub fn parse_announce(body: &[u8]) -> Result<AnnounceResponse, TrackerFailure> {
    let document = parse(body)?;
    let reply = dict(&document)?;
    let interval = reply.get(b"interval").and_then(|seconds| seconds.as_int());
    let min_interval = reply
        .get(b"min interval")
        .and_then(|seconds| seconds.as_int());
    let tracker_id = reply.get(b"tracker id").and_then(|id| id.as_bytes());
    Ok(AnnounceResponse {
        interval: interval.map_or(INTERVAL_DEFAULT, interval_within_bounds),
        min_interval: min_interval.map(interval_within_bounds),
        peers: peers(reply)?,
        seeders: count(reply, b"complete"),
        leechers: count(reply, b"incomplete"),
        downloaded: count(reply, b"downloaded"),
        external_ip: reply
            .get(b"external ip")
            .and_then(|ip| packed_ip(ip.as_bytes()?)),
        tracker_id: tracker_id
            .filter(|id| id.len() <= TRACKER_ID_LEN_MAX)
            .map(<[u8]>::to_vec),
        warning: reply
            .get(b"warning message")
            .and_then(|text| Some(one_line(text.as_bytes()?))),
    })
}

/// Reads the body of an answer to a scrape. What is no info-hash is left out; so are torrents past the first
/// [`SCRAPE_HASHES_MAX`], since nobody asked for them.
pub fn parse_scrape(body: &[u8]) -> Result<ScrapeResponse, TrackerFailure> {
    let document = parse(body)?;
    let files = dict(&document)?
        .get(b"files")
        .and_then(|files| files.as_dict());
    let files = files
        .ok_or(InvalidReply::NoFiles)?
        .iter()
        .filter_map(|(hash, counts)| {
            Some((
                InfoHash::from_slice(hash)?,
                scrape_counts(counts.as_dict()?),
            ))
        });
    Ok(ScrapeResponse {
        files: files.take(SCRAPE_HASHES_MAX).collect(),
    })
}

/// Starts the query with the tracker's own, ready for the first parameter.
fn start_query(url: &mut String, tracker: &TrackerUrl) {
    url.push('?');
    if let Some(own) = tracker
        .query()
        .map(|own| own.trim_end_matches('&'))
        .filter(|own| !own.is_empty())
    {
        url.push_str(own);
        url.push('&');
    }
}

fn push_bytes(url: &mut String, name: &str, value: &[u8]) {
    url.push_str(name);
    url.push('=');
    url.extend(percent_encode(value, ESCAPED));
}

/// Scripts that serve trackers tend to end their output with a line break.
fn parse(body: &[u8]) -> Result<Document<'_>, InvalidReply> {
    if body.len() > BODY_LEN_MAX {
        return Err(InvalidReply::TooLong {
            actual: body.len(),
            limit: BODY_LEN_MAX,
        });
    }
    Ok(Document::parse(body.trim_ascii_end(), LIMITS)?)
}

/// The dictionary that every answer is, unless it is a failure.
fn dict<'doc, 'src>(document: &'doc Document<'src>) -> Result<Dict<'doc, 'src>, TrackerFailure> {
    let reply = document
        .root()
        .as_dict()
        .ok_or(InvalidReply::NotADictionary)?;
    match reply
        .get(b"failure reason")
        .and_then(|reason| reason.as_bytes())
    {
        Some(reason) => Err(TrackerFailure::refused(
            reason,
            reply.get(b"retry in").and_then(retry),
        )),
        None => Ok(reply),
    }
}

/// BEP 31 says an integer of minutes, and writes a string in its example.
fn retry(value: Value<'_, '_>) -> Option<Retry> {
    match (value.as_u64(), value.as_str()) {
        (Some(minutes), _) => Some(Retry::after_minutes(minutes)),
        (None, Some("never")) => Some(Retry::Never),
        (None, text) => text?.parse().ok().map(Retry::after_minutes),
    }
}

fn peers(reply: Dict<'_, '_>) -> Result<Vec<SocketAddr>, InvalidReply> {
    let packed = reply
        .get(b"peers")
        .and_then(|peers| peers.as_bytes())
        .unwrap_or_default();
    let packed6 = reply
        .get(b"peers6")
        .and_then(|peers| peers.as_bytes())
        .unwrap_or_default();
    for (packed, stride) in [(packed, STRIDE_V4), (packed6, STRIDE_V6)] {
        if !packed.len().is_multiple_of(stride) {
            return Err(InvalidReply::CompactPeers {
                actual: packed.len(),
                stride,
            });
        }
    }
    let listed = reply.get(b"peers").and_then(|peers| peers.as_list());
    let listed = listed
        .into_iter()
        .flat_map(|list| list.iter().filter_map(listed_peer));
    let peers = compact::read_v4(packed)
        .chain(compact::read_v6(packed6))
        .chain(listed);
    Ok(peers
        .filter(|peer| peer.port() != 0)
        .take(PEERS_MAX)
        .collect())
}

/// A peer in the form of BEP 3. A name instead of an address is left out: resolving it would let a tracker
/// make us ask for any name.
fn listed_peer(peer: Value<'_, '_>) -> Option<SocketAddr> {
    let peer = peer.as_dict()?;
    let ip: IpAddr = peer.get(b"ip")?.as_str()?.parse().ok()?;
    let port = u16::try_from(peer.get(b"port")?.as_u64()?).ok()?;
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// BEP 24: four or sixteen bytes.
fn packed_ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || {
        <[u8; 4]>::try_from(bytes)
            .ok()
            .map(|ip| Ipv4Addr::from(ip).into())
    };
    let v6 = || {
        <[u8; 16]>::try_from(bytes)
            .ok()
            .map(|ip| IpAddr::V6(Ipv6Addr::from(ip)))
    };
    v4().or_else(v6).map(|ip: IpAddr| ip.to_canonical())
}

fn count(dict: Dict<'_, '_>, key: &[u8]) -> Option<u32> {
    dict.get(key)?
        .as_u64()
        .map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}

fn scrape_counts(file: Dict<'_, '_>) -> ScrapeCounts {
    ScrapeCounts {
        seeders: count(file, b"complete"),
        leechers: count(file, b"incomplete"),
        downloaded: count(file, b"downloaded"),
        downloaders: count(file, b"downloaders"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use riverrun_base::PeerId;

    use super::*;
    use crate::announce::{AnnounceEvent, AnnouncedEncryption, INTERVAL_MAX, INTERVAL_MIN};

    fn request() -> AnnounceRequest {
        AnnounceRequest {
            info_hash: InfoHash(*b"\0\x01 +&=%ABCabc019-._~"),
            peer_id: PeerId(*b"-RR0010-\xff\xfe\xfd /?#[]@!x"),
            port: 6881,
            uploaded: 1,
            downloaded: 2,
            left: Some(3),
            event: AnnounceEvent::Started,
            num_want: Some(50),
            key: 0xbeef,
            tracker_id: None,
            encryption: AnnouncedEncryption::None,
        }
    }

    fn url(text: &str) -> TrackerUrl {
        text.parse().unwrap()
    }

    #[test]
    fn an_announce_url_is_what_private_trackers_expect() {
        assert_eq!(
            announce_url(
                &url("https://t.example/announce.php?passkey=s3cret#frag"),
                &request()
            ),
            "https://t.example/announce.php?passkey=s3cret\
             &info_hash=%00%01%20%2B%26%3D%25ABCabc019-._~&peer_id=-RR0010-%FF%FE%FD%20%2F%3F%23%5B%5D%40%21x\
             &port=6881&uploaded=1&downloaded=2&left=3&key=0000BEEF&event=started&numwant=50\
             &compact=1&no_peer_id=1"
        );
    }

    #[test]
    fn an_empty_query_of_the_tracker_leaves_no_trace() {
        for own in ["", "?", "?&"] {
            let url = announce_url(&url(&format!("http://t.example/announce{own}")), &request());
            assert!(
                url.starts_with("http://t.example/announce?info_hash="),
                "{url}"
            );
        }
    }

    #[test]
    fn an_unknown_size_is_a_large_number_left() {
        let url = announce_url(
            &url("http://t.example/a"),
            &AnnounceRequest {
                left: None,
                ..request()
            },
        );
        assert!(url.contains("&left=9223372036854775807&"), "{url}");
    }

    #[test]
    fn a_stopping_client_wants_no_peers_and_repeats_the_tracker_id() {
        let request = AnnounceRequest {
            event: AnnounceEvent::Stopped,
            tracker_id: Some(b"a b".to_vec()),
            ..request()
        };
        let url = announce_url(&url("http://t.example/a"), &request);
        assert!(url.contains("&event=stopped&numwant=0&"), "{url}");
        assert!(url.ends_with("&trackerid=a%20b"), "{url}");
    }

    #[test]
    fn trackers_are_told_of_encryption_as_others_tell_them() {
        let ends = |encryption| {
            let request = AnnounceRequest {
                encryption,
                ..request()
            };
            let url = announce_url(&url("http://t.example/a"), &request);
            let (_, end) = url.split_once("&no_peer_id=1").unwrap();
            end.to_owned()
        };
        assert_eq!(ends(AnnouncedEncryption::None), "");
        assert_eq!(ends(AnnouncedEncryption::Supported), "&supportcrypto=1");
        assert_eq!(
            ends(AnnouncedEncryption::Required),
            "&supportcrypto=1&requirecrypto=1"
        );
    }

    #[test]
    fn scrape_replaces_announce_in_the_last_path_element_only() {
        let check = |announce: &str, scrape: Option<&str>| {
            let scrape = scrape.map(str::to_owned);
            assert_eq!(
                scrape_url(&url(announce), &[InfoHash([b'x'; 20])]),
                scrape,
                "{announce}"
            );
        };
        let x = "info_hash=xxxxxxxxxxxxxxxxxxxx";
        check(
            "http://t.example/announce",
            Some(&format!("http://t.example/scrape?{x}")),
        );
        check(
            "http://t.example/x/announce.php?k=1",
            Some(&format!("http://t.example/x/scrape.php?k=1&{x}")),
        );
        check(
            "http://announce.example/announce/announce",
            Some(&format!("http://announce.example/announce/scrape?{x}")),
        );
        check("http://announce.example/", None);
        check("http://t.example/announce/key", None);
        check("http://t.example/a?x=announce", None);
        check("udp://announce", None);
    }

    #[test]
    fn a_scrape_asks_for_several_torrents() {
        let hashes = [InfoHash([b'a'; 20]), InfoHash([b'b'; 20])];
        assert_eq!(
            scrape_url(&url("http://t.example/announce"), &hashes).unwrap(),
            "http://t.example/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa&info_hash=bbbbbbbbbbbbbbbbbbbb"
        );
    }

    #[test]
    fn a_compact_answer_is_read() {
        let body =
            b"d8:completei5e10:downloadedi7e11:external ip4:\x01\x02\x03\x0410:incompletei6e\
            8:intervali900e12:min intervali120e5:peers12:\x7f\0\0\x01\x1a\xe1\x0a\0\0\x01\0\0\
            6:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\x5010:tracker id2:ab\
            15:warning message4:slowe\r\n";
        let response = parse_announce(body).unwrap();
        assert_eq!(
            response,
            AnnounceResponse {
                interval: Duration::from_mins(15),
                min_interval: Some(Duration::from_mins(2)),
                // The one with port zero is not there.
                peers: vec![
                    "127.0.0.1:6881".parse().unwrap(),
                    "[2001:db8::1]:80".parse().unwrap()
                ],
                seeders: Some(5),
                leechers: Some(6),
                downloaded: Some(7),
                external_ip: Some("1.2.3.4".parse().unwrap()),
                tracker_id: Some(b"ab".to_vec()),
                warning: Some("slow".into()),
            }
        );
        assert_eq!(response.wait_min(), Duration::from_mins(2));
    }

    #[test]
    fn a_list_of_dictionaries_is_read() {
        let body = b"d5:peersld2:ip9:127.0.0.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881eed2:ip3:::14:porti1ee\
            d2:ip9:localhost4:porti1eed2:ip7:1.2.3.44:porti65536eed2:ip7:1.2.3.44:porti-1eei7eee";
        let response = parse_announce(body).unwrap();
        let peers: Vec<_> = response.peers.iter().map(ToString::to_string).collect();
        assert_eq!(peers, ["127.0.0.1:6881", "[::1]:1"]);
        assert_eq!(response.interval, INTERVAL_DEFAULT);
        assert_eq!((response.seeders, response.min_interval), (None, None));
    }

    #[test]
    fn hostile_numbers_are_bounded() {
        let body =
            b"d8:completei-1e10:incompletei99999999999e8:intervali0e12:min intervali99999999999ee";
        let response = parse_announce(body).unwrap();
        assert_eq!(
            (response.interval, response.min_interval),
            (INTERVAL_MIN, Some(INTERVAL_MAX))
        );
        assert_eq!(
            (response.seeders, response.leechers),
            (None, Some(u32::MAX))
        );
        let mut body = format!("d5:peers{}:", 6 * 100_000).into_bytes();
        body.resize(body.len() + 6 * 100_000, 1);
        body.push(b'e');
        assert_eq!(parse_announce(&body).unwrap().peers.len(), PEERS_MAX);
    }

    #[test]
    fn failures_say_why_and_when_to_come_back() {
        let check = |body: &str, retry| {
            let reason = "no".to_owned();
            let expected = TrackerFailure::Refused { reason, retry };
            assert_eq!(
                parse_announce(body.as_bytes()),
                Err(expected.clone()),
                "{body}"
            );
            assert_eq!(parse_scrape(body.as_bytes()), Err(expected), "{body}");
        };
        check("d14:failure reason2:noe", None);
        let five = Some(Retry::After(Duration::from_mins(5)));
        check("d14:failure reason2:no8:retry ini5ee", five);
        check("d14:failure reason2:no8:retry in1:5e", five);
        check(
            "d14:failure reason2:no8:retry in5:nevere",
            Some(Retry::Never),
        );
        check("d14:failure reason2:no8:retry in3:whye", None);
        check("d14:failure reason2:no8:retry ini-5ee", None);
        let day = Some(Retry::After(Duration::from_hours(24)));
        check(
            "d14:failure reason2:no8:retry ini18446744073709551615ee",
            day,
        );
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let check = |body: &[u8]| parse_announce(body).unwrap_err();
        assert_eq!(check(b"i7e"), InvalidReply::NotADictionary.into());
        assert_eq!(
            check(b"d5:peers5:abcdee"),
            InvalidReply::CompactPeers {
                actual: 5,
                stride: 6
            }
            .into()
        );
        let limit = BODY_LEN_MAX;
        assert_eq!(
            check(&vec![b'x'; limit + 1]),
            InvalidReply::TooLong {
                actual: limit + 1,
                limit
            }
            .into()
        );
        let html = check(b"<html>404</html>");
        assert!(
            matches!(html, TrackerFailure::InvalidReply(InvalidReply::Bencode(_))),
            "{html}"
        );
        assert_eq!(parse_scrape(b"de"), Err(InvalidReply::NoFiles.into()));
    }

    #[test]
    fn a_scrape_is_read() {
        let body = b"d5:filesd3:odddee";
        assert!(parse_scrape(body).is_err());
        let body = b"d5:filesd20:xxxxxxxxxxxxxxxxxxxxd8:completei11e10:downloadedi13772e\
            11:downloadersi4e10:incompletei19ee3:oddd8:completei1eeee";
        let response = parse_scrape(body).unwrap();
        assert_eq!(response.files.len(), 1);
        assert_eq!(
            response.counts(InfoHash([b'x'; 20])),
            Some(ScrapeCounts {
                seeders: Some(11),
                leechers: Some(19),
                downloaded: Some(13772),
                downloaders: Some(4),
            })
        );
        assert_eq!(response.counts(InfoHash([b'y'; 20])), None);
    }

    proptest! {
        #[test]
        fn no_body_panics(body: Vec<u8>) {
            let _ = parse_announce(&body);
            let _ = parse_scrape(&body);
        }

        #[test]
        fn no_dictionary_panics(
            key in "interval|min interval|peers6?|external ip|tracker id|retry in|files|complete",
            value in prop_oneof![
                any::<i64>().prop_map(|n| format!("i{n}e")),
                "[a-z]{0,40}".prop_map(|text| format!("{}:{text}", text.len())),
                Just("ld2:ip3:::14:porti1eei1e1:xe".to_owned()),
                Just("d20:aaaaaaaaaaaaaaaaaaaad8:completei1eee".to_owned()),
            ],
        ) {
            let body = format!("d{}:{key}{value}e", key.len());
            if let Ok(response) = parse_announce(body.as_bytes()) {
                prop_assert!(response.interval >= INTERVAL_MIN && response.interval <= INTERVAL_MAX);
            }
            let _ = parse_scrape(body.as_bytes());
        }
    }
}
