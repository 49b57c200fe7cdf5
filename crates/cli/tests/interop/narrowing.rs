//! A path that becomes narrower while a stream over uTP is on it, and a router that says nothing of it.

use crate::netns::{FORWARD, Namespace, wire};
use crate::payload::Shape;
use crate::scene::Scene;

/// The router's word that a datagram was too large is lost, as where firewalls drop all ICMP.
const SILENT: &str = "\
table inet silent {
  chain out {
    type filter hook output priority filter
    icmp type destination-unreachable drop
  }
}";

const QUIET: [&str; 4] = ["--no-tcp", "--no-dht", "--no-lsd", "--no-port-map"];

/// How many datagrams a router has taken apart.
fn taken_apart(router: &Namespace) -> u64 {
    let counters = router.run(&["cat", "/proc/net/snmp"]);
    let mut lines = counters.lines().filter(|line| line.starts_with("Ip: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut counters = names.split(' ').zip(values.split(' '));
    let (_, count) = counters.find(|(name, _)| *name == "FragOKs").unwrap();
    count.parse().unwrap()
}

#[test]
fn a_stream_outlives_its_path_becoming_narrower() {
    let made = ["giver", "router", "taker"].map(Namespace::make);
    let [Some(giver), Some(router), Some(taker)] = &made else {
        return;
    };
    wire(((router, "near"), (giver, "eth0")), "10.89.1", ["1", "2"]);
    wire(((router, "far"), (taker, "eth0")), "10.89.2", ["1", "2"]);
    giver.ip("route add default via 10.89.1.1");
    taker.ip("route add default via 10.89.2.1");
    router.run(&FORWARD);
    router.run(&["nft", SILENT]);
    let scene = Scene::set(Shape::Single, "--v1");
    let seed = ["--listen", "10.89.1.2:7001", "--limit-up", "400K"];
    let seed = [&seed[..], &QUIET].concat();
    let (_seeder, addr) = scene.seed_in(Some(giver), "seeder", &seed);
    let addr = addr.to_string();
    let get = [
        scene.torrent(),
        "--listen",
        "10.89.2.2:7002",
        "--peer",
        &addr,
    ];
    let mut get = scene.get_in(Some(taker), &[&get[..], &QUIET].concat());
    while get.wait_for("progress")["verified_bytes"].as_u64().unwrap() < 300_000 {}
    assert_eq!(taken_apart(router), 0, "on a path as wide as any");
    router.ip("link set far mtu 1000");
    get.end().assert(0, &[]);
    scene.assert_taken();
    // What was under way went on by the stream where it was, not by another one after that had died.
    assert!(taken_apart(router) > 0);
}
