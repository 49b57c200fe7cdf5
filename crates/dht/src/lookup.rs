//! One search: from the nodes we know to those nearest to a target, several at a time.
//!
//! Three things make it quick where tables have dead entries (Jimenez et al. 2011; libtorrent's "aggressive
//! lookups"): a place among the queries under way is free again as soon as its node is late, long before it counts as
//! dead; places count at the top of the list only, so that far stragglers hold up nothing; and what is found is told
//! at once, not at the end.
//!
//! Nodes that crowd a target on purpose do not hide the honest ones behind them: beside the eight nearest, all must have
//! answered that are as near as the eight nearest are elsewhere. Whether a target is crowded is no question then, which
//! eight distances could answer with luck only.

use std::net::SocketAddr;

use riverrun_base::Nearness;

use crate::contact::{Contact, is_host, network_of};
use crate::id::{Distance, NodeId};
use crate::table::{BUCKET_NODES, PER_NETWORK_MAX};

/// How many candidates are remembered: the nearest.
const CANDIDATES_MAX: usize = 200;

/// How many queries one lookup sends at most, in one address family.
const QUERIES_MAX: usize = 200;

/// How many nodes a widened lookup wants answers of at most.
const WIDE_NODES_MAX: usize = 100;

/// What a candidate has done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// It was not asked.
    Fresh,
    /// It was asked.
    Asked,
    /// It was asked and is late.
    Late,
    /// It has answered.
    Answered {
        /// Its write token, if it gave one.
        token: Option<Vec<u8>>,
        /// The version of the item that it has.
        seq: Option<i64>,
    },
    /// It has not answered, or not as it should.
    Failed,
}

#[derive(Clone, Debug)]
struct Candidate {
    distance: Distance,
    /// Unknown of nodes to start from.
    id: Option<NodeId>,
    addr: SocketAddr,
    /// Its id suits its address (BEP 42), as far as we enforce that.
    suits: bool,
    state: State,
}

/// What the rules for candidates depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) own: NodeId,
    pub(crate) parallel: usize,
    pub(crate) enforce_ids: bool,
    pub(crate) is_local_network: bool,
    /// How far from a target its eight nearest nodes reach on average, in the first 64 bits of a distance; zero if we
    /// do not know.
    pub(crate) reach: u64,
}

/// A node that may be told to store something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) addr: SocketAddr,
    pub(crate) token: Vec<u8>,
    /// The version of the item that it has already.
    pub(crate) seq: Option<i64>,
}

/// The candidates of a lookup, and which of them to ask.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    target: NodeId,
    rules: Rules,
    /// The nearest first.
    candidates: Vec<Candidate>,
    queries: usize,
    answers: usize,
}

impl Lookup {
    pub(crate) const fn new(target: NodeId, rules: Rules) -> Self {
        Self {
            target,
            rules,
            candidates: Vec::new(),
            queries: 0,
            answers: 0,
        }
    }

    pub(crate) const fn target(&self) -> NodeId {
        self.target
    }

    /// How many queries were sent.
    pub(crate) const fn queries(&self) -> usize {
        self.queries
    }

    /// How many nodes have answered.
    pub(crate) const fn answers(&self) -> usize {
        self.answers
    }

    /// Whether nobody is known who could be asked.
    pub(crate) const fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// Takes a node to start from, of which only the address is known.
    pub(crate) fn offer_start(&mut self, addr: SocketAddr) {
        if !self.candidates.iter().any(|known| known.addr == addr) {
            self.place(Candidate {
                distance: Distance::MAX,
                id: None,
                addr,
                suits: false,
                state: State::Fresh,
            });
        }
    }

    /// Takes a node that is in our table, or that `from` named.
    pub(crate) fn offer(&mut self, contact: Contact, from: Option<SocketAddr>) {
        let ip = contact.addr.ip();
        // A stranger outside of our network has no business to send us into it.
        let leads_inside = Nearness::is_local(ip)
            && from.is_some_and(|from| !Nearness::is_local(from.ip()))
            && !self.rules.is_local_network;
        if leads_inside || !is_host(contact.addr) || contact.id == self.rules.own {
            return;
        }
        if self.is_crowded(contact) {
            return;
        }
        let state = State::Fresh;
        self.place(self.candidate(contact, state));
    }

    fn candidate(&self, contact: Contact, state: State) -> Candidate {
        Candidate {
            distance: contact.id.distance(&self.target),
            id: Some(contact.id),
            addr: contact.addr,
            suits: !self.rules.enforce_ids || contact.id.suits(contact.addr.ip()),
            state,
        }
    }

    /// Whether that node, its address or its network is there already as often as it may.
    fn is_crowded(&self, contact: Contact) -> bool {
        let ip = contact.addr.ip();
        let shares = self.rules.is_local_network && Nearness::is_local(ip);
        let network = network_of(ip);
        let mut neighbours = 0;
        for known in &self.candidates {
            if known.addr == contact.addr || known.id == Some(contact.id) {
                return true;
            }
            if !shares && known.addr.ip() == ip {
                return true;
            }
            neighbours += u16::from(network_of(known.addr.ip()) == network);
        }
        !shares && neighbours >= PER_NETWORK_MAX
    }

    fn place(&mut self, candidate: Candidate) {
        let key = |known: &Candidate| (known.distance, known.addr);
        let at = self
            .candidates
            .partition_point(|known| key(known) < key(&candidate));
        self.candidates.insert(at, candidate);
        self.candidates.truncate(CANDIDATES_MAX);
    }

    /// The next node to ask, which counts as asked from now on; `None` if enough are, for now or for good.
    pub(crate) fn next(&mut self) -> Option<(SocketAddr, Option<NodeId>)> {
        if self.queries >= QUERIES_MAX {
            return None;
        }
        let (mut good, mut asked, mut at) = (0, 0, None);
        for (place, candidate) in self.candidates.iter().enumerate() {
            if asked >= self.rules.parallel || is_enough(good, candidate, self.rules.reach) {
                return None;
            }
            match candidate.state {
                State::Fresh => {
                    at = Some(place);
                    break;
                }
                State::Asked => asked += 1,
                State::Answered { .. } => good += usize::from(candidate.suits),
                State::Late | State::Failed => {}
            }
        }
        let candidate = &mut self.candidates[at?];
        candidate.state = State::Asked;
        self.queries += 1;
        Some((candidate.addr, candidate.id))
    }

    /// Whether there is nothing more to be learnt: the nearest have answered, or nobody is left.
    pub(crate) fn is_done(&self) -> bool {
        let (mut good, mut waits) = (0, false);
        for candidate in &self.candidates {
            if is_enough(good, candidate, self.rules.reach) {
                return true;
            }
            match candidate.state {
                State::Fresh if self.queries < QUERIES_MAX => return false,
                State::Asked => return false,
                // Those that are late are waited for only if there are not enough without them.
                State::Late => waits = true,
                State::Answered { .. } => good += usize::from(candidate.suits),
                State::Fresh | State::Failed => {}
            }
        }
        good >= BUCKET_NODES || !waits
    }

    /// A node is late.
    pub(crate) fn late(&mut self, addr: SocketAddr) {
        if let Some(candidate) = self.find(addr)
            && candidate.state == State::Asked
        {
            candidate.state = State::Late;
        }
    }

    /// A node has not answered, or with an error.
    pub(crate) fn failed(&mut self, addr: SocketAddr) {
        if let Some(candidate) = self.find(addr) {
            candidate.state = State::Failed;
        }
    }

    /// A node has answered. One that bears another name than we were told stands where that name does.
    pub(crate) fn answered(&mut self, contact: Contact, token: Option<Vec<u8>>, seq: Option<i64>) {
        let Some(at) = self.candidates.iter().position(|known| {
            known.addr == contact.addr && matches!(known.state, State::Asked | State::Late)
        }) else {
            return;
        };
        self.answers += 1;
        self.candidates.remove(at);
        let has_name = |known: &Candidate| known.id == Some(contact.id);
        if contact.id != self.rules.own && !self.candidates.iter().any(has_name) {
            let state = State::Answered { token, seq };
            self.place(self.candidate(contact, state));
        }
    }

    /// Those that are to store something: the nearest that gave a token and may bear their ids.
    pub(crate) fn holders(&self) -> Vec<Holder> {
        let is_crowded = self
            .reach()
            .is_some_and(|reach| reach < self.rules.reach / 2);
        // Where nobody crowds, the eight nearest are the same for everybody, which items with versions need.
        let reach = if is_crowded { self.rules.reach } else { 0 };
        let mut holders = Vec::new();
        for candidate in self.candidates.iter().filter(|candidate| candidate.suits) {
            if is_enough(holders.len(), candidate, reach) {
                break;
            }
            if let State::Answered {
                token: Some(token),
                seq,
            } = &candidate.state
            {
                holders.push(Holder {
                    addr: candidate.addr,
                    token: token.clone(),
                    seq: *seq,
                });
            }
        }
        holders
    }

    /// The nearest nodes that have answered.
    pub(crate) fn nearest(&self) -> Vec<Contact> {
        let answered = |candidate: &&Candidate| matches!(candidate.state, State::Answered { .. });
        self.candidates
            .iter()
            .filter(answered)
            .filter_map(|candidate| {
                let addr = candidate.addr;
                candidate.id.map(|id| Contact { id, addr })
            })
            .take(BUCKET_NODES)
            .collect()
    }

    fn find(&mut self, addr: SocketAddr) -> Option<&mut Candidate> {
        self.candidates.iter_mut().find(|known| known.addr == addr)
    }

    /// How far the eight nearest that have answered reach, as [`Rules::reach`] counts.
    pub(crate) fn reach(&self) -> Option<u64> {
        let answered = |candidate: &&Candidate| {
            candidate.suits && matches!(candidate.state, State::Answered { .. })
        };
        let mut answered = self.candidates.iter().filter(answered);
        let last = answered.nth(BUCKET_NODES - 1)?;
        Some(last.distance.leading())
    }
}

/// Whether `good` answers from nodes before `next` are enough, so that neither it nor what is behind it need be asked.
fn is_enough(good: usize, next: &Candidate, reach: u64) -> bool {
    let has_passed = next.distance.leading() > reach;
    good >= BUCKET_NODES && (has_passed || good >= WIDE_NODES_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use riverrun_base::Rng;

    use super::*;

    const TARGET: NodeId = NodeId([0; 20]);

    fn rules() -> Rules {
        Rules {
            own: NodeId([0xff; 20]),
            parallel: 3,
            enforce_ids: false,
            is_local_network: false,
            reach: 0,
        }
    }

    /// A node at a distance, at an address of its own.
    fn node(distance: u8) -> Contact {
        let mut id = [0; 20];
        id[0] = distance;
        Contact {
            id: NodeId(id),
            addr: SocketAddr::from(([20, distance, 0, 1], 6881)),
        }
    }

    fn lookup(distances: impl IntoIterator<Item = u8>) -> Lookup {
        let mut lookup = Lookup::new(TARGET, rules());
        for distance in distances {
            lookup.offer(node(distance), None);
        }
        lookup
    }

    fn asked(lookup: &mut Lookup) -> Vec<u8> {
        let mut asked = Vec::new();
        while let Some((_, id)) = lookup.next() {
            asked.push(id.unwrap().0[0]);
        }
        asked
    }

    fn answer(lookup: &mut Lookup, distance: u8) {
        lookup.answered(node(distance), Some(vec![distance]), None);
    }

    #[test]
    fn the_nearest_are_asked_so_many_at_a_time() {
        let mut lookup = lookup([9, 2, 7, 4, 5]);
        assert_eq!(asked(&mut lookup), [2, 4, 5]);
        answer(&mut lookup, 2);
        assert_eq!(asked(&mut lookup), [7]);
        // Whoever turns up nearer goes first, and pushes the far ones out of the places.
        lookup.offer(node(1), None);
        lookup.offer(node(3), None);
        assert_eq!(asked(&mut lookup), [1, 3]);
    }

    #[test]
    fn who_is_late_holds_up_nothing() {
        let mut lookup = lookup(1..=5);
        assert_eq!(asked(&mut lookup), [1, 2, 3]);
        lookup.late(node(1).addr);
        assert_eq!(asked(&mut lookup), [4]);
        // A late answer is an answer.
        answer(&mut lookup, 1);
        assert_eq!(lookup.answers(), 1);
    }

    #[test]
    fn eight_answers_from_the_nearest_end_it() {
        let mut lookup = lookup(1..=20);
        for distance in 1..=8 {
            assert!(!lookup.is_done());
            asked(&mut lookup);
            answer(&mut lookup, distance);
        }
        assert!(lookup.is_done());
        assert_eq!(asked(&mut lookup), []);
        let holders: Vec<_> = lookup
            .holders()
            .iter()
            .map(|holder| holder.token[0])
            .collect();
        assert_eq!(holders, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn without_enough_nodes_it_ends_when_all_have_answered_or_failed() {
        let mut lookup = lookup(1..=3);
        asked(&mut lookup);
        answer(&mut lookup, 1);
        lookup.failed(node(2).addr);
        lookup.late(node(3).addr);
        assert!(!lookup.is_done());
        lookup.failed(node(3).addr);
        assert!(lookup.is_done());
        assert!(Lookup::new(TARGET, rules()).is_done());
    }

    #[test]
    fn another_name_than_told_stands_where_it_belongs() {
        let mut lookup = lookup([1, 2]);
        asked(&mut lookup);
        let liar = Contact {
            id: NodeId([9; 20]),
            addr: node(1).addr,
        };
        lookup.answered(liar, Some(vec![9]), None);
        answer(&mut lookup, 2);
        let holders: Vec<_> = lookup
            .holders()
            .iter()
            .map(|holder| holder.token[0])
            .collect();
        assert_eq!(holders, [2, 9]);
    }

    #[test]
    fn names_and_addresses_count_once_and_networks_twice() {
        let mut lookup = lookup([1]);
        let mut offer = |id: u8, addr: &str| {
            let before = lookup.candidates.len();
            let id = node(id).id;
            let addr = addr.parse().unwrap();
            lookup.offer(
                Contact { id, addr },
                Some("198.51.100.1:1".parse().unwrap()),
            );
            lookup.candidates.len() > before
        };
        assert!(!offer(1, "20.9.0.1:1"));
        assert!(!offer(2, "20.1.0.1:9"));
        assert!(offer(2, "20.1.0.2:9"));
        assert!(!offer(3, "20.1.0.3:9"));
        assert!(offer(3, "20.1.1.3:9"));
        assert!(!offer(4, "20.1.2.4:0"));
        assert!(!offer(4, "192.168.1.1:6881"));
        assert!(!offer(4, "224.0.0.1:6881"));
        assert!(!offer(0xff, "224.0.0.1:6881"));
    }

    #[test]
    fn ids_that_do_not_suit_are_asked_and_do_not_count() {
        let enforced = Rules {
            enforce_ids: true,
            ..rules()
        };
        let mut lookup = Lookup::new(TARGET, enforced);
        for distance in 1..=30 {
            lookup.offer(node(distance), None);
        }
        for distance in 1..=20 {
            asked(&mut lookup);
            answer(&mut lookup, distance);
        }
        assert!(!lookup.is_done());
        assert_eq!(lookup.holders(), []);
    }

    #[test]
    fn a_target_that_is_crowded_on_purpose_is_searched_more_widely() {
        let mut rng = Rng::new(5);
        let known = Rules {
            // Eight in 256.
            reach: 8 << 56,
            ..rules()
        };
        let mut lookup = Lookup::new(TARGET, known);
        // One honest node a 256th of the space, and a crowd in front of them.
        let contact = |first: u8, second: u8, rng: &mut Rng| {
            let mut id = NodeId::random(rng);
            id.0[0] = first;
            id.0[1] = second;
            let addr = SocketAddr::from(([20, first, second, 1], 6881));
            Contact { id, addr }
        };
        let honest: Vec<_> = (0..20).map(|n| contact(n, 128, &mut rng)).collect();
        let crowd: Vec<_> = (0..40).map(|n| contact(0, n, &mut rng)).collect();
        for node in honest.iter().chain(&crowd) {
            lookup.offer(*node, None);
        }
        while let Some((addr, id)) = lookup.next() {
            let id = id.unwrap();
            lookup.answered(Contact { id, addr }, Some(vec![1]), None);
        }
        assert!(lookup.is_done());
        let holders = lookup.holders();
        for node in &honest[..7] {
            assert!(holders.iter().any(|holder| holder.addr == node.addr));
        }
    }

    proptest! {
        /// Whatever the nodes do, a lookup ends, within its bound of queries.
        #[test]
        fn every_lookup_ends(seed: u64, parallel in 1_usize..10) {
            let mut rng = Rng::new(seed);
            let mut lookup = Lookup::new(TARGET, Rules { parallel, ..rules() });
            let mut flying = Vec::new();
            let stranger = |rng: &mut Rng| {
                let mut ip = [20; 4];
                rng.fill(&mut ip[1..]);
                Contact { id: NodeId::random(rng), addr: SocketAddr::from((ip, 1)) }
            };
            lookup.offer(stranger(&mut rng), None);
            let mut steps = 0;
            while !lookup.is_done() {
                steps += 1;
                prop_assert!(steps < 10_000);
                while let Some((addr, id)) = lookup.next() {
                    flying.push(Contact { addr, id: id.unwrap() });
                }
                prop_assert!(!flying.is_empty(), "it waits for nobody");
                let at = rng.below(flying.len());
                match rng.below(4) {
                    0 => lookup.late(flying[at].addr),
                    1 => lookup.failed(flying.swap_remove(at).addr),
                    _ => {
                        let from = flying.swap_remove(at);
                        lookup.answered(from, None, None);
                        for _ in 0..8 {
                            lookup.offer(stranger(&mut rng), Some(from.addr));
                        }
                    }
                }
            }
            prop_assert!(lookup.queries() <= QUERIES_MAX);
        }
    }
}
