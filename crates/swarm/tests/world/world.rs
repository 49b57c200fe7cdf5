//! A deterministic world: clients, wires between them, a tracker, and a clock that only events move.

mod disk;
mod line;
mod talk;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use riverrun_base::{Bitfield, Block, BlockSpan, InfoHashes, PeerId, PieceIndex, Rng, Time};
use riverrun_hash::Sha256;
use riverrun_peer::{CloseReason, HashRequest, Hashes};
use riverrun_swarm::{
    AddTorrent, Config, ConnKey, Event, Input, NetAction, TorrentCommand, TorrentKey,
    TorrentOptions, TorrentState, TrackerKey, UnchokeSlots,
};
use riverrun_tracker::{AnnounceEvent, AnnounceRequest, AnnounceResponse, TrackerFailure};

use crate::content::Content;
use crate::node::{Manners, Node};
use crate::wire::{Side, Wire};

/// How long a disk takes for anything.
const DISK_TIME: Duration = Duration::from_millis(1);
/// How long a piece takes from verified to durable.
const DURABLE_TIME: Duration = Duration::from_secs(1);
/// Silence after which a peer that owes blocks snubs us.
const SNUB_TIME: Duration = Duration::from_secs(30);
/// The tracker of the world.
pub(crate) const TRACKER: &str = "http://tracker.example/announce";

pub(crate) struct World {
    pub(crate) now: Time,
    sequence: u64,
    heap: BTreeMap<(Time, u64), What>,
    pub(crate) nodes: Vec<Node>,
    wires: Vec<Wire>,
    by_addr: BTreeMap<SocketAddr, usize>,
    pub(crate) announces: Vec<Announce>,
    swarm: Vec<SocketAddr>,
    tokens: BTreeMap<u64, usize>,
    /// Who was at the other end of whose connections.
    ends: BTreeMap<(usize, ConnKey), usize>,
    pub(crate) dials: Vec<(usize, SocketAddr)>,
    /// Pieces that somebody has received.
    pub(crate) spread: BTreeSet<PieceIndex>,
    rng: Rng,
    /// One way.
    pub(crate) latency: Duration,
    /// Look at every shard's invariants after each of its inputs.
    pub(crate) is_checked: bool,
    /// The trackers of torrents that are added from now on.
    pub(crate) trackers: Vec<Vec<String>>,
    pub(crate) trackers_down: Vec<String>,
    trace: Option<Sha256>,
    pub(crate) inputs: u64,
    fast: bool,
}

/// An announce that somebody has made.
pub(crate) struct Announce {
    pub(crate) node: usize,
    pub(crate) at: Time,
    pub(crate) url: String,
    pub(crate) request: AnnounceRequest,
}

enum What {
    Input(usize, Box<Input>),
    Wake(usize),
    Deliver(usize, Side, Message),
    Sent(usize, (usize, Side), BlockSpan, Block),
    Ready(usize),
    SnubCheck(usize, Side),
}

/// What goes over a wire.
pub(crate) enum Message {
    Have(PieceIndex),
    Pieces(Bitfield),
    DontHave(PieceIndex),
    Choke(Vec<BlockSpan>),
    Unchoke,
    Interested(bool),
    Requests(Vec<BlockSpan>),
    Cancel(BlockSpan),
    Reject(BlockSpan),
    Block(BlockSpan, Block),
    Suggest(PieceIndex),
    AllowFast(PieceIndex),
    RequestHashes(HashRequest),
    Hashes(Hashes),
    RejectHashes(HashRequest),
    RequestMetadata(u32),
    Metadata(u32, u32, Vec<u8>),
    RejectMetadata(u32),
    UploadOnly,
    Closed,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: Time::ZERO,
            sequence: 0,
            heap: BTreeMap::new(),
            nodes: Vec::new(),
            wires: Vec::new(),
            by_addr: BTreeMap::new(),
            announces: Vec::new(),
            swarm: Vec::new(),
            tokens: BTreeMap::new(),
            ends: BTreeMap::new(),
            dials: Vec::new(),
            spread: BTreeSet::new(),
            rng: Rng::new(seed),
            latency: Duration::from_millis(20),
            is_checked: true,
            trackers: vec![vec![TRACKER.to_owned()]],
            trackers_down: Vec::new(),
            trace: None,
            inputs: 0,
            fast: true,
        }
    }

    /// Remember everything that shards do.
    pub(crate) fn traced(mut self) -> Self {
        self.trace = Some(Sha256::new());
        self
    }

    /// Peers without the fast extension.
    pub(crate) fn without_fast(mut self) -> Self {
        self.fast = false;
        self
    }

    pub(crate) fn trace(self) -> String {
        self.trace.expect("a traced world").finish().to_string()
    }

    /// A configuration with `slots` slots.
    pub(crate) fn config(&mut self, slots: u32) -> Config {
        let index = self.nodes.len();
        let mut id = [b'.'; 20];
        self.rng.fill(&mut id[..8]);
        let mut config = Config::new(PeerId(id), self.rng.next_u32());
        config.listen_port = u16::try_from(20_000 + index % 40_000).expect("a port");
        config.unchoke_slots = UnchokeSlots::Fixed(slots);
        config.contain_panics = false;
        config
    }

    /// Adds a client; gives its number.
    pub(crate) fn add_node(&mut self, content: &Content, rate: u64) -> usize {
        let config = self.config(4);
        self.add_node_with(config, content, rate)
    }

    pub(crate) fn add_node_with(&mut self, config: Config, content: &Content, rate: u64) -> usize {
        let index = self.nodes.len();
        let node = Node::new(index, config, self.rng.next_u64(), content.clone(), rate);
        self.by_addr.insert(node.addr, index);
        self.nodes.push(node);
        index
    }

    /// A client that has everything.
    pub(crate) fn seed(&mut self, content: &Content, rate: u64) -> usize {
        let node = self.add_node(content, rate);
        self.add_torrent(
            node,
            Bitfield::full(content.pieces()),
            TorrentOptions::default(),
        );
        node
    }

    /// A client that has nothing.
    pub(crate) fn leech(&mut self, content: &Content, rate: u64) -> usize {
        let node = self.add_node(content, rate);
        self.add_torrent(
            node,
            Bitfield::new(content.pieces()),
            TorrentOptions::default(),
        );
        node
    }

    pub(crate) fn add_torrent(&mut self, node: usize, have: Bitfield, options: TorrentOptions) {
        let content = self.nodes[node].content.clone();
        let metadata = Some((content.info.clone(), content.hashes.clone()));
        self.add_torrent_with(node, have, options, metadata, content.info.hashes());
    }

    /// Adds a torrent of which only the info-hash is known.
    pub(crate) fn add_magnet(&mut self, node: usize, hashes: InfoHashes) {
        let have = Bitfield::new(self.nodes[node].content.pieces());
        self.add_torrent_with(node, have, TorrentOptions::default(), None, hashes);
    }

    fn add_torrent_with(
        &mut self,
        node: usize,
        have: Bitfield,
        options: TorrentOptions,
        metadata: Option<(Arc<riverrun_metainfo::Info>, riverrun_metainfo::PieceHashes)>,
        hashes: InfoHashes,
    ) {
        self.nodes[node].disk.have = Some(have);
        let add = AddTorrent {
            request: 0,
            hashes,
            metadata,
            trackers: self.trackers.clone(),
            peers: Vec::new(),
            options,
        };
        self.input(node, Input::Add(Box::new(add)));
    }

    pub(crate) fn command(&mut self, node: usize, command: TorrentCommand) {
        let torrent = self.nodes[node].torrent.expect("a torrent");
        self.input(node, Input::Torrent { torrent, command });
    }

    /// A client vanishes without a word.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].is_dead = true;
        let addr = self.nodes[node].addr;
        self.swarm.retain(|other| *other != addr);
        for (wire, side) in self.nodes[node].conns.clone().into_values() {
            self.report_end(wire, side, CloseReason::PeerClosed);
            self.send(wire, side, Message::Closed);
        }
    }

    fn at(&mut self, time: Time, what: What) {
        self.sequence += 1;
        self.heap.insert((time, self.sequence), what);
    }

    fn after(&mut self, wait: Duration, what: What) {
        self.at(self.now + wait, what);
    }

    /// Hands an input to a client at once.
    pub(crate) fn input(&mut self, node: usize, input: Input) {
        if self.nodes[node].is_dead {
            return;
        }
        self.inputs += 1;
        let target = &mut self.nodes[node];
        target.shard.handle(self.now, input, &mut target.out);
        self.drain(node);
    }

    fn wake(&mut self, node: usize) {
        let target = &mut self.nodes[node];
        target.wakes_at = None;
        if target.is_dead {
            return;
        }
        if target.shard.poll_timeout().is_some_and(|at| at <= self.now) {
            self.inputs += 1;
            target.shard.handle_timeout(self.now, &mut target.out);
        }
        self.drain(node);
    }

    /// Does everything that a client wants done.
    fn drain(&mut self, node: usize) {
        let out = std::mem::take(&mut self.nodes[node].out);
        if let Some(trace) = &mut self.trace {
            trace.update(format!("{} {node} {out:?}", self.now).as_bytes());
        }
        if self.is_checked {
            self.nodes[node].shard.check_invariants();
        }
        for event in out.events {
            self.event(node, event);
        }
        for (conn, command) in out.peers {
            self.tell(node, conn, command);
        }
        for (torrent, job) in out.storage {
            self.storage(node, torrent, job);
        }
        for action in out.net {
            self.net(node, action);
        }
        let due = self.nodes[node].shard.poll_timeout();
        if let Some(at) = due {
            let at = at.max(self.now + Duration::from_micros(1));
            if self.nodes[node].wakes_at.is_none_or(|wakes| at < wakes) {
                self.nodes[node].wakes_at = Some(at);
                self.at(at, What::Wake(node));
            }
        }
    }

    fn event(&mut self, node: usize, event: Event) {
        match &event {
            Event::Added { torrent, .. } => self.nodes[node].torrent = Some(*torrent),
            Event::PieceVerified { piece, .. } => {
                self.spread.insert(*piece);
            }
            Event::Completed { .. } => self.nodes[node].completed_at = Some(self.now),
            _ => {}
        }
        self.nodes[node].events.push(event);
    }

    fn net(&mut self, node: usize, action: NetAction) {
        match action {
            NetAction::Dial {
                conn,
                addr,
                info_hash,
                attach,
                ..
            } => {
                self.dial(node, conn, addr, info_hash, attach);
            }
            NetAction::Accept {
                token,
                conn,
                attach,
            } => self.accept(token, conn, attach),
            NetAction::Refuse { token, .. } => {
                let wire = self.tokens.remove(&token).expect("a token once");
                self.report_end(wire, 0, CloseReason::PeerClosed);
            }
            NetAction::Announce {
                torrent,
                tracker,
                url,
                request,
            } => {
                self.announce(node, torrent, tracker, url.as_str(), request);
            }
        }
    }

    fn announce(
        &mut self,
        node: usize,
        torrent: TorrentKey,
        tracker: TrackerKey,
        url: &str,
        request: AnnounceRequest,
    ) {
        let addr = self.nodes[node].addr;
        let result = if self.trackers_down.iter().any(|down| down == url) {
            Err(TrackerFailure::TimedOut)
        } else {
            self.swarm.retain(|other| *other != addr);
            let mut peers = self.swarm.clone();
            self.rng.shuffle(&mut peers);
            peers.truncate(request.num_want.unwrap_or(50) as usize);
            if request.event != AnnounceEvent::Stopped {
                self.swarm.push(addr);
            }
            Ok(AnnounceResponse {
                interval: Duration::from_mins(30),
                min_interval: Some(Duration::from_mins(1)),
                peers,
                seeders: None,
                leechers: None,
                downloaded: None,
                external_ip: None,
                tracker_id: Some(b"id".to_vec()),
                warning: None,
            })
        };
        self.announces.push(Announce {
            node,
            at: self.now,
            url: url.to_owned(),
            request,
        });
        let answer = Input::Announced {
            torrent,
            tracker,
            result,
        };
        self.after(self.latency * 2, What::Input(node, Box::new(answer)));
    }

    /// Lets one thing happen; false if nothing will.
    pub(crate) fn step(&mut self) -> bool {
        let Some(((at, _), what)) = self.heap.pop_first() else {
            return false;
        };
        self.now = at;
        match what {
            What::Input(node, input) => self.input(node, *input),
            What::Wake(node) => self.wake(node),
            What::Deliver(wire, side, message) => self.deliver(wire, side, message),
            What::Sent(node, wire, span, block) => self.sent(node, wire, span, block),
            What::Ready(wire) => self.ready(wire),
            What::SnubCheck(wire, side) => self.snub_check(wire, side),
        }
        true
    }

    pub(crate) fn run_until(&mut self, end: Time) {
        while self
            .heap
            .first_key_value()
            .is_some_and(|((at, _), _)| *at <= end)
        {
            self.step();
        }
        self.now = end;
    }

    /// Runs until `done`; panics at `limit`.
    pub(crate) fn run_while(&mut self, limit: Time, mut going_on: impl FnMut(&Self) -> bool) {
        while going_on(self) {
            assert!(self.now < limit, "not done at {limit}: {}", self.summary());
            assert!(self.step(), "nothing happens any more: {}", self.summary());
        }
    }

    /// Runs until all of `nodes` have everything; gives when the last had.
    pub(crate) fn run_to_completion(&mut self, nodes: &[usize], limit: Time) -> Time {
        let mut left: Vec<usize> = nodes.to_vec();
        self.run_while(limit, |world| {
            left.retain(|node| !world.nodes[*node].has_all());
            !left.is_empty()
        });
        self.now
    }

    pub(crate) fn summary(&self) -> String {
        let node = |(index, node): (usize, &Node)| {
            let stats = node
                .torrent
                .and_then(|torrent| node.shard.stats(self.now, torrent));
            stats.map_or(format!("{index}: -"), |stats| {
                format!(
                    "{index}: {:?} {}/{} up {} down {} wasted {} conns {} unchoked {} by {}\n",
                    stats.state,
                    stats.verified,
                    stats.pieces,
                    stats.uploaded_bytes,
                    stats.downloaded_bytes,
                    stats.wasted_bytes,
                    stats.connected,
                    stats.unchoked,
                    stats.unchoking
                )
            })
        };
        self.nodes.iter().enumerate().map(node).collect()
    }

    /// How many pieces a client has.
    pub(crate) fn have(&self, node: usize) -> u32 {
        self.pieces(node).count_ones()
    }

    /// The pieces that a client has.
    pub(crate) fn pieces(&self, node: usize) -> Bitfield {
        let node = &self.nodes[node];
        let pieces = node.torrent.and_then(|torrent| node.shard.pieces(torrent));
        pieces
            .cloned()
            .unwrap_or_else(|| Bitfield::new(node.content.pieces()))
    }

    /// Whether every piece of a torrent has reached somebody who had nothing.
    pub(crate) fn is_spread(&self, content: &Content) -> bool {
        self.spread.len() == content.pieces() as usize
    }

    pub(crate) fn state(&self, node: usize) -> TorrentState {
        let node = &self.nodes[node];
        let torrent = node.torrent.expect("a torrent");
        node.shard
            .stats(self.now, torrent)
            .expect("a torrent")
            .state
    }

    /// The events that a client announced, plain ones left out.
    pub(crate) fn events_of(&self, node: usize) -> Vec<&'static str> {
        let announced = self
            .announces
            .iter()
            .filter(|announce| announce.node == node);
        announced
            .filter_map(|announce| announce.request.event.as_str())
            .collect()
    }

    /// Who is, or was, at the other end of a client's connections.
    pub(crate) fn ends_of(&self, node: usize) -> BTreeMap<ConnKey, usize> {
        let ends = self.ends.iter().filter(|((by, _), _)| *by == node);
        ends.map(|((_, conn), other)| (*conn, *other)).collect()
    }

    pub(crate) fn set_manners(&mut self, node: usize, manners: Manners) {
        self.nodes[node].manners = manners;
    }
}
