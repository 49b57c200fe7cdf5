//! Storage as an engine sees it: jobs in, completions out, threads inside.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use riverrun_base::{Block, BlockPool, BlockSpan, PieceIndex};
use riverrun_swarm::{ConnKey, StorageDone, StorageFault, StorageJob, TorrentKey};
use thiserror::Error;

use crate::backend::Backend;
use crate::cache::Whereabouts;
use crate::config::{StorageConfig, StorageOptions};
use crate::fault::show;
use crate::file_pool::FilePool;
use crate::gather::{Gather, Received};
use crate::ground::{Ground, Site};
use crate::hashing::HashTask;
use crate::lane::Lane;
use crate::os::OsBackend;
use crate::owners::Owners;
use crate::reading::{ReadTask, Room};
use crate::stock::Spare;
use crate::torrent::{Op, Schedule, State, Torrent};

/// The least memory for payload: two dozen blocks that come and eight that go.
pub const CACHE_BYTES_MIN: usize = 512 << 10;
/// Runs of reads that may wait; what is past that is refused, as a disk that is so far behind answers nobody in time.
const READS_WAITING_MAX: usize = 16 * 1024;
/// Journals that stay open while their torrents rest: ten thousand torrents need no ten thousand files. A journal that
/// is closed is not locked against other processes, and is looked at before it is written to again.
const JOURNALS_OPEN_MAX: usize = 128;
/// How often to look whether all is closed.
const CLOSE_LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Reads of one torrent that may wait for a write.
const DELAYED_READS_MAX: usize = 1024;

/// Something that storage has to say.
#[derive(Clone, Debug)]
pub enum Completion {
    /// For the decisions.
    Done {
        /// The torrent.
        torrent: TorrentKey,
        /// What was done.
        done: StorageDone,
    },
    /// For a connection, as [`PeerCommand::Serve`](riverrun_peer::PeerCommand::Serve).
    Serve {
        /// Which connection.
        conn: ConnKey,
        /// What it asked for.
        span: BlockSpan,
        /// The bytes.
        block: Block,
    },
}

/// Why storage does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The directory for the journals cannot be made.
    #[error("cannot use {path} for the journals of what is on disk")]
    JournalDir {
        /// Which directory.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// All storage of a process: a few threads for disks and hashing, and the memory for payload.
///
/// Clones are the same storage. With the last of them the threads end, as they do when the process is killed:
/// [`Disk::shutdown`] is the way to leave everything durable.
#[derive(Clone)]
pub struct Disk(Arc<Running>);

struct Running {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads share.
pub(crate) struct Shared {
    pub(crate) ground: Ground,
    pub(crate) config: StorageConfig,
    torrents: RwLock<HashMap<TorrentKey, Arc<Torrent>>>,
    pub(crate) hashing: Lane<HashTask>,
    pub(crate) gather: Gather,
    pub(crate) reading: Lane<ReadTask>,
    pub(crate) writing: Lane<Arc<Torrent>>,
    /// Blocks that come.
    pub(crate) blocks: Arc<BlockPool>,
    /// Blocks that go.
    pub(crate) read_blocks: BlockPool,
    pub(crate) room: Arc<Room>,
    /// Told when a torrent is closed.
    closed: (Mutex<()>, Condvar),
    completions: Box<dyn Fn(Vec<Completion>) + Send + Sync>,
}

impl Disk {
    /// Starts the threads.
    ///
    /// `completions` is called from them, and from [`Disk::submit`], with what was done; it must not block for long.
    /// `on_room` is called when memory for blocks that come is free again after it was scarce: the moment for
    /// connections that found none to go on reading.
    pub fn start(
        config: StorageConfig,
        completions: impl Fn(Vec<Completion>) + Send + Sync + 'static,
        on_room: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, StartError> {
        let backend = Arc::new(OsBackend);
        backend
            .make_root(&config.journal_dir)
            .map_err(|source| StartError::JournalDir {
                path: show(&config.journal_dir),
                source,
            })?;
        Self::start_on(backend, config, completions, on_room)
    }

    pub(crate) fn start_on(
        backend: Arc<dyn Backend>,
        config: StorageConfig,
        completions: impl Fn(Vec<Completion>) + Send + Sync + 'static,
        on_room: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, StartError> {
        let shared = Arc::new(Shared::new(backend, config, Box::new(completions), on_room));
        let disk = Self(Arc::new(Running {
            shared: shared.clone(),
            threads: Mutex::default(),
        }));
        for n in 0..shared.config.disk_threads.max(1) {
            disk.0
                .spawn(format!("disk-write-{n}"), Shared::write_loop)?;
            disk.0.spawn(format!("disk-read-{n}"), Shared::read_loop)?;
        }
        for n in 0..shared.config.hash_threads.max(1) {
            disk.0.spawn(format!("hash-{n}"), Shared::hash_loop)?;
        }
        Ok(disk)
    }

    /// The memory for blocks that come: connections allocate there, and stop reading when there is none.
    pub fn blocks(&self) -> Arc<BlockPool> {
        self.0.shared.blocks.clone()
    }

    /// Says where the data of a torrent goes: `root` is the directory into which the torrent's name goes. It may be
    /// missing as long as nothing of the torrent was ever there. To be called before the torrent's first job.
    pub fn attach(&self, torrent: TorrentKey, root: PathBuf, options: StorageOptions) {
        // Journals are found by the directory's name, so it must not depend on where the process was started.
        let root = std::path::absolute(&root).unwrap_or(root);
        self.0.shared.attach(torrent, root, options);
    }

    /// Lets go of a torrent. Its files and locks go with its last job, so close it first.
    pub fn detach(&self, torrent: TorrentKey) {
        self.0.shared.torrents_mut().remove(&torrent);
    }

    /// Takes jobs, in order, and empties `jobs`. Does not wait for a disk.
    pub fn submit(&self, jobs: &mut Vec<(TorrentKey, StorageJob)>) {
        self.0.shared.submit(jobs);
    }

    /// Closes all torrents: what is verified is made durable and recorded, then the threads end. What cannot be
    /// written now is given up. Jobs that come later are not done.
    pub fn shutdown(&self) {
        let shared = &self.0.shared;
        let torrents = shared.torrents().clone();
        let mut closes = torrents
            .keys()
            .map(|torrent| (*torrent, StorageJob::Close))
            .collect();
        shared.submit(&mut closes);
        shared.wait_until_closed();
        self.0.stop();
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Disk({} torrents)", self.0.shared.torrents().len())
    }
}

impl Running {
    fn spawn(
        &self,
        name: String,
        run: impl Fn(&Shared) + Send + 'static,
    ) -> Result<(), StartError> {
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || run(&shared));
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(thread.map_err(StartError::Thread)?);
        Ok(())
    }

    fn stop(&self) {
        self.shared.hashing.close();
        self.shared.reading.close();
        self.shared.writing.close();
        self.shared.room.close();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let this = std::thread::current().id();
        for thread in threads {
            // The last clone may be dropped by a completion, on one of these very threads.
            if thread.thread().id() != this && thread.join().is_err() {
                tracing::error!("a disk thread has panicked");
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What comes of some jobs.
#[derive(Default)]
struct Answers {
    /// What can be said at once.
    now: Vec<Completion>,
    /// Blocks to be read by one task, as long as they lie in a row.
    run: Option<ReadTask>,
}

impl Shared {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        config: StorageConfig,
        completions: Box<dyn Fn(Vec<Completion>) + Send + Sync>,
        on_room: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let budget = config.cache_bytes.max(CACHE_BYTES_MIN);
        let room = Arc::new(Room::default());
        let ground = Ground {
            backend,
            owners: Arc::new(Owners::default()),
            rounds: Arc::default(),
            readers: Arc::new(FilePool::new(config.open_files_max)),
            journals: Arc::new(FilePool::new(JOURNALS_OPEN_MAX)),
            journal_dir: config.journal_dir.clone(),
        };
        let on_read_room = room.clone();
        let gather_interval = config.gather_interval;
        Self {
            ground,
            config,
            torrents: RwLock::default(),
            hashing: Lane::default(),
            gather: Gather::new(gather_interval, budget * 3 / 8),
            reading: Lane::default(),
            writing: Lane::default(),
            blocks: Arc::new(BlockPool::with_stock(
                budget / 4 * 3,
                Arc::new(Spare::default()),
                on_room,
            )),
            read_blocks: BlockPool::with_stock(budget / 4, Arc::new(Spare::default()), move || {
                on_read_room.tell();
            }),
            room,
            closed: (Mutex::new(()), Condvar::new()),
            completions,
        }
    }

    pub(crate) fn attach(
        &self,
        key: TorrentKey,
        root: PathBuf,
        options: StorageOptions,
    ) -> Arc<Torrent> {
        let torrent = Arc::new(Torrent::new(Site {
            torrent: key,
            root,
            options,
        }));
        self.torrents_mut().insert(key, torrent.clone());
        torrent
    }

    pub(crate) fn submit(&self, jobs: &mut Vec<(TorrentKey, StorageJob)>) {
        let mut answers = Answers::default();
        for (key, job) in jobs.drain(..) {
            let torrent = self.torrents().get(&key).cloned();
            match torrent {
                Some(torrent) => self.take(&torrent, job, &mut answers),
                None => refuse(key, &job, &mut answers.now),
            }
        }
        self.give(answers);
        self.relieve();
    }

    pub(crate) fn emit(&self, completions: Vec<Completion>) {
        if !completions.is_empty() {
            (self.completions)(completions);
        }
    }

    /// Gives the torrent to a disk thread, if need be.
    pub(crate) fn schedule(&self, torrent: &Arc<Torrent>, schedule: Schedule) {
        if schedule == Schedule::Needed {
            self.writing.push(torrent.clone());
        }
    }

    /// Says what can be said now, and gives the last run of reads to the readers.
    fn give(&self, mut answers: Answers) {
        self.read_later(&mut answers);
        self.emit(answers.now);
    }

    /// Gives the run of reads to the readers.
    fn read_later(&self, answers: &mut Answers) {
        let Some(run) = answers.run.take() else {
            return;
        };
        if let Err(run) = self.reading.push_bounded(run, READS_WAITING_MAX) {
            let key = run.torrent.site.torrent;
            let fault = || refused("too many reads wait for the disk");
            let failed = |span: &BlockSpan| read_failed(key, run.conn, *span, fault());
            answers.now.extend(run.spans.iter().map(failed));
        }
    }

    fn take(&self, torrent: &Arc<Torrent>, job: StorageJob, answers: &mut Answers) {
        let mut state = torrent.state();
        let schedule = match job {
            StorageJob::Open { info, wanted } => state.agenda.push(Op::Open {
                hashes: info.hashes(),
                layout: info.layout().clone(),
                wanted,
            }),
            StorageJob::Check { pieces, hashes } => state.agenda.push(Op::Check(pieces, hashes)),
            StorageJob::Store { span, block } => return state.store(span, block),
            StorageJob::Verify { piece, expected } => {
                let Some(layout) = state.layout.clone() else {
                    return;
                };
                let blocks = state.cache.judge(&layout, piece);
                let ticket = state.agenda.take_ticket();
                drop(state);
                return self.gather(Received {
                    torrent: torrent.clone(),
                    ticket,
                    piece,
                    expected,
                    blocks,
                });
            }
            StorageJob::Discard(piece) => return state.cache.remove(piece),
            StorageJob::Read { conn, span } => {
                return self.read(torrent, &mut state, (conn, span), answers);
            }
            StorageJob::HashLeaves {
                conn,
                piece,
                request,
            } => {
                let ticket = state.agenda.take_ticket();
                return self.hashing.push(HashTask::Leaves {
                    torrent: torrent.clone(),
                    ticket,
                    conn,
                    piece,
                    request,
                });
            }
            StorageJob::Wanted(wanted) => state.agenda.push(Op::Wanted(wanted)),
            StorageJob::Forget(piece) => {
                state.verified.clear(piece);
                state.agenda.push(Op::Forget(piece))
            }
            StorageJob::Sync => state.agenda.push(Op::Sync),
            StorageJob::Close => {
                state.is_closing = true;
                state.retry_at = None;
                state.checks.clear();
                let pushed = state.agenda.push(Op::Close);
                if pushed == Schedule::Needed {
                    pushed
                } else {
                    state.agenda.schedule()
                }
            }
        };
        drop(state);
        self.schedule(torrent, schedule);
    }

    fn read(
        &self,
        torrent: &Arc<Torrent>,
        state: &mut State,
        (conn, span): (ConnKey, BlockSpan),
        answers: &mut Answers,
    ) {
        let (key, out) = (torrent.site.torrent, &mut answers.now);
        let is_ours = state.layout.as_ref().is_some_and(|it| it.contains(span));
        if !is_ours || !state.verified.has(span.piece) {
            // A block that is right may be given before its piece is whole; what was written early is not read for that.
            let held = state.cache.held(span).filter(|_| is_ours);
            return out.push(match held {
                Some(block) => Completion::Serve { conn, span, block },
                None => read_failed(key, conn, span, refused("a block that is not verified")),
            });
        }
        match state.cache.find(span) {
            Whereabouts::Memory(block) => out.push(Completion::Serve { conn, span, block }),
            Whereabouts::OnTheWay if state.delayed_reads.len() < DELAYED_READS_MAX => {
                state.delayed_reads.push((conn, span));
            }
            Whereabouts::Disk => {
                let run = answers.run.as_mut();
                if !run.is_some_and(|run| run.extend(torrent, conn, span)) {
                    self.read_later(answers);
                    answers.run = Some(ReadTask::new(torrent, conn, span));
                }
            }
            Whereabouts::OnTheWay => {
                out.push(read_failed(
                    key,
                    conn,
                    span,
                    refused("too many reads wait for a write"),
                ));
            }
        }
    }

    /// A write is through: what waited for it can be read.
    pub(crate) fn resume_reads(&self, torrent: &Arc<Torrent>, piece: PieceIndex) {
        let mut state = torrent.state();
        let due: Vec<_> = state
            .delayed_reads
            .extract_if(.., |(_, span)| span.piece == piece)
            .collect();
        let mut answers = Answers::default();
        for read in due {
            self.read(torrent, &mut state, read, &mut answers);
        }
        drop(state);
        self.give(answers);
    }

    /// Writes blocks of unfinished pieces early when memory runs short, so that pieces can go on to be finished.
    pub(crate) fn relieve(&self) {
        let limit = self.blocks.limit_bytes();
        // From here connections may soon find no memory.
        let pressure = self.blocks.used_bytes().saturating_sub(limit / 4 * 3);
        if pressure == 0 {
            return;
        }
        // A good deal at once, or each block would bring the next spill.
        let wanted = pressure + limit / 8;
        let torrents: Vec<Arc<Torrent>> = self.torrents().values().cloned().collect();
        // What cannot be written now helps nobody.
        let able = || {
            torrents
                .iter()
                .filter(|torrent| !torrent.state().faults.any())
        };
        let mut spilling: usize = able().map(|torrent| torrent.state().spilling_bytes).sum();
        while spilling < wanted {
            let most = able().max_by_key(|torrent| torrent.state().cache.loose_bytes());
            let Some(bytes) = most.and_then(|torrent| self.spill(torrent)) else {
                return;
            };
            spilling += bytes;
        }
    }

    /// Puts one piece's blocks on the agenda, to be written early; gives how many bytes that are.
    fn spill(&self, torrent: &Arc<Torrent>) -> Option<usize> {
        let mut state = torrent.state();
        let (piece, blocks) = state.cache.spill()?;
        let bytes = crate::cache::memory_bytes(&blocks);
        state.spilling_bytes += bytes;
        let schedule = state.agenda.push_now(Op::Spill { piece, blocks });
        drop(state);
        self.schedule(torrent, schedule);
        Some(bytes)
    }

    /// A torrent is closed.
    pub(crate) fn note_closed(&self) {
        self.closed.1.notify_all();
    }

    fn wait_until_closed(&self) {
        let torrents: Vec<Arc<Torrent>> = self.torrents().values().cloned().collect();
        let mut guard = self.closed.0.lock().unwrap_or_else(PoisonError::into_inner);
        while torrents.iter().any(|torrent| torrent.state().is_closing) {
            // Looks again after a while, as the last close may have come between the look and the wait.
            let waited = self.closed.1.wait_timeout(guard, CLOSE_LOOK_INTERVAL);
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn torrents(&self) -> std::sync::RwLockReadGuard<'_, HashMap<TorrentKey, Arc<Torrent>>> {
        self.torrents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn torrents_mut(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<TorrentKey, Arc<Torrent>>> {
        self.torrents
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn store(&mut self, span: BlockSpan, block: Block) {
        if let Some(layout) = &self.layout {
            self.cache.store(layout, span, block);
        }
    }
}

pub(crate) fn read_failed(
    torrent: TorrentKey,
    conn: ConnKey,
    span: BlockSpan,
    fault: StorageFault,
) -> Completion {
    Completion::Done {
        torrent,
        done: StorageDone::ReadFailed { conn, span, fault },
    }
}

fn refused(message: &str) -> StorageFault {
    StorageFault::Io {
        path: String::new(),
        message: message.to_owned(),
    }
}

/// A job for a torrent that has no place: only what waits for an answer gets one.
fn refuse(torrent: TorrentKey, job: &StorageJob, out: &mut Vec<Completion>) {
    let done = match job {
        StorageJob::Open { .. } => StorageDone::Fault(refused("the torrent has no directory")),
        StorageJob::Sync => StorageDone::Synced,
        StorageJob::Close => StorageDone::Closed,
        StorageJob::Read { conn, span } => {
            return out.push(read_failed(
                torrent,
                *conn,
                *span,
                refused("the torrent has no directory"),
            ));
        }
        _ => return,
    };
    out.push(Completion::Done { torrent, done });
}
