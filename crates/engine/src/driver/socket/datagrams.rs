//! Datagrams to and from many, straight or through the relay of a SOCKS5 proxy (RFC 1928 §7).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Mutex as AsyncMutex;

use super::proxy::Target;

/// The longest head that a relay puts before a datagram: three bytes, and the longest name with its port.
const HEAD_BYTES_MAX: usize = 3 + 2 + 255 + 2;

/// The longest datagram that fits one of IP.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// A socket for datagrams to many addresses.
#[derive(Debug)]
pub(crate) enum Datagrams {
    /// One of the system's.
    Straight(UdpSocket),
    /// The relay of a proxy.
    Relayed(Box<Relay>),
}

/// Our end of a relay of datagrams.
#[derive(Debug)]
pub(crate) struct RelayEnd {
    /// Connected to the relay, so that datagrams from elsewhere are not received.
    pub(crate) socket: UdpSocket,
    /// The relay lasts as long as this.
    pub(crate) control: TcpStream,
}

/// Datagrams wrapped for a proxy.
#[derive(Debug)]
pub(crate) struct Relay {
    /// Connected to the relay, so that datagrams from elsewhere are not received.
    socket: UdpSocket,
    /// The relay lasts as long as this.
    control: AsyncMutex<TcpStream>,
    buffer: AsyncMutex<Vec<u8>>,
}

impl Relay {
    pub(super) fn new(socket: UdpSocket, control: TcpStream) -> Self {
        let buffer = vec![0; HEAD_BYTES_MAX + DATAGRAM_BYTES_MAX];
        Self {
            socket,
            control: AsyncMutex::new(control),
            buffer: AsyncMutex::new(buffer),
        }
    }

    async fn send_to(&self, bytes: &[u8], target: &Target) -> io::Result<()> {
        self.socket.send(&wrap(bytes, target)).await.map(drop)
    }

    async fn receive(&self, out: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut buffer = self.buffer.lock().await;
        let mut control = self.control.lock().await;
        loop {
            let len = tokio::select! {
                received = self.socket.recv(&mut buffer) => received?,
                ended = control.read_u8() => {
                    let why = ended.err().map_or_else(|| "it talks".to_owned(), |e| e.to_string());
                    let message = format!("the proxy's relay has ended: {why}");
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, message));
                }
            };
            // What is not whole is not for us: we send no fragments, so none are answers.
            if let Some((from, payload)) = unwrap(&buffer[..len]) {
                let len = payload.len().min(out.len());
                out[..len].copy_from_slice(&payload[..len]);
                return Ok((len, from));
            }
        }
    }
}

/// Puts a relay's head before a datagram.
pub(super) fn wrap(bytes: &[u8], target: &Target) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(HEAD_BYTES_MAX + bytes.len());
    // Two reserved bytes, and: not a fragment.
    datagram.extend([0, 0, 0]);
    target.write_to(&mut datagram);
    datagram.extend(bytes);
    datagram
}

/// Takes a relay's head off a datagram. Senders that a relay names instead of addressing are unknown to us.
pub(crate) fn unwrap(datagram: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let rest = datagram.strip_prefix(&[0, 0, 0])?;
    let (kind, rest) = rest.split_first()?;
    let (ip, rest) = match kind {
        1 => {
            let (octets, rest) = rest.split_first_chunk::<4>()?;
            (IpAddr::V4(Ipv4Addr::from(*octets)), rest)
        }
        4 => {
            let (octets, rest) = rest.split_first_chunk::<16>()?;
            (IpAddr::V6(Ipv6Addr::from(*octets)), rest)
        }
        _ => return None,
    };
    let (port, payload) = rest.split_first_chunk::<2>()?;
    Some((
        SocketAddr::new(ip.to_canonical(), u16::from_be_bytes(*port)),
        payload,
    ))
}

impl Datagrams {
    /// Sends one; `names` tell which addresses stand for names.
    pub(super) async fn send(&self, bytes: &[u8], to: SocketAddr, names: &Names) -> io::Result<()> {
        match self {
            Self::Straight(socket) => socket.send_to(bytes, to).await.map(drop),
            Self::Relayed(relay) => relay.send_to(bytes, &names.target(to)).await,
        }
    }

    /// Waits for one. Cut if it is longer than `out`.
    pub(crate) async fn receive(&self, out: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match self {
            Self::Straight(socket) => socket.recv_from(out).await,
            Self::Relayed(relay) => relay.receive(out).await,
        }
    }
}

/// Addresses that stand for names which only a proxy may resolve. They are of a block that is never routed (RFC 2544),
/// so that one that is used without the proxy by mistake leads nowhere.
#[derive(Debug, Default)]
pub(super) struct Names {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u32,
    by_ip: BTreeMap<Ipv4Addr, Named>,
    by_name: BTreeMap<String, Ipv4Addr>,
}

#[derive(Debug)]
struct Named {
    name: String,
    /// Where something was sent, the last first: answers come from nowhere else.
    ports: VecDeque<u16>,
}

/// How many ports of a name are remembered; the oldest make room.
const PORTS_MAX: usize = 8;

/// 198.18.0.0/15, without its first address.
const FIRST: u32 = 0xc612_0001;

/// How many names are remembered; the oldest make room.
const NAMES_MAX: u32 = 4096;

impl Names {
    /// The address that stands for a name from now on.
    pub(super) fn stand_in(&self, name: &str) -> io::Result<IpAddr> {
        if name.is_empty() || name.len() > 255 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no name has this length",
            ));
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ip) = table.by_name.get(name) {
            return Ok(IpAddr::V4(*ip));
        }
        let ip = Ipv4Addr::from(FIRST + table.next);
        table.next = (table.next + 1) % NAMES_MAX;
        let named = Named {
            name: name.to_owned(),
            ports: VecDeque::new(),
        };
        if let Some(old) = table.by_ip.insert(ip, named) {
            table.by_name.remove(&old.name);
        }
        table.by_name.insert(name.to_owned(), ip);
        Ok(IpAddr::V4(ip))
    }

    /// What an address stands for, to which something is sent: itself, as a rule.
    pub(super) fn target(&self, addr: SocketAddr) -> Target {
        let (IpAddr::V4(ip), port) = (addr.ip(), addr.port()) else {
            return Target::Addr(addr);
        };
        if !(FIRST..FIRST + NAMES_MAX).contains(&u32::from(ip)) {
            return Target::Addr(addr);
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(named) = table.by_ip.get_mut(&ip) else {
            return Target::Addr(addr);
        };
        if named.ports.front() != Some(&port) {
            named.ports.retain(|known| *known != port);
            named.ports.push_front(port);
            named.ports.truncate(PORTS_MAX);
        }
        Target::Name(named.name.clone(), port)
    }

    /// The addresses as which a datagram's sender may be known here: its own, and those of names to which something was
    /// sent at its port. Whose answer it is the protocol has to tell.
    pub(super) fn aliases(&self, from: SocketAddr) -> Vec<SocketAddr> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        // An answer over IPv6 has peers of IPv6, which nobody expects of an address that looks like IPv4.
        let named = table.by_ip.iter().filter(|_| from.is_ipv4());
        let asked = named.filter(|(_, named)| named.ports.contains(&from.port()));
        let asked = asked.map(|(ip, _)| SocketAddr::new(IpAddr::V4(*ip), from.port()));
        std::iter::once(from).chain(asked).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relays_head_is_taken_off() {
        let v4 = b"\0\0\0\x01\xc0\0\x02\x01\x1a\xe1payload";
        let from = "192.0.2.1:6881".parse().unwrap();
        assert_eq!(unwrap(v4), Some((from, &b"payload"[..])));
        let mut v6 = vec![0, 0, 0];
        Target::Addr("[2001:db8::1]:80".parse().unwrap()).write_to(&mut v6);
        let from = "[2001:db8::1]:80".parse().unwrap();
        assert_eq!(unwrap(&v6), Some((from, &b""[..])));
    }

    #[test]
    fn fragments_names_and_short_datagrams_are_dropped() {
        let whole = b"\0\0\0\x01\xc0\0\x02\x01\x1a\xe1";
        for len in 0..whole.len() {
            assert_eq!(unwrap(&whole[..len]), None, "{len}");
        }
        assert_eq!(unwrap(b"\0\0\x01\x01\xc0\0\x02\x01\x1a\xe1x"), None);
        assert_eq!(unwrap(b"\0\0\0\x03\x01a\0\x50x"), None);
    }

    #[test]
    fn names_stand_behind_addresses_of_their_own() {
        let names = Names::default();
        let (a, b) = (
            names.stand_in("a.example").unwrap(),
            names.stand_in("b.example").unwrap(),
        );
        assert_ne!(a, b);
        assert_eq!(names.stand_in("a.example").unwrap(), a);
        let target = Target::Name("b.example".to_owned(), 6969);
        assert_eq!(names.target(SocketAddr::new(b, 6969)), target);
        let plain = "192.0.2.1:6969".parse().unwrap();
        assert_eq!(names.target(plain), Target::Addr(plain));
        let own = SocketAddr::new(b, 6969);
        assert_eq!(names.aliases(plain), [plain, own], "nobody was asked there");
        assert!(names.stand_in(&"x".repeat(256)).is_err());
    }

    #[test]
    fn a_flood_of_names_forgets_the_oldest_only() {
        let names = Names::default();
        for number in 0..=NAMES_MAX {
            names.stand_in(&format!("{number}.example")).unwrap();
        }
        let first = SocketAddr::from((Ipv4Addr::from(FIRST), 1));
        assert_eq!(
            names.target(first),
            Target::Name(format!("{NAMES_MAX}.example"), 1)
        );
        let table = names.table.lock().unwrap();
        assert_eq!(table.by_ip.len(), table.by_name.len());
    }
}
