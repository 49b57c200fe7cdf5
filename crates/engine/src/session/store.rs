//! The file in which torrents are kept: a database (`SQLite`), written in transactions, by one thread.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use riverrun_base::InfoHashes;
use riverrun_metainfo::{Info, Metainfo};
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use thiserror::Error;

use super::record::{Addition, Seal, Standing, seal_in};

const SCHEMA: &str = include_str!("schema.sql");
const VERSION: i32 = 1;
/// How long to wait for another process that writes. A write takes milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// What metadata is cut into: pages that are larger take fewer calls of the system, and make small changes longer.
const PAGE_BYTES: u32 = 16 << 10;
/// How long the log of changes gets before whoever writes has to wait until it is worked into the file. Ten thousand
/// torrents fit.
const LOG_BYTES_MAX: u32 = 512 << 20;
/// A log that is shorter than this is left alone when there is time to tidy up.
const LOG_BYTES_KEPT: u64 = 4 << 20;

/// How many ids in a row are tried where part of the file is damaged: what says how many there are may be damaged too.
const STEPS_MAX: usize = 100_000;

/// The name of a torrent in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeptId(i64);

impl KeptId {
    /// The one after it.
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A torrent that was kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) id: KeptId,
    pub(crate) addition: Addition,
    pub(crate) standing: Standing,
    /// The check of what was written of the standing, unless that says more than is known.
    pub(crate) seal: Option<Seal>,
    /// `None` if it is not needed yet, as the digest in `standing` says enough; or if it was a magnet link whose metadata
    /// had not come, and there is no digest either.
    pub(crate) metainfo: Option<Metainfo>,
}

/// A torrent of the store that cannot be taken in. Its record stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its name, as far as that can be read.
    pub name: String,
    /// What is wrong.
    pub why: String,
}

/// Why a store cannot be used.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error("it was written by a newer version ({found}; this one knows {VERSION})")]
    Newer { found: i32 },
}

pub(crate) struct Store {
    db: Connection,
}

impl Store {
    /// Opens the store in a file, or makes it.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let mut db = Connection::open(path)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        // Nothing is written into a file that is not known to be ours.
        let found = version(&db)?;
        if !(0..=VERSION).contains(&found) {
            return Err(StoreError::Newer { found });
        }
        // Of a file that is there these are kept as they are.
        db.pragma_update(None, "page_size", PAGE_BYTES)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "wal_autocheckpoint", LOG_BYTES_MAX / PAGE_BYTES)?;
        let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if version(&change)? == 0 {
            change.execute_batch(SCHEMA)?;
            change.pragma_update(None, "user_version", VERSION)?;
        }
        change.commit()?;
        Ok(Self { db })
    }

    /// The name after the last that was given to a torrent.
    pub(crate) fn next_id(&self) -> rusqlite::Result<KeptId> {
        let last = "SELECT max(coalesce((SELECT max(id) FROM torrent), 0), \
                    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'torrent'), 0))";
        let last: i64 = self.db.query_row(last, [], |row| row.get(0))?;
        // Invariant: the column is a 64-bit number, and a store of 2^63 torrents fits nowhere.
        Ok(KeptId(last.saturating_add(1)))
    }

    /// Works a log that has become long into the file, so that it takes no room twice. Adding torrents does not wait
    /// for that.
    pub(crate) fn tidy(&self) -> rusqlite::Result<()> {
        let Some(path) = self.db.path() else {
            return Ok(());
        };
        let log = std::fs::metadata(format!("{path}-wal"));
        if log.is_ok_and(|log| log.len() > LOG_BYTES_KEPT) {
            let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
            self.db.query_row(checkpoint, [], |_| Ok(()))?;
        }
        Ok(())
    }

    /// Does several things, all of them or none.
    pub(crate) fn together<T>(
        &mut self,
        work: impl FnOnce(&Changes<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let change = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&Changes { db: &change })?;
        change.commit()?;
        Ok(done)
    }

    /// The metadata of a torrent, if it is there and right.
    pub(crate) fn metadata(&self, hashes: InfoHashes) -> rusqlite::Result<Option<Metainfo>> {
        let mut query = self
            .db
            .prepare_cached("SELECT bytes FROM metainfo WHERE v1 = ?1 OR v2 = ?1")?;
        for name in hashes.wire() {
            let row = query.query_row(params![name.0], |row| row.get::<_, Vec<u8>>(0));
            let found = row.optional()?;
            if let Some(metainfo) = found.and_then(|bytes| metainfo_of(hashes, &bytes)) {
                return Ok(Some(metainfo));
            }
        }
        Ok(None)
    }

    /// Gives all torrents, in the order in which they were added, from one pass over the store. What cannot be read is
    /// given as such, and costs nothing else.
    pub(crate) fn torrents(
        &self,
        mut give: impl FnMut(Result<Kept, Unreadable>),
    ) -> rusqlite::Result<()> {
        let mut after = Some(0);
        while let Some(id) = after {
            after = match self.read_from(id, &mut give) {
                Ok(()) => None,
                // Part of the file is damaged: go on behind it, one by one.
                Err((last, error)) => self.step_over(last, &error, &mut give)?,
            };
        }
        // Damage may hide torrents without any error.
        let said = "PRAGMA quick_check(torrent)";
        let said: rusqlite::Result<String> = self.db.query_row(said, [], |row| row.get(0));
        let said = said.unwrap_or_else(|error| error.to_string());
        if said != "ok" {
            give(Err(Unreadable {
                name: "the list of torrents".to_owned(),
                why: said,
            }));
        }
        Ok(())
    }

    /// Reads torrents with ids beyond `after`; the last one that was read, if that does not go on.
    fn read_from(
        &self,
        after: i64,
        give: &mut impl FnMut(Result<Kept, Unreadable>),
    ) -> Result<(), (i64, rusqlite::Error)> {
        let mut last = after;
        let mut read = || {
            let mut query = self.db.prepare_cached(&select("id > ?1 ORDER BY id"))?;
            let mut rows = query.query(params![after])?;
            while let Some(row) = rows.next()? {
                let (id, found) = kept(&self.db, row)?;
                last = id;
                give(found);
            }
            Ok(())
        };
        read().map_err(|error| (last, error))
    }

    /// Tries the torrents after `last` each by itself, until one can be read again. Gives the last that could not.
    fn step_over(
        &self,
        last: i64,
        error: &rusqlite::Error,
        give: &mut impl FnMut(Result<Kept, Unreadable>),
    ) -> rusqlite::Result<Option<i64>> {
        let end: Option<i64> = self
            .db
            .query_row(
                "SELECT seq FROM sqlite_sequence WHERE name = 'torrent'",
                [],
                |row| row.get(0),
            )
            .optional()?;
        for id in (last + 1..=end.unwrap_or(0)).take(STEPS_MAX) {
            let mut query = self.db.prepare_cached(&select("id = ?1"))?;
            let read = |row: &Row<'_>| kept(&self.db, row);
            match query.query_row(params![id], read).optional() {
                Ok(None) => {}
                Ok(Some((_, found))) => {
                    give(found);
                    return Ok(Some(id));
                }
                Err(_) => give(Err(Unreadable {
                    name: format!("torrent {id}"),
                    why: error.to_string(),
                })),
            }
        }
        Ok(None)
    }
}

/// Changes that are made together.
pub(crate) struct Changes<'a> {
    db: &'a Connection,
}

impl Changes<'_> {
    /// Keeps a torrent under a new name; one with the same info-hash, which was not read then, makes room.
    pub(crate) fn keep(
        &self,
        id: KeptId,
        name: &str,
        (addition, standing): (&Addition, &Standing),
    ) -> rusqlite::Result<()> {
        let info_hash = addition.hashes.primary().0;
        let mut delete = self
            .db
            .prepare_cached("DELETE FROM torrent WHERE info_hash = ?1")?;
        delete.execute(params![info_hash])?;
        let mut insert = self.db.prepare_cached(
            "INSERT INTO torrent (id, name, info_hash, addition, standing) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        let (addition, standing) = (addition.encode(), standing.encode());
        let row = params![id.0, name, info_hash, addition, standing];
        insert.execute(row).map(|_| ())
    }

    /// Keeps what has become of a torrent.
    pub(crate) fn keep_standing(&self, id: KeptId, standing: &[u8]) -> rusqlite::Result<()> {
        let mut update = self
            .db
            .prepare_cached("UPDATE torrent SET standing = ?2 WHERE id = ?1")?;
        update.execute(params![id.0, standing]).map(|_| ())
    }

    /// Adds tiers of trackers to those of a torrent; known ones are left where they are.
    pub(crate) fn add_trackers(&self, id: KeptId, tiers: &[Vec<String>]) -> rusqlite::Result<()> {
        let mut query = self
            .db
            .prepare_cached("SELECT addition FROM torrent WHERE id = ?1")?;
        let record: Option<Vec<u8>> = query
            .query_row(params![id.0], |row| row.get(0))
            .optional()?;
        let Some(mut addition) = record.as_deref().and_then(Addition::decode) else {
            return Ok(());
        };
        for tier in tiers {
            let known: HashSet<&String> = addition.trackers.iter().flatten().collect();
            let new = tier.iter().filter(|url| !known.contains(url));
            let new: Vec<String> = new.cloned().collect();
            if !new.is_empty() {
                addition.trackers.push(new);
            }
        }
        let mut update = self
            .db
            .prepare_cached("UPDATE torrent SET addition = ?2 WHERE id = ?1")?;
        update.execute(params![id.0, addition.encode()]).map(|_| ())
    }

    /// Keeps a torrent no longer. Its metadata goes with it, unless the same torrent is kept under the other name of a
    /// hybrid.
    pub(crate) fn forget(&self, id: KeptId) -> rusqlite::Result<()> {
        let mut query = self
            .db
            .prepare_cached("DELETE FROM torrent WHERE id = ?1 RETURNING addition")?;
        let record: Option<Vec<u8>> = query
            .query_row(params![id.0], |row| row.get(0))
            .optional()?;
        let Some(addition) = record.as_deref().and_then(Addition::decode) else {
            return Ok(());
        };
        let (v1, v2) = names(addition.hashes);
        let mut delete = self.db.prepare_cached(
            "DELETE FROM metainfo WHERE (v1 = ?1 OR v2 = ?2) AND NOT EXISTS \
                 (SELECT 1 FROM torrent WHERE info_hash = metainfo.v1 OR info_hash = metainfo.v2)",
        )?;
        delete.execute(params![v1, v2]).map(|_| ())
    }

    /// Keeps metadata.
    pub(crate) fn keep_metadata(&self, metainfo: &Metainfo) -> rusqlite::Result<()> {
        let mut insert = self.db.prepare_cached(
            "INSERT OR REPLACE INTO metainfo (v1, v2, bytes) VALUES (?1, ?2, ?3)",
        )?;
        let (v1, v2) = names(metainfo.info.hashes());
        insert
            .execute(params![v1, v2, metainfo.to_bytes()])
            .map(|_| ())
    }
}

fn version(db: &Connection) -> rusqlite::Result<i32> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn select(which: &str) -> String {
    format!(
        "SELECT torrent.id, name, addition, standing, \
             (SELECT id FROM metainfo WHERE v1 = info_hash OR v2 = info_hash), \
             info_hash \
         FROM torrent WHERE {which}"
    )
}

fn names(hashes: InfoHashes) -> (Option<[u8; 20]>, Option<[u8; 20]>) {
    (
        hashes.v1().map(|hash| hash.0),
        hashes.wire_v2().map(|hash| hash.0),
    )
}

/// Metadata that was kept, if it is that of these info-hashes.
fn metainfo_of(hashes: InfoHashes, bytes: &[u8]) -> Option<Metainfo> {
    let metainfo = Metainfo::from_bytes(bytes).ok()?;
    let found = metainfo.info.hashes();
    hashes
        .wire()
        .all(|wanted| found.matches(wanted))
        .then_some(metainfo)
}

/// The metadata in a row of its table, if it is right.
fn metainfo_at(db: &Connection, id: i64, hashes: InfoHashes) -> Option<Metainfo> {
    let query = db.prepare_cached("SELECT bytes FROM metainfo WHERE id = ?1");
    let bytes: rusqlite::Result<Vec<u8>> =
        query.and_then(|mut query| query.query_row(params![id], |row| row.get(0)));
    metainfo_of(hashes, &bytes.ok()?)
}

/// A row as [`select`] asks for it, with its id.
fn kept(db: &Connection, row: &Row<'_>) -> rusqlite::Result<(i64, Result<Kept, Unreadable>)> {
    let id: i64 = row.get(0)?;
    let name = row.get_ref(1)?.as_str().unwrap_or_default();
    let unreadable = |why: &str| Unreadable {
        name: name.to_owned(),
        why: why.to_owned(),
    };
    let blob = |at| row.get_ref(at).ok().and_then(|value| value.as_blob().ok());
    let read = || {
        let addition = blob(2).and_then(Addition::decode);
        let standing = blob(3).and_then(Standing::decode);
        let (Some(addition), Some(mut standing)) = (addition, standing) else {
            return Err(unreadable("its record is damaged"));
        };
        if blob(5) != Some(&addition.hashes.primary().0) {
            return Err(unreadable("its info-hash is damaged"));
        }
        let metainfo: Option<i64> = row
            .get(4)
            .map_err(|_| unreadable("its metadata is damaged"))?;
        let mut seal = blob(3).and_then(seal_in);
        if metainfo.is_none() && standing.digest.take().is_some() {
            seal = None;
        }
        let metainfo = match metainfo.filter(|_| standing.needs_metadata()) {
            None => None,
            Some(at) => Some(
                metainfo_at(db, at, addition.hashes)
                    .ok_or_else(|| unreadable("its metadata is damaged"))?,
            ),
        };
        Ok(Kept {
            id: KeptId(id),
            addition,
            standing,
            seal,
            metainfo,
        })
    };
    Ok((id, read()))
}

/// The metadata of a torrent that peers have told.
pub(crate) fn bare(info: &std::sync::Arc<Info>) -> Metainfo {
    Metainfo::new(info.clone(), riverrun_metainfo::PieceLayers::new())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use riverrun_base::{Rng, Sha1Digest};
    use riverrun_storage::StorageOptions;
    use riverrun_swarm::TorrentOptions;
    use tempfile::TempDir;

    use super::*;

    const COUNT: u8 = 200;

    fn addition(n: u8) -> Addition {
        Addition {
            hashes: InfoHashes::v1_only(Sha1Digest([n; 20])),
            dir: PathBuf::from(format!("/data/{n}")),
            trackers: vec![vec!["udp://tracker.invalid:6969/announce".to_owned()]],
            web_seeds: Vec::new(),
            nodes: Vec::new(),
            storage: StorageOptions::default(),
            transports: None,
            added_at: n.into(),
        }
    }

    fn fill(path: &Path) {
        let mut store = Store::open(path).unwrap();
        let keep = |changes: &Changes<'_>| -> rusqlite::Result<()> {
            for n in 0..COUNT {
                let standing = Standing::new(TorrentOptions::default());
                let said = (&addition(n), &standing);
                changes.keep(KeptId(i64::from(n) + 1), &format!("torrent {n}"), said)?;
            }
            Ok(())
        };
        store.together(keep).unwrap();
    }

    /// What is read, and how many are told to be damaged; `None` if the store is not read at all.
    fn read(path: &Path) -> Option<(Vec<Kept>, usize)> {
        let store = Store::open(path).ok()?;
        let (mut read, mut lost) = (Vec::new(), 0);
        let give = |found: Result<Kept, Unreadable>| match found {
            Ok(kept) => read.push(kept),
            Err(_) => lost += 1,
        };
        store.torrents(give).ok()?;
        Some((read, lost))
    }

    #[test]
    fn torrents_are_read_in_the_order_of_their_adding() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("store");
        fill(&path);
        let (torrents, lost) = read(&path).unwrap();
        assert_eq!(lost, 0);
        let read: Vec<_> = torrents.into_iter().map(|kept| kept.addition).collect();
        assert_eq!(read, (0..COUNT).map(addition).collect::<Vec<_>>());
    }

    #[test]
    fn trackers_join_and_what_is_forgotten_is_gone() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("store");
        fill(&path);
        let mut store = Store::open(&path).unwrap();
        let known = "udp://tracker.invalid:6969/announce".to_owned();
        let new = ["http://new.invalid/", "http://other.invalid/"].map(str::to_owned);
        let tiers = [
            vec![known.clone(), new[0].clone(), new[1].clone()],
            vec![new[1].clone()],
        ];
        let change = |changes: &Changes<'_>| {
            changes.add_trackers(KeptId(1), &tiers)?;
            changes.forget(KeptId(2))
        };
        store.together(change).unwrap();
        let (torrents, _) = read(&path).unwrap();
        assert_eq!(torrents.len(), usize::from(COUNT) - 1);
        let expected = [vec![known], new.to_vec()];
        assert_eq!(torrents[0].addition.trackers, expected);
        assert_eq!(torrents[1].addition, addition(2));
    }

    /// A bit that flips anywhere costs torrents that are told, or the whole is refused; nothing wrong is read.
    #[test]
    fn damage_is_told_and_never_taken_for_torrents() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("store");
        fill(&path);
        let whole = std::fs::read(&path).unwrap();
        let mut rng = Rng::new(7);
        let mut partly = 0;
        for _ in 0..300 {
            let mut bytes = whole.clone();
            bytes[rng.below(whole.len())] ^= 1 << rng.below(8);
            std::fs::write(&path, &bytes).unwrap();
            let Some((torrents, lost)) = read(&path) else {
                continue;
            };
            let count = torrents.len();
            partly += usize::from(lost > 0 && count > 0);
            for kept in torrents {
                let n = u8::try_from(kept.addition.added_at).unwrap();
                assert_eq!(kept.addition, addition(n));
            }
            assert!(count == usize::from(COUNT) || lost > 0, "{lost} of {count}");
        }
        assert!(partly > 100, "{partly} of 300 were read in part");
    }
}
