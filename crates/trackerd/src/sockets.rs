//! Sockets that behave alike on every system.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, UdpSocket};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;
/// What the system is asked to queue of datagrams while we are busy, in bytes; it may give less.
const UDP_BUFFER_BYTES: usize = 4 << 20;

/// What carries announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP over TCP.
    Http,
    /// UDP (BEP 15).
    Udp,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Udp => "udp",
        })
    }
}

/// Why a tracker cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrackerdError {
    /// No address was given.
    #[error("a tracker needs an address to listen on")]
    NowhereToListen,
    /// An address cannot be used.
    #[error("cannot listen on {addr} for {transport}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// For what.
        transport: Transport,
        /// What the system says.
        source: io::Error,
    },
}

/// A listener for HTTP.
pub(crate) fn listen(addr: SocketAddr) -> Result<TcpListener, TrackerdError> {
    let listen = || {
        let socket = socket(addr, Type::STREAM, Protocol::TCP)?;
        // A tracker that is restarted must not wait for old connections to be forgotten. On Windows the same
        // option would let others take the port.
        socket.set_reuse_address(cfg!(unix))?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listen().map_err(|source| TrackerdError::Listen {
        addr,
        transport: Transport::Http,
        source,
    })
}

/// A socket for UDP.
pub(crate) fn bind(addr: SocketAddr) -> Result<UdpSocket, TrackerdError> {
    let bind = || {
        let socket = socket(addr, Type::DGRAM, Protocol::UDP)?;
        if let Err(error) = socket.set_recv_buffer_size(UDP_BUFFER_BYTES) {
            tracing::debug!(%error, "the system keeps its own size of the receive buffer");
        }
        socket.bind(&addr.into())?;
        UdpSocket::from_std(socket.into())
    };
    bind().map_err(|source| TrackerdError::Listen {
        addr,
        transport: Transport::Udp,
        source,
    })
}

/// The address that a socket really has.
pub(crate) fn local_addr(
    local: io::Result<SocketAddr>,
    transport: Transport,
    addr: SocketAddr,
) -> Result<SocketAddr, TrackerdError> {
    local.map_err(|source| TrackerdError::Listen {
        addr,
        transport,
        source,
    })
}

fn socket(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    if addr.is_ipv6() {
        // Systems differ in what `[::]` means; here it is IPv6 alone, beside which `0.0.0.0` has room.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}
