//! What outlives the engine: its torrents, if it is asked to keep them, and metadata that came from peers.
//!
//! One thread has the [store](store::Store) and takes what it is told in the order of the telling. What has come
//! together while it wrote goes into one transaction, so that ten thousand torrents are not ten thousand syncs. Nothing
//! of it is written while nothing changes.

mod keeper;
mod record;
mod store;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use riverrun_base::InfoHashes;
use riverrun_metainfo::{Info, Metainfo};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::keeper::{Keep, Keeper, unix_seconds};
pub(crate) use self::record::{Addition, Seal, Standing};
pub use self::store::Unreadable;
pub(crate) use self::store::{Kept, KeptId};
use self::store::{Store, bare};
use crate::error::StartError;

/// The file in the state directory.
const FILE_NAME: &str = "session.sqlite";
/// Whoever has a lock on this file keeps its torrents here.
const LOCK_NAME: &str = "session.lock";
/// How much goes into one transaction.
const TOGETHER_MAX: usize = 1024;
/// How many torrents are read ahead of whoever takes them in.
const READ_AHEAD: usize = 64;

/// What the thread is told.
enum Ask {
    /// Take the state directory for one engine.
    Claim(oneshot::Sender<Result<Claim, StartError>>),
    Keep {
        id: KeptId,
        name: String,
        keep: Box<Keep>,
    },
    /// Answered when it is durable, and not if that failed.
    Update(Update, oneshot::Sender<()>),
    KeepMetadata(Arc<Info>),
    Metadata(InfoHashes, oneshot::Sender<Metainfo>),
    /// All torrents, and how that ended.
    Torrents(
        mpsc::Sender<Result<Kept, Unreadable>>,
        oneshot::Sender<Result<(), String>>,
    ),
    /// There is time to tidy up.
    Tidy,
}

/// The right to keep torrents in a state directory.
#[derive(Debug)]
pub(crate) struct Claim {
    /// While it is open, no other process keeps its torrents there.
    pub(crate) lock: File,
    /// The first name that no torrent there ever had.
    pub(crate) next_id: KeptId,
}

/// Torrents that are being read.
pub(crate) struct Reading {
    pub(crate) torrents: mpsc::Receiver<Result<Kept, Unreadable>>,
    /// Comes when these were all, or when it does not go on.
    pub(crate) ended: oneshot::Receiver<Result<(), String>>,
}

/// What has changed about torrents that are kept.
#[derive(Debug, Default)]
pub(crate) struct Update {
    /// What has become of them, as it is written.
    pub(crate) standings: Vec<(KeptId, Vec<u8>)>,
    /// More trackers, tier by tier.
    pub(crate) trackers: Vec<(KeptId, Vec<Vec<String>>)>,
    /// Metadata that is known now, or known better.
    pub(crate) metadata: Option<Box<Metainfo>>,
    /// Those that are kept no longer.
    pub(crate) gone: Vec<KeptId>,
}

/// The way to the thread. Cheap to clone; the thread ends with the last.
///
/// The queue has no bound of its own: whoever asks waits for the answer before the next question, those who add many
/// torrents for some of them, and metadata from peers comes once a torrent.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    dir: Arc<Path>,
    asks: mpsc::UnboundedSender<Ask>,
}

impl Session {
    /// Starts the thread. It opens the store when it is needed first.
    pub(crate) fn start(dir: &Path) -> Result<Self, StartError> {
        let (asks, inbox) = mpsc::unbounded_channel();
        let dir: Arc<Path> = dir.into();
        let run = Thread {
            dir: dir.clone(),
            store: None,
        };
        let thread = std::thread::Builder::new().name("session".into());
        thread
            .spawn(move || run.run(inbox))
            .map_err(StartError::Thread)?;
        Ok(Self { dir, asks })
    }

    /// Takes the state directory for the torrents of this engine alone, and sees that what is kept there can be read.
    pub(crate) async fn claim(&self) -> Result<Claim, StartError> {
        let (reply, answer) = oneshot::channel();
        self.tell(Ask::Claim(reply));
        let stopped = |_| failure(&self.dir.join(FILE_NAME), "internal error");
        answer.await.map_err(stopped)?
    }

    /// What was kept cannot be used.
    pub(crate) fn failure(&self, message: &str) -> StartError {
        failure(&self.dir.join(FILE_NAME), message)
    }

    /// Keeps a torrent under a name that is new.
    fn keep(&self, id: KeptId, name: String, keep: Keep) {
        let keep = Box::new(keep);
        self.tell(Ask::Keep { id, name, keep });
    }

    /// Keeps what has changed. The answer comes when that is durable, and not if it failed.
    fn update(&self, update: Update) -> oneshot::Receiver<()> {
        let (reply, answer) = oneshot::channel();
        self.tell(Ask::Update(update, reply));
        answer
    }

    /// Keeps metadata that came from peers, so that a magnet link that is interrupted needs no peers to go on. Does
    /// not wait: failure costs only that the next start asks peers again.
    pub(crate) fn keep_metadata(&self, info: Arc<Info>) {
        self.tell(Ask::KeepMetadata(info));
    }

    /// The metadata of a torrent, if it is there and right.
    pub(crate) async fn metadata(&self, hashes: InfoHashes) -> Option<Metainfo> {
        let (reply, answer) = oneshot::channel();
        self.tell(Ask::Metadata(hashes, reply));
        answer.await.ok()
    }

    /// The torrents that were kept, in the order in which they were added, and whether these were all.
    pub(crate) fn torrents(&self) -> Reading {
        let (give, torrents) = mpsc::channel(READ_AHEAD);
        let (end, ended) = oneshot::channel();
        self.tell(Ask::Torrents(give, end));
        Reading { torrents, ended }
    }

    /// Waits until all that was told is durable.
    async fn flush(&self) {
        // The thread ends without an answer only if it panicked, which was reported.
        let _ = self.update(Update::default()).await;
    }

    fn tidy(&self) {
        self.tell(Ask::Tidy);
    }

    fn tell(&self, ask: Ask) {
        // The thread lives as long as we do, but for a panic, which was reported.
        let _ = self.asks.send(ask);
    }
}

fn failure(path: &Path, message: &str) -> StartError {
    StartError::Session {
        path: path.display().to_string(),
        message: message.to_owned(),
    }
}

struct Thread {
    dir: Arc<Path>,
    store: Option<Store>,
}

impl Thread {
    fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Ask>) {
        let mut asks = Vec::with_capacity(TOGETHER_MAX);
        while inbox.blocking_recv_many(&mut asks, TOGETHER_MAX) > 0 {
            let mut changes = Vec::new();
            for ask in asks.drain(..) {
                match ask {
                    Ask::Claim(_) | Ask::Metadata(..) | Ask::Torrents(..) | Ask::Tidy => {
                        self.write(&mut changes);
                        self.do_alone(ask);
                    }
                    change => changes.push(change),
                }
            }
            self.write(&mut changes);
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FILE_NAME)
    }

    fn store(&mut self) -> Result<&mut Store, String> {
        if self.store.is_none() {
            std::fs::create_dir_all(&self.dir).map_err(|error| error.to_string())?;
            let opened = Store::open(&self.path()).map_err(|error| error.to_string())?;
            self.store = Some(opened);
        }
        self.store.as_mut().ok_or_else(String::new)
    }

    /// The store, if anything was ever kept there.
    fn store_that_is(&mut self) -> Result<Option<&mut Store>, String> {
        if self.store.is_none() && !self.path().exists() {
            return Ok(None);
        }
        self.store().map(Some)
    }

    fn claim(&mut self) -> Result<Claim, StartError> {
        let path = self.dir.join(LOCK_NAME);
        let failed = |error: &std::io::Error| failure(&path, &error.to_string());
        let made = std::fs::create_dir_all(&self.dir).and_then(|()| File::create(&path));
        let lock = made.map_err(|error| failed(&error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(failure(&path, "another process has it"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(&error)),
        }
        let next_id = self
            .store()
            .and_then(|store| store.next_id().map_err(|error| error.to_string()));
        let next_id = next_id.map_err(|error| failure(&self.path(), &error))?;
        Ok(Claim { lock, next_id })
    }

    /// Does what is no change of a torrent. Whoever asked may have stopped waiting.
    fn do_alone(&mut self, ask: Ask) {
        match ask {
            Ask::Claim(reply) => drop(reply.send(self.claim())),
            Ask::Metadata(hashes, reply) => {
                let found = self.store_that_is().and_then(|store| match store {
                    None => Ok(None),
                    Some(store) => store.metadata(hashes).map_err(|error| error.to_string()),
                });
                match found {
                    Ok(Some(found)) => drop(reply.send(found)),
                    Ok(None) => {}
                    Err(error) => self.warn(&error, "metadata cannot be read"),
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
            Ask::Tidy => {
                if let Some(Err(error)) = self.store.as_ref().map(Store::tidy) {
                    self.warn(&error.to_string(), "not tidied");
                }
            }
            _ => {}
        }
    }

    fn warn(&self, error: &str, what: &str) {
        let path = self.path().display().to_string();
        tracing::warn!(error, path, "{what}");
    }

    /// Makes changes together, and answers those who wait for them. What fails is not answered: whoever told it tells it
    /// again.
    fn write(&mut self, changes: &mut Vec<Ask>) {
        if changes.is_empty() {
            return;
        }
        let changes = std::mem::take(changes);
        let done = self.store().and_then(|store| {
            let done = store.together(|db| changes.iter().try_for_each(|ask| write(db, ask)));
            done.map_err(|error| error.to_string())
        });
        match done {
            Ok(()) => changes.into_iter().for_each(answer),
            Err(error) => {
                let path = self.path().display().to_string();
                tracing::error!(error, path, "changes of torrents are not kept");
            }
        }
    }
}

fn write(db: &store::Changes<'_>, ask: &Ask) -> rusqlite::Result<()> {
    match ask {
        Ask::Keep { id, name, keep } => {
            if let Some(metainfo) = &keep.metainfo {
                db.keep_metadata(metainfo)?;
            }
            db.keep(*id, name, (&keep.addition, &keep.standing))?;
        }
        Ask::Update(update, _) => {
            for (id, standing) in &update.standings {
                db.keep_standing(*id, standing)?;
            }
            for (id, tiers) in &update.trackers {
                db.add_trackers(*id, tiers)?;
            }
            if let Some(metainfo) = &update.metadata {
                db.keep_metadata(metainfo)?;
            }
            for id in &update.gone {
                db.forget(*id)?;
            }
        }
        Ask::KeepMetadata(info) => db.keep_metadata(&bare(info))?,
        Ask::Claim(_) | Ask::Metadata(..) | Ask::Torrents(..) | Ask::Tidy => {}
    }
    Ok(())
}

/// Tells whoever waits that it is durable. They may have stopped waiting.
fn answer(ask: Ask) {
    match ask {
        Ask::Keep { keep, .. } => drop(keep.reply.send(())),
        Ask::Update(_, reply) => drop(reply.send(())),
        _ => {}
    }
}
