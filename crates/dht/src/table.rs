//! The routing table: nodes that have answered us, more of them the nearer their part of the space is to ours.
//!
//! A bucket holds the nodes that share exactly so many bits with our id, so that only the part in which we live is
//! split further, as in BEP 5. The first buckets are larger than BEP 5's eight (the extended table of libtorrent):
//! the first hop of a lookup then lands up to four bits nearer.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use riverrun_base::{Map, Nearness, SeededState, Time};

use crate::contact::{Contact, network_of};
use crate::id::{Distance, ID_BITS, NodeId};

/// How many nodes a bucket of BEP 5 has, and how many the answer to a query names.
pub(crate) const BUCKET_NODES: usize = 8;

/// How many nodes of one network (/24, /64) the table has at most, so that nobody fills it cheaply.
pub(crate) const PER_NETWORK_MAX: u16 = 2;

/// A node that failed to answer that often in a row is dropped.
const FAILURES_MAX: u8 = 2;

/// A node is good for that long after its last answer (BEP 5).
const GOOD_FOR: Duration = Duration::from_mins(15);

/// A node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) contact: Contact,
    pub(crate) answered_at: Time,
    /// When it was last asked to show that it lives.
    pub(crate) asked_at: Time,
    pub(crate) rtt: Duration,
    failures: u8,
    /// Its id suits its address (BEP 42).
    suits: bool,
}

/// Nodes by how many bits they share with us.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    own: NodeId,
    buckets: Vec<Vec<Entry>>,
    by_addr: Map<SocketAddr, NodeId>,
    ips: Map<IpAddr, u16>,
    networks: Map<u64, u16>,
    is_local_network: bool,
    len: usize,
}

/// The nodes that are nearest to a target among those that were offered.
struct Nearest<'a> {
    target: NodeId,
    count: usize,
    /// The nearest first, `count` at most.
    found: Vec<(Distance, &'a Contact)>,
}

impl<'a> Nearest<'a> {
    fn new(target: NodeId, count: usize) -> Self {
        Self {
            target,
            count,
            found: Vec::with_capacity(count),
        }
    }

    const fn is_full(&self) -> bool {
        self.found.len() >= self.count
    }

    /// Takes the nearer ones. Most of a large bucket are farther than those that are here: to look at each costs less than
    /// to sort them all.
    fn offer(&mut self, bucket: &'a [Entry]) {
        for entry in bucket.iter().filter(|entry| entry.failures == 0) {
            let distance = entry.contact.id.distance(&self.target);
            if self.is_full() {
                if self.found.last().is_none_or(|(last, _)| *last <= distance) {
                    continue;
                }
                self.found.pop();
            }
            let at = self.found.partition_point(|(other, _)| *other < distance);
            self.found.insert(at, (distance, &entry.contact));
        }
    }
}

/// How many nodes a bucket may have.
const fn capacity(bits: u32) -> usize {
    match bits {
        0 => 128,
        1 => 64,
        2 => 32,
        3 => 16,
        _ => BUCKET_NODES,
    }
}

impl Table {
    pub(crate) fn new(own: NodeId, is_local_network: bool, seed: u64) -> Self {
        let state = SeededState::new(seed);
        Self {
            own,
            buckets: Vec::new(),
            by_addr: Map::with_hasher(state),
            ips: Map::with_hasher(state),
            networks: Map::with_hasher(state),
            is_local_network,
            len: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The nodes, bucket by bucket.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.iter().flatten()
    }

    /// Whether there is a node at an address.
    pub(crate) fn has_addr(&self, addr: SocketAddr) -> bool {
        self.by_addr.contains_key(&addr)
    }

    /// Takes our new id: all nodes change places, and those without one are left out.
    pub(crate) fn rename(&mut self, own: NodeId) {
        let entries: Vec<Entry> = self.buckets.drain(..).flatten().collect();
        self.own = own;
        self.by_addr.clear();
        self.ips.clear();
        self.networks.clear();
        self.len = 0;
        for entry in entries {
            self.insert(entry);
        }
    }

    /// Whether a node would be taken in if it answered: the only reason to ask one unasked.
    pub(crate) fn has_room_for(&self, contact: Contact) -> bool {
        let at = self.place(contact.id);
        let is_free = self.buckets.get(at).is_none_or(|bucket| {
            bucket.len() < capacity_at(at) || bucket.iter().any(|entry| entry.failures > 0)
        });
        is_free
            && contact.id != self.own
            && !self.has_addr(contact.addr)
            && !self.is_crowded(contact.addr.ip())
    }

    /// A node has answered. Whether it is in the table now.
    pub(crate) fn answered(&mut self, now: Time, contact: Contact, rtt: Duration) -> bool {
        if contact.id == self.own {
            return false;
        }
        match self.by_addr.get(&contact.addr) {
            // Another name at the same address: whoever changes names is no node to rely on.
            Some(known) if *known != contact.id => {
                self.remove(contact.addr);
                return false;
            }
            Some(_) => {
                if let Some(entry) = self.entry_mut(contact) {
                    entry.answered_at = now;
                    entry.failures = 0;
                    entry.rtt = (entry.rtt * 3 + rtt) / 4;
                }
                return true;
            }
            None => {}
        }
        self.insert(Entry {
            contact,
            answered_at: now,
            asked_at: now,
            rtt,
            failures: 0,
            suits: contact.id.suits(contact.addr.ip()),
        })
    }

    /// The node at an address has not answered. Whether it was dropped for it.
    pub(crate) fn failed(&mut self, addr: SocketAddr) -> bool {
        let Some(contact) = self.contact_at(addr) else {
            return false;
        };
        let Some(entry) = self.entry_mut(contact) else {
            return false;
        };
        entry.failures += 1;
        let is_bad = entry.failures >= FAILURES_MAX;
        if is_bad {
            self.remove(addr);
        }
        is_bad
    }

    /// The node that has not been asked for the longest time, of those that were last asked before `before`.
    pub(crate) fn stalest(&mut self, now: Time, before: Time) -> Option<Contact> {
        let entries = self.buckets.iter_mut().flatten();
        let stalest = entries
            .filter(|entry| entry.asked_at.max(entry.answered_at) <= before)
            .min_by_key(|entry| (entry.asked_at.max(entry.answered_at), entry.contact))?;
        stalest.asked_at = now;
        Some(stalest.contact)
    }

    /// The `count` nodes that are nearest to `target`, the nearest first; those that failed to answer last are left
    /// out.
    pub(crate) fn closest(&self, target: NodeId, count: usize) -> Vec<Contact> {
        let at = self.place(target);
        let mut nearest = Nearest::new(target, count);
        // What shares more bits with the target than we do is in one bucket; what shares as many as we do is in all
        // after it; what shares fewer is in those before it, each farther than the one behind it.
        for bucket in self.buckets.get(at..=at).into_iter().flatten() {
            nearest.offer(bucket);
        }
        if !nearest.is_full() {
            for bucket in self.buckets.iter().skip(at + 1) {
                nearest.offer(bucket);
            }
        }
        for bucket in self.buckets.iter().take(at).rev() {
            if nearest.is_full() {
                break;
            }
            nearest.offer(bucket);
        }
        let found = nearest.found.into_iter();
        found.map(|(_, contact)| *contact).collect()
    }

    /// The first bucket at or behind `from` that is not half full, as the number of bits that its nodes share with
    /// us. The last ones are left out: there are no more nodes around us than we know.
    pub(crate) fn thin_from(&self, from: u32) -> Option<u32> {
        let end = self.buckets.len().saturating_sub(2);
        let thin = |at: &usize| self.buckets[*at].len() * 2 < capacity_at(*at);
        let at = (from as usize..end).find(thin)?;
        u32::try_from(at).ok()
    }

    /// How far the eight nearest nodes around us reach, in the first 64 bits of a distance.
    pub(crate) fn reach(&self) -> Option<u64> {
        let nearest = self.closest(self.own, BUCKET_NODES);
        let last = nearest.get(BUCKET_NODES - 1)?;
        Some(self.own.distance(&last.id).leading())
    }

    /// Those that answered within the last quarter of an hour, the latest first: to be found again at the next start.
    pub(crate) fn alive(&self, now: Time) -> Vec<Contact> {
        let mut alive: Vec<_> = self
            .iter()
            .filter(|entry| entry.failures == 0 && now - entry.answered_at < GOOD_FOR)
            .map(|entry| (entry.answered_at, entry.contact))
            .collect();
        alive.sort_unstable_by(|a, b| b.cmp(a));
        alive.into_iter().map(|(_, contact)| contact).collect()
    }

    /// For tests: everything agrees with everything.
    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        assert_eq!(self.len, self.iter().count());
        assert_eq!(self.len, self.by_addr.len());
        for (at, bucket) in self.buckets.iter().enumerate() {
            assert!(bucket.len() <= capacity_at(at));
            for entry in bucket {
                assert_eq!(self.place(entry.contact.id), at);
                assert_eq!(
                    self.by_addr.get(&entry.contact.addr),
                    Some(&entry.contact.id)
                );
            }
        }
        assert!(
            self.ips
                .values()
                .all(|count| *count == 1 || self.is_local_network)
        );
        let crowded = |count: &u16| *count > PER_NETWORK_MAX;
        assert!(self.is_local_network || !self.networks.values().any(crowded));
    }

    fn place(&self, id: NodeId) -> usize {
        self.own.shared_bits(&id).min(ID_BITS - 1) as usize
    }

    fn contact_at(&self, addr: SocketAddr) -> Option<Contact> {
        let id = *self.by_addr.get(&addr)?;
        Some(Contact { id, addr })
    }

    fn entry_mut(&mut self, contact: Contact) -> Option<&mut Entry> {
        let at = self.place(contact.id);
        let bucket = self.buckets.get_mut(at)?;
        bucket.iter_mut().find(|entry| entry.contact == contact)
    }

    /// Whether there is no room for another node from that address or its surroundings.
    fn is_crowded(&self, ip: IpAddr) -> bool {
        if self.is_local_network && Nearness::is_local(ip) {
            return false;
        }
        let count = self.networks.get(&network_of(ip)).copied().unwrap_or(0);
        self.ips.contains_key(&ip) || count >= PER_NETWORK_MAX
    }

    fn insert(&mut self, entry: Entry) -> bool {
        let at = self.place(entry.contact.id);
        if self.is_crowded(entry.contact.addr.ip()) {
            return false;
        }
        if self.buckets.len() <= at {
            self.buckets.resize_with(at + 1, Vec::new);
        }
        let bucket = &self.buckets[at];
        // One name, two addresses: the first keeps it.
        if bucket
            .iter()
            .any(|known| known.contact.id == entry.contact.id)
        {
            return false;
        }
        if bucket.len() >= capacity_at(at) {
            let Some(weakest) = weakest(bucket, &entry) else {
                return false;
            };
            self.remove(weakest);
        }
        let Contact { id, addr } = entry.contact;
        self.buckets[at].push(entry);
        self.by_addr.insert(addr, id);
        *self.ips.entry(addr.ip()).or_default() += 1;
        *self.networks.entry(network_of(addr.ip())).or_default() += 1;
        self.len += 1;
        true
    }

    /// Drops the node at an address.
    pub(crate) fn remove(&mut self, addr: SocketAddr) {
        let Some(contact) = self.contact_at(addr) else {
            return;
        };
        let at = self.place(contact.id);
        self.buckets[at].retain(|entry| entry.contact != contact);
        self.by_addr.remove(&addr);
        uncount(&mut self.ips, &addr.ip());
        uncount(&mut self.networks, &network_of(addr.ip()));
        self.len -= 1;
    }
}

fn capacity_at(at: usize) -> usize {
    capacity(u32::try_from(at).unwrap_or(ID_BITS))
}

fn uncount<K: std::hash::Hash + Eq>(counts: &mut Map<K, u16>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// The node of a full bucket that has to make room for `newcomer`: one that does not answer; else one whose id does
/// not suit its address, if the newcomer's does; else one that takes over twice as long to answer.
fn weakest(bucket: &[Entry], newcomer: &Entry) -> Option<SocketAddr> {
    let by = |rank: fn(&Entry) -> (u8, bool, Duration)| {
        bucket
            .iter()
            .max_by_key(|entry| (rank(entry), entry.contact))
    };
    let worst = by(|entry| (entry.failures, !entry.suits, entry.rtt))?;
    let yields = worst.failures > 0
        || (newcomer.suits && !worst.suits)
        || (newcomer.suits == worst.suits && newcomer.rtt * 2 < worst.rtt);
    yields.then_some(worst.contact.addr)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use riverrun_base::Rng;

    use super::*;
    use crate::reach::estimate_count;

    const RTT: Duration = Duration::from_millis(100);

    fn contact(rng: &mut Rng, ip: [u8; 4]) -> Contact {
        Contact {
            id: NodeId::random(rng),
            addr: SocketAddr::from((ip, 6881)),
        }
    }

    fn filled(seed: u64, count: u32) -> (Table, Vec<Contact>) {
        let mut rng = Rng::new(seed);
        let mut table = Table::new(NodeId::random(&mut rng), false, seed);
        let mut inside = Vec::new();
        for n in 0..count {
            let [_, a, b, c] = (n * 256 + 1).to_be_bytes();
            let contact = contact(&mut rng, [20, a, b, c]);
            if table.answered(Time::ZERO, contact, RTT) {
                inside.push(contact);
            }
        }
        (table, inside)
    }

    #[test]
    fn a_network_has_two_places_and_an_address_one() {
        let mut rng = Rng::new(1);
        let mut table = Table::new(NodeId::random(&mut rng), false, 1);
        let mut offer = |ip| table.answered(Time::ZERO, contact(&mut rng, ip), RTT);
        assert!(offer([20, 0, 0, 1]));
        assert!(!offer([20, 0, 0, 1]));
        // The second name at that address cost the first its place.
        assert!(offer([20, 0, 0, 2]));
        assert!(offer([20, 0, 0, 3]));
        assert!(!offer([20, 0, 0, 4]));
        assert!(offer([20, 0, 1, 1]));
        table.check_invariants();
    }

    #[test]
    fn local_nodes_share_an_address_only_in_a_network_of_ones_own() {
        for (is_local_network, expected) in [(true, 50), (false, 1)] {
            let mut rng = Rng::new(2);
            let mut table = Table::new(NodeId::random(&mut rng), is_local_network, 1);
            for port in 1..=50 {
                let addr = SocketAddr::from(([127, 0, 0, 1], port));
                let id = NodeId::random(&mut rng);
                table.answered(Time::ZERO, Contact { id, addr }, RTT);
            }
            assert_eq!(table.len(), expected);
            table.check_invariants();
        }
    }

    #[test]
    fn two_silences_in_a_row_cost_the_place() {
        let (mut table, inside) = filled(3, 20);
        let addr = inside[0].addr;
        assert!(!table.failed(addr));
        assert!(!table.closest(inside[0].id, 1).contains(&inside[0]));
        table.answered(Time::from_secs(1), inside[0], RTT);
        assert!(!table.failed(addr));
        assert!(table.failed(addr));
        assert!(!table.has_addr(addr));
        table.check_invariants();
    }

    #[test]
    fn the_stalest_is_asked_first_and_each_in_its_turn() {
        let (mut table, inside) = filled(4, 50);
        let asked: std::collections::BTreeSet<_> = (0..inside.len() as u64)
            .filter_map(|n| table.stalest(Time::from_secs(10 + n), Time::from_secs(5)))
            .collect();
        assert_eq!(asked.len(), inside.len());
        assert_eq!(
            table.stalest(Time::from_secs(100), Time::from_secs(5)),
            None
        );
    }

    #[test]
    fn the_spacing_tells_the_size_of_the_network() {
        let estimates: Vec<_> = (0..20)
            .map(|seed| filled(seed, 5000).0.reach().map_or(0, estimate_count))
            .collect();
        let mean = estimates.iter().sum::<u64>() / 20;
        assert!((3500..8500).contains(&mean), "{mean}");
    }

    #[test]
    fn a_new_id_keeps_the_nodes() {
        let (mut table, inside) = filled(5, 60);
        table.rename(NodeId([0x55; 20]));
        table.check_invariants();
        assert!(table.len() > inside.len() / 2);
    }

    proptest! {
        #[test]
        fn the_closest_are_those_that_a_full_search_finds(seed: u64, target: [u8; 20], count in 1_usize..20) {
            let (table, mut inside) = filled(seed, 400);
            table.check_invariants();
            let target = NodeId(target);
            inside.retain(|contact| table.has_addr(contact.addr));
            inside.sort_unstable_by_key(|contact| contact.id.distance(&target));
            inside.truncate(count);
            prop_assert_eq!(table.closest(target, count), inside);
        }

        #[test]
        fn whatever_happens_the_table_agrees_with_itself(
            steps in prop::collection::vec((any::<u8>(), 0_u8..8, 0_u8..4, any::<u8>()), 0..300)
        ) {
            let mut table = Table::new(NodeId([0; 20]), false, 1);
            for (n, (id, what, net, host)) in steps.into_iter().enumerate() {
                let addr = SocketAddr::from(([20, 0, net, host % 4], 1));
                let now = Time::from_secs(n as u64);
                match what {
                    0 => { table.failed(addr); }
                    1 => table.remove(addr),
                    _ => {
                        table.answered(now, Contact { id: NodeId([id; 20]), addr }, RTT);
                    }
                }
                table.check_invariants();
            }
        }
    }
}
