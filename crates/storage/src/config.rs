//! What can be set.

use std::path::PathBuf;
use std::time::Duration;

/// How storage works, for all torrents.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// Threads that write; as many again read, so that neither waits for the other. At least 1.
    pub disk_threads: usize,
    /// Threads that hash. At least 1; more than there are processors gains nothing.
    pub hash_threads: usize,
    /// The hard limit for payload in memory, in bytes. Three quarters are for blocks that come, a quarter for blocks
    /// that go. At least [`CACHE_BYTES_MIN`](crate::CACHE_BYTES_MIN).
    pub cache_bytes: usize,
    /// How long a piece that was written may wait to be made durable: what a power cut costs at most.
    pub sync_interval: Duration,
    /// How many written bytes of one torrent may wait to be made durable.
    pub sync_bytes: u64,
    /// How long to wait before something that failed is tried again.
    pub retry_interval: Duration,
    /// How long a piece that was received may wait to be hashed together with others. Only pieces that come several
    /// in that time wait at all.
    pub gather_interval: Duration,
    /// Files open for reading at a time.
    pub open_files_max: usize,
    /// Where the journals of claims are: a directory, made if need be.
    pub journal_dir: PathBuf,
}

impl StorageConfig {
    /// The usual settings, with the journals in `journal_dir`.
    pub fn new(journal_dir: PathBuf) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            disk_threads: 2,
            hash_threads: cores,
            cache_bytes: 56 << 20,
            sync_interval: Duration::from_secs(5),
            sync_bytes: 64 << 20,
            retry_interval: Duration::from_secs(5),
            gather_interval: Duration::from_millis(30),
            open_files_max: 256,
            journal_dir,
        }
    }
}

/// How the files of one torrent are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageOptions {
    /// Whether room is taken in advance.
    pub preallocation: Preallocation,
    /// Write over files in place that have nothing of the torrent in them, instead of reporting a conflict.
    pub overwrite: bool,
}

/// Whether room on the disk is taken in advance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preallocation {
    /// Files have holes where nothing was written yet.
    #[default]
    Sparse,
    /// Wanted files take all their room before the first piece is written.
    Full,
}
