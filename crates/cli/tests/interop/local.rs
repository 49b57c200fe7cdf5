//! Peers of the local network (BEP 14), in networks of their own: two namespaces and a wire between them.

use crate::netns::{Namespace, wire};
use crate::payload::Shape;
use crate::riverrun::Ended;
use crate::scene::Scene;

/// Two namespaces with a wire between them.
struct Wire {
    ends: [Namespace; 2],
}

impl Wire {
    /// `None`, and said, if we may not make namespaces.
    fn lay() -> Option<Self> {
        let ends = [Namespace::make("a")?, Namespace::make("b")?];
        let [a, b] = &ends;
        wire(((a, "wire"), (b, "wire")), "10.77.0", ["1", "2"]);
        a.ip("addr add fd77::1/64 dev wire nodad");
        b.ip("addr add fd77::2/64 dev wire nodad");
        Some(Self { ends })
    }

    /// What becomes of one who wants what a seed has, at the two ends of the wire, neither of which knows the other.
    fn meet(&self, scene: &Scene, [seed, get]: [&str; 2], more: &[&str]) -> Ended {
        let [a, b] = &self.ends;
        let _seeder = scene.seed_in(Some(a), "seeder", &["--listen", seed]);
        let get = [&[scene.torrent(), "--listen", get], more].concat();
        scene.get_in(Some(b), &get).end()
    }
}

/// How many datagrams were sent over IPv4 in a namespace.
fn datagrams_sent(namespace: &Namespace) -> u64 {
    let text = namespace.run(&["cat", "/proc/net/snmp"]);
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "OutDatagrams");
    values.split(' ').nth(at.unwrap()).unwrap().parse().unwrap()
}

#[test]
fn two_in_one_network_find_each_other_without_being_told() {
    let Some(wire) = Wire::lay() else { return };
    for listen in [
        ["10.77.0.1:7001", "10.77.0.2:7002"],
        ["[fd77::1]:7003", "[fd77::2]:7004"],
    ] {
        let scene = Scene::set(Shape::Single, "--hybrid");
        wire.meet(&scene, listen, &[]).assert(0, &[]);
        scene.assert_taken();
    }
    // What the other test counts on.
    assert_ne!(datagrams_sent(&wire.ends[1]), 0);
}

/// A private torrent's peers come from its trackers alone, and it has none (BEP 27).
#[test]
fn a_private_torrent_is_not_asked_for_in_the_network() {
    let Some(wire) = Wire::lay() else { return };
    let scene = Scene::set(Shape::Single, "--private");
    let listen = ["10.77.0.1:7001", "10.77.0.2:7002"];
    let ended = wire.meet(&scene, listen, &["--timeout", "3s"]);
    assert_ne!(ended.code, Some(0));
    assert_eq!(wire.ends.each_ref().map(datagrams_sent), [0, 0]);
}
