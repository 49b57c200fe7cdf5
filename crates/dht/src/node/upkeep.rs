//! What a node does unasked, so that its table is good when it is needed.
//!
//! The node that was not heard of for the longest time is asked every few seconds, as the "NICE" design of Jimenez et
//! al. (2011) does and libtorrent after it: dead entries are found before a lookup runs into them, for one datagram
//! in six seconds. It is asked for nodes of its own part of the space, which refreshes the table by the way.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::{Rng, Time};

use crate::contact::{Contact, Family, is_host};
use crate::id::NodeId;
use crate::krpc::{Ask, Padding};
use crate::question::{LookupId, Question};

use super::{Cx, Node, Purpose};

/// How often the stalest node is asked.
const NICE_INTERVAL: Duration = Duration::from_secs(6);

/// A node that was heard of so lately is not asked.
const FRESH_FOR: Duration = Duration::from_mins(1);

/// How many nodes wait to be verified at most.
const TO_VERIFY_MAX: usize = 320;

/// How many of them strangers may have named; the rest is for those that we knew before.
const NAMED_MAX: usize = 64;

/// Nodes that we knew in the last run are asked so many at a time; those that strangers name one at a time, so that
/// nobody can have us flood others.
const KNOWN_AT_ONCE: usize = 16;
const VERIFY_INTERVAL: Duration = Duration::from_millis(50);

/// With fewer nodes than this we look for our place again.
const NODES_FEW: usize = 16;

/// How long after a search for our own place that found few nodes the next one begins: doubled each time.
const BOOTSTRAP_WAIT_MIN: Duration = Duration::from_secs(5);
const BOOTSTRAP_WAIT_MAX: Duration = Duration::from_mins(5);

/// How often our own place is looked for in any case (BEP 5).
const OWN_INTERVAL: Duration = Duration::from_mins(15);

/// How often one bucket is refilled: quickly once, then so that each has its turn in a quarter of an hour or so.
const REFILL_FIRST: Duration = Duration::from_secs(2);
const REFILL_INTERVAL: Duration = Duration::from_mins(1);

/// How often what others stored is looked through for what is too old.
const EXPIRE_INTERVAL: Duration = Duration::from_mins(5);

/// The marks of our own searches.
const OWN_LOOKUP: u64 = 1 << 63;

impl LookupId {
    /// Whether it is one of a node's own, of which nobody is told.
    pub(crate) const fn is_upkeep(self) -> bool {
        self.0 & OWN_LOOKUP != 0
    }
}

/// When what is due, and who is to be asked.
#[derive(Clone, Debug)]
pub(crate) struct Upkeep {
    /// Nodes of the last run, until there are others.
    known: Vec<Contact>,
    to_verify: VecDeque<Contact>,
    routers: Vec<SocketAddr>,
    lookups: u64,
    next_verify: Time,
    next_nice: Time,
    next_bootstrap: Time,
    bootstrap_wait: Duration,
    next_refill: Time,
    refill_at: u32,
    next_expire: Time,
}

impl Upkeep {
    pub(super) fn new(now: Time, known: Vec<Contact>, rng: &mut Rng) -> Self {
        // Ten thousand nodes that start together do not do everything together.
        let jitter = Duration::from_millis(rng.below(1000) as u64);
        Self {
            to_verify: known.iter().copied().take(TO_VERIFY_MAX).collect(),
            known,
            routers: Vec::new(),
            lookups: 0,
            next_verify: now,
            next_nice: now + NICE_INTERVAL + jitter,
            next_bootstrap: now,
            bootstrap_wait: BOOTSTRAP_WAIT_MIN,
            next_refill: now + REFILL_FIRST + jitter,
            refill_at: 0,
            next_expire: now + EXPIRE_INTERVAL + jitter,
        }
    }

    /// Addresses to begin from.
    pub(super) fn routers(&self) -> &[SocketAddr] {
        &self.routers
    }

    /// The nodes of the last run that are nearest to a target.
    pub(super) fn known_near(&self, target: NodeId, count: usize) -> Vec<Contact> {
        let mut near = self.known.clone();
        near.sort_unstable_by_key(|contact| contact.id.distance(&target));
        near.truncate(count);
        near
    }

    /// Looks for our place at once.
    pub(super) fn bootstrap_soon(&mut self, now: Time) {
        self.next_bootstrap = now;
        self.bootstrap_wait = BOOTSTRAP_WAIT_MIN;
    }

    pub(super) fn next_due(&self) -> Time {
        let verify = (!self.to_verify.is_empty()).then_some(self.next_verify);
        let others = [
            self.next_nice,
            self.next_bootstrap,
            self.next_refill,
            self.next_expire,
        ];
        // Invariant: there are four at least.
        verify
            .into_iter()
            .chain(others)
            .min()
            .expect("something is always due")
    }
}

impl Node {
    /// Takes addresses to begin from.
    pub(crate) fn add_routers(&mut self, now: Time, routers: &[SocketAddr]) {
        for addr in routers {
            if Family::of(*addr) == self.family && !self.upkeep.routers.contains(addr) {
                self.upkeep.routers.push(*addr);
                self.upkeep.bootstrap_soon(now);
            }
        }
    }

    /// There may be a node: it is asked before it is believed, if there is room for it.
    pub(crate) fn hear_of(&mut self, contact: Contact) {
        let queue = &mut self.upkeep.to_verify;
        if Family::of(contact.addr) == self.family
            && queue.len() < NAMED_MAX
            && is_host(contact.addr)
            && self.table.has_room_for(contact)
            && !queue.iter().any(|known| known.addr == contact.addr)
        {
            queue.push_back(contact);
        }
    }

    /// There may be a node at an address: a peer says so (BEP 5, "port"), or it is one to begin with. It is asked, and
    /// whoever answers is known.
    pub(crate) fn ping(&mut self, cx: &mut Cx<'_>, addr: SocketAddr) {
        if is_host(addr) && !self.table.has_addr(addr) {
            let ask = Ask::FindNode { target: self.id };
            self.query(cx, (addr, None), &ask, Padding::Without, Purpose::Verify);
        }
    }

    pub(super) fn do_upkeep(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        if self.upkeep.next_verify <= now {
            self.verify(cx);
        }
        if self.upkeep.next_nice <= now {
            self.upkeep.next_nice = now + NICE_INTERVAL;
            self.be_nice(cx);
        }
        if self.upkeep.next_bootstrap <= now {
            self.bootstrap(cx);
        }
        if self.upkeep.next_refill <= now {
            self.refill(cx);
        }
        if self.upkeep.next_expire <= now {
            self.upkeep.next_expire = now + EXPIRE_INTERVAL;
            self.peers.expire(now);
            self.items.expire(now);
        }
    }

    /// Asks some of those that may be nodes.
    fn verify(&mut self, cx: &mut Cx<'_>) {
        self.upkeep.next_verify = cx.now + VERIFY_INTERVAL;
        let count = if self.upkeep.to_verify.len() > NAMED_MAX {
            KNOWN_AT_ONCE
        } else {
            1
        };
        for _ in 0..count {
            let Some(contact) = self.upkeep.to_verify.pop_front() else {
                return;
            };
            if self.table.has_room_for(contact) {
                let ask = Ask::FindNode { target: self.id };
                let to = (contact.addr, Some(contact.id));
                self.query(cx, to, &ask, Padding::Without, Purpose::Verify);
            }
        }
    }

    fn be_nice(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        let long_ago = now - Time::ZERO;
        let before = Time::ZERO + long_ago.saturating_sub(FRESH_FOR);
        if let Some(contact) = self.table.stalest(now, before) {
            // What is near to it and not to us, which fills its bucket.
            let bits = self.id.shared_bits(&contact.id).min(158);
            let target = self.id.sibling(bits, &mut self.rng);
            let to = (contact.addr, Some(contact.id));
            let ask = Ask::FindNode { target };
            self.query(cx, to, &ask, Padding::Without, Purpose::Verify);
        }
    }

    /// Looks for our own place: the nodes there must know us.
    fn bootstrap(&mut self, cx: &mut Cx<'_>) {
        let upkeep = &mut self.upkeep;
        if self.table.len() < NODES_FEW {
            upkeep.next_bootstrap = cx.now + upkeep.bootstrap_wait;
            upkeep.bootstrap_wait = (upkeep.bootstrap_wait * 2).min(BOOTSTRAP_WAIT_MAX);
        } else {
            upkeep.next_bootstrap = cx.now + OWN_INTERVAL;
            upkeep.bootstrap_wait = BOOTSTRAP_WAIT_MIN;
            upkeep.known = Vec::new();
        }
        self.ask_router(cx);
        self.search_for_upkeep(cx, self.id);
    }

    /// Asks a node that we began from for our own place, if it is none that we know. A network that was cut in two for
    /// longer than tables remember would else stay two for ever: nobody in one half knows anybody in the other.
    fn ask_router(&mut self, cx: &mut Cx<'_>) {
        let routers = &self.upkeep.routers;
        if !routers.is_empty() {
            let router = routers[self.rng.below(routers.len())];
            self.ping(cx, router);
        }
    }

    /// Looks for nodes in a part of the space where we know few.
    fn refill(&mut self, cx: &mut Cx<'_>) {
        let upkeep = &mut self.upkeep;
        let Some(bits) = self.table.thin_from(upkeep.refill_at) else {
            upkeep.refill_at = 0;
            upkeep.next_refill = cx.now + REFILL_INTERVAL;
            return;
        };
        let is_first_round = cx.now - Time::ZERO < REFILL_INTERVAL;
        upkeep.refill_at = bits + 1;
        upkeep.next_refill = cx.now
            + if is_first_round {
                REFILL_FIRST
            } else {
                REFILL_INTERVAL
            };
        let target = self.id.sibling(bits, &mut self.rng);
        self.search_for_upkeep(cx, target);
    }

    fn search_for_upkeep(&mut self, cx: &mut Cx<'_>, target: NodeId) {
        // A visitor learns what it needs from the searches for which it came.
        let is_needed = !cx.config.is_read_only || self.table.len() < NODES_FEW;
        if !is_needed || !self.has_room_for_search() {
            return;
        }
        self.upkeep.lookups += 1;
        let lookup = LookupId(self.upkeep.lookups | OWN_LOOKUP);
        self.search(cx, lookup, Question::Nodes(target));
    }
}
