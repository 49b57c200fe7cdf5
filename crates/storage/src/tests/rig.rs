//! Storage without threads: a test says who runs when.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use riverrun_base::{Bitfield, Block, BlockSpan, Blocks as _, PieceIndex, Rng};
use riverrun_swarm::{ConnKey, StorageDone, StorageJob, TorrentKey};

use super::fixture::Fixture;
use super::memory::MemoryDisk;
use crate::abreast::Slab;
use crate::config::{StorageConfig, StorageOptions};
use crate::disk::{CACHE_BYTES_MIN, Completion, Shared};
use crate::torrent::Torrent;

pub(super) const TORRENT: TorrentKey = TorrentKey::new(0, 0);
pub(super) const CONN: ConnKey = ConnKey::new(7, 0);
pub(super) const ROOT: &str = "/data";

/// Storage of one torrent (or more) on a simulated disk.
pub(super) struct Rig {
    pub(super) shared: Arc<Shared>,
    pub(super) disk: MemoryDisk,
    torrent: Arc<Torrent>,
    done: Arc<Mutex<Vec<Completion>>>,
    pub(super) now: Instant,
    rng: Rng,
}

impl Rig {
    pub(super) fn new(disk: &MemoryDisk, seed: u64) -> Self {
        Self::with(disk, seed, StorageOptions::default(), |_| {})
    }

    pub(super) fn with(
        disk: &MemoryDisk,
        seed: u64,
        options: StorageOptions,
        set: impl Fn(&mut StorageConfig),
    ) -> Self {
        let mut config = StorageConfig::new(PathBuf::from("/state"));
        config.hash_threads = 2;
        // The test says when.
        config.gather_interval = Duration::ZERO;
        set(&mut config);
        let done = Arc::new(Mutex::new(Vec::new()));
        let sink = done.clone();
        let completions = Box::new(move |new| sink.lock().unwrap().extend(new));
        let mut shared = Shared::new(Arc::new(disk.clone()), config, completions, || {});
        shared.gather = shared.gather.with_lanes(8);
        let shared = Arc::new(shared);
        let torrent = shared.attach(TORRENT, PathBuf::from(ROOT), options);
        Self {
            shared,
            torrent,
            disk: disk.clone(),
            done,
            now: Instant::now(),
            rng: Rng::new(seed),
        }
    }

    /// A torrent that is open, on an empty disk.
    pub(super) fn fresh(fixture: &Fixture) -> (Self, MemoryDisk) {
        Self::fresh_with(fixture, |_| {})
    }

    /// The same, with so little memory that blocks of large pieces are written early.
    pub(super) fn cramped(fixture: &Fixture) -> (Self, MemoryDisk) {
        Self::fresh_with(fixture, |config| config.cache_bytes = CACHE_BYTES_MIN)
    }

    fn fresh_with(fixture: &Fixture, set: impl Fn(&mut StorageConfig)) -> (Self, MemoryDisk) {
        let disk = MemoryDisk::default();
        let mut rig = Self::with(&disk, 1, StorageOptions::default(), set);
        rig.open(fixture).expect("nothing is in the way");
        (rig, disk)
    }

    pub(super) fn submit(&mut self, job: StorageJob) {
        self.submit_to(TORRENT, job);
    }

    pub(super) fn submit_to(&mut self, torrent: TorrentKey, job: StorageJob) {
        self.shared.submit(&mut vec![(torrent, job)]);
    }

    /// Lets one of the threads do one thing; false if none has anything to do.
    pub(super) fn step(&mut self) -> bool {
        let first = self.rng.below(3);
        (0..3).any(|n| match (first + n) % 3 {
            0 => self
                .shared
                .hashing
                .try_pop(self.now)
                .map(|task| self.shared.hash(task, &mut Slab::default()))
                .is_some(),
            1 => self
                .shared
                .reading
                .try_pop(self.now)
                .map(|task| self.shared.read_row(&task))
                .is_some(),
            _ => self
                .shared
                .writing
                .try_pop(self.now)
                .map(|torrent| self.shared.work(&torrent, self.now))
                .is_some(),
        })
    }

    /// Lets all threads run until there is nothing to do, and gives what they said.
    pub(super) fn run(&mut self) -> Vec<Completion> {
        while self.step() {}
        std::mem::take(&mut *self.done.lock().unwrap())
    }

    pub(super) fn run_done(&mut self) -> Vec<StorageDone> {
        let facts = self
            .run()
            .into_iter()
            .filter_map(|completion| match completion {
                Completion::Done { done, .. } => Some(done),
                Completion::Serve { .. } => None,
            });
        facts.collect()
    }

    pub(super) fn wait(&mut self, time: Duration) -> Vec<StorageDone> {
        self.now += time;
        self.run_done()
    }

    /// Opens the torrent; `None` if that fails.
    pub(super) fn open(&mut self, fixture: &Fixture) -> Option<(Bitfield, Bitfield)> {
        let wanted = vec![true; fixture.layout().files().len()];
        self.submit(StorageJob::Open {
            info: fixture.info.clone(),
            wanted,
        });
        opened(&self.run_done())
    }

    /// Gives all blocks of a piece; blocks are written early if there is no room for them.
    pub(super) fn store(&mut self, fixture: &Fixture, piece: PieceIndex) {
        for (span, block) in fixture.blocks(piece) {
            self.store_block(span, &block);
        }
    }

    pub(super) fn store_block(&mut self, span: BlockSpan, block: &[u8]) {
        let charged = self.find_memory(block.len());
        let mut charged = charged.expect("memory is freed in time");
        charged.copy_from_slice(block);
        let block = charged.freeze();
        self.submit(StorageJob::Store { span, block });
    }

    /// Gives all blocks of a piece, and asks for it to be verified.
    pub(super) fn download(&mut self, fixture: &Fixture, piece: PieceIndex) {
        self.store(fixture, piece);
        self.verify(fixture, piece);
    }

    /// Downloads all pieces, and gives what is said of it.
    pub(super) fn download_all(&mut self, fixture: &Fixture) -> Vec<StorageDone> {
        for piece in fixture.pieces() {
            self.download(fixture, piece);
        }
        self.run_done()
    }

    pub(super) fn verify(&mut self, fixture: &Fixture, piece: PieceIndex) {
        let expected = fixture.hashes.get(piece).unwrap();
        self.submit(StorageJob::Verify { piece, expected });
    }

    /// Memory for a block, as a connection gets it; lets the threads run until there is some. `None` if nothing that
    /// they could do would free any.
    pub(super) fn find_memory(&mut self, len: usize) -> Option<riverrun_base::BlockMut> {
        loop {
            if let Some(block) = self.shared.blocks.allocate(len) {
                return Some(block);
            }
            if !self.step() {
                return None;
            }
        }
    }

    /// Checks pieces on disk; gives those that are right.
    pub(super) fn check(&mut self, fixture: &Fixture, pieces: Bitfield) -> Bitfield {
        let mut right = Bitfield::new(pieces.len());
        self.submit(StorageJob::Check {
            pieces,
            hashes: fixture.hashes.clone(),
        });
        for done in self.run_done() {
            if let StorageDone::Checked { piece, ok: true } = done {
                right.set(piece);
            }
        }
        right
    }

    pub(super) fn read(&mut self, span: BlockSpan) -> Option<Block> {
        self.submit(StorageJob::Read { conn: CONN, span });
        self.run()
            .into_iter()
            .find_map(|completion| match completion {
                Completion::Serve { block, .. } => Some(block),
                Completion::Done { .. } => None,
            })
    }

    pub(super) fn shared_state(&self) -> std::sync::MutexGuard<'_, crate::torrent::State> {
        self.torrent.state()
    }

    pub(super) fn file(&self, path: &str) -> Option<Vec<u8>> {
        self.disk.read(&Path::new(ROOT).join(path))
    }

    /// Whether all files are there, byte for byte.
    pub(super) fn is_complete(&self, fixture: &Fixture) -> bool {
        fixture
            .files()
            .all(|(path, content)| self.file(path).as_deref() == Some(content))
    }
}

/// What the torrent was found to have, if it was opened.
pub(super) fn opened(done: &[StorageDone]) -> Option<(Bitfield, Bitfield)> {
    done.iter().find_map(|done| match done {
        StorageDone::Opened { have, unchecked } => Some((have.clone(), unchecked.clone())),
        _ => None,
    })
}

/// The pieces that were made durable.
pub(super) fn durable(done: &[StorageDone]) -> Vec<PieceIndex> {
    let pieces = done.iter().filter_map(|done| match done {
        StorageDone::Durable(pieces) => Some(pieces.clone()),
        _ => None,
    });
    pieces.flatten().collect()
}
