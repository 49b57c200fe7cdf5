//! Files open for reading: a bounded number, the least recently used is closed first.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use riverrun_base::FileIndex;
use riverrun_swarm::TorrentKey;

use crate::backend::{Access, Backend, Place, RawFile};

/// Files open for reading, of all torrents.
pub(crate) struct FilePool {
    limit: usize,
    files: Mutex<Files>,
}

#[derive(Default)]
struct Files {
    open: HashMap<(TorrentKey, FileIndex), (Arc<dyn RawFile>, u64)>,
    /// Counts uses.
    clock: u64,
}

impl FilePool {
    /// A pool of at most `limit` files, and at least one.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            files: Mutex::default(),
        }
    }

    /// The file, opened if it is not.
    pub(crate) fn open(
        &self,
        backend: &dyn Backend,
        torrent: TorrentKey,
        index: FileIndex,
        place: Place<'_>,
    ) -> io::Result<Arc<dyn RawFile>> {
        let key = (torrent, index);
        if let Some(file) = self.files().touch(key) {
            return Ok(file);
        }
        // Without the lock: a slow disk must not keep others from files that are open.
        let file = backend.open(place, Access::Read)?;
        let mut files = self.files();
        if files.open.len() >= self.limit {
            files.close_oldest();
        }
        let clock = files.tick();
        files.open.insert(key, (file.clone(), clock));
        Ok(file)
    }

    /// Closes one file.
    pub(crate) fn forget_file(&self, torrent: TorrentKey, index: FileIndex) {
        self.files().open.remove(&(torrent, index));
    }

    /// Closes all files of a torrent.
    pub(crate) fn forget(&self, torrent: TorrentKey) {
        self.files().open.retain(|(of, _), _| *of != torrent);
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn touch(&mut self, key: (TorrentKey, FileIndex)) -> Option<Arc<dyn RawFile>> {
        let now = self.tick();
        let (file, used) = self.open.get_mut(&key)?;
        *used = now;
        Some(file.clone())
    }

    fn close_oldest(&mut self) {
        let oldest = self
            .open
            .iter()
            .min_by_key(|(_, (_, used))| *used)
            .map(|(key, _)| *key);
        if let Some(key) = oldest {
            self.open.remove(&key);
        }
    }
}
