//! UDP between hosts: lost, late, doubled, dropped, and kept out by NATs. No host has a torrent here of which
//! anything could be promised.

use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::Time;
use riverrun_sim::{Action, Datagrams, HostConfig, HostId, Nat, Socket, World, WorldConfig};

const PORT: u16 = 7000;

/// Remembers what came, and when; answers what begins with a question mark.
#[derive(Default)]
struct Echo {
    came: Vec<(Time, SocketAddr, u8)>,
    due: Option<(Time, SocketAddr)>,
}

impl Socket for Echo {
    fn handle_datagram(&mut self, now: Time, from: SocketAddr, bytes: &[u8], out: &mut Datagrams) {
        self.came.push((now, from, bytes[1]));
        if bytes[0] == b'?' {
            out.send(from, vec![b'!', bytes[1]]);
        }
    }

    fn handle_timeout(&mut self, _: Time, out: &mut Datagrams) {
        if let Some((_, to)) = self.due.take() {
            out.send(to, vec![b'.', 99]);
        }
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.due.map(|(at, _)| at)
    }
}

/// Two hosts with an echo each.
fn pair(config: WorldConfig, hosts: [HostConfig; 2]) -> (World, [HostId; 2]) {
    let mut world = World::new(config);
    let hosts = hosts.map(|config| {
        let host = world.add_bare_host(config);
        world.act(Action::Join(host));
        world.open_socket(host, PORT, Echo::default());
        host
    });
    (world, hosts)
}

fn addr(world: &World, host: HostId) -> SocketAddr {
    SocketAddr::new(world.host(host).addr().ip(), PORT)
}

fn send(world: &mut World, from: HostId, to: SocketAddr, len: usize, count: u8) {
    world.with_socket(from, PORT, |_, _: &mut Echo, out| {
        for n in 0..count {
            let mut bytes = vec![b'?'; len];
            bytes[1] = n;
            out.send(to, bytes);
        }
    });
}

fn came(world: &mut World, host: HostId) -> Vec<(Time, SocketAddr, u8)> {
    let all = world.with_socket(host, PORT, |_, echo: &mut Echo, _| echo.came.clone());
    all.expect("its socket")
}

#[test]
fn a_datagram_takes_the_latency_and_is_answered() {
    let (mut world, [a, b]) = pair(
        WorldConfig::default(),
        [HostConfig::default(), HostConfig::default()],
    );
    let to = addr(&world, b);
    send(&mut world, a, to, 100, 1);
    world.with_socket(b, PORT, |now, echo: &mut Echo, _| {
        echo.due = Some((now + Duration::from_secs(1), to));
    });
    world.run_until(Time::from_secs(2));
    let heard = came(&mut world, b);
    assert_eq!(heard[0].0, Time::from_millis(20));
    assert_eq!(
        (heard[1].0, heard[1].2),
        (Time::from_millis(1020), 99),
        "by its timer"
    );
    assert_eq!(came(&mut world, a), [(Time::from_millis(40), to, 0)]);
}

#[test]
fn datagrams_are_lost_doubled_and_overtake_each_other() {
    let mut config = WorldConfig::default();
    config.udp.jitter = Duration::from_millis(50);
    config.udp.duplication = 0.1;
    let mut lossy = HostConfig::default();
    lossy.loss = 0.2;
    let (mut world, [a, b]) = pair(config, [lossy, HostConfig::default()]);
    let to = addr(&world, b);
    send(&mut world, a, to, 100, 250);
    world.run_until(Time::from_secs(1));
    let numbers: Vec<u8> = came(&mut world, b).iter().map(|(_, _, n)| *n).collect();
    let mut distinct = numbers.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert!((170..230).contains(&distinct.len()), "{}", distinct.len());
    assert!(numbers.len() > distinct.len(), "some came twice");
    assert!(!numbers.is_sorted(), "some overtook others");
}

#[test]
fn a_full_queue_drops_what_comes_last() {
    let slow = HostConfig::default().up(100_000);
    let (mut world, [a, b]) = pair(WorldConfig::default(), [slow, HostConfig::default()]);
    let to = addr(&world, b);
    // A second's worth at once, into a queue of 200 ms.
    send(&mut world, a, to, 972, 100);
    world.run_until(Time::from_secs(2));
    let numbers: Vec<u8> = came(&mut world, b).iter().map(|(_, _, n)| *n).collect();
    assert_eq!(numbers, (0..21).collect::<Vec<_>>());
}

#[test]
fn a_nat_lets_in_whom_its_host_has_written_to() {
    for (nat, keeps_port) in [(Nat::PortRestricted, true), (Nat::Symmetric, false)] {
        let mut hidden = HostConfig::default();
        hidden.nat = nat;
        let (mut world, [a, b]) = pair(WorldConfig::default(), [hidden, HostConfig::default()]);
        let (hidden, open) = (addr(&world, a), addr(&world, b));
        send(&mut world, b, hidden, 10, 1);
        world.run_until(Time::from_secs(1));
        assert!(came(&mut world, a).is_empty(), "a stranger");
        send(&mut world, a, open, 10, 1);
        world.run_until(Time::from_secs(2));
        assert_eq!(came(&mut world, a).len(), 1, "the answer");
        let seen = came(&mut world, b)[0].1;
        assert_eq!(seen == hidden, keeps_port);
        world.run_until(Time::from_secs(100));
        send(&mut world, b, seen, 10, 1);
        world.run_until(Time::from_secs(101));
        assert_eq!(came(&mut world, a).len(), 1, "the NAT has forgotten");
    }
}

#[test]
fn a_black_hole_swallows_what_is_larger_than_the_path_and_nothing_else() {
    let mut config = WorldConfig::default();
    config.udp.packet_max = Some(1280);
    let (mut world, [a, b]) = pair(config, [HostConfig::default(), HostConfig::default()]);
    let to = addr(&world, b);
    for (len, count) in [(1300, 3), (1252, 2), (1253, 1)] {
        send(&mut world, a, to, len, count);
    }
    world.run_until(Time::from_secs(1));
    assert_eq!(came(&mut world, b).len(), 2);
}
