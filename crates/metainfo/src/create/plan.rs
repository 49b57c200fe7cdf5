//! What to hash.

use std::sync::Arc;

use riverrun_base::{FileIndex, PieceIndex, Sha1Digest, Sha256Digest};

use super::{CreateOptions, FinishError, PlanError, SourceFile, piece_len, write};
use crate::info::{duplicates, hybrid, symlinks};
use crate::{
    File, FileKind, Info, Layout, MetaVersion, Metainfo, PieceLayer, PieceLayers, SafePath,
    Spacing, merkle,
};

/// The files of a torrent to be, in order, and their pieces.
///
/// The order is that of the v2 file tree, whatever the metadata, so that v1, v2 and hybrid torrents
/// of the same files agree. Hybrid torrents of several files get padding after each, the last
/// included, as the reference creator of BEP 52 does it; a single file gets none.
#[derive(Clone, Debug)]
pub struct Plan {
    options: CreateOptions,
    sources: Vec<SourceFile>,
    /// For each file of the layout, which source it is; padding is none.
    source_of: Vec<Option<usize>>,
    layout: Arc<Layout>,
    hashes_len: u64,
}

/// What to hash of one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PiecePlan {
    /// The SHA-1 of all its bytes, padding included as zeros, is wanted.
    pub v1: bool,
    /// The root of a merkle tree is wanted.
    pub v2: Option<TreePlan>,
}

/// The merkle tree over the blocks of one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreePlan {
    /// The file whose bytes it covers.
    pub file: FileIndex,
    /// How many leaves it has, a power of two; those without a block are zeros.
    pub leaves: u32,
    /// How many bytes of the piece, from its start, it covers.
    pub len: u32,
}

impl Plan {
    /// Orders the files and chooses the piece length.
    pub fn new(mut sources: Vec<SourceFile>, options: CreateOptions) -> Result<Self, PlanError> {
        check_names(&sources, &options.name)?;
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        check_conflicts(&sources)?;
        let lens: Vec<u64> = sources.iter().map(SourceFile::payload_len).collect();
        let piece_len = match options.piece_len {
            Some(piece_len) => piece_len::checked(piece_len, options.version)?,
            None => piece_len::chosen(&lens, &options),
        };
        let (layout, source_of) = lay_out(&sources, &options, piece_len)?;
        let hashes_len = piece_len::hashes_len(&lens, piece_len, options.version);
        Ok(Self {
            options,
            sources,
            source_of,
            layout: Arc::new(layout),
            hashes_len,
        })
    }

    /// The layout of the torrent. Its files have no roots yet.
    pub const fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The source of a file of the layout; padding has none.
    pub fn source(&self, file: FileIndex) -> Option<&SourceFile> {
        self.source_of
            .get(file.as_usize())
            .copied()
            .flatten()
            .map(|index| &self.sources[index])
    }

    /// How many bytes the hashes of all pieces will take.
    pub const fn hashes_len(&self) -> u64 {
        self.hashes_len
    }

    /// Whether the hashes take more than was asked for: no piece length that may be chosen makes
    /// them fit.
    pub const fn exceeds_budget(&self) -> bool {
        self.hashes_len > self.options.hash_budget_bytes
    }

    /// The files whose names downloaders will change to make them safe: they are no UTF-8, or too
    /// long, or have characters that disguise them.
    pub fn altered_names(&self) -> impl Iterator<Item = &File> + '_ {
        self.layout
            .files()
            .iter()
            .filter(|file| file.raw_path.is_some())
    }

    /// What to hash of `piece`; `None` past the end.
    pub fn piece(&self, piece: PieceIndex) -> Option<PiecePlan> {
        let span = self.layout.piece_span(piece);
        let first = self.layout.slices(span).next()?;
        let file = self.layout.file(first.file)?;
        let leaves = |len: u64| {
            let blocks = merkle::width_of(len.min(self.layout.nominal_piece_len().into()));
            u32::try_from(blocks).unwrap_or(u32::MAX)
        };
        let tree = TreePlan {
            file: first.file,
            leaves: leaves(file.len),
            len: first.len,
        };
        let (v1, v2) = (
            self.options.version != MetaVersion::V2,
            self.options.version != MetaVersion::V1,
        );
        Some(PiecePlan {
            v1,
            v2: v2.then_some(tree),
        })
    }

    /// The torrent, from the hashes of all pieces.
    ///
    /// `v1` has one hash a piece, and is empty for v2 metadata alone. `v2` has a list for each file
    /// of the layout, of the [tree](PiecePlan::v2) roots of its pieces in order: empty for padding,
    /// symlinks and empty files; it has no lists at all for v1 metadata alone.
    pub fn finish(
        &self,
        v1: &[Sha1Digest],
        v2: Vec<Vec<Sha256Digest>>,
    ) -> Result<Metainfo, FinishError> {
        let pieces = self.layout.piece_count() as usize;
        let expected = if self.options.version == MetaVersion::V2 {
            0
        } else {
            pieces
        };
        if v1.len() != expected {
            return Err(FinishError::V1Count {
                actual: v1.len(),
                expected,
            });
        }
        let (roots, layers) = self.trees(v2)?;
        let entries: Vec<_> = (0..)
            .map(FileIndex)
            .zip(self.layout.files())
            .zip(&roots)
            .map(|((index, file), root)| write::Entry {
                source: self.source(index),
                len: file.len,
                root: *root,
            })
            .collect();
        let info = write::info(&self.options, self.layout.nominal_piece_len(), &entries, v1);
        let mut metainfo = Metainfo::new(Arc::new(Info::from_bytes(&info)?), layers);
        self.describe(&mut metainfo);
        Ok(metainfo)
    }

    /// The root of each file, and the layers of those with more than one piece.
    fn trees(
        &self,
        v2: Vec<Vec<Sha256Digest>>,
    ) -> Result<(Vec<Option<Sha256Digest>>, PieceLayers), FinishError> {
        let files = self.layout.files();
        if self.options.version == MetaVersion::V1 {
            return if v2.is_empty() {
                Ok((vec![None; files.len()], PieceLayers::new()))
            } else {
                Err(FinishError::V2Count)
            };
        }
        if v2.len() != files.len() {
            return Err(FinishError::V2Count);
        }
        let mut layers = PieceLayers::new();
        let mut roots = Vec::with_capacity(files.len());
        for ((index, file), hashes) in (0..).map(FileIndex).zip(files).zip(v2) {
            let pieces = if file.is_pad() {
                0
            } else {
                self.layout.pieces_of(index).len()
            };
            if hashes.len() != pieces {
                return Err(FinishError::V2Count);
            }
            roots.push(match hashes.as_slice() {
                [] => None,
                [root] => Some(*root),
                _ => {
                    let layer = PieceLayer::new(hashes.into(), self.layout.nominal_piece_len());
                    let root = layer.root();
                    layers.insert(root, Arc::new(layer));
                    Some(root)
                }
            });
        }
        Ok((roots, layers))
    }

    /// Sets all that stands around the info dictionary.
    fn describe(&self, metainfo: &mut Metainfo) {
        let options = self.options.clone();
        metainfo.trackers = options.trackers;
        metainfo.web_seeds = options.web_seeds;
        metainfo.http_seeds = options.http_seeds;
        metainfo.nodes = options.nodes;
        metainfo.comment = options.comment;
        metainfo.created_by = options.created_by;
        metainfo.creation_date = options.creation_date;
    }
}

impl SourceFile {
    /// Its length; links have none.
    fn payload_len(&self) -> u64 {
        if self.symlink.is_some() { 0 } else { self.len }
    }

    fn display_path(&self) -> String {
        String::from_utf8_lossy(&self.path.join(&b'/')).into_owned()
    }

    fn has_valid_path(&self) -> bool {
        let target = self.symlink.iter().flatten();
        self.path
            .iter()
            .chain(target)
            .all(|element| is_element(element))
    }
}

fn is_element(element: &[u8]) -> bool {
    !matches!(element, b"" | b"." | b"..") && !element.contains(&b'/') && !element.contains(&0)
}

fn check_names(sources: &[SourceFile], name: &[u8]) -> Result<(), PlanError> {
    if !is_element(name) || SafePath::from_name(name).is_none() {
        return Err(PlanError::InvalidName(name.to_vec()));
    }
    if sources.is_empty() {
        return Err(PlanError::NoFiles);
    }
    let misplaced = |source: &&SourceFile| source.path.is_empty() && sources.len() > 1;
    match sources
        .iter()
        .find(|source| misplaced(source) || !source.has_valid_path())
    {
        Some(source) => Err(PlanError::InvalidPath(source.display_path())),
        None => Ok(()),
    }
}

/// Invariant: `sources` are sorted, so that what is in a directory of a file's name follows that
/// file.
fn check_conflicts(sources: &[SourceFile]) -> Result<(), PlanError> {
    let conflict = sources
        .windows(2)
        .find(|pair| pair[1].path.starts_with(&pair[0].path));
    conflict.map_or(Ok(()), |pair| {
        Err(PlanError::DuplicatePath(pair[0].display_path()))
    })
}

fn lay_out(
    sources: &[SourceFile],
    options: &CreateOptions,
    piece_len: u32,
) -> Result<(Layout, Vec<Option<usize>>), PlanError> {
    // The tree of v2 metadata cannot tell a directory of one file from that file (BEP 52, "file
    // tree").
    let is_bare =
        options.version == MetaVersion::V2 && matches!(sources, [only] if only.path.len() == 1);
    let root = (!is_bare).then_some(options.name.as_slice());
    let mut files = sources
        .iter()
        .map(|source| file(source, root))
        .collect::<Result<Vec<_>, _>>()?;
    symlinks::resolve(&mut files);
    duplicates::rename(&mut files)?;
    if options.version == MetaVersion::Hybrid && files.len() > 1 {
        files = hybrid::padded(files, piece_len);
    }
    let mut numbers = 0..;
    let source_of = files
        .iter()
        .map(|file| if file.is_pad() { None } else { numbers.next() })
        .collect();
    let spacing = if options.version == MetaVersion::V2 {
        Spacing::PieceAligned
    } else {
        Spacing::Packed
    };
    Ok((Layout::new(files, piece_len, spacing)?, source_of))
}

fn file(source: &SourceFile, root: Option<&[u8]>) -> Result<File, PlanError> {
    let invalid = || PlanError::InvalidPath(source.display_path());
    let elements: Vec<&[u8]> = root
        .into_iter()
        .chain(source.path.iter().map(Vec::as_slice))
        .collect();
    let path = SafePath::from_elements(elements.iter().copied()).ok_or_else(invalid)?;
    let kind = match &source.symlink {
        None => FileKind::Regular,
        Some(target) => {
            let target = SafePath::from_elements(target.iter().map(Vec::as_slice));
            target.map_or(FileKind::Regular, FileKind::Symlink)
        }
    };
    let raw_path = path.raw_if_different(&elements);
    let (executable, hidden) = (source.executable, source.hidden);
    Ok(File {
        raw_path,
        kind,
        executable,
        hidden,
        ..File::new(path, source.payload_len())
    })
}
