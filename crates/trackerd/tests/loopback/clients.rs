//! A tracker on loopback, and clients of it.

use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::{InfoHash, PeerId, Time};
use riverrun_tracker::{
    AnnounceEvent, AnnounceRequest, AnnounceResponse, AnnouncedEncryption, ScrapeResponse,
    TrackerFailure, UdpTracker, UdpTrackerConfig, UdpTrackerEvent,
};
use riverrun_trackerd::Trackerd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long to wait for what must come, before the test fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const INFO_HASH: InfoHash = InfoHash([b'h'; 20]);

pub(crate) fn loopback_v4() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) fn loopback_v6() -> SocketAddr {
    "[::1]:0".parse().unwrap()
}

/// Whether this machine has IPv6; says so if it has not.
#[expect(
    clippy::print_stderr,
    reason = "whoever runs the tests must see that one did nothing"
)]
pub(crate) async fn has_ipv6() -> bool {
    let has = UdpSocket::bind(loopback_v6()).await.is_ok();
    if !has {
        eprintln!("skipped: this machine has no IPv6");
    }
    has
}

/// A tracker with defaults, on one IPv4 address for each transport.
pub(crate) fn tracker() -> Trackerd {
    Trackerd::builder().http(loopback_v4()).udp(loopback_v4())
}

pub(crate) fn announce(port: u16, event: AnnounceEvent, left: u64) -> AnnounceRequest {
    AnnounceRequest {
        info_hash: INFO_HASH,
        peer_id: PeerId([b'p'; 20]),
        port,
        uploaded: 0,
        downloaded: 0,
        left: Some(left),
        event,
        num_want: None,
        key: 1,
        tracker_id: None,
        encryption: AnnouncedEncryption::None,
    }
}

/// The answer to a GET over a connection of its own: its status and its body.
pub(crate) async fn get(tracker: SocketAddr, target: &str) -> (u16, Vec<u8>) {
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: tracker.test\r\nConnection: close\r\n\r\n");
    let mut stream = TcpStream::connect(tracker).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_answer(&mut stream).await
}

/// Reads an answer, up to the end of the connection.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> (u16, Vec<u8>) {
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("an answer")
        .unwrap();
    let end = answer
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .expect("a head");
    let status = std::str::from_utf8(&answer[9..12])
        .unwrap()
        .parse()
        .unwrap();
    (status, answer.split_off(end + 4))
}

/// A client of UDP trackers with a real socket.
pub(crate) struct UdpClient {
    socket: UdpSocket,
    client: UdpTracker,
    now: Time,
}

impl UdpClient {
    pub(crate) async fn bind(addr: SocketAddr) -> Self {
        let socket = UdpSocket::bind(addr).await.unwrap();
        let client = UdpTracker::new(UdpTrackerConfig::default(), 1);
        Self {
            socket,
            client,
            now: Time::ZERO,
        }
    }

    pub(crate) async fn announce(
        &mut self,
        tracker: SocketAddr,
        request: AnnounceRequest,
    ) -> Result<AnnounceResponse, TrackerFailure> {
        self.client
            .announce(self.now, tracker, request, "/announce")
            .unwrap();
        match self.event().await {
            UdpTrackerEvent::Announced { result, .. } => result,
            UdpTrackerEvent::Scraped { .. } => panic!("an announce"),
        }
    }

    pub(crate) async fn scrape(
        &mut self,
        tracker: SocketAddr,
        info_hashes: &[InfoHash],
    ) -> ScrapeResponse {
        self.client.scrape(self.now, tracker, info_hashes).unwrap();
        match self.event().await {
            UdpTrackerEvent::Scraped { result, .. } => result.unwrap(),
            UdpTrackerEvent::Announced { .. } => panic!("a scrape"),
        }
    }

    /// Sends a datagram that is none of the client's own.
    pub(crate) async fn send(&self, tracker: SocketAddr, datagram: &[u8]) {
        self.socket.send_to(datagram, tracker).await.unwrap();
    }

    /// The next datagram, whatever it is.
    pub(crate) async fn receive(&self) -> (Vec<u8>, SocketAddr) {
        let mut datagram = vec![0; 4096];
        let received = timeout(PATIENCE, self.socket.recv_from(&mut datagram)).await;
        let (len, from) = received.expect("a datagram").unwrap();
        datagram.truncate(len);
        (datagram, from)
    }

    async fn event(&mut self) -> UdpTrackerEvent {
        let mut out = Vec::new();
        loop {
            while let Some(to) = self.client.poll_transmit(&mut out) {
                self.send(to, &out).await;
            }
            if let Some(event) = self.client.poll_event() {
                return event;
            }
            let (datagram, from) = self.receive().await;
            self.client.handle_datagram(self.now, from, &datagram);
        }
    }
}
