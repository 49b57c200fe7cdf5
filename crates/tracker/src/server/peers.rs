//! The peers of one torrent in one address family.

use std::hash::Hash;

use riverrun_base::{Map, Rng, SeededState};

/// From how many peers on there is an index: below, looking through the list is faster, and most torrents
/// have few peers.
const INDEX_FROM: usize = 32;

/// What a peer wants of its swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// It downloads.
    Downloading,
    /// It is incomplete and downloads nothing more (BEP 21).
    PartialSeed,
    /// It has everything.
    Seed,
}

/// One peer: 12 bytes for IPv4, 24 for IPv6.
#[derive(Clone, Copy, Debug)]
struct Entry<A> {
    ip: A,
    /// When it announced last, in seconds.
    seen_secs: u32,
    port: u16,
    role: Role,
}

/// How many peers there are of each role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) downloading: u32,
    pub(super) partial_seeds: u32,
    pub(super) seeds: u32,
}

impl Counts {
    fn of(&mut self, role: Role) -> &mut u32 {
        match role {
            Role::Downloading => &mut self.downloading,
            Role::PartialSeed => &mut self.partial_seeds,
            Role::Seed => &mut self.seeds,
        }
    }
}

/// The peers of one torrent in one address family, in a list whose head are those that download.
///
/// So those that do not (seeds, partial seeds) are sent the head only, and nobody is sent a peer of no use.
#[derive(Debug)]
pub(super) struct Peers<A> {
    entries: Vec<Entry<A>>,
    counts: Counts,
    /// Where each peer stands; only while there are many.
    index: Option<Box<Map<(A, u16), u32>>>,
}

impl<A: Copy + Eq + Hash> Peers<A> {
    pub(super) const fn new() -> Self {
        let counts = Counts {
            downloading: 0,
            partial_seeds: 0,
            seeds: 0,
        };
        Self {
            entries: Vec::new(),
            counts,
            index: None,
        }
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The role of a peer, if it is known.
    pub(super) fn role(&self, ip: A, port: u16) -> Option<Role> {
        self.find(ip, port).map(|at| self.entries[at].role)
    }

    /// Adds a peer, or updates it.
    pub(super) fn insert(&mut self, ip: A, port: u16, role: Role, seen_secs: u32) {
        let at = self.find(ip, port).filter(|at| {
            // One whose place in the list may have to change is put in anew.
            let keeps_place = self.entries[*at].role == role;
            if !keeps_place {
                self.remove_at(*at);
            }
            keeps_place
        });
        match at {
            Some(at) => self.entries[at].seen_secs = seen_secs,
            None => self.push(Entry {
                ip,
                seen_secs,
                port,
                role,
            }),
        }
    }

    /// Removes a peer; its role, if it was known.
    pub(super) fn remove(&mut self, ip: A, port: u16) -> Option<Role> {
        self.find(ip, port).map(|at| self.remove_at(at).role)
    }

    /// Removes some peer.
    pub(super) fn remove_any(&mut self, rng: &mut Rng) {
        if !self.is_empty() {
            self.remove_at(rng.below(self.len()));
        }
    }

    /// Removes all that have not announced since `since_secs`.
    pub(super) fn expire(&mut self, since_secs: u32) {
        // From the end, so that what moves into a hole has been looked at.
        for at in (0..self.len()).rev() {
            if self.entries[at].seen_secs < since_secs {
                self.remove_at(at);
            }
        }
        if self.entries.capacity() / 4 > self.len() {
            self.entries.shrink_to(self.len() * 2);
            if let Some(index) = &mut self.index {
                index.shrink_to(self.entries.len() * 2);
            }
        }
    }

    /// Gives `count` different peers that are of use to one with `role`, each as likely as the other, without
    /// `except`. All of them if there are not more.
    pub(super) fn sample(
        &self,
        rng: &mut Rng,
        role: Role,
        except: Option<(A, u16)>,
        count: usize,
    ) -> impl Iterator<Item = (A, u16)> + use<'_, A> {
        let pool = match role {
            Role::Downloading => &self.entries[..],
            Role::PartialSeed | Role::Seed => &self.entries[..self.downloading()],
        };
        let except = except.and_then(|(ip, port)| self.find(ip, port));
        let except = except.filter(|at| *at < pool.len());
        let others = pool.len() - usize::from(except.is_some());
        let chosen = choose(rng, others, count);
        chosen.into_iter().map(move |n| {
            let entry = &pool[n + usize::from(except.is_some_and(|except| n >= except))];
            (entry.ip, entry.port)
        })
    }

    /// How long the head of the list is.
    fn downloading(&self) -> usize {
        self.counts.downloading as usize
    }

    fn find(&self, ip: A, port: u16) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(&(ip, port)).map(|at| *at as usize),
            None => self
                .entries
                .iter()
                .position(|entry| entry.ip == ip && entry.port == port),
        }
    }

    fn push(&mut self, entry: Entry<A>) {
        let last = self.len();
        self.entries.push(entry);
        self.note(last);
        if entry.role == Role::Downloading {
            self.swap(self.downloading(), last);
        }
        *self.counts.of(entry.role) += 1;
    }

    fn remove_at(&mut self, at: usize) -> Entry<A> {
        let last = self.len() - 1;
        let hole = if at < self.downloading() {
            // The hole moves to the end of the head, which then is one shorter.
            self.swap(at, self.downloading() - 1);
            self.downloading() - 1
        } else {
            at
        };
        self.swap(hole, last);
        let entry = self.entries[last];
        self.entries.truncate(last);
        *self.counts.of(entry.role) -= 1;
        if let Some(index) = &mut self.index {
            index.remove(&(entry.ip, entry.port));
        }
        entry
    }

    fn swap(&mut self, a: usize, b: usize) {
        if a != b {
            self.entries.swap(a, b);
            self.note(a);
            self.note(b);
        }
    }

    /// Notes in the index, if there is one, where a peer stands.
    fn note(&mut self, at: usize) {
        if let Some(index) = &mut self.index {
            let entry = &self.entries[at];
            index.insert(
                (entry.ip, entry.port),
                u32::try_from(at).unwrap_or(u32::MAX),
            );
        }
    }

    /// Builds the index when there are enough peers for it, and drops it when there are far too few.
    pub(super) fn fit_index(&mut self, state: SeededState) {
        if self.index.is_none() && self.len() >= INDEX_FROM {
            let mut index = Map::with_capacity_and_hasher(self.len() * 2, state);
            for (at, entry) in (0..).zip(&self.entries) {
                index.insert((entry.ip, entry.port), at);
            }
            self.index = Some(Box::new(index));
        } else if self.len() < INDEX_FROM / 2 {
            self.index = None;
        }
    }

    /// Panics if the parts contradict each other.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let mut counts = Counts::default();
        for (at, entry) in self.entries.iter().enumerate() {
            *counts.of(entry.role) += 1;
            let in_head = at < self.downloading();
            assert_eq!(
                in_head,
                entry.role == Role::Downloading,
                "the head downloads"
            );
            assert_eq!(
                self.find(entry.ip, entry.port),
                Some(at),
                "no peer is there twice"
            );
        }
        assert_eq!(counts, self.counts);
        assert!(
            self.index
                .as_ref()
                .is_none_or(|index| index.len() == self.len())
        );
    }
}

/// `count` different numbers below `bound`, each set as likely; all of them if there are not more.
fn choose(rng: &mut Rng, bound: usize, count: usize) -> Vec<usize> {
    if bound <= count {
        return (0..bound).collect();
    }
    // Robert Floyd's: one draw a number, whatever the bound.
    let mut chosen: Vec<usize> = Vec::with_capacity(count);
    for top in bound - count..bound {
        let drawn = rng.below(top + 1);
        chosen.push(if chosen.contains(&drawn) { top } else { drawn });
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;
    use riverrun_base::Rng;

    use super::*;

    const ROLES: [Role; 3] = [Role::Downloading, Role::PartialSeed, Role::Seed];

    fn filled(counts: [u16; 3]) -> Peers<u8> {
        let mut peers = Peers::new();
        for (n, (role, count)) in (0..).zip(ROLES.into_iter().zip(counts)) {
            (0..count).for_each(|port| peers.insert(n, port, role, 0));
        }
        peers.fit_index(SeededState::new(1));
        peers.check_invariants();
        peers
    }

    #[test]
    fn a_peer_is_small() {
        assert_eq!(size_of::<Entry<Ipv4Addr>>(), 12);
        assert_eq!(size_of::<Entry<std::net::Ipv6Addr>>(), 24);
    }

    #[test]
    fn seeds_are_never_sent_seeds() {
        let peers = filled([3, 4, 50]);
        let mut rng = Rng::new(1);
        for role in [Role::Seed, Role::PartialSeed] {
            let mut sample: Vec<_> = peers.sample(&mut rng, role, None, 50).collect();
            sample.sort_unstable();
            assert_eq!(sample, [(0, 0), (0, 1), (0, 2)]);
        }
        let sample = peers.sample(&mut rng, Role::Downloading, None, 100);
        assert_eq!(sample.count(), 57);
    }

    #[test]
    fn a_sample_is_without_the_asker_and_without_doubles() {
        let (peers, mut rng) = (filled([40, 0, 40]), Rng::new(1));
        for asker in 0..40 {
            let except = Some((0, asker));
            let sample: Vec<_> = peers
                .sample(&mut rng, Role::Downloading, except, 30)
                .collect();
            let mut unique = sample.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!((sample.len(), unique.len()), (30, 30));
            assert!(!sample.contains(&(0, asker)));
        }
        let all = peers.sample(&mut rng, Role::Downloading, Some((0, 39)), 200);
        assert_eq!(all.count(), 79);
    }

    #[test]
    fn all_peers_are_as_likely() {
        let (peers, mut rng) = (filled([50, 0, 50]), Rng::new(1));
        let mut counts = [[0_u32; 50]; 2];
        for _ in 0..10_000 {
            for (ip, port) in peers.sample(&mut rng, Role::Downloading, None, 10) {
                counts[usize::from(ip > 0)][usize::from(port)] += 1;
            }
        }
        let even = 850..1150;
        assert!(
            counts
                .as_flattened()
                .iter()
                .all(|count| even.contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn who_has_not_announced_is_forgotten() {
        let mut peers = filled([20, 5, 40]);
        peers.insert(2, 7, Role::Seed, 100);
        peers.insert(9, 9, Role::Downloading, 101);
        peers.expire(100);
        peers.check_invariants();
        assert_eq!(
            peers.counts(),
            Counts {
                downloading: 1,
                partial_seeds: 0,
                seeds: 1
            }
        );
        peers.fit_index(SeededState::new(1));
        peers.check_invariants();
        assert!(peers.index.is_none());
    }

    proptest! {
        #[test]
        fn the_list_and_its_index_agree_after_every_change(
            steps in prop::collection::vec((0_u8..6, 0_u16..60, 0_usize..3, 0_u32..100), 1..300),
        ) {
            let (mut peers, mut rng, mut model) = (Peers::<u8>::new(), Rng::new(1), Map::with_hasher(SeededState::new(2)));
            for (kind, port, role, secs) in steps {
                match kind {
                    0 => {
                        prop_assert_eq!(peers.remove(1, port), model.remove(&port).map(|(role, _)| role));
                    }
                    1 if secs < 5 => {
                        peers.expire(secs);
                        model.retain(|_, (_, seen)| *seen >= secs);
                    }
                    _ => {
                        peers.insert(1, port, ROLES[role], secs);
                        model.insert(port, (ROLES[role], secs));
                    }
                }
                peers.fit_index(SeededState::new(3));
                peers.check_invariants();
                prop_assert_eq!(peers.len(), model.len());
                prop_assert_eq!(peers.role(1, port), model.get(&port).map(|(role, _)| *role));
            }
            while !peers.is_empty() {
                peers.remove_any(&mut rng);
                peers.check_invariants();
            }
        }
    }
}
