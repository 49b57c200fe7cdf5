//! The one place where sockets are made: to listen, to dial, for datagrams, for HTTP, to resolve names.
//!
//! What the user allows of the network (addresses, interfaces, proxies) is kept here and nowhere else. A driver
//! that made a socket of its own would go where its user did not send it, so a tidy test forbids the means in
//! every other file.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

/// The kernel's queue of connections not yet accepted.
const BACKLOG: i32 = 256;

/// The ports that are tried in turn if the user named none (BEP 3: "downloaders will try … 6881 … to 6889").
const DEFAULT_PORTS: std::ops::RangeInclusive<u16> = 6881..=6889;

/// An HTTP request must have been answered within this time.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);

/// Connecting must not take longer than this.
const HTTP_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Redirects that are followed; more is a loop.
const HTTP_REDIRECTS_MAX: usize = 5;

/// Idle connections are kept this long: trackers are asked every half hour, and keep none open for us.
const HTTP_IDLE: Duration = Duration::from_secs(20);

/// An HTTP client could not be built: no TLS roots, as a rule.
pub(crate) type ClientError = reqwest::Error;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// Both, in the order in which they are tried.
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) const fn of(addr: &SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }

    /// Any port of any address of the family.
    pub(crate) const fn any_port(self) -> SocketAddr {
        let ip = match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        SocketAddr::new(ip, 0)
    }
}

/// Makes sockets as far as the user allows. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Sockets {
    /// Where to listen, and the source of what is dialled; empty for all addresses.
    listen: Arc<[SocketAddr]>,
}

impl Sockets {
    /// Sockets on these addresses; if there are none, on all.
    pub(crate) fn new(listen: &[SocketAddr]) -> Self {
        Self {
            listen: listen.into(),
        }
    }

    /// Whether there may be sockets of a family: the user named an address of it, or none at all.
    pub(crate) fn allows(&self, family: Family) -> bool {
        self.listen.is_empty() || self.listen.iter().any(|addr| Family::of(addr) == family)
    }

    fn check(&self, family: Family) -> io::Result<()> {
        if self.allows(family) {
            return Ok(());
        }
        Err(io::Error::other("we do not listen in its address family"))
    }

    /// Listens on what the user named; or, if nothing, on the usual ports of all addresses of both families.
    pub(crate) fn listen(&self) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
        if !self.listen.is_empty() {
            let each = self.listen.iter();
            return each
                .map(|addr| listen(*addr).map_err(|error| (*addr, error)))
                .collect();
        }
        let mut last = None;
        // After the usual ports, any: a second client on a machine must work without being told.
        for port in DEFAULT_PORTS.chain([0]) {
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            match listen(v4) {
                Ok(listener) => return Ok(with_v6(listener)),
                Err(error) => last = Some((v4, error)),
            }
        }
        // Invariant: the loop ran at least once, and ends here only after an error.
        Err(last.expect("at least one port was tried"))
    }

    /// Dials a peer.
    pub(crate) async fn dial(&self, addr: SocketAddr) -> io::Result<TcpStream> {
        let family = Family::of(&addr);
        self.check(family)?;
        let socket = match addr {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        let mut ours = self.listen.iter().filter(|own| !own.ip().is_unspecified());
        if let Some(own) = ours.find(|own| Family::of(own) == family) {
            socket.bind(SocketAddr::new(own.ip(), 0))?;
        }
        socket.connect(addr).await
    }

    /// A socket for datagrams at `local`: an address where we listen, or [`Family::any_port`].
    pub(crate) fn datagrams(&self, local: SocketAddr) -> io::Result<UdpSocket> {
        self.check(Family::of(&local))?;
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
        if local.is_ipv6() {
            // One socket a family, so that each can be told apart and bound on its own.
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&local.into())?;
        UdpSocket::from_std(socket.into())
    }

    /// A client for trackers and torrents on the web, in one address family; `None` if the family is not used.
    /// Never picks up a proxy from the environment: a BitTorrent client must not go where its user did not
    /// send it.
    pub(crate) fn http(&self, family: Family) -> Result<Option<reqwest::Client>, ClientError> {
        if !self.allows(family) {
            return Ok(None);
        }
        reqwest::Client::builder()
            .user_agent(concat!("riverrun/", env!("CARGO_PKG_VERSION")))
            .local_address(family.any_port().ip())
            .no_proxy()
            .timeout(HTTP_TIMEOUT)
            .connect_timeout(HTTP_CONNECT_TIMEOUT)
            .pool_idle_timeout(HTTP_IDLE)
            .redirect(reqwest::redirect::Policy::limited(HTTP_REDIRECTS_MAX))
            .build()
            .map(Some)
    }

    /// The addresses of a host.
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((host, port)).await?;
        Ok(found.filter(|addr| self.allows(Family::of(addr))).collect())
    }
}

/// The IPv6 twin on the same port, if the machine has IPv6 and the port is free.
fn with_v6(v4: TcpListener) -> Vec<TcpListener> {
    let port = v4.local_addr().map_or(0, |addr| addr.port());
    let v6 = listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    std::iter::once(v4).chain(v6).collect()
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        // One socket a family, so that each can be told apart and bound on its own.
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for connections of the last run to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
