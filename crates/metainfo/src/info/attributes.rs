//! What v1 and v2 file entries have in common: attributes, symlink targets, lengths.

use riverrun_base::BLOCK_LEN;
use riverrun_bencode::{Dict, List};

use super::InfoError;
use crate::SafePath;

/// The most elements of a path: as in libtorrent; no file system nests so deeply in earnest.
pub(super) const PATH_ELEMENTS_MAX: usize = 100;
/// The most blocks of a file: as in libtorrent, whose merkle trees have no more leaves.
const FILE_BLOCKS_MAX: u64 = (1 << 30) - 1;

/// The attributes of BEP 47.
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent flags of the format"
)]
#[derive(Clone, Copy)]
pub(super) struct Attributes {
    pub(super) executable: bool,
    pub(super) hidden: bool,
    pub(super) pad: bool,
    pub(super) symlink: bool,
}

impl Attributes {
    /// From the key `attr`; letters that are unknown mean nothing.
    pub(super) fn of(entry: Dict<'_, '_>) -> Self {
        let letters = entry
            .get(b"attr")
            .and_then(|attr| attr.as_bytes())
            .unwrap_or_default();
        Self {
            executable: letters.contains(&b'x'),
            hidden: letters.contains(&b'h'),
            pad: letters.contains(&b'p'),
            symlink: letters.contains(&b'l'),
        }
    }

    /// The length of the file. Symlinks have none, whatever they say.
    pub(super) fn len(self, entry: Dict<'_, '_>) -> Result<u64, InfoError> {
        if self.symlink {
            return Ok(0);
        }
        let len = entry.get(b"length").and_then(|len| len.as_u64());
        len.filter(|len| len / u64::from(BLOCK_LEN) < FILE_BLOCKS_MAX)
            .ok_or(InfoError::InvalidLength)
    }

    /// The target of a symlink, relative to the torrent's directory; `None` for other files and
    /// without one. Elements `.` and `..`, which BEP 47 forbids, are left out.
    pub(super) fn symlink_target(self, entry: Dict<'_, '_>) -> Result<Option<SafePath>, InfoError> {
        let target = entry
            .get(b"symlink path")
            .and_then(|target| target.as_list())
            .filter(|_| self.symlink);
        let Some(target) = target else {
            return Ok(None);
        };
        let elements = path_elements(target)?;
        let named = elements
            .into_iter()
            .filter(|element| !matches!(*element, b"." | b".."));
        Ok(SafePath::from_elements(named))
    }
}

/// The elements of a path, as they stand.
pub(super) fn path_elements<'src>(path: List<'_, 'src>) -> Result<Vec<&'src [u8]>, InfoError> {
    let elements: Vec<_> = path
        .iter()
        .take(PATH_ELEMENTS_MAX + 1)
        .map(|element| element.as_bytes().ok_or(InfoError::InvalidPath))
        .collect::<Result<_, _>>()?;
    if elements.len() > PATH_ELEMENTS_MAX {
        return Err(InfoError::DirectoryTooDeep(PATH_ELEMENTS_MAX));
    }
    Ok(elements)
}
