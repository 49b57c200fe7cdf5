//! Where the peers of the demo have their files and their state.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::screen::Surroundings;

/// A directory for all of them.
#[derive(Debug)]
pub(crate) enum Place {
    /// It goes when the demo is over, however it ends.
    Passing(TempDir),
    /// It stays.
    Lasting(PathBuf),
}

impl Place {
    pub(crate) fn passing() -> Outcome<Self> {
        let made = tempfile::Builder::new()
            .prefix("riverrun-demo-")
            .tempdir()
            .map_err(|e| Failure::io(&std::env::temp_dir(), e))?;
        Ok(Self::Passing(made))
    }

    /// A directory among the temporary ones that stays.
    pub(crate) fn kept() -> Outcome<Self> {
        Ok(match Self::passing()? {
            Self::Passing(dir) => Self::Lasting(dir.keep()),
            lasting @ Self::Lasting(_) => lasting,
        })
    }

    /// The directory of this name, which has to be new or empty.
    pub(crate) fn named(dir: &Path, around: &Surroundings) -> Outcome<Self> {
        let full = around.path(dir);
        let failed = |e| Failure::io(dir, e);
        fs::create_dir_all(&full).map_err(failed)?;
        if fs::read_dir(&full).map_err(failed)?.next().is_some() {
            let message = format!("{}: is not empty", dir.display());
            return Err(Failure::say(ExitCode::Exists, message)
                .hint("--keep wants a new or empty directory"));
        }
        Ok(Self::Lasting(full))
    }

    fn root(&self) -> &Path {
        match self {
            Self::Passing(dir) => dir.path(),
            Self::Lasting(dir) => dir,
        }
    }

    /// Where it is after the demo, if it is.
    pub(crate) fn lasting(&self) -> Option<&Path> {
        match self {
            Self::Passing(_) => None,
            Self::Lasting(dir) => Some(dir),
        }
    }

    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Into which directory a peer downloads.
    pub(crate) fn copy_of(&self, name: char) -> PathBuf {
        self.dir(&format!("peer-{name}"))
    }

    /// Where the engine of a peer keeps its state.
    pub(crate) fn state_of(&self, name: char) -> PathBuf {
        self.dir("state").join(name.to_string())
    }
}
