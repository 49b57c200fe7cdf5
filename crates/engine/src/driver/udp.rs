//! The UDP socket of an address where we listen, which all protocols over UDP share.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::{Interest, Ready};
use tokio::net::UdpSocket;

use super::conn::ConnContext;
use super::listen::canonical;
use super::utp::UtpPort;

/// What the kernel may hold for us, if it lets us have so much: what comes in the few milliseconds in which a
/// busy machine does something else.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// One read of the kernel's: it puts datagrams of one sender together, up to so much (GRO).
const READ_BYTES: usize = 64 * 1024;

/// Reads in one system call.
const READS: usize = 8;

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
    local: SocketAddr,
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
            socket,
            state,
            local,
        })
    }

    /// Where it is bound.
    pub(crate) const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// How many datagrams of one size may be sent at once.
    pub(crate) fn segments_max(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Sends datagrams of `segment_len` bytes each, the last perhaps shorter, from an address of ours if that
    /// matters.
    pub(crate) fn try_send(
        &self,
        to: SocketAddr,
        from: Option<IpAddr>,
        bytes: &[u8],
        segment_len: usize,
    ) -> Sent {
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: bytes,
            segment_size: (segment_len < bytes.len()).then_some(segment_len),
            src_ip: from.filter(|_| self.local.ip().is_unspecified()),
        };
        let result = self.socket.try_io(Interest::WRITABLE, || {
            self.state.send(UdpSockRef::from(&self.socket), &transmit)
        });
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Later,
            _ => Sent::Gone,
        }
    }

    /// Waits until it can be read or written, or whichever is wanted.
    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.socket.ready(interest).await
    }

    /// Takes what has come. The batch is empty if nothing has.
    pub(crate) fn try_receive(&self, batch: &mut ReadBatch) -> io::Result<()> {
        batch.count = 0;
        let ReadBatch { buffers, metas, .. } = batch;
        let mut slices = buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
        let received = self.socket.try_io(Interest::READABLE, || {
            let socket = UdpSockRef::from(&self.socket);
            self.state.recv(socket, &mut slices, metas)
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

/// Hands on what comes, for ever. The task is aborted with its engine.
pub(crate) async fn serve(utp: Arc<UtpPort>, context: ConnContext) {
    let udp = &utp.udp;
    let _stop = StopWithTask(&utp);
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
            () = utp.blocked(), if !writes => {
                writes = true;
                continue;
            }
        };
        match ready.and_then(|ready| read(udp, ready, &mut batch, &utp, &context)) {
            Ok(ready) if ready.is_writable() => {
                // Whoever finds the kernel full again says so again.
                writes = false;
                utp.unblock();
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
    utp: &Arc<UtpPort>,
    context: &ConnContext,
) -> io::Result<Ready> {
    for _ in 0..READS_PER_TURN {
        udp.try_receive(batch)?;
        if batch.is_empty() {
            break;
        }
        for arrived in batch.arrived() {
            utp.handle(&arrived, context);
        }
    }
    Ok(ready)
}

/// Ends the connections of a socket that nobody serves any more.
struct StopWithTask<'a>(&'a UtpPort);

impl Drop for StopWithTask<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Room for what one system call reads.
pub(crate) struct ReadBatch {
    buffers: [Box<[u8]>; READS],
    metas: [RecvMeta; READS],
    count: usize,
}

impl ReadBatch {
    pub(crate) fn new() -> Self {
        Self {
            buffers: std::array::from_fn(|_| vec![0; READ_BYTES].into()),
            metas: [RecvMeta::default(); READS],
            count: 0,
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What has come, by sender.
    pub(crate) fn arrived(&self) -> impl Iterator<Item = Arrived<'_>> {
        let both = self.buffers.iter().zip(&self.metas).take(self.count);
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
