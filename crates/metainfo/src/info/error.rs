//! Why an info dictionary is refused.

use riverrun_bencode::ParseError;
use thiserror::Error;

use crate::LayoutError;

/// What is wrong with an info dictionary.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InfoError {
    /// It is not bencode.
    #[error("the info dictionary is not bencode: {0}")]
    Bencode(#[from] ParseError),
    /// It is no dictionary.
    #[error("info is not a dictionary")]
    NotADictionary,
    /// A dictionary in it has a key twice.
    #[error("the key {:?} appears twice in one dictionary", .0.escape_ascii().to_string())]
    DuplicateKey(Box<[u8]>),
    /// A v2 info dictionary has keys out of order (BEP 52 wants it to be canonical).
    #[error("keys of a v2 info dictionary are out of order")]
    Unsorted,
    /// The `meta version` is one that we do not know.
    #[error("unknown meta version {0}")]
    UnknownVersion(i64),
    /// There is a v2 file tree, but no `meta version` of 2.
    #[error("a file tree without meta version 2")]
    MissingVersion,
    /// The piece length is missing or no number.
    #[error("the piece length is missing")]
    MissingPieceLength,
    /// The piece length is out of range, or, in a v2 torrent, no power of two from 16 KiB on.
    #[error("{0} is no piece length")]
    InvalidPieceLength(i64),
    /// There is no name, or nothing is left of it when it is made safe.
    #[error("the name is missing")]
    MissingName,
    /// A v1 file has no path.
    #[error("file {0} has no path")]
    MissingPath(usize),
    /// An element of a path is no byte string.
    #[error("a path element is not a byte string")]
    InvalidPath,
    /// A path has too many elements.
    #[error("a path of more than {0} elements")]
    DirectoryTooDeep(usize),
    /// The length of a file is missing, negative or too large.
    #[error("the length of a file is missing, negative or too large")]
    InvalidLength,
    /// The list of files is empty.
    #[error("there are no files in the torrent")]
    NoFiles,
    /// An entry of the v1 list of files is no dictionary.
    #[error("an entry of the list of files is not a dictionary")]
    InvalidFile,
    /// A v2 torrent has no file tree.
    #[error("the file tree is missing")]
    MissingFileTree,
    /// A node of the v2 file tree is no dictionary, or has no name.
    #[error("a node of the file tree is not a dictionary, or has no name")]
    InvalidFileTree,
    /// A file of the v2 tree claims to be padding.
    #[error("a pad file in the v2 file tree")]
    PadInFileTree,
    /// A v2 file that is not empty has no merkle root.
    #[error("the pieces root of a file is missing or wrong")]
    MissingPiecesRoot,
    /// The v1 and v2 parts of a hybrid torrent describe different files.
    #[error("the v1 and v2 files of the torrent differ")]
    InconsistentFiles,
    /// Too many names collide; each rename that collides again counts.
    #[error("more than {0} file names collide")]
    TooManyDuplicates(u32),
    /// The v1 hashes are missing.
    #[error("the hashes of the pieces are missing")]
    MissingPieces,
    /// The v1 hashes are not as many as the pieces.
    #[error("{actual} bytes of piece hashes where {expected} are due")]
    InvalidPieces {
        /// How many bytes there are.
        actual: usize,
        /// How many there must be.
        expected: usize,
    },
    /// The files make no torrent.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}
