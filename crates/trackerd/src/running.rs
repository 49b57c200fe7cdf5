//! A tracker at work.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::service::{Service, TrackerdStats};

/// A tracker at work. Dropping it ends it at once; [`Running::shutdown`] lets answers under way go out.
#[derive(Debug)]
pub struct Running {
    http_addrs: Vec<SocketAddr>,
    udp_addrs: Vec<SocketAddr>,
    service: Arc<Service>,
    shutdown: watch::Sender<()>,
    tasks: JoinSet<()>,
}

impl Running {
    pub(crate) const fn new(
        http_addrs: Vec<SocketAddr>,
        udp_addrs: Vec<SocketAddr>,
        service: Arc<Service>,
        shutdown: watch::Sender<()>,
        tasks: JoinSet<()>,
    ) -> Self {
        Self {
            http_addrs,
            udp_addrs,
            service,
            shutdown,
            tasks,
        }
    }

    /// Where it listens for HTTP, with the real ports, in the order in which the addresses were given.
    pub fn http_addrs(&self) -> &[SocketAddr] {
        &self.http_addrs
    }

    /// Where it listens for UDP, likewise.
    pub fn udp_addrs(&self) -> &[SocketAddr] {
        &self.udp_addrs
    }

    /// How much there is, and how much was done.
    pub fn stats(&self) -> TrackerdStats {
        self.service.stats()
    }

    /// Stops listening, and waits for the answers that are under way, for five seconds at most.
    pub async fn shutdown(mut self) {
        // Whoever watches is told by the end of the channel, too.
        drop(self.shutdown);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the tracker has failed");
            }
        }
    }
}
