//! Both directions, every shape, every client; magnet links too, every manner of encryption, and uTP.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::clients::{Client, Demand, Part};
use crate::network::inside_network;
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

/// What both sides want of the connection.
#[derive(Clone, Copy, Debug)]
struct Terms {
    theirs: Demand,
    /// Our flags.
    ours: &'static [&'static str],
}

impl Terms {
    /// As it is without asking.
    const USUAL: Self = Self {
        theirs: Demand::Any,
        ours: &[],
    };
    const UTP: Self = Self {
        theirs: Demand::Utp,
        ours: &["--no-tcp"],
    };
}

/// `client` downloads `source` from us.
fn give(client: Client, stage: &Stage, source: &str, terms: Terms) {
    let (home, published) = (stage.path("ours"), stage.payload.parent());
    let (taken, their_home) = (stage.path("taken"), stage.path("theirs"));
    let leech = || client.start(terms.theirs, Part::Leech, source, &taken, &their_home);
    let seed = || Riverrun::seed_with(&home, &stage.torrent, published, terms.ours);
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
fn take(client: Client, stage: &Stage, source: &str, terms: Terms) {
    let published = stage.payload.parent();
    let _theirs = client.start(
        terms.theirs,
        Part::Seed,
        stage.torrent(),
        published,
        &stage.path("theirs"),
    );
    stage.tracker.wait_for_peers(1);
    let taken = stage.path("taken");
    let ours = get(&stage.path("ours"), source, &taken, terms.ours);
    assert!(ours.wait().success());
    stage.payload.assert_copied_to(&taken, true);
}

fn get(home: &Path, source: &str, dir: &Path, more: &[&str]) -> Riverrun {
    let dir = dir.to_str().unwrap();
    let get = ["get", source, "-o", dir, "--listen", "127.0.0.1:0"];
    let mut ours = Riverrun::start(home, &[&get, more].concat());
    ours.wait_for("done");
    ours
}

/// Both directions of a torrent file.
fn check(client: Client, shape: Shape, version: &str) {
    check_on(client, shape, version, Terms::USUAL);
}

fn check_on(client: Client, shape: Shape, version: &str, terms: Terms) {
    if !client.is_here() {
        return;
    }
    let stage = Stage::set(shape, version);
    give(client, &stage, stage.torrent(), terms);
    let stage = Stage::set(shape, version);
    take(client, &stage, stage.torrent(), terms);
}

/// Both directions, encrypted as either side demands.
fn check_encrypted(client: Client, version: &str) {
    for (theirs, ours) in [
        (Demand::Any, &["--encryption", "off"] as &[_]),
        (Demand::Any, &["--encryption", "require"]),
        (Demand::Handshake, &["--encryption", "prefer"]),
        (Demand::Stream, &["--encryption", "prefer"]),
        (Demand::Stream, &["--encryption", "require"]),
    ] {
        // Transmission knows no demand between nothing and everything.
        if client != Client::Transmission || theirs != Demand::Handshake {
            check_on(client, Shape::Many, version, Terms { theirs, ours });
        }
    }
}

/// Both directions of a magnet link.
fn check_magnet(client: Client, version: &str) {
    if !client.is_here() {
        return;
    }
    let stage = Stage::set(Shape::Many, version);
    give(client, &stage, &stage.magnet(), Terms::USUAL);
    let stage = Stage::set(Shape::Many, version);
    take(client, &stage, &stage.magnet(), Terms::USUAL);
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
fn transmission_utp() {
    check_on(Client::Transmission, Shape::Medium, "--v1", Terms::UTP);
}

#[test]
fn libtorrent_utp() {
    check_on(Client::Libtorrent, Shape::Medium, "--hybrid", Terms::UTP);
}

/// One packet in a hundred is lost, in both directions.
#[test]
fn libtorrent_utp_with_loss() {
    const TEST: &str = "transfers::libtorrent_utp_with_loss";
    let losing = "udp dport 1-65535 numgen random mod 100 < 1 drop";
    if Client::Libtorrent.is_here() && inside_network(TEST, losing) {
        check_on(Client::Libtorrent, Shape::Medium, "--hybrid", Terms::UTP);
    }
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
