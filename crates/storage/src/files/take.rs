//! Taking a file for writing: finding or making it, without harm to what is not ours.

use std::io;
use std::sync::Arc;

use riverrun_base::{FileIndex, PieceIndex};
use riverrun_swarm::StorageFault;

use super::{Payload, SHARED, TorrentFiles};
use crate::backend::{Access, FileStat, Found, Place, RawFile, write_all};
use crate::config::Preallocation;
use crate::fault::show;
use crate::journal::{FileMark, Hold, Record};
use crate::span::parts_in_memory;
use crate::survey::{stored_files, too_long};

/// Files open for writing at once, in one torrent: one more closes the first.
const WRITERS_MAX: usize = 64;
/// What is read or written at once.
const CHUNK_LEN: usize = 1 << 20;
/// Names that are tried for a copy: one is left over from each crash at the worst moment.
const COPY_NAMES_MAX: u32 = 16;

impl TorrentFiles {
    /// Makes the wanted files that have no bytes, and takes room for the others if asked to.
    pub(super) fn prepare_wanted(&mut self) -> Result<(), StorageFault> {
        let full = self.site.options.preallocation == Preallocation::Full;
        let wanted = |index: FileIndex| self.wanted.get(index.as_usize()).copied().unwrap_or(true);
        let due: Vec<FileIndex> = stored_files(&self.layout)
            .filter(|(index, file)| wanted(*index) && (full || file.len == 0))
            .map(|(index, _)| index)
            .collect();
        for index in due {
            self.take(index, None)?;
            if self.file(index).len == 0 {
                self.writers.remove(&index);
            }
        }
        self.is_prepared = true;
        Ok(())
    }

    /// Opens a file for writing, made if need be, of the right length, locked, and noted as ours. One that somebody
    /// else has changed is not opened.
    pub(super) fn take(
        &mut self,
        index: FileIndex,
        payload: Option<Payload<'_>>,
    ) -> Result<(), StorageFault> {
        if self.writers.contains_key(&index) || self.is_changed(index) {
            return Ok(());
        }
        self.make_room()?;
        self.ensure_root()?;
        let found = self.ground.backend.look(self.place(index));
        let found = found.map_err(|error| self.place(index).fault(&error, 0))?;
        if let Found::File(stat) = &found
            && !self.known.begin_write(index, stat)
        {
            self.changed.insert(index);
            return Ok(());
        }
        // What changes from here on is our own doing.
        let taken = self.take_as_found(index, found, payload);
        if taken.is_err() {
            self.known.forget(index);
        }
        taken
    }

    fn take_as_found(
        &mut self,
        index: FileIndex,
        found: Found,
        payload: Option<Payload<'_>>,
    ) -> Result<(), StorageFault> {
        let file = match found {
            Found::Nothing => self.make(index)?,
            Found::File(stat) => self.take_found(index, stat, payload)?,
            Found::Other(what) => return Err(self.place(index).conflict(what)),
        };
        let stat = file
            .stat()
            .map_err(|error| self.place(index).fault(&error, 0))?;
        let mark = self.journal.claims().files.get(&index);
        if mark.is_none_or(|mark| mark.hold != Hold::Writing || mark.stat.id() != stat.id()) {
            let hold = Hold::Writing;
            self.notes
                .push(Record::File(index, FileMark { stat, hold }));
        }
        self.known.note(index, stat);
        self.writers.insert(index, file);
        Ok(())
    }

    /// Closes a file if too many are open. It is synced first: an error after its last handle is closed might
    /// never be told.
    fn make_room(&mut self) -> Result<(), StorageFault> {
        if self.writers.len() < WRITERS_MAX {
            return Ok(());
        }
        let Some(first) = self.writers.keys().next().copied() else {
            return Ok(());
        };
        if self.unsynced.files.contains(&first) {
            self.sync_file(first)?;
        }
        self.writers.remove(&first);
        Ok(())
    }

    /// The root directory, made if it never was there.
    fn ensure_root(&mut self) -> Result<(), StorageFault> {
        let root = &self.site.root;
        let at = Place { root, path: "" };
        let missing = || self.volume_missing();
        let known = self.journal.claims().device;
        let device = match self
            .ground
            .backend
            .device(root)
            .map_err(|error| at.fault(&error, 0))?
        {
            Some(device) => device,
            None if known.is_some() => return Err(missing()),
            None => {
                self.ground
                    .backend
                    .make_root(root)
                    .map_err(|error| at.fault(&error, 0))?;
                let made = self
                    .ground
                    .backend
                    .device(root)
                    .map_err(|error| at.fault(&error, 0))?;
                made.ok_or_else(missing)?
            }
        };
        match known {
            Some(known) if known != device => Err(missing()),
            Some(_) => Ok(()),
            None => {
                if !self.notes.contains(&Record::Device(device)) {
                    self.notes.push(Record::Device(device));
                }
                Ok(())
            }
        }
    }

    pub(super) fn volume_missing(&self) -> StorageFault {
        StorageFault::VolumeMissing {
            path: show(&self.site.root),
        }
    }

    fn make(&mut self, index: FileIndex) -> Result<Arc<dyn RawFile>, StorageFault> {
        self.withdraw(index);
        let place = self.place(index);
        let file = self
            .ground
            .backend
            .open(place, Access::Create)
            .map_err(|error| place.fault(&error, 0))?;
        let dirs = ancestors(place.parent());
        let stat = file.stat().map_err(|error| place.fault(&error, 0))?;
        self.unsynced.dirs.extend(dirs);
        self.own(index, &*file, stat)?;
        self.size(index, &*file, 0)?;
        Ok(file)
    }

    /// A file is gone: so is what was claimed of it.
    fn withdraw(&mut self, index: FileIndex) {
        let claims = self.journal.claims();
        let pieces = self.layout.pieces_of(index).map(PieceIndex);
        let gone =
            pieces.filter(|piece| claims.durable.has(*piece) || self.written.contains_key(piece));
        let gone: Vec<PieceIndex> = gone.collect();
        if !gone.is_empty() {
            self.written.retain(|piece, _| !gone.contains(piece));
            self.lost.extend(&gone);
            self.notes.push(Record::Forgotten(gone));
        }
    }

    /// Takes a file that was there.
    fn take_found(
        &mut self,
        index: FileIndex,
        stat: FileStat,
        payload: Option<Payload<'_>>,
    ) -> Result<Arc<dyn RawFile>, StorageFault> {
        let mark = self.journal.claims().files.get(&index);
        let is_ours = mark.is_some_and(|mark| mark.is_of(&stat)) || self.adopted.contains(&index);
        if !is_ours && !self.site.options.overwrite {
            self.check_stranger(index, stat, payload)?;
        }
        let place = self.place(index);
        let open = |access| {
            self.ground
                .backend
                .open(place, access)
                .map_err(|error| place.fault(&error, 0))
        };
        let mut file = open(Access::Write)?;
        self.own(index, &*file, stat)?;
        if stat.is_linked() {
            file = self.break_link(index, stat)?;
        }
        let len = self.file(index).len;
        if stat.len < len || (stat.len > len && !is_ours) {
            self.size(index, &*file, stat.len)?;
        }
        Ok(file)
    }

    /// Keeps other torrents, and other processes, out of a file.
    fn own(
        &mut self,
        index: FileIndex,
        file: &dyn RawFile,
        stat: FileStat,
    ) -> Result<(), StorageFault> {
        let place = self.place(index);
        if !file.try_lock().map_err(|error| place.fault(&error, 0))? {
            return Err(StorageFault::Locked {
                path: show(&place.full()),
            });
        }
        if !self.ground.owners.write(stat.id(), self.site.torrent) {
            return Err(place.conflict(SHARED));
        }
        self.used.insert(stat.id());
        Ok(())
    }

    /// Gives a file its length, or all its room.
    fn size(&self, index: FileIndex, file: &dyn RawFile, now: u64) -> Result<(), StorageFault> {
        let len = self.file(index).len;
        let sized = match self.site.options.preallocation {
            Preallocation::Full if len > now => match file.allocate(len) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => fill(file, now, len),
                done => done,
            },
            _ => file.set_len(len),
        };
        sized.map_err(|error| self.place(index).fault(&error, len.saturating_sub(now)))
    }

    /// A file that we did not make and of which no piece was right: it may be written to if it has nothing but
    /// zeros, or has already what is to be written.
    fn check_stranger(
        &self,
        index: FileIndex,
        stat: FileStat,
        payload: Option<Payload<'_>>,
    ) -> Result<(), StorageFault> {
        let place = self.place(index);
        let len = self.file(index).len;
        if stat.len > len {
            return Err(place.conflict(too_long(stat.len, len)));
        }
        let file = self
            .ground
            .backend
            .open(place, Access::Read)
            .map_err(|error| place.fault(&error, 0))?;
        let is_same = payload.map_or(Ok(false), |payload| self.is_in_place(&*file, payload));
        let is_harmless = is_same.and_then(|same| Ok(same || is_blank(&*file)?));
        if is_harmless.map_err(|error| place.fault(&error, 0))? {
            return Ok(());
        }
        Err(place.conflict("a file with other contents"))
    }

    /// Whether the file has, where the payload belongs, just that; zeros prove nothing.
    fn is_in_place(
        &self,
        file: &dyn RawFile,
        (piece, slice, blocks): Payload<'_>,
    ) -> io::Result<bool> {
        let mut some = false;
        for (offset, part) in parts_in_memory(&self.layout, piece, slice, blocks) {
            let mut there = vec![0; part.len()];
            if file.read_at(&mut there, offset)? != part.len() || there != part {
                return Ok(false);
            }
            some |= part.iter().any(|byte| *byte != 0);
        }
        Ok(some)
    }

    /// Puts a copy in the place of a file that has other names, which are not ours to change.
    fn break_link(
        &mut self,
        index: FileIndex,
        stat: FileStat,
    ) -> Result<Arc<dyn RawFile>, StorageFault> {
        let place = self.place(index);
        let backend = &*self.ground.backend;
        let needed = |error: io::Error| place.fault(&error, stat.len);
        let original = backend.open(place, Access::Read).map_err(needed)?;
        let (copy, path) = self.make_copy_file(index).map_err(needed)?;
        let replaced = copy_data(&*original, &*copy)
            .and_then(|()| backend.rename(place.root, &path, place.path));
        if let Err(error) = replaced {
            let fault = needed(error);
            // Left over at worst, under a name that says whose it is.
            let _ = backend.remove(Place {
                root: place.root,
                path: &path,
            });
            return Err(fault);
        }
        let dirs = ancestors(place.parent());
        let copied = copy.stat().map_err(needed)?;
        self.unsynced.dirs.extend(dirs);
        self.ground.readers.forget((self.site.torrent, index));
        // Its bytes are those of the original, so what was found right in that still is.
        self.adopted.insert(index);
        self.own(index, &*copy, copied)?;
        Ok(copy)
    }

    fn make_copy_file(&self, index: FileIndex) -> io::Result<(Arc<dyn RawFile>, String)> {
        let place = self.place(index);
        let prefix = if place.parent().is_empty() {
            String::new()
        } else {
            format!("{}/", place.parent())
        };
        let mut made = Err(io::ErrorKind::AlreadyExists.into());
        for n in 0..COPY_NAMES_MAX {
            let path = format!("{prefix}.riverrun-copy.{index}.{n}");
            match self.ground.backend.open(
                Place {
                    root: place.root,
                    path: &path,
                },
                Access::Create,
            ) {
                Ok(file) => return Ok((file, path)),
                Err(error) => made = Err(error),
            }
        }
        made
    }
}

/// A directory and all above it, up to the root.
fn ancestors(dir: &str) -> impl Iterator<Item = String> + use<> {
    let ends = dir
        .match_indices('/')
        .map(|(at, _)| at)
        .chain([0, dir.len()]);
    ends.map(|end| dir[..end].to_owned())
        .collect::<Vec<_>>()
        .into_iter()
}

/// Whether a file has nothing but holes and zeros.
fn is_blank(file: &dyn RawFile) -> io::Result<bool> {
    let mut at = 0;
    let mut buffer = vec![0; CHUNK_LEN];
    while let Some(run) = file.next_data(at)? {
        at = run.start;
        while at < run.end {
            let count = file.read_at(&mut buffer, at)?;
            if count == 0 {
                return Ok(true);
            }
            if buffer[..count].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += count as u64;
        }
    }
    Ok(true)
}

/// Takes room the slow way, where the file system knows no other.
fn fill(file: &dyn RawFile, from: u64, len: u64) -> io::Result<()> {
    let zeros = vec![0; CHUNK_LEN];
    let mut at = from;
    while at < len {
        let count = usize::try_from(len - at).map_or(CHUNK_LEN, |rest| rest.min(CHUNK_LEN));
        write_all(file, &[&zeros[..count]], at)?;
        at += count as u64;
    }
    Ok(())
}

/// Copies what is not a hole, and makes it durable.
fn copy_data(from: &dyn RawFile, to: &dyn RawFile) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_LEN];
    to.set_len(from.stat()?.len)?;
    let mut at = 0;
    while let Some(run) = from.next_data(at)? {
        at = run.start;
        while at < run.end {
            let count = from.read_at(&mut buffer, at)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            write_all(to, &[&buffer[..count]], at)?;
            at += count as u64;
        }
    }
    to.sync_data()
}
