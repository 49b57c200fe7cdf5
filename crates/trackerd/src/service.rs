//! What all sockets share: the swarms, the clock, the counters.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use riverrun_base::{InfoHash, Time};
use riverrun_tracker::server::http::HttpAnnounce;
use riverrun_tracker::server::{
    AnnounceReply, ConnectionIds, SwarmCounts, Swarms, SwarmsConfig, SwarmsFull, TrustedSources,
    UdpHandled, UdpServer,
};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// How often peers that have fallen silent are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
/// How many peers are looked at each time: the lock is held for about a millisecond.
const EXPIRE_BUDGET: usize = 20_000;

/// What nobody outside may know or guess.
pub(crate) struct Secrets {
    /// Decides samples and jitter, and makes hash tables safe from chosen keys.
    seed: u64,
    /// Proves connection ids.
    connection_ids: [u8; 32],
}

impl Secrets {
    /// From the system's source of randomness.
    pub(crate) fn random() -> Self {
        Self {
            seed: rand::random(),
            connection_ids: rand::random(),
        }
    }
}

/// How much a tracker has, and has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackerdStats {
    /// Torrents known.
    pub torrents: usize,
    /// Peers in all of them.
    pub peers: usize,
    /// How many of these have everything.
    pub seeds: usize,
    /// Announces answered.
    pub announces: u64,
    /// Scrapes answered.
    pub scrapes: u64,
    /// Requests refused, as invalid or for want of room.
    pub refused: u64,
}

/// The tracker behind the sockets.
#[derive(Debug)]
pub(crate) struct Service {
    started: Instant,
    swarms: Mutex<Swarms>,
    trusted: TrustedSources,
    udp: UdpServer,
    announces: AtomicU64,
    scrapes: AtomicU64,
    refused: AtomicU64,
}

impl Service {
    pub(crate) fn new(config: SwarmsConfig, trusted: TrustedSources, secrets: &Secrets) -> Self {
        let ids = ConnectionIds::new(secrets.connection_ids);
        Self {
            started: Instant::now(),
            swarms: Mutex::new(Swarms::new(config, secrets.seed)),
            udp: UdpServer::new(ids, trusted.clone()),
            trusted,
            announces: AtomicU64::new(0),
            scrapes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Answers an announce over HTTP.
    pub(crate) fn announce(
        &self,
        announce: &HttpAnnounce,
        source: IpAddr,
    ) -> Result<AnnounceReply, SwarmsFull> {
        let announce = announce.resolve(source, &self.trusted);
        let reply = self.lock().announce(self.now(), &announce);
        match reply {
            Ok(_) => self.announces.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.refused.fetch_add(1, Ordering::Relaxed),
        };
        reply
    }

    /// Answers a scrape over HTTP.
    pub(crate) fn scrape(&self, info_hashes: &[InfoHash]) -> Vec<(InfoHash, SwarmCounts)> {
        self.scrapes.fetch_add(1, Ordering::Relaxed);
        let swarms = self.lock();
        info_hashes
            .iter()
            .map(|info_hash| (*info_hash, swarms.scrape(*info_hash)))
            .collect()
    }

    /// Takes note of a request over HTTP that was refused before it came here.
    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Answers a datagram; `out` is empty if there is no answer.
    pub(crate) fn datagram(&self, from: SocketAddr, datagram: &[u8], out: &mut Vec<u8>) {
        let now = self.now();
        let handled = self
            .udp
            .handle_datagram(now, from, datagram, &mut self.lock(), out);
        let counter = match &handled {
            UdpHandled::Announced { url_data } => {
                tracing::trace!(%from, url = %url_data.escape_ascii(), "announce over udp");
                &self.announces
            }
            UdpHandled::Scraped => &self.scrapes,
            UdpHandled::Refused => &self.refused,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> TrackerdStats {
        let swarms = self.lock().stats();
        TrackerdStats {
            torrents: swarms.torrents,
            peers: swarms.peers,
            seeds: swarms.seeds,
            announces: self.announces.load(Ordering::Relaxed),
            scrapes: self.scrapes.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// The swarms; also after a panic with the lock held, which ends one request and not the tracker.
    fn lock(&self) -> MutexGuard<'_, Swarms> {
        self.swarms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets silent peers, until the tracker stops.
pub(crate) async fn expire_for_ever(service: Arc<Service>, mut stopping: watch::Receiver<()>) {
    let mut ticks = interval(EXPIRE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => service.lock().expire(service.now(), EXPIRE_BUDGET),
            _ = stopping.changed() => return,
        }
    }
}
