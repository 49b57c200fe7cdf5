//! What went wrong, as the decisions get to see it.

use std::io;
use std::path::{Path, PathBuf};

use riverrun_swarm::StorageFault;

use crate::backend::Place;

impl Place<'_> {
    /// The whole path.
    pub(crate) fn full(&self) -> PathBuf {
        self.root.join(self.path)
    }

    /// The directory, below the root.
    pub(crate) fn parent(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(parent, _)| parent)
    }

    /// What an error of the operating system means for the file here, when `needed_bytes` were to be written.
    pub(crate) fn fault(&self, error: &io::Error, needed_bytes: u64) -> StorageFault {
        fault(&self.full(), error, needed_bytes)
    }

    /// Something else is in the way here.
    pub(crate) fn conflict(&self, what: impl Into<String>) -> StorageFault {
        StorageFault::Conflict {
            path: show(&self.full()),
            what: what.into(),
        }
    }
}

/// What an error of the operating system means, when `needed_bytes` were to be written.
pub(crate) fn fault(path: &Path, error: &io::Error, needed_bytes: u64) -> StorageFault {
    let path = show(path);
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StorageFault::NoSpace { path, needed_bytes }
        }
        _ => StorageFault::Io {
            path,
            message: error.to_string(),
        },
    }
}

/// A path for people.
pub(crate) fn show(path: &Path) -> String {
    path.display().to_string()
}
