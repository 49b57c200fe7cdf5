//! A path that becomes narrower while a stream over uTP is on it.

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

/// Where the two listen.
struct Ends {
    giver: &'static str,
    taker: &'static str,
}

const V4: Ends = Ends {
    giver: "10.89.1.2:7001",
    taker: "10.89.2.2:7002",
};

const V6: Ends = Ends {
    giver: "[fd89:1::2]:7001",
    taker: "[fd89:2::2]:7002",
};

/// Who has, who wants, and the router between them.
struct Path {
    giver: Namespace,
    router: Namespace,
    taker: Namespace,
}

impl Path {
    /// `None`, and said, where namespaces cannot be made.
    fn lay() -> Option<Self> {
        let path = Self {
            giver: Namespace::make("giver")?,
            router: Namespace::make("router")?,
            taker: Namespace::make("taker")?,
        };
        let Self {
            giver,
            router,
            taker,
        } = &path;
        for (link, host, net) in [("near", giver, 1), ("far", taker, 2)] {
            let ends = ((router, link), (host, "eth0"));
            wire(ends, &format!("10.89.{net}"), ["1", "2"]);
            router.ip(&format!("addr add fd89:{net}::1/64 dev {link} nodad"));
            host.ip(&format!("addr add fd89:{net}::2/64 dev eth0 nodad"));
            host.ip(&format!("route add default via 10.89.{net}.1"));
            host.ip(&format!("-6 route add default via fd89:{net}::1"));
        }
        router.run(&FORWARD);
        let forward = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
        router.run(&["sh", "-c", forward]);
        Some(path)
    }

    /// Moves a payload by a stream, and narrows the path when a tenth is there. The one who takes apart what is under way
    /// must not have done so before, and must after: then it went on by the stream where it was, and not by another one
    /// after that had died.
    fn narrow_under_a_stream(
        &self,
        ends: &Ends,
        (who, counter): (&Namespace, &Counter),
        narrow: impl FnOnce(&Self),
    ) {
        let scene = Scene::set(Shape::Single, "--v1");
        let seed = ["--listen", ends.giver, "--limit-up", "400K"];
        let seed = [&seed[..], &QUIET].concat();
        let (_seeder, addr) = scene.seed_in(Some(&self.giver), "seeder", &seed);
        let addr = addr.to_string();
        let get = [scene.torrent(), "--listen", ends.taker, "--peer", &addr];
        let mut get = scene.get_in(Some(&self.taker), &[&get[..], &QUIET].concat());
        while get.wait_for("progress")["verified_bytes"].as_u64().unwrap() < 300_000 {}
        assert_eq!(counter.read(who), 0, "on a path as wide as any");
        narrow(self);
        get.end().assert(0, &[]);
        scene.assert_taken();
        assert!(counter.read(who) > 0);
    }
}

/// How many datagrams a host has taken apart, by family.
enum Counter {
    V4,
    V6,
}

impl Counter {
    fn read(&self, host: &Namespace) -> u64 {
        let (path, name) = match self {
            Self::V4 => ("/proc/net/snmp", "FragOKs"),
            Self::V6 => ("/proc/net/snmp6", "Ip6FragOKs"),
        };
        let text = host.run(&["cat", path]);
        let count = match self {
            // A line of names, and one of values.
            Self::V4 => {
                let mut lines = text.lines().filter(|line| line.starts_with("Ip: "));
                let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
                let mut counters = names.split(' ').zip(values.split(' '));
                counters.find(|(found, _)| *found == name).unwrap().1
            }
            Self::V6 => {
                let mut counters = text.lines().filter_map(|line| line.split_once(' '));
                counters.find(|(found, _)| *found == name).unwrap().1
            }
        };
        count.trim().parse().unwrap()
    }
}

#[test]
fn a_stream_outlives_its_path_becoming_narrower() {
    let Some(path) = Path::lay() else {
        return;
    };
    path.router.run(&["nft", SILENT]);
    let router = (&path.router, &Counter::V4);
    path.narrow_under_a_stream(&V4, router, |path| {
        path.router.ip("link set far mtu 1000");
    });
}

#[test]
fn a_stream_over_ipv6_outlives_its_path_becoming_narrower_when_the_router_says_so() {
    let Some(path) = Path::lay() else {
        return;
    };
    let giver = (&path.giver, &Counter::V6);
    path.narrow_under_a_stream(&V6, giver, |path| {
        path.router.ip("link set far mtu 1300");
    });
}

#[test]
fn a_stream_outlives_its_own_interface_becoming_narrower() {
    let Some(path) = Path::lay() else {
        return;
    };
    // The kernel refuses datagrams that are handed to it many at once, for each is longer than the interface carries.
    let giver = (&path.giver, &Counter::V4);
    path.narrow_under_a_stream(&V4, giver, |path| {
        path.giver.ip("link set eth0 mtu 1000");
    });
}

#[test]
fn a_stream_over_ipv6_outlives_its_own_interface_becoming_narrower() {
    let Some(path) = Path::lay() else {
        return;
    };
    let giver = (&path.giver, &Counter::V6);
    path.narrow_under_a_stream(&V6, giver, |path| {
        path.giver.ip("link set eth0 mtu 1300");
    });
}
