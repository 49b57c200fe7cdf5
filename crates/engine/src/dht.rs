//! The distributed hash table, as its user sees it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use riverrun_dht::{Config, Dht, Finding, ItemName, NodeStats, Question, Report, Stored};
use riverrun_metainfo::HostPort;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use crate::driver::clock::Clock;
use crate::driver::dht::{self, DHT_INBOX_MESSAGES, DhtMessage, DhtTask, Searches};
use crate::driver::relay::RelayState;
use crate::driver::shard::ShardMessage;
use crate::driver::socket::{Changes, RelayEnd, Sockets};
use crate::driver::udp::{
    self, DHT_BATCHES_WAITING, Datagrams, Received, Speakers, ToDht, UdpPort,
};
use crate::error::{EngineStopped, StartError};
use crate::network::NetworkOptions;

/// The nodes that the field's clients begin from: libtorrent's, µTorrent's, Transmission's. Asked only where no node of
/// an earlier run answers, and never by a program that listens on this machine alone.
pub const DEFAULT_BOOTSTRAP: [(&str, u16); 3] = [
    ("dht.libtorrent.org", 25401),
    ("router.bittorrent.com", 6881),
    ("dht.transmissionbt.com", 6881),
];

/// Nodes of an earlier run have so long to answer before those that serve everybody are asked.
const KNOWN_FIRST: Duration = Duration::from_secs(3);

/// How long after failing to resolve the names of nodes it is tried again: doubled each time.
const RESOLVE_WAIT_MIN: Duration = Duration::from_secs(5);
const RESOLVE_WAIT_MAX: Duration = Duration::from_mins(5);

/// How many tries there are.
const RESOLVE_TRIES: u32 = 20;

/// How the DHT is used.
#[derive(Clone, Debug)]
pub struct DhtConfig {
    bootstrap: Option<Vec<HostPort>>,
    is_read_only: bool,
    is_local_network: bool,
    reply_rate: Option<riverrun_base::Rate>,
}

impl Default for DhtConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl DhtConfig {
    /// A node as everybody's: it asks and answers, and begins from [`DEFAULT_BOOTSTRAP`].
    pub const fn new() -> Self {
        Self {
            bootstrap: None,
            is_read_only: false,
            is_local_network: false,
            reply_rate: None,
        }
    }

    /// Begins from these nodes, and from no others than those of an earlier run and those that torrents name.
    pub fn bootstrap(mut self, nodes: impl IntoIterator<Item = HostPort>) -> Self {
        self.bootstrap = Some(nodes.into_iter().collect());
        self
    }

    /// Asks, but does not answer (BEP 43): for short visits.
    pub const fn read_only(mut self) -> Self {
        self.is_read_only = true;
        self
    }

    /// The network is one of our own, on local addresses: many nodes may share an address there.
    pub const fn local_network(mut self) -> Self {
        self.is_local_network = true;
        self
    }

    /// How many bytes a second may go into answers; 64 KiB if not set.
    pub const fn reply_rate(mut self, rate: riverrun_base::Rate) -> Self {
        self.reply_rate = Some(rate);
        self
    }

    pub(crate) const fn is_local(&self) -> bool {
        self.is_local_network
    }

    /// Whether peers may be told that there is a node.
    pub(crate) const fn answers(&self) -> bool {
        !self.is_read_only
    }
}

/// What a search tells.
#[derive(Clone, Debug)]
pub(crate) enum SearchNews {
    Found(Finding),
    Ended(Report),
}

/// A search that is under way. It ends when this is dropped.
#[derive(Debug)]
pub struct DhtSearch {
    news: mpsc::UnboundedReceiver<SearchNews>,
    report: Option<Report>,
}

impl DhtSearch {
    /// What it finds next; `None` when it is over.
    pub async fn next(&mut self) -> Option<Finding> {
        if self.report.is_some() {
            return None;
        }
        match self.news.recv().await? {
            SearchNews::Found(finding) => Some(finding),
            SearchNews::Ended(report) => {
                self.report = Some(report);
                None
            }
        }
    }

    /// Waits for its end; `None` if the node has stopped before that.
    pub async fn report(mut self) -> Option<Report> {
        while self.next().await.is_some() {}
        self.report
    }

    /// How it went; `None` before its end.
    pub fn into_report(self) -> Option<Report> {
        self.report
    }
}

/// The nodes of an engine, or of a program that has no torrents. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DhtHandle {
    inbox: mpsc::Sender<DhtMessage>,
}

impl DhtHandle {
    /// Begins a search.
    pub async fn search(&self, question: Question) -> Result<DhtSearch, EngineStopped> {
        let (news, receiver) = mpsc::unbounded_channel();
        self.send(DhtMessage::Search { question, news }).await?;
        Ok(DhtSearch {
            news: receiver,
            report: None,
        })
    }

    /// The latest version of an item that can be found.
    pub async fn item(&self, name: ItemName) -> Result<Option<Stored>, EngineStopped> {
        let mut search = self.search(Question::Item(name)).await?;
        let mut latest = None;
        while let Some(finding) = search.next().await {
            if let Finding::Item(item) = finding {
                latest = Some(item);
            }
        }
        Ok(latest)
    }

    /// The nodes in numbers, one for each address where we listen.
    pub async fn stats(&self) -> Result<Vec<NodeStats>, EngineStopped> {
        let (reply, answer) = oneshot::channel();
        self.send(DhtMessage::Stats(reply)).await?;
        answer.await.map_err(|_| EngineStopped)
    }

    /// Takes in nodes to begin from.
    pub async fn add_nodes(&self, nodes: Vec<SocketAddr>) -> Result<(), EngineStopped> {
        self.send(DhtMessage::Routers(nodes)).await
    }

    /// Begins from nodes that a torrent names, too.
    pub(crate) async fn meet(self, sockets: Sockets, nodes: Vec<HostPort>) {
        let mut found = Vec::new();
        for node in &nodes {
            // A name that does not resolve is one node less.
            if let Ok(addrs) = sockets.resolve(&node.host, node.port).await {
                found.extend(addrs);
            }
        }
        // The engine may have been stopped meanwhile.
        let _ = self.add_nodes(found).await;
    }

    /// Writes the state of the nodes; returns when that is done.
    pub(crate) async fn save(&self) {
        let (done, saved) = oneshot::channel();
        if self.send(DhtMessage::Save(done)).await.is_ok() {
            // The sender is dropped when it is written, or need not be.
            let _ = saved.await;
        }
    }

    /// Tells the task without waiting: what torrents want comes again if it is lost.
    pub(crate) fn tell(&self, message: DhtMessage) {
        if self.inbox.try_send(message).is_err() {
            tracing::debug!("the DHT is busy");
        }
    }

    async fn send(&self, message: DhtMessage) -> Result<(), EngineStopped> {
        self.inbox.send(message).await.map_err(|_| EngineStopped)
    }
}

/// What nodes are started with.
pub(crate) struct DhtStart {
    pub(crate) config: DhtConfig,
    pub(crate) clock: Clock,
    pub(crate) sockets: Sockets,
    pub(crate) datagrams: Datagrams,
    pub(crate) received: mpsc::Receiver<Received>,
    /// Where the state is kept, if it is.
    pub(crate) state: Option<PathBuf>,
    pub(crate) shard: Option<mpsc::Sender<ShardMessage>>,
    /// Peers are taken by uTP where the nodes are.
    pub(crate) takes_utp: bool,
    pub(crate) seed: u64,
}

impl DhtStart {
    /// Starts the nodes: where they are asked, and their tasks.
    pub(crate) fn start(self) -> (DhtHandle, Vec<AbortHandle>) {
        let (inbox, messages) = mpsc::channel(DHT_INBOX_MESSAGES);
        let saved = self.state.as_deref().map(dht::read).unwrap_or_default();
        let mut sockets = self.datagrams.sockets();
        let addrs = sockets.addrs();
        let mut config = Config::new(rand::random());
        // Nobody can ask us anything through a relay that has not heard of them.
        config.is_read_only = self.config.is_read_only || self.sockets.is_proxied();
        config.is_local_network = self.config.is_local_network;
        if let Some(rate) = self.config.reply_rate {
            config.reply_rate = rate;
        }
        let node = Dht::new(self.clock.now(), config, &addrs, &saved, self.seed);
        let task = DhtTask {
            clock: self.clock,
            dht: node,
            datagrams: self.datagrams,
            sockets,
            received: self.received,
            inbox: messages,
            shard: self.shard,
            state: self.state,
            takes_utp: self.takes_utp,
            searches: Searches::default(),
        };
        let handle = DhtHandle { inbox };
        let wait = if saved.nodes.is_empty() {
            Duration::ZERO
        } else {
            KNOWN_FIRST
        };
        let begin = begin(handle.clone(), self.sockets, self.config.bootstrap, wait);
        let tasks = [tokio::spawn(task.run()), tokio::spawn(begin)];
        (handle, tasks.map(|task| task.abort_handle()).into())
    }
}

/// Resolves the names of nodes to begin from, until that works or is not needed.
async fn begin(handle: DhtHandle, sockets: Sockets, named: Option<Vec<HostPort>>, wait: Duration) {
    let nodes = match named {
        Some(nodes) => nodes,
        None if sockets.is_alone() => return,
        None => DEFAULT_BOOTSTRAP
            .iter()
            .map(|(host, port)| HostPort {
                host: (*host).to_owned(),
                port: *port,
            })
            .collect(),
    };
    let mut pause = wait;
    for _ in 0..RESOLVE_TRIES {
        tokio::time::sleep(pause).await;
        let Ok(stats) = handle.stats().await else {
            return;
        };
        if stats.iter().any(|node| node.nodes > 0) && !wait.is_zero() {
            return;
        }
        let mut found = Vec::new();
        for node in &nodes {
            match sockets.resolve(&node.host, node.port).await {
                Ok(addrs) => found.extend(addrs),
                Err(error) => tracing::debug!(host = node.host, %error, "node not resolved"),
            }
        }
        if !found.is_empty() || nodes.is_empty() {
            let _ = handle.add_nodes(found).await;
            return;
        }
        pause = (pause * 2).clamp(RESOLVE_WAIT_MIN, RESOLVE_WAIT_MAX);
    }
}

/// A node without torrents: to look something up, or to be where others begin.
#[derive(Debug)]
pub struct DhtNode {
    handle: DhtHandle,
    addrs: Vec<SocketAddr>,
    tasks: Vec<AbortHandle>,
}

impl DhtNode {
    /// Starts nodes on these addresses, or on the usual ports if there are none. With a directory they keep what they
    /// know in it for the next start.
    ///
    /// Where everything goes by a proxy there is one node, by the relay of the proxy, that asks and answers nobody. It is
    /// an error if the proxy relays no datagrams now; if it does not later, it is asked again.
    pub async fn start(
        config: DhtConfig,
        listen: &[SocketAddr],
        network: NetworkOptions,
        state_dir: Option<&Path>,
    ) -> Result<Self, StartError> {
        let sockets = Sockets::new(listen, network).map_err(StartError::Network)?;
        let changes = sockets.changes();
        let (intake, received) = mpsc::channel(DHT_BATCHES_WAITING);
        let mut node = Listening {
            sockets: sockets.clone(),
            datagrams: Datagrams::new(),
            intake,
            receiving: JoinSet::new(),
            relay: RelayState::Unwanted,
        };
        let failed = |(addr, source)| StartError::Listen { addr, source };
        node.listen().map_err(failed)?;
        if sockets.is_proxied() {
            let relay = RelayState::WANTED.ask(&sockets).await;
            node.open(relay.map_err(StartError::Relay)?)
                .map_err(StartError::Relay)?;
        }
        let addrs = node.datagrams.sockets().addrs();
        let start = DhtStart {
            config,
            clock: Clock::start(),
            sockets: sockets.clone(),
            datagrams: node.datagrams.clone(),
            received,
            state: state_dir.map(state_path),
            shard: None,
            takes_utp: false,
            seed: rand::random(),
        };
        let (handle, mut tasks) = start.start();
        tasks.push(tokio::spawn(sockets.survey()).abort_handle());
        tasks.push(tokio::spawn(node.follow(changes)).abort_handle());
        Ok(Self {
            handle,
            addrs,
            tasks,
        })
    }

    /// Where it listens.
    pub fn listen_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// To ask it.
    pub const fn handle(&self) -> &DhtHandle {
        &self.handle
    }

    /// Writes what it knows, and stops.
    pub async fn shutdown(self) {
        self.handle.save().await;
    }
}

impl Drop for DhtNode {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The sockets of a node without torrents.
struct Listening {
    sockets: Sockets,
    datagrams: Datagrams,
    intake: mpsc::Sender<Received>,
    receiving: JoinSet<()>,
    relay: RelayState,
}

impl Listening {
    fn listen(&mut self) -> Result<(), (SocketAddr, io::Error)> {
        let mut ports = Vec::new();
        for udp in self.sockets.listen::<UdpSocket>()? {
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            let addr = udp.local_addr().unwrap_or(any);
            ports.push(UdpPort::new(udp).map_err(|error| (addr, error))?);
        }
        self.serve(ports);
        Ok(())
    }

    /// Uses the relay of a proxy.
    fn open(&mut self, relay: RelayEnd) -> io::Result<()> {
        let RelayEnd { socket, control } = relay;
        let port = UdpPort::relayed(socket, self.sockets.clone(), control)?;
        self.serve(vec![port]);
        self.relay = RelayState::Open;
        Ok(())
    }

    fn serve(&mut self, ports: Vec<UdpPort>) {
        let ports: Vec<_> = ports.into_iter().map(Arc::new).collect();
        for (socket, port) in ports.iter().enumerate() {
            let speakers = Speakers {
                utp: None,
                dht: Some(ToDht::new(socket, self.intake.clone())),
            };
            self.receiving.spawn(udp::serve(port.clone(), speakers));
        }
        self.datagrams.set(ports);
    }

    /// Listens anew wherever the network lets us, whenever that changes; asks for a relay that is gone.
    async fn follow(mut self, mut changes: Changes) {
        loop {
            tokio::select! {
                () = changes.next() => {
                    self.datagrams.set(Vec::new());
                    self.receiving.shutdown().await;
                    if self.relay != RelayState::Unwanted {
                        self.relay = RelayState::WANTED;
                    } else if let Err((addr, error)) = self.listen() {
                        tracing::warn!(%addr, %error, "listening failed");
                    }
                }
                relay = self.relay.ask(&self.sockets) => {
                    if let Err(error) = relay.and_then(|relay| self.open(relay)) {
                        tracing::info!(%error, "the proxy relays no datagrams");
                        self.relay = self.relay.failed();
                    }
                }
                _ = self.receiving.join_next(), if self.relay == RelayState::Open => {
                    self.datagrams.set(Vec::new());
                    self.relay = RelayState::LOST;
                }
            }
        }
    }
}

/// Secret bytes from the system: the key of a publisher, for example.
pub fn draw_secret() -> [u8; 32] {
    rand::random()
}

/// Where the state is kept in a directory.
pub(crate) fn state_path(dir: &Path) -> PathBuf {
    dir.join("dht.state")
}
