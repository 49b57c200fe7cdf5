//! Follows the torrents of an engine, and has what has changed about them kept.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use riverrun_base::InfoHashes;
use riverrun_metainfo::{Info, Metainfo};
use riverrun_swarm::{Event, Revision, Summary, TorrentKey, TorrentState, TorrentStats};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::record::{Addition, Digest, Seal, Standing};
use super::{KeptId, Session};
use crate::changes::changes_since;
use crate::driver::shard::ShardMessage;
use crate::error::AddError;
use crate::torrent::TorrentHandle;

/// How often what has changed is written: what a power cut costs of totals and options at most. An idle torrent does
/// not change.
const KEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Keeps the torrents of one engine. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    session: Session,
    shard: mpsc::Sender<ShardMessage>,
    torrents: Arc<Mutex<HashMap<TorrentKey, Entry>>>,
    /// Up to where changes are kept. Locked while they are being kept.
    revision: Arc<tokio::sync::Mutex<Revision>>,
}

/// A torrent that is kept, and what was written of it last.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: KeptId,
    written: Option<Seal>,
}

impl Keeper {
    pub(crate) fn new(session: Session, shard: mpsc::Sender<ShardMessage>) -> Self {
        Self {
            session,
            shard,
            torrents: Arc::default(),
            revision: Arc::default(),
        }
    }

    /// Keeps what changes from now on. The task is aborted with its engine.
    pub(crate) async fn run(self, mut events: broadcast::Receiver<Event>) {
        let mut tick = tokio::time::interval(KEEP_INTERVAL);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                event = events.recv() => {
                    // What is removed is not to come back, even after a crash.
                    if !matches!(event, Ok(Event::Removed { .. })) {
                        continue;
                    }
                }
            }
            let mut revision = self.revision.lock().await;
            self.catch_up(&mut revision).await;
        }
    }

    /// Keeps a torrent that was added, unless it was there before. What is given has to be
    /// [noted](Self::note_kept).
    pub(crate) async fn keep(
        &self,
        torrent: &TorrentHandle,
        addition: Addition,
        standing: Standing,
        metainfo: Option<Box<Metainfo>>,
    ) -> Option<oneshot::Receiver<KeptId>> {
        if self.lock().contains_key(&torrent.key()) {
            return None;
        }
        let name = torrent.name();
        let kept = self.session.keep(name, addition, standing, metainfo);
        Some(kept.await)
    }

    /// Waits until a torrent is durable.
    pub(crate) async fn note_kept(
        &self,
        torrent: &TorrentHandle,
        written: oneshot::Receiver<KeptId>,
    ) -> Result<(), AddError> {
        let key = torrent.key();
        let Ok(id) = written.await else {
            torrent.clone().remove().await?;
            return Err(AddError::NotKept);
        };
        self.register(key, id, None);
        if torrent.is_removed() {
            self.forget(key).await;
        }
        Ok(())
    }

    /// A torrent is the one that is kept under this name.
    pub(crate) fn register(&self, torrent: TorrentKey, id: KeptId, written: Option<Seal>) {
        self.lock().insert(torrent, Entry { id, written });
    }

    /// Keeps more trackers of a torrent.
    pub(crate) async fn add_trackers(&self, torrent: TorrentKey, urls: Vec<String>) {
        let entry = self.lock().get(&torrent).copied();
        if let Some(entry) = entry {
            self.session.add_trackers(entry.id, urls).await;
        }
    }

    /// Keeps everything as it is now, durably, and nothing that comes of the end until the guard is dropped.
    pub(crate) async fn finish(&self) -> tokio::sync::MutexGuard<'_, Revision> {
        let mut revision = self.revision.lock().await;
        self.catch_up(&mut revision).await;
        self.session.flush().await;
        revision
    }

    /// Reads the metadata of a torrent.
    pub(crate) async fn info(&self, hashes: InfoHashes) -> Option<Arc<Info>> {
        Some(self.session.metadata(hashes).await?.info)
    }

    /// Keeps nothing until the guard is dropped.
    pub(crate) async fn pause(&self) -> tokio::sync::MutexGuard<'_, Revision> {
        self.revision.lock().await
    }

    async fn catch_up(&self, revision: &mut Revision) {
        // From before the question: what is added meanwhile is not missing from the answer.
        let known: Vec<TorrentKey> = self.lock().keys().copied().collect();
        let Ok(changes) = changes_since(&self.shard, *revision).await else {
            return;
        };
        *revision = changes.revision;
        for (torrent, stats) in &changes.torrents {
            self.keep_standing(torrent, stats).await;
        }
        let mut gone = changes.removed;
        if changes.is_whole {
            let listed = changes.torrents.iter().map(|(torrent, _)| torrent.key());
            let listed: HashSet<_> = listed.collect();
            gone.extend(known.into_iter().filter(|key| !listed.contains(key)));
        }
        for key in gone {
            self.forget(key).await;
        }
    }

    async fn keep_standing(&self, torrent: &TorrentHandle, stats: &TorrentStats) {
        let standing = Standing {
            options: stats.options.clone(),
            uploaded_bytes: stats.uploaded_bytes,
            downloaded_bytes: stats.downloaded_bytes,
            completed_at: torrent.completed_seconds(),
            digest: digest_of(torrent, stats),
        };
        let (record, seal) = (standing.encode(), standing.seal());
        let stale = |entry: &&mut Entry| entry.written != Some(seal);
        let id = self
            .lock()
            .get_mut(&torrent.key())
            .filter(stale)
            .map(|entry| {
                entry.written = Some(seal);
                entry.id
            });
        if let Some(id) = id {
            self.session.keep_standing(id, record).await;
        }
    }

    async fn forget(&self, torrent: TorrentKey) {
        let entry = self.lock().remove(&torrent);
        if let Some(entry) = entry {
            self.session.forget(entry.id).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TorrentKey, Entry>> {
        self.torrents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What can be said of a torrent without its metadata; `None` before that is known.
fn digest_of(torrent: &TorrentHandle, stats: &TorrentStats) -> Option<Digest> {
    let is_complete = stats.state == TorrentState::Seeding
        && stats.durable == stats.pieces
        // What is revealed piece by piece has to be looked at.
        && !stats.options.super_seed;
    let digest = || Digest {
        hashes: torrent.info_hashes(),
        name: torrent.name(),
        summary: Summary {
            is_complete,
            is_private: stats.is_private,
            pieces: stats.pieces,
            wanted: stats.wanted,
            total_bytes: stats.total_bytes,
            wanted_bytes: stats.wanted_bytes,
        },
    };
    (stats.pieces > 0).then(digest)
}

/// The time of day, in seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
