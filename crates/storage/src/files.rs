//! The files of one torrent, and the journal that says what is in them: everything that writes.
//!
//! Blocking, and used by one thread at a time. The order of things is what makes claims true:
//!
//! 1. a file is taken (found or made, locked, noted in the journal as ours);
//! 2. the journal notes that pieces are being written, is synced if a file was taken, then they are written;
//! 3. at a commit the files are synced, then the directories, then the journal claims the pieces and is synced.
//!
//! Of pieces that were found in place the files are synced too, often those of many torrents at once; the journal's claims
//! of them are not: a power cut may cost hashing them again.

mod changes;
mod commit;
mod take;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use riverrun_base::{FileIndex, InfoHashes, PieceIndex};
use riverrun_metainfo::{File, FileSlice, Layout, PieceHash};
use riverrun_swarm::StorageFault;

use crate::backend::{Place, RawFile, write_all};
use crate::cache::{Blocks, Slot};
use crate::fault::{fault, show};
use crate::ground::{Ground, Site};
use crate::journal::{Journal, OpenError, Record, Shelf, Subject};
use crate::known::KnownFiles;
use crate::owners::FileId;
use crate::rounds::Moment;
use crate::span::{parts_in_memory, stored_slices};
use crate::survey::{Seen, Survey, Trust, survey};

/// What is going to be written to a file.
type Payload<'a> = (PieceIndex, FileSlice, &'a Blocks);

/// The open files and the journal of one torrent.
pub(crate) struct TorrentFiles {
    ground: Ground,
    site: Site,
    layout: Arc<Layout>,
    wanted: Vec<bool>,
    journal: Journal,
    /// How the files were left.
    known: Arc<KnownFiles>,
    /// Files that somebody else has changed, which was not reported yet.
    changed: BTreeSet<FileIndex>,
    /// Records that have to be in the journal, and synced, before payload is written.
    notes: Vec<Record>,
    writers: BTreeMap<FileIndex, Arc<dyn RawFile>>,
    /// Files, and directories, with something that is not durable.
    unsynced: Unsynced,
    /// Files in place that the journal does not know, in which a piece was found right.
    adopted: BTreeSet<FileIndex>,
    /// Pieces that are in place whole, and not durable; with what they must hash to.
    written: BTreeMap<PieceIndex, PieceHash>,
    /// Pieces that turned out to be lost, and were not reported yet.
    lost: Vec<PieceIndex>,
    /// Files that we use, so that no other torrent writes to them.
    used: BTreeSet<FileId>,
    /// Wanted files without bytes, and room in advance, are taken care of.
    is_prepared: bool,
    trouble: Trouble,
}

/// What is not durable.
#[derive(Debug, Default)]
struct Unsynced {
    /// Files that we have written to.
    files: BTreeSet<FileIndex>,
    /// Files that were found in place, and when the last of them was.
    found: BTreeSet<FileIndex>,
    found_at: Moment,
    dirs: BTreeSet<String>,
    bytes: u64,
}

/// Whether syncs of files have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Never,
    /// Yes, and what was written since the last good one was read back.
    Before,
    /// Just now.
    Now,
}

/// Room that a journal asks for when the disk is full: a block of the file system.
const JOURNAL_ROOM: u64 = 4096;
/// What is said of a file of another torrent.
const SHARED: &str = "another torrent uses this file";

impl TorrentFiles {
    /// Opens the journal, and looks at what is there. Makes nothing but the journal.
    pub(crate) fn open(
        ground: Ground,
        site: Site,
        known: Arc<KnownFiles>,
        hashes: InfoHashes,
        (layout, wanted): (Arc<Layout>, Vec<bool>),
    ) -> Result<(Self, Survey), StorageFault> {
        let subject = Subject {
            hashes,
            pieces: layout.piece_count(),
            root: site.root.clone(),
        };
        let shelf = Shelf {
            backend: ground.backend.clone(),
            open: ground.journals.clone(),
            key: site.torrent,
        };
        let journal = Journal::open(shelf, &ground.journal_dir, subject);
        let journal = journal.map_err(|error| match error {
            OpenError::Locked => StorageFault::Locked {
                path: show(&site.root),
            },
            OpenError::Io(error) => fault(&ground.journal_dir, &error, JOURNAL_ROOM),
        })?;
        let found = survey(&*ground.backend, &site, &layout, &wanted, journal.claims())?;
        let mut files = Self {
            ground,
            site,
            layout,
            wanted,
            journal,
            known,
            changed: BTreeSet::new(),
            notes: Vec::new(),
            writers: BTreeMap::new(),
            unsynced: Unsynced::default(),
            adopted: BTreeSet::new(),
            written: BTreeMap::new(),
            lost: Vec::new(),
            used: BTreeSet::new(),
            is_prepared: false,
            trouble: Trouble::Never,
        };
        files.note_survey(&found)?;
        Ok((files, found))
    }

    /// Takes the files that are there to read, and notes what is not to be believed.
    fn note_survey(&mut self, found: &Survey) -> Result<(), StorageFault> {
        self.known.clear();
        for (index, Seen { stat, trust }) in &found.files {
            if *trust == Trust::Ours {
                self.known.note(*index, *stat);
            }
            if !self.ground.owners.read(stat.id(), self.site.torrent) {
                return Err(self.place(*index).conflict(SHARED));
            }
            self.used.insert(stat.id());
        }
        let claims = self.journal.claims();
        // Noted, so that a second start finds them again although a commit has called their file ours by then.
        let unchecked = found
            .unchecked
            .ones()
            .filter(|piece| !claims.writing.has(*piece))
            .collect::<Vec<_>>();
        let device = found
            .device
            .filter(|device| claims.device.is_some_and(|known| known != *device));
        let withdrawn = Record::Forgotten(found.withdrawn.clone());
        let foreign = found
            .files
            .iter()
            .filter(|(_, seen)| seen.trust == Trust::Changed);
        let foreign = foreign.filter_map(|(index, _)| self.foreign_mark(*index));
        let notes = [withdrawn, Record::Writing(unchecked)]
            .into_iter()
            .chain(device.map(Record::Device))
            .chain(foreign);
        self.append(&notes.filter(|note| !note.is_empty()).collect::<Vec<_>>())
    }

    pub(crate) fn set_wanted(&mut self, wanted: Vec<bool>) {
        self.is_prepared &= self.wanted == wanted;
        self.wanted = wanted;
    }

    /// Makes ready to write these pieces: takes their files, and notes in the journal what is going to happen.
    /// Files that were there before and do not belong to the torrent are a conflict, unless the blocks are what they
    /// have already.
    pub(crate) fn prepare(&mut self, pieces: &[(PieceIndex, &Blocks)]) -> Result<(), StorageFault> {
        if !self.is_prepared {
            self.prepare_wanted()?;
        }
        for (piece, blocks) in pieces {
            for slice in self.slices(*piece) {
                self.take(slice.file, Some((*piece, slice, blocks)))?;
            }
        }
        let writing = pieces.iter().map(|(piece, _)| *piece).collect();
        self.append(&[Record::Writing(writing)])?;
        self.flush_notes()
    }

    /// Writes the blocks of a piece that are in memory to their places.
    pub(crate) fn write(&mut self, piece: PieceIndex, blocks: &Blocks) -> Result<(), StorageFault> {
        for slice in self.slices(piece) {
            self.take(slice.file, Some((piece, slice, blocks)))?;
            self.flush_notes()?;
            if let Some(file) = self.begin_write(slice.file)? {
                self.unsynced.files.insert(slice.file);
                let written = self.write_slice(&*file, (piece, slice, blocks));
                let ended = self.end_write(slice.file, &*file);
                written.and(ended)?;
            }
        }
        Ok(())
    }

    fn write_slice(
        &mut self,
        file: &dyn RawFile,
        (piece, slice, blocks): Payload<'_>,
    ) -> Result<(), StorageFault> {
        for (offset, parts) in runs_in_memory(&self.layout, piece, slice, blocks) {
            let len = parts.iter().map(|part| part.len() as u64).sum();
            write_all(file, &parts, offset)
                .map_err(|error| self.place(slice.file).fault(&error, len))?;
            self.unsynced.bytes += len;
        }
        Ok(())
    }

    /// A piece was written whole, and is right; false if it has to be fetched again.
    ///
    /// Once a sync has failed, blocks that were written early may be lost although they were read back since.
    #[must_use]
    pub(crate) fn wrote(&mut self, piece: PieceIndex, hash: PieceHash, blocks: &Blocks) -> bool {
        if self.is_of_changed(piece) {
            return false;
        }
        let written_early = blocks.iter().any(|slot| matches!(slot, Slot::Disk));
        if written_early && self.trouble != Trouble::Never && !self.is_right_on_disk(piece, hash) {
            return false;
        }
        self.written.insert(piece, hash);
        true
    }

    /// A piece was found in place and right, to be claimed at the next commit.
    pub(crate) fn adopt(&mut self, piece: PieceIndex, hash: PieceHash) {
        if self.is_of_changed(piece) {
            return self.lost.push(piece);
        }
        if self.journal.claims().durable.has(piece) {
            return;
        }
        for slice in self.slices(piece) {
            self.adopted.insert(slice.file);
            self.unsynced.found.insert(slice.file);
        }
        self.unsynced.found_at = self.ground.rounds.now();
        self.written.insert(piece, hash);
    }

    /// Pieces are not claimed any more. Durable at once if they were, since what comes next may write over them.
    pub(crate) fn forget(&mut self, pieces: &[PieceIndex]) -> Result<(), StorageFault> {
        for piece in pieces {
            self.written.remove(piece);
        }
        let claims = self.journal.claims();
        let was_claimed = pieces.iter().any(|piece| claims.durable.has(*piece));
        let known = pieces
            .iter()
            .copied()
            .filter(|piece| claims.durable.has(*piece) || claims.writing.has(*piece));
        let known: Vec<PieceIndex> = known.collect();
        if !known.is_empty() {
            self.append(&[Record::Forgotten(known)])?;
        }
        if was_claimed {
            self.sync_journal()
        } else {
            Ok(())
        }
    }

    /// Pieces that turned out to be lost since the last time.
    pub(crate) fn drain_lost(&mut self) -> Vec<PieceIndex> {
        std::mem::take(&mut self.lost)
    }

    fn slices(&self, piece: PieceIndex) -> Vec<FileSlice> {
        stored_slices(&self.layout, piece).collect()
    }

    fn file(&self, index: FileIndex) -> &File {
        &self.layout.files()[index.as_usize()]
    }

    fn place(&self, index: FileIndex) -> Place<'_> {
        self.site.place(self.file(index))
    }

    fn append(&mut self, records: &[Record]) -> Result<(), StorageFault> {
        self.journal
            .append(records)
            .map_err(|error| fault(&self.ground.journal_dir, &error, JOURNAL_ROOM))
    }

    /// Notes what may be forgotten in a power cut.
    fn append_unsynced(&mut self, records: &[Record]) -> Result<(), StorageFault> {
        self.journal
            .append_unsynced(records)
            .map_err(|error| fault(&self.ground.journal_dir, &error, JOURNAL_ROOM))
    }

    fn sync_journal(&mut self) -> Result<(), StorageFault> {
        self.journal
            .sync()
            .map_err(|error| fault(&self.ground.journal_dir, &error, JOURNAL_ROOM))
    }

    /// Brings the notes into the journal, durably.
    fn flush_notes(&mut self) -> Result<(), StorageFault> {
        if self.notes.is_empty() {
            return Ok(());
        }
        let notes = std::mem::take(&mut self.notes);
        let flushed = self.append(&notes).and_then(|()| self.sync_journal());
        if flushed.is_err() {
            // Saying a thing twice does no harm.
            self.notes = notes;
        }
        flushed
    }
}

impl Drop for TorrentFiles {
    fn drop(&mut self) {
        self.ground
            .owners
            .release(std::mem::take(&mut self.used), self.site.torrent);
    }
}

/// The parts of `slice` that are in memory, as runs that follow one another in the file, with where they start.
fn runs_in_memory<'a>(
    layout: &Layout,
    piece: PieceIndex,
    slice: FileSlice,
    blocks: &'a Blocks,
) -> Vec<(u64, Vec<&'a [u8]>)> {
    let mut runs: Vec<(u64, Vec<&[u8]>)> = Vec::new();
    let mut end = None;
    for (offset, part) in parts_in_memory(layout, piece, slice, blocks) {
        match runs.last_mut() {
            Some((_, parts)) if end == Some(offset) => parts.push(part),
            _ => runs.push((offset, vec![part])),
        }
        end = Some(offset + part.len() as u64);
    }
    runs
}
