//! One file of a torrent.

use riverrun_base::Sha256Digest;

use crate::SafePath;

/// One file of a torrent, in the order of its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it belongs, below the directory into which the torrent is saved. No two files that are
    /// not padding have the same path, and none has that of a directory.
    pub path: SafePath,
    /// The path as it stands in the metadata, the torrent's name first, where `path` differs from
    /// it.
    pub raw_path: Option<Box<[Box<[u8]>]>>,
    /// Its length in bytes; 0 for symlinks.
    pub len: u64,
    /// Where it starts, in bytes, if pieces lie one nominal piece length apart.
    pub offset: u64,
    /// What it is.
    pub kind: FileKind,
    /// It may be run as a program (BEP 47, attribute `x`).
    pub executable: bool,
    /// It is not to be shown (BEP 47, attribute `h`).
    pub hidden: bool,
    /// The root of its merkle tree (BEP 52); v2 files that are not empty have one.
    pub pieces_root: Option<Sha256Digest>,
}

/// What a file is (BEP 47).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Payload.
    Regular,
    /// Zeros between files, so that the next one starts on a piece: never stored, never requested.
    Pad,
    /// A symbolic link to this file or directory of the torrent, given like [`File::path`]. One
    /// whose target is not in the torrent points to itself.
    Symlink(SafePath),
}

impl File {
    /// A regular file of `len` bytes.
    pub fn new(path: SafePath, len: u64) -> Self {
        Self {
            path,
            raw_path: None,
            len,
            offset: 0,
            kind: FileKind::Regular,
            executable: false,
            hidden: false,
            pieces_root: None,
        }
    }

    /// Padding of `len` bytes.
    pub fn pad(path: SafePath, len: u64) -> Self {
        Self {
            kind: FileKind::Pad,
            ..Self::new(path, len)
        }
    }

    /// Whether it is padding.
    pub const fn is_pad(&self) -> bool {
        matches!(self.kind, FileKind::Pad)
    }

    /// Where it ends, on the scale of `offset`.
    pub const fn end(&self) -> u64 {
        self.offset + self.len
    }
}
