//! Follows the torrents of an engine, and has what has changed about them kept.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use riverrun_base::InfoHashes;
use riverrun_metainfo::{Info, Metainfo};
use riverrun_swarm::{Existed, Revision, Summary, TorrentKey, TorrentState, TorrentStats};
use tokio::sync::{Notify, mpsc, oneshot};

use super::record::{Addition, Digest, Seal, Standing, seal_in};
use super::{KeptId, Session, Update};
use crate::changes::{Changes, changes_since};
use crate::driver::shard::ShardMessage;
use crate::torrent::TorrentHandle;

/// How often what has changed is written: what a power cut costs of totals and options at most. An idle torrent does
/// not change.
const KEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Keeps the torrents of one engine. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    session: Session,
    shard: mpsc::Sender<ShardMessage>,
    book: Arc<Mutex<Book>>,
    /// Something is not to wait for the next time.
    hurry: Arc<Notify>,
    /// Up to where changes are kept. Locked while they are being kept.
    revision: Arc<tokio::sync::Mutex<Revision>>,
}

/// What is kept of which torrent.
#[derive(Debug)]
struct Book {
    entries: HashMap<TorrentKey, Entry>,
    next_id: KeptId,
    /// Trackers that are to be kept, tier by tier.
    trackers: Vec<(KeptId, Vec<Vec<String>>)>,
}

/// A torrent that is kept, and what was written of it last.
#[derive(Clone, Copy, Debug)]
struct Entry {
    id: KeptId,
    written: Option<Seal>,
}

/// What is to be kept of a torrent that is being added.
#[derive(Debug)]
pub(crate) struct Keep {
    pub(crate) addition: Addition,
    pub(crate) standing: Standing,
    pub(crate) metainfo: Option<Box<Metainfo>>,
    /// Told when it is durable, and not if that failed.
    pub(crate) reply: oneshot::Sender<()>,
}

impl Keeper {
    pub(crate) fn new(
        session: Session,
        shard: mpsc::Sender<ShardMessage>,
        next_id: KeptId,
    ) -> Self {
        let book = Book {
            entries: HashMap::new(),
            next_id,
            trackers: Vec::new(),
        };
        Self {
            session,
            shard,
            book: Arc::new(Mutex::new(book)),
            hurry: Arc::default(),
            revision: Arc::default(),
        }
    }

    /// Keeps what changes from now on. The task is aborted with its engine.
    pub(crate) async fn run(self) {
        let mut tick = tokio::time::interval(KEEP_INTERVAL);
        loop {
            tokio::select! {
                _ = tick.tick() => self.session.tidy(),
                () = self.hurry.notified() => {}
            }
            let mut revision = self.revision.lock().await;
            self.catch_up(&mut revision).await;
        }
    }

    /// Keeps a torrent that was added. Never waits: the shard's task says so as it takes the torrent in, so that all
    /// that comes later about it is told later.
    pub(crate) fn keep(&self, torrent: &TorrentHandle, keep: Keep) {
        let mut book = self.lock();
        let id = book.next_id;
        book.next_id = id.next();
        let entry = Entry { id, written: None };
        book.entries.insert(torrent.key(), entry);
        self.session.keep(id, torrent.name(), keep);
    }

    /// Keeps what a torrent that was there has taken in of one that was added.
    pub(crate) fn merge(&self, torrent: TorrentKey, existed: Existed, keep: Keep) {
        let Some(entry) = self.lock().entries.get(&torrent).copied() else {
            return;
        };
        let mut update = Update::default();
        if let Existed::Merged { metadata } = existed {
            update.trackers = vec![(entry.id, keep.addition.trackers)];
            update.metadata = keep.metainfo.filter(|_| metadata);
        }
        let written = self.session.update(update);
        tokio::spawn(async move {
            if written.await.is_ok() {
                // Whoever asked may have stopped waiting.
                let _ = keep.reply.send(());
            }
        });
    }

    /// A torrent is the one that is kept under this name.
    pub(crate) fn register(&self, torrent: TorrentKey, id: KeptId, written: Option<Seal>) {
        self.lock().entries.insert(torrent, Entry { id, written });
    }

    /// Keeps more trackers of a torrent.
    pub(crate) fn add_trackers(&self, torrent: TorrentKey, urls: &[String]) {
        let mut book = self.lock();
        if let Some(id) = book.entries.get(&torrent).map(|entry| entry.id) {
            let tiers = urls.iter().map(|url| vec![url.clone()]);
            book.trackers.push((id, tiers.collect()));
            drop(book);
            self.hurry.notify_one();
        }
    }

    /// A torrent was removed: it is not to come back, even after a crash.
    pub(crate) fn note_removed(&self) {
        self.hurry.notify_one();
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

    /// Keeps what has changed. If that fails, nothing counts as kept, and all of it is tried again the next time.
    async fn catch_up(&self, revision: &mut Revision) {
        let next_id = self.lock().next_id;
        let Ok(changes) = changes_since(&self.shard, *revision).await else {
            return;
        };
        let stale = |(torrent, stats): &(TorrentHandle, TorrentStats)| self.stale(torrent, stats);
        let stale: Vec<_> = changes.torrents.iter().filter_map(stale).collect();
        let gone = self.lock().gone(&changes, next_id);
        let trackers = self.lock().trackers.clone();
        let seals = stale.iter().map(|(key, _, record)| (*key, seal_in(record)));
        let (seals, trackers_kept): (Vec<_>, _) = (seals.collect(), trackers.len());
        let update = Update {
            standings: stale
                .into_iter()
                .map(|(_, id, record)| (id, record))
                .collect(),
            trackers,
            metadata: None,
            gone: gone.iter().map(|(_, id)| *id).collect(),
        };
        if !update.is_empty() && self.session.update(update).await.is_err() {
            return;
        }
        *revision = changes.revision;
        let mut book = self.lock();
        for (key, seal) in seals {
            if let Some(entry) = book.entries.get_mut(&key) {
                entry.written = seal;
            }
        }
        for (key, _) in gone {
            book.entries.remove(&key);
        }
        book.trackers.drain(..trackers_kept);
    }

    /// What is to be written of a torrent, unless that is written already.
    fn stale(
        &self,
        torrent: &TorrentHandle,
        stats: &TorrentStats,
    ) -> Option<(TorrentKey, KeptId, Vec<u8>)> {
        let entry = self.lock().entries.get(&torrent.key()).copied()?;
        let standing = Standing {
            options: stats.options.clone(),
            uploaded_bytes: stats.uploaded_bytes,
            downloaded_bytes: stats.downloaded_bytes,
            completed_at: torrent.completed_seconds(),
            digest: digest_of(torrent, stats),
        };
        let record = standing.encode();
        (entry.written != seal_in(&record)).then(|| (torrent.key(), entry.id, record))
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// The torrents that are not there any more. Those with the id `next_id` and later ones have come since the changes
    /// were asked for.
    fn gone(&self, changes: &Changes, next_id: KeptId) -> Vec<(TorrentKey, KeptId)> {
        let removed = changes.removed.iter();
        let known = |key: &TorrentKey| Some((*key, self.entries.get(key)?.id));
        let mut gone: Vec<_> = removed.filter_map(known).collect();
        if changes.is_whole {
            let listed = changes.torrents.iter().map(|(torrent, _)| torrent.key());
            let listed: HashSet<_> = listed.collect();
            let entries = self.entries.iter().map(|(key, entry)| (*key, entry.id));
            gone.extend(entries.filter(|(key, id)| *id < next_id && !listed.contains(key)));
        }
        gone
    }
}

impl Update {
    fn is_empty(&self) -> bool {
        self.standings.is_empty()
            && self.trackers.is_empty()
            && self.metadata.is_none()
            && self.gone.is_empty()
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::path::Path;

    use riverrun_base::{Rate, Sha1Digest};
    use riverrun_swarm::Limits;
    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::super::FILE_NAME;
    use super::super::store::Store;
    use super::*;
    use crate::{AddTorrent, Engine};

    const REFUSE: &str = "
        CREATE TRIGGER no_change BEFORE UPDATE ON torrent BEGIN SELECT RAISE(FAIL, 'no'); END;
        CREATE TRIGGER no_end BEFORE DELETE ON torrent BEGIN SELECT RAISE(FAIL, 'no'); END;";
    const ALLOW: &str = "DROP TRIGGER no_change; DROP TRIGGER no_end;";

    async fn engine(state: &Path) -> Engine {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let builder = Engine::builder(state).listen([loopback]).keep_torrents();
        builder.start().await.unwrap()
    }

    fn magnet(n: u8) -> AddTorrent {
        let hashes = InfoHashes::v1_only(Sha1Digest([n; 20]));
        AddTorrent::from_info_hashes(hashes).paused()
    }

    fn kept(state: &Path) -> Vec<(Limits, Vec<Vec<String>>)> {
        let store = Store::open(&state.join(FILE_NAME)).unwrap();
        let mut kept = Vec::new();
        let give = |found: Result<super::super::Kept, _>| {
            let found = found.unwrap();
            kept.push((found.standing.options.limits, found.addition.trackers));
        };
        store.torrents(give).unwrap();
        kept
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_could_not_be_written_is_written_the_next_time() {
        let state = TempDir::new().unwrap();
        let engine = engine(state.path()).await;
        let stays = engine.add(magnet(1)).await.unwrap();
        let goes = engine.add(magnet(2)).await.unwrap();
        let keeper = engine.inner.keeping.as_ref().unwrap().keeper.clone();
        let mut revision = keeper.pause().await;
        keeper.catch_up(&mut revision).await;
        let before = kept(state.path());
        let db = Connection::open(state.path().join(FILE_NAME)).unwrap();
        db.execute_batch(REFUSE).unwrap();
        let limits = Limits {
            upload: Some(Rate::from_bytes_per_second(5000)),
            download: None,
        };
        let url = "http://127.0.0.1:1/announce".to_owned();
        stays.set_limits(limits).await.unwrap();
        stays.add_trackers(vec![url.clone()]).await.unwrap();
        goes.remove().await.unwrap();
        keeper.catch_up(&mut revision).await;
        assert_eq!(kept(state.path()), before);
        db.execute_batch(ALLOW).unwrap();
        keeper.catch_up(&mut revision).await;
        assert_eq!(kept(state.path()), [(limits, vec![vec![url]])]);
        drop(revision);
        engine.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_cannot_be_kept_is_not_taken_in_and_what_is_there_stays() {
        let state = TempDir::new().unwrap();
        let engine = engine(state.path()).await;
        let there = engine.add(magnet(1)).await.unwrap();
        let db = Connection::open(state.path().join(FILE_NAME)).unwrap();
        let refuse =
            "CREATE TRIGGER no BEFORE INSERT ON torrent BEGIN SELECT RAISE(FAIL, 'no'); END;";
        db.execute_batch(refuse).unwrap();
        db.execute_batch(REFUSE).unwrap();
        let new = engine.add(magnet(2)).await;
        assert!(matches!(new, Err(crate::AddError::NotKept)));
        let url = "http://127.0.0.1:1/announce".to_owned();
        let again = engine.add(magnet(1).tracker_tier([url])).await;
        assert!(matches!(again, Err(crate::AddError::NotKept)));
        let listed = engine.changes(Revision::START).await.unwrap().torrents;
        let listed: Vec<_> = listed.iter().map(|(torrent, _)| torrent.key()).collect();
        assert_eq!(listed, [there.key()]);
        engine.shutdown().await;
    }
}
