//! Packets of BEP 15. All numbers are big-endian; packets may be longer than they need to be.

use std::net::{Ipv4Addr, SocketAddr};

use riverrun_base::InfoHash;

use crate::announce::{
    AnnounceEvent, AnnounceRequest, AnnounceResponse, PEERS_MAX, interval_within_bounds,
};
use crate::compact;
use crate::scrape::{ScrapeCounts, ScrapeResponse};

/// How many torrents one scrape may ask for (BEP 15: "up to about 74"): what fits an unfragmented answer.
pub(crate) const SCRAPE_HASHES_MAX: usize = 74;

/// Bytes of a connect request, and of its answer.
pub(crate) const CONNECT_LEN: usize = 16;
/// Bytes of an announce request without options.
pub(crate) const ANNOUNCE_LEN: usize = 98;

/// The magic number of connect requests.
const PROTOCOL_ID: u64 = 0x417_2710_1980;
const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// Bytes of scrape counts for one torrent.
const COUNTS_LEN: usize = 12;

/// BEP 41: no more options follow.
const OPTION_END: u8 = 0;
/// BEP 41: padding of one byte.
const OPTION_NOP: u8 = 1;
/// BEP 41: a part of the URL's path and query, of at most 255 bytes.
const OPTION_URL_DATA: u8 = 2;
/// How much of a URL is told in options: with it, an announce fits the smallest MTU of IPv6.
const URL_DATA_LEN_MAX: usize = 1024;

/// A server's proof that the client receives at its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// By which an answer is matched to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TransactionId(pub(crate) u32);

/// A request as a server reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// Asks for a connection id.
    Connect(TransactionId),
    /// Announces a peer.
    Announce(ConnectionId, TransactionId, AnnouncePacket<'a>),
    /// Asks for the counts of these swarms, at most [`SCRAPE_HASHES_MAX`].
    Scrape(ConnectionId, TransactionId, &'a [[u8; InfoHash::LEN]]),
}

/// What a server wants to know from an announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AnnouncePacket<'a> {
    pub(crate) info_hash: InfoHash,
    pub(crate) left: u64,
    pub(crate) event: AnnounceEvent,
    /// The address that the client claims to have.
    pub(crate) ip: Option<Ipv4Addr>,
    /// `None` if it is for the server to choose.
    pub(crate) num_want: Option<u32>,
    pub(crate) port: u16,
    /// What follows: options of BEP 41.
    pub(crate) options: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads a request; `None` if it is none.
    pub(crate) fn parse(datagram: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(datagram);
        let (first, action) = (fields.u64()?, fields.u32()?);
        let (connection, transaction) = (ConnectionId(first), TransactionId(fields.u32()?));
        match action {
            CONNECT if first == PROTOCOL_ID => Some(Self::Connect(transaction)),
            ANNOUNCE => Some(Self::Announce(
                connection,
                transaction,
                announce_packet(fields)?,
            )),
            SCRAPE => {
                let hashes = fields.0.as_chunks().0;
                let asked = hashes.len().min(SCRAPE_HASHES_MAX);
                (asked > 0).then(|| Self::Scrape(connection, transaction, &hashes[..asked]))
            }
            _ => None,
        }
    }
}

fn announce_packet(mut fields: Fields<'_>) -> Option<AnnouncePacket<'_>> {
    let info_hash = InfoHash(fields.array()?);
    let [_peer_id, _downloaded] = [fields.skip(20)?, fields.skip(8)?];
    let left = fields.u64()?;
    fields.skip(8)?; // uploaded
    let event = event(fields.u32()?);
    let ip = Some(Ipv4Addr::from(fields.array::<4>()?)).filter(|ip| !ip.is_unspecified());
    fields.skip(4)?; // key
    // -1 by default; some clients send other negative numbers.
    let num_want = Some(fields.u32()?).filter(|count| i32::try_from(*count).is_ok());
    let port = fields.u16()?;
    Some(AnnouncePacket {
        info_hash,
        left,
        event,
        ip,
        num_want,
        port,
        options: fields.0,
    })
}

/// BEP 15 knows no `paused`; the most widespread library sends 4 for it. Unknown ones count as none.
const fn event(code: u32) -> AnnounceEvent {
    match code {
        1 => AnnounceEvent::Completed,
        2 => AnnounceEvent::Started,
        3 => AnnounceEvent::Stopped,
        4 => AnnounceEvent::Paused,
        _ => AnnounceEvent::None,
    }
}

/// As BEP 15 has it: 4 for `paused` would be an error to trackers that check.
const fn event_code(event: AnnounceEvent) -> u32 {
    match event {
        AnnounceEvent::None | AnnounceEvent::Paused => 0,
        AnnounceEvent::Completed => 1,
        AnnounceEvent::Started => 2,
        AnnounceEvent::Stopped => 3,
    }
}

/// A connect request.
pub(crate) fn connect_request(transaction: TransactionId) -> Vec<u8> {
    request(ConnectionId(PROTOCOL_ID), CONNECT, transaction)
}

/// An announce; `path_and_query` of the tracker's URL goes into options.
pub(crate) fn announce_request(
    connection: ConnectionId,
    transaction: TransactionId,
    announce: &AnnounceRequest,
    path_and_query: &str,
) -> Vec<u8> {
    let mut out = request(connection, ANNOUNCE, transaction);
    out.extend_from_slice(announce.info_hash.as_bytes());
    out.extend_from_slice(announce.peer_id.as_bytes());
    for number in [
        announce.downloaded,
        announce.left_on_wire(),
        announce.uploaded,
    ] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    let num_want = announce.num_want_on_wire().unwrap_or(u32::MAX);
    let ip_as_seen = 0;
    for number in [
        event_code(announce.event),
        ip_as_seen,
        announce.key,
        num_want,
    ] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&announce.port.to_be_bytes());
    push_url_data(&mut out, path_and_query.as_bytes());
    out
}

/// A scrape of the first [`SCRAPE_HASHES_MAX`] torrents.
pub(crate) fn scrape_request(
    connection: ConnectionId,
    transaction: TransactionId,
    info_hashes: &[InfoHash],
) -> Vec<u8> {
    let mut out = request(connection, SCRAPE, transaction);
    for info_hash in info_hashes.iter().take(SCRAPE_HASHES_MAX) {
        out.extend_from_slice(info_hash.as_bytes());
    }
    out
}

fn request(connection: ConnectionId, action: u32, transaction: TransactionId) -> Vec<u8> {
    let mut out = Vec::with_capacity(ANNOUNCE_LEN);
    out.extend_from_slice(&connection.0.to_be_bytes());
    out.extend_from_slice(&action.to_be_bytes());
    out.extend_from_slice(&transaction.0.to_be_bytes());
    out
}

/// A URL's path and query in as many options as it takes. Nothing of a URL that is too long: half a key is
/// no key.
fn push_url_data(out: &mut Vec<u8>, url_data: &[u8]) {
    if url_data.len() > URL_DATA_LEN_MAX {
        return;
    }
    for part in url_data.chunks(usize::from(u8::MAX)) {
        // Invariant: a chunk of at most 255 bytes.
        let len = u8::try_from(part.len()).unwrap_or(u8::MAX);
        out.extend_from_slice(&[OPTION_URL_DATA, len]);
        out.extend_from_slice(part);
    }
}

/// The path and query that options tell, of at most [`URL_DATA_LEN_MAX`] bytes. Unknown options are passed
/// over, and options that are cut off end the list.
pub(crate) fn url_data(options: &[u8]) -> Vec<u8> {
    let (mut fields, mut data) = (Fields(options), Vec::new());
    while let Some([kind]) = fields.array::<1>() {
        match kind {
            OPTION_END => break,
            OPTION_NOP => {}
            _ => {
                let part = fields
                    .array()
                    .and_then(|[len]| fields.skip(usize::from(len)));
                let Some(part) = part else { break };
                if kind == OPTION_URL_DATA && data.len() + part.len() <= URL_DATA_LEN_MAX {
                    data.extend_from_slice(part);
                }
            }
        }
    }
    data
}

/// An answer as a client reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Response<'a> {
    /// A connection id.
    Connect(ConnectionId),
    /// To an announce, from the interval on.
    Announce(&'a [u8]),
    /// To a scrape: counts.
    Scrape(&'a [u8]),
    /// A refusal, and its reason.
    Error(&'a [u8]),
}

impl<'a> Response<'a> {
    /// Reads an answer; `None` if it is none.
    pub(crate) fn parse(datagram: &'a [u8]) -> Option<(TransactionId, Self)> {
        let mut fields = Fields(datagram);
        let (action, transaction) = (fields.u32()?, TransactionId(fields.u32()?));
        let response = match action {
            CONNECT => Self::Connect(ConnectionId(fields.u64()?)),
            ANNOUNCE => Self::Announce(fields.0),
            SCRAPE => Self::Scrape(fields.0),
            ERROR => Self::Error(fields.0),
            _ => return None,
        };
        Some((transaction, response))
    }
}

/// Reads the answer of the tracker at `tracker` to an announce: whether peers have six bytes or eighteen is
/// decided by the address family of the packet. `None` if it is too short.
pub(crate) fn announce_response(body: &[u8], tracker: SocketAddr) -> Option<AnnounceResponse> {
    let mut fields = Fields(body);
    let interval = i32::from_be_bytes(fields.array()?);
    let (leechers, seeders) = (fields.count()?, fields.count()?);
    let (v4, v6) = if tracker.is_ipv4() {
        (fields.0, &[][..])
    } else {
        (&[][..], fields.0)
    };
    let peers = compact::read_v4(v4)
        .chain(compact::read_v6(v6))
        .filter(|peer| peer.port() != 0);
    Some(AnnounceResponse {
        interval: interval_within_bounds(interval.into()),
        min_interval: None,
        peers: peers.take(PEERS_MAX).collect(),
        seeders,
        leechers,
        downloaded: None,
        external_ip: None,
        tracker_id: None,
        warning: None,
    })
}

/// Reads the answer to a scrape of `info_hashes`; those without counts are left out.
pub(crate) fn scrape_response(body: &[u8], info_hashes: &[InfoHash]) -> ScrapeResponse {
    let counts = body.as_chunks::<COUNTS_LEN>().0.iter().filter_map(|bytes| {
        let mut fields = Fields(bytes);
        let (seeders, downloaded) = (fields.count()?, fields.count()?);
        Some(ScrapeCounts {
            seeders,
            downloaded,
            leechers: fields.count()?,
            downloaders: None,
        })
    });
    ScrapeResponse {
        files: info_hashes.iter().copied().zip(counts).collect(),
    }
}

/// Starts the answer to a connect.
pub(crate) fn push_connect_response(
    out: &mut Vec<u8>,
    transaction: TransactionId,
    connection: ConnectionId,
) {
    push_response(out, CONNECT, transaction);
    out.extend_from_slice(&connection.0.to_be_bytes());
}

/// Starts the answer to an announce; the peers follow.
pub(crate) fn push_announce_response(
    out: &mut Vec<u8>,
    transaction: TransactionId,
    [interval_secs, leechers, seeders]: [u32; 3],
) {
    push_response(out, ANNOUNCE, transaction);
    for number in [interval_secs, leechers, seeders] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// Starts the answer to a scrape; the counts follow.
pub(crate) fn push_scrape_response(out: &mut Vec<u8>, transaction: TransactionId) {
    push_response(out, SCRAPE, transaction);
}

/// Appends the counts of one torrent to the answer to a scrape.
pub(crate) fn push_counts(out: &mut Vec<u8>, [seeders, completed, leechers]: [u32; 3]) {
    for number in [seeders, completed, leechers] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// Writes a refusal.
pub(crate) fn push_error(out: &mut Vec<u8>, transaction: TransactionId, reason: &str) {
    push_response(out, ERROR, transaction);
    out.extend_from_slice(reason.as_bytes());
}

fn push_response(out: &mut Vec<u8>, action: u32, transaction: TransactionId) {
    out.extend_from_slice(&action.to_be_bytes());
    out.extend_from_slice(&transaction.0.to_be_bytes());
}

/// What is left to read of a packet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn skip(&mut self, len: usize) -> Option<&'a [u8]> {
        let (skipped, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(skipped)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A count of peers, which is unknown if it is negative.
    #[expect(clippy::option_option, reason = "cut off, or there and unknown")]
    fn count(&mut self) -> Option<Option<u32>> {
        Some(Some(self.u32()?).filter(|count| i32::try_from(*count).is_ok()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use riverrun_base::PeerId;

    use super::*;
    use crate::announce::AnnouncedEncryption;

    const TRANSACTION: TransactionId = TransactionId(0x0102_0304);
    const CONNECTION: ConnectionId = ConnectionId(0xa0a1_a2a3_a4a5_a6a7);

    fn announce() -> AnnounceRequest {
        AnnounceRequest {
            info_hash: InfoHash([1; 20]),
            peer_id: PeerId([2; 20]),
            port: 0x1ae1,
            uploaded: 5,
            downloaded: 3,
            left: Some(4),
            event: AnnounceEvent::Started,
            num_want: None,
            key: 0x0a0b_0c0d,
            tracker_id: None,
            encryption: AnnouncedEncryption::None,
        }
    }

    #[test]
    fn a_connect_request_is_sixteen_bytes() {
        let packet = connect_request(TRANSACTION);
        assert_eq!(
            packet,
            [
                0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 1, 2, 3, 4
            ]
        );
        assert_eq!(Request::parse(&packet), Some(Request::Connect(TRANSACTION)));
        assert_eq!(packet.len(), CONNECT_LEN);
    }

    #[test]
    fn an_announce_request_has_its_fields_where_bep_15_says() {
        let packet = announce_request(CONNECTION, TRANSACTION, &announce(), "/a?b");
        assert_eq!(packet[..8], CONNECTION.0.to_be_bytes());
        assert_eq!(packet[8..16], [0, 0, 0, 1, 1, 2, 3, 4]);
        assert_eq!(packet[16..56], [[1; 20], [2; 20]].concat());
        assert_eq!(packet[56..80], [3_u64, 4, 5].map(u64::to_be_bytes).concat());
        assert_eq!(packet[80..84], [0, 0, 0, 2], "started");
        assert_eq!(
            packet[84..88],
            [0; 4],
            "our address is for the tracker to see"
        );
        assert_eq!(packet[88..92], [10, 11, 12, 13]);
        assert_eq!(packet[92..96], [0xff; 4]);
        assert_eq!(packet[96..98], [0x1a, 0xe1]);
        assert_eq!(packet[98..], *b"\x02\x04/a?b");
    }

    #[test]
    fn a_server_reads_what_a_client_writes() {
        let request = AnnounceRequest {
            num_want: Some(7),
            left: None,
            ..announce()
        };
        let packet = announce_request(CONNECTION, TRANSACTION, &request, "");
        let fields = AnnouncePacket {
            info_hash: request.info_hash,
            left: u64::MAX >> 1,
            event: AnnounceEvent::Started,
            ip: None,
            num_want: Some(7),
            port: 0x1ae1,
            options: b"",
        };
        assert_eq!(
            Request::parse(&packet),
            Some(Request::Announce(CONNECTION, TRANSACTION, fields))
        );
        assert_eq!(Request::parse(&packet[..97]), None);

        let hashes = [InfoHash([8; 20]), InfoHash([9; 20])];
        let packet = scrape_request(CONNECTION, TRANSACTION, &hashes);
        let raw = hashes.map(|hash| hash.0);
        assert_eq!(
            Request::parse(&packet),
            Some(Request::Scrape(CONNECTION, TRANSACTION, &raw))
        );
        assert_eq!(Request::parse(&packet[..30]), None, "a scrape of nothing");
    }

    #[test]
    fn no_scrape_asks_for_more_than_fits() {
        let packet = scrape_request(CONNECTION, TRANSACTION, &[InfoHash([8; 20]); 100]);
        assert_eq!(packet.len(), 16 + 20 * SCRAPE_HASHES_MAX);
        let longer = [&packet[..], &[0; 200]].concat();
        let Some(Request::Scrape(.., hashes)) = Request::parse(&longer) else {
            panic!("a scrape")
        };
        assert_eq!(hashes.len(), SCRAPE_HASHES_MAX);
    }

    #[test]
    fn a_paused_client_sends_no_event_over_udp() {
        let request = AnnounceRequest {
            event: AnnounceEvent::Paused,
            ..announce()
        };
        assert_eq!(
            announce_request(CONNECTION, TRANSACTION, &request, "")[80..84],
            [0; 4]
        );
        assert_eq!(event(4), AnnounceEvent::Paused);
        assert_eq!(event(5), AnnounceEvent::None);
    }

    #[test]
    fn long_urls_are_chained_and_too_long_ones_left_out() {
        for (len, parts) in [(0, 0), (255, 1), (256, 2), (1024, 5), (1025, 0)] {
            let path = "x".repeat(len);
            let packet = announce_request(CONNECTION, TRANSACTION, &announce(), &path);
            let told = if parts == 0 { 0 } else { len };
            assert_eq!(packet.len(), ANNOUNCE_LEN + told + 2 * parts, "{len}");
            assert_eq!(url_data(&packet[ANNOUNCE_LEN..]), path.as_bytes()[..told]);
        }
    }

    #[test]
    fn options_are_read_as_in_the_examples_of_bep_41() {
        for (options, data) in [
            (&b"\x02\x0c/dir?a=b&c=d"[..], &b"/dir?a=b&c=d"[..]),
            (
                b"\x02\x0c/dir?a=b&c=d\x01\x01\x00\x02\x01x",
                b"/dir?a=b&c=d",
            ),
            (b"\x02\x00", b""),
            (b"\x07\x03abc\x02\x01x\x01\x02\x01y", b"xy"),
            (b"\x02\x01x\x02\x05cut", b"x"),
            (b"\x02\x01x\x02", b"x"),
            (b"", b""),
        ] {
            assert_eq!(url_data(options), data, "{}", options.escape_ascii());
        }
    }

    #[test]
    fn the_address_family_of_the_packet_decides_how_peers_are_read() {
        let mut packet = Vec::new();
        push_announce_response(&mut packet, TRANSACTION, [1800, 10, 50]);
        packet.extend_from_slice(&[
            127, 0, 0, 1, 0x1a, 0xe1, 10, 0, 0, 1, 0xc8, 0xd5, 1, 1, 1, 1, 0, 0,
        ]);
        let Some((TRANSACTION, Response::Announce(body))) = Response::parse(&packet) else {
            panic!("an answer to an announce")
        };
        let read = |tracker: &str| announce_response(body, tracker.parse().unwrap()).unwrap();
        assert_eq!(read("192.0.2.1:1").peers.len(), 2, "none with port zero");
        assert_eq!(read("192.0.2.1:1").leechers, Some(10));
        assert_eq!(read("192.0.2.1:1").seeders, Some(50));
        assert_eq!(
            read("[2001:db8::1]:1").peers.len(),
            0,
            "18 bytes, and port zero"
        );
        assert_eq!(
            announce_response(&body[..11], "192.0.2.1:1".parse().unwrap()),
            None
        );
    }

    #[test]
    fn a_scrape_names_its_torrents_by_their_order() {
        let mut packet = Vec::new();
        push_scrape_response(&mut packet, TRANSACTION);
        push_counts(&mut packet, [1, 2, 3]);
        push_counts(&mut packet, [4, 5, u32::MAX]);
        packet.push(0);
        let Some((_, Response::Scrape(body))) = Response::parse(&packet) else {
            panic!("a scrape")
        };
        let hashes = [InfoHash([8; 20]), InfoHash([9; 20]), InfoHash([10; 20])];
        let response = scrape_response(body, &hashes);
        let counts = |n: usize| response.counts(hashes[n]);
        let first = ScrapeCounts {
            seeders: Some(1),
            downloaded: Some(2),
            leechers: Some(3),
            ..Default::default()
        };
        assert_eq!(counts(0), Some(first));
        assert_eq!(counts(1).unwrap().leechers, None);
        assert_eq!(counts(2), None);
    }

    proptest! {
        #[test]
        fn no_packet_panics(packet: Vec<u8>, action in 0_u8..6) {
            let _ = Request::parse(&packet);
            let _ = url_data(&packet);
            if let Some((_, Response::Announce(body))) = Response::parse(&packet) {
                let _ = announce_response(body, "192.0.2.1:1".parse().unwrap());
            }
            let request = [&[0; 11], &[action][..], &packet].concat();
            let _ = Request::parse(&request);
            let _ = announce_response(&packet, "[::1]:1".parse().unwrap());
            let _ = scrape_response(&packet, &[InfoHash([0; 20]); 3]);
        }
    }
}
