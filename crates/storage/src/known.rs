//! How the files of a torrent were left when it was last known what is in them.
//!
//! A file's state (number, length, times) is noted before it is hashed and after each of our own writes. What is in
//! it is believed only while that state is what it was: whoever else changes the file moves a time at least. The
//! clock behind those times ticks every few milliseconds, so a change within one tick of our own write, that leaves
//! the length as it was, stays unseen.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use riverrun_base::FileIndex;

use crate::backend::FileStat;

/// The files of one torrent.
#[derive(Debug, Default)]
pub(crate) struct KnownFiles(Mutex<BTreeMap<FileIndex, Known>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// What is in it was known when it was so.
    Left(FileStat),
    /// We are writing to it.
    Writing,
    /// Somebody else has changed it: nothing in it is known until it is hashed again.
    Spoilt,
}

/// How often a file is looked at again because we were writing to it ourselves.
const LOOKS_MAX: usize = 8;

impl KnownFiles {
    /// It is known what is in a file that is so.
    pub(crate) fn note(&self, index: FileIndex, stat: FileStat) {
        self.files().insert(index, Known::Left(stat));
    }

    /// Nothing is known of a file.
    pub(crate) fn forget(&self, index: FileIndex) {
        self.files().remove(&index);
    }

    /// Nothing is known of any file.
    pub(crate) fn clear(&self) {
        self.files().clear();
    }

    /// How a file was left.
    pub(crate) fn left(&self, index: FileIndex) -> Option<FileStat> {
        match self.files().get(&index) {
            Some(Known::Left(stat)) => Some(*stat),
            _ => None,
        }
    }

    /// We are going to write to a file, which is `stat` now. False if somebody else has changed it.
    #[must_use]
    pub(crate) fn begin_write(&self, index: FileIndex, stat: &FileStat) -> bool {
        let mut files = self.files();
        let is_ours = match files.get(&index) {
            Some(Known::Left(left)) => left.is_intact(stat),
            Some(Known::Spoilt) => false,
            Some(Known::Writing) | None => true,
        };
        if is_ours {
            files.insert(index, Known::Writing);
        }
        is_ours
    }

    /// What a failed sync has lost of a file may have cost it length; nobody has changed it.
    pub(crate) fn note_shrunk(&self, index: FileIndex, now: Option<FileStat>) {
        if let (Some(now), Some(Known::Left(left))) = (now, self.files().get_mut(&index)) {
            let len = now.len;
            if (FileStat { len, ..*left }).is_intact(&now) {
                left.len = len;
            }
        }
    }

    /// Somebody else has changed a file. Whether that is news.
    pub(crate) fn spoil(&self, index: FileIndex) -> bool {
        self.files().insert(index, Known::Spoilt) != Some(Known::Spoilt)
    }

    /// Whether it is known that somebody else has changed a file.
    pub(crate) fn is_spoilt(&self, index: FileIndex) -> bool {
        self.files().get(&index) == Some(&Known::Spoilt)
    }

    /// Whether a file is as it was left. `look` says how it is, and is not asked if that is of no use: of a file to
    /// which we are writing, or of which nothing is known, there is nothing to tell.
    pub(crate) fn is_as_left(
        &self,
        index: FileIndex,
        look: impl Fn() -> io::Result<FileStat>,
    ) -> io::Result<bool> {
        for _ in 0..LOOKS_MAX {
            let before = self.files().get(&index).copied();
            let left = match before {
                Some(Known::Left(left)) => left,
                Some(Known::Spoilt) => return Ok(false),
                Some(Known::Writing) | None => return Ok(true),
            };
            let now = look()?;
            let mut files = self.files();
            if now == left {
                return Ok(true);
            }
            // Else we have written to it ourselves meanwhile.
            if files.get(&index) == Some(&Known::Left(left)) {
                let is_intact = left.is_intact(&now);
                if is_intact {
                    files.insert(index, Known::Left(now));
                }
                return Ok(is_intact);
            }
        }
        Ok(true)
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<FileIndex, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileIndex = FileIndex(3);

    fn stat(modified_ns: i64, changed_ns: i64, links: u64) -> FileStat {
        FileStat {
            device: 1,
            inode: 2,
            len: 3,
            modified_ns,
            changed_ns,
            links,
        }
    }

    #[test]
    fn a_file_is_intact_while_nothing_but_its_names_has_changed() {
        let left = stat(5, 5, 1);
        let check = |now: FileStat, expected| {
            let known = KnownFiles::default();
            known.note(FILE, left);
            assert_eq!(
                known.is_as_left(FILE, || Ok(now)).unwrap(),
                expected,
                "{now:?}"
            );
            assert_eq!(known.begin_write(FILE, &now), expected, "{now:?}");
        };
        check(left, true);
        check(FileStat { device: 9, ..left }, true);
        check(FileStat { inode: 9, ..left }, false);
        check(FileStat { len: 9, ..left }, false);
        check(stat(6, 6, 1), false);
        // The time of the last write was set back.
        check(stat(5, 6, 1), false);
        check(stat(5, 6, 2), true);
        check(stat(6, 6, 2), false);
        check(stat(5, 6, 0), false);
    }

    #[test]
    fn what_we_write_ourselves_meanwhile_is_no_change() {
        let known = KnownFiles::default();
        known.note(FILE, stat(5, 5, 1));
        let look = || {
            // Between the look and the comparison.
            if known.left(FILE) == Some(stat(5, 5, 1)) {
                assert!(known.begin_write(FILE, &stat(5, 5, 1)));
                known.note(FILE, stat(7, 7, 1));
                return Ok(stat(6, 6, 1));
            }
            Ok(stat(7, 7, 1))
        };
        assert!(known.is_as_left(FILE, look).unwrap());
    }

    #[test]
    fn a_file_that_was_changed_stays_so_until_it_is_hashed_again() {
        let known = KnownFiles::default();
        known.note(FILE, stat(5, 5, 1));
        assert!(known.spoil(FILE) && !known.spoil(FILE));
        assert!(!known.is_as_left(FILE, || Ok(stat(5, 5, 1))).unwrap());
        assert!(!known.begin_write(FILE, &stat(5, 5, 1)));
        known.note(FILE, stat(6, 6, 1));
        assert!(known.is_as_left(FILE, || Ok(stat(6, 6, 1))).unwrap());
    }
}
