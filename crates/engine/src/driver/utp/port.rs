//! The connections of one UDP socket.

use std::io;
use std::iter;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use riverrun_base::Rng;
use riverrun_utp::{ConnectionIds, Demux, Packet, PacketKind, Route, UtpConfig, UtpSocket, is_utp};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::link::UtpLink;
use super::stream::UtpStream;
use crate::driver::clock::Clock;
use crate::driver::conn::{ConnContext, ConnTask};
use crate::driver::doorstep::{Doorstep, Place};
use crate::driver::stream::PeerStream;
use crate::driver::udp::{Arrived, UdpPort};

/// How many connections one socket carries at most, those that are about to end included.
const CONNECTIONS_MAX: usize = 8192;

/// Who takes in those that dial us.
#[derive(Clone)]
pub(crate) enum Door {
    /// An engine, for which they are peers.
    Peers(ConnContext),
    /// Whoever wants streams of bytes, and no more of them than fit: others are not answered.
    Streams(mpsc::Sender<UtpStream>),
}

/// uTP over one UDP socket.
#[derive(Debug)]
pub(crate) struct UtpPort {
    pub(crate) udp: Arc<UdpPort>,
    pub(crate) clock: Clock,
    config: UtpConfig,
    connections: Mutex<Connections>,
    /// A `SYN` of who finds no place is not answered.
    doorstep: Arc<Doorstep>,
    /// Those for which something has come.
    touched: Mutex<Vec<Arc<UtpLink>>>,
    /// Those that wait for room in the kernel.
    blocked: Mutex<Vec<Arc<UtpLink>>>,
    blocked_more: Notify,
    stopped: CancellationToken,
}

#[derive(Debug)]
struct Connections {
    demux: Demux<Arc<UtpLink>>,
    /// Begins the numbers of each, which nobody may guess.
    rng: Rng,
}

impl UtpPort {
    pub(crate) fn new(udp: Arc<UdpPort>, clock: Clock, seed: u64) -> Arc<Self> {
        let mut rng = Rng::new(seed);
        Arc::new(Self {
            udp,
            clock,
            config: UtpConfig::default(),
            connections: Mutex::new(Connections {
                demux: Demux::new(rng.next_u64()),
                rng,
            }),
            doorstep: Doorstep::new(),
            touched: Mutex::new(Vec::new()),
            blocked: Mutex::new(Vec::new()),
            blocked_more: Notify::new(),
            stopped: CancellationToken::new(),
        })
    }

    /// Dials a peer; it has answered when this returns.
    pub(crate) async fn dial(self: &Arc<Self>, peer: SocketAddr) -> io::Result<UtpStream> {
        let link = {
            let mut connections = lock(&self.connections);
            let Some(ids) = connections.demux.draw(peer) else {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            };
            let seed = connections.rng.next_u64();
            let now = self.clock.now();
            let socket = UtpSocket::connect(now, self.config.clone(), peer, ids, seed);
            connections.open(self, peer, None, socket)?
        };
        let stream = UtpStream::new(link);
        stream.connected().await?;
        Ok(stream)
    }

    /// Takes in what has come from one sender; [`Self::settle`] does what that leads to. Whoever dials us is accepted by
    /// `door`.
    pub(crate) fn handle(self: &Arc<Self>, arrived: &Arrived<'_>, door: &Door) {
        let datagrams = arrived.datagrams().filter(|datagram| is_utp(datagram));
        let mut packets = datagrams
            .filter_map(|datagram| Packet::parse(datagram).ok())
            .peekable();
        while let Some(first) = packets.next() {
            let route = lock(&self.connections).demux.route(arrived.peer, &first);
            match route {
                Route::Known(link) => {
                    // What came together mostly belongs together.
                    let id = first.connection_id();
                    let more = iter::from_fn(|| {
                        packets.next_if(|next| is_inside(next) && next.connection_id() == id)
                    });
                    if link.handle_packets(iter::once(first).chain(more)) {
                        lock(&self.touched).push(link);
                    }
                }
                Route::New(ids) => self.accept(arrived, ids, &first, door),
                Route::Nobody => {}
            }
        }
    }

    /// All that has come together was taken in: one answer a connection is enough.
    pub(crate) fn settle(&self) {
        let mut touched = std::mem::take(&mut *lock(&self.touched));
        for link in touched.drain(..) {
            link.settle();
        }
        // Nobody else adds to it: its memory serves the next batch.
        *lock(&self.touched) = touched;
    }

    /// Answers a peer that dials us. It gets a task when it has proved to hear us.
    fn accept(
        self: &Arc<Self>,
        arrived: &Arrived<'_>,
        ids: ConnectionIds,
        syn: &Packet<'_>,
        door: &Door,
    ) {
        let Some(half_open) = self.doorstep.place(arrived.peer.ip()) else {
            return;
        };
        let mut connections = lock(&self.connections);
        let seed = connections.rng.next_u64();
        let (now, config, peer) = (self.clock.now(), self.config.clone(), arrived.peer);
        let Some(socket) = UtpSocket::accept(now, config, peer, ids, syn, seed) else {
            return;
        };
        let Ok(link) = connections.open(self, peer, arrived.to, socket) else {
            return;
        };
        drop(connections);
        link.flush(&mut link.lock());
        tokio::spawn(let_in(UtpStream::new(link), door.clone(), seed, half_open));
    }

    /// A connection waits for room in the kernel.
    pub(super) fn block(&self, link: Arc<UtpLink>) {
        lock(&self.blocked).push(link);
        self.blocked_more.notify_one();
    }

    /// Waits until a connection waits for room in the kernel.
    pub(crate) async fn blocked(&self) {
        while lock(&self.blocked).is_empty() {
            self.blocked_more.notified().await;
        }
    }

    /// There is room in the kernel again.
    pub(crate) fn unblock(&self) {
        let blocked = std::mem::take(&mut *lock(&self.blocked));
        for link in blocked {
            link.unblocked();
        }
    }

    /// Forgets a connection that has ended.
    pub(super) fn forget(&self, link: &UtpLink) {
        lock(&self.connections).demux.remove(link.peer, link.ids);
    }

    /// Waits until the socket is no longer served.
    pub(super) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// The socket is no longer served: ends all connections.
    pub(crate) fn stop(&self) {
        self.stopped.cancel();
        let links: Vec<_> = lock(&self.connections).demux.drain().collect();
        for link in links {
            link.abort();
        }
        lock(&self.blocked).clear();
    }
}

impl Connections {
    fn open(
        &mut self,
        port: &Arc<UtpPort>,
        peer: SocketAddr,
        from: Option<IpAddr>,
        socket: UtpSocket,
    ) -> io::Result<Arc<UtpLink>> {
        if self.demux.len() >= CONNECTIONS_MAX || port.stopped.is_cancelled() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let ids = socket.ids();
        let link = Arc::new(UtpLink::new(port.clone(), peer, from, socket));
        self.demux.insert(peer, ids, link.clone());
        Ok(link)
    }
}

/// Whether a packet belongs to a connection that is known already.
const fn is_inside(packet: &Packet<'_>) -> bool {
    !matches!(packet.kind(), PacketKind::Syn | PacketKind::Reset)
}

/// Lets in whoever has proved to hear us.
async fn let_in(stream: UtpStream, door: Door, seed: u64, half_open: Place) {
    if stream.connected().await.is_err() {
        return;
    }
    match door {
        Door::Peers(context) => {
            let addr = stream.peer();
            let stream = PeerStream::Utp(stream);
            ConnTask::accepted(context, seed, stream, addr, half_open)
                .run()
                .await;
        }
        // Whoever does not fit is let go.
        Door::Streams(streams) => drop(streams.try_send(stream)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change under these locks is one call.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
