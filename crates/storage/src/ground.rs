//! What a torrent's files stand on.

use std::path::PathBuf;
use std::sync::Arc;

use riverrun_base::FileIndex;
use riverrun_metainfo::File;
use riverrun_swarm::TorrentKey;

use crate::backend::{Backend, Place};
use crate::config::StorageOptions;
use crate::file_pool::FilePool;
use crate::owners::Owners;
use crate::rounds::Rounds;

/// Shared by all torrents.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) owners: Arc<Owners>,
    pub(crate) rounds: Arc<Rounds>,
    /// Files open for reading.
    pub(crate) readers: Arc<FilePool<(TorrentKey, FileIndex)>>,
    /// Journals that are open.
    pub(crate) journals: Arc<FilePool<TorrentKey>>,
    pub(crate) journal_dir: PathBuf,
}

/// Where one torrent's files go, and how they are treated.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) torrent: TorrentKey,
    /// Absolute.
    pub(crate) root: PathBuf,
    pub(crate) options: StorageOptions,
}

impl Site {
    /// Where a file of the torrent lies.
    pub(crate) fn place<'a>(&'a self, file: &'a File) -> Place<'a> {
        Place {
            root: &self.root,
            path: file.path.as_str(),
        }
    }
}
