//! The distributed hash table: with other people's clients, and by our own commands.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::clients::{Client, Part, Place, Running};
use crate::netns::Namespace;
use crate::payload::Shape;
use crate::riverrun::{PATIENCE, Riverrun, run};
use crate::scene::Scene;

const VERSIONS: [&str; 3] = ["--v1", "--v2", "--hybrid"];

/// Where Transmission's table is tested: it drops whatever comes from an address of the loopback range.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// How many nodes Transmission wants to know before it asks them for peers, and some more.
const NODES: usize = 12;

/// A DHT of its own, of nodes at one address.
struct Dht {
    /// `None` is loopback.
    namespace: Option<Namespace>,
    /// The home of the nodes, and of who asks them.
    home: TempDir,
    ip: Ipv4Addr,
    nodes: Vec<Riverrun>,
    addrs: Vec<SocketAddr>,
}

impl Dht {
    /// One node, on loopback.
    fn of_one() -> Self {
        let mut dht = Self {
            namespace: None,
            home: TempDir::new().unwrap(),
            ip: Ipv4Addr::LOCALHOST,
            nodes: Vec::new(),
            addrs: Vec::new(),
        };
        dht.add_node();
        dht
    }

    /// Some nodes, in a network with addresses as of any home; `None`, and said, where none can be made.
    fn elsewhere() -> Option<Self> {
        let namespace = Namespace::make("dht")?;
        namespace.ip(&format!("addr add {ELSEWHERE}/32 dev lo"));
        let mut dht = Self {
            namespace: Some(namespace),
            home: TempDir::new().unwrap(),
            ip: ELSEWHERE,
            nodes: Vec::new(),
            addrs: Vec::new(),
        };
        for _ in 0..NODES {
            dht.add_node();
        }
        Some(dht)
    }

    /// One more, that enters by the first.
    fn add_node(&mut self) {
        let state = format!("node {}", self.nodes.len());
        let listen = format!("{}:0", self.ip);
        let entry = self.addrs.first().map(ToString::to_string);
        let enter = match &entry {
            Some(entry) => vec!["--dht-bootstrap", entry],
            None => vec!["--first"],
        };
        let args = ["dht", "node", "--listen", &listen, "--state", &state];
        let args = [&args[..], &enter].concat();
        let mut node = Riverrun::start_in(self.namespace.as_ref(), self.home.path(), &args);
        let listening = node.wait_for("listening");
        let addr = listening["listen"][0].as_str().unwrap();
        self.addrs.push(addr.parse().unwrap());
        self.nodes.push(node);
    }

    /// Starts `riverrun` in it.
    fn start(&self, home: &Path, args: &[&str]) -> Riverrun {
        let (listen, entry) = (format!("{}:0", self.ip), self.addrs[0].to_string());
        let flags = ["--listen", &listen, "--dht-bootstrap", &entry];
        Riverrun::start_in(self.namespace.as_ref(), home, &[args, &flags].concat())
    }

    /// Starts `riverrun dht …`.
    fn visit(&self, args: &[&str]) -> Riverrun {
        self.start(self.home.path(), &[&["dht"], args].concat())
    }

    /// Runs `riverrun dht …` to its end, which must be good, and gives its events.
    fn ask(&self, args: &[&str]) -> Vec<Value> {
        let ended = self.visit(args).end();
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
        ended.events
    }

    /// Seeds what a scene has published; returns when it has been announced.
    fn seed(&self, scene: &Scene) -> Riverrun {
        let (torrent, dir) = (scene.torrent(), scene.payload.parent().to_str().unwrap());
        let args = ["seed", torrent, "-o", dir, "--no-lsd", "--no-port-map"];
        let mut seeder = self.start(&scene.dir("seeder"), &args);
        seeder.wait_for("seeding");
        self.wait_for_peer(scene.torrent());
        seeder
    }

    /// Downloads what a link stands for, with nothing else to go by.
    fn get(&self, scene: &Scene, link: &str) -> Riverrun {
        let args = ["get", "-o", "taken/here", "--no-lsd", "--no-port-map", link];
        self.start(&scene.home(), &args)
    }

    /// Has another client take part.
    fn have(&self, client: Client, scene: &Scene, part: Part, source: &str, dir: &Path) -> Running {
        let place = Place {
            namespace: self.namespace.as_ref(),
            ip: self.ip,
            nodes: &self.addrs,
        };
        client.start_in(place, part, source, dir, &scene.dir("their home"))
    }

    /// Waits until a peer of a torrent can be found.
    fn wait_for_peer(&self, torrent: &str) {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            let ended = self.visit(&["get-peers", torrent]).end();
            if ended.events.iter().any(|event| event["event"] == "peer") {
                return;
            }
        }
        panic!("nobody has announced {torrent}");
    }
}

fn find<'a>(events: &'a [Value], kind: &str) -> &'a Value {
    let found = events.iter().find(|event| event["event"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {events:?}"))
}

#[test]
fn a_magnet_link_needs_no_more_than_a_node() {
    for version in VERSIONS {
        let scene = Scene::set(Shape::Many, version);
        let dht = Dht::of_one();
        let _seeder = dht.seed(&scene);
        dht.get(&scene, &scene.magnet()).end().assert(0, &[]);
        scene.assert_taken();
    }
}

#[test]
fn libtorrent_finds_us_and_we_it() {
    for version in VERSIONS {
        both_find_the_other(Client::Libtorrent, version, || Some(Dht::of_one()));
    }
}

/// aria2 asks for peers before it knows a node, and again every five seconds.
#[test]
fn aria2_finds_us_and_we_it() {
    both_find_the_other(Client::Aria2, "--v1", || Some(Dht::of_one()));
}

#[test]
fn transmission_finds_us_and_we_it() {
    both_find_the_other(Client::Transmission, "--v1", Dht::elsewhere);
}

fn both_find_the_other(client: Client, version: &str, dht: impl Fn() -> Option<Dht>) {
    if client.is_here() {
        let (Some(first), Some(second)) = (dht(), dht()) else {
            return;
        };
        they_find_us(&first, client, version);
        we_find_them(&second, client, version);
    }
}

fn they_find_us(dht: &Dht, client: Client, version: &str) {
    let scene = Scene::set(Shape::Many, version);
    let _seeder = dht.seed(&scene);
    let theirs = scene.dir("theirs");
    let mut leecher = dht.have(client, &scene, Part::Leech, &scene.magnet(), &theirs);
    leecher.wait_complete();
    let makes_empty_files = client.makes_empty_files();
    scene.payload.assert_copied_to(&theirs, makes_empty_files);
}

fn we_find_them(dht: &Dht, client: Client, version: &str) {
    let scene = Scene::set(Shape::Many, version);
    let published = scene.payload.parent();
    let mut seeder = dht.have(client, &scene, Part::Seed, scene.torrent(), published);
    seeder.wait_announcing();
    dht.wait_for_peer(scene.torrent());
    dht.get(&scene, &scene.magnet()).end().assert(0, &[]);
    scene.assert_taken();
}

#[test]
fn what_is_announced_and_put_is_found() {
    let dht = Dht::of_one();
    let hash = "0efbab84cc74084b9716206db42fc1ad5cf2b889";
    let announced = dht.ask(&["announce", hash, "--port", "7000"]);
    assert_eq!(find(&announced, "done")["stored"], 1);
    let found = dht.ask(&["get-peers", hash, "--scrape"]);
    assert_eq!(find(&found, "peer")["addr"], "127.0.0.1:7000");
    assert_eq!(find(&found, "scrape")["leechers"], 1.0);
    let sampled = dht.ask(&["sample", hash]);
    assert_eq!(find(&sampled, "samples")["info_hashes"][0], hash);

    let put = dht.ask(&["put", "Hello World!"]);
    let target = find(&put, "stored")["target"].as_str().unwrap().to_owned();
    assert_eq!(target, "e5f96f6f38320f0f33959cb4d3d656452117aadb");
    let got = dht.ask(&["get", &target]);
    assert_eq!(find(&got, "item")["text"], "Hello World!");

    dht.visit(&["get", "0000000000000000000000000000000000000000"])
        .end()
        .assert(5, &["no node has it"]);
}

#[test]
fn people_are_told_a_peer_of_a_hybrid_torrent_and_a_torrent_of_many_nodes_once() {
    let scene = Scene::set(Shape::Single, "--hybrid");
    let mut dht = Dht::of_one();
    dht.add_node();
    dht.add_node();
    dht.ask(&["announce", scene.torrent(), "--port", "7000"]);
    let entry = dht.addrs[0].to_string();
    let read = |command: &[&str]| {
        let from = ["--listen", "127.0.0.1:0", "--dht-bootstrap", &entry];
        run(dht.home.path(), &[&["dht"], command, &from].concat())
    };
    assert_eq!(read(&["get-peers", scene.torrent()]), "127.0.0.1:7000\n");
    assert_eq!(read(&["sample"]).lines().count(), 2, "two names");
}

#[test]
fn what_is_behind_a_link_is_shown_and_no_file_of_it_written() {
    let scene = Scene::set(Shape::Many, "--hybrid");
    let dht = Dht::of_one();
    let _seeder = dht.seed(&scene);
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
        let shown = dht
            .start(&here, &["show", "--fetch", &link, "--no-lsd"])
            .end();
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
    let dht = Dht::of_one();
    let publish = |scene: &Scene| {
        let seeder = dht.seed(scene);
        let put = ["put", "--key", "key", "--torrent", scene.torrent()];
        let put = dht.ask(&put);
        let key = find(&put, "stored")["key"].as_str().unwrap().to_owned();
        (seeder, format!("magnet:?xs=urn:btpk:{key}"))
    };
    let (first, second) = (
        Scene::set(Shape::Single, "--v1"),
        Scene::set(Shape::Many, "--v1"),
    );
    let (_seeder, link) = publish(&first);
    let follow = ["--seed", "--follow", "1s", "--no-lsd", &link];
    let get = [&["get", "-o", "taken/here"], &follow[..]].concat();
    let mut get = dht.start(&first.home(), &get);
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
    let dht = Dht::of_one();
    let mut link = None;
    for (seq, version) in [(1, "--v1"), (2, "--v1")] {
        let scene = Scene::set(Shape::Many, version);
        let _seeder = dht.seed(&scene);
        let put = ["put", "--key", "key", "--torrent", scene.torrent()];
        let put = dht.ask(&put);
        let stored = find(&put, "stored");
        assert_eq!(stored["seq"], seq);
        let new = format!("magnet:?xs=urn:btpk:{}", stored["key"].as_str().unwrap());
        assert_eq!(*link.get_or_insert(new.clone()), new);
        dht.get(&scene, &new).end().assert(0, &[]);
        scene.assert_taken();
    }
}
