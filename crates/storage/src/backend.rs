//! The file operations that storage is built on, and nothing more: what a simulated disk has to offer.
//!
//! All paths are relative to a root directory, their elements are separated by `/`, and none of them leads out of
//! the root: an implementation follows no symbolic link below it. Errors are the operating system's, so that
//! whoever reports them can say what it says.

use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A path below a root directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The root directory, absolute.
    pub(crate) root: &'a Path,
    /// Sanitised elements, separated by `/`; empty for the root itself.
    pub(crate) path: &'a str,
}

/// What the operating system knows of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStat {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) len: u64,
    /// When it was last written to, in nanoseconds since 1970; saturates.
    pub(crate) modified_ns: i64,
    /// When anything about it was last changed, in nanoseconds since 1970; saturates. No program can set it.
    pub(crate) changed_ns: i64,
    /// How many names it has; none if it is only open any more.
    pub(crate) links: u64,
}

impl FileStat {
    /// Whether it has more than one name.
    pub(crate) const fn is_linked(&self) -> bool {
        self.links > 1
    }

    /// Whether the file, now `now`, has the contents that it had, as far as its state tells. The number of a device
    /// may be another after a restart. To give a file one more name, or take one from it, moves the time of change
    /// too, and touches no contents: that is what those do who sort what they have downloaded.
    pub(crate) const fn is_intact(&self, now: &Self) -> bool {
        let is_same =
            self.inode == now.inode && self.len == now.len && self.modified_ns == now.modified_ns;
        let was_named = self.links != now.links && now.links > 0;
        is_same && (self.changed_ns == now.changed_ns || was_named)
    }
}

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    File(FileStat),
    /// Something that is no regular file, or on the way to it something that is no directory.
    Other(&'static str),
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// To read; it exists.
    Read,
    /// To read and write; it exists.
    Write,
    /// To read and write; it must not exist, its directories are made.
    Create,
}

/// A file system.
pub(crate) trait Backend: Send + Sync {
    /// Which device the root directory lies on; `None` if it is not there.
    fn device(&self, root: &Path) -> io::Result<Option<u64>>;
    /// Makes the root directory, and those above it, if need be, and makes that durable.
    fn make_root(&self, root: &Path) -> io::Result<()>;
    /// Looks without opening.
    fn look(&self, at: Place<'_>) -> io::Result<Found>;
    /// Opens a regular file; anything else is an error, and none of it blocks.
    fn open(&self, at: Place<'_>, access: Access) -> io::Result<Arc<dyn RawFile>>;
    /// Puts the file at `from` in the place of the one at `to`.
    fn rename(&self, root: &Path, from: &str, to: &str) -> io::Result<()>;
    /// Removes a name of a file; fine if there is none.
    fn remove(&self, at: Place<'_>) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, at: Place<'_>) -> io::Result<()>;
    /// Makes all durable that is on the file system of the root directory. [`io::ErrorKind::Unsupported`] if it cannot.
    fn sync_all(&self, root: &Path) -> io::Result<()>;
    /// How many bytes we could still write below the root.
    fn free_bytes(&self, root: &Path) -> io::Result<u64>;
}

/// An open file.
pub(crate) trait RawFile: Send + Sync {
    fn stat(&self) -> io::Result<FileStat>;
    /// Reads as much as there is, up to the length of `bytes`; less only at the end of the file.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Reads into one part after the other; may read less than there is, as one call of the kernel does.
    fn read_vectored_at(&self, parts: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize>;
    /// These bytes will be read soon: a disk may begin, without being waited for.
    fn expect(&self, offset: u64, len: u64);
    /// Writes some of the bytes: at least one, or it is an error.
    fn write_at(&self, bytes: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Takes room on the disk for the first `len` bytes, for good. [`io::ErrorKind::Unsupported`] if it cannot.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes the contents and the length durable, not the name.
    fn sync_data(&self) -> io::Result<()>;
    /// The next run of bytes, from `offset`, that is not a hole; all to the end if holes are not known.
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>>;
    /// Takes the file for this handle; false if another has it, in this process or another.
    fn try_lock(&self) -> io::Result<bool>;
    /// Forgets what is cached of the file, so that the next read asks the disk.
    fn drop_cache(&self) -> io::Result<()>;
}

/// The most slices that one write takes: the kernel's own limit, `IOV_MAX`.
pub(crate) const WRITE_SLICES_MAX: usize = 1024;

/// Writes all of `parts`, one after the other, in as few calls as the backend takes.
pub(crate) fn write_all(
    file: &dyn RawFile,
    mut parts: &[&[u8]],
    mut offset: u64,
) -> io::Result<()> {
    // How much of the first part is written already.
    let mut skip = 0;
    while let Some((first, rest)) = parts.split_first() {
        if skip == first.len() {
            (parts, skip) = (rest, 0);
            continue;
        }
        let slices: Vec<IoSlice<'_>> = std::iter::once(&first[skip..])
            .chain(rest.iter().copied())
            .take(WRITE_SLICES_MAX)
            .map(IoSlice::new)
            .collect();
        let mut written = file.write_at(&slices, offset)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        offset += written as u64;
        while written > 0 {
            let step = written.min(parts[0].len() - skip);
            (written, skip) = (written - step, skip + step);
            if skip == parts[0].len() {
                (parts, skip) = (&parts[1..], 0);
            }
        }
    }
    Ok(())
}
