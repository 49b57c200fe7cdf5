//! The UDP socket of an address where we listen, which all protocols over UDP share.

mod fragments;
mod mailing;
mod sending;

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use riverrun_dht::Datagram;
use riverrun_utp::Transmit as Segments;
use tokio::io::AsyncReadExt as _;
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Mutex, mpsc, watch};

use self::fragments::Fragments;
use self::sending::{Parcel, Sender};
use super::listen::canonical;
use super::socket::{Family, Sockets, unwrap_relayed};
use super::utp::{Door, UtpPort};

/// How many batches of datagrams wait for the DHT's task. More are lost, as in any full queue on their way.
pub(crate) const DHT_BATCHES_WAITING: usize = 64;

/// Datagrams in one such batch.
const DHT_BATCH_DATAGRAMS_MAX: usize = 128;

/// The most that passes a network in one piece: no message of the DHT is longer.
const DHT_DATAGRAM_BYTES_MAX: usize = 1500;

/// What the kernel may hold for us, if it lets us have so much: what comes in the few milliseconds in which a
/// busy machine does something else.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// One read of the kernel's: it puts datagrams of one sender together, up to so much (GRO).
const READ_BYTES: usize = 64 * 1024;

/// Reads in one system call: as many as it takes.
const READS: usize = 32;

/// While they bring so much each, there are fewer of them, for what was read is best handled while it is in the
/// processor's cache.
const FULL_READ_BYTES: usize = 8 * 1024;
const FULL_READS: usize = 4;

/// System calls before other tasks have their turn.
const READS_PER_TURN: usize = 8;

/// How long to wait after reading failed, for want of memory as a rule.
const READ_RETRY: Duration = Duration::from_millis(100);

/// What became of datagrams that were to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// They left, or were lost already: who sends over UDP must live with both.
    Gone,
    /// The kernel has no room now.
    Later,
}

/// A socket.
#[derive(Debug)]
pub(crate) struct UdpPort {
    socket: UdpSocket,
    state: UdpSocketState,
    sender: Sender,
    local: SocketAddr,
    relay: Option<Relay>,
}

/// What there is to know of a socket that leads to the relay of a proxy.
#[derive(Debug)]
struct Relay {
    /// What wraps datagrams.
    sockets: Sockets,
    /// The relay lasts as long as this.
    control: Mutex<TcpStream>,
}

impl Relay {
    /// Waits for its end. A proxy has nothing to say but that.
    async fn ended(&self) {
        let _ = self.control.lock().await.read_u8().await;
    }
}

impl UdpPort {
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let size = SOCKET_BUFFER_BYTES;
        // Smaller ones lose more under load, no worse.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), size);
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), size);
        let local = socket.local_addr()?;
        Ok(Self {
            sender: Sender::new(&state),
            socket,
            state,
            local,
            relay: None,
        })
    }

    /// A socket that leads to a relay of a proxy. From where that sends is not known here.
    pub(crate) fn relayed(
        socket: UdpSocket,
        sockets: Sockets,
        control: TcpStream,
    ) -> io::Result<Self> {
        let control = Mutex::new(control);
        Ok(Self {
            local: Family::V4.any_port(),
            relay: Some(Relay { sockets, control }),
            ..Self::new(socket)?
        })
    }

    /// Waits until nothing can come any more: for ever, but with a relay.
    async fn ended(&self) {
        match &self.relay {
            Some(relay) => relay.ended().await,
            None => std::future::pending().await,
        }
    }

    /// Whether datagrams to a peer can be sent. A relay may reach both families.
    pub(crate) const fn reaches(&self, peer: SocketAddr) -> bool {
        self.relay.is_some() || self.local.is_ipv4() == peer.is_ipv4()
    }

    /// Where it is bound.
    pub(crate) const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// How many datagrams of one size may be sent at once.
    pub(crate) fn segments_max(&self) -> usize {
        match self.relay {
            // Each has a head of its own.
            Some(_) => 1,
            None => self.sender.segments_max(&self.state),
        }
    }

    /// Sends what a connection has to send, from an address of ours if that matters.
    pub(crate) fn try_send(
        &self,
        to: SocketAddr,
        from: Option<IpAddr>,
        datagrams: Segments<'_>,
    ) -> Sent {
        let Segments {
            bytes,
            segment_len,
            may_fragment,
        } = datagrams;
        let _fragments = may_fragment.then(|| Fragments::allow(&self.socket, self.local.is_ipv4()));
        if let Some(relay) = &self.relay {
            return self.try_relay(relay, to, bytes);
        }
        let parcel = Parcel {
            to,
            from: from.filter(|_| self.local.ip().is_unspecified()),
            bytes,
            segment_len: (segment_len < bytes.len()).then_some(segment_len),
            may_fragment,
        };
        let result = self.socket.try_io(Interest::WRITABLE, || {
            self.sender.send(&self.state, &self.socket, &parcel)
        });
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Later,
            _ => Sent::Gone,
        }
    }

    fn try_relay(&self, relay: &Relay, to: SocketAddr, bytes: &[u8]) -> Sent {
        match self.socket.try_send(&relay.sockets.wrap(bytes, to)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Later,
            _ => Sent::Gone,
        }
    }

    /// Sends datagrams to whom they are for, now or not at all.
    fn mail(&self, datagrams: &[Datagram]) {
        if let Some(relay) = &self.relay {
            for Datagram { to, bytes, .. } in datagrams {
                let _ = self.try_relay(relay, *to, bytes);
            }
            return;
        }
        let datagrams = datagrams.iter().map(|each| (each.to, &each.bytes[..]));
        mailing::send(&self.socket, &datagrams.collect::<Vec<_>>());
    }

    /// Waits until it can be read or written, or whichever is wanted.
    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.socket.ready(interest).await
    }

    /// Takes what has come. The batch is empty if nothing has.
    pub(crate) fn try_receive(&self, batch: &mut ReadBatch) -> io::Result<()> {
        let reads = batch.reads();
        batch.count = 0;
        let ReadBatch { buffers, metas, .. } = batch;
        let mut buffers = buffers.chunks_exact_mut(READ_BYTES);
        let mut slices: [_; READS] =
            std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
        let received = self.socket.try_io(Interest::READABLE, || {
            let socket = UdpSockRef::from(&self.socket);
            self.state.recv(socket, &mut slices[..reads], metas)
        });
        match received {
            Ok(count) => {
                batch.count = count;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Datagrams for the DHT that came together.
#[derive(Debug)]
pub(crate) struct Received {
    /// To which of our sockets, in the order of the addresses where we listen.
    pub(crate) socket: usize,
    /// From whom each is, and how long.
    heads: Vec<(SocketAddr, usize)>,
    /// All of them, side by side.
    bytes: Vec<u8>,
}

impl Received {
    const fn new(socket: usize) -> Self {
        Self {
            socket,
            heads: Vec::new(),
            bytes: Vec::new(),
        }
    }

    fn push(&mut self, from: SocketAddr, datagram: &[u8]) {
        self.heads.push((from, datagram.len()));
        self.bytes.extend_from_slice(datagram);
    }

    /// One by one, with who sent it.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let mut rest = &self.bytes[..];
        self.heads.iter().map(move |(from, len)| {
            let (datagram, others) = rest.split_at(*len);
            rest = others;
            (*from, datagram)
        })
    }
}

/// The sockets where we are now, none while there is no such place. Cheap to clone; anybody may send.
#[derive(Clone, Debug)]
pub(crate) struct Datagrams {
    ports: watch::Sender<Vec<Arc<UdpPort>>>,
}

/// The sockets as they were when they were looked at last.
#[derive(Debug)]
pub(crate) struct DatagramSockets(watch::Receiver<Vec<Arc<UdpPort>>>);

impl DatagramSockets {
    /// Where the sockets are bound.
    pub(crate) fn addrs(&mut self) -> Vec<SocketAddr> {
        let ports = self.0.borrow_and_update();
        ports.iter().map(|port| port.local_addr()).collect()
    }

    /// Waits until there are others.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody makes sockets any more.
            std::future::pending::<()>().await;
        }
    }
}

impl Datagrams {
    pub(crate) fn new() -> Self {
        Self {
            ports: watch::Sender::new(Vec::new()),
        }
    }

    /// The sockets, and their changes.
    pub(crate) fn sockets(&self) -> DatagramSockets {
        DatagramSockets(self.ports.subscribe())
    }

    /// These are the sockets from now on.
    pub(crate) fn set(&self, ports: Vec<Arc<UdpPort>>) {
        self.ports.send_replace(ports);
    }

    /// Sends now or not at all: to the DHT a full buffer is a lost datagram like any other.
    pub(crate) fn send(&self, datagrams: &[Datagram]) {
        let ports = self.ports.borrow();
        for together in datagrams.chunk_by(|one, next| one.socket == next.socket) {
            if let Some(port) = ports.get(together[0].socket) {
                port.mail(together);
            }
        }
    }
}

/// Who speaks through a socket. The first byte of a datagram tells whom it is for: a message of the DHT is a dictionary
/// and begins with `d`, which no packet of uTP does (BEP 29 has version 1 in the lower half of its first byte).
pub(crate) struct Speakers {
    pub(crate) utp: Option<(Arc<UtpPort>, Door)>,
    pub(crate) dht: Option<ToDht>,
}

/// The way to the DHT's task.
pub(crate) struct ToDht {
    task: mpsc::Sender<Received>,
    /// What has come, and was not handed on.
    batch: Received,
}

impl ToDht {
    /// `socket` is the number that the socket has for the DHT.
    pub(crate) const fn new(socket: usize, task: mpsc::Sender<Received>) -> Self {
        Self {
            task,
            batch: Received::new(socket),
        }
    }

    fn take_in(&mut self, arrived: &Arrived<'_>) {
        let is_message =
            |bytes: &&[u8]| bytes.first() == Some(&b'd') && bytes.len() <= DHT_DATAGRAM_BYTES_MAX;
        for datagram in arrived.datagrams().filter(is_message) {
            self.batch.push(arrived.peer, datagram);
            if self.batch.heads.len() == DHT_BATCH_DATAGRAMS_MAX {
                self.settle();
            }
        }
    }

    fn settle(&mut self) {
        if self.batch.heads.is_empty() {
            return;
        }
        let next = Received::new(self.batch.socket);
        let batch = std::mem::replace(&mut self.batch, next);
        // A full queue loses it.
        let _ = self.task.try_send(batch);
    }
}

impl Speakers {
    fn hand_on(&mut self, arrived: &Arrived<'_>) {
        if let Some(dht) = &mut self.dht {
            dht.take_in(arrived);
        }
        if let Some((utp, door)) = &self.utp {
            utp.handle(arrived, door);
        }
    }

    /// All that has come together was handed on.
    fn settle(&mut self) {
        if let Some(dht) = &mut self.dht {
            dht.settle();
        }
        if let Some((utp, _)) = &self.utp {
            utp.settle();
        }
    }

    /// Waits until a connection found the kernel full.
    async fn blocked(&self) {
        match &self.utp {
            Some((utp, _)) => utp.blocked().await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Speakers {
    /// Ends the connections of a socket that nobody serves any more.
    fn drop(&mut self) {
        if let Some((utp, _)) = &self.utp {
            utp.stop();
        }
    }
}

/// Hands on what comes, until a relay ends; without one for ever. The task is aborted with its engine.
pub(crate) async fn serve(udp: Arc<UdpPort>, mut speakers: Speakers) {
    tokio::select! {
        () = udp.ended() => tracing::info!("the proxy relays no more datagrams"),
        () = receive_all(&udp, &mut speakers) => {}
    }
}

async fn receive_all(udp: &UdpPort, speakers: &mut Speakers) {
    let mut batch = ReadBatch::new();
    let mut writes = false;
    loop {
        let interest = if writes {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        let ready = tokio::select! {
            ready = udp.ready(interest) => ready,
            () = speakers.blocked(), if !writes => {
                writes = true;
                continue;
            }
        };
        match ready.and_then(|ready| read(udp, ready, &mut batch, speakers)) {
            Ok(ready) if ready.is_writable() => {
                // Whoever finds the kernel full again says so again.
                writes = false;
                if let Some((utp, _)) = &speakers.utp {
                    utp.unblock();
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, addr = %udp.local, "receiving datagrams failed");
                tokio::time::sleep(READ_RETRY).await;
            }
        }
    }
}

fn read(
    udp: &UdpPort,
    ready: Ready,
    batch: &mut ReadBatch,
    speakers: &mut Speakers,
) -> io::Result<Ready> {
    for _ in 0..READS_PER_TURN {
        udp.try_receive(batch)?;
        if batch.is_empty() {
            break;
        }
        for arrived in batch.arrived() {
            match &udp.relay {
                Some(relay) => unpack(&arrived, &relay.sockets, speakers),
                None => speakers.hand_on(&arrived),
            }
        }
        speakers.settle();
    }
    Ok(ready)
}

/// Hands on what a relay has put together.
fn unpack(arrived: &Arrived<'_>, sockets: &Sockets, speakers: &mut Speakers) {
    for (from, bytes) in arrived.datagrams().filter_map(unwrap_relayed) {
        let from = canonical(from);
        // An answer may come from a node that is known by its name only; which one it is of, the DHT can tell.
        let peers = if bytes.ends_with(DHT_RESPONSE_END) {
            sockets.aliases(from)
        } else {
            vec![from]
        };
        for peer in peers {
            speakers.hand_on(&Arrived {
                peer,
                to: None,
                bytes,
                stride: bytes.len().max(1),
            });
        }
    }
}

/// The last of the keys of a response (BEP 5): `y` is `r`.
const DHT_RESPONSE_END: &[u8] = b"1:y1:re";

/// Room for what one system call reads.
pub(crate) struct ReadBatch {
    /// For each read its own part. The system gives pages of it when they are used for the first time.
    buffers: Box<[u8]>,
    metas: [RecvMeta; READS],
    count: usize,
}

impl ReadBatch {
    pub(crate) fn new() -> Self {
        Self {
            buffers: vec![0; READS * READ_BYTES].into(),
            metas: [RecvMeta::default(); READS],
            count: 0,
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many reads come next, by what the last ones brought.
    fn reads(&self) -> usize {
        let bytes: usize = self.metas[..self.count].iter().map(|meta| meta.len).sum();
        if self.count > 0 && bytes / self.count >= FULL_READ_BYTES {
            FULL_READS
        } else {
            READS
        }
    }

    /// What has come, by sender.
    pub(crate) fn arrived(&self) -> impl Iterator<Item = Arrived<'_>> {
        let buffers = self.buffers.chunks_exact(READ_BYTES);
        let both = buffers.zip(&self.metas).take(self.count);
        both.map(|(buffer, meta)| Arrived {
            peer: canonical(meta.addr),
            to: meta.dst_ip,
            bytes: &buffer[..meta.len],
            stride: meta.stride.max(1),
        })
    }
}

/// Datagrams of one sender.
pub(crate) struct Arrived<'a> {
    pub(crate) peer: SocketAddr,
    /// The address of ours to which they were sent.
    pub(crate) to: Option<IpAddr>,
    bytes: &'a [u8],
    stride: usize,
}

impl<'a> Arrived<'a> {
    /// One by one.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.bytes.chunks(self.stride)
    }
}
