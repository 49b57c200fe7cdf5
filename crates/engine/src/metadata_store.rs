//! Metadata that came from peers, kept so that a magnet link that was interrupted needs no peers to go on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use riverrun_base::InfoHashes;
use riverrun_bencode::Limits;
use riverrun_metainfo::Info;

/// A directory of info dictionaries, a file each, named by info-hash. Whatever is read back is verified
/// against its name by whoever asked for it, so that the directory need not be trusted.
#[derive(Clone, Debug)]
pub(crate) struct MetadataStore {
    dir: PathBuf,
}

impl MetadataStore {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Writes in the background; failure costs only that the next start asks peers again.
    pub(crate) fn save(&self, info: Arc<Info>) {
        let store = self.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.write(&info) {
                tracing::warn!(%error, dir = %store.dir.display(), "metadata not kept");
            }
        });
    }

    fn write(&self, info: &Info) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        for info_hash in info.hashes().wire() {
            let path = self.path(&info_hash.to_string());
            // A name of its own for each writer, then a rename: a torn file never has the final name.
            let partial = path.with_extension(format!("partial-{}", std::process::id()));
            std::fs::write(&partial, &info.raw()[..])?;
            std::fs::rename(&partial, &path)?;
        }
        Ok(())
    }

    /// The metadata of a torrent, if it is there and right. Blocks on the file system.
    pub(crate) fn load(&self, hashes: InfoHashes) -> Option<Info> {
        hashes.wire().find_map(|info_hash| {
            let bytes = read_bounded(&self.path(&info_hash.to_string()))?;
            let info = Info::from_bytes(&bytes).ok()?;
            hashes
                .wire()
                .all(|wanted| info.hashes().matches(wanted))
                .then_some(info)
        })
    }

    fn path(&self, info_hash: &str) -> PathBuf {
        self.dir.join(format!("{info_hash}.info"))
    }
}

fn read_bounded(path: &Path) -> Option<Vec<u8>> {
    let len = std::fs::metadata(path).ok()?.len();
    (len <= Limits::TORRENT.bytes as u64)
        .then(|| std::fs::read(path).ok())
        .flatten()
}
