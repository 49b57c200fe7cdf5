//! A home whose router lets nobody in over IPv6, and opens a hole when it is asked to, by PCP or UPnP: miniupnpd.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

use crate::machine;
use crate::netns::{Namespace, wire};
use crate::payload::Shape;
use crate::riverrun::PATIENCE;
use crate::scene::Scene;

const HOST: &str = "2001:db8:5::2";

/// The router as hosts know it: by an address of the link, as routers announce themselves.
const GATEWAY: &str = "fe80::5";

/// Where we listen there.
const PORT: u16 = 7000;

/// What the router passes on: what the daemon lets in, and what belongs to it.
const FIREWALL: &str = "\
table inet filter {
  chain input {
    type filter hook input priority 0; policy accept;
  }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    iifname lan accept
    jump miniupnpd
    # As a wall that says so: nobody has to wait to know that it is there.
    meta nfproto ipv6 reject with icmpv6 admin-prohibited
  }
  chain miniupnpd {
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    jump prerouting_miniupnpd
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    jump postrouting_miniupnpd
  }
  chain prerouting_miniupnpd {
  }
  chain postrouting_miniupnpd {
  }
}";

/// The daemon will not be without an address that is routed; nothing goes there.
const CONFIG: &str = "\
ext_ifname=wan
listening_ip=lan
ext_ip=1.2.3.4
ipv6_disable=no
secure_mode=yes
allow 1024-65535 0.0.0.0/0 1024-65535
";

/// How the router can be asked.
struct Speaks {
    /// What we call it.
    name: &'static str,
    config: &'static str,
    /// What the router takes of what is for itself.
    input: &'static str,
    /// What the daemon says when it can be asked.
    ready: &'static str,
}

const PCP: Speaks = Speaks {
    name: "PCP",
    config: "enable_natpmp=yes\nenable_upnp=no\n",
    input: "accept",
    ready: "Listening for NAT-PMP/PCP traffic",
};

const UPNP: Speaks = Speaks {
    name: "UPnP",
    config: "enable_natpmp=no\nenable_upnp=yes\n",
    // The daemon takes PCP over IPv6 even if it is told not to.
    input: "udp dport 5351 reject",
    ready: "HTTP listening on port",
};

/// A host behind a router, and somebody outside.
struct Home {
    host: Namespace,
    router: Namespace,
    outside: Namespace,
}

impl Home {
    /// `None`, and said, if we may not make namespaces.
    fn build(speaks: &Speaks) -> Option<Self> {
        let host = Namespace::make("host")?;
        let (router, outside) = (Namespace::make("router")?, Namespace::make("outside")?);
        wire(((&router, "lan"), (&host, "eth0")), "10.89.5", ["1", "2"]);
        wire(
            ((&router, "wan"), (&outside, "eth0")),
            "10.89.6",
            ["1", "2"],
        );
        for (namespace, link, addr) in [
            (&router, "lan", "2001:db8:5::1"),
            (&router, "lan", GATEWAY),
            (&host, "eth0", HOST),
            (&router, "wan", "2001:db8:6::1"),
            (&outside, "eth0", "2001:db8:6::2"),
        ] {
            namespace.ip(&format!("addr add {addr}/64 dev {link} nodad"));
        }
        host.ip("route add default via 10.89.5.1");
        host.ip(&format!("-6 route add default via {GATEWAY} dev eth0"));
        outside.ip("-6 route add default via 2001:db8:6::1");
        let forward = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
        router.run(&["sh", "-c", forward]);
        router.run(&["nft", FIREWALL]);
        let input = format!("add rule inet filter input {}", speaks.input);
        router.run(&["nft", &input]);
        Some(Self {
            host,
            router,
            outside,
        })
    }

    /// Whether somebody outside, and the router itself, can connect to our port while somebody listens there.
    fn lets_in(&self) -> (bool, bool) {
        let listen = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).unwrap();
        let _listener = self.host.within(listen);
        let connects = || TcpStream::connect((HOST, PORT)).is_ok();
        (self.outside.within(connects), self.router.within(connects))
    }

    /// Waits until the daemon has made so many holes, or left so many.
    fn wait_for_holes(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        let list = ["nft", "list", "chain", "inet", "filter", "miniupnpd"];
        loop {
            let holes = self.router.run(&list);
            if holes.matches("dport 7000").count() == count {
                return;
            }
            assert!(Instant::now() < deadline, "not {count} in {holes}");
        }
    }
}

/// The daemon on the router. It ends with this.
struct Daemon(Child);

impl Daemon {
    /// `None`, and said, where it is not installed.
    fn start(router: &Namespace, speaks: &Speaks, dir: &Path) -> Option<Self> {
        if !machine::has("miniupnpd", machine::starts("miniupnpd", "--version")) {
            return None;
        }
        let config = dir.join("miniupnpd.conf");
        std::fs::write(&config, [CONFIG, speaks.config].concat()).unwrap();
        let mut command = router.command("miniupnpd");
        command.args(["-d", "-f"]).arg(&config);
        command.arg("-P").arg(dir.join("miniupnpd.pid"));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut lines = Vec::new();
        while !lines
            .last()
            .is_some_and(|line: &String| line.contains(speaks.ready))
        {
            let line = said.next();
            lines.push(
                line.unwrap_or_else(|| panic!("it ended: {lines:?}"))
                    .unwrap(),
            );
        }
        // What it says from now on is read by nobody, and must not hold it up.
        std::thread::spawn(move || said.count());
        Some(Self(child))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn check(speaks: &Speaks) {
    let Some(home) = Home::build(speaks) else {
        return;
    };
    let scene = Scene::set(Shape::Single, "--v1");
    let Some(_daemon) = Daemon::start(&home.router, speaks, &scene.dir("router")) else {
        return;
    };
    assert_eq!(home.lets_in(), (false, true), "nothing has been asked yet");
    let args = ["--listen", "[::]:7000", "--no-dht", "--no-lsd"];
    let (mut seeder, _) = scene.seed_in(Some(&home.host), "seeder", &args);
    let mapped = seeder.wait_for("port_mapped");
    let expected = serde_json::json!({
        "event": "port_mapped", "port": PORT, "external_port": PORT,
        "external_ip": HOST, "by": speaks.name,
    });
    assert_eq!(mapped, expected);
    // For TCP and UDP.
    home.wait_for_holes(2);
    let known = format!("[{HOST}]:{PORT}");
    let get = [scene.torrent(), "--listen", "[::]:0", "--peer", &known];
    let alone = ["--no-dht", "--no-lsd", "--no-port-map"];
    let get = scene.get_in(Some(&home.outside), &[&get[..], &alone].concat());
    get.end().assert(0, &[]);
    scene.assert_taken();
    assert!(seeder.interrupt().code().is_some());
    home.wait_for_holes(0);
    assert_eq!(home.lets_in(), (false, true), "it is closed again");
}

#[test]
fn whoever_is_outside_gets_in_through_a_hole_made_by_pcp_and_only_so_long() {
    check(&PCP);
}

#[test]
fn whoever_is_outside_gets_in_through_a_hole_made_by_upnp_and_only_so_long() {
    check(&UPNP);
}
