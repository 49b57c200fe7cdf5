//! Two uTP sockets, a link each way, and perhaps a TCP flow or other uTP sockets through the same queue.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::{Rng, Time};
use riverrun_utp::{ConnectionIds, Packet, UtpConfig, UtpEnd, UtpSocket};

use crate::tcp::{TcpFlow, TcpSegment};

/// What IP and UDP add to a datagram.
const OVERHEAD: usize = 28;

/// Steps after which a world that is not done never will be.
const STEPS_MAX: usize = 40_000_000;

/// One direction of a path.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Bytes a second; `None` is without limit.
    pub(crate) rate: Option<u64>,
    pub(crate) queue_bytes: u64,
    pub(crate) delay: Duration,
    /// Datagrams larger than this, IP header included, are dropped, or taken apart if they may be.
    pub(crate) mtu: usize,
    /// How many were taken apart.
    pub(crate) fragmented: u64,
    /// Chances in a thousand.
    pub(crate) loss: usize,
    pub(crate) duplicate: usize,
    pub(crate) reorder: usize,
    free_at: Time,
    /// The longest that anything has waited in the queue.
    pub(crate) waited_max: Duration,
}

impl Link {
    pub(crate) fn new(delay_millis: u64) -> Self {
        Self {
            rate: None,
            queue_bytes: 0,
            delay: Duration::from_millis(delay_millis),
            mtu: 1500,
            fragmented: 0,
            loss: 0,
            duplicate: 0,
            reorder: 0,
            free_at: Time::ZERO,
            waited_max: Duration::ZERO,
        }
    }

    pub(crate) fn queue(mut self, mbit: u64, queue_bytes: u64) -> Self {
        self.rate = Some(mbit * 125_000);
        self.queue_bytes = queue_bytes;
        self
    }

    pub(crate) fn loss(mut self, per_mille: usize) -> Self {
        self.loss = per_mille;
        self
    }

    /// When what is sent now arrives: not at all, once, or twice.
    fn arrivals(&mut self, now: Time, len: usize, rng: &mut Rng) -> Vec<Time> {
        if len > self.mtu || rng.below(1000) < self.loss {
            return Vec::new();
        }
        self.carry(now, len, rng)
    }

    /// The same of a datagram that routers may take apart.
    fn arrivals_of_any_size(&mut self, now: Time, len: usize, rng: &mut Rng) -> Vec<Time> {
        let pieces = len.div_ceil(self.mtu);
        self.fragmented += u64::from(pieces > 1);
        // It is lost with any of its pieces.
        if (0..pieces).any(|_| rng.below(1000) < self.loss) {
            return Vec::new();
        }
        self.carry(now, len, rng)
    }

    fn carry(&mut self, now: Time, len: usize, rng: &mut Rng) -> Vec<Time> {
        let mut out = now;
        if let Some(rate) = self.rate {
            let start = now.max(self.free_at);
            let waits = start - now;
            let backlog = u128::from(rate) * waits.as_micros() / 1_000_000;
            if backlog + len as u128 > u128::from(self.queue_bytes) {
                return Vec::new();
            }
            self.waited_max = self.waited_max.max(waits);
            self.free_at = start + Duration::from_micros(len as u64 * 1_000_000 / rate);
            out = self.free_at;
        }
        let mut at = out + self.delay;
        if rng.below(1000) < self.reorder {
            at += self.delay / 2 + Duration::from_millis(3);
        }
        let copies = 1 + usize::from(rng.below(1000) < self.duplicate);
        vec![at; copies]
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Arrival {
    Datagram { to: usize, bytes: Vec<u8> },
    Segment(TcpSegment),
    Ack(TcpSegment),
}

/// One end, and the bytes that go through it.
pub(crate) struct Host {
    pub(crate) socket: Option<UtpSocket>,
    peer: SocketAddr,
    /// How many bytes it has to send.
    pub(crate) to_send: u64,
    pub(crate) written: u64,
    pub(crate) received: u64,
    /// It reads at most so many bytes in all.
    pub(crate) read_max: u64,
    closed: bool,
    /// It closes when it has written all.
    pub(crate) closes: bool,
    pub(crate) datagrams: u64,
    pub(crate) datagram_max: usize,
}

/// The byte at `offset` of what the dialler sends, or the other way (`salt`).
fn byte_at(offset: u64, salt: usize) -> u8 {
    let mixed = (offset + 7919 * salt as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56).to_le_bytes()[0]
}

impl Host {
    fn new(peer: SocketAddr, to_send: u64) -> Self {
        Self {
            socket: None,
            peer,
            to_send,
            written: 0,
            received: 0,
            read_max: u64::MAX,
            closed: false,
            closes: true,
            datagrams: 0,
            datagram_max: 0,
        }
    }

    /// Writes and reads what it can, and checks each byte.
    fn pump(&mut self, now: Time, index: usize) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        if socket.is_connected() && socket.end().is_none() {
            while self.written < self.to_send {
                let want = (self.to_send - self.written).min(16 * 1024);
                let room = socket.writable_len().min(usize::try_from(want).unwrap());
                if room == 0 {
                    break;
                }
                let part: Vec<u8> = (0..room as u64)
                    .map(|n| byte_at(self.written + n, index))
                    .collect();
                assert_eq!(socket.write(now, &part), room);
                self.written += room as u64;
            }
            if self.closes && self.written == self.to_send && !self.closed {
                self.closed = true;
                socket.close(now);
            }
        }
        while self.received < self.read_max && socket.readable_len() > 0 {
            let part = socket.readable();
            let count = part
                .len()
                .min(usize::try_from(self.read_max - self.received).unwrap_or(usize::MAX));
            for (n, byte) in part[..count].iter().enumerate() {
                let expect = byte_at(self.received + n as u64, 1 - index);
                assert_eq!(
                    *byte,
                    expect,
                    "byte {} to {index}",
                    self.received + n as u64
                );
            }
            socket.consume(count);
            self.received += count as u64;
        }
    }

    pub(crate) fn end(&self) -> Option<UtpEnd> {
        self.socket.as_ref().and_then(UtpSocket::end)
    }
}

/// The world: host 0 dials host 1.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) hosts: [Host; 2],
    /// Others, of which host 2 dials host 3, and so on; all that dial share a link, and all that are dialled.
    pub(crate) rivals: Vec<Host>,
    pub(crate) links: [Link; 2],
    pub(crate) tcp: Option<TcpFlow>,
    arrivals: BinaryHeap<Reverse<(Time, u64, Arrival)>>,
    sequence: u64,
    rng: Rng,
    config: UtpConfig,
}

impl World {
    pub(crate) fn new(seed: u64, forth: Link, back: Link, to_send: [u64; 2]) -> Self {
        let addrs = [[10, 0, 0, 1], [10, 0, 0, 2]].map(|ip| SocketAddr::from((ip, 6881)));
        let config = UtpConfig::default();
        let mut rng = Rng::new(seed);
        let ids = ConnectionIds::dialling(u16::MAX);
        let now = Time::from_secs(5);
        let mut hosts = [
            Host::new(addrs[1], to_send[0]),
            Host::new(addrs[0], to_send[1]),
        ];
        let dialler = UtpSocket::connect(now, config.clone(), addrs[1], ids, rng.next_u64());
        hosts[0].socket = Some(dialler);
        Self {
            now,
            hosts,
            rivals: Vec::new(),
            links: [forth, back],
            tcp: None,
            arrivals: BinaryHeap::new(),
            sequence: 0,
            rng,
            config,
        }
    }

    /// A pair like the first two comes, of which the dialler sends without end.
    pub(crate) fn add_rival(&mut self) {
        let addrs = [1, 0].map(|index: usize| self.hosts[index].peer);
        let ids = ConnectionIds::dialling(u16::MAX);
        let seed = self.rng.next_u64();
        let mut dialler = Host::new(addrs[1], u64::MAX);
        let socket = UtpSocket::connect(self.now, self.config.clone(), addrs[1], ids, seed);
        dialler.socket = Some(socket);
        self.rivals.extend([dialler, Host::new(addrs[0], 0)]);
    }

    fn host(&mut self, index: usize) -> &mut Host {
        match index.checked_sub(2) {
            None => &mut self.hosts[index],
            Some(index) => &mut self.rivals[index],
        }
    }

    /// Runs until the time, or until nothing will ever happen again.
    pub(crate) fn run_until(&mut self, end: Time) {
        for _ in 0..STEPS_MAX {
            self.settle();
            let arrival = self.arrivals.peek().map(|Reverse((at, ..))| *at);
            let timers = self
                .hosts
                .iter()
                .chain(&self.rivals)
                .filter_map(|host| host.socket.as_ref()?.poll_timeout());
            let tcp = self.tcp.as_ref().and_then(TcpFlow::poll_timeout);
            let Some(next) = timers.chain(arrival).chain(tcp).min() else {
                return;
            };
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            self.deliver();
        }
        panic!("the world does not come to rest");
    }

    fn deliver(&mut self) {
        let now = self.now;
        while let Some(Reverse((at, ..))) = self.arrivals.peek() {
            if *at > now {
                break;
            }
            let Some(Reverse((_, _, arrival))) = self.arrivals.pop() else {
                break;
            };
            match arrival {
                Arrival::Datagram { to, bytes } => self.receive(to, &bytes),
                Arrival::Segment(segment) => {
                    let at = now + self.links[1].delay;
                    self.push(at, Arrival::Ack(segment));
                }
                Arrival::Ack(segment) => {
                    if let Some(tcp) = &mut self.tcp {
                        tcp.handle_ack(now, segment);
                    }
                }
            }
        }
        for host in self.hosts.iter_mut().chain(&mut self.rivals) {
            if let Some(socket) = &mut host.socket {
                socket.handle_timeout(now);
            }
        }
        if let Some(tcp) = &mut self.tcp {
            tcp.handle_timeout(now);
        }
    }

    fn receive(&mut self, to: usize, bytes: &[u8]) {
        let packet = Packet::parse(bytes).expect("sockets send packets");
        let now = self.now;
        if let Some(socket) = &mut self.host(to).socket {
            socket.handle_packet(now, &packet);
        } else {
            let ids = ConnectionIds::answering(packet.connection_id());
            let (seed, config) = (self.rng.next_u64(), self.config.clone());
            let host = self.host(to);
            host.socket = UtpSocket::accept(now, config, host.peer, ids, &packet, seed);
        }
    }

    /// Lets hosts and the TCP flow send what they can.
    fn settle(&mut self) {
        let now = self.now;
        for index in 0..2 + self.rivals.len() {
            let host = self.host(index);
            host.pump(now, index % 2);
            let mut out = Vec::new();
            if let Some(socket) = &mut host.socket {
                while let Some(transmit) = socket.poll_transmit(now, 64) {
                    assert!(transmit.bytes.len() <= 65_507 && transmit.segment_len > 0);
                    let datagrams = transmit.bytes.chunks(transmit.segment_len);
                    out.extend(datagrams.map(|bytes| (bytes.to_vec(), transmit.may_fragment)));
                    socket.handle_transmitted(now);
                    assert!(out.len() < 100_000, "it never stops sending");
                }
            }
            for (bytes, may_fragment) in out {
                let host = self.host(index);
                host.datagrams += 1;
                host.datagram_max = host.datagram_max.max(bytes.len());
                self.send(index, &bytes, may_fragment);
            }
        }
        while let Some(segment) = self.tcp.as_mut().and_then(|tcp| tcp.poll_transmit(now)) {
            for at in self.links[0].arrivals(now, segment.wire_len(), &mut self.rng) {
                self.push(at, Arrival::Segment(segment));
            }
        }
    }

    fn send(&mut self, from: usize, bytes: &[u8], may_fragment: bool) {
        let link = &mut self.links[from % 2];
        let len = bytes.len() + OVERHEAD;
        let arrivals = if may_fragment {
            link.arrivals_of_any_size(self.now, len, &mut self.rng)
        } else {
            link.arrivals(self.now, len, &mut self.rng)
        };
        for at in arrivals {
            let arrival = Arrival::Datagram {
                to: from ^ 1,
                bytes: bytes.to_vec(),
            };
            self.push(at, arrival);
        }
    }

    fn push(&mut self, at: Time, arrival: Arrival) {
        self.sequence += 1;
        self.arrivals.push(Reverse((at, self.sequence, arrival)));
    }

    /// Both have received all and know it.
    pub(crate) fn assert_complete(&self) {
        for (index, host) in self.hosts.iter().enumerate() {
            assert_eq!(
                host.received,
                self.hosts[1 - index].to_send,
                "host {index} at {}",
                self.now
            );
            assert_eq!(host.end(), Some(UtpEnd::Finished), "host {index}");
        }
    }
}
