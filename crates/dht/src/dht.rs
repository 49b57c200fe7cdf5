//! All our nodes: one a socket, and searches that use one of each address family.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use riverrun_base::{Rng, Time};

use crate::config::Config;
use crate::contact::{Contact, Family};
use crate::id::NodeId;
use crate::krpc::{self, Ask, Body, Message};
use crate::node::{Beginning, Cx, Node};
use crate::question::{Event, LookupId, Outbox, Question, Report};
use crate::saved::SavedState;
use crate::table::BUCKET_NODES;

/// A datagram with fewer bytes is no message: the shortest possible one has more.
const DATAGRAM_BYTES_MIN: usize = 15;

/// How many addresses to begin from are remembered.
const ROUTERS_MAX: usize = 64;

/// How many searches may wait or be under way.
const LOOKUPS_MAX: usize = 256;

/// The nodes of one program (BEP 45: each socket's is one of its own, with its own id and table).
///
/// Whatever happens comes in by the `handle_*` methods; what is to be sent and told goes out by an [`Outbox`].
#[derive(Clone, Debug)]
pub struct Dht {
    config: Config,
    nodes: Vec<Node>,
    lookups: BTreeMap<LookupId, Underway>,
    next_lookup: u64,
    /// Which of several nodes of a family searches next.
    turn: usize,
    /// What nodes that begin later begin with.
    saved: SavedState,
    routers: Vec<SocketAddr>,
    rng: Rng,
}

/// A search that is under way.
#[derive(Clone, Debug)]
struct Underway {
    /// In so many families still.
    families: usize,
    report: Report,
}

/// A node in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeStats {
    /// In the DHT of which family.
    pub family: Family,
    /// Its id.
    pub id: NodeId,
    /// How many nodes are in its table.
    pub nodes: usize,
    /// How many nodes there are, as far as the spacing of ids tells.
    pub network: u64,
    /// How many torrents others have announced to it.
    pub torrents: usize,
    /// Its address as others see it.
    pub own_ip: Option<IpAddr>,
}

impl Dht {
    /// Nodes for sockets with these local addresses, in this order. `saved` is what an earlier run left. Two with the
    /// same seed, and the same inputs at the same times, do the same.
    pub fn new(
        now: Time,
        config: Config,
        sockets: &[SocketAddr],
        saved: &SavedState,
        seed: u64,
    ) -> Self {
        let mut dht = Self {
            config,
            nodes: Vec::new(),
            lookups: BTreeMap::new(),
            next_lookup: 0,
            turn: 0,
            saved: saved.clone(),
            routers: Vec::new(),
            rng: Rng::new(seed),
        };
        dht.set_sockets(now, sockets, &mut Outbox::default());
        dht
    }

    /// The sockets are others now, with these local addresses in this order: a node that has one still stays, others
    /// begin or end. Without a socket there is nothing to be asked; searches wait.
    pub fn set_sockets(&mut self, now: Time, sockets: &[SocketAddr], out: &mut Outbox) {
        if !self.nodes.is_empty() {
            self.saved = self.save(now);
        }
        let mut old = std::mem::take(&mut self.nodes);
        let families: Vec<_> = sockets.iter().map(|addr| Family::of(*addr)).collect();
        for (at, family) in families.iter().enumerate() {
            let has_sibling = families.contains(&family.other());
            if let Some(same) = old.iter().position(|node| node.family() == *family) {
                let mut node = old.remove(same);
                node.set_sibling(has_sibling);
                self.nodes.push(node);
                continue;
            }
            let known = self.saved.nodes.iter().copied();
            let known = known.filter(|contact| Family::of(contact.addr) == *family);
            let beginning = Beginning {
                family: *family,
                id: first_id(&self.saved, at, sockets[at], &mut self.rng),
                has_sibling,
                known: known.collect(),
            };
            let mut node = Node::new(now, &self.config, beginning, self.rng.fork());
            node.add_routers(now, &self.routers);
            self.nodes.push(node);
        }
        for lookup in old.iter().flat_map(Node::searches) {
            self.join(lookup, Report::default(), out);
        }
    }

    /// Takes a datagram that came to the socket with this number. Gives nothing back for what is no message.
    pub fn handle_datagram(
        &mut self,
        now: Time,
        socket: usize,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut Outbox,
    ) {
        if from.port() == 0 || bytes.len() < DATAGRAM_BYTES_MIN || socket >= self.nodes.len() {
            return;
        }
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let Some(message) = krpc::read(bytes) else {
            return;
        };
        let near = self.sibling_near(socket, &message);
        self.with(now, socket, out, |node, cx| {
            node.handle(cx, from, message, bytes.len(), |_| near);
        });
    }

    /// Lets one node do something, and sees to what follows from it for others.
    fn with(
        &mut self,
        now: Time,
        socket: usize,
        out: &mut Outbox,
        act: impl FnOnce(&mut Node, &mut Cx<'_>),
    ) {
        let mut cx = Cx {
            now,
            config: &self.config,
            socket,
            out,
            foreign: Vec::new(),
            ended: Vec::new(),
        };
        act(&mut self.nodes[socket], &mut cx);
        let Cx { foreign, ended, .. } = cx;
        self.hear_of(socket, &foreign);
        for (lookup, report) in ended {
            self.join(lookup, report, out);
        }
    }

    /// Nodes of the other family near the target of a query that wants them (BEP 32).
    fn sibling_near(&self, socket: usize, message: &Message<'_>) -> Vec<Contact> {
        let other = self.nodes[socket].family().other();
        let Body::Query {
            want: Some(want),
            ask,
            ..
        } = &message.body
        else {
            return Vec::new();
        };
        let target = match ask {
            Ask::FindNode { target } | Ask::Get { target, .. } | Ask::Sample { target } => *target,
            Ask::GetPeers { info_hash, .. } => (*info_hash).into(),
            _ => return Vec::new(),
        };
        let sibling = self.nodes.iter().find(|node| node.family() == other);
        sibling
            .filter(|_| want.wants(other))
            .map_or_else(Vec::new, |node| node.table().closest(target, BUCKET_NODES))
    }

    /// Nodes of the other family were named to one of ours: they are for its sibling.
    fn hear_of(&mut self, socket: usize, foreign: &[Contact]) {
        let family = self.nodes[socket].family().other();
        if let Some(sibling) = self.nodes.iter_mut().find(|node| node.family() == family) {
            for contact in foreign {
                sibling.hear_of(*contact);
            }
        }
    }

    /// Does what is due. To be called at [`Dht::poll_timeout`], and harmless at any other time.
    pub fn handle_timeout(&mut self, now: Time, out: &mut Outbox) {
        for socket in 0..self.nodes.len() {
            self.with(now, socket, out, Node::handle_timeout);
        }
    }

    /// When [`Dht::handle_timeout`] is to be called, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.nodes.iter().filter_map(Node::poll_timeout).min()
    }

    /// Takes addresses of nodes to begin from.
    pub fn add_routers(&mut self, now: Time, routers: &[SocketAddr]) {
        for router in routers {
            if self.routers.len() < ROUTERS_MAX && !self.routers.contains(router) {
                self.routers.push(*router);
            }
        }
        for node in &mut self.nodes {
            node.add_routers(now, &self.routers);
        }
    }

    /// There may be a node at an address, as a peer says (BEP 5, "port") or a torrent file that names nodes: it is asked.
    pub fn ping(&mut self, now: Time, addr: SocketAddr, out: &mut Outbox) {
        let family = Family::of(addr);
        if let Some(socket) = self.nodes.iter().position(|node| node.family() == family) {
            self.with(now, socket, out, |node, cx| node.ping(cx, addr));
        }
    }

    /// Begins a search, by one node of each family. What it finds is told by [`Event::Found`], its end by
    /// [`Event::Ended`]. `None` if there are too many.
    pub fn search(&mut self, now: Time, question: &Question, out: &mut Outbox) -> Option<LookupId> {
        let nodes = self.searchers();
        if nodes.is_empty() || self.lookups.len() >= LOOKUPS_MAX {
            return None;
        }
        self.next_lookup += 1;
        let lookup = LookupId(self.next_lookup);
        let underway = Underway {
            families: nodes.len(),
            report: Report::default(),
        };
        self.lookups.insert(lookup, underway);
        for socket in nodes {
            self.with(now, socket, out, |node, cx| {
                node.search(cx, lookup, question.clone());
            });
        }
        Some(lookup)
    }

    /// Whether a search can begin now: there is a socket, and not too much is under way.
    pub fn has_room(&self) -> bool {
        self.lookups.len() < LOOKUPS_MAX && self.nodes.iter().any(Node::has_room_for_search)
    }

    /// One node of each family that has room; another one each time, if there are several.
    fn searchers(&mut self) -> Vec<usize> {
        self.turn = self.turn.wrapping_add(1);
        let mut searchers = Vec::new();
        for family in [Family::V4, Family::V6] {
            let of_family = |at: &usize| {
                let node: &Node = &self.nodes[*at];
                node.family() == family && node.has_room_for_search()
            };
            let able: Vec<_> = (0..self.nodes.len()).filter(of_family).collect();
            if !able.is_empty() {
                searchers.push(able[self.turn % able.len()]);
            }
        }
        searchers
    }

    /// Gives up a search; nothing more is told of it.
    pub fn cancel(&mut self, lookup: LookupId) {
        self.lookups.remove(&lookup);
        for node in &mut self.nodes {
            node.cancel(lookup);
        }
    }

    /// Whether there are nodes to ask.
    pub fn is_ready(&self) -> bool {
        self.nodes.iter().any(|node| node.table().len() > 0)
    }

    /// The nodes in numbers, in the order of their sockets.
    pub fn stats(&self) -> Vec<NodeStats> {
        let stats = |node: &Node| NodeStats {
            family: node.family(),
            id: node.id(),
            nodes: node.table().len(),
            network: node.estimate_network(),
            torrents: node.torrent_count(),
            own_ip: node.own_ip(),
        };
        self.nodes.iter().map(stats).collect()
    }

    /// What to keep for the next run.
    pub fn save(&self, now: Time) -> SavedState {
        SavedState {
            ids: self
                .nodes
                .iter()
                .map(|node| (node.id(), node.own_ip()))
                .collect(),
            nodes: self
                .nodes
                .iter()
                .flat_map(|node| node.table().alive(now))
                .collect(),
        }
    }

    /// One search in two families is one search outside.
    fn join(&mut self, lookup: LookupId, report: Report, out: &mut Outbox) {
        let Some(underway) = self.lookups.get_mut(&lookup) else {
            return;
        };
        underway.report.join(report);
        underway.families -= 1;
        if underway.families == 0
            && let Some(Underway { report, .. }) = self.lookups.remove(&lookup)
        {
            out.events.push(Event::Ended { lookup, report });
        }
    }
}

/// The id that a socket's node begins with: the one of the last run, unless the address that the socket is bound to
/// may not bear it (BEP 42). A socket that is bound to no address learns its own from others.
fn first_id(saved: &SavedState, at: usize, local: SocketAddr, rng: &mut Rng) -> NodeId {
    let last = saved.ids.get(at).map(|(id, _)| *id);
    if local.ip().is_unspecified() {
        return last.unwrap_or_else(|| NodeId::random(rng));
    }
    last.filter(|id| id.suits(local.ip()))
        .unwrap_or_else(|| NodeId::for_ip(local.ip(), rng))
}
