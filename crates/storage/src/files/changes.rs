//! Files that somebody else changes while we use them: what was known of them is known no more.

use std::collections::BTreeSet;
use std::sync::Arc;

use riverrun_base::{Bitfield, FileIndex, PieceIndex};
use riverrun_metainfo::Layout;
use riverrun_swarm::StorageFault;

use super::TorrentFiles;
use crate::backend::{Found, RawFile};
use crate::journal::{FileMark, Hold, Record};
use crate::span::stored_slices;

impl TorrentFiles {
    pub(crate) const fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The pieces with a part in a file, or near it: none with a part is left out.
    pub(crate) fn pieces_of(&self, index: FileIndex) -> impl Iterator<Item = PieceIndex> + use<> {
        self.layout.pieces_of(index).map(PieceIndex)
    }

    /// Files that were found to be changed by somebody else since the last time.
    pub(crate) fn drain_changed(&mut self) -> BTreeSet<FileIndex> {
        std::mem::take(&mut self.changed)
    }

    /// Whether somebody else has changed a file: it is not ours to write to until it is checked.
    pub(super) fn is_changed(&self, index: FileIndex) -> bool {
        self.changed.contains(&index) || self.known.is_spoilt(index)
    }

    /// Whether a piece has a part in a file that somebody else has changed.
    pub(crate) fn is_of_changed(&self, piece: PieceIndex) -> bool {
        stored_slices(&self.layout, piece).any(|slice| self.is_changed(slice.file))
    }

    /// Begins to write to a file that was taken. `None` if somebody else has changed it.
    pub(super) fn begin_write(
        &mut self,
        index: FileIndex,
    ) -> Result<Option<Arc<dyn RawFile>>, StorageFault> {
        let Some(file) = self.writers.get(&index).cloned() else {
            return Ok(None);
        };
        let stat = file.stat();
        let stat = stat.map_err(|error| self.place(index).fault(&error, 0))?;
        if self.known.begin_write(index, &stat) {
            return Ok(Some(file));
        }
        self.changed.insert(index);
        Ok(None)
    }

    /// Has written to a file.
    pub(super) fn end_write(
        &mut self,
        index: FileIndex,
        file: &dyn RawFile,
    ) -> Result<(), StorageFault> {
        match file.stat() {
            Ok(stat) => {
                self.known.note(index, stat);
                Ok(())
            }
            Err(error) => {
                self.known.forget(index);
                Err(self.place(index).fault(&error, 0))
            }
        }
    }

    /// Sees that a file is as it was left, before something of it is claimed; else nothing of it is.
    pub(super) fn confirm(&mut self, index: FileIndex) -> Result<(), StorageFault> {
        let place = self.place(index);
        let found = self.ground.backend.look(place);
        match found.map_err(|error| place.fault(&error, 0))? {
            Found::File(stat) if matches!(self.known.is_as_left(index, || Ok(stat)), Ok(true)) => {
                Ok(())
            }
            Found::File(_) | Found::Other(_) => {
                self.changed.insert(index);
                self.disown(index)
            }
            Found::Nothing if !self.has_root() => Err(self.volume_missing()),
            Found::Nothing => {
                let gone = self.take_back(index);
                self.lost.extend(gone);
                Ok(())
            }
        }
    }

    fn has_root(&self) -> bool {
        matches!(self.ground.backend.device(&self.site.root), Ok(Some(_)))
    }

    /// Claims nothing of a file any more, and does not write to it: it is as foreign as one that we never knew.
    pub(crate) fn disown(&mut self, index: FileIndex) -> Result<(), StorageFault> {
        self.take_back(index);
        self.writers.remove(&index);
        self.adopted.remove(&index);
        self.unsynced.files.remove(&index);
        self.unsynced.found.remove(&index);
        let durable = &self.journal.claims().durable;
        let is_claimed = |piece: &PieceIndex| durable.has(*piece);
        // To be hashed again, by a next start if not before.
        let claimed = self.pieces_of(index).filter(is_claimed).collect();
        let mark = self.foreign_mark(index);
        let notes = [Record::Writing(claimed)].into_iter().chain(mark);
        let notes: Vec<Record> = notes.filter(|note| !note.is_empty()).collect();
        if notes.is_empty() {
            return Ok(());
        }
        self.append(&notes)?;
        self.sync_journal()
    }

    /// What was written to a file and not claimed yet will not be claimed. Gives those pieces.
    pub(super) fn take_back(&mut self, index: FileIndex) -> Vec<PieceIndex> {
        let pieces = self.layout.pieces_of(index);
        let taken = self
            .written
            .extract_if(.., |piece, _| pieces.contains(&piece.0));
        taken.map(|(piece, _)| piece).collect()
    }

    /// That a file which was ours is not; `None` if it never was.
    pub(super) fn foreign_mark(&self, index: FileIndex) -> Option<Record> {
        let mark = self.journal.claims().files.get(&index)?;
        let hold = Hold::Foreign;
        (mark.hold != hold).then_some(Record::File(index, FileMark { hold, ..*mark }))
    }

    /// The files with a part in `pieces` that are not as they were left, or were never looked at.
    pub(crate) fn changed_since(&self, pieces: &Bitfield) -> Vec<FileIndex> {
        let slices = pieces
            .ones()
            .flat_map(|piece| stored_slices(&self.layout, piece));
        let mut files: Vec<FileIndex> = slices.map(|slice| slice.file).collect();
        files.dedup();
        files.retain(|index| match self.ground.backend.look(self.place(*index)) {
            Ok(Found::File(stat)) => self
                .known
                .left(*index)
                .is_none_or(|left| !left.is_intact(&stat)),
            _ => true,
        });
        files
    }

    /// Takes a file as it is now: what is found in it from now on is believed as long as it stays so.
    pub(crate) fn look_again(&mut self, index: FileIndex) -> Result<(), StorageFault> {
        if self.known.left(index).is_some() || self.is_changed(index) {
            self.disown(index)?;
        }
        self.ground.readers.forget((self.site.torrent, index));
        self.changed.remove(&index);
        let place = self.place(index);
        match self.ground.backend.look(place) {
            Ok(Found::File(stat)) => self.known.note(index, stat),
            Ok(_) => self.known.forget(index),
            Err(error) => return Err(place.fault(&error, 0)),
        }
        Ok(())
    }
}
