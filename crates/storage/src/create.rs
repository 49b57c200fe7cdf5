//! Making a torrent of files: finding them, and hashing them in one pass.
//!
//! [`walk`] gives the files, [`Plan::new`] lays them out, [`hash`] reads them and gives the torrent.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io;
use std::num::NonZero;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use riverrun_base::{BlockSpan, FileIndex, PieceIndex, Sha1Digest, Sha256Digest};
use riverrun_metainfo::create::{FinishError, Plan, SourceFile, TreePlan};
use riverrun_metainfo::{Metainfo, merkle};
use rustix::fs::OFlags;
use thiserror::Error;

use crate::abreast::{self, Slab, Source};
use crate::judge::{Hashed, PieceHasher};
use crate::os::will_read;
use crate::pass::{self, Tally, Turn, Turns, Watch};
use crate::recent::Recent;
use crate::span::long_slices;

/// The most files that are taken: the tokens of a torrent file are limited to three million.
pub const FILES_MAX: usize = 500_000;
/// The deepest directory that is entered: each level is one of a nested file tree, which may have 100.
pub const DEPTH_MAX: usize = 64;

/// Which files to take.
#[derive(Clone, Copy)]
pub struct WalkOptions<'a> {
    /// Take files and directories whose name begins with a dot.
    pub hidden: bool,
    /// Asked for each file and directory with its path below the one that is walked: whether to leave it out.
    pub exclude: &'a dyn Fn(&Path) -> bool,
}

impl std::fmt::Debug for WalkOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WalkOptions(hidden: {})", self.hidden)
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// The files, for [`Plan::new`]. Symbolic links are followed, as the largest client does by default: a link to
    /// a file is that file, a link to a directory that directory.
    pub sources: Vec<SourceFile>,
    /// What is neither file nor directory, and was left out.
    pub skipped: Vec<PathBuf>,
}

/// Why files cannot be found.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WalkError {
    /// The operating system says no.
    #[error("cannot read {path}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// A name that others could not read: torrents have UTF-8 (BEP 3).
    #[error("the name \"{0}\" is not valid UTF-8: rename it or exclude it")]
    NotUtf8(String),
    /// A link leads to a directory in which it lies.
    #[error("{0} is a link that leads back to a directory around it")]
    Loop(PathBuf),
    /// Directories are too deep.
    #[error("{0} is more than {DEPTH_MAX} directories deep")]
    TooDeep(PathBuf),
    /// There are too many files.
    #[error("more than {FILES_MAX} files")]
    TooMany,
}

/// Why a torrent is not made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HashError {
    /// The operating system says no.
    #[error("cannot read {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// A file is not what it was when the pass began.
    #[error("{0} changed while it was read")]
    Changed(PathBuf),
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The hashes make no torrent.
    #[error(transparent)]
    Finish(#[from] FinishError),
}

/// Finds the files at `path`: the one file that it is, or all below the directory that it is.
pub fn walk(path: &Path, options: WalkOptions<'_>) -> Result<Walked, WalkError> {
    let metadata = std::fs::metadata(path).map_err(|source| unreadable(path, source))?;
    let mut walked = Walked::default();
    if metadata.is_dir() {
        let mut above = vec![(metadata.dev(), metadata.ino())];
        walk_dir(path, &mut Vec::new(), &mut above, options, &mut walked)?;
    } else if metadata.is_file() {
        walked.sources.push(source_file(Vec::new(), &metadata));
    } else {
        walked.skipped.push(path.to_owned());
    }
    Ok(walked)
}

/// `elements` are the names from the first directory to `dir`, `above` the directories themselves.
fn walk_dir(
    dir: &Path,
    elements: &mut Vec<Vec<u8>>,
    above: &mut Vec<(u64, u64)>,
    options: WalkOptions<'_>,
    walked: &mut Walked,
) -> Result<(), WalkError> {
    if elements.len() >= DEPTH_MAX {
        return Err(WalkError::TooDeep(dir.to_owned()));
    }
    for entry in std::fs::read_dir(dir).map_err(|source| unreadable(dir, source))? {
        let entry = entry.map_err(|source| unreadable(dir, source))?;
        let (name, path) = (entry.file_name(), entry.path());
        if !options.hidden && name.as_bytes().starts_with(b".") {
            continue;
        }
        elements.push(name.into_vec());
        let below: PathBuf = elements
            .iter()
            .map(|name| std::ffi::OsStr::from_bytes(name))
            .collect();
        if !(options.exclude)(&below) {
            take_entry(&path, elements, above, options, walked)?;
        }
        elements.pop();
    }
    Ok(())
}

fn take_entry(
    path: &Path,
    elements: &mut Vec<Vec<u8>>,
    above: &mut Vec<(u64, u64)>,
    options: WalkOptions<'_>,
    walked: &mut Walked,
) -> Result<(), WalkError> {
    if let Some(name) = elements
        .last()
        .filter(|name| std::str::from_utf8(name).is_err())
    {
        return Err(WalkError::NotUtf8(name.escape_ascii().to_string()));
    }
    let metadata = std::fs::metadata(path).map_err(|source| unreadable(path, source))?;
    if metadata.is_dir() {
        let id = (metadata.dev(), metadata.ino());
        if above.contains(&id) {
            return Err(WalkError::Loop(path.to_owned()));
        }
        above.push(id);
        walk_dir(path, elements, above, options, walked)?;
        above.pop();
    } else if metadata.is_file() {
        if walked.sources.len() == FILES_MAX {
            return Err(WalkError::TooMany);
        }
        walked
            .sources
            .push(source_file(elements.clone(), &metadata));
    } else {
        walked.skipped.push(path.to_owned());
    }
    Ok(())
}

fn source_file(path: Vec<Vec<u8>>, metadata: &Metadata) -> SourceFile {
    let executable = metadata.permissions().mode() & 0o100 != 0;
    SourceFile {
        executable,
        ..SourceFile::new(path, metadata.len())
    }
}

fn unreadable(path: &Path, source: io::Error) -> WalkError {
    WalkError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Hashes the files of a plan, which are at `path`, in one pass on `threads` threads: v1 and v2 at the same time.
pub fn hash(
    path: &Path,
    plan: &Plan,
    threads: NonZero<usize>,
    watch: Watch<'_>,
) -> Result<Metainfo, HashError> {
    let sources = Sources { path, plan };
    let before = sources.stamps()?;
    let tally = Tally::new(watch, plan.layout().payload_len());
    let turns = Turns::new(plan.layout(), threads);
    let hashed = pass::run(&turns, threads, &tally, |desk: &mut Desk, turn| {
        sources.hash(desk, turn, &tally)
    })?;
    if tally.is_cancelled() || hashed.len() < plan.layout().piece_count() as usize {
        return Err(HashError::Cancelled);
    }
    if let Some((index, _)) = before
        .iter()
        .find(|(index, stamp)| sources.stamp(**index).ok() != Some(**stamp))
    {
        return Err(HashError::Changed(sources.path_of(*index)));
    }
    let (v1, v2) = collect(plan, hashed);
    Ok(plan.finish(&v1, v2)?)
}

/// The hashes of one piece: its SHA-1, and its root with the file that it is of.
struct PieceHashed {
    v1: Option<Sha1Digest>,
    v2: Option<(FileIndex, Sha256Digest)>,
}

/// The files of a plan.
struct Sources<'a> {
    path: &'a Path,
    plan: &'a Plan,
}

/// What a thread works with.
#[derive(Default)]
struct Desk {
    files: Recent<File>,
    slab: Slab,
}

/// Reads for one thread.
struct Reader<'a> {
    sources: &'a Sources<'a>,
    files: &'a mut Recent<File>,
    tally: &'a Tally<'a>,
}

/// What shows that a file was changed.
type Stamp = (u64, u64, u64, i64, i64);

impl Sources<'_> {
    fn path_of(&self, index: FileIndex) -> PathBuf {
        let elements = self
            .plan
            .source(index)
            .map(|source| source.path.as_slice())
            .unwrap_or_default();
        let mut path = self.path.to_owned();
        path.extend(
            elements
                .iter()
                .map(|name| std::ffi::OsStr::from_bytes(name)),
        );
        path
    }

    fn unreadable(&self, index: FileIndex, source: io::Error) -> HashError {
        HashError::Io {
            path: self.path_of(index),
            source,
        }
    }

    fn stamp(&self, index: FileIndex) -> Result<Stamp, HashError> {
        let metadata = std::fs::metadata(self.path_of(index));
        let it = metadata.map_err(|source| self.unreadable(index, source))?;
        Ok((it.dev(), it.ino(), it.len(), it.mtime(), it.mtime_nsec()))
    }

    /// How the files are before they are read, which must be as they were found.
    fn stamps(&self) -> Result<BTreeMap<FileIndex, Stamp>, HashError> {
        let mut stamps = BTreeMap::new();
        let files = (0..).map(FileIndex).zip(self.plan.layout().files());
        for (index, file) in files.filter(|(index, _)| self.is_read(*index)) {
            let stamp = self.stamp(index)?;
            if stamp.2 != file.len {
                return Err(HashError::Changed(self.path_of(index)));
            }
            stamps.insert(index, stamp);
        }
        Ok(stamps)
    }

    fn is_read(&self, index: FileIndex) -> bool {
        self.plan
            .source(index)
            .is_some_and(|source| source.symlink.is_none())
    }

    fn hash(
        &self,
        desk: &mut Desk,
        turn: &Turn,
        tally: &Tally<'_>,
    ) -> Result<Vec<PieceHashed>, HashError> {
        let wanted = |piece| {
            // Invariant: the turns are those of this plan's pieces.
            self.plan.piece(piece).expect("the piece is in the plan")
        };
        let hasher = |piece| {
            let wanted = wanted(piece);
            let tree_len = wanted.v2.map_or(0, |tree| tree.len);
            (piece, PieceHasher::new(wanted.v1, tree_len))
        };
        let group = turn.pieces.clone().map(PieceIndex).map(hasher).collect();
        let mut reader = Reader {
            sources: self,
            files: &mut desk.files,
            tally,
        };
        let work = (&mut reader, &mut desk.slab);
        let hashed = abreast::hash(self.plan.layout(), group, &turn.ahead(), work);
        let finish = |(piece, hashed): (PieceIndex, Result<Hashed, HashError>)| {
            let (v1, leaves) = hashed?;
            let root = |tree: TreePlan| (tree.file, merkle::root_of(&leaves, tree.leaves));
            let v2 = wanted(piece).v2.map(root);
            Ok(PieceHashed { v1, v2 })
        };
        hashed.into_iter().map(finish).collect()
    }

    /// Without `NONBLOCK`, a fifo that took the file's place would be waited for.
    fn open(&self, index: FileIndex) -> io::Result<File> {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let mut options = File::options();
        let options = options.read(true).custom_flags(flags);
        options.open(self.path_of(index))
    }
}

impl Source for Reader<'_> {
    type Error = HashError;

    fn read(&mut self, span: BlockSpan, out: &mut [u8]) -> Result<(), HashError> {
        if self.tally.is_cancelled() {
            return Err(HashError::Cancelled);
        }
        let Self { sources, files, .. } = self;
        let mut rest = out;
        for slice in sources.plan.layout().slices(span) {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(slice.len as usize);
            rest = after;
            if !sources.is_read(slice.file) {
                part.fill(0);
                continue;
            }
            let file = files.file(slice.file, || sources.open(slice.file));
            let read = file.and_then(|file| file.read_exact_at(part, slice.offset));
            match read {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(HashError::Changed(sources.path_of(slice.file)));
                }
                read => read.map_err(|source| sources.unreadable(slice.file, source))?,
            }
        }
        let payload = sources.plan.layout().payload_in(span);
        self.tally.add(payload.into());
        Ok(())
    }

    fn expect(&mut self, span: BlockSpan) {
        let Self { sources, files, .. } = self;
        for slice in long_slices(sources.plan.layout(), span) {
            if sources.is_read(slice.file)
                && let Ok(file) = files.file(slice.file, || sources.open(slice.file))
            {
                will_read(file, slice.offset, slice.len.into());
            }
        }
    }
}

/// The hashes as [`Plan::finish`] takes them.
fn collect(plan: &Plan, hashed: Vec<PieceHashed>) -> (Vec<Sha1Digest>, Vec<Vec<Sha256Digest>>) {
    let has_v2 = hashed.iter().any(|hashes| hashes.v2.is_some());
    let mut v2 = if has_v2 {
        vec![Vec::new(); plan.layout().files().len()]
    } else {
        Vec::new()
    };
    let mut v1 = Vec::new();
    for hashes in hashed {
        v1.extend(hashes.v1);
        if let Some((file, root)) = hashes.v2 {
            v2[file.as_usize()].push(root);
        }
    }
    (v1, v2)
}
