//! Who may write to which file: two torrents never write to one, and none writes to what another reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use riverrun_swarm::TorrentKey;

use crate::backend::FileStat;

/// A file, whatever its names: device and inode.
pub(crate) type FileId = (u64, u64);

/// The files in use by the torrents of one process. Other processes are kept out by locks.
#[derive(Debug, Default)]
pub(crate) struct Owners(Mutex<BTreeMap<FileId, Users>>);

#[derive(Debug, Default)]
struct Users {
    all: BTreeSet<TorrentKey>,
    writer: Option<TorrentKey>,
}

impl FileStat {
    pub(crate) const fn id(&self) -> FileId {
        (self.device, self.inode)
    }
}

impl Owners {
    /// Takes a file to read; false if another torrent writes to it.
    #[must_use]
    pub(crate) fn read(&self, file: FileId, torrent: TorrentKey) -> bool {
        let mut files = self.files();
        let users = files.entry(file).or_default();
        let free = users.writer.is_none_or(|writer| writer == torrent);
        if free {
            users.all.insert(torrent);
        }
        free
    }

    /// Takes a file to write; false if another torrent uses it at all.
    #[must_use]
    pub(crate) fn write(&self, file: FileId, torrent: TorrentKey) -> bool {
        let mut files = self.files();
        let users = files.entry(file).or_default();
        let free = users.all.iter().all(|user| *user == torrent);
        if free {
            users.all.insert(torrent);
            users.writer = Some(torrent);
        }
        free
    }

    /// Writes no more to a file, but goes on to read it.
    pub(crate) fn finish(&self, file: FileId, torrent: TorrentKey) {
        if let Some(users) = self.files().get_mut(&file)
            && users.writer == Some(torrent)
        {
            users.writer = None;
        }
    }

    /// Gives files back.
    pub(crate) fn release(&self, released: impl IntoIterator<Item = FileId>, torrent: TorrentKey) {
        let mut files = self.files();
        for file in released {
            let Some(users) = files.get_mut(&file) else {
                continue;
            };
            users.all.remove(&torrent);
            if users.writer == Some(torrent) {
                users.writer = None;
            }
            if users.all.is_empty() {
                files.remove(&file);
            }
        }
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<FileId, Users>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TorrentKey = TorrentKey::new(1, 0);
    const B: TorrentKey = TorrentKey::new(2, 0);
    const FILE: FileId = (1, 1);

    #[test]
    fn many_read_and_one_writes() {
        let owners = Owners::default();
        assert!(owners.read(FILE, A) && owners.read(FILE, B));
        assert!(!owners.write(FILE, A), "another reads");
        owners.release([FILE], B);
        assert!(owners.write(FILE, A) && owners.write(FILE, A));
        assert!(!owners.read(FILE, B) && !owners.write(FILE, B));
        owners.finish(FILE, A);
        assert!(owners.read(FILE, B));
    }
}
