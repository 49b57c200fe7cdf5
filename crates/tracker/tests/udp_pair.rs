//! The UDP client and the UDP server against each other, in virtual time, over a link that loses datagrams.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use riverrun_base::{InfoHash, PeerId, Rng, Time};
use riverrun_tracker::server::{
    ConnectionIds, Swarms, SwarmsConfig, TrustedSources, UdpHandled, UdpServer,
};
use riverrun_tracker::{
    AnnounceEvent, AnnounceRequest, AnnounceResponse, AnnouncedEncryption, ScrapeResponse,
    TrackerFailure, UdpTracker, UdpTrackerConfig, UdpTrackerEvent,
};

const INFO_HASH: InfoHash = InfoHash([7; 20]);
const LATENCY: Duration = Duration::from_millis(50);

/// A tracker, its clients by their addresses, and the link between them.
struct Link {
    now: Time,
    rng: Rng,
    /// One of so many datagrams gets lost.
    loss: Option<usize>,
    server: UdpServer,
    swarms: Swarms,
    clients: BTreeMap<IpAddr, UdpTracker>,
    handled: Vec<UdpHandled>,
}

impl Link {
    fn new(seed: u64, loss: Option<usize>) -> Self {
        let ids = ConnectionIds::new([9; 32]);
        Self {
            now: Time::ZERO,
            rng: Rng::new(seed),
            loss,
            server: UdpServer::new(ids, TrustedSources::default()),
            swarms: Swarms::new(SwarmsConfig::default(), seed),
            clients: BTreeMap::new(),
            handled: Vec::new(),
        }
    }

    fn client(&mut self, ip: IpAddr) -> &mut UdpTracker {
        let seed = self.rng.next_u64();
        let new = || UdpTracker::new(UdpTrackerConfig::default(), seed);
        self.clients.entry(ip).or_insert_with(new)
    }

    fn is_lost(&mut self) -> bool {
        self.loss.is_some_and(|loss| self.rng.below(loss) == 0)
    }

    /// Lets time pass until the one job under way, of the client at `from`, has ended.
    fn result(&mut self, from: IpAddr) -> UdpTrackerEvent {
        loop {
            let (mut packet, mut answer) = (Vec::new(), Vec::new());
            while let Some(tracker) = self.client(from).poll_transmit(&mut packet) {
                self.now += LATENCY;
                if self.is_lost() {
                    continue;
                }
                let source = SocketAddr::new(from, 40_000);
                let handled = self.server.handle_datagram(
                    self.now,
                    source,
                    &packet,
                    &mut self.swarms,
                    &mut answer,
                );
                self.handled.push(handled);
                self.now += LATENCY;
                if !answer.is_empty() && !self.is_lost() {
                    let now = self.now;
                    self.client(from).handle_datagram(now, tracker, &answer);
                }
            }
            if let Some(event) = self.client(from).poll_event() {
                return event;
            }
            let now = self
                .client(from)
                .poll_timeout()
                .expect("a job that waits has a timer");
            self.now = now;
            self.client(from).handle_timeout(now);
        }
    }

    fn announce(
        &mut self,
        from: &str,
        event: AnnounceEvent,
        left: u64,
    ) -> Result<AnnounceResponse, TrackerFailure> {
        let from: SocketAddr = from.parse().unwrap();
        let tracker = if from.is_ipv4() {
            "198.51.100.1:80"
        } else {
            "[2001:db8:1::1]:80"
        };
        let request = AnnounceRequest {
            info_hash: INFO_HASH,
            peer_id: PeerId([1; 20]),
            port: from.port(),
            uploaded: 0,
            downloaded: 0,
            left: Some(left),
            event,
            num_want: None,
            key: 1,
            tracker_id: None,
            encryption: AnnouncedEncryption::None,
        };
        let now = self.now;
        self.client(from.ip())
            .announce(now, tracker.parse().unwrap(), request, "/announce?k=1")
            .unwrap();
        match self.result(from.ip()) {
            UdpTrackerEvent::Announced { result, .. } => result,
            UdpTrackerEvent::Scraped { .. } => panic!("an announce"),
        }
    }

    fn scrape(&mut self) -> ScrapeResponse {
        let tracker = "198.51.100.1:80".parse().unwrap();
        let (now, from) = (self.now, "192.0.2.1".parse().unwrap());
        self.client(from)
            .scrape(now, tracker, &[INFO_HASH, InfoHash([8; 20])])
            .unwrap();
        match self.result(from) {
            UdpTrackerEvent::Scraped { result, .. } => result.unwrap(),
            UdpTrackerEvent::Announced { .. } => panic!("a scrape"),
        }
    }
}

fn names(response: &AnnounceResponse) -> Vec<String> {
    response.peers.iter().map(ToString::to_string).collect()
}

#[test]
fn a_peer_starts_completes_and_stops() {
    let mut link = Link::new(1, None);
    let first = link
        .announce("192.0.2.1:1", AnnounceEvent::Started, 5)
        .unwrap();
    assert_eq!(
        (first.peers.len(), first.seeders, first.leechers),
        (0, Some(0), Some(1))
    );
    assert!(first.interval >= SwarmsConfig::default().interval);
    let url_data = b"/announce?k=1".to_vec();
    assert_eq!(
        link.handled.last(),
        Some(&UdpHandled::Announced { url_data })
    );
    let second = link
        .announce("192.0.2.2:2", AnnounceEvent::Started, 0)
        .unwrap();
    assert_eq!(names(&second), ["192.0.2.1:1"]);
    let completed = link
        .announce("192.0.2.1:1", AnnounceEvent::Completed, 0)
        .unwrap();
    assert_eq!((completed.peers.len(), completed.seeders), (0, Some(2)));
    let stopped = link
        .announce("192.0.2.2:2", AnnounceEvent::Stopped, 0)
        .unwrap();
    assert_eq!((stopped.peers.len(), stopped.seeders), (0, Some(1)));
    let counts = link.scrape().counts(INFO_HASH).unwrap();
    assert_eq!(
        (counts.seeders, counts.leechers, counts.downloaded),
        (Some(1), Some(0), Some(1))
    );
    assert_eq!(
        link.scrape().files.len(),
        2,
        "an unknown torrent counts zero"
    );
}

#[test]
fn each_address_family_is_sent_its_own_peers() {
    let mut link = Link::new(1, None);
    for peer in ["192.0.2.1:1", "[2001:db8::1]:1"] {
        link.announce(peer, AnnounceEvent::Started, 5).unwrap();
    }
    let v4 = link
        .announce("192.0.2.2:2", AnnounceEvent::None, 5)
        .unwrap();
    let v6 = link
        .announce("[2001:db8::2]:2", AnnounceEvent::None, 5)
        .unwrap();
    assert_eq!(
        (names(&v4), names(&v6)),
        (vec!["192.0.2.1:1".into()], vec!["[2001:db8::1]:1".into()])
    );
    assert_eq!(v6.leechers, Some(4), "counted together");
}

#[test]
fn a_lossy_link_delays_and_does_not_break() {
    let (mut answered, mut timed_out) = (0, 0);
    for seed in 0..300 {
        let mut link = Link::new(seed, Some(4));
        match link.announce("192.0.2.1:1", AnnounceEvent::Started, 5) {
            Ok(response) => {
                assert_eq!(response.leechers, Some(1));
                answered += 1;
            }
            Err(failure) => {
                assert_eq!(failure, TrackerFailure::TimedOut);
                timed_out += 1;
            }
        }
        let client = link.client("192.0.2.1".parse().unwrap());
        assert_eq!((client.jobs_active(), client.poll_timeout()), (0, None));
    }
    assert!(
        answered > 200 && timed_out > 0,
        "{answered} answered, {timed_out} timed out"
    );
}
