//! uTP by itself: streams of bytes over a socket of its own. What the transport costs without torrents is measured with
//! it (`examples/utp.rs`).

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::port::{Door, UtpPort};
use super::stream::UtpStream;
use crate::driver::clock::Clock;
use crate::driver::socket::Sockets;
use crate::driver::udp::{self, Speakers, UdpPort};
use crate::network::NetworkOptions;

/// How many connections wait to be accepted.
const WAITING_MAX: usize = 64;

/// A socket that dials and is dialled. Its connections end with it.
#[derive(Debug)]
pub struct UtpEndpoint {
    port: Arc<UtpPort>,
    dialled: mpsc::Receiver<UtpStream>,
    serving: AbortHandle,
}

impl UtpEndpoint {
    /// Binds an address; port 0 is any that is free. To be called inside a tokio runtime.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let sockets = Sockets::new(&[addr], NetworkOptions::default())?;
        let udp = Arc::new(UdpPort::new(sockets.datagrams(addr)?)?);
        let port = UtpPort::new(udp.clone(), Clock::start(), rand::random());
        let (streams, dialled) = mpsc::channel(WAITING_MAX);
        let speakers = Speakers {
            utp: Some((port.clone(), Door::Streams(streams))),
            dht: None,
        };
        let serving = tokio::spawn(udp::serve(udp, speakers)).abort_handle();
        Ok(Self {
            port,
            dialled,
            serving,
        })
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.port.udp.local_addr()
    }

    /// Dials; the other end has answered when this returns.
    pub async fn dial(&self, peer: SocketAddr) -> io::Result<UtpConn> {
        self.port.dial(peer).await.map(UtpConn)
    }

    /// The next that has dialled us; `None` if the socket is no longer served.
    pub async fn accept(&mut self) -> Option<UtpConn> {
        self.dialled.recv().await.map(UtpConn)
    }
}

impl Drop for UtpEndpoint {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A connection. To let it go closes it: what was written is still delivered.
#[derive(Debug)]
pub struct UtpConn(UtpStream);

impl UtpConn {
    /// Waits for bytes and puts them into a buffer that is empty, and may be another one afterwards; 0 at the end.
    pub async fn read(&self, empty: &mut Vec<u8>) -> io::Result<usize> {
        self.0.ready(Some(Interest::READABLE)).await;
        self.0.try_read(empty)
    }

    /// Writes all of it; it may not have left yet when this returns.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.0.ready(Some(Interest::WRITABLE)).await;
            let written = self.0.try_write_vectored(&[IoSlice::new(bytes)])?;
            bytes = &bytes[written..];
        }
        Ok(())
    }
}
