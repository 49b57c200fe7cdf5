//! Making durable what was written, and claiming it.

use std::collections::BTreeSet;
use std::io;

use riverrun_base::{FileIndex, PieceIndex};
use riverrun_metainfo::PieceHash;
use riverrun_swarm::StorageFault;

use super::{TorrentFiles, Trouble, Unsynced};
use crate::abreast::{self, Slab};
use crate::backend::{Access, Place};
use crate::ground::Ground;
use crate::journal::{FileMark, Hold, Record};
use crate::judge::{PieceHasher, is_right};
use crate::recent::Recent;
use crate::span::{Stored, stored_slices};

/// Files that are made durable one by one although a round would do it: a round waits for what other programs write too.
const SINGLY_MAX: usize = 4;
/// Files kept open for writing from one commit to the next.
const WRITERS_KEPT_MAX: usize = 16;

impl TorrentFiles {
    /// Whether there is something to commit.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.written.is_empty()
            || !self.unsynced.files.is_empty()
            || !self.unsynced.found.is_empty()
            || !self.unsynced.dirs.is_empty()
    }

    /// Whether files are open for writing.
    pub(crate) fn is_writing(&self) -> bool {
        !self.writers.is_empty()
    }

    /// Bytes written since the last commit.
    pub(crate) const fn unsynced_bytes(&self) -> u64 {
        self.unsynced.bytes
    }

    /// Makes what was written durable, and claims it. Gives the pieces that are claimed now.
    pub(crate) fn commit(&mut self) -> Result<Vec<PieceIndex>, StorageFault> {
        if !self.is_dirty() {
            self.writers.clear();
            return self.flush_notes().map(|()| Vec::new());
        }
        // Some may have been synced before this, to make room for others.
        let slices = self.written.keys();
        let slices = slices.flat_map(|piece| stored_slices(&self.layout, *piece));
        let mut files: BTreeSet<FileIndex> = slices.map(|slice| slice.file).collect();
        files.extend(&self.unsynced.files);
        files.extend(&self.unsynced.found);
        let has_written = self.has_written();
        self.sync_found()?;
        for index in self.unsynced.files.clone() {
            self.sync_file(index)?;
        }
        self.sync_dirs()?;
        self.flush_notes()?;
        for index in &files {
            self.confirm(*index)?;
        }
        let durable: Vec<PieceIndex> = self.written.keys().copied().collect();
        let mut notes = vec![Record::Durable(durable.clone())];
        let settled = files
            .into_iter()
            .filter(|index| self.is_settled(*index) && !self.is_changed(*index));
        notes.extend(settled.filter_map(|index| self.exact_mark(index)));
        if has_written {
            self.append(&notes)?;
            self.sync_journal()?;
        } else {
            self.append_unsynced(&notes)?;
        }
        self.written.clear();
        self.unsynced = Unsynced::default();
        self.rest_writers(&notes);
        Ok(durable)
    }

    /// Whether anything was written since the last commit, and not only found in place.
    fn has_written(&self) -> bool {
        let Unsynced {
            files, dirs, bytes, ..
        } = &self.unsynced;
        !files.is_empty() || !dirs.is_empty() || *bytes > 0
    }

    /// Commits, and notes how the files are left, so that they are believed next time if nobody else changes them.
    pub(crate) fn close(mut self) -> Result<Vec<PieceIndex>, StorageFault> {
        let durable = self.commit()?;
        let marks = self.journal.claims().files.iter();
        let inexact: Vec<FileIndex> = marks
            .filter(|(_, mark)| mark.hold == Hold::Writing)
            .map(|(index, _)| *index)
            .collect();
        for index in &inexact {
            self.confirm(*index)?;
        }
        let notes: Vec<Record> = inexact
            .into_iter()
            .filter_map(|index| self.exact_mark(index))
            .collect();
        if !notes.is_empty() {
            self.append(&notes)?;
            self.sync_journal()?;
        }
        Ok(durable)
    }

    /// After a failed sync nothing is known of what was written since the last good one: reads it back. What is not
    /// right is lost.
    pub(crate) fn reread(&mut self) {
        if self.trouble != Trouble::Now {
            return;
        }
        self.trouble = Trouble::Before;
        for index in self.unsynced.files.iter().chain(&self.unsynced.found) {
            if let Ok(file) = self.ground.backend.open(self.place(*index), Access::Read) {
                // Where this cannot be done the page cache answers; the next sync has to succeed all the same.
                let _ = file.drop_cache();
                self.known.note_shrunk(*index, file.stat().ok());
            }
        }
        let written: Vec<(PieceIndex, PieceHash)> =
            self.written.iter().map(|(p, hash)| (*p, *hash)).collect();
        for (piece, hash) in written {
            if !self.is_right_on_disk(piece, hash) {
                self.written.remove(&piece);
                self.lost.push(piece);
            }
        }
    }

    /// Whether a piece on disk is what it must be.
    pub(super) fn is_right_on_disk(&self, piece: PieceIndex, hash: PieceHash) -> bool {
        let mut opened = Recent::default();
        let mut open = |index| {
            let open = || self.ground.backend.open(self.place(index), Access::Read);
            opened.file(index, open).cloned()
        };
        let mut stored = Stored {
            layout: &self.layout,
            open: &mut open,
        };
        let group = vec![(piece, PieceHasher::of(&hash))];
        let work = (&mut stored, &mut Slab::default());
        let hashed = abreast::hash(&self.layout, group, &[], work);
        let mut found = hashed.into_iter().filter_map(|(_, found)| found.ok());
        found.any(|found| is_right(&hash, &found))
    }

    pub(super) fn sync_file(&mut self, index: FileIndex) -> Result<(), StorageFault> {
        let synced = match self.writers.get(&index) {
            Some(file) => file.sync_data(),
            None => self
                .ground
                .backend
                .open(self.place(index), Access::Read)
                .and_then(|file| file.sync_data()),
        };
        match synced {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let gone = self.take_back(index);
                self.lost.extend(gone);
            }
            Err(error) => {
                self.trouble = Trouble::Now;
                return Err(self.place(index).fault(&error, 0));
            }
        }
        self.unsynced.files.remove(&index);
        self.unsynced.found.remove(&index);
        Ok(())
    }

    /// Makes durable what was found in place: one by one, or by a round for all torrents if that is less work.
    fn sync_found(&mut self) -> Result<(), StorageFault> {
        let device = self.journal.claims().device;
        let device = device.or(self.ground.backend.device(&self.site.root).ok().flatten());
        if let Some(device) = device
            && self.sync_round(device)
        {
            let known = &self.known;
            let is_there =
                |index: FileIndex| known.left(index).is_some_and(|it| it.device == device);
            self.unsynced.found.retain(|index| !is_there(*index));
        }
        for index in self.unsynced.found.clone() {
            self.sync_file(index)?;
        }
        Ok(())
    }

    /// Whether all that was found on this device is durable by a round. If one goes wrong each file is asked for itself:
    /// it may be about another.
    fn sync_round(&self, device: u64) -> bool {
        let Ground {
            backend, rounds, ..
        } = &self.ground;
        let moment = self.unsynced.found_at;
        if self.unsynced.found.len() <= SINGLY_MAX {
            return rounds.is_past(device, moment);
        }
        let sync = || backend.sync_all(&self.site.root);
        rounds.run(device, moment, sync).is_ok()
    }

    fn sync_dirs(&mut self) -> Result<(), StorageFault> {
        while let Some(dir) = self.unsynced.dirs.pop_last() {
            let place = Place {
                root: &self.site.root,
                path: &dir,
            };
            if let Err(error) = self.ground.backend.sync_dir(place) {
                let fault = place.fault(&error, 0);
                self.unsynced.dirs.insert(dir);
                return Err(fault);
            }
        }
        Ok(())
    }

    /// Whether nothing more will be written to a file, or nothing was: its state can be noted exactly.
    fn is_settled(&self, index: FileIndex) -> bool {
        let claims = self.journal.claims();
        let mut pieces = self.layout.pieces_of(index).map(PieceIndex);
        let mark = claims.files.get(&index);
        mark.is_none_or(|mark| mark.hold == Hold::Foreign)
            || pieces.all(|piece| claims.durable.has(piece) || self.written.contains_key(&piece))
    }

    /// How a file was left; `None` if that is not known.
    fn exact_mark(&self, index: FileIndex) -> Option<Record> {
        let (stat, hold) = (self.known.left(index)?, Hold::Exact);
        Some(Record::File(index, FileMark { stat, hold }))
    }

    /// Closes the files that are as they will stay, and some of the others.
    fn rest_writers(&mut self, notes: &[Record]) {
        for note in notes {
            if let Record::File(index, mark) = note {
                self.writers.remove(index);
                self.ground.owners.finish(mark.stat.id(), self.site.torrent);
            }
        }
        while self.writers.len() > WRITERS_KEPT_MAX {
            self.writers.pop_first();
        }
    }
}
