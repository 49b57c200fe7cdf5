//! What outlives the engine: its torrents, if it is asked to keep them, and metadata that came from peers.
//!
//! One thread has the [store](store::Store) and takes what it is told in the order of the telling. What has come
//! together while it wrote goes into one transaction, so that ten thousand torrents are not ten thousand syncs. Nothing
//! of it is written while nothing changes.

mod keeper;
mod record;
mod store;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use riverrun_base::InfoHashes;
use riverrun_metainfo::{Info, Metainfo};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::keeper::{Keeper, unix_seconds};
pub(crate) use self::record::{Addition, Seal, Standing};
pub use self::store::Unreadable;
pub(crate) use self::store::{Kept, KeptId};
use self::store::{Store, bare};
use crate::error::StartError;

/// The file in the state directory.
const FILE_NAME: &str = "session.sqlite";
/// Whoever has a lock on this file keeps its torrents here.
const LOCK_NAME: &str = "session.lock";
/// How much waits for the thread; whoever has more to tell waits.
const ASKS_MAX: usize = 1024;
/// How many torrents are read ahead of whoever takes them in.
const READ_AHEAD: usize = 64;

/// What the thread is told.
enum Ask {
    Keep {
        name: String,
        addition: Box<Addition>,
        standing: Box<Standing>,
        metainfo: Option<Box<Metainfo>>,
        reply: oneshot::Sender<KeptId>,
    },
    Standing(KeptId, Vec<u8>),
    AddTrackers(KeptId, Vec<String>),
    Forget(KeptId),
    KeepMetadata(Arc<Info>),
    Metadata(InfoHashes, oneshot::Sender<Metainfo>),
    /// All torrents, and how that ended.
    Torrents(
        mpsc::Sender<Result<Kept, Unreadable>>,
        oneshot::Sender<Result<(), String>>,
    ),
    /// Answered when all that was told before is durable.
    Flush(oneshot::Sender<()>),
}

/// The way to the thread. Cheap to clone; the thread ends with the last.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    dir: Arc<Path>,
    asks: mpsc::Sender<Ask>,
}

impl Session {
    /// Starts the thread. It opens the store when it is needed first.
    pub(crate) fn start(dir: &Path) -> Result<Self, StartError> {
        let (asks, inbox) = mpsc::channel(ASKS_MAX);
        let path = dir.join(FILE_NAME);
        let run = move || Thread { path, store: None }.run(inbox);
        let thread = std::thread::Builder::new().name("session".into());
        thread.spawn(run).map_err(StartError::Thread)?;
        Ok(Self {
            dir: dir.into(),
            asks,
        })
    }

    /// Takes the state directory for the torrents of this engine alone, and sees that what is kept there can be read.
    /// The lock goes with the file.
    pub(crate) fn claim(&self) -> Result<File, StartError> {
        let failed = |path: PathBuf, message: String| StartError::Session {
            path: path.display().to_string(),
            message,
        };
        let path = self.dir.join(LOCK_NAME);
        let made = std::fs::create_dir_all(&self.dir).and_then(|()| File::create(&path));
        let file = made.map_err(|error| failed(path.clone(), error.to_string()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(failed(path, "another process has it".to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(failed(path, error.to_string())),
        }
        let opened = Store::open(&self.dir.join(FILE_NAME));
        opened.map_err(|error| self.failure(error.to_string()))?;
        Ok(file)
    }

    /// What was kept cannot be used.
    pub(crate) fn failure(&self, message: String) -> StartError {
        let path = self.dir.join(FILE_NAME).display().to_string();
        StartError::Session { path, message }
    }

    /// Keeps a torrent. The answer comes when it is durable, and not if that failed.
    pub(crate) async fn keep(
        &self,
        name: String,
        addition: Addition,
        standing: Standing,
        metainfo: Option<Box<Metainfo>>,
    ) -> oneshot::Receiver<KeptId> {
        let (reply, answer) = oneshot::channel();
        self.tell(Ask::Keep {
            name,
            addition: Box::new(addition),
            standing: Box::new(standing),
            metainfo,
            reply,
        })
        .await;
        answer
    }

    pub(crate) async fn keep_standing(&self, id: KeptId, standing: Vec<u8>) {
        self.tell(Ask::Standing(id, standing)).await;
    }

    pub(crate) async fn add_trackers(&self, id: KeptId, urls: Vec<String>) {
        self.tell(Ask::AddTrackers(id, urls)).await;
    }

    pub(crate) async fn forget(&self, id: KeptId) {
        self.tell(Ask::Forget(id)).await;
    }

    /// Keeps metadata that came from peers, so that a magnet link that is interrupted needs no peers to go on. Does
    /// not wait: failure costs only that the next start asks peers again.
    pub(crate) fn keep_metadata(&self, info: Arc<Info>) {
        if self.asks.try_send(Ask::KeepMetadata(info)).is_err() {
            tracing::warn!("metadata not kept: too much to write");
        }
    }

    /// The metadata of a torrent, if it is there and right.
    pub(crate) async fn metadata(&self, hashes: InfoHashes) -> Option<Metainfo> {
        let (reply, answer) = oneshot::channel();
        self.tell(Ask::Metadata(hashes, reply)).await;
        answer.await.ok()
    }

    /// The torrents that were kept, in the order in which they were added, and whether these were all.
    pub(crate) async fn torrents(
        &self,
    ) -> (
        mpsc::Receiver<Result<Kept, Unreadable>>,
        oneshot::Receiver<Result<(), String>>,
    ) {
        let (give, torrents) = mpsc::channel(READ_AHEAD);
        let (end, ended) = oneshot::channel();
        self.tell(Ask::Torrents(give, end)).await;
        (torrents, ended)
    }

    /// Waits until all that was told is durable.
    pub(crate) async fn flush(&self) {
        let (reply, answer) = oneshot::channel();
        self.tell(Ask::Flush(reply)).await;
        // The thread ends without an answer only if it panicked, which was reported.
        let _ = answer.await;
    }

    async fn tell(&self, ask: Ask) {
        // The thread lives as long as we do, but for a panic, which was reported.
        let _ = self.asks.send(ask).await;
    }
}

struct Thread {
    path: PathBuf,
    store: Option<Store>,
}

impl Thread {
    fn run(mut self, mut inbox: mpsc::Receiver<Ask>) {
        let mut asks = Vec::with_capacity(ASKS_MAX);
        while inbox.blocking_recv_many(&mut asks, ASKS_MAX) > 0 {
            let mut changes = Vec::new();
            for ask in asks.drain(..) {
                match ask {
                    Ask::Metadata(..) | Ask::Torrents(..) => {
                        self.write(&mut changes);
                        self.read(ask);
                    }
                    change => changes.push(change),
                }
            }
            self.write(&mut changes);
        }
    }

    fn store(&mut self) -> Result<&mut Store, String> {
        if self.store.is_none() {
            let dir = self.path.parent().unwrap_or(Path::new("."));
            let made: io::Result<()> = std::fs::create_dir_all(dir);
            made.map_err(|error| error.to_string())?;
            let opened = Store::open(&self.path).map_err(|error| error.to_string())?;
            self.store = Some(opened);
        }
        self.store.as_mut().ok_or_else(String::new)
    }

    fn read(&mut self, ask: Ask) {
        let path = self.path.display().to_string();
        // Whoever asked may have stopped waiting.
        match ask {
            Ask::Metadata(hashes, reply) => {
                let found = self
                    .store()
                    .and_then(|store| store.metadata(hashes).map_err(|error| error.to_string()));
                match found {
                    Ok(Some(found)) => drop(reply.send(found)),
                    Ok(None) => {}
                    Err(error) => tracing::warn!(%error, path, "metadata cannot be read"),
                }
            }
            Ask::Torrents(give, end) => {
                let read = self.store().and_then(|store| {
                    let read = store.torrents(|found| drop(give.blocking_send(found)));
                    read.map_err(|error| error.to_string())
                });
                drop(give);
                drop(end.send(read));
            }
            _ => {}
        }
    }

    /// Makes changes together, and answers those who wait for them. What fails is not answered.
    fn write(&mut self, changes: &mut Vec<Ask>) {
        if changes.is_empty() {
            return;
        }
        let path = self.path.display().to_string();
        let changes = std::mem::take(changes);
        let done = self.store().and_then(|store| {
            let done = store.together(|db| changes.iter().map(|ask| write(db, ask)).collect());
            done.map_err(|error| error.to_string())
        });
        match done {
            Ok(ids) => answer(changes, ids),
            Err(error) => tracing::error!(%error, path, "changes of torrents are not kept"),
        }
    }
}

fn write(db: &store::Changes<'_>, ask: &Ask) -> rusqlite::Result<Option<KeptId>> {
    match ask {
        Ask::Keep {
            name,
            addition,
            standing,
            metainfo,
            ..
        } => {
            if let Some(metainfo) = metainfo {
                db.keep_metadata(metainfo)?;
            }
            return db.keep(name, addition, standing).map(Some);
        }
        Ask::Standing(id, standing) => db.keep_standing(*id, standing)?,
        Ask::AddTrackers(id, urls) => db.add_trackers(*id, urls)?,
        Ask::Forget(id) => db.forget(*id)?,
        Ask::KeepMetadata(info) => db.keep_metadata(&bare(info))?,
        Ask::Metadata(..) | Ask::Torrents(..) | Ask::Flush(_) => {}
    }
    Ok(None)
}

/// Tells those who wait that it is durable. They may have stopped waiting.
fn answer(asks: Vec<Ask>, ids: Vec<Option<KeptId>>) {
    for (ask, id) in asks.into_iter().zip(ids) {
        match (ask, id) {
            (Ask::Keep { reply, .. }, Some(id)) => drop(reply.send(id)),
            (Ask::Flush(reply), _) => drop(reply.send(())),
            _ => {}
        }
    }
}
