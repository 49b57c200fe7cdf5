//! One node: one socket of ours, in the DHT of its address family.

mod searches;
mod serve;
mod upkeep;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use riverrun_base::{Rng, Time};

use self::upkeep::Upkeep;
use crate::config::Config;
use crate::contact::{Contact, Family, read_contacts};
use crate::id::NodeId;
use crate::items::ItemStore;
use crate::krpc::{Answer, Ask, Asker, Body, Message, Padding, Want, write_query};
use crate::limits::Gate;
use crate::peers::PeerStore;
use crate::question::{Datagram, Event, LookupId, Outbox, Report};
use crate::reach::Reach;
use crate::rpcs::{Pending, Rpcs, Silence};
use crate::search::Search;
use crate::table::Table;
use crate::token::Tokens;
use crate::votes::Votes;

/// What a query was sent for.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// To see whether a node lives.
    Verify,
    /// For a search.
    Search(LookupId),
    /// To store at the end of a search.
    Store(LookupId),
    /// To see whether somebody is where its query came from, before it gets an answer that is much longer.
    Prove(Proof),
}

/// An answer that waits until its receiver has shown that it is there.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    transaction: Vec<u8>,
    target: NodeId,
}

/// What a node needs of its surroundings while it handles one input.
pub(crate) struct Cx<'a> {
    pub(crate) now: Time,
    pub(crate) config: &'a Config,
    pub(crate) socket: usize,
    pub(crate) out: &'a mut Outbox,
    /// Nodes of the other family that were named to us, for our sibling.
    pub(crate) foreign: Vec<Contact>,
    /// Searches that are over.
    pub(crate) ended: Vec<(LookupId, Report)>,
}

/// One node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    family: Family,
    id: NodeId,
    /// There is a node of ours in the other family, which likes to hear of others (BEP 32).
    has_sibling: bool,
    table: Table,
    reach: Reach,
    rpcs: Rpcs<Purpose>,
    searches: BTreeMap<LookupId, Search>,
    tokens: Tokens,
    peers: PeerStore,
    items: ItemStore,
    gate: Gate,
    votes: Votes,
    upkeep: Upkeep,
    rng: Rng,
}

/// What a node begins with.
#[derive(Clone, Debug)]
pub(crate) struct Beginning {
    pub(crate) family: Family,
    pub(crate) id: NodeId,
    pub(crate) has_sibling: bool,
    /// Nodes that lived when we did the last time.
    pub(crate) known: Vec<Contact>,
}

impl Node {
    pub(crate) fn new(now: Time, config: &Config, beginning: Beginning, mut rng: Rng) -> Self {
        let Beginning {
            family,
            id,
            has_sibling,
            known,
        } = beginning;
        // Invariant: eight of thirty-two bytes.
        let secret = u64::from_le_bytes(config.secret[..8].try_into().expect("eight bytes"));
        Self {
            family,
            id,
            has_sibling,
            table: Table::new(id, config.is_local_network, rng.next_u64()),
            reach: Reach::default(),
            rpcs: Rpcs::new(secret ^ u64::from_le_bytes(first_eight(id))),
            searches: BTreeMap::new(),
            tokens: Tokens::new(config.secret),
            peers: PeerStore::new(config.is_local_network),
            items: ItemStore::default(),
            gate: Gate::new(now, config, rng.next_u64()),
            votes: Votes::default(),
            upkeep: Upkeep::new(now, known, &mut rng),
            rng,
        }
    }

    pub(crate) const fn family(&self) -> Family {
        self.family
    }

    pub(crate) const fn id(&self) -> NodeId {
        self.id
    }

    /// There is a node of ours in the other family now, or none any more.
    pub(crate) const fn set_sibling(&mut self, has_sibling: bool) {
        self.has_sibling = has_sibling;
    }

    /// The searches under way that others wait for.
    pub(crate) fn searches(&self) -> impl Iterator<Item = LookupId> + '_ {
        let searches = self.searches.keys().copied();
        searches.filter(|lookup| !lookup.is_upkeep())
    }

    /// Our address as others see it, if we know it.
    pub(crate) const fn own_ip(&self) -> Option<IpAddr> {
        self.votes.ours()
    }

    pub(crate) const fn table(&self) -> &Table {
        &self.table
    }

    /// How many torrents others store here.
    pub(crate) fn torrent_count(&self) -> usize {
        self.peers.torrent_count()
    }

    /// Takes a message. `near` names nodes of our sibling near a target, for those who want them.
    pub(crate) fn handle(
        &mut self,
        cx: &mut Cx<'_>,
        from: SocketAddr,
        message: Message<'_>,
        len: usize,
        near: impl FnOnce(NodeId) -> Vec<Contact>,
    ) {
        let Message { transaction, body } = message;
        match body {
            Body::Query { .. } | Body::BadQuery { .. } if cx.config.is_read_only => {}
            Body::Query {
                id,
                is_read_only,
                want,
                ask,
            } => {
                if !self.gate.admits(cx.now, from) {
                    return;
                }
                let query = serve::Query {
                    from,
                    transaction,
                    len,
                    want: want.unwrap_or(Want::only(self.family)),
                };
                self.serve(cx, &query, &ask, near);
                if !is_read_only {
                    let contact = Contact { id, addr: from };
                    self.hear_of(contact);
                }
            }
            Body::BadQuery { what } => {
                if self.gate.admits(cx.now, from) {
                    self.complain(cx, from, transaction, crate::krpc::code::PROTOCOL, what);
                }
            }
            Body::Answer(answer) => {
                if let Some(pending) = self.rpcs.end(cx.now, from, transaction) {
                    self.answered(cx, pending, &answer);
                }
            }
            Body::Error { code, message } => {
                if let Some(pending) = self.rpcs.end(cx.now, from, transaction) {
                    let message = String::from_utf8_lossy(message).chars().take(200).collect();
                    self.refused(cx, &pending, (code, message));
                }
            }
        }
    }

    fn answered(&mut self, cx: &mut Cx<'_>, pending: Pending<Purpose>, answer: &Answer<'_>) {
        let contact = Contact {
            id: answer.id,
            addr: pending.to,
        };
        if let Some(ip) = answer.ip {
            self.vote(cx, pending.to.ip(), ip.ip());
        }
        let is_who_it_was = pending.id.is_none_or(|id| id == answer.id);
        if is_who_it_was {
            let rtt = pending.age(cx.now);
            if self.table.answered(cx.now, contact, rtt) {
                self.wake_searches(cx);
            }
        } else {
            // Whoever changes names is no node to rely on.
            self.table.remove(pending.to);
        }
        let (ours, foreign) = match self.family {
            Family::V4 => (answer.nodes, answer.nodes6),
            Family::V6 => (answer.nodes6, answer.nodes),
        };
        // An answer names eight; what pretends to be one with more is read no further.
        let named: Vec<_> = read_contacts(ours, self.family).take(16).collect();
        if self.has_sibling {
            cx.foreign
                .extend(read_contacts(foreign, self.family.other()).take(16));
        }
        match pending.purpose {
            Purpose::Verify => {
                for contact in named {
                    self.hear_of(contact);
                }
            }
            Purpose::Search(lookup) => self.search_answered(cx, lookup, contact, answer, &named),
            Purpose::Store(lookup) => self.stored(cx, lookup, Ok(())),
            Purpose::Prove(proof) => self.serve_proven(cx, pending.to, &proof),
        }
    }

    /// A node has answered with an error: it lives, and that is all.
    fn refused(&mut self, cx: &mut Cx<'_>, pending: &Pending<Purpose>, refusal: (i64, String)) {
        match &pending.purpose {
            Purpose::Verify | Purpose::Prove(_) => {}
            Purpose::Search(lookup) => self.search_failed(cx, *lookup, pending.to),
            Purpose::Store(lookup) => self.stored(cx, *lookup, Err(Some(refusal))),
        }
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        while let Some(silence) = self.rpcs.expire(cx.now) {
            match silence {
                Silence::Late { to, purpose } => {
                    if let Purpose::Search(lookup) = purpose {
                        self.search_late(cx, lookup, to);
                    }
                }
                Silence::Lost(pending) => {
                    self.table.failed(pending.to);
                    match pending.purpose {
                        Purpose::Verify | Purpose::Prove(_) => {}
                        Purpose::Search(lookup) => self.search_failed(cx, lookup, pending.to),
                        Purpose::Store(lookup) => self.stored(cx, lookup, Err(None)),
                    }
                }
            }
        }
        self.end_waits(cx);
        self.do_upkeep(cx);
    }

    /// When something will be due.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let waits = self.searches.values().filter_map(Search::waits_until);
        let upkeep = Some(self.upkeep.next_due());
        waits.chain(upkeep).chain(self.rpcs.next_deadline()).min()
    }

    /// Sends a query. Whether there was room for it.
    fn query(
        &mut self,
        cx: &mut Cx<'_>,
        to: (SocketAddr, Option<NodeId>),
        ask: &Ask<'_>,
        padding: Padding,
        purpose: Purpose,
    ) -> bool {
        if !self.rpcs.has_room() {
            return false;
        }
        let (to, id) = to;
        let transaction = self.rpcs.begin(cx.now, to, id, purpose);
        let asker = Asker {
            id: self.id,
            is_read_only: cx.config.is_read_only,
        };
        // The sibling looks for values itself; nodes to begin with are welcome.
        let is_walk = matches!(ask, Ask::FindNode { .. });
        let want = (self.has_sibling && is_walk).then_some(Want::BOTH);
        let bytes = write_query(&transaction, asker, want, ask, padding);
        send(cx, to, bytes);
        true
    }

    /// A node tells our address as it sees it.
    fn vote(&mut self, cx: &mut Cx<'_>, voter: IpAddr, ip: IpAddr) {
        let Some(ip) = self.votes.cast(voter, ip) else {
            return;
        };
        cx.out.events.push(Event::OwnAddress(ip));
        if !self.id.suits(ip) {
            self.id = NodeId::for_ip(ip, &mut self.rng);
            self.table.rename(self.id);
            self.upkeep.bootstrap_soon(cx.now);
        }
    }
}

fn send(cx: &mut Cx<'_>, to: SocketAddr, bytes: Vec<u8>) {
    cx.out.datagrams.push(Datagram {
        socket: cx.socket,
        to,
        bytes,
    });
}

fn first_eight(id: NodeId) -> [u8; 8] {
    // Invariant: eight of twenty bytes.
    id.0[..8].try_into().expect("eight bytes")
}
