//! Proxies to test against: SOCKS5 with datagrams, and HTTP. They live in a namespace and write down what they are
//! asked for.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};

use crate::netns::{GATEWAY, Land, WORLD};

/// What a proxy demands, and what it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// SOCKS5 with datagrams, and the login `ann`, `p@ss`.
    Socks,
    /// SOCKS5 that only connects.
    SocksWithoutDatagrams,
    /// HTTP, with the same login.
    Http,
}

/// A proxy at the machine's gateway.
pub(crate) struct Proxy {
    addr: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    asked: Mutex<Vec<String>>,
    /// Every stream of either side, to be cut.
    streams: Mutex<Vec<TcpStream>>,
    is_down: Mutex<bool>,
}

impl Proxy {
    pub(crate) fn start(land: &Land, kind: Kind) -> Self {
        let state = Arc::<State>::default();
        let (addr, served) = land.world().within(|| {
            let listener = TcpListener::bind(SocketAddr::from((GATEWAY, 0))).unwrap();
            let addr = listener.local_addr().unwrap();
            let served = state.clone();
            // A thread that is made here stays in the namespace, as do its own. They end with the test's process.
            std::thread::spawn(move || serve(&listener, kind, &served));
            (addr, state.clone())
        });
        Self {
            addr,
            state: served,
        }
    }

    /// Its URL with the login.
    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://ann:p%40ss@{}", self.addr)
    }

    /// Whether it was asked for this.
    pub(crate) fn was_asked(&self, what: &str) -> bool {
        let asked = self.state.asked.lock().unwrap();
        asked.iter().any(|asked| asked.starts_with(what))
    }

    /// Cuts every connection and takes no more, or takes them again.
    pub(crate) fn set_down(&self, is_down: bool) {
        *self.state.is_down.lock().unwrap() = is_down;
        if is_down {
            for stream in self.state.streams.lock().unwrap().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

impl State {
    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }

    fn keep(&self, stream: &TcpStream) -> io::Result<()> {
        self.streams.lock().unwrap().push(stream.try_clone()?);
        Ok(())
    }
}

fn serve(listener: &TcpListener, kind: Kind, state: &Arc<State>) {
    for stream in listener.incoming().flatten() {
        if *state.is_down.lock().unwrap() {
            continue;
        }
        let state = state.clone();
        std::thread::spawn(move || {
            // Whoever breaks off is no concern of the proxy.
            let _ = match kind {
                Kind::Http => serve_http(stream, &state),
                _ => serve_socks(stream, kind, &state),
            };
        });
    }
}

fn refused(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

fn serve_socks(mut client: TcpStream, kind: Kind, state: &State) -> io::Result<()> {
    state.keep(&client)?;
    let [version, count] = read(&mut client)?;
    let mut methods = vec![0; count.into()];
    client.read_exact(&mut methods)?;
    if version != 5 || !methods.contains(&2) {
        client.write_all(&[5, 0xff])?;
        return Err(refused("no login is offered"));
    }
    client.write_all(&[5, 2])?;
    let [_, len] = read(&mut client)?;
    let user = read_text(&mut client, len)?;
    let [len] = read(&mut client)?;
    let password = read_text(&mut client, len)?;
    let is_right = (user.as_str(), password.as_str()) == ("ann", "p@ss");
    client.write_all(&[1, u8::from(!is_right)])?;
    if !is_right {
        return Err(refused("wrong login"));
    }
    let [_, command, _] = read(&mut client)?;
    let (shown, addr) = read_target(&mut client)?;
    match (command, kind) {
        (1, _) => {
            state.note(format!("connect {shown}"));
            let Ok(server) = TcpStream::connect(addr) else {
                return client.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]);
            };
            state.keep(&server)?;
            client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
            splice(client, server)
        }
        (3, Kind::Socks) => {
            let relay = UdpSocket::bind(SocketAddr::from((GATEWAY, 0)))?;
            let port = relay.local_addr()?.port().to_be_bytes();
            // An address that is of no use to the client, as of a proxy behind a NAT.
            client.write_all(&[5, 0, 0, 1, 192, 168, 99, 99, port[0], port[1]])?;
            relay_datagrams(&relay, client.peer_addr()?.ip(), state)
        }
        _ => client.write_all(&[5, 7, 0, 1, 0, 0, 0, 0, 0, 0]),
    }
}

fn read<const N: usize>(stream: &mut impl io::Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_text(stream: &mut impl io::Read, len: u8) -> io::Result<String> {
    let mut text = vec![0; len.into()];
    stream.read_exact(&mut text)?;
    String::from_utf8(text).map_err(io::Error::other)
}

/// A target as it was named, and where it is: every name is the world's.
fn read_target(stream: &mut impl io::Read) -> io::Result<(String, SocketAddr)> {
    let [kind] = read(stream)?;
    let (shown, ip) = match kind {
        1 => {
            let ip = Ipv4Addr::from(read::<4>(stream)?);
            (ip.to_string(), ip)
        }
        3 => {
            let [len] = read(stream)?;
            (read_text(stream, len)?, WORLD)
        }
        _ => return Err(refused("no such address here")),
    };
    let port = u16::from_be_bytes(read(stream)?);
    Ok((format!("{shown}:{port}"), SocketAddr::from((ip, port))))
}

fn relay_datagrams(relay: &UdpSocket, client: IpAddr, state: &State) -> io::Result<()> {
    let mut buffer = vec![0; 65_535];
    let mut client_addr = None;
    loop {
        let (len, from) = relay.recv_from(&mut buffer)?;
        let datagram = &buffer[..len];
        if from.ip() == client {
            client_addr = Some(from);
            let mut rest = &datagram[3..];
            let (shown, to) = read_target(&mut rest)?;
            state.note(format!("datagram {shown}"));
            relay.send_to(rest, to)?;
        } else if let (Some(client), IpAddr::V4(ip)) = (client_addr, from.ip()) {
            let head = [&[0, 0, 0, 1], &ip.octets()[..], &from.port().to_be_bytes()].concat();
            relay.send_to(&[&head, datagram].concat(), client)?;
        }
    }
}

fn serve_http(client: TcpStream, state: &State) -> io::Result<()> {
    state.keep(&client)?;
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let mut client = client;
    // ann:p@ss
    if !head
        .to_ascii_lowercase()
        .contains("proxy-authorization: basic yw5uonbac3m=")
    {
        return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    }
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    state.note(format!("{method} {target}"));
    let authority = target
        .trim_start_matches("http://")
        .split('/')
        .next()
        .unwrap_or("");
    let port = authority
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .unwrap_or(80);
    let ip = authority
        .parse()
        .map_or(WORLD, |addr: std::net::SocketAddrV4| *addr.ip());
    let Ok(mut server) = TcpStream::connect(SocketAddr::from((ip, port))) else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n");
    };
    state.keep(&server)?;
    if method == "CONNECT" {
        client.write_all(b"HTTP/1.1 200 Connection established\r\nX-Test: 1\r\n\r\n")?;
    } else {
        server.write_all(head.as_bytes())?;
    }
    splice(client, server)
}

/// Carries bytes both ways until either side ends.
fn splice(client: TcpStream, server: TcpStream) -> io::Result<()> {
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let up = std::thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut from_server, mut to_client) = (server, client);
    let _ = io::copy(&mut from_server, &mut to_client);
    let _ = to_client.shutdown(Shutdown::Both);
    let _ = up.join();
    Ok(())
}
