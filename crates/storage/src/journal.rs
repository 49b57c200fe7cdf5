//! The journal of claims: which pieces of a torrent are known to be on disk, and in which files.
//!
//! One append-only file for each torrent in each root directory. It says only what is true: a piece is claimed after
//! its bytes were made durable, and before anything is done that could make a claim false the claim is withdrawn,
//! durably. Losing the end of the journal, or all of it, costs hashing again, never a wrong claim.
//!
//! # Format
//!
//! Integers are little-endian. The file starts with the 8 bytes `RRCLAIM2`, then come records:
//!
//! ```text
//! 4  length of the body
//! 1  kind
//! …  body
//! 8  check: the start of the SHA-256 of the check before it (zeros for the first), length, kind and body
//! ```
//!
//! Since each check covers the one before, the journal ends at the first record that is torn or was not written
//! after its predecessor. The kinds, and their bodies:
//!
//! ```text
//! 0 subject    20 v1 info-hash or zeros, 32 v2 info-hash or zeros, 4 number of pieces, … root directory.
//!              The first record, and only that. A journal of another subject is not read.
//! 1 device     8 number of the device on which the root directory lies
//! 2 file       4 index, 1 hold, 8 device, 8 inode, 8 length, 8 time of the last write and 8 of the last change of
//!              any kind, both in ns since 1970, 8 number of names. The file at this index is ours. Hold 1: it was
//!              not written to by us since. 0: it may have been, and only device and inode are to be compared.
//!              2: somebody else has changed it since, so it is as foreign as one that we never knew.
//! 3 writing    ranges of pieces whose bytes are being written
//! 4 durable    ranges of pieces that are on disk: claimed
//! 5 forgotten  ranges of pieces that are not claimed any more
//!
//! ranges: each 4 first piece, 4 number of pieces
//! ```

#[cfg(fuzzing)]
pub mod fuzzing;
mod record;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use riverrun_base::{Bitfield, FileIndex, InfoHashes, PieceIndex};
use riverrun_swarm::TorrentKey;

use self::record::{Check, KIND_SUBJECT, decode, encode, seal, unseal};
use crate::backend::{Access, Backend, FileStat, Found, Place, RawFile, write_all};
use crate::file_pool::FilePool;

/// Whose claims a journal holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) hashes: InfoHashes,
    pub(crate) pieces: u32,
    pub(crate) root: PathBuf,
}

/// What the journal knows of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileMark {
    pub(crate) stat: FileStat,
    pub(crate) hold: Hold,
}

/// How far a file is ours. The numbers are those of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// We may have written to it since.
    Writing = 0,
    /// It was not written to by us since.
    Exact = 1,
    /// Somebody else has changed it since.
    Foreign = 2,
}

/// One thing to note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Device(u64),
    File(FileIndex, FileMark),
    Writing(Vec<PieceIndex>),
    Durable(Vec<PieceIndex>),
    Forgotten(Vec<PieceIndex>),
}

/// The sum of all records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// Pieces that are on disk.
    pub(crate) durable: Bitfield,
    /// Pieces of which some bytes may be.
    pub(crate) writing: Bitfield,
    /// Files that are ours.
    pub(crate) files: BTreeMap<FileIndex, FileMark>,
    /// The device of the root directory, once there was one.
    pub(crate) device: Option<u64>,
}

/// Where journals are kept open, and under which key this one.
pub(crate) struct Shelf {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) open: Arc<FilePool<TorrentKey>>,
    pub(crate) key: TorrentKey,
}

/// The journal of one torrent in one root directory. It is locked against other processes while it is open, and it
/// stays open unless many others are used after it.
pub(crate) struct Journal {
    shelf: Shelf,
    dir: PathBuf,
    name: String,
    subject: Subject,
    /// The file, while something in it is not synced: an error might not be told after its last handle is closed.
    unsynced: Option<Arc<dyn RawFile>>,
    /// Where the next record goes.
    end: u64,
    /// Where the fewest records ended that said the same, when it was last written anew.
    terse_len: u64,
    check: Check,
    claims: Claims,
    /// Nothing is known of what the disk has of this file since a sync failed: it has to be written anew.
    suspect: bool,
    /// Its name is known to be durable.
    is_named: bool,
}

/// Why a journal does not open.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// Another process has it.
    Locked,
    Io(io::Error),
}

const MAGIC: &[u8; 8] = b"RRCLAIM2";
/// A range for every second piece of the largest torrent fits a thousand times; more is no journal of ours.
const JOURNAL_LEN_MAX: u64 = 64 << 20;
/// A journal is written anew when it is longer than this and than four times what it was then.
const COMPACT_LEN_MIN: u64 = 256 << 10;
/// How often the journal may be replaced by another process while we open it.
const OPEN_TRIES: usize = 8;

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Claims {
    pub(crate) fn new(pieces: u32) -> Self {
        let none = Bitfield::new(pieces);
        Self {
            durable: none.clone(),
            writing: none,
            files: BTreeMap::new(),
            device: None,
        }
    }

    fn apply(&mut self, record: &Record) {
        match record {
            Record::Device(device) => self.device = Some(*device),
            Record::File(file, mark) => {
                self.files.insert(*file, *mark);
            }
            Record::Writing(pieces) => {
                for piece in pieces {
                    self.durable.clear(*piece);
                    self.writing.set(*piece);
                }
            }
            Record::Durable(pieces) => {
                for piece in pieces {
                    self.durable.set(*piece);
                    self.writing.clear(*piece);
                }
            }
            Record::Forgotten(pieces) => {
                for piece in pieces {
                    self.durable.clear(*piece);
                    self.writing.clear(*piece);
                }
            }
        }
    }

    /// The fewest records that sum up to this.
    fn records(&self) -> Vec<Record> {
        let device = self.device.map(Record::Device);
        let files = self
            .files
            .iter()
            .map(|(file, mark)| Record::File(*file, *mark));
        let durable = Record::Durable(self.durable.ones().collect());
        let writing = Record::Writing(self.writing.ones().collect());
        device
            .into_iter()
            .chain(files)
            .chain([durable, writing])
            .collect()
    }
}

impl FileMark {
    /// Whether a file is the one that was marked, and ours.
    pub(crate) const fn is_of(&self, stat: &FileStat) -> bool {
        self.stat.inode == stat.inode && !matches!(self.hold, Hold::Foreign)
    }
}

impl Record {
    /// Whether it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Device(_) | Self::File(..) => false,
            Self::Writing(pieces) | Self::Durable(pieces) | Self::Forgotten(pieces) => {
                pieces.is_empty()
            }
        }
    }
}

impl Journal {
    /// Opens the journal of `subject` in the directory `dir`, and takes it for this process.
    pub(crate) fn open(shelf: Shelf, dir: &Path, subject: Subject) -> Result<Self, OpenError> {
        shelf.backend.make_root(dir)?;
        let name = file_name(&subject);
        let place = Place {
            root: dir,
            path: &name,
        };
        let file = lock_file(&*shelf.backend, place)?;
        let bytes = read_journal(&*file)?;
        let (claims, end, check) = replay(&bytes, &subject)
            .unwrap_or_else(|| (Claims::new(subject.pieces), 0, Check::default()));
        shelf.open.put(shelf.key, file.clone());
        let mut journal = Self {
            shelf,
            dir: dir.to_owned(),
            name,
            subject,
            unsynced: (end < bytes.len() as u64 || end == 0).then(|| file.clone()),
            end,
            check,
            claims,
            suspect: false,
            is_named: false,
            terse_len: 0,
        };
        if bytes.is_empty() {
            journal.begin(&*file)?;
        } else if end == 0 {
            journal.rewrite()?;
        } else if end < bytes.len() as u64 {
            file.set_len(end)?;
        }
        Ok(journal)
    }

    /// Writes the beginning of a new journal. It says nothing yet, so nothing has to be durable before the first sync.
    fn begin(&mut self, file: &dyn RawFile) -> io::Result<()> {
        let (bytes, check) = self.snapshot();
        write_all(file, &[&bytes], 0)?;
        (self.end, self.check) = (bytes.len() as u64, check);
        (self.terse_len, self.unsynced) = (self.end, None);
        Ok(())
    }

    /// The file, to be written to.
    fn file(&mut self) -> io::Result<Arc<dyn RawFile>> {
        if let Some(file) = &self.unsynced {
            return Ok(file.clone());
        }
        let open = || self.open_again();
        let file = self.shelf.open.open(self.shelf.key, open)?;
        Ok(self.unsynced.insert(file).clone())
    }

    /// Opens the file after it was closed to make room for others. It must be as it was left: another process may
    /// have had it meanwhile.
    fn open_again(&self) -> io::Result<Arc<dyn RawFile>> {
        let place = Place {
            root: &self.dir,
            path: &self.name,
        };
        let file = self.shelf.backend.open(place, Access::Write)?;
        let mut check = Check::default();
        let at = self.end.saturating_sub(check.len() as u64);
        let is_ours = file.try_lock()?
            && file.stat()?.len == self.end
            && file.read_at(&mut check, at)? == check.len()
            && check == self.check;
        if is_ours {
            Ok(file)
        } else {
            Err(io::Error::other("another process has used the journal"))
        }
    }

    /// What the journal says.
    pub(crate) const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Adds records. They survive the end of the process, and after [`Journal::sync`] a power cut.
    pub(crate) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut check = self.check;
        for record in records {
            encode(record, &mut check, &mut bytes);
        }
        if !self.suspect {
            let file = self.file()?;
            if let Err(error) = write_all(&*file, &[&bytes], self.end) {
                // Part of it may stand there, and be taken for another process's doing later.
                self.suspect = file.set_len(self.end).is_err();
                return Err(error);
            }
            self.end += bytes.len() as u64;
            self.check = check;
        }
        for record in records {
            self.claims.apply(record);
        }
        Ok(())
    }

    /// Adds records that are true and need not be durable soon: nobody waits for them, and to lose them costs hashing.
    /// The file does not stay open for them. What is synced later is durable with them.
    pub(crate) fn append_unsynced(&mut self, records: &[Record]) -> io::Result<()> {
        let was_synced = self.unsynced.is_none();
        self.append(records)?;
        if was_synced {
            self.unsynced = None;
        }
        Ok(())
    }

    /// Makes all records durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.suspect || self.is_wordy() {
            return self.rewrite();
        }
        let Some(file) = &self.unsynced else {
            return Ok(());
        };
        // After a sync that failed the kernel may call the lost pages clean: the next one would prove nothing.
        file.sync_data().inspect_err(|_| self.suspect = true)?;
        if !self.is_named {
            self.sync_name()?;
        }
        self.unsynced = None;
        Ok(())
    }

    fn is_wordy(&self) -> bool {
        self.end > COMPACT_LEN_MIN && self.end / 4 > self.terse_len
    }

    fn snapshot(&self) -> (Vec<u8>, Check) {
        let mut check = Check::default();
        let mut bytes = MAGIC.to_vec();
        seal(KIND_SUBJECT, &self.subject.encode(), &mut check, &mut bytes);
        for record in self.claims.records() {
            encode(&record, &mut check, &mut bytes);
        }
        (bytes, check)
    }

    /// Puts a new journal in the place of this one: written, synced, then renamed, so that there is always one.
    fn rewrite(&mut self) -> io::Result<()> {
        // So that it is locked all the while.
        self.file()?;
        let (bytes, check) = self.snapshot();
        let new = format!("{}.new", self.name);
        let place = Place {
            root: &self.dir,
            path: &new,
        };
        let backend = self.shelf.backend.clone();
        backend.remove(place)?;
        let file = backend.open(place, Access::Create)?;
        // Locked before it has its name, so that no other process gets in between.
        if !file.try_lock()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        write_all(&*file, &[&bytes], 0)?;
        file.sync_data()?;
        backend.rename(&self.dir, &new, &self.name)?;
        self.shelf.open.put(self.shelf.key, file.clone());
        (self.end, self.check) = (bytes.len() as u64, check);
        self.unsynced = Some(file);
        self.terse_len = self.end;
        self.suspect = true;
        self.sync_name()?;
        (self.suspect, self.unsynced) = (false, None);
        Ok(())
    }

    fn sync_name(&mut self) -> io::Result<()> {
        let (root, path) = (&*self.dir, "");
        self.shelf.backend.sync_dir(Place { root, path })?;
        self.is_named = true;
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shelf.open.forget(self.shelf.key);
    }
}

impl Subject {
    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&self.hashes.v1().map_or([0; 20], |hash| hash.0));
        body.extend_from_slice(&self.hashes.v2().map_or([0; 32], |hash| hash.0));
        body.extend_from_slice(&self.pieces.to_le_bytes());
        body.extend_from_slice(self.root.as_os_str().as_encoded_bytes());
        body
    }
}

/// The name of a journal: the same for the same torrent in the same place.
fn file_name(subject: &Subject) -> String {
    let digest = riverrun_hash::sha256(&subject.encode()).to_string();
    format!("{}.claims", &digest[..40])
}

/// The journal's file, made if need be, locked.
fn lock_file(backend: &dyn Backend, place: Place<'_>) -> Result<Arc<dyn RawFile>, OpenError> {
    for _ in 0..OPEN_TRIES {
        let file = match backend.open(place, Access::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match backend.open(place, Access::Create) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                    created => created?,
                }
            }
            opened => opened?,
        };
        if !file.try_lock()? {
            return Err(OpenError::Locked);
        }
        // Whoever had it may have put another file in its place before we got the lock.
        let ours = file.stat()?;
        match backend.look(place)? {
            Found::File(stat) if (stat.device, stat.inode) == (ours.device, ours.inode) => {
                return Ok(file);
            }
            _ => {}
        }
    }
    Err(OpenError::Locked)
}

fn read_journal(file: &dyn RawFile) -> io::Result<Vec<u8>> {
    let len = file.stat()?.len.min(JOURNAL_LEN_MAX);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The claims, the end and the last check of a journal; `None` if it is not one of `subject`.
fn replay(bytes: &[u8], subject: &Subject) -> Option<(Claims, u64, Check)> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut check = Check::default();
    let (kind, body) = unseal(&mut rest, &mut check)?;
    if kind != KIND_SUBJECT || body != subject.encode() {
        return None;
    }
    let mut claims = Claims::new(subject.pieces);
    let mut end = (rest.len(), check);
    while let Some(record) =
        unseal(&mut rest, &mut check).and_then(|(kind, body)| decode(kind, body, subject.pieces))
    {
        claims.apply(&record);
        end = (rest.len(), check);
    }
    Some((claims, (bytes.len() - end.0) as u64, end.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::memory::{Crash, Faults, MemoryDisk};
    use proptest::prelude::*;
    use riverrun_base::{Rng, Sha1Digest};

    fn subject() -> Subject {
        let hashes = InfoHashes::v1_only(Sha1Digest([7; 20]));
        Subject {
            hashes,
            pieces: 100,
            root: PathBuf::from("/data"),
        }
    }

    fn open(disk: &MemoryDisk) -> Result<Journal, OpenError> {
        open_on(disk, &Arc::new(FilePool::new(1)), 0)
    }

    /// The journal of one of many torrents.
    fn open_on(
        disk: &MemoryDisk,
        open: &Arc<FilePool<TorrentKey>>,
        n: u32,
    ) -> Result<Journal, OpenError> {
        let shelf = Shelf {
            backend: Arc::new(disk.clone()),
            open: open.clone(),
            key: TorrentKey::new(n, 0),
        };
        let subject = Subject {
            root: PathBuf::from(format!("/data/{n}")),
            ..subject()
        };
        Journal::open(shelf, Path::new("/state"), subject)
    }

    fn pieces(pieces: impl IntoIterator<Item = u32>) -> Vec<PieceIndex> {
        pieces.into_iter().map(PieceIndex).collect()
    }

    fn mark(n: u64) -> FileMark {
        let stat = FileStat {
            device: n,
            inode: n + 1,
            len: n + 2,
            modified_ns: -5,
            changed_ns: -4,
            links: n % 5,
        };
        let hold = [Hold::Writing, Hold::Exact, Hold::Foreign][usize::try_from(n % 3).unwrap()];
        FileMark { stat, hold }
    }

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let some = || proptest::collection::vec(0_u32..100, 0..20).prop_map(pieces);
        let record = prop_oneof![
            any::<u64>().prop_map(Record::Device),
            (0_u32..5, 0_u64..1000).prop_map(|(file, n)| Record::File(FileIndex(file), mark(n))),
            some().prop_map(Record::Writing),
            some().prop_map(Record::Durable),
            some().prop_map(Record::Forgotten),
        ];
        proptest::collection::vec(record, 0..40)
    }

    proptest! {
        #[test]
        fn what_was_noted_is_read_back(records in records()) {
            let disk = MemoryDisk::default();
            let mut journal = open(&disk).unwrap();
            let mut expected = Claims::new(100);
            for record in &records {
                expected.apply(record);
            }
            journal.append(&records).unwrap();
            prop_assert_eq!(journal.claims(), &expected);
            drop(journal);
            let mut journal = open(&disk).unwrap();
            prop_assert_eq!(journal.claims(), &expected);
            journal.rewrite().unwrap();
            drop(journal);
            let journal = open(&disk).unwrap();
            prop_assert_eq!(journal.claims(), &expected);
        }

        /// However it is damaged, what is read is what was noted up to there.
        #[test]
        fn a_damaged_journal_is_read_up_to_the_damage(records in records(), at: u64, flip in 1_u8..) {
            let mut check = Check::default();
            let mut bytes = MAGIC.to_vec();
            seal(KIND_SUBJECT, &subject().encode(), &mut check, &mut bytes);
            let mut states = vec![Claims::new(100)];
            for record in &records {
                encode(record, &mut check, &mut bytes);
                let mut next = states[states.len() - 1].clone();
                next.apply(record);
                states.push(next);
            }
            let at = usize::try_from(at % bytes.len() as u64).unwrap();
            bytes[at] ^= flip;
            if let Some((claims, end, _)) = replay(&bytes, &subject()) {
                prop_assert!(states.contains(&claims));
                prop_assert!(end <= at as u64);
            }
        }

        #[test]
        fn no_bytes_are_too_strange_to_read(bytes: Vec<u8>) {
            replay(&[MAGIC.as_slice(), &bytes].concat(), &subject());
            for kind in 0..10 {
                decode(kind, &bytes, 100);
            }
        }
    }

    #[test]
    fn a_journal_has_one_owner() {
        let disk = MemoryDisk::default();
        let first = open(&disk).unwrap();
        assert!(matches!(open(&disk), Err(OpenError::Locked)));
        drop(first);
        assert!(open(&disk).is_ok());
    }

    #[test]
    fn of_many_journals_few_are_open() {
        let disk = MemoryDisk::default();
        let pool = Arc::new(FilePool::new(3));
        let mut journals: Vec<Journal> =
            (0..20).map(|n| open_on(&disk, &pool, n).unwrap()).collect();
        assert_eq!(disk.locked(), 3);
        for round in 0..3 {
            for journal in &mut journals {
                journal.append(&[Record::Durable(pieces([round]))]).unwrap();
                assert!(disk.locked() <= 4, "and one with something to sync");
                journal.sync().unwrap();
            }
        }
        drop(journals);
        assert_eq!(disk.locked(), 0);
        for n in 0..20 {
            let journal = open_on(&disk, &pool, n).unwrap();
            assert_eq!(journal.claims().durable.count_ones(), 3);
        }
    }

    #[test]
    fn a_journal_that_another_process_has_used_meanwhile_is_not_written_to() {
        let disk = MemoryDisk::default();
        let pool = Arc::new(FilePool::new(1));
        let mut first = open_on(&disk, &pool, 0).unwrap();
        let _second = open_on(&disk, &pool, 1).unwrap();
        // The first is closed now. Another process takes it, and leaves it as it is, then not.
        let mut other = open_on(&disk, &Arc::new(FilePool::new(1)), 0).unwrap();
        assert!(first.append(&[Record::Durable(pieces([1]))]).is_err());
        drop(other);
        first.append(&[Record::Durable(pieces([1]))]).unwrap();
        first.sync().unwrap();
        pool.forget_all(|_| true);
        other = open_on(&disk, &Arc::new(FilePool::new(1)), 0).unwrap();
        other.append(&[Record::Forgotten(pieces([1]))]).unwrap();
        other.sync().unwrap();
        drop(other);
        assert!(first.append(&[Record::Durable(pieces([2]))]).is_err());
        drop(first);
        let journal = open_on(&disk, &pool, 0).unwrap();
        assert!(journal.claims().durable.none());
    }

    #[test]
    fn a_journal_that_is_written_anew_is_never_gone() {
        for off_at in 0..20 {
            for seed in 0..8 {
                let disk = MemoryDisk::default();
                let mut journal = open(&disk).unwrap();
                journal.append(&[Record::Durable(pieces(0..50))]).unwrap();
                journal.sync().unwrap();
                let claims = journal.claims().clone();
                disk.turn_off_after(off_at);
                let _ = journal.rewrite();
                let disk = disk.after(Crash::Power, &mut Rng::new(seed));
                assert_eq!(*open(&disk).unwrap().claims(), claims, "off after {off_at}");
            }
        }
    }

    #[test]
    fn what_a_full_disk_took_of_a_record_is_not_taken_for_somebody_elses() {
        let records: Vec<Record> = (0..400).map(Record::Device).collect();
        let mut parts_left = 0;
        // The disk writes less than it is asked to at every third operation.
        for phase in 0..3 {
            let (disk, pool) = (MemoryDisk::default(), Arc::new(FilePool::new(1)));
            let mut journal = open_on(&disk, &pool, 0).unwrap();
            for _ in 0..phase {
                journal.file().unwrap().set_len(journal.end).unwrap();
            }
            let (end, capacity) = (journal.end, Some(4096));
            disk.set_faults(Faults {
                capacity,
                ..Faults::default()
            });
            parts_left += u32::from(journal.append(&records).is_err());
            disk.set_faults(Faults::default());
            assert_eq!(journal.file().unwrap().stat().unwrap().len, end);
            journal.append(&[Record::Durable(pieces([5]))]).unwrap();
            journal.sync().unwrap();
            let _closes_it = open_on(&disk, &pool, 1).unwrap();
            journal.append(&[Record::Durable(pieces([6]))]).unwrap();
        }
        assert!(parts_left > 0);
    }

    #[test]
    fn a_journal_stays_short() {
        let disk = MemoryDisk::default();
        let mut journal = open(&disk).unwrap();
        for n in 0..40_000 {
            let piece = pieces([n % 100]);
            let record = if n % 3 == 0 {
                Record::Forgotten(piece)
            } else {
                Record::Durable(piece)
            };
            journal.append(&[record]).unwrap();
            if n % 100 == 0 {
                journal.sync().unwrap();
            }
            assert!(journal.end <= COMPACT_LEN_MIN + 4096);
        }
        let claims = journal.claims().clone();
        drop(journal);
        assert_eq!(*open(&disk).unwrap().claims(), claims);
    }
}
