//! Where packets go, counted by the kernel: nowhere but where the user allows, whatever happens.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::netns::{Land, NAME_SERVER, Namespace, WORLD, wire};
use crate::payload::Shape;
use crate::proxies::{Kind, Proxy};
use crate::riverrun::Riverrun;
use crate::routers::{Router, Speaks};
use crate::scene::Scene;
use crate::tracker::Tracker;

/// Long enough for a client that would try elsewhere to do so.
const A_WHILE: Duration = Duration::from_secs(4);

/// A seeder, a tracker and a name server in the world of a machine.
struct World {
    land: Land,
    scene: Scene,
    tracker: Tracker,
    _seeder: Riverrun,
    /// Where the seeder is, with its node of the DHT.
    seeder_addr: SocketAddr,
}

impl World {
    /// `None` where namespaces cannot be made.
    fn make(rate: &str) -> Option<Self> {
        let land = Land::make()?;
        land.tell_names();
        let scene = Scene::set(Shape::Single, "--v1");
        let any = SocketAddr::from((WORLD, 0));
        let tracker = land.world().within(|| Tracker::start_at(any));
        let (http, listen) = (tracker.http(), format!("{WORLD}:0"));
        let args = ["--listen", &listen, "--limit-up", rate, "-t", &http];
        let (seeder, seeder_addr) = scene.seed_in(Some(land.world()), "seeder", &args);
        tracker.wait_for_peers(1);
        Some(Self {
            land,
            scene,
            tracker,
            _seeder: seeder,
            seeder_addr,
        })
    }

    /// The trackers' URLs with a name instead of the address.
    fn named_trackers(&self) -> [String; 2] {
        let world = WORLD.to_string();
        [self.tracker.http(), self.tracker.udp()].map(|url| url.replace(&world, "tracker.test"))
    }

    /// Downloads on the machine.
    fn get(&self, args: &[&str]) -> Riverrun {
        let [http, udp] = self.named_trackers();
        let torrent = [self.scene.torrent(), "-t", &http, "-t", &udp];
        self.get_alone(&[&torrent, args].concat())
    }

    /// Downloads on the machine what is named by the arguments, with no tracker but theirs.
    fn get_alone(&self, args: &[&str]) -> Riverrun {
        self.scene.get_in(Some(self.land.machine()), args)
    }

    /// Downloads by the VPN and by nothing else.
    fn get_bound(&self) -> Riverrun {
        self.get(&["--bind", "vpn0", "--dns", NAME_SERVER])
    }

    /// Another seeder, announced at the node of the first; that node, by a name.
    fn announce_in_dht(&self) -> (Riverrun, String) {
        let (any, begins) = (format!("{WORLD}:0"), self.seeder_addr.to_string());
        let args = ["--listen", &any, "--dht-bootstrap", &begins];
        let world = Some(self.land.world());
        let (seeder, _) = self.scene.seed_in(world, "second", &args);
        (seeder, format!("node.test:{}", self.seeder_addr.port()))
    }

    fn assert_nothing_by_lan(&self) {
        assert_eq!(self.land.left_by("lan"), (0, 0), "packets went by lan0");
    }
}

/// Waits until some of the payload is there.
fn wait_for_some(get: &mut Riverrun) {
    while get.wait_for("progress")["verified_bytes"].as_u64().unwrap() < 300_000 {}
}

#[test]
fn the_counters_see_a_client_that_is_not_bound() {
    let Some(world) = World::make("10M") else {
        return;
    };
    let url = world.tracker.http();
    // Local discovery speaks on all interfaces.
    let get = world.get_alone(&[world.scene.torrent(), "-t", &url, "--no-lsd"]);
    get.end().assert(0, &[]);
    world.scene.assert_taken();
    assert!(world.land.left_by("lan").0 > 10);
    assert_eq!(world.land.left_by("vpn").0, 0);
}

#[test]
fn connections_of_peers_are_marked_as_wanted() {
    let Some(world) = World::make("10M") else {
        return;
    };
    let args = [
        "--bind",
        "vpn0",
        "--dns",
        NAME_SERVER,
        "--dscp",
        "le",
        "--no-utp",
    ];
    world.get(&args).end().assert(0, &[]);
    assert!(world.land.left_by("marked").0 > 10);
}

#[test]
fn a_bound_download_has_no_other_way() {
    let Some(world) = World::make("10M") else {
        return;
    };
    let ended = world.get_bound().end();
    ended.assert(0, &[]);
    world.scene.assert_taken();
    world.assert_nothing_by_lan();
    assert!(world.land.left_by("vpn").0 > 10);
}

#[test]
fn an_interface_that_goes_down_silences_a_bound_download_until_it_is_up() {
    let Some(world) = World::make("400K") else {
        return;
    };
    let mut get = world.get_bound();
    wait_for_some(&mut get);
    world.land.vpn_down();
    let event = get.wait_for("network");
    assert_eq!(event["state"], "offline", "{event}");
    assert!(!get.ends_within(A_WHILE));
    world.assert_nothing_by_lan();
    world.land.vpn_up();
    let event = get.wait_for("network");
    assert_eq!(event["state"], "online", "{event}");
    get.end()
        .assert(0, &["vpn0 is not there or is down", "it is back"]);
    world.scene.assert_taken();
    world.assert_nothing_by_lan();
}

#[test]
fn an_address_more_on_a_bound_interface_disturbs_nobody() {
    let Some(world) = World::make("400K") else {
        return;
    };
    let mut get = world.get_bound();
    wait_for_some(&mut get);
    world.land.vpn_grows();
    let ended = get.end();
    ended.assert(0, &[]);
    let moved = |event: &&serde_json::Value| event["event"] == "network";
    assert_eq!(ended.events.iter().find(moved), None);
    world.scene.assert_taken();
    world.assert_nothing_by_lan();
}

#[test]
fn an_interface_that_comes_back_with_another_address_is_used_again() {
    let Some(world) = World::make("400K") else {
        return;
    };
    let mut get = world.get_bound();
    wait_for_some(&mut get);
    world.land.vpn_gone();
    assert_eq!(get.wait_for("network")["state"], "offline");
    assert!(!get.ends_within(A_WHILE));
    world.land.add_vpn("7");
    assert_eq!(get.wait_for("network")["state"], "online");
    get.end().assert(0, &[]);
    world.scene.assert_taken();
    world.assert_nothing_by_lan();
}

#[test]
fn a_download_that_starts_before_its_interface_waits_for_it() {
    let Some(world) = World::make("10M") else {
        return;
    };
    world.land.vpn_gone();
    let mut get = world.get_bound();
    assert_eq!(get.wait_for("network")["state"], "offline");
    assert!(!get.ends_within(A_WHILE));
    world.assert_nothing_by_lan();
    world.land.add_vpn("2");
    get.end().assert(0, &[]);
    world.scene.assert_taken();
    world.assert_nothing_by_lan();
}

#[test]
fn a_bound_address_is_left_by_no_other_interface() {
    let Some(world) = World::make("400K") else {
        return;
    };
    let mut get = world.get(&["--bind", "10.77.1.2", "--dns", NAME_SERVER]);
    wait_for_some(&mut get);
    world.land.vpn_down();
    assert_eq!(get.wait_for("network")["state"], "offline");
    assert!(!get.ends_within(A_WHILE));
    world.assert_nothing_by_lan();
    world.land.vpn_up();
    get.end().assert(0, &[]);
    world.scene.assert_taken();
    world.assert_nothing_by_lan();
}

/// What a client behind a proxy must not have done.
fn assert_nothing_astray(world: &World) {
    assert_eq!(
        world.land.left_by("astray"),
        (0, 0),
        "packets went elsewhere"
    );
}

#[test]
fn behind_a_socks_proxy_nothing_else_is_spoken_to_and_names_stay_names() {
    let Some(world) = World::make("10M") else {
        return;
    };
    let proxy = Proxy::start(&world.land, Kind::Socks);
    let ended = world.get(&["--proxy", &proxy.url("socks5")]).end();
    ended.assert(0, &[]);
    world.scene.assert_taken();
    assert_nothing_astray(&world);
    for asked in [
        "connect tracker.test:",
        "datagram tracker.test:",
        "connect 10.77.3.1:",
    ] {
        assert!(proxy.was_asked(asked), "{asked}");
    }
    assert!(!ended.stderr.contains("p@ss") && !ended.stderr.contains("p%40ss"));
    assert_eq!(ended.announced(), 2, "both trackers have answered");
}

#[test]
fn utp_goes_through_a_socks_proxy() {
    let Some(world) = World::make("10M") else {
        return;
    };
    let proxy = Proxy::start(&world.land, Kind::Socks);
    let ended = world.get(&["--proxy", &proxy.url("socks5"), "--no-tcp"]);
    ended.end().assert(0, &[]);
    world.scene.assert_taken();
    assert_nothing_astray(&world);
    assert!(proxy.was_asked(&format!("datagram {}", world.seeder_addr)));
    assert!(!proxy.was_asked(&format!("connect {}", world.seeder_addr)));
}

#[test]
fn the_dht_is_asked_through_a_socks_proxy_by_a_node_known_by_name() {
    let Some(world) = World::make("10M") else {
        return;
    };
    let (_second, node) = world.announce_in_dht();
    let proxy = Proxy::start(&world.land, Kind::Socks);
    let (torrent, url) = (world.scene.torrent(), proxy.url("socks5"));
    // The nodes of this network have private addresses.
    let by = ["--dht-bootstrap", &node, "--listen", "10.77.2.2:0"];
    let get = world.get_alone(&[&[torrent, "--proxy", &url], &by[..]].concat());
    get.end().assert(0, &[]);
    world.scene.assert_taken();
    assert_nothing_astray(&world);
    assert!(proxy.was_asked(&format!("datagram {node}")));
}

#[test]
fn who_visits_the_dht_goes_through_the_proxy_or_nowhere() {
    let Some(world) = World::make("10M") else {
        return;
    };
    let (_second, node) = world.announce_in_dht();
    let visit = |proxy: &Proxy, scheme| {
        let url = proxy.url(scheme);
        let ask = ["dht", "get-peers", world.scene.torrent()];
        let by = ["--dht-bootstrap", &node, "--listen", "10.77.2.2:0"];
        let args = [&ask[..], &by, &["--proxy", &url]].concat();
        Riverrun::start_in(Some(world.land.machine()), &world.scene.home(), &args).end()
    };
    let socks = Proxy::start(&world.land, Kind::Socks);
    // It may have been asked before the seeder was announced.
    while visit(&socks, "socks5")
        .events
        .iter()
        .all(|event| event["event"] != "peer")
    {}
    assert!(socks.was_asked(&format!("datagram {node}")));
    for (kind, scheme) in [
        (Kind::SocksWithoutDatagrams, "socks5"),
        (Kind::Http, "http"),
    ] {
        let ended = visit(&Proxy::start(&world.land, kind), scheme);
        ended.assert(8, &["no datagrams by the proxy"]);
    }
    assert_nothing_astray(&world);
}

#[test]
fn a_node_that_stays_is_not_put_behind_a_proxy() {
    let scene = Scene::set(Shape::Single, "--v1");
    let args = ["dht", "node", "--first", "--proxy", "socks5://127.0.0.1:9"];
    let ended = Riverrun::start(&scene.home(), &args).end();
    ended.assert(2, &["nobody can ask a node behind a proxy"]);
}

#[test]
fn a_proxy_without_datagrams_makes_udp_trackers_fail_and_nothing_leak() {
    let Some(world) = World::make("10M") else {
        return;
    };
    let proxy = Proxy::start(&world.land, Kind::SocksWithoutDatagrams);
    let ended = world.get(&["--proxy", &proxy.url("socks5h")]).end();
    ended.assert(0, &["does not support this"]);
    world.scene.assert_taken();
    assert_nothing_astray(&world);
    assert!(!proxy.was_asked("datagram"));
}

#[test]
fn behind_an_http_proxy_nothing_else_is_spoken_to() {
    let Some(world) = World::make("10M") else {
        return;
    };
    let proxy = Proxy::start(&world.land, Kind::Http);
    let ended = world.get(&["--proxy", &proxy.url("http")]).end();
    ended.assert(0, &["the proxy carries no datagrams"]);
    world.scene.assert_taken();
    assert_nothing_astray(&world);
    assert!(proxy.was_asked("GET http://tracker.test:") && proxy.was_asked("CONNECT 10.77.3.1:"));
    assert!(!ended.stderr.contains("p@ss") && !ended.stderr.contains("p%40ss"));
}

#[test]
fn a_proxy_that_is_gone_leaves_silence_until_it_is_back() {
    let Some(world) = World::make("400K") else {
        return;
    };
    let proxy = Proxy::start(&world.land, Kind::Socks);
    let mut get = world.get(&["--proxy", &proxy.url("socks5")]);
    wait_for_some(&mut get);
    proxy.set_down(true);
    assert!(!get.ends_within(A_WHILE));
    assert_nothing_astray(&world);
    proxy.set_down(false);
    get.end().assert(0, &[]);
    world.scene.assert_taken();
    assert_nothing_astray(&world);
}

#[test]
fn a_wrong_login_is_said_without_being_repeated() {
    let Some(world) = World::make("10M") else {
        return;
    };
    let proxy = Proxy::start(&world.land, Kind::Socks);
    let wrong = proxy.url("socks5").replace("p%40ss", "Xsecret");
    let ended = world.get(&["--proxy", &wrong, "--timeout", "5s"]).end();
    assert_ne!(ended.code, Some(0));
    assert!(
        ended.stderr.contains("wrong user or password"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("Xsecret"), "{}", ended.stderr);
    assert_nothing_astray(&world);
}

/// Seeds on the machine until the router has forwarded its port, and ends; the event of the forwarding.
fn seed_behind(world: &World, router: &Router, internal: &str) -> serde_json::Value {
    let args = ["--listen", "10.77.2.2:7000", "-t", &world.tracker.http()];
    let machine = Some(world.land.machine());
    let (mut seeder, _) = world.scene.seed_in(machine, "machine", &args);
    let event = seeder.wait_for("port_mapped");
    for protocol in ["TCP", "UDP"] {
        router.wait_for(&format!("map {protocol} {internal}"));
    }
    assert!(seeder.interrupt().code().is_some());
    for protocol in ["TCP", "UDP"] {
        router.wait_for(&format!("unmap {protocol} {internal}"));
    }
    event
}

#[test]
fn routers_forward_the_port_and_get_it_back() {
    for (speaks, by, external_port) in [
        (Speaks::Pcp, "PCP", 8000),
        (Speaks::NatPmp, "NAT-PMP", 8000),
        (Speaks::Upnp, "UPnP", 7000),
    ] {
        let Some(world) = World::make("10M") else {
            return;
        };
        let router = Router::start(&world.land, speaks);
        let event = seed_behind(&world, &router, "7000");
        let expected = serde_json::json!({
            "event": "port_mapped", "port": 7000, "external_port": external_port,
            "external_ip": "198.51.100.1", "by": by,
        });
        assert_eq!(event, expected);
    }
}

/// A host with a router before each of two interfaces, which speak PCP and NAT-PMP; the way to everybody is by the first.
struct TwoWays {
    host: Namespace,
    /// Where the routers are.
    _beyond: [Namespace; 2],
    routers: [Router; 2],
    scene: Scene,
}

impl TwoWays {
    /// `None` where namespaces cannot be made.
    fn make() -> Option<Self> {
        let host = Namespace::make("host")?;
        let beyond = [Namespace::make("first")?, Namespace::make("second")?];
        let all = beyond.iter().zip([Speaks::Pcp, Speaks::NatPmp]);
        let routers: Vec<_> = (0..)
            .zip(all)
            .map(|(number, (beyond, speaks))| {
                let (link, net) = (format!("eth{number}"), format!("10.86.{number}"));
                // Routers of two houses are numbered alike.
                let number = number + 7;
                wire(
                    ((&host, &link), (beyond, "lan")),
                    &net,
                    ["2", &number.to_string()],
                );
                host.ip(&format!(
                    "route add default via {net}.{number} metric {number}"
                ));
                let addr = format!("{net}.{number}").parse().unwrap();
                Router::start_at(beyond, addr, speaks)
            })
            .collect();
        Some(Self {
            host,
            _beyond: beyond,
            routers: routers.try_into().ok()?,
            scene: Scene::set(Shape::Single, "--v1"),
        })
    }

    /// Seeds until the routers of these numbers forward the port, and ends; their addresses outside, as told.
    fn check(&self, home: &str, args: &[&str], expected: &[usize]) -> BTreeSet<String> {
        let (mut seeder, _) = self.scene.seed_in(Some(&self.host), home, args);
        let mut told = BTreeSet::new();
        for _ in expected {
            let event = seeder.wait_for("port_mapped");
            assert_eq!(event["external_port"], 8000, "{event}");
            told.insert(event["external_ip"].as_str().unwrap().to_owned());
        }
        let wait = |what: &str| {
            for number in expected {
                for protocol in ["TCP", "UDP"] {
                    self.routers[*number].wait_for(&format!("{what} {protocol} 7000"));
                }
            }
        };
        wait("map");
        assert!(seeder.interrupt().code().is_some());
        wait("unmap");
        told
    }
}

#[test]
fn each_interface_that_is_named_has_its_port_forwarded() {
    const OUTSIDE: [&str; 2] = ["198.51.100.7", "198.51.100.8"];
    let bound = [
        "--bind",
        "eth0",
        "--bind",
        "eth1",
        "--listen",
        "0.0.0.0:7000",
    ];
    let listening = ["--listen", "10.86.0.2:7000", "--listen", "10.86.1.2:7000"];
    for args in [&bound[..], &listening] {
        let Some(ways) = TwoWays::make() else {
            return;
        };
        let told = ways.check("seeder", args, &[0, 1]);
        assert_eq!(told, OUTSIDE.map(str::to_owned).into());
    }
    let Some(ways) = TwoWays::make() else {
        return;
    };
    let told = ways.check("anywhere", &["--listen", "0.0.0.0:7000"], &[0]);
    assert_eq!(told, [OUTSIDE[0].to_owned()].into());
    assert!(ways.routers[1].is_left_alone(), "it is not on our way");
    let second = ["--bind", "eth1", "--listen", "0.0.0.0:7000"];
    let told = ways.check("second", &second, &[1]);
    assert_eq!(told, [OUTSIDE[1].to_owned()].into());
}

#[test]
fn an_interface_that_goes_leaves_the_others_their_port() {
    let Some(ways) = TwoWays::make() else {
        return;
    };
    let args = [
        "--bind",
        "eth0",
        "--bind",
        "eth1",
        "--listen",
        "0.0.0.0:7000",
    ];
    let (mut seeder, _) = ways.scene.seed_in(Some(&ways.host), "seeder", &args);
    for _ in 0..2 {
        seeder.wait_for("port_mapped");
    }
    ways.host.ip("link set eth0 down");
    let event = seeder.wait_for("port_mapped");
    assert_eq!(event["by"], "NAT-PMP", "{event}");
    ways.host.ip("link set eth0 up");
    ways.host.ip("route add default via 10.86.0.7 metric 7");
    let both = [(); 2].map(|()| seeder.wait_for("port_mapped")["by"].to_string());
    assert_ne!(both[0], both[1]);
}
