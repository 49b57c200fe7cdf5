//! Announce and scrape over UDP, the tracker's side (BEP 15).

use std::net::{IpAddr, SocketAddr};

use riverrun_base::{InfoHash, Time};

use super::announce::{Announce, AnnounceReply, Families};
use super::connection_id::ConnectionIds;
use super::swarms::Swarms;
use super::trusted::TrustedSources;
use crate::announce::AnnounceEvent;
use crate::compact::{self, STRIDE_V4, STRIDE_V6};
use crate::udp::packet::{
    AnnouncePacket, CONNECT_LEN, Request, TransactionId, push_announce_response,
    push_connect_response, push_counts, push_error, push_scrape_response, url_data,
};

/// The longest answer, in bytes: what passes everywhere unfragmented (the smallest MTU of IPv6, less the
/// headers).
const ANSWER_LEN_MAX: usize = 1232;
/// Bytes of an answer to an announce before the peers.
const ANSWER_HEADER_LEN: usize = 20;

/// What a datagram was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UdpHandled {
    /// Not to be answered: no request, or one whose sender may not be who it says.
    Ignored,
    /// A client was given a connection id.
    Connected,
    /// A peer announced.
    Announced {
        /// The path and query of the URL that it used, if it told (BEP 41).
        url_data: Vec<u8>,
    },
    /// A client asked for numbers.
    Scraped,
    /// A request was refused.
    Refused,
}

/// Answers datagrams.
///
/// To a sender that has not shown that it receives at its address nothing is sent that is longer than what
/// it sent: the server is of no use to those who forge addresses to flood others.
#[derive(Debug)]
pub struct UdpServer {
    ids: ConnectionIds,
    trusted: TrustedSources,
}

impl UdpServer {
    /// A server that knows its connection ids by `ids`.
    pub const fn new(ids: ConnectionIds, trusted: TrustedSources) -> Self {
        Self { ids, trusted }
    }

    /// Takes a datagram, and replaces the content of `out` by the answer to send back; it is empty if there is
    /// none.
    pub fn handle_datagram(
        &self,
        now: Time,
        from: SocketAddr,
        datagram: &[u8],
        swarms: &mut Swarms,
        out: &mut Vec<u8>,
    ) -> UdpHandled {
        out.clear();
        let ip = from.ip().to_canonical();
        match Request::parse(datagram) {
            Some(Request::Connect(transaction)) => {
                const { assert!(CONNECT_LEN == 16, "an answer is as long as its request") };
                push_connect_response(out, transaction, self.ids.issue(now, ip));
                UdpHandled::Connected
            }
            Some(Request::Announce(id, transaction, packet)) if self.ids.verify(now, ip, id) => {
                self.announce(now, (ip, transaction), &packet, swarms, out)
            }
            Some(Request::Scrape(id, transaction, hashes)) if self.ids.verify(now, ip, id) => {
                scrape(transaction, hashes, swarms, out);
                UdpHandled::Scraped
            }
            _ => UdpHandled::Ignored,
        }
    }

    fn announce(
        &self,
        now: Time,
        (ip, transaction): (IpAddr, TransactionId),
        packet: &AnnouncePacket<'_>,
        swarms: &mut Swarms,
        out: &mut Vec<u8>,
    ) -> UdpHandled {
        if packet.port == 0 && packet.event != AnnounceEvent::Stopped {
            push_error(out, transaction, "invalid port");
            return UdpHandled::Refused;
        }
        let claimed = packet.ip.map(IpAddr::V4);
        let announce = Announce {
            info_hash: packet.info_hash,
            peer: SocketAddr::new(self.trusted.peer_ip(ip, claimed), packet.port),
            event: packet.event,
            left: packet.left,
            num_want: packet.num_want,
            families: Families::Own,
        };
        match swarms.announce(now, &announce) {
            Ok(reply) => {
                push_reply(out, transaction, &reply, ip);
                UdpHandled::Announced {
                    url_data: url_data(packet.options),
                }
            }
            Err(full) => {
                push_error(out, transaction, &full.to_string());
                UdpHandled::Refused
            }
        }
    }
}

/// Writes the peers of the family of the packet, as many as fit.
fn push_reply(out: &mut Vec<u8>, transaction: TransactionId, reply: &AnnounceReply, ip: IpAddr) {
    let interval_secs = u32::try_from(reply.interval.as_secs()).unwrap_or(u32::MAX);
    let counts = [interval_secs, reply.counts.leechers, reply.counts.seeders];
    push_announce_response(out, transaction, counts);
    let stride = if ip.is_ipv4() { STRIDE_V4 } else { STRIDE_V6 };
    let room = (ANSWER_LEN_MAX - ANSWER_HEADER_LEN) / stride;
    for peer in reply
        .peers
        .iter()
        .filter(|peer| peer.is_ipv4() == ip.is_ipv4())
        .take(room)
    {
        match peer {
            SocketAddr::V4(peer) => compact::write_v4(out, *peer),
            SocketAddr::V6(peer) => compact::write_v6(out, *peer),
        }
    }
}

fn scrape(
    transaction: TransactionId,
    info_hashes: &[[u8; InfoHash::LEN]],
    swarms: &Swarms,
    out: &mut Vec<u8>,
) {
    push_scrape_response(out, transaction);
    for info_hash in info_hashes {
        let counts = swarms.scrape(InfoHash(*info_hash));
        push_counts(out, [counts.seeders, counts.downloaded, counts.leechers]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use riverrun_base::{PeerId, Rng};

    use super::*;
    use crate::announce::{AnnounceRequest, AnnouncedEncryption};
    use crate::server::SwarmsConfig;
    use crate::udp::packet::{ConnectionId, announce_request, connect_request, scrape_request};

    const TRANSACTION: TransactionId = TransactionId(5);

    fn server() -> (UdpServer, Swarms) {
        let ids = ConnectionIds::new([3; 32]);
        let server = UdpServer::new(ids, TrustedSources::default());
        (server, Swarms::new(SwarmsConfig::default(), 1))
    }

    fn request() -> AnnounceRequest {
        AnnounceRequest {
            info_hash: InfoHash([1; 20]),
            peer_id: PeerId([2; 20]),
            port: 6881,
            uploaded: 0,
            downloaded: 0,
            left: None,
            event: AnnounceEvent::Started,
            num_want: Some(200),
            key: 1,
            tracker_id: None,
            encryption: AnnouncedEncryption::None,
        }
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_connect_is_answered_with_as_many_bytes() {
        let (server, mut swarms) = server();
        let (packet, mut out) = (connect_request(TRANSACTION), vec![1]);
        let handled = server.handle_datagram(
            Time::ZERO,
            addr("192.0.2.1:1"),
            &packet,
            &mut swarms,
            &mut out,
        );
        assert_eq!((handled, out.len()), (UdpHandled::Connected, packet.len()));
    }

    #[test]
    fn nothing_is_sent_to_who_has_no_good_id() {
        let (server, mut swarms) = server();
        let (now, from, mut out) = (Time::from_secs(1000), addr("192.0.2.1:1"), Vec::new());
        let mut rng = Rng::new(1);
        let old = server.ids.issue(Time::from_secs(879), from.ip());
        let future = server.ids.issue(Time::from_secs(1001), from.ip());
        let other = server.ids.issue(now, addr("192.0.2.2:1").ip());
        let forged = (0..10_000).map(|_| ConnectionId(rng.next_u64()));
        for id in [old, future, other].into_iter().chain(forged) {
            for packet in [
                announce_request(id, TRANSACTION, &request(), ""),
                scrape_request(id, TRANSACTION, &[InfoHash([1; 20]); 74]),
            ] {
                let handled = server.handle_datagram(now, from, &packet, &mut swarms, &mut out);
                assert_eq!((handled, out.len()), (UdpHandled::Ignored, 0));
            }
        }
        assert_eq!(swarms.stats().peers, 0);
    }

    #[test]
    fn answers_are_never_fragmented() {
        let (server, mut swarms) = server();
        let (now, mut out) = (Time::ZERO, Vec::new());
        for (n, peers_v4, peers_v6) in [(300_u16, 200, 67)] {
            for n in 0..n {
                let [high, low] = n.to_be_bytes();
                for ip in [
                    IpAddr::from([10, 0, high, low]),
                    IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]),
                ] {
                    let id = server.ids.issue(now, ip);
                    let packet = announce_request(id, TRANSACTION, &request(), "/x");
                    let from = SocketAddr::new(ip, 9);
                    let handled = server.handle_datagram(now, from, &packet, &mut swarms, &mut out);
                    assert_eq!(
                        handled,
                        UdpHandled::Announced {
                            url_data: b"/x".to_vec()
                        }
                    );
                    assert!(out.len() <= ANSWER_LEN_MAX);
                }
            }
            assert_eq!(out.len(), 20 + 18 * peers_v6);
            let from = addr("[::ffff:10.0.0.1]:9");
            let id = server.ids.issue(now, addr("10.0.0.1:9").ip());
            let packet = announce_request(id, TRANSACTION, &request(), "");
            server.handle_datagram(now, from, &packet, &mut swarms, &mut out);
            assert_eq!(out.len(), 20 + 6 * peers_v4);
        }
    }

    #[test]
    fn port_zero_is_refused() {
        let (server, mut swarms) = server();
        let (from, mut out) = (addr("192.0.2.1:1"), Vec::new());
        let id = server.ids.issue(Time::ZERO, from.ip());
        let packet = announce_request(
            id,
            TRANSACTION,
            &AnnounceRequest {
                port: 0,
                ..request()
            },
            "",
        );
        let handled = server.handle_datagram(Time::ZERO, from, &packet, &mut swarms, &mut out);
        assert_eq!(handled, UdpHandled::Refused);
        assert!(out.ends_with(b"invalid port"));
    }

    #[test]
    fn a_claimed_address_counts_from_the_own_host_only() {
        for (from, recorded) in [
            ("192.0.2.1:1", "192.0.2.1:6881"),
            ("127.0.0.1:1", "203.0.113.9:6881"),
        ] {
            let (server, mut swarms) = server();
            let (from, mut out) = (addr(from), Vec::new());
            let id = server.ids.issue(Time::ZERO, from.ip());
            let mut packet = announce_request(id, TRANSACTION, &request(), "");
            packet[84..88].copy_from_slice(&[203, 0, 113, 9]);
            server.handle_datagram(Time::ZERO, from, &packet, &mut swarms, &mut out);
            let other = addr("198.51.100.1:1");
            let id = server.ids.issue(Time::ZERO, other.ip());
            let packet = announce_request(id, TRANSACTION, &request(), "");
            server.handle_datagram(Time::ZERO, other, &packet, &mut swarms, &mut out);
            let peers: Vec<_> = compact::read_v4(&out[20..]).collect();
            assert_eq!(peers, [addr(recorded)]);
        }
    }

    proptest! {
        #[test]
        fn strangers_get_no_more_bytes_than_they_send(datagram: Vec<u8>, action in 0_u8..5) {
            let (server, mut swarms) = server();
            let mut out = Vec::new();
            let from = addr("192.0.2.1:1");
            server.handle_datagram(Time::ZERO, from, &datagram, &mut swarms, &mut out);
            prop_assert!(out.len() <= datagram.len());
            let magic = [&connect_request(TRANSACTION)[..11], &[action], &datagram].concat();
            server.handle_datagram(Time::ZERO, from, &magic, &mut swarms, &mut out);
            prop_assert!(out.len() <= magic.len());
        }

        #[test]
        fn no_datagram_with_a_good_id_panics(rest: Vec<u8>, action in 1_u8..3) {
            let (server, mut swarms) = server();
            let (from, mut out) = (addr("[2001:db8::1]:1"), Vec::new());
            let id = server.ids.issue(Time::ZERO, from.ip());
            let packet = [&id.0.to_be_bytes()[..], &[0, 0, 0, action], &rest].concat();
            server.handle_datagram(Time::ZERO, from, &packet, &mut swarms, &mut out);
        }
    }
}
