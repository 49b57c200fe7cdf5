//! UDP, packet by packet: each is lost, late, doubled or dropped from a full queue on its own.

use std::any::Any;
use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::Time;

use super::{Pending, World};
use crate::config::Nat;
use crate::ids::HostId;
use crate::observe::Happening;
use crate::schedule::What;
use crate::socket::{Datagrams, Socket};
use crate::streams::{happens, mix, unit};

/// What stands before the payload, in bytes: IPv4 and UDP.
const HEADER_BYTES: u64 = 28;
/// How long a NAT remembers to whom a datagram was sent; home routers: half a minute to three.
pub(super) const MAPPING_TIME: Duration = Duration::from_mins(1);

/// A datagram on its way.
pub(super) struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    by: HostId,
    host: HostId,
    bytes: Vec<u8>,
    /// It has passed the downlink.
    is_through: bool,
}

impl World {
    /// Opens a socket of a host that is up; it is gone when the host goes, or crashes.
    pub fn open_socket(&mut self, host: HostId, port: u16, socket: impl Socket) {
        self.host_mut(host)
            .sockets
            .open
            .insert(port, Box::new(socket));
        self.set_socket_alarm(host);
    }

    /// Does something with a socket, and sends what it wants sent; `None` if there is no such socket.
    pub fn with_socket<S: Socket, R>(
        &mut self,
        host: HostId,
        port: u16,
        act: impl FnOnce(Time, &mut S, &mut Datagrams) -> R,
    ) -> Option<R> {
        let now = self.now_at(host);
        let socket = self.host_mut(host).sockets.open.get_mut(&port)?;
        let any: &mut dyn Any = &mut **socket;
        let mut out = Datagrams::default();
        let result = act(now, any.downcast_mut()?, &mut out);
        self.send_datagrams(host, port, out);
        self.hear_node(host);
        self.set_socket_alarm(host);
        Some(result)
    }

    pub(super) fn sockets_due(&mut self, host: HostId) {
        if let Some(until) = self.asleep(host) {
            self.schedule.add(until, What::Socket(host));
            return;
        }
        let now = self.now_at(host);
        let sockets = &mut self.host_mut(host).sockets;
        sockets.wakes_at = None;
        let mut sent = Vec::new();
        for (port, socket) in &mut sockets.open {
            if socket.poll_timeout().is_some_and(|at| at <= now) {
                let mut out = Datagrams::default();
                socket.handle_timeout(now, &mut out);
                sent.push((*port, out));
            }
        }
        for (port, out) in sent {
            self.send_datagrams(host, port, out);
        }
        self.hear_node(host);
        self.set_socket_alarm(host);
    }

    fn set_socket_alarm(&mut self, host: HostId) {
        let now = self.now;
        let own = self.host_mut(host);
        let due = own
            .sockets
            .open
            .values()
            .filter_map(|socket| socket.poll_timeout());
        let Some(due) = due.min() else { return };
        let ahead = u64::try_from(own.clock.ahead.as_micros()).unwrap_or(u64::MAX);
        let at = Time::from_micros(due.as_micros().saturating_sub(ahead));
        let at = at.max(now + Duration::from_micros(1));
        if own.sockets.wakes_at.is_none_or(|wakes| at < wakes) {
            own.sockets.wakes_at = Some(at);
            self.schedule.add(at, What::Socket(host));
        }
    }

    fn send_datagrams(&mut self, host: HostId, port: u16, out: Datagrams) {
        let mut all = out.take();
        if let Some(planted) = self.host(host).planted {
            planted.bend_datagrams(port, &mut all);
        }
        for (to, bytes) in all {
            let len = bytes.len();
            self.happen(|| Happening::DatagramSent {
                by: host,
                port,
                to,
                len,
            });
            let from = self.source_of_datagram(host, port, to);
            self.send_datagram(host, from, to, &bytes);
        }
    }

    /// Sends a datagram that says that it comes from `from`.
    pub(super) fn send_datagram(
        &mut self,
        by: HostId,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        let (now, udp) = (self.now, self.config.udp);
        let len = bytes.len() as u64 + HEADER_BYTES;
        let gate = &mut self.host_mut(by).up.gate;
        if gate.wait(now) > udp.queue_max {
            return;
        }
        let left = gate.pass(now, len);
        if udp.packet_max.is_some_and(|max| len > max) {
            return;
        }
        let Some(host) = self.at(SocketAddr::new(to.ip(), self.host(by).addr.port())) else {
            return;
        };
        let loss = self.host(by).config.loss.max(self.host(host).config.loss);
        if happens(&mut self.streams.packets, loss) {
            return;
        }
        let copies = 1 + usize::from(happens(&mut self.streams.packets, udp.duplication));
        for _ in 0..copies {
            let late = if udp.jitter.is_zero() {
                Duration::ZERO
            } else {
                udp.jitter.mul_f64(unit(&mut self.streams.packets))
            };
            let datagram = Datagram {
                from,
                to,
                by,
                host,
                bytes: bytes.to_owned(),
                is_through: false,
            };
            let at = left + self.latency(by, host) + late;
            self.pend(at, Pending::Datagram(Box::new(datagram)));
        }
    }

    /// From where others see a datagram come; a NAT remembers it.
    pub(super) fn source_of_datagram(
        &mut self,
        by: HostId,
        port: u16,
        to: SocketAddr,
    ) -> SocketAddr {
        let now = self.now;
        let own = self.host_mut(by);
        let seen = match own.config.nat {
            Nat::Open | Nat::PortRestricted => port,
            Nat::Symmetric => symmetric_port(port, to),
        };
        if own.config.nat != Nat::Open {
            own.sockets.mappings.insert((seen, to), (port, now));
        }
        SocketAddr::new(own.addr.ip(), seen)
    }

    pub(super) fn datagram_comes(&mut self, mut datagram: Datagram) {
        let now = self.now;
        let host = datagram.host;
        if self.are_split(datagram.by, host) || self.asleep(host).is_some() {
            return;
        }
        if !datagram.is_through {
            if self.host(host).down.wait(now) > self.config.udp.queue_max {
                return;
            }
            let len = datagram.bytes.len() as u64 + HEADER_BYTES;
            let at = self.pass_down(host, now, len);
            datagram.is_through = true;
            if at > now {
                self.pend(at, Pending::Datagram(Box::new(datagram)));
                return;
            }
        }
        if let Some(port) = self.port_behind_nat(&datagram) {
            self.hear_datagram(host, port, &datagram);
        }
    }

    fn port_behind_nat(&self, datagram: &Datagram) -> Option<u16> {
        let own = self.host(datagram.host);
        if own.config.nat == Nat::Open {
            return Some(datagram.to.port());
        }
        let key = (datagram.to.port(), datagram.from);
        let (port, used_at) = own.sockets.mappings.get(&key)?;
        (*used_at + MAPPING_TIME >= self.now).then_some(*port)
    }

    fn hear_datagram(&mut self, host: HostId, port: u16, datagram: &Datagram) {
        let now = self.now_at(host);
        let (by, from, len) = (datagram.by, datagram.from, datagram.bytes.len());
        let Some(socket) = self.host_mut(host).sockets.open.get_mut(&port) else {
            return;
        };
        let mut out = Datagrams::default();
        socket.handle_datagram(now, from, &datagram.bytes, &mut out);
        self.happen(|| Happening::DatagramCame {
            host,
            port,
            by,
            from,
            len,
        });
        self.send_datagrams(host, port, out);
        self.hear_node(host);
        self.set_socket_alarm(host);
    }
}

/// The port that a symmetric NAT uses towards one address.
fn symmetric_port(port: u16, to: SocketAddr) -> u16 {
    let ip = match to.ip() {
        std::net::IpAddr::V4(ip) => u64::from(u32::from(ip)),
        std::net::IpAddr::V6(ip) => u128::from(ip).to_be_bytes()[8..]
            .iter()
            .fold(0, |all, byte| all << 8 | u64::from(*byte)),
    };
    let hash = mix(ip << 16 ^ u64::from(to.port()) ^ u64::from(port) << 48);
    20_000 + u16::try_from(hash % 40_000).unwrap_or(0)
}
