//! A host: a shard, a disk, a line, and its manners.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use riverrun_base::{Bitfield, BlockSpan, PeerId, PieceIndex, Time};
use riverrun_peer::PeerConfig;
use riverrun_swarm::{
    Config, ConnKey, Event, Input, Outbox, Recorder, Shard, TorrentKey, TorrentOptions,
};

use crate::config::HostConfig;
use crate::disk::{Disk, Store};
use crate::ids::{ContentId, EndId, LineId};
use crate::link::Gate;
use crate::model::Model;
use crate::planted::Planted;
use crate::socket::Sockets;

/// A host.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is something that is so or not, whatever the others are"
)]
pub struct Host {
    /// What it was made from. Rates, latency and manners can change as the world goes on.
    pub config: HostConfig,
    /// Its decisions; `None` before it has joined, after it has left, and while it is crashed.
    pub(crate) shard: Option<Box<Shard>>,
    /// Who records what its decisions are given, if that is wanted.
    pub(crate) recorder: Option<Recorder>,
    /// The records of processes that have ended.
    pub(crate) records: Vec<Vec<u8>>,
    /// What its decisions are held against, if that is wanted.
    pub(crate) model: Option<Box<Model>>,
    /// Where they did not agree, by the world's time.
    pub(crate) disagreements: Vec<(Time, String)>,
    pub(crate) swarm_config: Arc<Config>,
    pub(crate) peer_config: Arc<PeerConfig>,
    pub(crate) out: Outbox,
    /// What its shard wanted is being done.
    pub(crate) is_busy: bool,
    /// What has come meanwhile.
    pub(crate) backlog: VecDeque<Input>,
    pub(crate) addr: SocketAddr,
    pub(crate) seed: u64,
    pub(crate) torrents: Vec<HostTorrent>,
    pub(crate) conns: Conns,
    pub(crate) disk: Disk,
    pub(crate) up: Uplink,
    pub(crate) down: Gate,
    pub(crate) line: Option<LineId>,
    /// Who can reach it while the network is split.
    pub(crate) group: u32,
    pub(crate) clock: Clock,
    /// When the next timeout is scheduled.
    pub(crate) wakes_at: Option<Time>,
    /// How often it has been started.
    pub(crate) incarnation: u32,
    /// The port that its next dial comes from.
    pub(crate) next_port: u16,
    pub(crate) events: Vec<Event>,
    pub(crate) life: Life,
    pub(crate) tally: Tally,
    pub(crate) mischief_planned: bool,
    pub(crate) sockets: Sockets,
    /// A mistake that is made here on purpose.
    pub(crate) planted: Option<Planted>,
    /// Bytes have rotted on its disk: it may have sent them, unknowingly.
    pub(crate) has_rotted: bool,
    /// What was kept of metadata cannot be read.
    pub(crate) has_lost_metadata: bool,
}

/// A torrent of a host.
pub(crate) struct HostTorrent {
    pub(crate) content: ContentId,
    /// What the host knows of the torrent at first, if that is not all.
    pub(crate) bare: bool,
    pub(crate) is_magnet: bool,
    pub(crate) options: TorrentOptions,
    pub(crate) key: Option<TorrentKey>,
    pub(crate) store: Store,
}

/// Where a host is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Not there yet.
    Coming,
    /// There.
    Up,
    /// Saying goodbye.
    Leaving,
    /// It has crashed, and may come again.
    Crashed,
    /// It has gone for good.
    Gone,
}

/// What a host has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Payload that has left, in bytes.
    pub sent_bytes: u64,
    /// Payload that has arrived, in bytes, wanted or not.
    pub received_bytes: u64,
    /// When it joined.
    pub joined_at: Option<Time>,
    /// When it had verified the first piece that it lacked.
    pub first_piece_at: Option<Time>,
    /// When it had verified the last piece that it lacked, the first time.
    pub completed_at: Option<Time>,
    /// When it left.
    pub left_at: Option<Time>,
}

/// A host's clock: may be ahead of the world's, and stand while the host is suspended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    pub(crate) ahead: Duration,
    pub(crate) asleep_until: Option<Time>,
    /// Since when it has been asleep, the last time.
    asleep_since: Time,
    /// How long it has been asleep before that.
    slept: Duration,
}

impl Clock {
    /// Stands still until then.
    pub(crate) fn sleep(&mut self, now: Time, until: Time) {
        self.slept = now.since(Time::ZERO).saturating_sub(self.awake(now));
        self.asleep_since = now;
        self.asleep_until = Some(until);
    }

    /// For how long it has not been asleep.
    pub(crate) fn awake(&self, now: Time) -> Duration {
        let last = self.asleep_until.map_or(Duration::ZERO, |until| {
            until.min(now).since(self.asleep_since)
        });
        now.since(Time::ZERO).saturating_sub(self.slept + last)
    }
}

/// An uplink: sends one block at a time, in turn for each connection that has some.
pub(crate) struct Uplink {
    pub(crate) gate: Gate,
    /// What is being sent.
    pub(crate) sending: Option<EndId>,
    pub(crate) turns: VecDeque<EndId>,
}

/// Connections by their keys.
#[derive(Default)]
pub(crate) struct Conns {
    slots: Vec<Option<(ConnKey, EndId)>>,
    count: usize,
}

impl Conns {
    pub(crate) fn insert(&mut self, conn: ConnKey, end: EndId) {
        let at = conn.index() as usize;
        if self.slots.len() <= at {
            self.slots.resize(at + 1, None);
        }
        self.count += usize::from(self.slots[at].is_none());
        self.slots[at] = Some((conn, end));
    }

    pub(crate) fn get(&self, conn: ConnKey) -> Option<EndId> {
        let slot = self.slots.get(conn.index() as usize)?;
        slot.filter(|(key, _)| *key == conn).map(|(_, end)| end)
    }

    pub(crate) fn remove(&mut self, conn: ConnKey) {
        if self.get(conn).is_some() {
            self.slots[conn.index() as usize] = None;
            self.count -= 1;
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnKey, EndId)> + '_ {
        self.slots.iter().copied().flatten()
    }
}

impl Host {
    pub(crate) fn new(config: HostConfig, swarm: Config, addr: SocketAddr, seed: u64) -> Self {
        let mut peer_config = PeerConfig::new(swarm.peer_id);
        peer_config.listen_port = Some(addr.port());
        Self {
            shard: None,
            recorder: None,
            records: Vec::new(),
            model: None,
            disagreements: Vec::new(),
            swarm_config: Arc::new(swarm),
            peer_config: Arc::new(peer_config),
            out: Outbox::default(),
            is_busy: false,
            backlog: VecDeque::new(),
            addr,
            seed,
            torrents: Vec::new(),
            conns: Conns::default(),
            disk: Disk::new(config.disk.clone()),
            up: Uplink {
                gate: Gate::new(config.up),
                sending: None,
                turns: VecDeque::new(),
            },
            down: Gate::new(config.down),
            line: None,
            group: 0,
            clock: Clock::default(),
            wakes_at: None,
            incarnation: 0,
            next_port: 0,
            events: Vec::new(),
            life: Life::Coming,
            tally: Tally::default(),
            mischief_planned: false,
            sockets: Sockets::default(),
            planted: None,
            has_rotted: false,
            has_lost_metadata: false,
            config,
        }
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its id in handshakes.
    pub fn peer_id(&self) -> PeerId {
        self.swarm_config.peer_id
    }

    /// Where it is in its life.
    pub const fn life(&self) -> Life {
        self.life
    }

    /// What it has done.
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// Its decisions, while it is there.
    pub fn shard(&self) -> Option<&Shard> {
        self.shard.as_deref()
    }

    /// Its torrent, the first if it has more, once it is added.
    pub fn torrent(&self) -> Option<TorrentKey> {
        self.torrents.first()?.key
    }

    /// Whether it takes part in a torrent.
    pub const fn has_torrents(&self) -> bool {
        !self.torrents.is_empty()
    }

    /// The torrents that exist for it, and what its disk has of each.
    pub fn contents(&self) -> impl Iterator<Item = (ContentId, Option<TorrentKey>)> + '_ {
        self.torrents
            .iter()
            .map(|torrent| (torrent.content, torrent.key))
    }

    /// Whether its uplink is in use.
    pub const fn is_sending(&self) -> bool {
        self.up.sending.is_some()
    }

    /// How many connections it has, those that are being dialled counted.
    pub const fn connections(&self) -> usize {
        self.conns.len()
    }

    /// The pieces of its torrent that are verified; `None` while it does not know.
    pub fn have(&self) -> Option<&Bitfield> {
        self.shard()?.pieces(self.torrent()?)
    }

    /// Whether it gives a block of its torrent whose piece is not verified, as its own hash is right.
    pub fn passes_on(&self, span: BlockSpan) -> bool {
        let shard = self.shard().zip(self.torrent());
        shard.is_some_and(|(shard, torrent)| shard.passes_on(torrent, span))
    }

    /// Whether all of its torrent is verified, or was when it was let go.
    pub fn has_all(&self) -> bool {
        let rests = self
            .shard()
            .zip(self.torrent())
            .is_some_and(|(shard, torrent)| shard.is_resting(torrent));
        rests || self.have().is_some_and(Bitfield::all)
    }

    /// The pieces of its torrent that a power cut would leave, as its journal says.
    pub fn durable(&self) -> Option<&Bitfield> {
        self.torrents.first().map(|torrent| &torrent.store.durable)
    }

    /// The pieces of its torrent whose bytes on disk are right.
    pub fn written(&self) -> Option<&Bitfield> {
        self.torrents.first().map(|torrent| &torrent.store.written)
    }

    /// Whether what its torrent's files hold of a piece is right.
    pub fn is_on_disk(&self, piece: PieceIndex) -> bool {
        self.written().is_some_and(|written| written.has(piece))
    }

    /// Whether a piece is right, in its files or in memory until these can be written.
    pub fn is_right(&self, piece: PieceIndex) -> bool {
        self.is_on_disk(piece) || self.disk.unwritten.contains(&(0, piece))
    }

    /// Whether bytes have rotted on its disk at some time.
    pub const fn has_rotted(&self) -> bool {
        self.has_rotted
    }

    /// Whether storage has its torrent open.
    pub fn is_open(&self) -> bool {
        self.torrents
            .first()
            .is_some_and(|torrent| torrent.store.is_open)
    }

    /// What its shard has told, if the world keeps that.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The decisions of a new process.
    pub(crate) fn start_shard(&mut self, config: Config, seed: u64, record: bool) {
        self.end_record();
        self.recorder = record.then(|| Recorder::new("riverrun-sim", &config, seed));
        self.shard = Some(Box::new(Shard::new(Arc::new(config), seed)));
    }

    /// Holds the decisions of a new process against a model of what they are to be.
    pub(crate) fn start_model(&mut self) {
        self.end_model();
        self.model = Some(Box::new(Model::new(Config::clone(&self.swarm_config))));
    }

    fn end_model(&mut self) {
        if let Some(ended) = self.model.take() {
            self.disagreements.extend_from_slice(ended.found());
        }
    }

    /// Where its decisions and their model did not agree, each with the world's time.
    pub(crate) fn disagreements(&self) -> impl Iterator<Item = &(Time, String)> {
        let now = self.model.iter().flat_map(|model| model.found());
        self.disagreements.iter().chain(now)
    }

    fn end_record(&mut self) {
        let recorder = self.recorder.take();
        self.records.extend(recorder.map(|mut ended| ended.take()));
    }

    /// What its decisions were given in each of its processes, if that was recorded.
    pub(crate) fn take_records(&mut self) -> Vec<Vec<u8>> {
        self.end_record();
        std::mem::take(&mut self.records)
    }

    /// Lets its decisions take an input; whether there are any.
    pub(crate) fn decide(&mut self, now: Time, input: Input) -> bool {
        let Some(shard) = &mut self.shard else {
            return false;
        };
        match &mut self.recorder {
            Some(recorder) => recorder.handle(now, shard, input, &mut self.out),
            None => shard.handle(now, input, &mut self.out),
        }
        if let Some(planted) = self.planted {
            planted.bend_mind(now, shard);
        }
        true
    }

    /// Lets its decisions do what is due; whether something was.
    pub(crate) fn decide_timeout(&mut self, now: Time) -> bool {
        let Some(shard) = &mut self.shard else {
            return false;
        };
        let is_due = shard.poll_timeout().is_some_and(|at| at <= now);
        match &mut self.recorder {
            _ if !is_due => {}
            Some(recorder) => recorder.handle_timeout(now, shard, &mut self.out),
            None => shard.handle_timeout(now, &mut self.out),
        }
        is_due
    }

    pub(crate) fn torrent_at(&self, key: TorrentKey) -> Option<usize> {
        let at = |torrent: &HostTorrent| torrent.key == Some(key);
        self.torrents.iter().position(at)
    }
}
