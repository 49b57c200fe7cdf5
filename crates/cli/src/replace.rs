//! Writes a whole file or none: a reader, or a crash, sees the old one or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};

/// What to do with a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfExists {
    /// Leave it, and fail.
    Refuse,
    /// Put the new one in its place, with its permissions.
    Replace,
}

/// Writes `bytes` as the file `name`, as seen from `cwd`.
pub(crate) fn write_file(cwd: &Path, name: &Path, bytes: &[u8], if_exists: IfExists) -> Outcome {
    check_target(cwd, name, if_exists)?;
    write_atomically(&cwd.join(name), bytes, if_exists).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => exists(name),
        _ => Failure::io(name, e),
    })
}

/// Fails early, before the work is done, where [`write_file`] would fail after it.
pub(crate) fn check_target(cwd: &Path, name: &Path, if_exists: IfExists) -> Outcome {
    match fs::symlink_metadata(cwd.join(name)) {
        Ok(found) if found.is_dir() => {
            Err(Failure::say(ExitCode::Exists, "is a directory").about(name.display()))
        }
        Ok(_) if if_exists == IfExists::Refuse => Err(exists(name)),
        _ => Ok(()),
    }
}

fn exists(name: &Path) -> Failure {
    Failure::say(ExitCode::Exists, "exists already")
        .about(name.display())
        .hint("--force replaces it")
}

fn write_atomically(path: &Path, bytes: &[u8], if_exists: IfExists) -> io::Result<()> {
    // A link is followed: its target is replaced, not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let dir = target
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".riverrun-");
    let permissions = fs::metadata(&target).map(|found| found.permissions()).ok();
    #[cfg(unix)]
    let builder = builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(dir)?;
    file.write_all(bytes)?;
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    file.as_file().sync_all()?;
    match if_exists {
        IfExists::Replace => file.persist(&target),
        IfExists::Refuse => file.persist_noclobber(&target),
    }
    .map_err(|e| e.error)?;
    sync_dir(dir)
}

/// Makes the new name last. Where a directory cannot be opened, nothing is lost but that.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir).map_or(Ok(()), |dir| dir.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_way_stays_unless_it_may_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (cwd, name) = (dir.path(), Path::new("a.torrent"));
        let path = cwd.join(name);
        write_file(cwd, name, b"one", IfExists::Refuse).unwrap();
        let failure = write_file(cwd, name, b"two", IfExists::Refuse).unwrap_err();
        assert_eq!(failure.code, ExitCode::Exists);
        assert_eq!(failure.hints, ["--force replaces it"]);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_file(cwd, name, b"two", IfExists::Replace).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
    }

    #[test]
    fn a_directory_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let failure = write_file(dir.path(), Path::new("."), b"x", IfExists::Replace).unwrap_err();
        assert_eq!(failure.code, ExitCode::Exists);
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let failure =
            write_file(dir.path(), Path::new("no/a"), b"x", IfExists::Refuse).unwrap_err();
        assert_eq!(failure.code, ExitCode::NotFound);
        assert!(
            failure.message().starts_with("no/a: "),
            "{}",
            failure.message()
        );
    }

    #[cfg(unix)]
    #[test]
    fn permissions_survive_a_replacement() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (cwd, name) = (dir.path(), Path::new("a"));
        let path = cwd.join(name);
        write_file(cwd, name, b"one", IfExists::Refuse).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write_file(cwd, name, b"two", IfExists::Replace).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
    }
}
