//! Both directions, every shape, every client; magnet links too, and every manner of encryption.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::clients::{Client, Demand, Part};
use crate::payload::{Payload, Shape};
use crate::riverrun::{Riverrun, run};
use crate::tracker::Tracker;

/// What a transfer needs, in a directory of its own.
struct Stage {
    dir: TempDir,
    tracker: Tracker,
    payload: Payload,
    torrent: PathBuf,
}

impl Stage {
    fn set(shape: Shape, version: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let tracker = Tracker::start();
        let published = dir.path().join("published");
        std::fs::create_dir(&published).unwrap();
        let payload = Payload::write(&published, shape, 7);
        let torrent = dir.path().join("payload.torrent");
        let tiers = format!("{},{}", tracker.http(), tracker.udp());
        let (path, output) = (payload.path(), torrent.to_str().unwrap());
        run(
            dir.path(),
            &[
                "create",
                path.to_str().unwrap(),
                "-o",
                output,
                version,
                "-t",
                &tiers,
                "-q",
            ],
        );
        Self {
            dir,
            tracker,
            payload,
            torrent,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn torrent(&self) -> &str {
        self.torrent.to_str().unwrap()
    }

    fn magnet(&self) -> String {
        run(self.dir.path(), &["magnet", self.torrent()])
            .trim()
            .to_owned()
    }
}

/// What both sides want encrypted.
#[derive(Clone, Copy, Debug)]
struct Secrecy {
    theirs: Demand,
    ours: &'static str,
}

impl Secrecy {
    /// As it is without asking.
    const USUAL: Self = Self {
        theirs: Demand::Any,
        ours: "prefer",
    };
}

/// `client` downloads `source` from us.
fn give(client: Client, stage: &Stage, source: &str, secrecy: Secrecy) {
    let (home, published) = (stage.path("ours"), stage.payload.parent());
    let (taken, their_home) = (stage.path("taken"), stage.path("theirs"));
    let leech = || client.start(secrecy.theirs, Part::Leech, source, &taken, &their_home);
    let more = ["--encryption", secrecy.ours];
    let seed = || Riverrun::seed_with(&home, &stage.torrent, published, &more);
    let ours;
    let mut theirs;
    if client.dials_loopback() {
        (ours, _) = seed();
        stage.tracker.wait_for_peers(1);
        theirs = leech();
    } else {
        // It has to be there before us, so that the tracker names it to us.
        theirs = leech();
        stage.tracker.wait_for_peers(1);
        (ours, _) = seed();
    }
    theirs.wait_complete();
    stage
        .payload
        .assert_copied_to(&taken, client.makes_empty_files());
    assert_eq!(ours.interrupt().code(), Some(130));
}

/// We download `source` from `client`.
fn take(client: Client, stage: &Stage, source: &str, secrecy: Secrecy) {
    let published = stage.payload.parent();
    let _theirs = client.start(
        secrecy.theirs,
        Part::Seed,
        stage.torrent(),
        published,
        &stage.path("theirs"),
    );
    stage.tracker.wait_for_peers(1);
    let taken = stage.path("taken");
    let ours = get(&stage.path("ours"), source, &taken, secrecy.ours);
    assert!(ours.wait().success());
    stage.payload.assert_copied_to(&taken, true);
}

fn get(home: &Path, source: &str, dir: &Path, encryption: &str) -> Riverrun {
    let dir = dir.to_str().unwrap();
    let network = ["--listen", "127.0.0.1:0", "--encryption", encryption];
    let mut ours = Riverrun::start(home, &[&["get", source, "-o", dir], &network[..]].concat());
    ours.wait_for("done");
    ours
}

/// Both directions of a torrent file.
fn check(client: Client, shape: Shape, version: &str) {
    check_secret(client, shape, version, Secrecy::USUAL);
}

fn check_secret(client: Client, shape: Shape, version: &str, secrecy: Secrecy) {
    if !client.is_here() {
        return;
    }
    let stage = Stage::set(shape, version);
    give(client, &stage, stage.torrent(), secrecy);
    let stage = Stage::set(shape, version);
    take(client, &stage, stage.torrent(), secrecy);
}

/// Both directions, encrypted as either side demands.
fn check_encrypted(client: Client, version: &str) {
    for (theirs, ours) in [
        (Demand::Any, "off"),
        (Demand::Any, "require"),
        (Demand::Handshake, "prefer"),
        (Demand::Stream, "prefer"),
        (Demand::Stream, "require"),
    ] {
        // Transmission knows no demand between nothing and everything.
        if client != Client::Transmission || theirs != Demand::Handshake {
            check_secret(client, Shape::Many, version, Secrecy { theirs, ours });
        }
    }
}

/// Both directions of a magnet link.
fn check_magnet(client: Client, version: &str) {
    if !client.is_here() {
        return;
    }
    let stage = Stage::set(Shape::Many, version);
    give(client, &stage, &stage.magnet(), Secrecy::USUAL);
    let stage = Stage::set(Shape::Many, version);
    take(client, &stage, &stage.magnet(), Secrecy::USUAL);
}

#[test]
fn aria2_encrypted() {
    check_encrypted(Client::Aria2, "--v1");
}

#[test]
fn transmission_encrypted() {
    check_encrypted(Client::Transmission, "--v1");
}

#[test]
fn libtorrent_encrypted_v1() {
    check_encrypted(Client::Libtorrent, "--v1");
}

#[test]
fn libtorrent_encrypted_v2() {
    check_encrypted(Client::Libtorrent, "--v2");
}

#[test]
fn libtorrent_encrypted_hybrid() {
    check_encrypted(Client::Libtorrent, "--hybrid");
}

#[test]
fn aria2_single_file() {
    check(Client::Aria2, Shape::Single, "--v1");
}

#[test]
fn aria2_many_files() {
    check(Client::Aria2, Shape::Many, "--v1");
}

#[test]
fn aria2_magnet() {
    check_magnet(Client::Aria2, "--v1");
}

#[test]
fn transmission_single_file() {
    check(Client::Transmission, Shape::Single, "--v1");
}

#[test]
fn transmission_many_files() {
    check(Client::Transmission, Shape::Many, "--v1");
}

#[test]
fn transmission_magnet() {
    check_magnet(Client::Transmission, "--v1");
}

#[test]
fn libtorrent_single_file_v1() {
    check(Client::Libtorrent, Shape::Single, "--v1");
}

#[test]
fn libtorrent_single_file_v2() {
    check(Client::Libtorrent, Shape::Single, "--v2");
}

#[test]
fn libtorrent_single_file_hybrid() {
    check(Client::Libtorrent, Shape::Single, "--hybrid");
}

#[test]
fn libtorrent_many_files_v1() {
    check(Client::Libtorrent, Shape::Many, "--v1");
}

#[test]
fn libtorrent_many_files_v2() {
    check(Client::Libtorrent, Shape::Many, "--v2");
}

#[test]
fn libtorrent_many_files_hybrid() {
    check(Client::Libtorrent, Shape::Many, "--hybrid");
}

#[test]
fn libtorrent_magnet_v1() {
    check_magnet(Client::Libtorrent, "--v1");
}

#[test]
fn libtorrent_magnet_v2() {
    check_magnet(Client::Libtorrent, "--v2");
}

#[test]
fn libtorrent_magnet_hybrid() {
    check_magnet(Client::Libtorrent, "--hybrid");
}

#[test]
fn libtorrent_one_gibibyte() {
    check(Client::Libtorrent, Shape::Large, "--hybrid");
}

#[test]
fn aria2_one_gibibyte() {
    check(Client::Aria2, Shape::Large, "--v1");
}

#[test]
fn transmission_one_gibibyte() {
    check(Client::Transmission, Shape::Large, "--v1");
}
