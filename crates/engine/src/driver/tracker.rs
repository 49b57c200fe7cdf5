//! Announces over HTTP and UDP: names are resolved, both address families asked, and the answers joined.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::StatusCode;
use riverrun_base::{InfoHash, Nearness};
use riverrun_swarm::{Input, TorrentKey, TrackerKey};
use riverrun_tracker::{
    AnnounceEvent, AnnounceRequest, AnnounceResponse, ScrapeCounts, ScrapeResponse, TrackerFailure,
    TrackerHost, TrackerScheme, TrackerUrl, http,
};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use super::clock::Clock;
use super::identity::Ports;
use super::shard::ShardMessage;
use super::socket::{Family, Sockets};
use super::udp_tracker::UdpTrackers;
use super::web::{Author, Reach, Web, read_body};
use crate::error::StartError;
use crate::network::{NetworkOptions, NetworkState};

/// The longest body that is read, before and after decompression.
const HTTP_BODY_BYTES_MAX: usize = 1 << 20;

/// What an HTTP tracker has sent.
struct Page {
    status: StatusCode,
    /// How far away it is.
    from: Option<Nearness>,
    body: Vec<u8>,
}

/// How many announces are under way at a time: thousands of torrents announce at once after a start. Goodbyes have as
/// many places of their own, as they are not waited for for long.
const ANNOUNCES_MAX: usize = 128;

/// Asks trackers for the shard.
#[derive(Clone, Debug)]
pub(crate) struct Trackers {
    client: TrackerClient,
    shard: mpsc::Sender<ShardMessage>,
    places: Arc<Semaphore>,
    goodbye_places: Arc<Semaphore>,
    goodbyes: TaskTracker,
}

impl Trackers {
    pub(crate) fn new(client: TrackerClient, shard: mpsc::Sender<ShardMessage>) -> Self {
        Self {
            client,
            shard,
            places: Arc::new(Semaphore::new(ANNOUNCES_MAX)),
            goodbye_places: Arc::new(Semaphore::new(ANNOUNCES_MAX)),
            goodbyes: TaskTracker::new(),
        }
    }

    /// The goodbyes that are under way.
    pub(crate) fn goodbyes(&self) -> TaskTracker {
        self.goodbyes.clone()
    }

    /// Announces in a task of its own; the answer goes to the shard.
    pub(crate) fn announce(
        &self,
        torrent: TorrentKey,
        tracker: TrackerKey,
        url: TrackerUrl,
        request: AnnounceRequest,
        ports: Ports,
    ) {
        let trackers = self.clone();
        let is_goodbye = request.event == AnnounceEvent::Stopped;
        let places = if is_goodbye {
            &self.goodbye_places
        } else {
            &self.places
        };
        let places = places.clone();
        let announce = async move {
            // Never closed.
            let _place = places.acquire().await;
            let mut changes = trackers.client.sockets.changes();
            let result = tokio::select! {
                result = trackers.client.ask(&url, &request, ports) => result,
                () = changes.next() => Err(TrackerFailure::Unreachable("the network has changed".to_owned())),
            };
            let announced = Input::Announced {
                torrent,
                tracker,
                result,
            };
            let message = ShardMessage::Inputs(vec![announced]);
            // The shard's task ends before this one only when the engine does.
            let _ = trackers.shard.send(message).await;
        };
        if is_goodbye {
            self.goodbyes.spawn(announce);
        } else {
            tokio::spawn(announce);
        }
    }
}

/// Asks trackers over HTTP, HTTPS and UDP, in both address families. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TrackerClient {
    udp: UdpTrackers,
    sockets: Sockets,
}

impl TrackerClient {
    /// A client without an engine, to look at swarms from outside. Must be called inside a tokio runtime.
    pub fn new(options: NetworkOptions) -> Result<Self, StartError> {
        let sockets = Sockets::new(&[], options).map_err(StartError::Network)?;
        Self::start(Clock::start(), rand::random(), sockets)
    }

    pub(crate) fn start(clock: Clock, seed: u64, sockets: Sockets) -> Result<Self, StartError> {
        for family in Family::ALL {
            let made = sockets.web(family, Reach::Machine);
            made.map_err(StartError::Http)?;
        }
        Ok(Self {
            udp: UdpTrackers::start(clock, seed, sockets.clone()),
            sockets,
        })
    }

    /// Asks a tracker how many peers a torrent has (BEP 48, BEP 15), by one of its info-hashes. `None` if the
    /// tracker does not know it. Trackers whose address has no `announce` to replace have no scrape.
    pub async fn scrape(
        &self,
        url: &TrackerUrl,
        info_hash: InfoHash,
    ) -> Result<Option<ScrapeCounts>, TrackerFailure> {
        let answer = match url.scheme() {
            TrackerScheme::Http | TrackerScheme::Https => self.scrape_http(url, info_hash).await,
            TrackerScheme::Udp => self.scrape_udp(url, info_hash).await,
            TrackerScheme::Ws | TrackerScheme::Wss => Err(no_websocket()),
        };
        answer.map(|answer| answer.counts(info_hash))
    }

    async fn scrape_http(
        &self,
        url: &TrackerUrl,
        info_hash: InfoHash,
    ) -> Result<ScrapeResponse, TrackerFailure> {
        let no_scrape = || TrackerFailure::Unsupported("it has no scrape".to_owned());
        let target = http::scrape_url(url, &[info_hash]).ok_or_else(no_scrape)?;
        // What one family says the other would say too: the second is asked only if the first does not answer.
        let mut failure = self.no_client();
        for family in Family::ALL {
            match self.fetch(family, url, &target).await {
                Some(Ok(page)) => {
                    match answer_or_status(http::parse_scrape(&page.body), page.status) {
                        Ok(answer) => return Ok(answer),
                        Err(error) => failure = error,
                    }
                }
                Some(Err(error)) => failure = error,
                None => {}
            }
        }
        Err(failure)
    }

    async fn scrape_udp(
        &self,
        url: &TrackerUrl,
        info_hash: InfoHash,
    ) -> Result<ScrapeResponse, TrackerFailure> {
        let mut failure = no_family();
        for endpoint in self.resolve(url).await? {
            match self.udp.scrape(Some(endpoint), &[info_hash]).await {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(error)) => failure = error,
                None => break,
            }
        }
        Err(failure)
    }

    /// The addresses of a UDP tracker that may be asked.
    async fn resolve(&self, url: &TrackerUrl) -> Result<Vec<SocketAddr>, TrackerFailure> {
        let port = url.port();
        let mut found = match url.host() {
            TrackerHost::Ip(ip) => vec![SocketAddr::new(*ip, port)],
            TrackerHost::Name(name) => self
                .sockets
                .resolve(name, port)
                .await
                .map_err(|error| TrackerFailure::Unreachable(error.to_string()))?,
        };
        let may_ask = |addr: &SocketAddr| {
            Nearness::of(addr.ip()).is_some_and(|nearness| nearness != Nearness::Link)
        };
        let forbidden = found.iter().find(|addr| !may_ask(addr)).copied();
        found.retain(may_ask);
        match forbidden {
            Some(addr) if found.is_empty() => {
                let message = format!("its url leads to {}, which is never asked", addr.ip());
                Err(TrackerFailure::Unreachable(message))
            }
            _ => Ok(found),
        }
    }

    /// What is said if there is no client in any family.
    fn no_client(&self) -> TrackerFailure {
        match self.sockets.state() {
            NetworkState::Offline { why } => TrackerFailure::Unreachable(why),
            NetworkState::Online => no_family(),
        }
    }

    async fn ask(
        &self,
        url: &TrackerUrl,
        request: &AnnounceRequest,
        ports: Ports,
    ) -> Result<AnnounceResponse, TrackerFailure> {
        let said = |family| said_in(family, request, ports);
        match url.scheme() {
            TrackerScheme::Http | TrackerScheme::Https => self.ask_http(url, said).await,
            TrackerScheme::Udp => self.ask_udp(url, said).await,
            TrackerScheme::Ws | TrackerScheme::Wss => Err(no_websocket()),
        }
    }

    async fn ask_http(
        &self,
        url: &TrackerUrl,
        said: impl Fn(Family) -> AnnounceRequest,
    ) -> Result<AnnounceResponse, TrackerFailure> {
        let [v4, v6] = Family::ALL.map(|family| http::announce_url(url, &said(family)));
        let (v4, v6) = tokio::join!(
            self.ask_family(Family::V4, url, &v4),
            self.ask_family(Family::V6, url, &v6)
        );
        join_answers([v4, v6].into_iter().flatten()).unwrap_or_else(|| Err(self.no_client()))
    }

    async fn ask_family(
        &self,
        family: Family,
        url: &TrackerUrl,
        target: &str,
    ) -> Option<Result<AnnounceResponse, TrackerFailure>> {
        let read = |page: Page| {
            let mut answer = answer_or_status(http::parse_announce(&page.body), page.status)?;
            keep_dialable(&mut answer.peers, page.from);
            Ok(answer)
        };
        Some(self.fetch(family, url, target).await?.and_then(read))
    }

    /// Asks an HTTP tracker in one family, unless that is not used.
    async fn fetch(
        &self,
        family: Family,
        url: &TrackerUrl,
        target: &str,
    ) -> Option<Result<Page, TrackerFailure>> {
        if url.has_announce_arguments() {
            let why = "its url brings arguments of an announce".to_owned();
            return Some(Err(TrackerFailure::Unsupported(why)));
        }
        let web = Web::new(&self.sockets);
        let response = web.get(family, target, Author::Stranger).await?;
        let page = async {
            let response = response?;
            let (status, from) = (response.status(), web.answered_from(&response));
            let body = read_body(response, HTTP_BODY_BYTES_MAX).await?;
            Ok(Page { status, from, body })
        };
        Some(page.await)
    }

    async fn ask_udp(
        &self,
        url: &TrackerUrl,
        said: impl Fn(Family) -> AnnounceRequest,
    ) -> Result<AnnounceResponse, TrackerFailure> {
        let addrs = self.resolve(url).await?;
        let first_of = |is_family: fn(&SocketAddr) -> bool| addrs.iter().copied().find(is_family);
        let (v4, v6) = (first_of(SocketAddr::is_ipv4), first_of(SocketAddr::is_ipv6));
        let ask = async |endpoint: Option<SocketAddr>| {
            let endpoint = endpoint?;
            let request = said(Family::of(&endpoint));
            let mut answer = self.udp.announce(endpoint, url, request).await?;
            if let Ok(answer) = &mut answer {
                keep_dialable(&mut answer.peers, self.sockets.nearness(endpoint.ip()));
            }
            Some(answer)
        };
        let (v4, v6) = tokio::join!(ask(v4), ask(v6));
        join_answers([v4, v6].into_iter().flatten()).unwrap_or_else(|| Err(no_family()))
    }
}

/// An announce as it is said in an address family: each tells the port at which that reaches us.
fn said_in(family: Family, request: &AnnounceRequest, ports: Ports) -> AnnounceRequest {
    AnnounceRequest {
        port: ports.of(family).unwrap_or(request.port),
        ..request.clone()
    }
}

/// Trackers send their failure reason with any status; without one the status is all there is.
fn answer_or_status<T>(
    answer: Result<T, TrackerFailure>,
    status: StatusCode,
) -> Result<T, TrackerFailure> {
    match answer {
        Err(TrackerFailure::InvalidReply(_)) if !status.is_success() => {
            Err(TrackerFailure::HttpStatus(status.as_u16()))
        }
        answer => answer,
    }
}

fn no_websocket() -> TrackerFailure {
    TrackerFailure::Unsupported("WebSocket trackers are not spoken".to_owned())
}

fn no_family() -> TrackerFailure {
    TrackerFailure::Unsupported("no address in a family that we use".to_owned())
}

/// Peers that a tracker may send us to: none of this machine but from a tracker on it, and none of the link from
/// outside. Those of private networks stay, since a swarm behind one router may have a tracker outside.
fn keep_dialable(peers: &mut Vec<SocketAddr>, tracker: Option<Nearness>) {
    let tracker = tracker.unwrap_or(Nearness::World);
    peers.retain(|peer| match Nearness::of(peer.ip()) {
        None => false,
        Some(Nearness::Machine) => tracker == Nearness::Machine,
        Some(Nearness::Link) => tracker != Nearness::World,
        Some(Nearness::Network | Nearness::World) => true,
    });
}

/// One answer out of those of both families: peers of both, all else of the first. An error counts only if
/// there is nothing else, since most machines and trackers lack one of the families.
fn join_answers(
    answers: impl Iterator<Item = Result<AnnounceResponse, TrackerFailure>>,
) -> Option<Result<AnnounceResponse, TrackerFailure>> {
    let mut joined: Option<Result<AnnounceResponse, TrackerFailure>> = None;
    for answer in answers {
        joined = Some(match (joined, answer) {
            (Some(Ok(mut first)), Ok(second)) => {
                first.peers.extend(second.peers);
                first.external_ip = first.external_ip.or(second.external_ip);
                Ok(first)
            }
            (Some(Ok(first)), Err(_)) => Ok(first),
            (Some(Err(first)), Err(second)) => Err(better_reason(first, second)),
            (None | Some(Err(_)), answer) => answer,
        });
    }
    joined
}

/// Of two failures, the one from a tracker that was reached.
fn better_reason(first: TrackerFailure, second: TrackerFailure) -> TrackerFailure {
    match first {
        TrackerFailure::Unreachable(_) | TrackerFailure::TimedOut => second,
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(peers: &[&str]) -> AnnounceResponse {
        AnnounceResponse {
            interval: Duration::from_mins(30),
            min_interval: None,
            peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
            seeders: None,
            leechers: None,
            downloaded: None,
            external_ip: None,
            tracker_id: None,
            warning: None,
        }
    }

    #[test]
    fn only_a_tracker_on_this_machine_names_peers_on_it() {
        let kept = |tracker| {
            let mut peers = [
                "127.0.0.1:1",
                "[fe80::1]:2",
                "10.0.0.1:3",
                "1.1.1.1:4",
                "0.0.0.0:5",
            ]
            .map(|peer| peer.parse().unwrap())
            .to_vec();
            keep_dialable(&mut peers, tracker);
            peers.iter().map(SocketAddr::port).collect::<Vec<_>>()
        };
        assert_eq!(kept(Some(Nearness::Machine)), [1, 2, 3, 4]);
        assert_eq!(kept(Some(Nearness::Network)), [2, 3, 4]);
        assert_eq!(kept(Some(Nearness::World)), [3, 4]);
        assert_eq!(kept(None), [3, 4]);
    }

    #[test]
    fn peers_of_both_families_are_joined() {
        let both = [
            Ok(answer(&["10.0.0.1:1"])),
            Ok(answer(&["[2001:db8::1]:2"])),
        ];
        assert_eq!(
            join_answers(both.into_iter()).unwrap().unwrap().peers.len(),
            2
        );
    }

    #[test]
    fn one_working_family_is_enough() {
        let no_v6 = TrackerFailure::Unreachable("no route".to_owned());
        let answers = [Ok(answer(&["10.0.0.1:1"])), Err(no_v6.clone())];
        assert!(join_answers(answers.into_iter()).unwrap().is_ok());
        let answers = [Err(no_v6.clone()), Err(TrackerFailure::HttpStatus(500))];
        assert_eq!(
            join_answers(answers.into_iter()),
            Some(Err(TrackerFailure::HttpStatus(500)))
        );
        assert_eq!(join_answers(std::iter::empty()), None);
    }
}
