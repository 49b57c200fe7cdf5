//! Peers of the local network (BEP 14), in networks of their own: two namespaces and a wire between them.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::netns::{has_tools, ip, works};
use crate::payload::Shape;
use crate::riverrun::Riverrun;
use crate::scene::Scene;

/// Two namespaces with a wire between them. Dropping it takes them away.
struct Wire {
    names: [String; 2],
}

impl Wire {
    /// `None`, and said, if we may not make namespaces.
    fn lay() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let unique = format!("{}x{number}", std::process::id());
        let names = ["a", "b"].map(|end| format!("rr{unique}{end}"));
        let wire = Self { names };
        if !has_tools() || !works("ip", &["netns", "add", &wire.names[0]]) {
            eprintln!("skipped: network namespaces need root, ip and nft");
            return None;
        }
        let [a, b] = &wire.names;
        let (near, far) = (format!("v{unique}a"), format!("v{unique}b"));
        ip(&["netns", "add", b]);
        ip(&[
            "link", "add", &near, "netns", a, "type", "veth", "peer", "name", &far, "netns", b,
        ]);
        for (name, link, host) in [(a, &near, 1), (b, &far, 2)] {
            let (v4, v6) = (format!("10.77.0.{host}/24"), format!("fd77::{host}/64"));
            ip(&["-n", name, "addr", "add", &v4, "dev", link]);
            ip(&["-n", name, "addr", "add", &v6, "dev", link, "nodad"]);
            ip(&["-n", name, "link", "set", link, "up"]);
        }
        Some(wire)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for name in &self.names {
            // Whatever is left of it is no part of the test's result.
            works("ip", &["netns", "delete", name]);
        }
    }
}

/// How many datagrams were sent over IPv4 in a namespace.
fn datagrams_sent(name: &str) -> u64 {
    let args = ["netns", "exec", name, "cat", "/proc/net/snmp"];
    let output = Command::new("ip").args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "OutDatagrams");
    values.split(' ').nth(at.unwrap()).unwrap().parse().unwrap()
}

/// A seed and one who wants what it has, neither of which knows the other, at two ends of a wire.
fn meet(wire: &Wire, scene: &Scene, listen: [&str; 2]) {
    let [a, b] = &wire.names;
    let published = scene.payload.parent().to_str().unwrap();
    let seed = [
        "seed",
        scene.torrent(),
        "-o",
        published,
        "--listen",
        listen[0],
    ];
    let mut seeder = Riverrun::start_in(Some(a), &scene.dir("seeder"), &seed);
    seeder.wait_for("seeding");
    let taken = scene.taken();
    let taken = taken.to_str().unwrap();
    let get = ["get", scene.torrent(), "-o", taken, "--listen", listen[1]];
    let ended = Riverrun::start_in(Some(b), &scene.home(), &get).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    scene.assert_taken();
}

#[test]
fn two_in_one_network_find_each_other_without_being_told() {
    let Some(wire) = Wire::lay() else { return };
    for listen in [
        ["10.77.0.1:7001", "10.77.0.2:7002"],
        ["[fd77::1]:7003", "[fd77::2]:7004"],
    ] {
        let scene = Scene::set(Shape::Single, "--hybrid");
        meet(&wire, &scene, listen);
    }
    // What the other test counts on.
    assert_ne!(datagrams_sent(&wire.names[1]), 0);
}

/// A private torrent's peers come from its trackers alone, and it has none (BEP 27).
#[test]
fn a_private_torrent_is_not_asked_for_in_the_network() {
    let Some(wire) = Wire::lay() else { return };
    let scene = Scene::set(Shape::Single, "--private");
    let [a, b] = &wire.names;
    let published = scene.payload.parent().to_str().unwrap();
    let seed = [
        "seed",
        scene.torrent(),
        "-o",
        published,
        "--listen",
        "10.77.0.1:7001",
    ];
    let mut seeder = Riverrun::start_in(Some(a), &scene.dir("seeder"), &seed);
    seeder.wait_for("seeding");
    let get = [
        "get",
        scene.torrent(),
        "-o",
        "x",
        "--listen",
        "10.77.0.2:7002",
    ];
    let ended = Riverrun::start_in(
        Some(b),
        &scene.home(),
        &[&get[..], &["--timeout", "3s"]].concat(),
    );
    assert_ne!(ended.end().code, Some(0));
    assert_eq!([a, b].map(|name| datagrams_sent(name)), [0, 0]);
}
