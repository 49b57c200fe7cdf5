//! Making torrents: which files in which order, how long the pieces, and from the hashes to the
//! metadata.
//!
//! The reading and hashing of files is for others. A [`Plan`] says what to hash; [`Plan::finish`]
//! takes the hashes.

mod piece_len;
mod plan;
mod write;

use riverrun_base::InfoHash;
use thiserror::Error;

use crate::{HostPort, InfoError, LayoutError, MetaVersion};

pub use plan::{PiecePlan, Plan, TreePlan};

/// The longest piece that can be asked for, in bytes: larger ones cannot be verified block by
/// block, since nobody answers hash requests of more than 8192 hashes.
pub const CREATE_PIECE_LEN_MAX: u32 = 128 << 20;

/// How much the hashes of all pieces may take by default, in bytes: peers fetch them with the
/// metadata, 16 KiB at a time, before the first byte of payload.
pub const HASH_BUDGET_BYTES: u64 = 1 << 20;

/// A file, or symbolic link, that is to be in the torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// The elements of its path below the directory that is shared, as the file system has them;
    /// none if what is shared is this file itself.
    pub path: Vec<Vec<u8>>,
    /// Its length in bytes; ignored for symlinks.
    pub len: u64,
    /// It may be run.
    pub executable: bool,
    /// It is not shown.
    pub hidden: bool,
    /// It is a link: the elements of its target's path below the directory that is shared.
    pub symlink: Option<Vec<Vec<u8>>>,
}

impl SourceFile {
    /// A regular file.
    pub const fn new(path: Vec<Vec<u8>>, len: u64) -> Self {
        Self {
            path,
            len,
            executable: false,
            hidden: false,
            symlink: None,
        }
    }
}

/// How to make a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateOptions {
    /// The name of the file, or of the directory of several, as the file system has it.
    pub name: Vec<u8>,
    /// Which metadata to write.
    pub version: MetaVersion,
    /// How long pieces are, in bytes; `None` chooses by the size of the content. A multiple of 16
    /// KiB; for v2 metadata a power of two.
    pub piece_len: Option<u32>,
    /// How much the hashes of all pieces may take, in bytes, when the length of pieces is chosen.
    pub hash_budget_bytes: u64,
    /// Only peers from the trackers may be used (BEP 27).
    pub private: bool,
    /// Told apart by private trackers.
    pub source: Option<String>,
    /// Torrents that may have some of the same files (BEP 38).
    pub similar: Vec<InfoHash>,
    /// Collections that the torrent belongs to (BEP 38).
    pub collections: Vec<String>,
    /// Trackers, tier by tier (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// Web servers with the files (BEP 19).
    pub web_seeds: Vec<String>,
    /// Scripts that serve pieces (BEP 17).
    pub http_seeds: Vec<String>,
    /// DHT nodes to start from (BEP 5).
    pub nodes: Vec<HostPort>,
    /// A text for people.
    pub comment: Option<String>,
    /// The program that makes the torrent.
    pub created_by: Option<String>,
    /// When, in seconds since 1970.
    pub creation_date: Option<i64>,
}

impl CreateOptions {
    /// A public torrent with this name and metadata, and nothing else.
    pub const fn new(name: Vec<u8>, version: MetaVersion) -> Self {
        Self {
            name,
            version,
            piece_len: None,
            hash_budget_bytes: HASH_BUDGET_BYTES,
            private: false,
            source: None,
            similar: Vec::new(),
            collections: Vec::new(),
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            http_seeds: Vec::new(),
            nodes: Vec::new(),
            comment: None,
            created_by: None,
            creation_date: None,
        }
    }
}

/// Why no torrent can be made of some files.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// There are none.
    #[error("there are no files")]
    NoFiles,
    /// The torrent has no name, or one that is no path element.
    #[error("{:?} is no name for a torrent", .0.escape_ascii().to_string())]
    InvalidName(Vec<u8>),
    /// A path has an element that is none: empty, `.`, `..`, or with a `/`. Or one of several files
    /// has no path.
    #[error("{0:?} is no path of a file")]
    InvalidPath(String),
    /// A path is there twice, or is that of a file and of a directory.
    #[error("the path {0:?} is there twice")]
    DuplicatePath(String),
    /// The piece length is none for these files and this metadata.
    #[error(
        "the piece length {0} is not a multiple of 16384 (for v2 a power of two) up to {CREATE_PIECE_LEN_MAX}"
    )]
    PieceLength(u32),
    /// The files make no torrent.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The names collide once they are made safe.
    #[error(transparent)]
    Info(#[from] InfoError),
}

/// Hashes that do not fit their plan.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FinishError {
    /// There are not as many v1 hashes as pieces.
    #[error("{actual} v1 hashes where {expected} are due")]
    V1Count {
        /// How many there are.
        actual: usize,
        /// How many there must be.
        expected: usize,
    },
    /// There are not as many v2 hashes of a file as it has pieces, or not as many lists as files.
    #[error("the number of v2 hashes is not that of the pieces of each file")]
    V2Count,
    /// The metadata is not what a downloader would accept: an error of this crate.
    #[error(transparent)]
    Info(#[from] InfoError),
}
