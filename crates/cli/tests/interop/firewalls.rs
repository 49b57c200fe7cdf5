//! A home whose router lets nobody in over IPv6, and opens a hole when it is asked to by PCP: miniupnpd.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::netns::{Namespace, wire};
use crate::payload::Shape;
use crate::scene::Scene;

const HOST: &str = "2001:db8:5::2";

/// What the router passes on: what the daemon lets in, and what belongs to it.
const FIREWALL: &str = "\
table inet filter {
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    iifname lan accept
    jump miniupnpd
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
enable_natpmp=yes
enable_upnp=no
ipv6_disable=no
secure_mode=yes
allow 1024-65535 0.0.0.0/0 1024-65535
";

/// What the daemon says when it can be asked.
const READY: &str = "Listening for NAT-PMP/PCP traffic";

/// A host behind a router, and somebody outside.
struct Home {
    host: Namespace,
    router: Namespace,
    outside: Namespace,
}

impl Home {
    /// `None`, and said, if we may not make namespaces.
    fn build() -> Option<Self> {
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
            (&host, "eth0", HOST),
            (&router, "wan", "2001:db8:6::1"),
            (&outside, "eth0", "2001:db8:6::2"),
        ] {
            namespace.ip(&format!("addr add {addr}/64 dev {link} nodad"));
        }
        host.ip("route add default via 10.89.5.1");
        host.ip("-6 route add default via 2001:db8:5::1");
        outside.ip("-6 route add default via 2001:db8:6::1");
        let forward = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
        router.run(&["sh", "-c", forward]);
        router.run(&["nft", FIREWALL]);
        Some(Self {
            host,
            router,
            outside,
        })
    }

    /// What the daemon has opened.
    fn holes(&self) -> String {
        self.router
            .run(&["nft", "list", "chain", "inet", "filter", "miniupnpd"])
    }
}

/// The daemon on the router. It ends with this.
struct Daemon(Child);

impl Daemon {
    /// `None`, and said, where it is not installed.
    fn start(router: &Namespace, dir: &Path) -> Option<Self> {
        // It says its version, and fails.
        if Command::new("miniupnpd").arg("--version").output().is_err() {
            let in_ci = std::env::var_os("CI").is_some();
            assert!(!in_ci, "miniupnpd must be installed in CI");
            eprintln!("skipped: there is no miniupnpd");
            return None;
        }
        let config = dir.join("miniupnpd.conf");
        std::fs::write(&config, CONFIG).unwrap();
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
            .is_some_and(|line: &String| line.contains(READY))
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

#[test]
fn whoever_is_outside_gets_in_while_the_router_lets_our_port_through() {
    let Some(home) = Home::build() else {
        return;
    };
    let scene = Scene::set(Shape::Single, "--v1");
    let Some(_daemon) = Daemon::start(&home.router, &scene.dir("router")) else {
        return;
    };
    let args = ["--listen", "[::]:7000", "--no-dht", "--no-lsd"];
    let (mut seeder, _) = scene.seed_in(Some(&home.host), "seeder", &args);
    let mapped = seeder.wait_for("port_mapped");
    let expected = serde_json::json!({
        "event": "port_mapped", "port": 7000, "external_port": 7000,
        "external_ip": HOST, "by": "PCP",
    });
    assert_eq!(mapped, expected);
    assert_eq!(home.holes().matches("dport 7000").count(), 2, "TCP and UDP");
    let known = format!("[{HOST}]:7000");
    let get = [scene.torrent(), "--listen", "[::]:0", "--peer", &known];
    let alone = ["--no-dht", "--no-lsd", "--no-port-map"];
    let get = scene.get_in(Some(&home.outside), &[&get[..], &alone].concat());
    get.end().assert(0, &[]);
    scene.assert_taken();
    assert!(seeder.interrupt().code().is_some());
    assert!(!home.holes().contains("dport 7000"), "it was given back");
}
