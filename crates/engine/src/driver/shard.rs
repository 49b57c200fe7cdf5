//! The task that owns the shard: inputs in batches, one clock read each, actions out.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use riverrun_base::{InfoHash, Rng, Time};
use riverrun_metainfo::Info;
use riverrun_peer::{Attach, CloseReason, PeerCommand, PeerEvent, Role};
use riverrun_storage::{Completion, Disk, StorageOptions};
use riverrun_swarm::{
    ConnKey, Event, Existed, Input, NetAction, Outbox, Revision, Shard, StorageDone, StorageJob,
    Summary, TorrentCommand, TorrentKey, Transport, WebSeed,
};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::conn::{ConnContext, ConnTask};
use super::decisions::Decisions;
use super::dht::DhtMessage;
use super::dial::{self, Dialler};
use super::routes::{CONN_INBOX_BATCHES, ConnMessage, Routes};
use super::tracker::Trackers;
use super::web_seed::WebSeedTask;
use crate::changes::Changes;
use crate::dht::DhtHandle;
use crate::hindrances::Hindrances;
use crate::known::decided_by;
use crate::session::{Keep, Keeper, Session};
use crate::torrent::{Times, TorrentHandle, TorrentShared};
use crate::transports::Transports;

/// How many messages wait for the shard. Connections that find it full stop reading.
pub(crate) const SHARD_INBOX_MESSAGES: usize = 1024;

/// How many messages are taken at once.
const MESSAGES_PER_TURN: usize = 64;

/// Something to be looked up in the shard, now.
pub(crate) type Question = Box<dyn FnOnce(&Shard, Time) + Send>;

/// What the shard's task is told.
pub(crate) enum ShardMessage {
    /// Things that happened.
    Inputs(Vec<Input>),
    /// A connection's reports, in order.
    Peer {
        conn: ConnKey,
        events: Vec<PeerEvent>,
    },
    /// A connection is over.
    Closed { conn: ConnKey, why: CloseReason },
    /// A peer dialled us for a torrent.
    Incoming {
        torrent: TorrentKey,
        addr: SocketAddr,
        transport: Transport,
        inbox: mpsc::Sender<ConnMessage>,
    },
    /// A torrent to take in.
    Add(Box<NewTorrent>),
    /// A read of the engine's own.
    Read {
        torrent: TorrentKey,
        job: StorageJob,
    },
    /// A question.
    Query(Question),
    /// What has changed?
    Changes {
        since: Revision,
        reply: oneshot::Sender<Changes>,
    },
    /// Stop everything; answered when all torrents have stopped.
    Shutdown(oneshot::Sender<()>),
}

/// What storage tells the shard's task. Its channel has no bound of its own: there is a message for each job at
/// most, and jobs are bounded by memory for blocks, by pieces, and by what each connection may ask for.
pub(crate) enum DiskMessage {
    /// A fact for the decisions.
    Done {
        torrent: TorrentKey,
        done: StorageDone,
    },
    /// Blocks for a connection whose inbox was full.
    Serve {
        conn: ConnKey,
        commands: Vec<PeerCommand>,
    },
}

/// A torrent to take in, and where its files go.
pub(crate) struct NewTorrent {
    pub(crate) torrent: riverrun_swarm::AddTorrent,
    pub(crate) root: PathBuf,
    pub(crate) storage: StorageOptions,
    pub(crate) transports: Option<Transports>,
    pub(crate) times: Times,
    /// Its name, if its metadata is kept and not in memory.
    pub(crate) name: Option<Box<str>>,
    /// What is to be kept of it, if that is not kept already.
    pub(crate) keep: Option<Keep>,
    pub(crate) reply: oneshot::Sender<Taken>,
}

/// A torrent that is there now.
pub(crate) struct Taken {
    pub(crate) torrent: TorrentHandle,
    /// Whether it was not there before.
    pub(crate) is_new: bool,
}

/// A torrent that the shard has been asked to take in.
pub(crate) struct Adding {
    pub(crate) root: PathBuf,
    pub(crate) storage: StorageOptions,
    pub(crate) transports: Option<Transports>,
    pub(crate) times: Times,
    pub(crate) hashes: riverrun_base::InfoHashes,
    pub(crate) info: Option<Arc<Info>>,
    pub(crate) name: Option<Box<str>>,
    pub(crate) summary: Option<Summary>,
}

/// Who has asked for a torrent, and what is to be kept of it.
struct Asker {
    keep: Option<Keep>,
    reply: oneshot::Sender<Taken>,
}

/// What the task acts through.
pub(crate) struct Outside {
    pub(crate) conns: ConnContext,
    pub(crate) routes: Arc<Routes>,
    pub(crate) disk: Disk,
    pub(crate) trackers: Trackers,
    /// To whom torrents are told that are to be announced in the local network; `None` if none are.
    pub(crate) local: Option<mpsc::Sender<Vec<InfoHash>>>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) session: Session,
    /// Who keeps torrents, if they are kept.
    pub(crate) keeper: Option<Keeper>,
    pub(crate) dialler: Dialler,
    pub(crate) dht: Option<DhtHandle>,
    pub(crate) hindrances: Arc<Hindrances>,
}

/// The task.
pub(crate) struct ShardTask {
    shard: Decisions,
    out: Outbox,
    outside: Outside,
    inbox: mpsc::Receiver<ShardMessage>,
    disk: mpsc::UnboundedReceiver<DiskMessage>,
    rng: Rng,
    adding: HashMap<u64, (Adding, Asker)>,
    next_request: u64,
    incoming: HashMap<u64, (mpsc::Sender<ConnMessage>, Transport)>,
    next_token: u64,
    torrents: HashMap<TorrentKey, Arc<TorrentShared>>,
    /// The directory of the torrent that came last: most lie in few.
    last_root: Arc<Path>,
    /// Commands of this turn, by connection; emptied by each flush, its memory kept.
    commands: HashMap<ConnKey, Vec<PeerCommand>>,
    /// Reads of torrents that are waking up. Each reader waits for the answer to one.
    held_reads: Vec<(TorrentKey, StorageJob)>,
    stopping: Option<oneshot::Sender<()>>,
}

impl ShardTask {
    pub(crate) fn new(
        shard: Decisions,
        outside: Outside,
        inbox: mpsc::Receiver<ShardMessage>,
        disk: mpsc::UnboundedReceiver<DiskMessage>,
        seed: u64,
    ) -> Self {
        Self {
            shard,
            out: Outbox::default(),
            outside,
            inbox,
            disk,
            rng: Rng::new(seed),
            adding: HashMap::new(),
            next_request: 0,
            incoming: HashMap::new(),
            next_token: 0,
            torrents: HashMap::new(),
            last_root: Path::new("").into(),
            commands: HashMap::new(),
            held_reads: Vec::new(),
            stopping: None,
        }
    }

    /// Runs until the engine is shut down. The task is aborted if the engine is dropped instead.
    pub(crate) async fn run(mut self) {
        let clock = self.outside.conns.clock;
        let mut batch = Vec::with_capacity(MESSAGES_PER_TURN);
        let mut done = Vec::with_capacity(MESSAGES_PER_TURN);
        let mut alarm = clock.alarm();
        loop {
            let deadline = self.shard.poll_timeout();
            tokio::select! {
                _ = self.inbox.recv_many(&mut batch, MESSAGES_PER_TURN) => {}
                _ = self.disk.recv_many(&mut done, MESSAGES_PER_TURN) => {}
                () = alarm.ring(deadline) => {}
            }
            let now = clock.now();
            for message in done.drain(..) {
                self.handle_disk(now, message);
            }
            for message in batch.drain(..) {
                self.handle(now, message);
            }
            self.shard.handle_timeout(now, &mut self.out);
            self.release_reads();
            self.flush().await;
            self.shard.end_turn();
            if self.stopping.is_some() && self.torrents.values().all(|torrent| torrent.is_at_rest())
            {
                break;
            }
        }
        if let Some(stopped) = self.stopping.take() {
            // Whoever asked may have given up waiting.
            let _ = stopped.send(());
        }
    }

    fn handle(&mut self, now: Time, message: ShardMessage) {
        match message {
            ShardMessage::Inputs(inputs) => {
                for input in inputs {
                    self.shard.handle(now, input, &mut self.out);
                }
            }
            ShardMessage::Peer { conn, events } => {
                for event in events {
                    self.shard
                        .handle(now, Input::Peer { conn, event }, &mut self.out);
                }
            }
            ShardMessage::Closed { conn, why } => {
                self.outside.routes.remove(conn);
                self.shard
                    .handle(now, Input::PeerClosed { conn, why }, &mut self.out);
            }
            ShardMessage::Incoming {
                torrent,
                addr,
                transport,
                inbox,
            } => {
                let token = self.next_token;
                self.next_token += 1;
                self.incoming.insert(token, (inbox, transport));
                self.shard.handle(
                    now,
                    Input::Incoming {
                        token,
                        torrent,
                        addr,
                    },
                    &mut self.out,
                );
            }
            ShardMessage::Add(new) => self.add(now, *new),
            ShardMessage::Read { torrent, job } => self.read(now, torrent, job),
            ShardMessage::Query(question) => question(&self.shard, now),
            ShardMessage::Changes { since, reply } => {
                let changes = self.shard.changes(now, since);
                // Whoever asked may have stopped waiting.
                let _ = reply.send(Changes::new(changes, |key| self.handle_of(key)));
            }
            ShardMessage::Shutdown(done) => {
                self.stopping = Some(done);
                self.shard.handle(now, Input::Shutdown, &mut self.out);
            }
        }
    }

    /// Has something read of a torrent, which is not let go for a while then.
    fn read(&mut self, now: Time, torrent: TorrentKey, job: StorageJob) {
        let command = TorrentCommand::Wake;
        let wake = Input::Torrent { torrent, command };
        self.shard.handle(now, wake, &mut self.out);
        self.held_reads.push((torrent, job));
    }

    /// Has read what was waiting for torrents that are awake now, or will not be.
    fn release_reads(&mut self) {
        let shard = &self.shard;
        let free = self
            .held_reads
            .extract_if(.., |(torrent, _)| !shard.is_resting(*torrent));
        self.out.storage.extend(free);
    }

    /// Has the metadata of a torrent read that is kept and not in memory.
    fn load(&self, torrent: TorrentKey) {
        let Some(shared) = self.torrents.get(&torrent) else {
            return;
        };
        let (session, hashes) = (self.outside.session.clone(), shared.hashes());
        let shard = self.outside.conns.shard.clone();
        tokio::spawn(async move {
            let kept = session.metadata(hashes).await;
            let metadata = kept.as_ref().map(decided_by);
            let loaded = Input::Loaded { torrent, metadata };
            // Without the shard's task there is nobody to tell.
            let _ = shard.send(ShardMessage::Inputs(vec![loaded])).await;
        });
    }

    /// What a user holds of a torrent.
    fn handle_of(&self, torrent: TorrentKey) -> Option<TorrentHandle> {
        Some(TorrentHandle {
            shared: self.torrents.get(&torrent)?.clone(),
            shard: self.outside.conns.shard.clone(),
            routes: self.outside.routes.clone(),
            keeper: self.outside.keeper.clone(),
            dht: self.outside.dht.clone(),
            hindrances: self.outside.hindrances.clone(),
        })
    }

    fn handle_disk(&mut self, now: Time, message: DiskMessage) {
        match message {
            DiskMessage::Done { torrent, done } => {
                self.shard
                    .handle(now, Input::Storage { torrent, done }, &mut self.out);
            }
            DiskMessage::Serve { conn, commands } => {
                self.commands.entry(conn).or_default().extend(commands);
            }
        }
    }

    fn add(&mut self, now: Time, new: NewTorrent) {
        let NewTorrent {
            mut torrent,
            root,
            storage,
            transports,
            times,
            name,
            keep,
            reply,
        } = new;
        let request = self.next_request;
        self.next_request += 1;
        torrent.request = request;
        let info = torrent.metadata.as_ref().map(|(info, _)| info.clone());
        let adding = Adding {
            root,
            storage,
            transports,
            times,
            hashes: torrent.hashes,
            info,
            name,
            summary: torrent.summary,
        };
        self.adding.insert(request, (adding, Asker { keep, reply }));
        self.shard
            .handle(now, Input::Add(Box::new(torrent)), &mut self.out);
    }

    /// Carries out what the shard wants. Events come first: a torrent must have its place in storage before
    /// its first job.
    async fn flush(&mut self) {
        let mut events = std::mem::take(&mut self.out.events);
        for event in events.drain(..) {
            self.handle_event(event);
        }
        self.out.events = events;
        self.outside.disk.submit(&mut self.out.storage);
        for torrent in std::mem::take(&mut self.out.loads) {
            self.load(torrent);
        }
        let mut actions = std::mem::take(&mut self.out.net);
        for action in actions.drain(..) {
            self.act(action).await;
        }
        self.out.net = actions;
        self.send_commands().await;
    }

    async fn send_commands(&mut self) {
        for (conn, command) in self.out.peers.drain(..) {
            self.commands.entry(conn).or_default().push(command);
        }
        // One message a connection and turn. The order among connections does not matter.
        for (conn, commands) in self.commands.drain() {
            if let Some(inbox) = self.outside.routes.find(conn) {
                // The connection's task always receives: this waits for one turn of its loop at most. If it
                // has ended, its end is on its way to us.
                let _ = inbox.send(ConnMessage::Commands(commands)).await;
            }
        }
    }

    async fn act(&mut self, action: NetAction) {
        match action {
            NetAction::Dial {
                torrent,
                conn,
                addr,
                info_hash,
                attach,
                encrypted,
            } => {
                let role = Role::Dialer {
                    info_hash,
                    attach,
                    encrypted,
                };
                let wanted = self
                    .torrents
                    .get(&torrent)
                    .and_then(|shared| shared.transports);
                self.dial(conn, addr, role, wanted);
            }
            NetAction::OpenWebSeed { conn, seed, info } => self.open_web_seed(conn, seed, info),
            NetAction::Accept {
                token,
                conn,
                attach,
            } => self.accept(token, conn, attach).await,
            NetAction::Refuse { token, why } => {
                tracing::debug!(?why, "incoming connection refused");
                // Its task sees the inbox close, and ends.
                self.incoming.remove(&token);
            }
            NetAction::AnnounceLocal { info_hashes } => {
                if let Some(local) = &self.outside.local {
                    // What finds no place is announced again in five minutes.
                    let _ = local.try_send(info_hashes);
                }
            }
            NetAction::Announce {
                torrent,
                tracker,
                url,
                request,
            } => {
                let ports = self.outside.conns.identity.ports();
                self.outside
                    .trackers
                    .announce(torrent, tracker, url, request, ports);
            }
            NetAction::FindPeers {
                torrent,
                info_hash,
                announce,
                no_seeds,
            } => {
                let ports = self.outside.conns.identity.ports();
                let announce = announce.map(|said| (ports.or(said.port), said.is_seed));
                self.tell_dht(DhtMessage::FindPeers {
                    torrent,
                    info_hash,
                    announce,
                    no_seeds,
                });
            }
            NetAction::MeetNode(addr) => self.tell_dht(DhtMessage::Meet(addr)),
        }
    }

    fn tell_dht(&self, message: DhtMessage) {
        if let Some(dht) = &self.outside.dht {
            dht.tell(message);
        }
    }

    async fn accept(&mut self, token: u64, conn: ConnKey, attach: Box<Attach>) {
        let Some((inbox, transport)) = self.incoming.remove(&token) else {
            return;
        };
        self.outside.routes.add(conn, inbox.clone());
        if inbox
            .send(ConnMessage::Accepted { conn, attach })
            .await
            .is_err()
        {
            // It ended while the shard decided, and could not say so without a key.
            self.outside.routes.remove(conn);
            let now = self.outside.conns.clock.now();
            let why = CloseReason::PeerClosed;
            self.shard
                .handle(now, Input::PeerClosed { conn, why }, &mut self.out);
            return;
        }
        let now = self.outside.conns.clock.now();
        self.shard
            .handle(now, Input::Connected { conn, transport }, &mut self.out);
    }

    fn dial(&mut self, conn: ConnKey, addr: SocketAddr, role: Role, wanted: Option<Transports>) {
        let (inbox, receiver) = mpsc::channel(CONN_INBOX_BATCHES);
        self.outside.routes.add(conn, inbox);
        let context = self.outside.conns.clone();
        let seed = self.rng.next_u64();
        let dialler = self.outside.dialler.clone();
        tokio::spawn(async move {
            match dialler.dial(addr, wanted).await {
                Ok(stream) => {
                    let transport = stream.transport();
                    let connected = Input::Connected { conn, transport };
                    // If the shard is gone, the task finds out as it starts.
                    let _ = context
                        .shard
                        .send(ShardMessage::Inputs(vec![connected]))
                        .await;
                    ConnTask::dialled(context, conn, role, seed, stream, addr, receiver)
                        .or(dialler.other_way(addr, wanted, transport))
                        .run()
                        .await;
                }
                Err(error) => {
                    let why = CloseReason::Unreachable(dial::failure(&error));
                    let _ = context.shard.send(ShardMessage::Closed { conn, why }).await;
                }
            }
        });
    }

    fn open_web_seed(&self, conn: ConnKey, seed: WebSeed, info: Arc<Info>) {
        let (inbox, receiver) = mpsc::channel(CONN_INBOX_BATCHES);
        self.outside.routes.add(conn, inbox);
        let (context, sockets) = (
            self.outside.conns.clone(),
            self.outside.dialler.sockets.clone(),
        );
        let task = WebSeedTask::new(context, sockets, conn, (seed, info), receiver);
        tokio::spawn(task.run());
    }

    fn handle_event(&mut self, event: Event) {
        match &event {
            Event::Added {
                request,
                torrent,
                existed,
            } => self.added(*request, *torrent, *existed),
            Event::Metadata { torrent, info } => self.learned(*torrent, info),
            Event::Removed { torrent } => {
                self.outside.conns.directory.remove(*torrent);
            }
            Event::United { with, .. } => self.keep_trackers(*with),
            Event::Dozing { torrent } => self.outside.disk.detach(*torrent),
            Event::Loaded { torrent, .. } => {
                if let Some(shared) = self.torrents.get(torrent) {
                    let root = shared.root.to_path_buf();
                    self.outside.disk.attach(*torrent, root, shared.storage);
                }
            }
            _ => {}
        }
        if let Some(shared) = self.torrents.get(&event.torrent()) {
            shared.handle_event(&event, &self.shard);
        }
        if let Event::Removed { torrent } = event {
            self.torrents.remove(&torrent);
            self.outside.disk.detach(torrent);
            if let Some(keeper) = &self.outside.keeper {
                keeper.note_removed();
            }
        }
        // Nobody may be listening.
        let _ = self.outside.events.send(event);
    }

    fn added(&mut self, request: u64, torrent: TorrentKey, existed: Existed) {
        let Some((adding, asker)) = self.adding.remove(&request) else {
            return;
        };
        let is_new = existed == Existed::No;
        if is_new {
            if adding.summary.is_none() {
                let root = adding.root.clone();
                self.outside.disk.attach(torrent, root, adding.storage);
            }
            for info_hash in adding.hashes.wire() {
                self.outside.conns.directory.insert(info_hash, torrent);
            }
            if *self.last_root != *adding.root {
                self.last_root = adding.root.as_path().into();
            }
            let shared = TorrentShared::new(torrent, adding, self.last_root.clone());
            self.torrents.insert(torrent, Arc::new(shared));
        }
        let Some(torrent) = self.handle_of(torrent) else {
            return;
        };
        if let (Some(keeper), Some(keep)) = (&self.outside.keeper, asker.keep) {
            if is_new {
                keeper.keep(&torrent, keep);
            } else {
                keeper.merge(torrent.key(), existed, keep);
            }
        }
        // Whoever asked may be gone; the torrent stays.
        let _ = asker.reply.send(Taken { torrent, is_new });
    }

    /// A torrent has taken in trackers that nobody has named for it: they are kept as if somebody had.
    fn keep_trackers(&self, torrent: TorrentKey) {
        let now = self.outside.conns.clock.now();
        let (Some(keeper), Some(stats)) = (&self.outside.keeper, self.shard.stats(now, torrent))
        else {
            return;
        };
        let urls = stats.trackers.iter().map(|tracker| &tracker.url);
        let urls: BTreeSet<_> = urls.map(|url| url.as_str().to_owned()).collect();
        keeper.add_trackers(torrent, &urls.into_iter().collect::<Vec<_>>());
    }

    /// A magnet's metadata has come: a hybrid has a second name now, and the next start needs no peers.
    fn learned(&self, torrent: TorrentKey, info: &Arc<Info>) {
        for info_hash in info.hashes().wire() {
            self.outside.conns.directory.insert(info_hash, torrent);
        }
        self.outside.session.keep_metadata(info.clone());
    }
}

impl Drop for ShardTask {
    /// The connections' tasks see their inboxes closed, and end.
    fn drop(&mut self) {
        self.outside.routes.clear();
    }
}

/// Takes what storage has finished: blocks go straight to connections, answers to the engine's own reads to
/// their readers, the rest to the shard. Never waits.
pub(crate) fn deliver(
    completions: Vec<Completion>,
    routes: &Routes,
    shard: &mpsc::UnboundedSender<DiskMessage>,
) {
    // The shard's task receives until the engine ends; after that there is nobody to tell.
    let tell = |message| drop(shard.send(message));
    let mut serves: Vec<(ConnKey, Vec<PeerCommand>)> = Vec::new();
    for completion in completions {
        match completion {
            Completion::Serve { conn, block, .. } if Routes::is_read(conn) => {
                routes.answer_read(conn, Ok(block));
            }
            Completion::Serve { conn, span, block } => {
                let serve = PeerCommand::Serve { span, block };
                match serves.last_mut().filter(|(last, _)| *last == conn) {
                    Some((_, commands)) => commands.push(serve),
                    None => serves.push((conn, vec![serve])),
                }
            }
            Completion::Done {
                done: StorageDone::ReadFailed { conn, fault, .. },
                ..
            } if Routes::is_read(conn) => {
                routes.answer_read(conn, Err(fault));
            }
            Completion::Done { torrent, done } => tell(DiskMessage::Done { torrent, done }),
        }
    }
    for (conn, commands) in serves {
        if let Some(commands) = routes.serve(conn, commands) {
            tell(DiskMessage::Serve { conn, commands });
        }
    }
}
