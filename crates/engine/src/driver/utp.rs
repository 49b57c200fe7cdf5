//! uTP over the UDP sockets where we listen.
//!
//! A connection's state is shared by two tasks: that of its UDP socket, which hands it packets and sends what
//! their acknowledgements set free, and that of the connection, which reads, writes and keeps its timers.

mod endpoint;
mod link;
mod port;
mod stream;

pub use endpoint::{UtpConn, UtpEndpoint};
pub(crate) use port::{Door, UtpPort};
pub(crate) use stream::UtpStream;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

/// The ports of an engine: one an address where it listens now. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct UtpPorts {
    ports: Arc<RwLock<Vec<Arc<UtpPort>>>>,
}

impl UtpPorts {
    pub(crate) fn add(&self, port: Arc<UtpPort>) {
        let mut ports = self.ports.write().unwrap_or_else(PoisonError::into_inner);
        ports.push(port);
    }

    /// Forgets all ports: where they were is gone.
    pub(crate) fn clear(&self) {
        let mut ports = self.ports.write().unwrap_or_else(PoisonError::into_inner);
        ports.clear();
    }

    /// Whether a peer can be reached by uTP at all.
    pub(crate) fn reach(&self, peer: SocketAddr) -> bool {
        self.find(peer).is_some()
    }

    fn find(&self, peer: SocketAddr) -> Option<Arc<UtpPort>> {
        let ports = self.ports.read().unwrap_or_else(PoisonError::into_inner);
        ports.iter().find(|port| port.udp.reaches(peer)).cloned()
    }

    /// Dials a peer.
    pub(crate) async fn dial(&self, peer: SocketAddr) -> io::Result<UtpStream> {
        let Some(port) = self.find(peer) else {
            return Err(io::Error::other("no uTP in its address family"));
        };
        port.dial(peer).await
    }
}
