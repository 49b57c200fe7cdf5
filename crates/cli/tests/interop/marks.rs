//! What is sent over uTP bears the mark that the user wants (`--dscp`), whichever way it is handed to the kernel.

use crate::netns::{Namespace, wire};
use crate::payload::Shape;
use crate::scene::Scene;

/// Counts what leaves over UDP, with the mark of lower effort and without.
const COUNTERS: &str = "\
table inet watch {
  counter marked {}
  counter plain {}
  chain out {
    type filter hook output priority 0
    meta l4proto udp ip dscp 1 counter name marked return
    meta l4proto udp ip6 dscp 1 counter name marked return
    meta l4proto udp counter name plain
  }
}";

const ARGS: [&str; 6] = [
    "--no-tcp",
    "--no-dht",
    "--no-lsd",
    "--no-port-map",
    "--dscp",
    "le",
];

/// How many packets and bytes a counter has seen.
fn counted(namespace: &Namespace, counter: &str) -> [u64; 2] {
    let text = namespace.run(&["nft", "list", "counter", "inet", "watch", counter]);
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    [numbers.next().unwrap(), numbers.next().unwrap()]
}

/// A whole transfer between two hosts at these addresses.
fn check(giver_addr: &str, taker_addr: &str) {
    let made = ["giver", "taker"].map(Namespace::make);
    let [Some(giver), Some(taker)] = &made else {
        return;
    };
    wire(((giver, "eth0"), (taker, "eth0")), "10.88.1", ["1", "2"]);
    giver.ip("addr add fd88::1/64 dev eth0 nodad");
    taker.ip("addr add fd88::2/64 dev eth0 nodad");
    for host in [giver, taker] {
        host.run(&["nft", COUNTERS]);
    }
    let scene = Scene::set(Shape::Single, "--v1");
    let seed = [&["--listen", giver_addr][..], &ARGS].concat();
    let (_seeder, addr) = scene.seed_in(Some(giver), "seeder", &seed);
    let addr = addr.to_string();
    let get = [scene.torrent(), "--listen", taker_addr, "--peer", &addr];
    let get = scene.get_in(Some(taker), &[&get[..], &ARGS].concat());
    get.end().assert(0, &[]);
    scene.assert_taken();
    let [_, bytes] = counted(giver, "marked");
    assert!(bytes > 1_000_000, "{bytes} bytes are marked");
    let [packets, _] = counted(taker, "marked");
    assert!(packets > 10, "{packets} packets are marked");
    for host in [giver, taker] {
        assert_eq!(counted(host, "plain"), [0, 0]);
    }
}

#[test]
fn streams_over_utp_are_marked_as_wanted() {
    check("10.88.1.1:7001", "10.88.1.2:7002");
}

#[test]
fn streams_over_utp_are_marked_as_wanted_over_ipv6() {
    check("[fd88::1]:7001", "[fd88::2]:7002");
}
