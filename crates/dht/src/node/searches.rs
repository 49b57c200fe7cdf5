//! The searches of a node: who is asked next, and what is told.

use std::net::SocketAddr;

use riverrun_base::InfoHash;

use crate::contact::Contact;
use crate::krpc::{Answer, Padding};
use crate::lookup::Rules;
use crate::peers::Wanted;
use crate::question::{Event, LookupId, Question};
use crate::reach::estimate_count;
use crate::search::Search;
use crate::table::BUCKET_NODES;

use super::{Cx, Node, Purpose};

/// How many nodes of the table a search begins with.
const FIRST_NODES: usize = 2 * BUCKET_NODES;

/// How many of the peers that others have announced to us a search of ours begins with.
const OWN_PEERS_MAX: usize = 200;

/// How many searches one node has under way; more wait outside.
pub(crate) const SEARCHES_MAX: usize = 256;

impl Node {
    /// Whether another search may begin.
    pub(crate) fn has_room_for_search(&self) -> bool {
        self.searches.len() < SEARCHES_MAX
    }

    /// How far the nearest nodes of a target reach, as far as we know.
    fn reach(&self) -> u64 {
        self.reach.usual(self.table.reach())
    }

    /// How many nodes the network has, as far as their spacing tells; zero if it cannot.
    pub(crate) fn estimate_network(&self) -> u64 {
        estimate_count(self.reach())
    }

    /// Begins a search.
    pub(crate) fn search(&mut self, cx: &mut Cx<'_>, lookup: LookupId, question: Question) {
        let rules = Rules {
            own: self.id,
            parallel: cx.config.parallel_queries,
            enforce_ids: cx.config.enforce_ids,
            is_local_network: cx.config.is_local_network,
            reach: self.reach(),
        };
        let mut search = Search::new(cx.now, question, rules);
        self.seed(&mut search);
        let target = search.lookup.target();
        let wanted = Wanted {
            count_max: OWN_PEERS_MAX,
            no_seeds: false,
        };
        let peers = self.peers.peers(InfoHash(target.0), wanted, &mut self.rng);
        if let Some(finding) = search.begin_with(peers, self.items.find(target)) {
            cx.out.events.push(Event::Found { lookup, finding });
        }
        self.searches.insert(lookup, search);
        self.pump(cx, lookup);
    }

    /// Gives up a search without a word.
    pub(crate) fn cancel(&mut self, lookup: LookupId) {
        self.searches.remove(&lookup);
    }

    /// Gives a search somebody to begin with.
    fn seed(&self, search: &mut Search) {
        let target = search.lookup.target();
        for contact in self.table.closest(target, FIRST_NODES) {
            search.lookup.offer(contact, None);
        }
        if self.table.len() < FIRST_NODES {
            for contact in self.upkeep.known_near(target, FIRST_NODES) {
                search.lookup.offer(contact, None);
            }
            for addr in self.upkeep.routers() {
                search.lookup.offer_start(*addr);
            }
        }
    }

    /// There is a node in the table: searches that waited for one go on.
    pub(super) fn wake_searches(&mut self, cx: &mut Cx<'_>) {
        let waiting: Vec<_> = self
            .searches
            .iter()
            .filter(|(_, search)| search.waits_until().is_some())
            .map(|(lookup, _)| *lookup)
            .collect();
        for lookup in waiting {
            if let Some(mut search) = self.searches.remove(&lookup) {
                self.seed(&mut search);
                self.searches.insert(lookup, search);
                self.pump(cx, lookup);
            }
        }
    }

    /// Ends the searches that have waited for somebody to ask for too long.
    pub(super) fn end_waits(&mut self, cx: &mut Cx<'_>) {
        let is_over = |search: &Search| search.waits_until().is_some_and(|until| until <= cx.now);
        let over: Vec<_> = self
            .searches
            .iter()
            .filter(|(_, search)| is_over(search))
            .map(|(lookup, _)| *lookup)
            .collect();
        for lookup in over {
            if let Some(search) = self.searches.get_mut(&lookup) {
                search.abandon();
            }
            self.end(cx, lookup);
        }
    }

    pub(super) fn search_answered(
        &mut self,
        cx: &mut Cx<'_>,
        lookup: LookupId,
        from: Contact,
        answer: &Answer<'_>,
        named: &[Contact],
    ) {
        let Some(search) = self.searches.get_mut(&lookup) else {
            return;
        };
        let finding = search.answered(from, self.family, answer);
        for contact in named {
            search.lookup.offer(*contact, Some(from.addr));
        }
        if let Some(finding) = finding.filter(|_| !lookup.is_upkeep()) {
            cx.out.events.push(Event::Found { lookup, finding });
        }
        self.pump(cx, lookup);
    }

    pub(super) fn search_late(&mut self, cx: &mut Cx<'_>, lookup: LookupId, addr: SocketAddr) {
        if let Some(search) = self.searches.get_mut(&lookup) {
            search.lookup.late(addr);
            self.pump(cx, lookup);
        }
    }

    pub(super) fn search_failed(&mut self, cx: &mut Cx<'_>, lookup: LookupId, addr: SocketAddr) {
        if let Some(search) = self.searches.get_mut(&lookup) {
            search.lookup.failed(addr);
            self.pump(cx, lookup);
        }
    }

    pub(super) fn stored(
        &mut self,
        cx: &mut Cx<'_>,
        lookup: LookupId,
        outcome: Result<(), Option<(i64, String)>>,
    ) {
        if let Some(search) = self.searches.get_mut(&lookup) {
            search.stored(outcome);
            self.end(cx, lookup);
        }
    }

    /// Asks as many nodes as may be asked now; ends the search if there is nothing left to learn.
    fn pump(&mut self, cx: &mut Cx<'_>, lookup: LookupId) {
        let Some(mut search) = self.searches.remove(&lookup) else {
            return;
        };
        if search.is_looking() {
            let (ask, padding) = search.ask();
            while self.rpcs.has_room()
                && let Some(to) = search.lookup.next()
            {
                self.query(cx, to, &ask, padding, Purpose::Search(lookup));
            }
            if search.lookup.is_done() && search.waits_until().is_none() {
                self.store(cx, lookup, &mut search);
            }
        }
        self.searches.insert(lookup, search);
        self.end(cx, lookup);
    }

    /// The nearest nodes are found: those that are to store something are told so.
    fn store(&mut self, cx: &mut Cx<'_>, lookup: LookupId, search: &mut Search) {
        for holder in search.begin_storing() {
            let sent = search.store_ask(&holder).is_some_and(|ask| {
                let purpose = Purpose::Store(lookup);
                self.query(cx, (holder.addr, None), &ask, Padding::Without, purpose)
            });
            if !sent {
                search.stored(Err(None));
            }
        }
    }

    /// Reports a search that is over, and forgets it.
    fn end(&mut self, cx: &mut Cx<'_>, lookup: LookupId) {
        if self.searches.get(&lookup).is_some_and(Search::is_over)
            && let Some(search) = self.searches.remove(&lookup)
        {
            if let Some(reach) = search.lookup.reach() {
                self.reach.note(search.lookup.target(), reach);
            }
            cx.ended.push((lookup, search.into_report()));
        }
    }
}
