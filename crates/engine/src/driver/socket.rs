//! The one place where sockets are made: to listen, to dial, for datagrams, for HTTP, to resolve names.
//!
//! What the user allows of the network (addresses, interfaces, proxies) is kept here and nowhere else. A driver
//! that made a socket of its own would go where its user did not send it, so a tidy test forbids the means in
//! every other file.
//!
//! Nothing here falls back to something wider: while the addresses that the user allows are gone, making a socket
//! is an error, and those that were made are bound to what is gone.

mod datagrams;
mod dns;
mod ground;
mod multicast;
mod proxy;
mod web;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use riverrun_base::Nearness;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::watch;

use self::datagrams::{Names, Relay};
use self::dns::Resolver;
use self::ground::{Ground, Place};
use self::proxy::Refusal;
use self::web::WebClients;
use super::web::Reach;
use crate::network::{Bind, NetworkOptions, NetworkState, Proxy, ProxyKind};

pub(crate) use self::datagrams::{Datagrams, RelayEnd, unwrap as unwrap_relayed};
pub(crate) use self::multicast::Stand;
pub(crate) use self::proxy::ProxyFailure;
pub(crate) use self::web::{ClientError, TIMEOUT as HTTP_TIMEOUT};

/// The kernel's queue of connections not yet accepted.
const BACKLOG: i32 = 256;

/// The ports that are tried in turn if the user named none (BEP 3: "downloaders will try … 6881 … to 6889").
const DEFAULT_PORTS: std::ops::RangeInclusive<u16> = 6881..=6889;

/// How many ports of the system's choice are tried until one is free for connections and datagrams.
const ANY_PORT_TRIES: u32 = 16;

/// How often to look whether the addresses that we are bound to are still there. Their sockets are useless from the
/// moment they go; this is only how soon that is said, and how soon it goes on when they are back.
const SURVEY_INTERVAL: Duration = Duration::from_secs(1);

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
        Self::of_ip(addr.ip())
    }

    pub(crate) const fn of_ip(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
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
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Where to listen, and the source of what is dialled; empty for all addresses.
    listen: Vec<SocketAddr>,
    options: NetworkOptions,
    ground: watch::Sender<Ground>,
    /// The port where we listened last, to which peers and trackers have been sent; 0 for none.
    port: AtomicU16,
    web: WebClients,
    names: Names,
}

impl Sockets {
    /// Sockets on these addresses, if there are some, and as far as the options allow.
    pub(crate) fn new(listen: &[SocketAddr], options: NetworkOptions) -> io::Result<Self> {
        let ground = Ground::survey(&options.bind)?;
        Ok(Self {
            inner: Arc::new(Inner {
                listen: listen.to_vec(),
                options,
                ground: watch::Sender::new(ground),
                port: AtomicU16::new(0),
                web: WebClients::default(),
                names: Names::default(),
            }),
        })
    }

    /// Whether there may be sockets of a family: the user named an address of it, or none at all.
    fn allows(&self, family: Family) -> bool {
        let listen = &self.inner.listen;
        // A proxy reaches whatever it reaches, and nobody listens.
        listen.is_empty()
            || self.inner.options.proxy.is_some()
            || listen.iter().any(|addr| Family::of(addr) == family)
    }

    /// Whether everything goes by a proxy. What cannot go by one must not be done then.
    pub(crate) fn is_proxied(&self) -> bool {
        self.inner.options.proxy.is_some()
    }

    /// How far away a host is that answers from an address. What a proxy reaches is away, wherever the proxy is.
    pub(crate) fn nearness(&self, ip: IpAddr) -> Option<Nearness> {
        if self.is_proxied() {
            return Some(Nearness::World);
        }
        Nearness::of(ip)
    }

    /// Whether only this machine can be reached: all addresses where we listen are its own.
    pub(crate) fn is_alone(&self) -> bool {
        let listen = &self.inner.listen;
        !listen.is_empty() && listen.iter().all(|addr| addr.ip().is_loopback())
    }

    /// Whether a socket of a family could be made now.
    pub(crate) fn has_place(&self, family: Family) -> bool {
        self.place(family).is_ok()
    }

    /// From where a socket of a family speaks.
    fn place(&self, family: Family) -> io::Result<Place> {
        if !self.allows(family) {
            return Err(io::Error::other("we do not listen in its address family"));
        }
        let place = self.inner.ground.borrow().place(family);
        place.ok_or_else(|| self.no_place(family))
    }

    /// The error for a socket that cannot be made, because what the user allows is not there.
    fn no_place(&self, family: Family) -> io::Error {
        if self.inner.ground.borrow().is_empty() {
            return io::Error::new(io::ErrorKind::NetworkDown, self.what_is_gone());
        }
        let family = match family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        let message = format!("{} has no {family} address", self.allowed());
        io::Error::new(io::ErrorKind::AddrNotAvailable, message)
    }

    fn what_is_gone(&self) -> String {
        format!("{} is not there or is down", self.allowed())
    }

    /// What the user allows, by name.
    fn allowed(&self) -> String {
        let names: Vec<_> = self
            .inner
            .options
            .bind
            .iter()
            .map(ToString::to_string)
            .collect();
        names.join(", ")
    }

    /// Whether sockets can be made now.
    pub(crate) fn state(&self) -> NetworkState {
        if self.inner.ground.borrow().is_empty() {
            let why = self.what_is_gone();
            return NetworkState::Offline { why };
        }
        NetworkState::Online
    }

    /// Tells when the addresses from which we speak have changed. Every socket has to be made anew then, as far as
    /// [`Sockets::state`] allows.
    pub(crate) fn changes(&self) -> Changes {
        Changes(self.inner.ground.subscribe())
    }

    /// Looks for changes for ever. One task of an engine does.
    pub(crate) async fn survey(self) {
        let binds = &self.inner.options.bind;
        if binds.is_empty() {
            return;
        }
        loop {
            tokio::time::sleep(SURVEY_INTERVAL).await;
            match Ground::survey(binds) {
                Ok(ground) => self.stand_on(ground),
                // Nothing is known, so nothing changes: what exists stays bound to what it was bound to.
                Err(error) => tracing::warn!(%error, "interfaces cannot be listed"),
            }
        }
    }

    fn stand_on(&self, ground: Ground) {
        let interface = |bind: &Bind| matches!(bind, Bind::Interface(_));
        let are_interfaces = self.inner.options.bind.iter().all(interface);
        let changed = self.inner.ground.send_if_modified(|held| {
            let lasts = *held == ground || are_interfaces && held.lasts(&ground);
            if !lasts {
                *held = ground;
            }
            !lasts
        });
        if changed {
            self.inner.web.clear();
        }
    }

    /// Listens on what the user named; or, if nothing, on the usual ports of all addresses of both families. Empty
    /// if those addresses are not there now, and with a proxy: whoever dialled us would see past it.
    pub(crate) fn listen<T: Listen>(&self) -> Result<Vec<T>, (SocketAddr, io::Error)> {
        if self.is_proxied() {
            return Ok(Vec::new());
        }
        let listeners: Vec<T> = if self.inner.listen.is_empty() {
            self.listen_on_a_usual_port()?
        } else {
            self.listen_where_told()?
        };
        let port = listeners.first().and_then(|first| first.addr().ok());
        if let Some(addr) = port {
            self.inner.port.store(addr.port(), Ordering::Relaxed);
        }
        Ok(listeners)
    }

    fn listen_where_told<T: Listen>(&self) -> Result<Vec<T>, (SocketAddr, io::Error)> {
        let mut listeners = Vec::new();
        for addr in &self.inner.listen {
            let places = self.inner.ground.borrow().places_at(addr.ip());
            for place in places {
                let port = match addr.port() {
                    0 => self.inner.port.load(Ordering::Relaxed),
                    port => port,
                };
                let listening = match T::listen(&place, port) {
                    Err(_) if addr.port() == 0 => T::listen(&place, 0),
                    listening => listening,
                };
                match listening {
                    Ok(listener) => listeners.push(listener),
                    // A machine need not have IPv6.
                    Err(error)
                        if addr.ip() == Ipv6Addr::UNSPECIFIED
                            && error.kind() != io::ErrorKind::AddrInUse => {}
                    Err(error) => return Err((SocketAddr::new(place.ip, port), error)),
                }
            }
        }
        if listeners.is_empty() && !self.inner.ground.borrow().is_empty() {
            let message = format!("no address of {}", self.allowed());
            let error = io::Error::new(io::ErrorKind::AddrNotAvailable, message);
            return Err((self.inner.listen[0], error));
        }
        Ok(listeners)
    }

    fn listen_on_a_usual_port<T: Listen>(&self) -> Result<Vec<T>, (SocketAddr, io::Error)> {
        let ground = self.inner.ground.borrow();
        let places: Vec<_> = Family::ALL
            .iter()
            .flat_map(|family| ground.places_at(family.any_port().ip()))
            .collect();
        let Some((first, others)) = places.split_first() else {
            return Ok(Vec::new());
        };
        let last_port = self.inner.port.load(Ordering::Relaxed);
        let again = (last_port != 0).then_some(last_port);
        let mut failure = None;
        // After the usual ports, any: a second client on a machine must work without being told.
        for port in again.into_iter().chain(DEFAULT_PORTS).chain([0]) {
            match T::listen(first, port) {
                Ok(listener) => return Ok(with_others(listener, others)),
                Err(error) => failure = Some((SocketAddr::new(first.ip, port), error)),
            }
        }
        // Invariant: the loop ran at least once, and ends here only after an error.
        Err(failure.expect("at least one port was tried"))
    }

    /// Dials a peer.
    pub(crate) async fn dial(&self, addr: SocketAddr) -> io::Result<TcpStream> {
        let Some(proxy) = &self.inner.options.proxy else {
            let stream = self.connect(addr).await?;
            self.mark(&SockRef::from(&stream), Family::of(&addr));
            return Ok(stream);
        };
        // Apart, since most have no proxy, and a dial is to take little memory.
        Box::pin(self.dial_by(proxy, addr)).await
    }

    async fn dial_by(&self, proxy: &Proxy, addr: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = self.connect_proxy(proxy).await?;
        let target = self.inner.names.target(addr);
        let connected = proxy::connect(&mut stream, proxy, &target).await;
        connected.map_err(|refusal| refusal.of(proxy))?;
        Ok(stream)
    }

    /// Marks what is sent to peers, if the user wants it. Not worth a failure: the mark is a wish.
    fn mark(&self, socket: &SockRef<'_>, family: Family) {
        let Some(dscp) = self.inner.options.dscp else {
            return;
        };
        let class = dscp.traffic_class();
        let marked = match family {
            Family::V4 => socket.set_tos_v4(class),
            Family::V6 => socket.set_tclass_v6(class),
        };
        if let Err(error) = marked {
            tracing::debug!(%error, "a socket could not be marked");
        }
    }

    /// Marks what is sent from where we listen: what is accepted inherits it, datagrams have it of their socket.
    pub(crate) fn mark_listening(&self, Listening { tcp, udp }: &Listening) {
        let family = tcp.local_addr().map(|addr| Family::of(&addr));
        let family = family.unwrap_or(Family::V4);
        self.mark(&SockRef::from(tcp), family);
        self.mark(&SockRef::from(udp), family);
    }

    async fn connect_proxy(&self, proxy: &Proxy) -> io::Result<TcpStream> {
        let connect = async {
            let mut failure = io::Error::other("its name has no address");
            for addr in self.resolve_openly(&proxy.host, proxy.port).await? {
                match self.connect(addr).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => failure = error,
                }
            }
            Err(failure)
        };
        let unreachable = |error| Refusal::Proxy(format!("cannot be reached: {error}"));
        let connected = proxy::in_time(async { connect.await.map_err(unreachable) }).await;
        connected.map_err(|refusal| refusal.of(proxy))
    }

    /// Connects to an address, from where the user allows.
    async fn connect(&self, addr: SocketAddr) -> io::Result<TcpStream> {
        let family = Family::of(&addr);
        let mut place = self.place(family)?;
        let mut ours = self
            .inner
            .listen
            .iter()
            .filter(|own| !own.ip().is_unspecified());
        if let Some(own) = ours.find(|own| Family::of(own) == family) {
            let held = self.inner.ground.borrow().places_at(own.ip());
            place = held
                .into_iter()
                .next()
                .ok_or_else(|| self.no_place(family))?;
        }
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        place.hold(&socket, 0)?;
        let socket = TcpSocket::from_std_stream(socket.into());
        let mut ground = self.inner.ground.subscribe();
        tokio::select! {
            connected = socket.connect(addr) => connected,
            _ = ground.wait_for(|ground| !ground.has(&place)) => Err(self.no_place(family)),
        }
    }

    /// A socket for datagrams to a family, through the proxy if there is one.
    pub(crate) async fn datagrams_to(&self, family: Family) -> io::Result<Datagrams> {
        if !self.is_proxied() {
            return self.datagrams(family.any_port()).map(Datagrams::Straight);
        }
        let RelayEnd { socket, control } = self.relay().await?;
        Ok(Datagrams::Relayed(Box::new(Relay::new(socket, control))))
    }

    /// Whether everything goes by a proxy that may relay datagrams.
    pub(crate) fn has_relay(&self) -> bool {
        let proxy = self.inner.options.proxy.as_ref();
        proxy.is_some_and(|proxy| proxy.kind == ProxyKind::Socks5)
    }

    /// Has the proxy relay datagrams.
    pub(crate) async fn relay(&self) -> io::Result<RelayEnd> {
        let proxy = self.inner.options.proxy.as_ref();
        let proxy = proxy.filter(|proxy| proxy.kind == ProxyKind::Socks5);
        let proxy = proxy.ok_or_else(proxy::no_datagrams)?;
        let mut control = Box::pin(self.connect_proxy(proxy)).await?;
        let port = proxy::associate(&mut control, proxy).await;
        let port = port.map_err(|refusal| refusal.of(proxy))?;
        // The relay's address as it names it is often one of its own network, and where we were sent is the proxy.
        let relay = SocketAddr::new(control.peer_addr()?.ip(), port);
        let socket = self.bind_datagrams(Family::of(&relay).any_port())?;
        socket.connect(relay).await?;
        Ok(RelayEnd { socket, control })
    }

    /// A datagram as a relay wants it.
    pub(crate) fn wrap(&self, bytes: &[u8], to: SocketAddr) -> Vec<u8> {
        datagrams::wrap(bytes, &self.inner.names.target(to))
    }

    /// Sends a datagram by a socket that was made here.
    pub(crate) async fn send(
        &self,
        socket: &Datagrams,
        bytes: &[u8],
        to: SocketAddr,
    ) -> io::Result<()> {
        socket.send(bytes, to, &self.inner.names).await
    }

    /// As which of the addresses that [`Sockets::resolve`] gave a datagram's sender may be known. Several, if a proxy
    /// resolves the names: then the protocol has to tell whose answer it is.
    pub(crate) fn aliases(&self, from: SocketAddr) -> Vec<SocketAddr> {
        self.inner.names.aliases(from)
    }

    /// A socket of the system's for datagrams at `local`: an address where we listen, or [`Family::any_port`]. An error
    /// if everything goes by a proxy.
    pub(crate) fn datagrams(&self, local: SocketAddr) -> io::Result<UdpSocket> {
        if self.is_proxied() {
            let message = "everything goes by a proxy";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        self.bind_datagrams(local)
    }

    fn bind_datagrams(&self, local: SocketAddr) -> io::Result<UdpSocket> {
        let family = Family::of(&local);
        let mut place = self.place(family)?;
        if !local.ip().is_unspecified() {
            let held = self.inner.ground.borrow().places_at(local.ip());
            place = held
                .into_iter()
                .next()
                .ok_or_else(|| self.no_place(family))?;
        }
        UdpSocket::listen(&place, local.port())
    }

    /// A client for trackers and torrents on the web, in one address family; `None` if the family is not used. With a
    /// proxy there is but one, whose family is that of the way to the proxy. It follows no redirects:
    /// [`Web`](super::web::Web) does, with rules.
    pub(crate) fn web(
        &self,
        family: Family,
        reach: Reach,
    ) -> Result<Option<reqwest::Client>, ClientError> {
        let ground = self.inner.ground.borrow().clone();
        let place = match &self.inner.options.proxy {
            Some(_) if family == Family::V6 => None,
            Some(proxy) => match proxy.host.parse() {
                Ok(ip) => ground.place(Family::of_ip(ip)),
                Err(_) => ground.place(Family::V4).or(ground.place(Family::V6)),
            },
            None if self.allows(family) => ground.place(family),
            None => None,
        };
        place
            .map(|place| self.inner.web.client(self, &place, reach))
            .transpose()
    }

    /// A client that speaks HTTP with the router only, from this address of ours: it follows no redirect away from it.
    /// `None` if we may not speak from there.
    pub(crate) fn web_of_router(&self, ip: IpAddr) -> Result<Option<reqwest::Client>, ClientError> {
        let places = self.inner.ground.borrow().places_at(ip);
        places
            .into_iter()
            .next()
            .filter(|_| !self.is_proxied())
            .map(|place| web::client_of_router(&place))
            .transpose()
    }

    /// The interfaces by which everything of a family leaves, if it has to be by some; the first unless one is named.
    pub(crate) fn devices(&self, family: Family) -> Vec<String> {
        let places = self.inner.ground.borrow().places_at(family.any_port().ip());
        let devices = places.into_iter().filter_map(|place| place.device);
        devices.map(|device| device.name).collect()
    }

    /// Whether the user names from where everything has to leave.
    pub(crate) fn is_bound(&self) -> bool {
        !self.inner.options.bind.is_empty()
    }

    /// The interface that has an address of ours.
    pub(crate) fn device_at(&self, ip: IpAddr) -> Option<String> {
        self.inner.ground.borrow().device_at(ip)
    }

    /// The addresses of a host, in the families that are used. With a proxy they stand for the name, which the proxy
    /// will resolve: they mean something to [`Sockets::dial`] and [`Sockets::send`] only.
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if self.is_proxied() && host.parse::<IpAddr>().is_err() {
            let ip = self.inner.names.stand_in(host)?;
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        self.resolve_openly(host, port).await
    }

    /// Resolves a name by asking for it: that of the proxy, or any if there is none.
    async fn resolve_openly(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found = if let Ok(ip) = host.parse::<IpAddr>() {
            vec![SocketAddr::new(ip, port)]
        } else if matches!(*self.inner.ground.borrow(), Ground::Anywhere) {
            tokio::net::lookup_host((host, port)).await?.collect()
        } else {
            let resolver = Resolver::new(self.clone(), &self.inner.options.dns);
            let ips = resolver.resolve(host).await?.into_iter();
            ips.map(|ip| SocketAddr::new(ip, port)).collect()
        };
        let is_used = |addr: &SocketAddr| self.allows(Family::of(addr));
        Ok(found.into_iter().filter(is_used).collect())
    }
}

/// What can be bound to a place and a port to be found there.
pub(crate) trait Listen: Sized {
    fn listen(place: &Place, port: u16) -> io::Result<Self>;
    fn addr(&self) -> io::Result<SocketAddr>;
}

/// The sockets at one address where we listen: for connections, and with the same port for datagrams.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) tcp: TcpListener,
    pub(crate) udp: UdpSocket,
}

impl Listen for Listening {
    /// A port of the system's choice is free for one kind of sockets as far as it knows: with another one it is tried
    /// again.
    fn listen(place: &Place, port: u16) -> io::Result<Self> {
        let mut tries = if port == 0 { ANY_PORT_TRIES } else { 1 };
        loop {
            tries -= 1;
            let tcp = connections(place, port)?;
            match UdpSocket::listen(place, tcp.local_addr()?.port()) {
                Ok(udp) => return Ok(Self { tcp, udp }),
                Err(error) if tries == 0 => return Err(error),
                Err(_) => {}
            }
        }
    }

    fn addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl Listen for UdpSocket {
    fn listen(place: &Place, port: u16) -> io::Result<Self> {
        let addr = SocketAddr::new(place.ip, port);
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        place.await_address(&socket)?;
        place.hold(&socket, port)?;
        Self::from_std(socket.into())
    }

    fn addr(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

/// Tells of changes of the ground.
#[derive(Debug)]
pub(crate) struct Changes(watch::Receiver<Ground>);

impl Changes {
    /// Waits for the next one. Loses none if it is dropped before.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The sockets are gone, and with them what could change.
            std::future::pending::<()>().await;
        }
    }
}

/// The other places on the same port, as far as they have it free.
fn with_others<T: Listen>(first: T, others: &[Place]) -> Vec<T> {
    let port = first.addr().map_or(0, |addr| addr.port());
    let twins = others.iter().flat_map(|place| T::listen(place, port));
    std::iter::once(first).chain(twins).collect()
}

fn connections(place: &Place, port: u16) -> io::Result<TcpListener> {
    let addr = SocketAddr::new(place.ip, port);
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections of the last run to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    place.await_address(&socket)?;
    place.hold(&socket, port)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
