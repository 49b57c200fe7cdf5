//! A published payload, someone who seeds it, and the command that is put to the test.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::netns::Namespace;
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
        let home = self.dir("seeder");
        seed(&home, self.torrent(), self.payload.parent(), rate)
    }

    /// A seeder with a home of this name in a network namespace, and its address.
    pub(crate) fn seed_in(
        &self,
        namespace: Option<&Namespace>,
        home: &str,
        args: &[&str],
    ) -> (Riverrun, SocketAddr) {
        let what = (self.torrent.as_path(), self.payload.parent());
        Riverrun::seed_in(namespace, &self.dir(home), what, args)
    }

    /// Downloads in a network namespace what is named by the arguments.
    pub(crate) fn get_in(&self, namespace: Option<&Namespace>, args: &[&str]) -> Riverrun {
        let args = [&["get", "-o", "taken/here"], args].concat();
        Riverrun::start_in(namespace, &self.home(), &args)
    }

    /// Downloads what is named by the arguments.
    pub(crate) fn get(&self, args: &[&str]) -> Riverrun {
        let alone = ["--no-dht", "--no-lsd", "--no-port-map"];
        let common = [&["--listen", "127.0.0.1:0"][..], &alone].concat();
        self.get_in(None, &[&common, args].concat())
    }

    /// The whole payload has been taken.
    pub(crate) fn assert_taken(&self) {
        self.payload.assert_copied_to(&self.taken(), true);
    }
}

/// Seeds `torrent` from `dir`, and says where.
pub(crate) fn seed(home: &Path, torrent: &str, dir: &Path, rate: &str) -> (Riverrun, String) {
    let more = ["--limit-up", rate];
    let (seeder, port) = Riverrun::seed_with(home, Path::new(torrent), dir, &more);
    (seeder, format!("127.0.0.1:{port}"))
}
