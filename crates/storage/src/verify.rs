//! Holding the files in a directory against a torrent, without changing anything.

use std::collections::BTreeSet;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use riverrun_base::{BlockSpan, FileIndex, PieceIndex};
use riverrun_metainfo::{Info, PieceHash, PieceHashes};

use crate::abreast::{self, Slab, Source};
use crate::backend::{Access, Backend as _, Found, Place, RawFile};
use crate::judge::{PieceHasher, is_right};
use crate::os::OsBackend;
use crate::pass::{self, Tally, Turn, Turns, Watch};
use crate::recent::Recent;
use crate::span::{Stored, stored_slices};
use crate::survey::stored_files;

/// Extra files that are named; more are only known to be there.
pub const EXTRA_FILES_MAX: usize = 10_000;
/// The deepest directory that is searched for extra files.
const EXTRA_DEPTH_MAX: usize = 128;

/// How a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceStatus {
    /// It hashes to what it must.
    Right,
    /// It does not.
    Wrong,
    /// Some of its bytes are not there, or cannot be read.
    Missing,
    /// What it must hash to is not known: the torrent lacks a piece layer.
    Unknown,
}

/// How a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileStatus {
    /// It has its length, and all its pieces are right.
    Right,
    /// It is not there.
    Missing,
    /// It has another length.
    WrongLen {
        /// In bytes.
        actual: u64,
    },
    /// Some pieces that it has a part in are wrong, or missing. With v1 metadata a neighbour may be to blame.
    WrongPieces(usize),
    /// Something else is in its place.
    NoFile(&'static str),
    /// The operating system does not let us look at it.
    Unreadable(String),
    /// What its pieces must hash to is not known.
    Unknown,
}

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Each piece, in order.
    pub pieces: Vec<PieceStatus>,
    /// Each file that is stored: neither padding nor a link.
    pub files: Vec<(FileIndex, FileStatus)>,
    /// Files in the torrent's directory that are not the torrent's, at most [`EXTRA_FILES_MAX`].
    pub extra: Vec<PathBuf>,
}

/// It was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

impl Report {
    /// Whether all that the torrent has is there and right.
    pub fn is_right(&self) -> bool {
        self.pieces
            .iter()
            .all(|status| *status == PieceStatus::Right)
            && self
                .files
                .iter()
                .all(|(_, status)| *status == FileStatus::Right)
    }
}

/// Verifies the files of `info` below `root`, the directory that has the torrent's name in it, on `threads` threads.
/// Both hashes of a hybrid torrent must be right.
pub fn verify(
    info: &Info,
    hashes: &PieceHashes,
    root: &Path,
    threads: NonZero<usize>,
    watch: Watch<'_>,
) -> Result<Report, Cancelled> {
    let layout = info.layout();
    let tally = Tally::new(watch, layout.payload_len());
    let turns = Turns::new(layout, threads);
    let pieces = pass::run(&turns, threads, &tally, |desk: &mut Desk, turn| {
        Ok::<_, Cancelled>(check((info, root), hashes, desk, turn, &tally))
    })?;
    if tally.is_cancelled() || pieces.len() < layout.piece_count() as usize {
        return Err(Cancelled);
    }
    let files = stored_files(layout)
        .map(|(index, _)| (index, file_status(info, root, index, &pieces)))
        .collect();
    Ok(Report {
        pieces,
        files,
        extra: extra_files(info, root),
    })
}

/// What a thread works with.
#[derive(Default)]
struct Desk {
    files: Recent<Arc<dyn RawFile>>,
    slab: Slab,
}

/// Reads for one thread.
struct Reader<'a> {
    stored: Stored<'a>,
    tally: &'a Tally<'a>,
}

impl Source for Reader<'_> {
    type Error = PieceStatus;

    fn read(&mut self, span: BlockSpan, out: &mut [u8]) -> Result<(), PieceStatus> {
        let layout = self.stored.layout;
        let read = if self.tally.is_cancelled() {
            Err(PieceStatus::Unknown)
        } else {
            let read = self.stored.read(span, out);
            read.map_err(|_| PieceStatus::Missing)
        };
        let through = match read {
            Ok(()) => span,
            // Nothing more will be read of this piece.
            Err(_) => BlockSpan {
                len: layout.piece_len(span.piece) - span.offset,
                ..span
            },
        };
        self.tally.add(layout.payload_in(through).into());
        read
    }

    fn expect(&mut self, span: BlockSpan) {
        self.stored.expect(span);
    }
}

/// How the pieces of a turn are.
fn check(
    (info, root): (&Info, &Path),
    hashes: &PieceHashes,
    desk: &mut Desk,
    turn: &Turn,
    tally: &Tally<'_>,
) -> Vec<PieceStatus> {
    let layout = info.layout();
    let pieces = turn.pieces.clone().map(PieceIndex);
    let expected: Vec<_> = pieces.map(|piece| (piece, hashes.get(piece))).collect();
    let known = |(piece, hash): &(PieceIndex, Option<PieceHash>)| {
        Some((*piece, PieceHasher::of(hash.as_ref()?)))
    };
    let group = expected.iter().filter_map(known).collect();
    let Desk { files, slab } = desk;
    let mut open = |index: FileIndex| {
        let path = layout.files()[index.as_usize()].path.as_str();
        let open = || OsBackend.open(Place { root, path }, Access::Read);
        files.file(index, open).cloned()
    };
    let stored = Stored {
        layout,
        open: &mut open,
    };
    let mut reader = Reader { stored, tally };
    let hashed = abreast::hash(layout, group, &turn.ahead(), (&mut reader, slab));
    let mut hashed = hashed.into_iter();
    let judge = |(piece, expected): (PieceIndex, Option<PieceHash>)| {
        let Some(expected) = expected else {
            tally.add(layout.payload_in(layout.piece_span(piece)).into());
            return PieceStatus::Unknown;
        };
        match hashed.next() {
            Some((_, Ok(found))) if is_right(&expected, &found) => PieceStatus::Right,
            Some((_, Ok(_))) => PieceStatus::Wrong,
            Some((_, Err(status))) => status,
            None => PieceStatus::Unknown,
        }
    };
    expected.into_iter().map(judge).collect()
}

fn file_status(info: &Info, root: &Path, index: FileIndex, pieces: &[PieceStatus]) -> FileStatus {
    let layout = info.layout();
    let file = &layout.files()[index.as_usize()];
    let found = match OsBackend.look(Place {
        root,
        path: file.path.as_str(),
    }) {
        Ok(Found::File(stat)) => stat,
        Ok(Found::Nothing) => return FileStatus::Missing,
        Ok(Found::Other(what)) => return FileStatus::NoFile(what),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return FileStatus::Missing,
        Err(error) => return FileStatus::Unreadable(error.to_string()),
    };
    if found.len != file.len {
        return FileStatus::WrongLen { actual: found.len };
    }
    let range = layout.pieces_of(index);
    // A v2 file's own pieces; where v1 pieces are shared, each file with a part in one.
    let own = range
        .map(PieceIndex)
        .filter(|piece| stored_slices(layout, *piece).any(|slice| slice.file == index));
    let statuses: Vec<PieceStatus> = own
        .filter_map(|piece| pieces.get(piece.as_usize()).copied())
        .collect();
    let wrong = statuses
        .iter()
        .filter(|it| matches!(it, PieceStatus::Wrong | PieceStatus::Missing))
        .count();
    if wrong > 0 {
        return FileStatus::WrongPieces(wrong);
    }
    if statuses.contains(&PieceStatus::Unknown) {
        FileStatus::Unknown
    } else {
        FileStatus::Right
    }
}

/// What lies in the torrent's directory and is not its. Links are not followed; what cannot be read is left out.
fn extra_files(info: &Info, root: &Path) -> Vec<PathBuf> {
    if info.is_single_file() {
        return Vec::new();
    }
    let layout = info.layout();
    let known: BTreeSet<PathBuf> = layout
        .files()
        .iter()
        .map(|file| file.path.to_path_buf())
        .collect();
    let (mut extra, mut dirs) = (Vec::new(), vec![(PathBuf::from(info.name()), 0)]);
    while let Some((dir, depth)) = dirs.pop() {
        for entry in std::fs::read_dir(root.join(&dir))
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = dir.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < EXTRA_DEPTH_MAX => {
                    dirs.push((path, depth + 1));
                }
                Ok(kind)
                    if !kind.is_dir()
                        && !known.contains(&path)
                        && extra.len() < EXTRA_FILES_MAX =>
                {
                    extra.push(path);
                }
                _ => {}
            }
        }
    }
    extra.sort();
    extra
}
