//! A torrent of an engine, as its user holds it.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime};

use riverrun_base::{Bitfield, FileIndex, InfoHashes, PieceIndex, Time};
use riverrun_metainfo::Info;
use riverrun_storage::StorageOptions;
use riverrun_swarm::{
    Event, Input, Limits, PeerSource, PeerStats, Priority, Shard, StorageFault, TorrentCommand,
    TorrentKey, TorrentState, TorrentStats, WebSeedStats, Why,
};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::dht::DhtHandle;
use crate::driver::routes::Routes;
use crate::driver::shard::{Adding, ShardMessage};
use crate::error::{EngineStopped, FileError, WaitError};
use crate::hindrances::Hindrances;
use crate::reader::FileReader;
use crate::session::{Keeper, unix_seconds};
use crate::transports::Transports;

/// What the shard's task and the handles of one torrent share. The shard's task writes, handles look and wait.
#[derive(Debug)]
pub(crate) struct TorrentShared {
    pub(crate) key: TorrentKey,
    pub(crate) root: Arc<Path>,
    pub(crate) storage: StorageOptions,
    /// What carries the connections that are dialled for it, if not as the engine has it.
    pub(crate) transports: Option<Transports>,
    view: RwLock<View>,
    /// Wakes all that wait for something in the view.
    changed: Notify,
}

/// When something first happened to a torrent, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) added: u64,
    /// All that was wanted was there.
    pub(crate) completed: Option<u64>,
}

impl Times {
    /// Of a torrent that is being added.
    pub(crate) fn now() -> Self {
        Self {
            added: unix_seconds(),
            completed: None,
        }
    }
}

/// What can be seen of a torrent without asking the shard's task.
#[derive(Debug)]
pub(crate) struct View {
    hashes: InfoHashes,
    /// The metadata, once it is known, while it is in memory.
    info: Option<Arc<Info>>,
    /// Its name, while it is not.
    name: Option<Box<str>>,
    state: TorrentState,
    pieces: Held,
    /// Everything wanted is durable.
    is_completed: bool,
    is_removed: bool,
    times: Times,
}

/// The pieces that are verified. Those who have all need no list.
#[derive(Debug)]
enum Held {
    Some(Bitfield),
    All(u32),
}

impl Held {
    fn new(pieces: Bitfield) -> Self {
        if pieces.all() && !pieces.is_empty() {
            Self::All(pieces.len())
        } else {
            Self::Some(pieces)
        }
    }

    fn set(&mut self, piece: PieceIndex) {
        if let Self::Some(pieces) = self {
            pieces.set(piece);
            if pieces.all() {
                *self = Self::All(pieces.len());
            }
        }
    }

    fn has(&self, piece: PieceIndex) -> bool {
        match self {
            Self::Some(pieces) => pieces.has(piece),
            Self::All(count) => piece.0 < *count,
        }
    }

    fn to_bitfield(&self) -> Bitfield {
        match self {
            Self::Some(pieces) => pieces.clone(),
            Self::All(count) => Bitfield::full(*count),
        }
    }
}

impl View {
    fn handle_event(&mut self, event: &Event, verified: Option<&Bitfield>) {
        match event {
            Event::State { state, .. } => {
                // What was believed from the journal is reported by no event of its own.
                if let Some(pieces) = verified {
                    self.pieces = Held::new(pieces.clone());
                }
                if matches!(state, TorrentState::Downloading | TorrentState::Checking) {
                    self.is_completed = false;
                }
                self.state = state.clone();
            }
            Event::Metadata { info, .. } => {
                self.hashes = info.hashes();
                self.pieces = Held::new(Bitfield::new(info.layout().piece_count()));
                self.info = Some(info.clone());
            }
            Event::Dozing { .. } => {
                let info = self.info.take();
                self.name = info.map(|info| info.name().into());
            }
            Event::Loaded { info, .. } => {
                self.name = None;
                self.info = Some(info.clone());
            }
            Event::PieceVerified { piece, .. }
            | Event::Checked {
                piece, ok: true, ..
            } => {
                self.pieces.set(*piece);
            }
            Event::Completed { .. } => {
                self.is_completed = true;
                self.times.completed.get_or_insert_with(unix_seconds);
            }
            Event::Removed { .. } => self.is_removed = true,
            _ => {}
        }
    }
}

impl TorrentShared {
    /// In this directory, which many may share.
    pub(crate) fn new(key: TorrentKey, adding: Adding, root: Arc<Path>) -> Self {
        let count = adding.info.as_ref().map(|info| info.layout().piece_count());
        let pieces = match adding.summary {
            Some(said) if said.is_complete => Held::All(said.pieces),
            Some(said) => Held::new(Bitfield::new(said.pieces)),
            None => Held::new(Bitfield::new(count.unwrap_or(0))),
        };
        let view = View {
            hashes: adding.hashes,
            info: adding.info,
            name: adding.name,
            state: TorrentState::Opening,
            pieces,
            is_completed: false,
            is_removed: false,
            times: adding.times,
        };
        Self {
            key,
            root,
            storage: adding.storage,
            transports: adding.transports,
            view: RwLock::new(view),
            changed: Notify::new(),
        }
    }

    /// Whether nothing is under way any more.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.view().state == TorrentState::Stopped
    }

    pub(crate) fn handle_event(&self, event: &Event, shard: &Shard) {
        let verified = match event {
            Event::State { .. } => shard.pieces(self.key),
            _ => None,
        };
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        view.handle_event(event, verified);
        drop(view);
        self.changed.notify_waiters();
    }

    /// Its info-hashes, as far as they are known.
    pub(crate) fn hashes(&self) -> InfoHashes {
        self.view().hashes
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is found in the view.
    async fn wait_for<T>(&self, find: impl Fn(&View) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            // From before the look on, so that no change is missed.
            changed.as_mut().enable();
            let found = find(&self.view());
            if let Some(found) = found {
                return found;
            }
            changed.await;
        }
    }

    /// Waits until a piece is verified.
    pub(crate) async fn wait_piece(&self, piece: PieceIndex) {
        self.wait_for(|view| view.pieces.has(piece).then_some(()))
            .await;
    }
}

/// A torrent of an [`Engine`](crate::Engine). Cheap to clone; the torrent lives on without handles.
#[derive(Clone, Debug)]
pub struct TorrentHandle {
    pub(crate) shared: Arc<TorrentShared>,
    pub(crate) shard: mpsc::Sender<ShardMessage>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) keeper: Option<Keeper>,
    pub(crate) dht: Option<DhtHandle>,
    pub(crate) hindrances: Arc<Hindrances>,
}

impl TorrentHandle {
    /// The torrent's name inside its engine, as in [`Event::torrent`].
    pub fn key(&self) -> TorrentKey {
        self.shared.key
    }

    /// Its info-hashes, as far as they are known: a magnet link of a hybrid may know one until the metadata
    /// has come.
    pub fn info_hashes(&self) -> InfoHashes {
        self.shared.hashes()
    }

    /// Its metadata, if that is known and in memory. An engine that keeps its torrents has it of those that are in
    /// use; [`TorrentHandle::wait_info`] reads it again.
    pub fn info(&self) -> Option<Arc<Info>> {
        self.shared.view().info.clone()
    }

    /// Its name: from the metadata, else the info-hash.
    pub fn name(&self) -> String {
        let view = self.shared.view();
        let named = view.info.as_ref().map(|info| info.name());
        let named = named.or(view.name.as_deref()).map(str::to_owned);
        named.unwrap_or_else(|| view.hashes.primary().to_string())
    }

    /// The directory into which its name goes.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// What it is doing.
    pub fn state(&self) -> TorrentState {
        self.shared.view().state.clone()
    }

    /// The pieces that are verified.
    pub fn pieces(&self) -> Bitfield {
        self.shared.view().pieces.to_bitfield()
    }

    /// Whether everything wanted is there, verified and durable.
    pub fn is_completed(&self) -> bool {
        self.shared.view().is_completed
    }

    /// When it was added.
    pub fn added_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.shared.view().times.added)
    }

    /// When all that was wanted was there for the first time.
    pub fn completed_at(&self) -> Option<SystemTime> {
        let seconds = self.completed_seconds()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    }

    /// The same, in seconds since 1970.
    pub(crate) fn completed_seconds(&self) -> Option<u64> {
        self.shared.view().times.completed
    }

    /// Waits for the metadata.
    pub async fn wait_info(&self) -> Result<Arc<Info>, WaitError> {
        if let Some(info) = self.kept_info().await {
            return Ok(info);
        }
        self.wait_for(|view| view.info.clone()).await
    }

    /// Its metadata, if that is known, read again if it is not in memory.
    async fn kept_info(&self) -> Option<Arc<Info>> {
        let (info, is_kept) = {
            let view = self.shared.view();
            (view.info.clone(), view.name.is_some())
        };
        match &self.keeper {
            Some(keeper) if is_kept => keeper.info(self.info_hashes()).await,
            _ => info,
        }
    }

    /// Waits until everything wanted is there, verified and durable.
    ///
    /// Goes on waiting through faults that can end by themselves, such as a full disk; watch
    /// [`TorrentHandle::state`] for them.
    pub async fn wait_completed(&self) -> Result<(), WaitError> {
        self.wait_for(|view| view.is_completed.then_some(())).await
    }

    /// Waits until the torrent does something for which `wanted` holds.
    pub async fn wait_state(
        &self,
        wanted: impl Fn(&TorrentState) -> bool,
    ) -> Result<TorrentState, WaitError> {
        self.wait_for(|view| wanted(&view.state).then(|| view.state.clone()))
            .await
    }

    /// Waits until something is found in the view, but not longer than the torrent or the engine live.
    async fn wait_for<T>(&self, find: impl Fn(&View) -> Option<T>) -> Result<T, WaitError> {
        let found = self.shared.wait_for(|view| match find(view) {
            Some(found) => Some(Ok(found)),
            None => view.is_removed.then_some(Err(WaitError::Removed)),
        });
        tokio::select! {
            biased;
            found = found => found,
            () = self.shard.closed() => Err(EngineStopped.into()),
        }
    }

    /// Its figures as they are now.
    pub async fn stats(&self) -> Result<TorrentStats, WaitError> {
        let key = self.key();
        self.ask(move |shard, now| shard.stats(now, key))
            .await?
            .ok_or(WaitError::Removed)
    }

    /// Why it does not download, or does no faster; `None` if it does, or has nothing to download.
    pub async fn why(&self) -> Result<Option<Why>, WaitError> {
        let key = self.key();
        let why = self.ask(move |shard, now| (now, shard.why(now, key)));
        let (now, mut why) = why.await?;
        if matches!(
            self.state(),
            TorrentState::Downloading | TorrentState::Metadata
        ) {
            why = self.hindrances.explain(now, why);
        }
        if let (Some(Why::NoPeersKnown { trackers: 0, .. }), Some(dht)) = (&why, &self.dht) {
            let tables = dht.stats().await?;
            if tables.iter().all(|table| table.nodes == 0) {
                return Ok(Some(Why::DhtUnready));
            }
        }
        Ok(why)
    }

    /// Its web seeds as they are now.
    pub async fn web_seeds(&self) -> Result<Vec<WebSeedStats>, WaitError> {
        let key = self.key();
        Ok(self
            .ask(move |shard, now| shard.web_seeds(now, key))
            .await?)
    }

    /// Its connections to peers as they are now.
    pub async fn peers(&self) -> Result<Vec<PeerStats>, WaitError> {
        let key = self.key();
        Ok(self.ask(move |shard, now| shard.peers(now, key)).await?)
    }

    /// Begins, or goes on.
    pub async fn start(&self) -> Result<(), EngineStopped> {
        self.command(TorrentCommand::Start).await
    }

    /// Stops, and waits until everything is durable and the files are let go.
    pub async fn stop(&self) -> Result<(), WaitError> {
        self.command(TorrentCommand::Stop).await?;
        self.wait_state(|state| *state == TorrentState::Stopped)
            .await
            .map(|_| ())
    }

    /// Asks the torrent to stop, without waiting for it.
    pub async fn request_stop(&self) -> Result<(), EngineStopped> {
        self.command(TorrentCommand::Stop).await
    }

    /// Stops and forgets the torrent. Its files stay.
    pub async fn remove(self) -> Result<(), EngineStopped> {
        self.command(TorrentCommand::Remove).await?;
        let removed = self.wait_for(|view| view.is_removed.then_some(()));
        match removed.await {
            Ok(()) | Err(WaitError::Removed) => Ok(()),
            Err(WaitError::Stopped(stopped)) => Err(stopped),
        }
    }

    /// Hashes everything that is on disk again. A stopped torrent does so too, and stays stopped.
    pub async fn recheck(&self) -> Result<(), EngineStopped> {
        self.command(TorrentCommand::Recheck).await
    }

    /// Sets a priority for each file, in the order of the torrent's list.
    pub async fn set_priorities(&self, priorities: Vec<Priority>) -> Result<(), EngineStopped> {
        self.command(TorrentCommand::Priorities(priorities)).await
    }

    /// Prefers the order of pieces to their rarity, or not.
    pub async fn set_sequential(&self, sequential: bool) -> Result<(), EngineStopped> {
        self.command(TorrentCommand::Sequential(sequential)).await
    }

    /// Limits the torrent's rates.
    pub async fn set_limits(&self, limits: Limits) -> Result<(), EngineStopped> {
        self.command(TorrentCommand::Limits(limits)).await
    }

    /// Names peers to try.
    pub async fn add_peers(&self, peers: Vec<SocketAddr>) -> Result<(), EngineStopped> {
        self.found_by(PeerSource::User, peers).await
    }

    /// Names peers that became known in this way.
    pub(crate) async fn found_by(
        &self,
        source: PeerSource,
        peers: Vec<SocketAddr>,
    ) -> Result<(), EngineStopped> {
        let found = Input::Found {
            torrent: self.key(),
            source,
            peers,
        };
        self.input(found).await
    }

    /// Names more trackers.
    pub async fn add_trackers(&self, trackers: Vec<String>) -> Result<(), EngineStopped> {
        if let Some(keeper) = &self.keeper {
            keeper.add_trackers(self.key(), &trackers);
        }
        self.command(TorrentCommand::AddTrackers(trackers)).await
    }

    /// Announces now, as far as trackers allow.
    pub async fn announce(&self) -> Result<(), EngineStopped> {
        self.command(TorrentCommand::Announce).await
    }

    /// Reads a file of the torrent while it downloads: pieces that the reader waits for come first.
    pub async fn reader(&self, file: FileIndex) -> Result<FileReader, FileError> {
        let info = self.kept_info().await.ok_or(FileError::NoMetadata)?;
        FileReader::new(self.clone(), info, file)
    }

    pub(crate) async fn command(&self, command: TorrentCommand) -> Result<(), EngineStopped> {
        self.input(Input::Torrent {
            torrent: self.key(),
            command,
        })
        .await
    }

    async fn input(&self, input: Input) -> Result<(), EngineStopped> {
        self.shard
            .send(ShardMessage::Inputs(vec![input]))
            .await
            .map_err(|_| EngineStopped)
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Shard, Time) -> T + Send + 'static,
    ) -> Result<T, EngineStopped> {
        ask(&self.shard, question).await
    }

    /// Whether a piece is verified.
    pub fn has_piece(&self, piece: PieceIndex) -> bool {
        self.shared.view().pieces.has(piece)
    }

    /// Why storage does not work now, if it does not.
    pub fn fault(&self) -> Option<StorageFault> {
        match self.state() {
            TorrentState::Faulted(fault) => Some(fault),
            _ => None,
        }
    }
}

/// Asks the shard's task.
pub(crate) async fn ask<T: Send + 'static>(
    shard: &mpsc::Sender<ShardMessage>,
    question: impl FnOnce(&Shard, Time) -> T + Send + 'static,
) -> Result<T, EngineStopped> {
    let (reply, answer) = oneshot::channel();
    let query = Box::new(move |shard: &Shard, now: Time| {
        // Whoever asked may have stopped waiting.
        let _ = reply.send(question(shard, now));
    });
    shard
        .send(ShardMessage::Query(query))
        .await
        .map_err(|_| EngineStopped)?;
    answer.await.map_err(|_| EngineStopped)
}
