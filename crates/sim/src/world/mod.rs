//! Hosts, what joins them, and a clock that only events move.

mod bytes;
mod connect;
mod datagrams;
mod hear;
mod inputs;
mod life;
mod line;
mod mischief;
mod services;
mod storage;
mod talk;
mod track;
mod web;

use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::{Bitfield, Map, PeerId, SeededState, Time};
use riverrun_hash::Sha256;
use riverrun_swarm::{ConnKey, Input, TorrentKey, TrackerKey};
use riverrun_tracker::{AnnounceRequest, AnnounceResponse, TrackerFailure};

use crate::action::Action;
use crate::config::{HostConfig, Start, WorldConfig};
use crate::content::{Content, Payload};
use crate::disk::Store;
use crate::host::{Host, HostTorrent};
use crate::ids::{ContentId, HostId, LineId};
use crate::link::Gate;
use crate::observe::{Happening, Observer};
use crate::planted::Planted;
use crate::schedule::{Schedule, Waiting, What};
use crate::streams::{Streams, happens};
use crate::tracker::Tracker;
use crate::wire::Wire;

/// A world: everything there is, and what will happen.
pub struct World {
    now: Time,
    config: WorldConfig,
    schedule: Schedule,
    pending: Waiting<Pending>,
    hosts: Vec<Host>,
    contents: Vec<ContentState>,
    wires: Vec<Option<Box<Wire>>>,
    lines: Vec<Line>,
    by_addr: Map<SocketAddr, HostId>,
    trackers: Vec<Tracker>,
    web: web::Web,
    streams: Streams,
    is_split: bool,
    /// No host sleeps after this.
    awake_from: Time,
    happenings: Vec<Happening>,
    watch: Watch,
    trace: Option<Sha256>,
    counts: Counts,
    log: Log,
}

/// Who looks.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    happenings: bool,
    reasons: bool,
}

/// What has happened, if the world keeps that.
#[derive(Default)]
struct Log {
    announces: Vec<Announced>,
    dials: Vec<(HostId, SocketAddr)>,
    /// Who was at the other end of whose connections.
    met: Vec<(HostId, ConnKey, HostId)>,
}

/// How much has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events of the world: each is one thing whose time has come, that is something that arrives at one end of a
    /// connection (a message with all it carries, a block, a chunk of bytes), a block that has left an uplink, room in a
    /// transport's window, a timer, an answer of a disk or a tracker, or somebody's action.
    pub events: u64,
    /// Inputs and timeouts of shards.
    pub inputs: u64,
    /// Blocks that were sent.
    pub blocks: u64,
    /// Connections that were dialled.
    pub wires: u64,
    /// How often peers were sought, or told of, elsewhere than at trackers: in the distributed hash table, in the local
    /// network, and among each other.
    pub elsewhere: u64,
}

/// An announce that a host has made.
#[derive(Clone, Debug)]
pub struct Announced {
    /// Who.
    pub host: HostId,
    /// When it left.
    pub at: Time,
    /// To which tracker.
    pub url: String,
    /// What it says.
    pub request: AnnounceRequest,
}

/// A torrent that exists, and how far it has got.
struct ContentState {
    content: Content,
    /// Pieces that somebody has received.
    spread: Bitfield,
}

/// A line that several hosts share.
struct Line {
    up: Gate,
    down: Gate,
}

/// Something that waits for its time.
enum Pending {
    Input {
        host: HostId,
        incarnation: u32,
        input: Input,
    },
    /// A block that was read.
    Serve {
        host: HostId,
        incarnation: u32,
        torrent: TorrentKey,
        conn: ConnKey,
        span: riverrun_base::BlockSpan,
        payload: Payload,
    },
    Announce(Box<Asking>),
    /// A web server answers.
    Web {
        host: HostId,
        incarnation: u32,
        conn: ConnKey,
    },
    DiskRecovers(HostId),
    Datagram(Box<datagrams::Datagram>),
    /// Nobody has heard of the other end for long.
    Forget(crate::ids::EndId),
    /// Nobody has heard anything of the other side of a split for long.
    ForgetCut,
    Action(Action),
}

/// An announce on its way.
struct Asking {
    host: HostId,
    incarnation: u32,
    torrent: TorrentKey,
    key: TrackerKey,
    tracker: usize,
    request: AnnounceRequest,
    /// The answer, once there is one.
    result: Option<Result<AnnounceResponse, TrackerFailure>>,
}

impl World {
    /// A world without hosts.
    pub fn new(config: WorldConfig) -> Self {
        let mut streams = Streams::new(config.seed);
        let all = config.trackers.iter().flatten();
        let trackers = all
            .map(|tracker| Tracker::new(tracker.clone(), streams.trackers.next_u64()))
            .collect();
        Self {
            now: Time::ZERO,
            schedule: Schedule::default(),
            pending: Waiting::default(),
            hosts: Vec::new(),
            contents: Vec::new(),
            wires: Vec::new(),
            lines: Vec::new(),
            by_addr: Map::with_hasher(SeededState::new(config.seed)),
            trackers,
            web: web::Web::new(&config.web_servers),
            streams,
            is_split: false,
            awake_from: Time::ZERO,
            happenings: Vec::new(),
            watch: Watch::default(),
            trace: config.trace.then(Sha256::new),
            counts: Counts::default(),
            log: Log::default(),
            config,
        }
    }

    /// Adds a torrent that hosts can have.
    pub fn add_content(&mut self, content: Content) -> ContentId {
        let spread = Bitfield::new(content.pieces());
        self.contents.push(ContentState { content, spread });
        ContentId(index(self.contents.len() - 1))
    }

    /// Adds a line that several hosts share, in bytes per second each way.
    pub fn add_line(&mut self, up: Option<u64>, down: Option<u64>) -> LineId {
        self.lines.push(Line {
            up: Gate::new(up),
            down: Gate::new(down),
        });
        LineId(index(self.lines.len() - 1))
    }

    /// Puts a host behind a line.
    pub fn put_behind(&mut self, host: HostId, line: LineId) {
        self.host_mut(host).line = Some(line);
    }

    /// Adds a host with a torrent; it joins when its configuration says.
    pub fn add_host(&mut self, content: ContentId, config: HostConfig) -> HostId {
        let join_at = Time::ZERO + config.join_at;
        let host = self.add_bare_host(config);
        self.give(host, content);
        self.plan(join_at.max(self.now), Action::Join(host));
        host
    }

    /// Adds hosts that come one by one until a time, on average so many a second, independent of each other (a Poisson
    /// process, in steps of a millisecond: nothing in it depends on a machine's logarithms).
    pub fn add_arrivals(
        &mut self,
        content: ContentId,
        config: &HostConfig,
        per_second: f64,
        until: Time,
    ) -> Vec<HostId> {
        let mut hosts = Vec::new();
        let mut at = self.now;
        while at < until {
            at += Duration::from_millis(1);
            if happens(&mut self.streams.churn, per_second / 1000.0) {
                let mut config = config.clone();
                config.join_at = at - Time::ZERO;
                hosts.push(self.add_host(content, config));
            }
        }
        hosts
    }

    /// Adds a host without a torrent that does not join by itself.
    pub fn add_bare_host(&mut self, mut config: HostConfig) -> HostId {
        let host = HostId(index(self.hosts.len()));
        if config.name.is_empty() {
            let role = if config.start == Start::Full {
                "seed"
            } else {
                "peer"
            };
            config.name = format!("{role} {}", host.0);
        }
        let mut id = *b"-rr0000-............";
        self.streams.hosts.fill(&mut id[8..]);
        let addr = address(host);
        let key = self.streams.hosts.next_u32();
        let swarm = config.shard(PeerId(id), key, addr.port());
        let seed = self.streams.hosts.next_u64();
        self.by_addr.insert(addr, host);
        self.hosts.push(Host::new(config, swarm, addr, seed));
        host
    }

    /// Gives a torrent to a host, to be treated as the host's configuration says. One that is up begins at once.
    pub fn give(&mut self, host: HostId, content: ContentId) {
        let pieces = self.content(content).pieces();
        let config = &self.hosts[host.as_usize()].config;
        let have = config.start.pieces(pieces);
        let torrent = HostTorrent {
            content,
            bare: false,
            is_magnet: config.start == Start::Magnet,
            options: config.options(),
            key: None,
            store: Store::new(have),
        };
        let torrents = &mut self.host_mut(host).torrents;
        torrents.push(torrent);
        let at = torrents.len() - 1;
        self.add_torrent(host, at);
    }

    /// A host that has not joined yet, to change what its configuration does not name.
    pub fn setup(&mut self, host: HostId) -> Setup<'_> {
        Setup {
            host: self.host_mut(host),
        }
    }

    /// Does something at a time; at once if that is over.
    pub fn plan(&mut self, at: Time, action: Action) {
        let index = self.pending.add(Pending::Action(action));
        self.schedule.add(at.max(self.now), What::Pending(index));
    }

    /// Lets one thing happen; `false` if nothing ever will.
    pub fn step(&mut self) -> bool {
        let Some((at, what)) = self.schedule.pop() else {
            return false;
        };
        self.now = self.now.max(at);
        self.counts.events += 1;
        match what {
            What::Wake(host) => self.wake(host),
            What::Arrive(end) => self.arrive(end),
            What::Sent(host) => self.sent(host),
            What::Room(end) => self.room(end),
            What::Ready(end) => self.ready(end),
            What::LookForSnub(end) => self.look_for_snub(end),
            What::Timer(end) => self.conn_timer(end),
            What::Mischief(host) => self.mischief(host),
            What::Socket(host) => self.sockets_due(host),
            What::Pending(index) => {
                if let Some(pending) = self.pending.take(index) {
                    self.handle_pending(pending);
                }
            }
        }
        true
    }

    /// Lets one thing happen under somebody's eyes; `false` if nothing ever will.
    pub fn step_observed(&mut self, observer: &mut (impl Observer + ?Sized)) -> bool {
        self.watch = Watch {
            happenings: observer.wants_happenings(),
            reasons: observer.wants_reasons(),
        };
        let going_on = self.step();
        if going_on {
            let mut happenings = std::mem::take(&mut self.happenings);
            observer.observe(self, &happenings);
            happenings.clear();
            self.happenings = happenings;
        }
        going_on
    }

    /// Runs to a time.
    pub fn run_until(&mut self, end: Time) {
        self.observe_until(end, &mut ());
    }

    /// Runs to a time under somebody's eyes.
    pub fn observe_until(&mut self, end: Time, observer: &mut (impl Observer + ?Sized)) {
        while self.schedule.next_time().is_some_and(|at| at <= end) {
            self.step_observed(observer);
        }
        self.now = self.now.max(end);
    }

    /// Runs until `done` or to a time, whichever comes first; whether it is done. `done` is asked after each event.
    pub fn observe_while(
        &mut self,
        limit: Time,
        observer: &mut (impl Observer + ?Sized),
        mut going_on: impl FnMut(&Self) -> bool,
    ) -> bool {
        while going_on(self) {
            if self.schedule.next_time().is_none_or(|at| at > limit) {
                return false;
            }
            self.step_observed(observer);
        }
        true
    }

    /// Runs until all of these hosts have everything, or to a time; when the last had, if all have.
    pub fn run_to_completion(&mut self, hosts: &[HostId], limit: Time) -> Option<Time> {
        let mut left: Vec<HostId> = hosts.to_vec();
        let done = self.observe_while(limit, &mut (), |world| {
            while let Some(last) = left.last() {
                if !world.host(*last).has_all() {
                    return true;
                }
                left.pop();
            }
            false
        });
        done.then_some(self.now)
    }

    /// The time.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// What it was made from.
    pub const fn config(&self) -> &WorldConfig {
        &self.config
    }

    /// A host.
    ///
    /// # Panics
    ///
    /// If there is none of that number.
    pub fn host(&self, host: HostId) -> &Host {
        &self.hosts[host.as_usize()]
    }

    /// All hosts, in the order in which they were added.
    pub fn hosts(&self) -> impl Iterator<Item = (HostId, &Host)> {
        let ids = (0..).map(HostId);
        ids.zip(&self.hosts)
    }

    /// A torrent.
    ///
    /// # Panics
    ///
    /// If there is none of that number.
    pub fn content(&self, content: ContentId) -> &Content {
        &self.contents[content.0 as usize].content
    }

    /// Whether every piece of a torrent has reached somebody who lacked it.
    pub fn is_spread(&self, content: ContentId) -> bool {
        self.contents[content.0 as usize].spread.all()
    }

    /// How much has happened.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Over everything that shards have done so far, if the configuration says so: equal for equal runs.
    pub fn trace_hash(&self) -> Option<String> {
        self.trace
            .as_ref()
            .map(|trace| trace.clone().finish().to_string())
    }

    /// What a host's shards were given, one of each time that it was started, if the configuration says so: for
    /// [`Replay`](riverrun_swarm::Replay). To be asked for once.
    pub fn records(&mut self, host: HostId) -> Vec<Vec<u8>> {
        self.host_mut(host).take_records()
    }

    /// All announces, if the world keeps events.
    pub fn announces(&self) -> &[Announced] {
        &self.log.announces
    }

    /// All dials, if the world keeps events: by whom, and where.
    pub fn dials(&self) -> &[(HostId, SocketAddr)] {
        &self.log.dials
    }

    /// Who is, or was, at the other end of a host's connections, if the world keeps events.
    pub fn met(&self, host: HostId) -> impl Iterator<Item = (ConnKey, HostId)> + '_ {
        let mine = self.log.met.iter().filter(move |(by, ..)| *by == host);
        mine.map(|(_, conn, other)| (*conn, *other))
    }

    /// Whether the tracker of this URL has answered everybody so far.
    pub fn was_always_up(&self, url: &str) -> bool {
        let tracker = self.trackers.iter().find(|tracker| tracker.url == url);
        tracker.is_some_and(Tracker::was_always_up)
    }

    /// Who listens at an address.
    pub fn at(&self, addr: SocketAddr) -> Option<HostId> {
        self.by_addr.get(&addr).copied()
    }

    fn host_mut(&mut self, host: HostId) -> &mut Host {
        &mut self.hosts[host.as_usize()]
    }

    fn after(&mut self, wait: Duration, what: What) {
        self.schedule.add(self.now + wait, what);
    }

    fn pend(&mut self, at: Time, pending: Pending) {
        let index = self.pending.add(pending);
        self.schedule.add(at.max(self.now), What::Pending(index));
    }

    fn happen(&mut self, happening: impl FnOnce() -> Happening) {
        if self.watch.happenings {
            self.happenings.push(happening());
        }
    }
}

/// A host that has not joined yet.
pub struct Setup<'a> {
    host: &'a mut Host,
}

impl Setup<'_> {
    /// Changes the configuration of its shard.
    pub fn shard(self, change: impl FnOnce(&mut riverrun_swarm::Config)) -> Self {
        change(std::sync::Arc::make_mut(&mut self.host.swarm_config));
        self
    }

    /// Changes the configuration of its connections.
    pub fn conns(self, change: impl FnOnce(&mut riverrun_peer::PeerConfig)) -> Self {
        change(std::sync::Arc::make_mut(&mut self.host.peer_config));
        self
    }

    /// Has its connections encrypted, or not.
    pub fn encryption(self, policy: riverrun_peer::EncryptionPolicy) -> Self {
        self.shard(|config| config.encryption = policy)
            .conns(|config| config.encryption = policy)
    }

    /// Changes how its torrents are treated.
    pub fn options(self, change: impl Fn(&mut riverrun_swarm::TorrentOptions)) -> Self {
        for torrent in &mut self.host.torrents {
            change(&mut torrent.options);
        }
        self
    }

    /// Makes a mistake there on purpose.
    pub const fn plant(self, planted: Planted) -> Self {
        self.host.planted = Some(planted);
        self
    }

    /// Metadata that was let go cannot be read again.
    pub const fn without_metadata(self) -> Self {
        self.host.has_lost_metadata = true;
        self
    }

    /// Its torrent files lack the piece layers (BEP 52).
    pub fn without_layers(self) -> Self {
        for torrent in &mut self.host.torrents {
            torrent.bare = true;
        }
        self
    }
}

/// Each host has a public address of its own, in a network of its own.
fn address(host: HostId) -> SocketAddr {
    let [top, high, middle, low] = host.0.to_be_bytes();
    // 20.0.0.0 and up are public; 2^24 hosts fit below the next private block.
    SocketAddr::from(([20 + top, low, middle, high.wrapping_add(1)], 6881))
}

fn index(at: usize) -> u32 {
    // Invariant: things of a world fit into memory.
    u32::try_from(at).expect("things of a world are counted in 32 bits")
}
