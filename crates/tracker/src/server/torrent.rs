//! One swarm: the peers of a torrent in both address families.

use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use riverrun_base::{InfoHash, Rng, SeededState};

use super::announce::{Announce, Families, SwarmCounts};
use super::peers::{Peers, Role};

/// How long the count of downloads of a torrent without peers is kept, in seconds: a day.
const IDLE_LIFETIME_SECS: u32 = 24 * 60 * 60;

/// A torrent and its peers. It knows neither the clock nor how many peers there may be.
#[derive(Debug)]
pub(super) struct Torrent {
    info_hash: InfoHash,
    v4: Peers<Ipv4Addr>,
    v6: Peers<Ipv6Addr>,
    downloaded: u32,
    /// When a peer announced last.
    seen_secs: u32,
}

/// A peer to enter: where it listens, what it is, and when it announced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entrant {
    pub(super) peer: SocketAddr,
    pub(super) role: Role,
    pub(super) seen_secs: u32,
}

impl Torrent {
    /// A torrent without peers.
    pub(super) const fn new(info_hash: InfoHash) -> Self {
        Self {
            info_hash,
            v4: Peers::new(),
            v6: Peers::new(),
            downloaded: 0,
            seen_secs: 0,
        }
    }

    pub(super) const fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    pub(super) fn counts(&self) -> SwarmCounts {
        let (v4, v6) = (self.v4.counts(), self.v6.counts());
        let downloaders = v4.downloading + v6.downloading;
        SwarmCounts {
            seeders: v4.seeds + v6.seeds,
            leechers: downloaders + v4.partial_seeds + v6.partial_seeds,
            downloaders,
            downloaded: self.downloaded,
        }
    }

    /// How many peers there are.
    pub(super) const fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// The role of a peer, if it is known.
    pub(super) fn role(&self, peer: SocketAddr) -> Option<Role> {
        match peer.ip() {
            IpAddr::V4(ip) => self.v4.role(ip, peer.port()),
            IpAddr::V6(ip) => self.v6.role(ip, peer.port()),
        }
    }

    /// Takes note that a peer has completed the download.
    pub(super) const fn count_download(&mut self) {
        self.downloaded = self.downloaded.saturating_add(1);
    }

    /// Adds or updates a peer. If there are `room` others of its family, it takes the place of one; if none of
    /// them is there, it is left out.
    pub(super) fn enter(
        &mut self,
        entrant: Entrant,
        room: usize,
        rng: &mut Rng,
        state: SeededState,
    ) {
        self.seen_secs = entrant.seen_secs;
        match entrant.peer.ip() {
            IpAddr::V4(ip) => enter(&mut self.v4, ip, entrant, room, rng),
            IpAddr::V6(ip) => enter(&mut self.v6, ip, entrant, room, rng),
        }
        self.fit_index(state);
    }

    /// Removes a peer.
    pub(super) fn remove(&mut self, peer: SocketAddr) {
        match peer.ip() {
            IpAddr::V4(ip) => self.v4.remove(ip, peer.port()),
            IpAddr::V6(ip) => self.v6.remove(ip, peer.port()),
        };
    }

    /// Removes the peers that have not announced since `since_secs`.
    pub(super) fn expire(&mut self, since_secs: u32, state: SeededState) {
        self.v4.expire(since_secs);
        self.v6.expire(since_secs);
        self.fit_index(state);
    }

    /// Whether there is nothing left worth remembering.
    pub(super) const fn is_forgettable(&self, now_secs: u32) -> bool {
        let idle_secs = now_secs.saturating_sub(self.seen_secs);
        self.len() == 0 && (self.downloaded == 0 || idle_secs >= IDLE_LIFETIME_SECS)
    }

    /// Up to `count` peers for the one that announces.
    pub(super) fn sample(
        &self,
        rng: &mut Rng,
        announce: &Announce,
        count: usize,
    ) -> Vec<SocketAddr> {
        let (role, port) = (announce.needs(), announce.peer.port());
        let (own_v4, own_v6) = match announce.peer.ip() {
            IpAddr::V4(ip) => (Some((ip, port)), None),
            IpAddr::V6(ip) => (None, Some((ip, port))),
        };
        let mut peers = Vec::new();
        for take_v4 in [own_v4.is_some(), own_v4.is_none()] {
            let room = count - peers.len();
            if take_v4 {
                peers.extend(self.v4.sample(rng, role, own_v4, room).map(addr));
            } else {
                peers.extend(self.v6.sample(rng, role, own_v6, room).map(addr));
            }
            if announce.families == Families::Own {
                break;
            }
        }
        peers
    }

    fn fit_index(&mut self, state: SeededState) {
        self.v4.fit_index(state);
        self.v6.fit_index(state);
    }

    /// Panics if the parts contradict each other.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        self.v4.check_invariants();
        self.v6.check_invariants();
    }
}

fn enter<A: Copy + Eq + Hash>(
    peers: &mut Peers<A>,
    ip: A,
    entrant: Entrant,
    room: usize,
    rng: &mut Rng,
) {
    let (port, role) = (entrant.peer.port(), entrant.role);
    if peers.len() >= room && peers.role(ip, port).is_none() {
        if peers.is_empty() {
            return;
        }
        peers.remove_any(rng);
    }
    peers.insert(ip, port, role, entrant.seen_secs);
}

fn addr<A: Into<IpAddr>>((ip, port): (A, u16)) -> SocketAddr {
    SocketAddr::new(ip.into(), port)
}
