//! The distributed hash table over loopback: with other people's clients, and by our own commands.
//!
//! Transmission is not among them: its DHT drops whatever comes from an address of the loopback range.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::clients::{Client, Part};
use crate::payload::Shape;
use crate::riverrun::Riverrun;
use crate::scene::Scene;

const VERSIONS: [&str; 3] = ["--v1", "--v2", "--hybrid"];

/// A node by which all others enter, and where it is.
fn node(home: &Path) -> (Riverrun, String) {
    let args = ["dht", "node", "--first", "--listen", "127.0.0.1:0"];
    let mut node = Riverrun::start(home, &args);
    let addr = node.wait_for("listening")["listen"][0]
        .as_str()
        .unwrap()
        .to_owned();
    (node, addr)
}

/// Runs `riverrun dht …` to its end, which must be good, and gives its events.
fn ask(home: &Path, entry: &str, args: &[&str]) -> Vec<Value> {
    let common = ["--dht-bootstrap", entry, "--listen", "127.0.0.1:0"];
    let ended = Riverrun::start(home, &[&["dht"], args, &common].concat()).end();
    assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
    ended.events
}

/// Seeds what a scene has published, and announces it.
fn seed(scene: &Scene, entry: &str) -> Riverrun {
    let (home, torrent) = (scene.dir("seeder"), Path::new(scene.torrent()));
    let more = ["--dht-bootstrap", entry];
    Riverrun::seed_with(&home, torrent, scene.payload.parent(), &more).0
}

/// Downloads what a link stands for, with nothing else to go by.
fn get(scene: &Scene, entry: &str, link: &str) -> Riverrun {
    let args = [
        "get",
        "-o",
        "taken/here",
        "--listen",
        "127.0.0.1:0",
        "--no-lsd",
        "--dht-bootstrap",
        entry,
        link,
    ];
    Riverrun::start(&scene.home(), &args)
}

fn find<'a>(events: &'a [Value], kind: &str) -> &'a Value {
    let found = events.iter().find(|event| event["event"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {events:?}"))
}

/// Waits until a peer of a torrent can be found.
fn wait_for_peer(home: &Path, entry: &str, torrent: &str) -> String {
    for _ in 0..100 {
        let common = ["--dht-bootstrap", entry, "--listen", "127.0.0.1:0"];
        let args = [&["dht", "get-peers", torrent], &common[..]].concat();
        let ended = Riverrun::start(home, &args).end();
        if let Some(peer) = ended.events.iter().find(|event| event["event"] == "peer") {
            return peer["addr"].as_str().unwrap().to_owned();
        }
    }
    panic!("nobody has announced {torrent}");
}

#[test]
fn a_magnet_link_needs_no_more_than_a_node() {
    for version in VERSIONS {
        let scene = Scene::set(Shape::Many, version);
        let home = TempDir::new().unwrap();
        let (_node, entry) = node(home.path());
        let _seeder = seed(&scene, &entry);
        wait_for_peer(home.path(), &entry, scene.torrent());
        let magnet = scene.magnet();
        let get = get(&scene, &entry, &magnet);
        get.end().assert(0, &[]);
        scene.assert_taken();
    }
}

#[test]
fn libtorrent_finds_us_and_we_it() {
    for version in VERSIONS {
        both_find_the_other(Client::Libtorrent, version);
    }
}

/// aria2 asks for peers before it knows a node, and again every five seconds.
#[test]
fn aria2_finds_us_and_we_it() {
    both_find_the_other(Client::Aria2, "--v1");
}

fn both_find_the_other(client: Client, version: &str) {
    if client.is_here() {
        they_find_us(client, version);
        we_find_them(client, version);
    }
}

fn they_find_us(client: Client, version: &str) {
    let scene = Scene::set(Shape::Many, version);
    let home = TempDir::new().unwrap();
    let (_node, entry) = node(home.path());
    let _seeder = seed(&scene, &entry);
    wait_for_peer(home.path(), &entry, scene.torrent());
    let theirs = scene.dir("theirs");
    let mut leecher = client.start_with_dht(
        &entry,
        Part::Leech,
        &scene.magnet(),
        &theirs,
        &scene.dir("their home"),
    );
    leecher.wait_complete();
    scene
        .payload
        .assert_copied_to(&theirs, client.makes_empty_files());
}

fn we_find_them(client: Client, version: &str) {
    let scene = Scene::set(Shape::Many, version);
    let home = TempDir::new().unwrap();
    let (_node, entry) = node(home.path());
    let _seeder = client.start_with_dht(
        &entry,
        Part::Seed,
        scene.torrent(),
        scene.payload.parent(),
        &scene.dir("their home"),
    );
    wait_for_peer(home.path(), &entry, scene.torrent());
    let magnet = scene.magnet();
    let get = get(&scene, &entry, &magnet);
    get.end().assert(0, &[]);
    scene.assert_taken();
}

#[test]
fn what_is_announced_and_put_is_found() {
    let home = TempDir::new().unwrap();
    let (_node, entry) = node(home.path());
    let hash = "0efbab84cc74084b9716206db42fc1ad5cf2b889";
    let announced = ask(home.path(), &entry, &["announce", hash, "--port", "7000"]);
    assert_eq!(find(&announced, "done")["stored"], 1);
    let found = ask(home.path(), &entry, &["get-peers", hash, "--scrape"]);
    assert_eq!(find(&found, "peer")["addr"], "127.0.0.1:7000");
    assert_eq!(find(&found, "scrape")["leechers"], 1.0);
    let sampled = ask(home.path(), &entry, &["sample", hash]);
    assert_eq!(find(&sampled, "samples")["info_hashes"][0], hash);

    let put = ask(home.path(), &entry, &["put", "Hello World!"]);
    let target = find(&put, "stored")["target"].as_str().unwrap().to_owned();
    assert_eq!(target, "e5f96f6f38320f0f33959cb4d3d656452117aadb");
    let got = ask(home.path(), &entry, &["get", &target]);
    assert_eq!(find(&got, "item")["text"], "Hello World!");

    let missing = "dht get 0000000000000000000000000000000000000000 --listen 127.0.0.1:0";
    let mut args: Vec<_> = missing.split(' ').collect();
    args.extend(["--dht-bootstrap", &entry]);
    Riverrun::start(home.path(), &args)
        .end()
        .assert(5, &["no node has it"]);
}

#[test]
fn what_is_behind_a_link_is_shown_and_no_file_of_it_written() {
    let scene = Scene::set(Shape::Many, "--hybrid");
    let home = TempDir::new().unwrap();
    let (_node, entry) = node(home.path());
    let _seeder = seed(&scene, &entry);
    wait_for_peer(home.path(), &entry, scene.torrent());
    let whole = Riverrun::start(&scene.home(), &["show", scene.torrent()]).end();
    // By the v1 hash alone, the v2 hash alone, and the link that has both.
    let hash = |name: &str| whole.events[0][name].as_str().unwrap().to_owned();
    for link in [
        hash("info_hash_v1"),
        hash("info_hash_v2"),
        format!("magnet:?xt=urn:btih:{}", hash("info_hash_v1")),
        scene.magnet(),
    ] {
        let here = scene.dir("shown");
        let common = [
            "--listen",
            "127.0.0.1:0",
            "--no-lsd",
            "--dht-bootstrap",
            &entry,
        ];
        let args = [&["show", "--fetch", &link], &common[..]].concat();
        let shown = Riverrun::start(&here, &args).end();
        assert_eq!(shown.code, Some(0), "{link}: {}", shown.stderr);
        for key in [
            "name",
            "info_hash_v1",
            "info_hash_v2",
            "total_size",
            "files",
        ] {
            assert_eq!(shown.events[0][key], whole.events[0][key], "{link}: {key}");
        }
        assert!(
            !here
                .join(scene.payload.path().file_name().unwrap())
                .exists()
        );
    }
}

/// While a torrent of his is given, the next one comes by itself.
#[test]
fn who_follows_a_publisher_gets_the_next_torrent_too() {
    let home = TempDir::new().unwrap();
    let (_node, entry) = node(home.path());
    let publish = |scene: &Scene| {
        let seeder = seed(scene, &entry);
        wait_for_peer(home.path(), &entry, scene.torrent());
        let put = ["put", "--key", "key", "--torrent", scene.torrent()];
        let put = ask(home.path(), &entry, &put);
        let key = find(&put, "stored")["key"].as_str().unwrap().to_owned();
        (seeder, format!("magnet:?xs=urn:btpk:{key}"))
    };
    let (first, second) = (
        Scene::set(Shape::Single, "--v1"),
        Scene::set(Shape::Many, "--v1"),
    );
    let (_seeder, link) = publish(&first);
    let follow = [
        "--seed",
        "--follow",
        "1s",
        "--no-lsd",
        "--dht-bootstrap",
        &entry,
    ];
    let get = ["get", "-o", "taken/here", "--listen", "127.0.0.1:0", &link];
    let mut get = Riverrun::start(&first.home(), &[&get, &follow[..]].concat());
    get.wait_for("done");
    first.assert_taken();
    let (_other, same) = publish(&second);
    assert_eq!(link, same);
    get.wait_for("newer");
    get.wait_for("done");
    second.payload.assert_copied_to(&first.taken(), true);
    first.assert_taken();
    assert_eq!(get.interrupt().code(), Some(130));
}

/// BEP 46, end to end: what is behind a link changes when its publisher says so.
#[test]
fn a_link_to_a_publisher_follows_what_he_publishes() {
    let home = TempDir::new().unwrap();
    let (_node, entry) = node(home.path());
    let mut link = None;
    for (seq, version) in [(1, "--v1"), (2, "--v1")] {
        let scene = Scene::set(Shape::Many, version);
        let _seeder = seed(&scene, &entry);
        wait_for_peer(home.path(), &entry, scene.torrent());
        let put = ["put", "--key", "key", "--torrent", scene.torrent()];
        let put = ask(home.path(), &entry, &put);
        let stored = find(&put, "stored");
        assert_eq!(stored["seq"], seq);
        let new = format!("magnet:?xs=urn:btpk:{}", stored["key"].as_str().unwrap());
        assert_eq!(*link.get_or_insert(new.clone()), new);
        let get = get(&scene, &entry, &new);
        get.end().assert(0, &[]);
        scene.assert_taken();
    }
}
