//! Open files: a bounded number, the least recently used is closed first.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::RawFile;

/// Files that stay open as long as there is room. Whoever was given one keeps it open until it is dropped.
pub(crate) struct FilePool<K> {
    limit: usize,
    files: Mutex<Files<K>>,
}

struct Files<K> {
    open: HashMap<K, (Arc<dyn RawFile>, u64)>,
    /// Counts uses.
    clock: u64,
}

impl<K: Copy + Eq + Hash> FilePool<K> {
    /// A pool of at most `limit` files, and at least one.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            files: Mutex::new(Files {
                open: HashMap::new(),
                clock: 0,
            }),
        }
    }

    /// The file, opened if it is not.
    pub(crate) fn open(
        &self,
        key: K,
        open: impl FnOnce() -> io::Result<Arc<dyn RawFile>>,
    ) -> io::Result<Arc<dyn RawFile>> {
        if let Some(file) = self.files().touch(key) {
            return Ok(file);
        }
        // Without the lock: a slow disk must not keep others from files that are open.
        let file = open()?;
        self.put(key, file.clone());
        Ok(file)
    }

    /// Takes in a file that was opened, in the place of any that was there.
    pub(crate) fn put(&self, key: K, file: Arc<dyn RawFile>) {
        let mut files = self.files();
        if files.open.len() >= self.limit && !files.open.contains_key(&key) {
            files.close_oldest();
        }
        let clock = files.tick();
        files.open.insert(key, (file, clock));
    }

    /// Closes one file.
    pub(crate) fn forget(&self, key: K) {
        self.files().open.remove(&key);
    }

    /// Closes all files of which that is said.
    pub(crate) fn forget_all(&self, is_over: impl Fn(K) -> bool) {
        self.files().open.retain(|key, _| !is_over(*key));
    }

    fn files(&self) -> MutexGuard<'_, Files<K>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash> Files<K> {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn touch(&mut self, key: K) -> Option<Arc<dyn RawFile>> {
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
