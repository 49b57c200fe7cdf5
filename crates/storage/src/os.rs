//! Files of the operating system.
//!
//! Paths are walked one element at a time, each opened relative to its parent without following links
//! (`O_NOFOLLOW`). Since elements are sanitised, that confines a path to its root just as `openat2` with
//! `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS` would, on every kernel and inside every sandbox.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZero;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{
    Advice, AtFlags, FallocateFlags, FileType, FlockOperation, Mode, OFlags, SeekFrom, Stat,
};
use rustix::io::Errno;

use crate::backend::{Access, Backend, FileStat, Found, Place, RawFile};

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OsBackend;

struct OsFile(File);

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl Backend for OsBackend {
    fn device(&self, root: &Path) -> io::Result<Option<u64>> {
        match rustix::fs::stat(root) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                Ok(Some(device_of(&stat)))
            }
            Ok(_) => Err(Errno::NOTDIR.into()),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn make_root(&self, root: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = root.ancestors().take_while(|dir| !dir.exists()).collect();
        std::fs::create_dir_all(root)?;
        for parent in missing.iter().filter_map(|dir| dir.parent()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    }

    fn look(&self, at: Place<'_>) -> io::Result<Found> {
        let (dir, name) = match parent_of(at, Missing::Fail) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Ok(Found::Other("a part of the path is no directory"));
            }
            Err(error) => return Err(error.into()),
        };
        match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                Ok(kind_of(&stat).map_or_else(|| Found::File(stat_of(&stat)), Found::Other))
            }
            Err(Errno::NOENT) => Ok(Found::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    fn open(&self, at: Place<'_>, access: Access) -> io::Result<Arc<dyn RawFile>> {
        let (missing, flags) = match access {
            Access::Read => (Missing::Fail, OFlags::RDONLY),
            Access::Write => (Missing::Fail, OFlags::RDWR),
            Access::Create => (Missing::Make, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL),
        };
        let (dir, name) = parent_of(at, missing)?;
        // Without `NONBLOCK`, opening a fifo would wait for its other end.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o666))?;
        match kind_of(&rustix::fs::fstat(&fd)?) {
            None => Ok(Arc::new(OsFile(fd.into()))),
            Some(what) => Err(io::Error::new(io::ErrorKind::InvalidInput, what)),
        }
    }

    fn rename(&self, root: &Path, from: &str, to: &str) -> io::Result<()> {
        let (from_dir, from_name) = parent_of(Place { root, path: from }, Missing::Fail)?;
        let (to_dir, to_name) = parent_of(Place { root, path: to }, Missing::Fail)?;
        Ok(rustix::fs::renameat(
            &from_dir, from_name, &to_dir, to_name,
        )?)
    }

    fn remove(&self, at: Place<'_>) -> io::Result<()> {
        let gone = parent_of(at, Missing::Fail)
            .and_then(|(dir, name)| rustix::fs::unlinkat(&dir, name, AtFlags::empty()));
        match gone {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_dir(&self, at: Place<'_>) -> io::Result<()> {
        Ok(rustix::fs::fsync(walk(
            at.root,
            elements(at.path),
            Missing::Fail,
        )?)?)
    }

    #[cfg(target_os = "linux")]
    fn sync_all(&self, root: &Path) -> io::Result<()> {
        let root = rustix::fs::open(root, DIRECTORY, Mode::empty())?;
        Ok(rustix::fs::syncfs(root)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn sync_all(&self, _root: &Path) -> io::Result<()> {
        // `sync` elsewhere does not wait, or does not tell what went wrong.
        Err(io::ErrorKind::Unsupported.into())
    }

    fn free_bytes(&self, root: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl RawFile for OsFile {
    fn stat(&self) -> io::Result<FileStat> {
        Ok(stat_of(&rustix::fs::fstat(&self.0)?))
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < bytes.len() {
            match self.0.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn read_vectored_at(&self, parts: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| {
            rustix::io::preadv(&self.0, parts, offset)
        })?)
    }

    fn expect(&self, offset: u64, len: u64) {
        will_read(&self.0, offset, len);
    }

    fn write_at(&self, bytes: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| {
            rustix::io::pwritev(&self.0, bytes, offset)
        })?)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let taken = rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len)
        });
        match taken {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(rustix::io::retry_on_intr(|| {
            rustix::fs::fdatasync(&self.0)
        })?)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let len = self.stat()?.len;
        if offset >= len {
            return Ok(None);
        }
        let start = match rustix::fs::seek(&self.0, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(offset..len)),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(&self.0, SeekFrom::Hole(start))?;
        Ok(Some(start..end.max(start + 1)))
    }

    fn try_lock(&self) -> io::Result<bool> {
        match rustix::fs::flock(&self.0, FlockOperation::NonBlockingLockExclusive) {
            // A file system without locks is no reason to do without it.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.0, 0, None, Advice::DontNeed)?)
    }
}

/// Tells the kernel that these bytes of a file will be read soon: it begins, and is not waited for.
pub(crate) fn will_read(file: &File, offset: u64, len: u64) {
    // A hint: where it is not taken the read itself waits.
    let _ = rustix::fs::fadvise(file, offset, NonZero::new(len), Advice::WillNeed);
}

/// What to do about a directory on the way that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Fail,
    Make,
}

fn elements(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|element| !element.is_empty())
}

/// The directory of a path, open, and the name in it.
fn parent_of(at: Place<'_>, missing: Missing) -> Result<(OwnedFd, &str), Errno> {
    let (parent, name) = at.path.rsplit_once('/').unwrap_or(("", at.path));
    Ok((walk(at.root, elements(parent), missing)?, name))
}

fn walk<'a>(
    root: &Path,
    mut path: impl Iterator<Item = &'a str>,
    missing: Missing,
) -> Result<OwnedFd, Errno> {
    // The root is the user's own choice: links on the way to it are followed.
    let root = rustix::fs::open(root, DIRECTORY, Mode::empty())?;
    path.try_fold(root, |dir, element| {
        debug_assert!(!matches!(element, "." | ".."), "paths are sanitised");
        let open =
            || rustix::fs::openat(&dir, element, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
        match open() {
            Err(Errno::NOENT) if missing == Missing::Make => {
                match rustix::fs::mkdirat(dir.as_fd(), element, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => open(),
                    Err(error) => Err(error),
                }
            }
            opened => opened,
        }
    })
}

/// What something is that is no regular file.
fn kind_of(stat: &Stat) -> Option<&'static str> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => None,
        FileType::Directory => Some("a directory"),
        FileType::Symlink => Some("a symbolic link"),
        FileType::Fifo => Some("a named pipe"),
        FileType::Socket => Some("a socket"),
        _ => Some("no regular file"),
    }
}

fn stat_of(stat: &Stat) -> FileStat {
    FileStat {
        device: device_of(stat),
        inode: stat.st_ino,
        len: u64::try_from(stat.st_size).unwrap_or(0),
        modified_ns: nanos(stat.st_mtime, stat.st_mtime_nsec),
        changed_ns: nanos(stat.st_ctime, stat.st_ctime_nsec),
        links: count(stat.st_nlink),
    }
}

/// A time in nanoseconds. The width of a part differs between systems.
fn nanos(seconds: i64, nanos: impl TryInto<i64>) -> i64 {
    let nanos = nanos.try_into().unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// A count, whose width differs between systems.
fn count(n: impl TryInto<u64>) -> u64 {
    n.try_into().unwrap_or(u64::MAX)
}

fn device_of(stat: &Stat) -> u64 {
    stat.st_dev
}
