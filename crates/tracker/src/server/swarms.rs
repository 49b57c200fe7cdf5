//! The table of swarms: who is in which, and whom to send to whom.
//!
//! Invariants: every list has a bound; nothing that a client says adds more than one peer; a seed decides all
//! that is random, and the order of a hash map decides nothing.

use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::{InfoHash, Map, Rng, SeededState, Time};
use thiserror::Error;

use super::announce::{Announce, AnnounceReply, SwarmCounts};
use super::peers::Role;
use super::torrent::{Entrant, Torrent};
use crate::announce::AnnounceEvent;

/// Intervals are up to an eighth longer than configured, so that clients that started together (after an
/// outage, say) do not stay together.
const JITTER_DIVISOR: u32 = 8;

/// How a tracker behaves, and how much it takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwarmsConfig {
    /// How often clients are to announce; up to an eighth is added at random. A peer is forgotten when it has
    /// not announced for two and a half times as long.
    pub interval: Duration,
    /// How long at least they are to wait between announces; never told to be longer than the interval.
    pub interval_min: Duration,
    /// How many peers a reply has if the client does not say.
    pub reply_peers_default: usize,
    /// How many peers a reply has at most.
    pub reply_peers_max: usize,
    /// How many torrents are tracked; announces of others are refused then.
    pub torrents_max: usize,
    /// How many peers a torrent has in each address family; a further one takes the place of a random one,
    /// so that nobody can fill a swarm for long.
    pub torrent_peers_max: usize,
    /// How many peers there are in all; further ones take the place of others of the same torrent.
    pub peers_max: usize,
}

impl Default for SwarmsConfig {
    /// Half an hour, 50 peers a reply, and at most about a gigabyte.
    fn default() -> Self {
        Self {
            interval: Duration::from_mins(30),
            interval_min: Duration::from_mins(5),
            reply_peers_default: 50,
            reply_peers_max: 200,
            torrents_max: 1_000_000,
            torrent_peers_max: 100_000,
            peers_max: 10_000_000,
        }
    }
}

impl SwarmsConfig {
    /// How long a peer that does not announce is remembered, in seconds.
    fn peer_lifetime_secs(&self) -> u32 {
        let lifetime = self.interval.saturating_mul(5) / 2;
        u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
    }
}

/// The table has no room for another torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the tracker has {limit} torrents, which is its limit")]
pub struct SwarmsFull {
    /// The limit.
    pub limit: usize,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwarmsStats {
    /// Torrents.
    pub torrents: usize,
    /// Peers in all of them.
    pub peers: usize,
    /// How many of these have everything.
    pub seeds: usize,
}

/// The swarms of a tracker.
#[derive(Debug)]
pub struct Swarms {
    config: SwarmsConfig,
    rng: Rng,
    hash_state: SeededState,
    torrents: Vec<Torrent>,
    /// Where in `torrents` each is.
    index: Map<InfoHash, u32>,
    /// Where [`Swarms::expire`] goes on.
    expire_next: usize,
    peers: usize,
    seeds: usize,
}

impl Swarms {
    /// An empty table. `seed` decides all that is random.
    pub fn new(config: SwarmsConfig, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let hash_state = SeededState::new(rng.next_u64());
        Self {
            config,
            rng,
            hash_state,
            torrents: Vec::new(),
            index: Map::with_hasher(hash_state),
            expire_next: 0,
            peers: 0,
            seeds: 0,
        }
    }

    /// Takes note of a peer, and sends it others.
    pub fn announce(
        &mut self,
        now: Time,
        announce: &Announce,
    ) -> Result<AnnounceReply, SwarmsFull> {
        let peer = SocketAddr::new(announce.peer.ip().to_canonical(), announce.peer.port());
        let announce = Announce { peer, ..*announce };
        let known = self.find(announce.info_hash);
        if announce.event == AnnounceEvent::Stopped {
            return Ok(self.stopped(known, peer));
        }
        let at = match known {
            Some(at) => at,
            None => self.add_torrent(announce.info_hash)?,
        };
        self.note(now, at, &announce);
        let count = self.reply_peers(announce.num_want);
        let torrent = &self.torrents[at];
        let (counts, peers) = (
            torrent.counts(),
            torrent.sample(&mut self.rng, &announce, count),
        );
        Ok(self.reply(counts, peers))
    }

    /// The numbers of a swarm; of one that is not known, all zero.
    pub fn scrape(&self, info_hash: InfoHash) -> SwarmCounts {
        self.find(info_hash)
            .map(|at| self.torrents[at].counts())
            .unwrap_or_default()
    }

    /// Forgets peers that have not announced for long, and torrents without any. Looks at the next torrents,
    /// in turns, until it has looked at `budget` peers and torrents, or at all. Call it about every second.
    pub fn expire(&mut self, now: Time, budget: usize) {
        let now_secs = secs_of(now);
        let mut looked_at = 0;
        for _ in 0..self.torrents.len() {
            if looked_at >= budget {
                return;
            }
            self.expire_next %= self.torrents.len();
            looked_at += self.expire_torrent(self.expire_next, now_secs);
        }
    }

    /// How much there is.
    pub const fn stats(&self) -> SwarmsStats {
        SwarmsStats {
            torrents: self.torrents.len(),
            peers: self.peers,
            seeds: self.seeds,
        }
    }

    fn find(&self, info_hash: InfoHash) -> Option<usize> {
        self.index.get(&info_hash).map(|at| *at as usize)
    }

    fn add_torrent(&mut self, info_hash: InfoHash) -> Result<usize, SwarmsFull> {
        let at = self.torrents.len();
        let limit = self.config.torrents_max;
        let Some(slot) = u32::try_from(at).ok().filter(|_| at < limit) else {
            return Err(SwarmsFull { limit });
        };
        self.index.insert(info_hash, slot);
        self.torrents.push(Torrent::new(info_hash));
        Ok(at)
    }

    fn remove_torrent(&mut self, at: usize) {
        let removed = self.torrents.swap_remove(at);
        self.index.remove(&removed.info_hash());
        if let (Some(moved), Ok(slot)) = (self.torrents.get(at), u32::try_from(at)) {
            self.index.insert(moved.info_hash(), slot);
        }
    }

    fn stopped(&mut self, known: Option<usize>, peer: SocketAddr) -> AnnounceReply {
        let counts = known.map(|at| {
            self.change(at, |torrent, _| torrent.remove(peer));
            self.torrents[at].counts()
        });
        self.reply(counts.unwrap_or_default(), Vec::new())
    }

    /// Enters the peer that announces.
    fn note(&mut self, now: Time, at: usize, announce: &Announce) {
        let torrent = &mut self.torrents[at];
        let was = torrent.role(announce.peer);
        if announce.event == AnnounceEvent::Completed && was != Some(Role::Seed) {
            torrent.count_download();
        }
        let is_full = self.peers >= self.config.peers_max;
        let room = if is_full {
            0
        } else {
            self.config.torrent_peers_max
        };
        let (peer, role) = (announce.peer, announce.role());
        let entrant = Entrant {
            peer,
            role,
            seen_secs: secs_of(now),
        };
        let state = self.hash_state;
        self.change(at, |torrent, rng| torrent.enter(entrant, room, rng, state));
    }

    /// Gives how many peers and torrents it looked at.
    fn expire_torrent(&mut self, at: usize, now_secs: u32) -> usize {
        let looked_at = 1 + self.torrents[at].len();
        let since_secs = now_secs.saturating_sub(self.config.peer_lifetime_secs());
        let state = self.hash_state;
        self.change(at, |torrent, _| torrent.expire(since_secs, state));
        if self.torrents[at].is_forgettable(now_secs) {
            // The last torrent moves here, and is looked at next.
            self.remove_torrent(at);
        } else {
            self.expire_next += 1;
        }
        looked_at
    }

    /// Changes a torrent's peers, and keeps the sums.
    fn change(&mut self, at: usize, change: impl FnOnce(&mut Torrent, &mut Rng)) {
        let torrent = &mut self.torrents[at];
        let sums = |torrent: &Torrent| (torrent.len(), torrent.counts().seeders as usize);
        let (peers, seeds) = sums(torrent);
        change(torrent, &mut self.rng);
        let (peers_now, seeds_now) = sums(torrent);
        self.peers = self.peers - peers + peers_now;
        self.seeds = self.seeds - seeds + seeds_now;
    }

    fn reply_peers(&self, num_want: Option<u32>) -> usize {
        let wanted = num_want.map_or(self.config.reply_peers_default, |count| count as usize);
        wanted.min(self.config.reply_peers_max)
    }

    fn reply(&mut self, counts: SwarmCounts, peers: Vec<SocketAddr>) -> AnnounceReply {
        let jitter_max = (self.config.interval / JITTER_DIVISOR).as_secs();
        let jitter = self
            .rng
            .below(usize::try_from(jitter_max).unwrap_or(usize::MAX));
        AnnounceReply {
            interval: self.config.interval + Duration::from_secs(jitter as u64),
            interval_min: self.config.interval_min.min(self.config.interval),
            counts,
            peers,
        }
    }
}

fn secs_of(time: Time) -> u32 {
    u32::try_from(time.as_micros() / 1_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::server::Families;

    const INFO_HASH: InfoHash = InfoHash([1; 20]);
    const EVENTS: [AnnounceEvent; 5] = [
        AnnounceEvent::None,
        AnnounceEvent::Started,
        AnnounceEvent::Completed,
        AnnounceEvent::Stopped,
        AnnounceEvent::Paused,
    ];

    fn swarms(config: SwarmsConfig) -> Swarms {
        Swarms::new(config, 1)
    }

    fn from(peer: &str) -> Announce {
        Announce {
            info_hash: INFO_HASH,
            peer: peer.parse().unwrap(),
            event: AnnounceEvent::None,
            left: 1,
            num_want: None,
            families: Families::Both,
        }
    }

    fn numbered(n: u16) -> Announce {
        let peer = SocketAddr::from(([10, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]], 1000));
        Announce {
            peer,
            ..from("192.0.2.1:1")
        }
    }

    fn names(reply: &AnnounceReply) -> Vec<String> {
        reply.peers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn peers_hear_of_each_other_and_not_of_themselves() {
        let mut swarms = swarms(SwarmsConfig::default());
        let mut announce = |peer| swarms.announce(Time::ZERO, &from(peer)).unwrap();
        assert!(announce("192.0.2.1:1").peers.is_empty());
        assert_eq!(names(&announce("192.0.2.2:2")), ["192.0.2.1:1"]);
        assert_eq!(names(&announce("[2001:db8::1]:3")).len(), 2);
        let reply = announce("[::ffff:192.0.2.1]:1");
        assert_eq!(
            names(&reply),
            ["192.0.2.2:2", "[2001:db8::1]:3"],
            "its own family first"
        );
        assert_eq!(
            reply.counts,
            SwarmCounts {
                leechers: 3,
                downloaders: 3,
                ..Default::default()
            }
        );
    }

    #[test]
    fn over_udp_only_peers_of_the_own_family_are_sent() {
        let mut swarms = swarms(SwarmsConfig::default());
        for peer in ["192.0.2.1:1", "[2001:db8::1]:1"] {
            swarms.announce(Time::ZERO, &from(peer)).unwrap();
        }
        let own = |peer| Announce {
            families: Families::Own,
            ..from(peer)
        };
        let mut announce = |peer| names(&swarms.announce(Time::ZERO, &own(peer)).unwrap());
        assert_eq!(announce("192.0.2.9:1"), ["192.0.2.1:1"]);
        assert_eq!(announce("[2001:db8::9]:1"), ["[2001:db8::1]:1"]);
    }

    #[test]
    fn a_download_is_counted_once_and_by_its_event() {
        let mut swarms = swarms(SwarmsConfig::default());
        let mut announce = |event, left| {
            let announce = Announce {
                event,
                left,
                ..from("192.0.2.1:1")
            };
            let counts = swarms.announce(Time::ZERO, &announce).unwrap().counts;
            (
                counts.seeders,
                counts.leechers,
                counts.downloaders,
                counts.downloaded,
            )
        };
        assert_eq!(announce(AnnounceEvent::Started, 10), (0, 1, 1, 0));
        assert_eq!(announce(AnnounceEvent::Paused, 5), (0, 1, 0, 0));
        assert_eq!(announce(AnnounceEvent::None, 5), (0, 1, 1, 0));
        assert_eq!(announce(AnnounceEvent::Completed, 0), (1, 0, 0, 1));
        assert_eq!(announce(AnnounceEvent::Completed, 0), (1, 0, 0, 1));
        assert_eq!(announce(AnnounceEvent::None, 0), (1, 0, 0, 1));
        assert_eq!(announce(AnnounceEvent::Stopped, 0), (0, 0, 0, 1));
        assert_eq!(
            announce(AnnounceEvent::Started, 0),
            (1, 0, 0, 1),
            "complete from the start"
        );
    }

    #[test]
    fn seeds_and_partial_seeds_are_sent_downloaders_only() {
        let mut swarms = swarms(SwarmsConfig::default());
        for (n, left, event) in [
            (1, 0, AnnounceEvent::None),
            (2, 9, AnnounceEvent::Paused),
            (3, 9, AnnounceEvent::None),
        ] {
            let announce = Announce {
                event,
                left,
                ..numbered(n)
            };
            swarms.announce(Time::ZERO, &announce).unwrap();
        }
        let mut peers = |left, event| {
            let announce = Announce {
                event,
                left,
                ..numbered(9)
            };
            swarms.announce(Time::ZERO, &announce).unwrap().peers.len()
        };
        assert_eq!(peers(0, AnnounceEvent::None), 1);
        // It may hold a magnet link and not know better.
        assert_eq!(peers(0, AnnounceEvent::Started), 3);
        assert_eq!(peers(9, AnnounceEvent::Paused), 1);
        assert_eq!(peers(9, AnnounceEvent::None), 3);
        assert_eq!(peers(9, AnnounceEvent::Stopped), 0);
    }

    #[test]
    fn replies_have_as_many_peers_as_asked_for_within_bounds() {
        let mut swarms = swarms(SwarmsConfig::default());
        for n in 0..300 {
            swarms.announce(Time::ZERO, &numbered(n)).unwrap();
        }
        for (num_want, peers) in [
            (None, 50),
            (Some(0), 0),
            (Some(7), 7),
            (Some(200), 200),
            (Some(u32::MAX), 200),
        ] {
            let announce = Announce {
                num_want,
                ..from("192.0.2.1:1")
            };
            let reply = swarms.announce(Time::ZERO, &announce).unwrap();
            assert_eq!(reply.peers.len(), peers, "{num_want:?}");
        }
    }

    #[test]
    fn silent_peers_and_empty_torrents_are_forgotten() {
        let config = SwarmsConfig::default();
        let mut swarms = swarms(config);
        let interval = Time::ZERO + config.interval;
        swarms.announce(Time::ZERO, &numbered(1)).unwrap();
        swarms.announce(interval, &numbered(2)).unwrap();
        let completed = Announce {
            event: AnnounceEvent::Completed,
            left: 0,
            ..numbered(3)
        };
        let other = Announce {
            info_hash: InfoHash([2; 20]),
            ..completed
        };
        swarms.announce(Time::ZERO, &other).unwrap();
        let mut left_after = |intervals: u32| {
            swarms.expire(
                Time::ZERO + config.interval * intervals + Duration::from_secs(1),
                usize::MAX,
            );
            let stats = swarms.stats();
            (
                stats.torrents,
                stats.peers,
                stats.seeds,
                swarms.scrape(other.info_hash).downloaded,
            )
        };
        assert_eq!(left_after(2), (2, 3, 1, 1));
        assert_eq!(left_after(3), (2, 1, 0, 1));
        assert_eq!(
            left_after(4),
            (1, 0, 0, 1),
            "downloads are remembered for a day"
        );
        assert_eq!(left_after(48), (0, 0, 0, 0));
    }

    #[test]
    fn expiry_keeps_to_its_budget_and_gets_round() {
        let mut swarms = swarms(SwarmsConfig::default());
        for n in 0..100 {
            let info_hash = InfoHash([u8::try_from(n).unwrap(); 20]);
            swarms
                .announce(
                    Time::ZERO,
                    &Announce {
                        info_hash,
                        ..numbered(n)
                    },
                )
                .unwrap();
        }
        let end = Time::from_secs(1_000_000);
        for round in 1..=5 {
            swarms.expire(end, 40);
            assert_eq!(
                swarms.stats().torrents,
                100 - 20 * round,
                "two looks a torrent"
            );
        }
        swarms.expire(end, 40);
    }

    #[test]
    fn full_tables_refuse_torrents_and_replace_peers() {
        let config = SwarmsConfig {
            torrents_max: 2,
            torrent_peers_max: 10,
            peers_max: 15,
            ..SwarmsConfig::default()
        };
        let mut swarms = swarms(config);
        let second = InfoHash([2; 20]);
        for n in 0..50 {
            swarms.announce(Time::ZERO, &numbered(n)).unwrap();
            assert!(
                swarms.torrents[0].role(numbered(n).peer).is_some(),
                "the new one is in"
            );
        }
        assert_eq!(swarms.stats().peers, 10);
        for n in 0..50 {
            swarms
                .announce(
                    Time::ZERO,
                    &Announce {
                        info_hash: second,
                        ..numbered(n)
                    },
                )
                .unwrap();
        }
        assert_eq!(
            swarms.stats(),
            SwarmsStats {
                torrents: 2,
                peers: 15,
                seeds: 0
            }
        );
        // No IPv6 peer there whose place it could take: it is served, and not noted.
        let v6 = swarms
            .announce(Time::ZERO, &from("[2001:db8::1]:1"))
            .unwrap();
        assert_eq!((v6.peers.len(), swarms.stats().peers), (10, 15));
        let third = Announce {
            info_hash: InfoHash([3; 20]),
            ..numbered(1)
        };
        assert_eq!(
            swarms.announce(Time::ZERO, &third),
            Err(SwarmsFull { limit: 2 })
        );
        let stopped = Announce {
            event: AnnounceEvent::Stopped,
            ..third
        };
        assert!(
            swarms.announce(Time::ZERO, &stopped).is_ok(),
            "nothing to store"
        );
    }

    #[test]
    fn intervals_are_spread() {
        let mut swarms = swarms(SwarmsConfig::default());
        let intervals: Vec<u64> = (0..100)
            .map(|n| {
                swarms
                    .announce(Time::ZERO, &numbered(n))
                    .unwrap()
                    .interval
                    .as_secs()
            })
            .collect();
        assert!(intervals.iter().all(|secs| (1800..2025).contains(secs)));
        assert!(intervals.iter().any(|secs| *secs != intervals[0]));
    }

    #[test]
    fn the_minimum_is_not_above_the_interval() {
        let interval = Duration::from_secs(10);
        let mut swarms = swarms(SwarmsConfig {
            interval,
            ..SwarmsConfig::default()
        });
        let reply = swarms.announce(Time::ZERO, &numbered(1)).unwrap();
        assert_eq!(reply.interval_min, interval);
    }

    #[test]
    fn a_seed_decides_everything() {
        let run = |seed| {
            let mut swarms = Swarms::new(SwarmsConfig::default(), seed);
            (0..200)
                .map(|n| swarms.announce(Time::ZERO, &numbered(n)).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    proptest! {
        #[test]
        fn sums_are_right_after_every_announce(
            steps in prop::collection::vec((0_u8..4, 0_u16..40, 0_u8..5, 0_u64..2, 0_u64..4000), 1..200),
        ) {
            let config = SwarmsConfig { torrents_max: 3, torrent_peers_max: 12, peers_max: 20, ..SwarmsConfig::default() };
            let (mut swarms, mut secs) = (swarms(config), 0);
            for (torrent, peer, event, left, wait) in steps {
                        let event = EVENTS[usize::from(event)];
                let info_hash = InfoHash([torrent; 20]);
                let mut announce = Announce { info_hash, event, left, ..numbered(peer) };
                if peer % 3 == 0 {
                    announce.peer = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, peer], 1));
                }
                secs += wait;
                if let Ok(reply) = swarms.announce(Time::from_secs(secs), &announce) {
                    prop_assert!(!reply.peers.contains(&announce.peer));
                }
                swarms.expire(Time::from_secs(secs), 10);
                let mut sums = SwarmsStats { torrents: swarms.index.len(), ..SwarmsStats::default() };
                for (at, torrent) in swarms.torrents.iter().enumerate() {
                    torrent.check_invariants();
                    prop_assert_eq!(swarms.find(torrent.info_hash()), Some(at));
                    sums.peers += torrent.len();
                    sums.seeds += usize::try_from(torrent.counts().seeders).unwrap();
                }
                prop_assert_eq!(swarms.stats(), sums);
                prop_assert!(sums.peers <= config.peers_max && sums.torrents <= config.torrents_max);
            }
        }
    }
}
