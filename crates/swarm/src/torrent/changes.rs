//! Files that another program changes while the torrent runs.
//!
//! What we had of such a file is lost, and hashed again at once: most changes leave all or most of it right. If
//! something of it is wrong then, whoever changed the file meant it, perhaps: nothing is downloaded over it before the
//! user asks for a check.

use std::collections::BTreeMap;
use std::time::Duration;

use riverrun_base::{Bitfield, FileIndex, PieceIndex, Time};

use super::{Cx, Torrent};
use crate::outbox::{Event, StorageFault};

/// How long after a file was checked, because it was changed, it is checked again: one that is written to all the time
/// must not keep us hashing.
const CHECK_INTERVAL: Duration = Duration::from_mins(1);

/// Files that were changed, as far as it matters still.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    /// Their paths. At most as many as the torrent has files.
    paths: BTreeMap<FileIndex, String>,
    /// Pieces of theirs that we had, and do not have now, with the file that was changed.
    lost: BTreeMap<PieceIndex, FileIndex>,
    /// Files to be checked, and when.
    due: BTreeMap<FileIndex, Time>,
    /// When each was checked last.
    checked_at: BTreeMap<FileIndex, Time>,
}

impl Changes {
    /// The user has asked for a check: what it finds holds, whoever wrote it.
    pub(super) fn accept(&mut self) {
        self.paths.clear();
        self.lost.clear();
        self.due.clear();
    }

    /// A piece was found right.
    pub(super) fn found(&mut self, piece: PieceIndex) {
        self.lost.remove(&piece);
    }

    /// Whether something that we had is wrong, so that nothing is to be downloaded.
    pub(super) fn is_held(&self) -> bool {
        !self.lost.is_empty()
    }

    /// What is to be said of the files, while something in them is wrong.
    pub(super) fn fault(&self) -> Option<StorageFault> {
        let (_, file) = self.lost.first_key_value()?;
        let path = self.paths.get(file)?.clone();
        Some(StorageFault::Changed { path })
    }

    /// When a file is to be checked.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.due.values().min().copied()
    }

    /// Notes a change.
    fn note(&mut self, now: Time, file: FileIndex, path: String) {
        self.paths.insert(file, path);
        let rested = self.checked_at.get(&file).map(|at| *at + CHECK_INTERVAL);
        self.due.insert(file, rested.map_or(now, |at| at.max(now)));
    }

    /// The files that are to be checked now.
    fn take_due(&mut self, now: Time) -> Vec<FileIndex> {
        let due = self.due.extract_if(.., |_, at| *at <= now);
        let due: Vec<FileIndex> = due.map(|(file, _)| file).collect();
        for file in &due {
            self.checked_at.insert(*file, now);
        }
        due
    }
}

impl Torrent {
    /// Another program has changed a file.
    pub(super) fn file_changed(&mut self, cx: &mut Cx<'_>, file: FileIndex, path: String) {
        let (Some(meta), Some(pieces)) = (&self.meta, &mut self.pieces) else {
            return;
        };
        let of_file = meta.info.layout().pieces_of(file).map(PieceIndex);
        let lost: Vec<PieceIndex> = of_file.filter(|piece| pieces.lose(*piece)).collect();
        let of_file = lost.iter().map(|piece| (*piece, file));
        self.changes.lost.extend(of_file);
        cx.event(Event::FileChanged {
            torrent: self.key,
            file,
            path: path.clone(),
        });
        self.changes.note(cx.now, file, path);
        if !self.life.is_running() || self.check_changed(cx) {
            return;
        }
        self.pieces_lost(cx, &lost);
        self.stop_requests(cx);
    }

    /// Checks the files that were changed and are due; false if there are none.
    pub(super) fn check_changed(&mut self, cx: &mut Cx<'_>) -> bool {
        let Some(meta) = &self.meta else { return false };
        let layout = meta.info.layout();
        let due = self.changes.take_due(cx.now);
        let mut pieces = Bitfield::new(layout.piece_count());
        for piece in due.into_iter().flat_map(|file| layout.pieces_of(file)) {
            pieces.set(PieceIndex(piece));
        }
        if pieces.none() {
            return false;
        }
        self.check(cx, pieces);
        true
    }

    pub(super) fn changes_due(&mut self, cx: &mut Cx<'_>) {
        if self.life.is_running() {
            self.check_changed(cx);
        }
    }
}
