//! Two homes behind NATs, and a world between them: who is in neither cannot dial into either (BEP 55).

use std::process::Command;

use crate::netns::{has_tools, ip, works};
use crate::payload::Shape;
use crate::riverrun::Riverrun;
use crate::scene::Scene;

/// The world's address, where the one in the middle is.
const MIDDLE: &str = "10.88.0.1";

/// A home router: what goes out gets its address, and only answers come in. What comes for nobody is dropped without a
/// trace, as routers do.
const ROUTER: &str = "\
table inet nat {
  chain out {
    type nat hook postrouting priority srcnat
    oifname wan masquerade
  }
  chain through {
    type filter hook forward priority filter
    iifname wan ct state != { established, related } drop
  }
  chain into {
    type filter hook input priority filter
    iifname wan drop
  }
}";

/// How many reports, of which one comes a second, until a peer has been told of others, and will not be for a minute.
const HEARD_OF_NOBODY: u32 = 7;

/// Has a namespace pass on what is for others.
const FORWARD: [&str; 3] = ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"];

/// The namespaces; removed when this is dropped.
struct Homes {
    world: String,
    routers: [String; 2],
    hosts: [String; 2],
}

impl Homes {
    /// `None`, and said, if we may not make namespaces.
    fn build() -> Option<Self> {
        let name = |what: &str| format!("riverrun-{}-{what}", std::process::id());
        let homes = Self {
            world: name("world"),
            routers: [name("router1"), name("router2")],
            hosts: [name("home1"), name("home2")],
        };
        if !has_tools() || !works("ip", &["netns", "add", &homes.world]) {
            eprintln!("skipped: network namespaces need root, ip and nft");
            return None;
        }
        let world = homes.world.as_str();
        ip(&["-n", world, "link", "set", "lo", "up"]);
        ip(&["-n", world, "addr", "add", "10.88.0.1/32", "dev", "lo"]);
        for (at, (router, host)) in homes.routers.iter().zip(&homes.hosts).enumerate() {
            let at = at + 1;
            for namespace in [router, host] {
                ip(&["netns", "add", namespace]);
                ip(&["-n", namespace, "link", "set", "lo", "up"]);
            }
            let (street, home) = (format!("10.88.{at}"), format!("192.168.{at}"));
            wire((world, &format!("street{at}")), (router, "wan"), &street);
            wire((router, "lan"), (host, "eth0"), &home);
            route(router, &format!("{street}.1"));
            route(host, &format!("{home}.1"));
            inside(router, &FORWARD);
            inside(router, &["nft", ROUTER]);
        }
        inside(world, &FORWARD);
        Some(homes)
    }
}

impl Drop for Homes {
    fn drop(&mut self) {
        let all = self.hosts.iter().chain(&self.routers).chain([&self.world]);
        for namespace in all {
            // Whatever is left of it is no part of the test's result.
            works("ip", &["netns", "del", namespace]);
        }
    }
}

/// Joins two namespaces; the first has the first address of the net, the second the second.
fn wire(near: (&str, &str), far: (&str, &str), net: &str) {
    ip(&[
        "-n", near.0, "link", "add", near.1, "type", "veth", "peer", "name", far.1, "netns", far.0,
    ]);
    for ((namespace, link), host) in [(near, 1), (far, 2)] {
        let addr = format!("{net}.{host}/24");
        ip(&["-n", namespace, "addr", "add", &addr, "dev", link]);
        ip(&["-n", namespace, "link", "set", link, "up"]);
    }
}

fn route(namespace: &str, gateway: &str) {
    ip(&["-n", namespace, "route", "add", "default", "via", gateway]);
}

fn inside(namespace: &str, command: &[&str]) {
    let mut ip = Command::new("ip");
    ip.args(["netns", "exec", namespace]).args(command);
    assert!(ip.status().unwrap().success(), "{command:?}");
}

#[test]
fn two_homes_behind_nats_meet_through_a_third_peer() {
    let Some(homes) = Homes::build() else { return };
    let scene = Scene::set(Shape::Single, "--v1");
    let torrent = scene.torrent();
    // The one in the middle hardly takes or sends anything: by it alone the download would take an hour.
    let listen = format!("{MIDDLE}:7000");
    let middle = [
        "get",
        torrent,
        "-o",
        "middle",
        "--listen",
        &listen,
        "--no-dht",
        "--no-port-map",
        "--limit",
        "4K",
        "--limit-up",
        "1K",
    ];
    let mut middle = Riverrun::start_in(Some(&homes.world), &scene.dir("middle"), &middle);
    middle.wait_for("added");
    let published = scene.payload.parent().to_str().unwrap();
    let quiet = ["--no-dht", "--no-port-map", "--peer", &listen];
    let seed = ["seed", torrent, "-o", published, "--listen", "7001"];
    let seed = [&seed[..], &quiet].concat();
    let mut seeder = Riverrun::start_in(Some(&homes.hosts[0]), &scene.dir("seeder"), &seed);
    seeder.wait_for("seeding");
    // By now the seeder has heard of nobody and will not for a minute, so that only the other one dials, in vain, and
    // has to ask for the meeting.
    while middle.wait_for("progress")["peers"] == 0 {}
    for _ in 0..HEARD_OF_NOBODY {
        middle.wait_for("progress");
    }
    let taken = scene.taken();
    let get = [
        "get",
        torrent,
        "-o",
        taken.to_str().unwrap(),
        "--listen",
        "7002",
    ];
    let get = [&get[..], &quiet].concat();
    let ended = Riverrun::start_in(Some(&homes.hosts[1]), &scene.home(), &get).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    scene.assert_taken();
}
