//! A tracker of our own that introduces the peers of a test.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use riverrun_trackerd::{Running, Trackerd};
use tokio::runtime::Runtime;

use crate::riverrun::PATIENCE;

/// A tracker, for as long as this lives.
pub(crate) struct Tracker {
    runtime: Runtime,
    running: Option<Running>,
}

impl Tracker {
    /// A tracker on loopback.
    pub(crate) fn start() -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// A tracker at an address, over HTTP and UDP.
    pub(crate) fn start_at(any: SocketAddr) -> Self {
        let runtime = Runtime::new().unwrap();
        let running = runtime
            .block_on(Trackerd::builder().http(any).udp(any).start())
            .unwrap();
        Self {
            runtime,
            running: Some(running),
        }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Its announce URL over HTTP.
    pub(crate) fn http(&self) -> String {
        format!("http://{}/announce", self.running().http_addrs()[0])
    }

    /// Its announce URL over UDP.
    pub(crate) fn udp(&self) -> String {
        format!("udp://{}/announce", self.running().udp_addrs()[0])
    }

    /// Waits until this many peers have announced themselves. Another program's state can only be asked for.
    pub(crate) fn wait_for_peers(&self, peers: usize) {
        let since = Instant::now();
        let mut tick = self
            .runtime
            .block_on(async { tokio::time::interval(Duration::from_millis(20)) });
        while self.running().stats().peers < peers {
            assert!(
                since.elapsed() < PATIENCE,
                "fewer than {peers} peers announced themselves"
            );
            self.runtime.block_on(tick.tick());
        }
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.shutdown());
        }
    }
}
