//! The engine: sockets, disk threads and one shard of torrents, behind a handle.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use riverrun_base::{InfoHash, PeerId, Rng};
use riverrun_metainfo::PublisherLink;
use riverrun_peer::{EncryptionPolicy, PeerConfig};
use riverrun_storage::{Disk, StorageConfig};
use riverrun_swarm::{Config, Event, Input, Limits, Revision};
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::task::TaskTracker;

use crate::changes::{Changes, changes_since};
use crate::dht::{DhtConfig, DhtHandle, DhtStart, state_path};
use crate::driver::clock::Clock;
use crate::driver::conn::ConnContext;
use crate::driver::decisions::Decisions;
use crate::driver::dial::Dialler;
use crate::driver::identity::{Identity, Ports, draw_peer_id};
use crate::driver::lsd::LocalDiscovery;
use crate::driver::port_map::{PortMapper, PortMapping};
use crate::driver::presence::{Presence, Whereabouts};
use crate::driver::routes::Routes;
use crate::driver::shard::{
    self, DiskMessage, Outside, SHARD_INBOX_MESSAGES, ShardMessage, ShardTask,
};
use crate::driver::socket::Sockets;
use crate::driver::tracker::{TrackerClient, Trackers};
use crate::driver::udp::{DHT_BATCHES_WAITING, Datagrams, Received};
use crate::driver::utp::UtpPorts;
use crate::error::{AddError, EngineStopped, StartError};
use crate::hindrances::Hindrances;
use crate::network::{NetworkOptions, NetworkState};
use crate::publications::Publications;
use crate::recording::{RecordWriter, Written};
use crate::restore::Keeping;
use crate::session::{Claim, Session, Unreadable};
use crate::torrent::ask;
use crate::transports::Transports;

/// Events that wait for a slow listener; older ones are skipped, and the listener is told how many.
const EVENTS_WAITING: usize = 4096;

/// Goodbyes to trackers are not waited for longer than this.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(800);

/// How long a complete torrent that nobody uses stays in memory: two rounds of optimistic unchoking, and some of the
/// retries of peers that were not reached.
const DOZE_AFTER: Duration = Duration::from_mins(2);

/// Sets up an [`Engine`].
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each turns something on, on its own"
)]
pub struct EngineBuilder {
    state_dir: PathBuf,
    listen: Vec<SocketAddr>,
    limits: Limits,
    connections_max: Option<u32>,
    cache_bytes: Option<usize>,
    seed: Option<u64>,
    network: NetworkOptions,
    port_map: bool,
    encryption: EncryptionPolicy,
    transports: Transports,
    dht: Option<DhtConfig>,
    local_discovery: bool,
    web_seeds: bool,
    keeps_torrents: bool,
    record: Option<PathBuf>,
}

impl EngineBuilder {
    /// Uses the network only as these options allow.
    pub fn network(mut self, options: NetworkOptions) -> Self {
        self.network = options;
        self
    }

    /// Listens on these addresses, and dials from them, instead of on 6881 to 6889 of all addresses. Port 0
    /// takes any free one.
    pub fn listen(mut self, addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.listen = addrs.into_iter().collect();
        self
    }

    /// Has the router forward our port, if it will, for as long as the engine runs. Not with a proxy.
    pub fn port_map(mut self) -> Self {
        self.port_map = true;
        self
    }

    /// Limits the rates of all torrents together.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How many connections there may be in all.
    pub fn connections_max(mut self, connections: u32) -> Self {
        self.connections_max = Some(connections);
        self
    }

    /// How many bytes of payload may be in memory: blocks on their way to disk or to peers. A hard limit.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = Some(bytes);
        self
    }

    /// Whether connections are to be encrypted; preferred, if not set.
    pub fn encryption(mut self, policy: EncryptionPolicy) -> Self {
        self.encryption = policy;
        self
    }

    /// What carries connections, and what we listen for. A torrent may wish for less, not for more.
    pub fn transports(mut self, transports: Transports) -> Self {
        self.transports = transports;
        self
    }

    /// Whether peers are looked for in the local network (BEP 14), on each interface where the engine listens but
    /// loopback. Not, if not set.
    pub fn local_discovery(mut self, on: bool) -> Self {
        self.local_discovery = on;
        self
    }

    /// Whether web seeds are used (BEP 19). They are, if not set.
    pub fn web_seeds(mut self, on: bool) -> Self {
        self.web_seeds = on;
        self
    }

    /// Keeps torrents from run to run: those of the last run are taken in at the start, and what becomes of them is
    /// written as it changes. The state directory belongs to one such engine at a time.
    pub fn keep_torrents(mut self) -> Self {
        self.keeps_torrents = true;
        self
    }

    /// Records what the decisions are given in a new file, for [`Recording`](crate::Recording): all but payload. It
    /// names torrents and the addresses of peers; users' keys in URLs of trackers are masked.
    pub fn record(mut self, path: impl Into<PathBuf>) -> Self {
        self.record = Some(path.into());
        self
    }

    /// Seeds all random decisions. For tests; drawn from the system if not set.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Looks for peers in the distributed hash table, and is a node of it. Without this the engine is none.
    pub fn dht(mut self, config: DhtConfig) -> Self {
        self.dht = Some(config);
        self
    }

    /// Starts the engine. Must be called inside a tokio runtime with I/O and time.
    pub async fn start(self) -> Result<Engine, StartError> {
        let session = Session::start(&self.state_dir)?;
        let claim = if self.keeps_torrents {
            Some(session.claim().await?)
        } else {
            None
        };
        let engine = self.set_up(session, claim)?;
        engine.restore().await?;
        Ok(engine)
    }

    fn set_up(self, session: Session, claim: Option<Claim>) -> Result<Engine, StartError> {
        let mut rng = Rng::new(self.seed.unwrap_or_else(rand::random));
        let sockets =
            Sockets::new(&self.listen, self.network.clone()).map_err(StartError::Network)?;
        // From before the first listening on, so that no change is missed.
        let (changes, clock) = (sockets.changes(), Clock::start());
        let (intake, received) = mpsc::channel(DHT_BATCHES_WAITING);
        let intake = self.dht.is_some().then_some(intake);
        let presence =
            Presence::start(sockets.clone(), self.transports, intake, clock, rng.fork())?;
        let (whereabouts, utp) = (presence.whereabouts(), presence.utp());
        let (sender, inbox) = mpsc::channel(SHARD_INBOX_MESSAGES);
        let (routes, room) = (Arc::new(Routes::default()), Arc::new(Notify::new()));
        let (disk_sender, disk_done) = mpsc::unbounded_channel();
        let disk = self.start_disk(&routes, disk_sender, &room)?;
        let peer_id = draw_peer_id(&mut rng);
        let ports = Ports::at(&whereabouts.addrs());
        let identity = self.identity(peer_id, ports, &mut rng);
        let (shard, written) = self.decisions(peer_id, ports.any(), &mut rng)?;
        let events = broadcast::Sender::new(EVENTS_WAITING);
        let keeping = claim.map(|claim| Keeping::begin(claim, &session, &sender));
        let client = TrackerClient::start(clock, rng.next_u64(), sockets.clone())?;
        let trackers = Trackers::new(client, sender.clone());
        let conns = ConnContext::new(clock, identity.clone(), disk.blocks(), room, sender.clone());
        let outside = (presence.datagrams(), received);
        let (dht, mut tasks) = self.start_dht(clock, &sockets, outside, &sender, &mut rng);
        tasks.push(tokio::spawn(sockets.clone().survey()).abort_handle());
        tasks.push(tokio::spawn(presence.run(changes, conns.clone())).abort_handle());
        let local = self.start_lsd(&sockets, &whereabouts, &conns, &mut rng, &mut tasks);
        let port_mapper = self.start_port_mapper(&sockets, &whereabouts, &conns);
        let outside = Outside {
            hindrances: Hindrances::of(&conns, &disk, port_mapper.as_ref()),
            conns,
            routes,
            disk: disk.clone(),
            trackers: trackers.clone(),
            local,
            events: events.clone(),
            session: session.clone(),
            keeper: keeping.as_ref().map(|keeping| keeping.keeper.clone()),
            dialler: self.dialler(&sockets, utp),
            dht: dht.clone(),
        };
        let task = ShardTask::new(shard, outside, inbox, disk_done, rng.next_u64());
        tasks.push(tokio::spawn(task.run()).abort_handle());
        Ok(Engine {
            inner: Arc::new(Inner {
                identity,
                port_mapper,
                whereabouts,
                disk,
                tasks,
                session,
                keeping,
                sockets,
                dht,
                goodbyes: trackers.goodbyes(),
                written,
            }),
            shard: sender,
            events,
        })
    }

    /// Whether peers are looked for in the local network. A proxy carries no multicast.
    fn has_lsd(&self) -> bool {
        self.local_discovery && self.network.proxy.is_none()
    }

    fn start_lsd(
        &self,
        sockets: &Sockets,
        whereabouts: &Whereabouts,
        conns: &ConnContext,
        rng: &mut Rng,
        tasks: &mut Vec<AbortHandle>,
    ) -> Option<mpsc::Sender<Vec<InfoHash>>> {
        let discovery = LocalDiscovery::new(sockets.clone(), whereabouts.clone(), conns.clone());
        let cookie = self.has_lsd().then(|| rng.next_u64());
        cookie.map(|cookie| discovery.start(cookie, tasks))
    }

    fn start_port_mapper(
        &self,
        sockets: &Sockets,
        whereabouts: &Whereabouts,
        conns: &ConnContext,
    ) -> Option<PortMapper> {
        let (whereabouts, identity) = (whereabouts.clone(), conns.identity.clone());
        let start =
            || PortMapper::start(sockets.clone(), whereabouts, identity, conns.shard.clone());
        self.port_map.then(start)
    }

    /// The decisions about all torrents, and when their recording is written, if there is one.
    fn decisions(
        &self,
        peer_id: PeerId,
        port: Option<u16>,
        rng: &mut Rng,
    ) -> Result<(Decisions, Option<Written>), StartError> {
        let config = self.decide_config(peer_id, rng.next_u32(), port);
        let create = |path: &PathBuf| {
            RecordWriter::create(path).map_err(|source| StartError::Record {
                path: path.display().to_string(),
                source,
            })
        };
        let (writer, written) = self.record.as_ref().map(create).transpose()?.unzip();
        Ok((Decisions::new(config, rng.next_u64(), writer), written))
    }

    fn dialler(&self, sockets: &Sockets, utp: UtpPorts) -> Dialler {
        Dialler {
            sockets: sockets.clone(),
            utp,
            transports: self.transports,
        }
    }

    fn start_disk(
        &self,
        routes: &Arc<Routes>,
        shard: mpsc::UnboundedSender<DiskMessage>,
        room: &Arc<Notify>,
    ) -> Result<Disk, StartError> {
        let mut config = StorageConfig::new(self.state_dir.join("journal"));
        if let Some(bytes) = self.cache_bytes {
            config.cache_bytes = bytes;
        }
        let (routes, room) = (routes.clone(), room.clone());
        let deliver = move |completions| shard::deliver(completions, &routes, &shard);
        Ok(Disk::start(config, deliver, move || room.notify_waiters())?)
    }

    /// The nodes of the DHT, if there are to be any.
    fn start_dht(
        &self,
        clock: Clock,
        sockets: &Sockets,
        (datagrams, received): (Datagrams, mpsc::Receiver<Received>),
        shard: &mpsc::Sender<ShardMessage>,
        rng: &mut Rng,
    ) -> (Option<DhtHandle>, Vec<AbortHandle>) {
        let Some(config) = self.dht.clone() else {
            return (None, Vec::new());
        };
        let start = DhtStart {
            config,
            clock,
            sockets: sockets.clone(),
            datagrams,
            received,
            state: Some(state_path(&self.state_dir)),
            shard: Some(shard.clone()),
            takes_utp: self.transports.has_utp(),
            seed: rng.next_u64(),
        };
        let (handle, tasks) = start.start();
        (Some(handle), tasks)
    }

    fn decide_config(&self, peer_id: PeerId, tracker_key: u32, port: Option<u16>) -> Config {
        let mut config = Config::new(peer_id, tracker_key);
        config.listen_port = port.unwrap_or(0);
        config.limits = self.limits;
        config.encryption = self.encryption;
        config.uses_dht = self.dht.is_some();
        config.is_local_network = self.dht.as_ref().is_some_and(DhtConfig::is_local);
        config.local_discovery = self.has_lsd();
        config.uses_web_seeds = self.web_seeds;
        // Of other engines' torrents nobody keeps the metadata.
        config.doze_after = self.keeps_torrents.then_some(DOZE_AFTER);
        if let Some(connections) = self.connections_max {
            config.connections_max = connections;
        }
        config
    }

    fn identity(&self, peer_id: PeerId, ports: Ports, rng: &mut Rng) -> Identity {
        let mut config = PeerConfig::new(peer_id);
        config.client = Some(concat!("riverrun ", env!("CARGO_PKG_VERSION")).to_owned());
        config.holepunch = self.transports.has_utp();
        config.encryption = self.encryption;
        if self.seed.is_some() {
            rng.fill(&mut config.entropy);
        } else {
            config.entropy = rand::random();
        }
        // A node that does not answer is nothing to tell peers of.
        let has_node = self.dht.as_ref().is_some_and(DhtConfig::answers);
        Identity::new(config, has_node, ports)
    }
}

/// A BitTorrent engine: torrents, their connections and files. Cheap to clone.
///
/// Several can live in one process, each with its own ports, state and threads; nothing is global.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
    pub(crate) shard: mpsc::Sender<ShardMessage>,
    events: broadcast::Sender<Event>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    identity: Identity,
    port_mapper: Option<PortMapper>,
    whereabouts: Whereabouts,
    disk: Disk,
    tasks: Vec<AbortHandle>,
    pub(crate) session: Session,
    pub(crate) keeping: Option<Keeping>,
    pub(crate) sockets: Sockets,
    pub(crate) dht: Option<DhtHandle>,
    /// What is being told to trackers of torrents that stop.
    goodbyes: TaskTracker,
    written: Option<Written>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Engine {
    /// Sets up an engine that keeps its state (journals of what is on disk, metadata of magnet links) in
    /// `state_dir`, which is created when needed.
    pub fn builder(state_dir: impl Into<PathBuf>) -> EngineBuilder {
        EngineBuilder {
            state_dir: state_dir.into(),
            listen: Vec::new(),
            limits: Limits::default(),
            connections_max: None,
            cache_bytes: None,
            seed: None,
            network: NetworkOptions::default(),
            port_map: false,
            encryption: EncryptionPolicy::default(),
            transports: Transports::default(),
            dht: None,
            local_discovery: false,
            web_seeds: true,
            keeps_torrents: false,
            record: None,
        }
    }

    /// The id by which peers know the engine now (BEP 20). Another after each change of network.
    pub fn peer_id(&self) -> PeerId {
        self.inner.identity.peer_id()
    }

    /// Where the engine listens now.
    pub fn listen_addrs(&self) -> Vec<SocketAddr> {
        self.inner.whereabouts.addrs()
    }

    /// Whether the network that [`EngineBuilder::network`] allows is there, now and from now on.
    pub fn network(&self) -> watch::Receiver<NetworkState> {
        self.inner.whereabouts.state()
    }

    /// What routers forward to us, and what they let through to our addresses of IPv6, now and from now on; `None` if
    /// [`EngineBuilder::port_map`] is not set.
    pub fn port_mappings(&self) -> Option<watch::Receiver<Vec<PortMapping>>> {
        self.inner.port_mapper.as_ref().map(PortMapper::mappings)
    }

    /// The torrents that a publisher names (BEP 46), one after the other. The DHT is asked once an `interval`,
    /// or once a second ([`Publications::INTERVAL_MIN`]) if that is shorter.
    ///
    /// # Errors
    ///
    /// [`AddError::NoDht`].
    pub fn publications(
        &self,
        link: PublisherLink,
        interval: Duration,
    ) -> Result<Publications, AddError> {
        let dht = self.inner.dht.clone().ok_or(AddError::NoDht)?;
        Ok(Publications::new(dht, link, interval))
    }

    /// The addresses of a host, looked up as the engine's network allows.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.inner.sockets.resolve(host, port).await
    }

    /// The engine's nodes of the distributed hash table, if it has any.
    pub fn dht(&self) -> Option<&DhtHandle> {
        self.inner.dht.as_ref()
    }

    /// Limits the rates of all torrents together.
    pub async fn set_limits(&self, limits: Limits) -> Result<(), EngineStopped> {
        self.send(ShardMessage::Inputs(vec![Input::Limits(limits)]))
            .await
    }

    /// What happens from now on. A listener that lags is told how many events it missed.
    pub fn events(&self) -> BroadcastStream<Event> {
        BroadcastStream::new(self.events.subscribe())
    }

    /// The torrents that have changed since a revision that was told before; all, since [`Revision::START`]. Costs what
    /// it lists, however many torrents there are.
    pub async fn changes(&self, since: Revision) -> Result<Changes, EngineStopped> {
        changes_since(&self.shard, since).await
    }

    /// Torrents of earlier runs that could not be taken in, since what was kept of them is damaged. It is left as it is.
    pub fn unreadable(&self) -> &[Unreadable] {
        self.inner.keeping.as_ref().map_or(&[], Keeping::unreadable)
    }

    /// Whether a torrent with this info-hash is there.
    pub async fn contains(&self, info_hash: InfoHash) -> Result<bool, EngineStopped> {
        ask(&self.shard, move |shard, _| shard.find(info_hash).is_some()).await
    }

    /// Stops all torrents: trackers and peers are told, everything written is made durable. Returns when that is
    /// done; trackers are waited for 800 ms in all.
    pub async fn shutdown(self) {
        let _kept = match &self.inner.keeping {
            Some(keeping) => Some(keeping.keeper.finish().await),
            None => None,
        };
        let (done, stopped) = oneshot::channel();
        let goodbyes = async {
            if self.send(ShardMessage::Shutdown(done)).await.is_ok() {
                let _ = stopped.await;
                self.inner.goodbyes.close();
                self.inner.goodbyes.wait().await;
            }
        };
        // In time or not: what matters, durability, is storage's own shutdown.
        let goodbyes = tokio::time::timeout(SHUTDOWN_TIMEOUT, goodbyes);
        let give_back = async {
            if let Some(mapper) = &self.inner.port_mapper {
                mapper.stop().await;
            }
        };
        let _ = tokio::join!(goodbyes, give_back);
        if let Some(dht) = &self.inner.dht {
            dht.save().await;
        }
        let disk = self.inner.disk.clone();
        // The disk threads finish what they have; a panic there has been reported already.
        let _ = tokio::task::spawn_blocking(move || disk.shutdown()).await;
        for task in &self.inner.tasks {
            task.abort();
        }
        if let Some(written) = self.inner.written.clone() {
            // A disk that hangs is not waited for: what is missing shows.
            let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, written.wait()).await;
        }
    }

    pub(crate) async fn send(&self, message: ShardMessage) -> Result<(), EngineStopped> {
        self.shard.send(message).await.map_err(|_| EngineStopped)
    }
}
