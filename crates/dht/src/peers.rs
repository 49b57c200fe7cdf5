//! The peers that others announced to us, torrent by torrent.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use riverrun_base::{InfoHash, Nearness, Rng, Time};

use crate::bloom::BloomFilter;
use crate::contact::network_of;
use crate::id::NodeId;

/// How many torrents are remembered: beside those with ids like ours nobody looks for them here.
pub(crate) const TORRENTS_MAX: usize = 2000;

/// How many peers of one torrent are remembered.
pub(crate) const PEERS_MAX: usize = 500;

/// How many announces of one network (/24, /64) are remembered, over all torrents.
const PER_NETWORK_MAX: u16 = 250;

/// How long a peer is remembered. Clients announce every quarter of an hour; one that missed two is gone.
const PEER_LIFE: Duration = Duration::from_mins(45);

/// How many info-hashes a sample has: with eight contacts they fill a reply (BEP 51).
pub(crate) const SAMPLE_HASHES: usize = 20;

/// How long a sample stays the same.
pub(crate) const SAMPLE_LIFE: Duration = Duration::from_mins(5);

/// One peer of one torrent.
#[derive(Clone, Copy, Debug)]
struct Peer {
    port: u16,
    is_seed: bool,
    announced_at: Time,
}

/// Who a peer is: BEP 33 wants one for each address, whatever its port. In a network of one's own, where many live at
/// one address, the port tells them apart.
type PeerKey = (IpAddr, u16);

/// Who announced what.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerStore {
    torrents: BTreeMap<InfoHash, BTreeMap<PeerKey, Peer>>,
    per_network: BTreeMap<u64, u16>,
    sample: Vec<u8>,
    sampled_at: Option<Time>,
    is_local_network: bool,
}

/// Which peers of a torrent are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) count_max: usize,
    /// Downloaders first (BEP 33).
    pub(crate) no_seeds: bool,
}

impl PeerStore {
    pub(crate) fn new(is_local_network: bool) -> Self {
        Self {
            is_local_network,
            ..Self::default()
        }
    }

    /// How many torrents are remembered.
    pub(crate) fn torrent_count(&self) -> usize {
        self.torrents.len()
    }

    /// Whether a torrent's peers could be taken in now; if not, its askers get no token (BEP 33), and announce to
    /// others.
    pub(crate) fn has_room_for(&self, own: NodeId, hash: InfoHash) -> bool {
        match self.torrents.get(&hash) {
            Some(peers) => peers.len() < PEERS_MAX,
            None => self.torrents.len() < TORRENTS_MAX || self.farther_than(own, hash).is_some(),
        }
    }

    /// Remembers a peer. Whether there was room.
    pub(crate) fn announce(
        &mut self,
        now: Time,
        own: NodeId,
        hash: InfoHash,
        peer: SocketAddr,
        is_seed: bool,
    ) -> bool {
        let ip = peer.ip().to_canonical();
        let shares = self.is_local_network && Nearness::is_local(ip);
        let key = (ip, if shares { peer.port() } else { 0 });
        let entry = Peer {
            port: peer.port(),
            is_seed,
            announced_at: now,
        };
        if let Some(known) = self
            .torrents
            .get_mut(&hash)
            .and_then(|peers| peers.get_mut(&key))
        {
            *known = entry;
            return true;
        }
        let network = network_of(ip);
        let share = self.per_network.get(&network).copied().unwrap_or(0);
        if (share >= PER_NETWORK_MAX && !shares) || !self.has_room_for(own, hash) {
            return false;
        }
        if !self.torrents.contains_key(&hash)
            && self.torrents.len() >= TORRENTS_MAX
            && let Some(farthest) = self.farther_than(own, hash)
        {
            self.drop_torrent(farthest);
        }
        self.torrents.entry(hash).or_default().insert(key, entry);
        let share = self.per_network.entry(network).or_default();
        *share = share.saturating_add(1);
        true
    }

    /// Some of a torrent's peers, none twice.
    pub(crate) fn peers(&self, hash: InfoHash, wanted: Wanted, rng: &mut Rng) -> Vec<SocketAddr> {
        let Some(peers) = self.torrents.get(&hash) else {
            return Vec::new();
        };
        let addr = |(ip, _): &PeerKey, peer: &Peer| SocketAddr::new(*ip, peer.port);
        let (seeds, mut chosen): (Vec<_>, Vec<_>) = peers
            .iter()
            .partition(|(_, peer)| wanted.no_seeds && peer.is_seed);
        rng.shuffle(&mut chosen);
        chosen.extend(seeds);
        chosen.truncate(wanted.count_max);
        chosen.iter().map(|(key, peer)| addr(key, peer)).collect()
    }

    /// The filters of a torrent's downloaders and of its seeds, if it is known (BEP 33).
    pub(crate) fn filters(&self, hash: InfoHash) -> Option<(BloomFilter, BloomFilter)> {
        let peers = self.torrents.get(&hash)?;
        let (mut leeches, mut seeds) = (BloomFilter::default(), BloomFilter::default());
        for ((ip, _), peer) in peers {
            if peer.is_seed {
                seeds.insert(*ip);
            } else {
                leeches.insert(*ip);
            }
        }
        Some((leeches, seeds))
    }

    /// Some info-hashes in a row, the same for a while; after which time it is worth asking again (BEP 51).
    pub(crate) fn sample(&mut self, now: Time, rng: &mut Rng) -> (&[u8], Duration) {
        let until = self.sampled_at.map(|at| at + SAMPLE_LIFE);
        let until = until.filter(|until| *until > now).unwrap_or_else(|| {
            let mut hashes: Vec<_> = self.torrents.keys().collect();
            rng.shuffle(&mut hashes);
            hashes.truncate(SAMPLE_HASHES);
            self.sample = hashes.iter().flat_map(|hash| hash.0).collect();
            self.sampled_at = Some(now);
            now + SAMPLE_LIFE
        });
        (&self.sample, until - now)
    }

    /// Forgets who has not announced for too long.
    pub(crate) fn expire(&mut self, now: Time) {
        let Self {
            torrents,
            per_network,
            ..
        } = self;
        torrents.retain(|_, peers| {
            peers.retain(|(ip, _), peer| {
                let stays = now - peer.announced_at < PEER_LIFE;
                if !stays {
                    uncount(per_network, network_of(*ip));
                }
                stays
            });
            !peers.is_empty()
        });
    }

    /// The torrent that is farthest from us, if it is farther than `hash`.
    fn farther_than(&self, own: NodeId, hash: InfoHash) -> Option<InfoHash> {
        let distance = |hash: &InfoHash| own.distance(&NodeId::from(*hash));
        let farthest = *self.torrents.keys().max_by_key(|hash| distance(hash))?;
        (distance(&farthest) > distance(&hash)).then_some(farthest)
    }

    fn drop_torrent(&mut self, hash: InfoHash) {
        for (ip, _) in self
            .torrents
            .remove(&hash)
            .into_iter()
            .flatten()
            .map(|(key, _)| key)
        {
            uncount(&mut self.per_network, network_of(ip));
        }
    }
}

fn uncount(counts: &mut BTreeMap<u64, u16>, network: u64) {
    if let Some(count) = counts.get_mut(&network) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&network);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: NodeId = NodeId([0; 20]);
    const ALL: Wanted = Wanted {
        count_max: 1000,
        no_seeds: false,
    };

    fn hash(n: u32) -> InfoHash {
        let mut hash = [0; 20];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        InfoHash(hash)
    }

    fn peer(n: u32) -> SocketAddr {
        let [_, a, b, c] = (n * 256 + 1).to_be_bytes();
        SocketAddr::from(([20, a, b, c], 6881))
    }

    #[test]
    fn a_store_has_room_for_so_many_torrents_the_nearest_of_all() {
        let mut store = PeerStore::new(false);
        for n in (0..4000).rev() {
            assert!(
                store.announce(Time::ZERO, OWN, hash(n), peer(n), false),
                "{n}"
            );
        }
        assert_eq!(store.torrent_count(), TORRENTS_MAX);
        assert!(store.torrents.contains_key(&hash(0)));
        assert!(!store.torrents.contains_key(&hash(2000)));
        assert!(!store.has_room_for(OWN, hash(5000)));
        assert!(!store.announce(Time::ZERO, OWN, hash(5000), peer(1), false));
        // Accounts are settled when torrents go.
        assert_eq!(store.per_network.len(), TORRENTS_MAX);
    }

    #[test]
    fn a_torrent_has_room_for_so_many_peers_and_an_address_one_place() {
        let mut store = PeerStore::new(false);
        for n in 0..1000 {
            store.announce(Time::ZERO, OWN, hash(1), peer(n), false);
        }
        let mut rng = Rng::new(1);
        assert_eq!(store.peers(hash(1), ALL, &mut rng).len(), PEERS_MAX);
        let mut store = PeerStore::new(false);
        for port in 1..10 {
            let addr = SocketAddr::from(([20, 0, 0, 1], port));
            assert!(store.announce(Time::ZERO, OWN, hash(1), addr, false));
        }
        let newest = SocketAddr::from(([20, 0, 0, 1], 9));
        assert_eq!(store.peers(hash(1), ALL, &mut rng), [newest]);
    }

    #[test]
    fn one_network_cannot_fill_the_store() {
        let mut store = PeerStore::new(false);
        let stored = (0..2000)
            .filter(|n| store.announce(Time::ZERO, OWN, hash(*n), peer(7), false))
            .count();
        assert_eq!(stored, usize::from(PER_NETWORK_MAX));
    }

    #[test]
    fn who_does_not_announce_again_is_forgotten() {
        let mut store = PeerStore::new(false);
        store.announce(Time::ZERO, OWN, hash(1), peer(1), false);
        store.announce(Time::from_secs(2000), OWN, hash(1), peer(2), false);
        store.expire(Time::from_secs(2701));
        assert_eq!(store.peers(hash(1), ALL, &mut Rng::new(1)), [peer(2)]);
        store.expire(Time::from_secs(9999));
        assert_eq!(store.torrent_count(), 0);
        assert!(store.per_network.is_empty());
    }

    #[test]
    fn seeds_come_last_for_those_who_want_none_and_are_counted_apart() {
        let mut store = PeerStore::new(false);
        for n in 0..10 {
            store.announce(Time::ZERO, OWN, hash(1), peer(n), n < 5);
        }
        let wanted = Wanted {
            count_max: 5,
            no_seeds: true,
        };
        let mut found = store.peers(hash(1), wanted, &mut Rng::new(1));
        found.sort_unstable();
        assert_eq!(found, (5..10).map(peer).collect::<Vec<_>>());
        let (leeches, seeds) = store.filters(hash(1)).unwrap();
        assert!((leeches.estimate() - 5.0).abs() < 0.5);
        assert!((seeds.estimate() - 5.0).abs() < 0.5);
        assert!(store.filters(hash(2)).is_none());
    }

    #[test]
    fn a_sample_stays_the_same_for_a_while() {
        let mut store = PeerStore::new(false);
        for n in 0..100 {
            store.announce(Time::ZERO, OWN, hash(n), peer(n), false);
        }
        let mut rng = Rng::new(1);
        let (first, _) = store.sample(Time::ZERO, &mut rng);
        let first = first.to_vec();
        assert_eq!(first.len(), SAMPLE_HASHES * 20);
        let (second, left) = store.sample(Time::from_secs(100), &mut rng);
        assert_eq!((second, left), (&first[..], Duration::from_secs(200)));
        let (third, _) = store.sample(Time::from_secs(300), &mut rng);
        assert_ne!(third, first);
    }
}
