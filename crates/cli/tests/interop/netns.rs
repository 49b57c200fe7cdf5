//! A machine with two ways into the world, made of network namespaces, and counters on what leaves it.
//!
//! The machine has `lan0`, where its default route points, and `vpn0`, a longer way to the same world. A third
//! namespace is that world. Whatever leaves the machine by either is counted by the kernel.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The world's address, reached by both ways.
pub(crate) const WORLD: Ipv4Addr = Ipv4Addr::new(10, 77, 3, 1);

/// The world's end of `lan0`, where proxies live.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 1);

/// Where names are told.
pub(crate) const NAME_SERVER: &str = "10.77.3.1";

/// By the VPN the world is further than by the default route, so that only who is bound to it goes there.
const LONG_WAY: [&str; 7] = [
    "route",
    "add",
    "10.77.3.0/24",
    "via",
    "10.77.1.1",
    "metric",
    "900",
];

const COUNTERS: &str = "\
table inet watch {
  counter lan {}
  counter vpn {}
  counter astray {}
  counter unreachable {}
  counter marked {}
  chain out {
    type filter hook output priority 0
    # What the kernel itself answers to packets for nobody goes where its routes point; no program has a say in that.
    icmp type destination-unreachable counter name unreachable return
    oifname lan0 meta nfproto ipv4 counter name lan
    oifname lan0 meta l4proto { tcp, udp } meta nfproto ipv6 counter name lan
    oifname vpn0 meta l4proto { tcp, udp } counter name vpn
    oifname { lan0, vpn0 } ip dscp 1 meta l4proto tcp counter name marked
    oifname { lan0, vpn0 } ip daddr != 10.77.2.1 counter name astray
    oifname { lan0, vpn0 } ip daddr 10.77.2.1 meta l4proto != { tcp, udp } counter name astray
    oifname { lan0, vpn0 } ip daddr 10.77.2.1 th dport 53 counter name astray
    oifname { lan0, vpn0 } meta nfproto ipv6 meta l4proto { tcp, udp } counter name astray
  }
}";

/// The namespaces; removed when this is dropped.
pub(crate) struct Land {
    machine: String,
    world: String,
}

impl Land {
    /// Makes them; `None`, and a word on stderr, where that cannot be done: not as root, as a rule.
    pub(crate) fn make() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |what| format!("riverrun-{}-{number}-{what}", std::process::id());
        let land = Self {
            machine: name("machine"),
            world: name("world"),
        };
        if !has_tools() || !works("ip", &["netns", "add", &land.machine]) {
            eprintln!("skipped: network namespaces need root, ip and nft");
            return None;
        }
        ip(&["netns", "add", &land.world]);
        land.build();
        Some(land)
    }

    fn build(&self) {
        for namespace in [&self.machine, &self.world] {
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
        }
        self.world(&["addr", "add", "10.77.3.1/32", "dev", "lo"]);
        self.add_way("lan0", "10.77.2", "2");
        for net in ["default", "10.77.3.0/24"] {
            self.machine(&["route", "add", net, "via", "10.77.2.1", "metric", "100"]);
        }
        self.add_vpn("2");
        let mut nft = Command::new("ip");
        nft.args(["netns", "exec", &self.machine, "nft", COUNTERS]);
        assert!(nft.status().unwrap().success());
    }

    /// Connects the VPN, where the machine gets this address.
    pub(crate) fn add_vpn(&self, host: &str) {
        self.add_way("vpn0", "10.77.1", host);
        self.machine(&LONG_WAY);
    }

    fn add_way(&self, interface: &str, net: &str, host: &str) {
        let (machine, world) = (self.machine.as_str(), self.world.as_str());
        ip(&[
            "-n", machine, "link", "add", interface, "type", "veth", "peer", "name", interface,
            "netns", world,
        ]);
        for (namespace, host) in [(machine, host), (world, "1")] {
            let addr = format!("{net}.{host}/24");
            ip(&["-n", namespace, "addr", "add", &addr, "dev", interface]);
            ip(&["-n", namespace, "link", "set", interface, "up"]);
        }
    }

    pub(crate) fn machine_name(&self) -> &str {
        &self.machine
    }

    pub(crate) fn world_name(&self) -> &str {
        &self.world
    }

    /// `ip` on the machine.
    fn machine(&self, args: &[&str]) {
        ip(&[&["-n", &self.machine], args].concat());
    }

    fn world(&self, args: &[&str]) {
        ip(&[&["-n", &self.world], args].concat());
    }

    /// The VPN's interface goes down, as when a cable is pulled.
    pub(crate) fn vpn_down(&self) {
        self.machine(&["link", "set", "vpn0", "down"]);
    }

    /// It is up again, with the address that it had.
    pub(crate) fn vpn_up(&self) {
        self.machine(&["link", "set", "vpn0", "up"]);
        let route = [
            "route",
            "add",
            "10.77.3.0/24",
            "via",
            "10.77.1.1",
            "metric",
            "900",
        ];
        self.machine(&route);
    }

    /// The VPN's interface is no more, as when its program ends.
    pub(crate) fn vpn_gone(&self) {
        self.machine(&["link", "del", "vpn0"]);
    }

    /// How many packets and bytes have left by an interface, `lan` or `vpn`; by either to anybody but [`GATEWAY`] or to
    /// its port for names, `astray`; over TCP with the mark of lower effort, `marked`.
    pub(crate) fn left_by(&self, counter: &str) -> (u64, u64) {
        let args = [
            "netns",
            "exec",
            &self.machine,
            "nft",
            "list",
            "counter",
            "inet",
            "watch",
            counter,
        ];
        let output = Command::new("ip").args(args).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
        match (numbers.next(), numbers.next()) {
            (Some(packets), Some(bytes)) => (packets, bytes),
            _ => panic!("no counter in {text:?}"),
        }
    }

    /// Runs something in the world: its sockets stay there.
    pub(crate) fn in_world<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.world);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let namespace = std::fs::File::open(path).unwrap();
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    /// A name server in the world to which every name is [`WORLD`]'s.
    pub(crate) fn tell_names(&self) {
        let socket = self.in_world(|| UdpSocket::bind(SocketAddr::from((WORLD, 53))).unwrap());
        // It ends with the test's process.
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&name_answer(&buffer[..len]), from);
            }
        });
    }
}

impl Drop for Land {
    fn drop(&mut self) {
        for namespace in [&self.machine, &self.world] {
            // Whatever is left of it is no part of the test's result.
            let _ = Command::new("ip")
                .args(["netns", "del", namespace])
                .status();
        }
    }
}

/// Whether namespaces can be made and watched here.
pub(crate) fn has_tools() -> bool {
    let has_tools = works("ip", &["-V"]) && works("nft", &["-v"]);
    let in_ci = std::env::var_os("CI").is_some();
    assert!(has_tools || !in_ci, "ip and nft must be installed in CI");
    has_tools
}

/// Whether a program runs, and succeeds.
pub(crate) fn works(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs `ip`, which must succeed.
pub(crate) fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args:?}: {stderr}");
}

/// The answer to a question for an address (RFC 1035 §4.1): the question again, and for IPv4 one record.
fn name_answer(question: &[u8]) -> Vec<u8> {
    const A: &[u8] = &[0, 1, 0, 1];
    let mut answer = question.to_vec();
    // A response, recursion desired and available; one question, and an answer if there is one.
    answer[2..4].copy_from_slice(&[0x81, 0x80]);
    if question.ends_with(A) {
        answer[6..8].copy_from_slice(&[0, 1]);
        // The name of the question, at byte 12; a minute of life; four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(WORLD.octets());
    }
    answer
}
