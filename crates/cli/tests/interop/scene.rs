//! A published payload, someone who seeds it, and the command that is put to the test.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::payload::{Payload, Shape};
use crate::riverrun::{Riverrun, run};

/// A payload with its torrent, which names no tracker, in a directory of its own.
pub(crate) struct Scene {
    dir: TempDir,
    pub(crate) payload: Payload,
    torrent: PathBuf,
}

impl Scene {
    pub(crate) fn set(shape: Shape, version: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let published = dir.path().join("published");
        fs::create_dir(&published).unwrap();
        let payload = Payload::write(&published, shape, 11);
        let torrent = dir.path().join("payload.torrent");
        let (path, output) = (payload.path(), torrent.to_str().unwrap());
        let path = path.to_str().unwrap();
        run(
            dir.path(),
            &[
                "create", path, "-o", output, version, "--piece", "64KiB", "-q",
            ],
        );
        Self {
            dir,
            payload,
            torrent,
        }
    }

    /// A directory of this name, made if need be.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Where `get` puts things.
    pub(crate) fn taken(&self) -> PathBuf {
        self.home().join("taken/here")
    }

    /// The home of `get`.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir("ours")
    }

    pub(crate) fn torrent(&self) -> &str {
        self.torrent.to_str().unwrap()
    }

    pub(crate) fn magnet(&self) -> String {
        run(self.dir.path(), &["magnet", self.torrent()])
            .trim()
            .to_owned()
    }

    /// A seeder that sends at most so much a second, and its address.
    pub(crate) fn seed(&self, rate: &str) -> (Riverrun, String) {
        seed(
            &self.dir("seeder"),
            self.torrent(),
            self.payload.parent(),
            rate,
        )
    }

    /// Downloads what is named by the arguments.
    pub(crate) fn get(&self, args: &[&str]) -> Riverrun {
        let common = [
            "get",
            "-o",
            "taken/here",
            "--listen",
            "127.0.0.1:0",
            "--no-dht",
            "--no-lsd",
            "--no-port-map",
        ];
        Riverrun::start(&self.home(), &[&common, args].concat())
    }

    /// The whole payload has been taken.
    pub(crate) fn assert_taken(&self) {
        self.payload.assert_copied_to(&self.taken(), true);
    }
}

/// Seeds `torrent` from `dir`, and says where.
pub(crate) fn seed(home: &Path, torrent: &str, dir: &Path, rate: &str) -> (Riverrun, String) {
    let dir = dir.to_str().unwrap();
    let args = [
        "seed",
        torrent,
        "-o",
        dir,
        "--listen",
        "127.0.0.1:0",
        "--limit-up",
        rate,
    ];
    let mut seeder = Riverrun::start(home, &args);
    let addr = seeder.wait_for("seeding")["listen"][0]
        .as_str()
        .unwrap()
        .to_owned();
    (seeder, addr)
}
