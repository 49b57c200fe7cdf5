//! Holding the files in a directory against a torrent, without changing anything.

use std::collections::BTreeSet;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use riverrun_base::{FileIndex, PieceIndex};
use riverrun_metainfo::{Info, PieceHashes};

use crate::backend::{Access, Backend as _, Found, Place, RawFile};
use crate::judge::Judge;
use crate::os::OsBackend;
use crate::pass::{self, Tally, Watch};
use crate::span::{read_piece, stored_slices};
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
    let each = |open: &mut Open, piece| {
        let status = check(info, hashes, root, open, piece);
        tally.add(layout.payload_in(layout.piece_span(piece)).into());
        Ok::<_, Cancelled>(status)
    };
    let checked = pass::run(layout.piece_count(), threads, &tally, each)?;
    if tally.is_cancelled() || checked.len() < layout.piece_count() as usize {
        return Err(Cancelled);
    }
    let pieces: Vec<PieceStatus> = checked.into_iter().map(|(_, status)| status).collect();
    let files = stored_files(layout)
        .map(|(index, _)| (index, file_status(info, root, index, &pieces)))
        .collect();
    Ok(Report {
        pieces,
        files,
        extra: extra_files(info, root),
    })
}

/// The file that a thread read last.
#[derive(Default)]
struct Open(Option<(FileIndex, Arc<dyn RawFile>)>);

fn check(
    info: &Info,
    hashes: &PieceHashes,
    root: &Path,
    open: &mut Open,
    piece: PieceIndex,
) -> PieceStatus {
    let layout = info.layout();
    let Some(hash) = hashes.get(piece) else {
        return PieceStatus::Unknown;
    };
    let mut judge = Judge::new(hash);
    let mut open = |index: FileIndex| {
        if let Some((_, file)) = open.0.as_ref().filter(|(last, _)| *last == index) {
            return Ok(file.clone());
        }
        let path = layout.files()[index.as_usize()].path.as_str();
        let file = OsBackend.open(Place { root, path }, Access::Read)?;
        open.0 = Some((index, file.clone()));
        io::Result::Ok(file)
    };
    match read_piece(layout, piece, &mut open, &mut |blocks| judge.update(blocks)) {
        Err(_) => PieceStatus::Missing,
        Ok(()) if judge.passes() => PieceStatus::Right,
        Ok(()) => PieceStatus::Wrong,
    }
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
