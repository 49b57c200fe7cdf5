//! A machine with two ways into the world, made of network namespaces, and counters on what leaves it.
//!
//! The machine has `lan0`, where its default route points, and `vpn0`, a longer way to the same world. A third
//! namespace is that world. Whatever leaves the machine by either is counted by the kernel.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::machine::{self, works};

/// The world's address, reached by both ways.
pub(crate) const WORLD: Ipv4Addr = Ipv4Addr::new(10, 77, 3, 1);

/// The world's end of `lan0`, where proxies live.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 1);

/// Where names are told.
pub(crate) const NAME_SERVER: &str = "10.77.3.1";

/// By the VPN the world is further than by the default route, so that only who is bound to it goes there.
const LONG_WAY: &str = "route add 10.77.3.0/24 via 10.77.1.1 metric 900";

/// Has a namespace pass on what is for others.
pub(crate) const FORWARD: [&str; 3] = ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"];

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

/// A network namespace of a test's own. Dropping it takes it away.
pub(crate) struct Namespace(String);

impl Namespace {
    /// Makes one with a loopback; `None`, and a word on stderr, where that cannot be done: not as root, as a rule.
    pub(crate) fn make(what: &str) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("riverrun-{}-{number}-{what}", std::process::id());
        let has_tools = works("ip", &["-V"]) && works("nft", &["-v"]);
        let is_made = has_tools && works("ip", &["netns", "add", &name]);
        if !machine::has("root with ip and nft to make networks", is_made) {
            return None;
        }
        let namespace = Self(name);
        namespace.ip("link set lo up");
        Some(namespace)
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Runs `ip` for it with these words, which must succeed.
    pub(crate) fn ip(&self, words: &str) {
        let mut command = Command::new("ip");
        let output = command
            .args(["-n", &self.0])
            .args(words.split(' '))
            .output();
        let output = output.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {words}: {stderr}");
    }

    /// A program that runs inside.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }

    /// Runs a program inside, which must succeed; what it wrote to stdout.
    pub(crate) fn run(&self, command: &[&str]) -> String {
        let output = self.command(command[0]).args(&command[1..]).output();
        let output = output.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Does something inside, in this process: sockets that it makes stay there.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.0);
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
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Whatever is left of it is no part of the test's result.
        works("ip", &["netns", "del", &self.0]);
    }
}

/// An interface of a namespace.
pub(crate) type Plug<'a> = (&'a Namespace, &'a str);

/// Joins two namespaces by interfaces of these names; each gets its address in the net: `10.1.2`, 1 is `10.1.2.1/24`.
pub(crate) fn wire((near, far): (Plug<'_>, Plug<'_>), net: &str, hosts: [&str; 2]) {
    near.0.ip(&format!(
        "link add {} type veth peer name {} netns {}",
        near.1,
        far.1,
        far.0.name()
    ));
    for ((namespace, link), host) in [near, far].into_iter().zip(hosts) {
        namespace.ip(&format!("addr add {net}.{host}/24 dev {link}"));
        namespace.ip(&format!("link set {link} up"));
    }
}

/// The machine and the world.
pub(crate) struct Land {
    machine: Namespace,
    world: Namespace,
}

impl Land {
    /// Makes them; `None`, and said, where namespaces cannot be made.
    pub(crate) fn make() -> Option<Self> {
        let (machine, world) = (Namespace::make("machine")?, Namespace::make("world")?);
        let land = Self { machine, world };
        land.world.ip("addr add 10.77.3.1/32 dev lo");
        land.add_way("lan0", "10.77.2", "2");
        for net in ["default", "10.77.3.0/24"] {
            let route = format!("route add {net} via 10.77.2.1 metric 100");
            land.machine.ip(&route);
        }
        land.add_vpn("2");
        land.machine.run(&["nft", COUNTERS]);
        Some(land)
    }

    /// Connects the VPN, where the machine gets this address.
    pub(crate) fn add_vpn(&self, host: &str) {
        self.add_way("vpn0", "10.77.1", host);
        self.machine.ip(LONG_WAY);
    }

    fn add_way(&self, interface: &str, net: &str, host: &str) {
        let ends = ((&self.machine, interface), (&self.world, interface));
        wire(ends, net, [host, "1"]);
    }

    pub(crate) const fn machine(&self) -> &Namespace {
        &self.machine
    }

    pub(crate) const fn world(&self) -> &Namespace {
        &self.world
    }

    /// The VPN's interface goes down, as when a cable is pulled.
    pub(crate) fn vpn_down(&self) {
        self.machine.ip("link set vpn0 down");
    }

    /// It is up again, with the address that it had.
    pub(crate) fn vpn_up(&self) {
        self.machine.ip("link set vpn0 up");
        self.machine.ip(LONG_WAY);
    }

    /// The VPN's interface has one address more.
    pub(crate) fn vpn_grows(&self) {
        self.machine.ip("addr add 10.77.1.99/24 dev vpn0");
    }

    /// The VPN's interface is no more, as when its program ends.
    pub(crate) fn vpn_gone(&self) {
        self.machine.ip("link del vpn0");
    }

    /// How many packets and bytes have left by an interface, `lan` or `vpn`; by either to anybody but [`GATEWAY`] or to
    /// its port for names, `astray`; over TCP with the mark of lower effort, `marked`.
    pub(crate) fn left_by(&self, counter: &str) -> (u64, u64) {
        let list = ["nft", "list", "counter", "inet", "watch", counter];
        let text = self.machine.run(&list);
        let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
        match (numbers.next(), numbers.next()) {
            (Some(packets), Some(bytes)) => (packets, bytes),
            _ => panic!("no counter in {text:?}"),
        }
    }

    /// A name server in the world to which every name is [`WORLD`]'s.
    pub(crate) fn tell_names(&self) {
        let socket = self
            .world
            .within(|| UdpSocket::bind(SocketAddr::from((WORLD, 53))).unwrap());
        // It ends with the test's process.
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&name_answer(&buffer[..len]), from);
            }
        });
    }
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
