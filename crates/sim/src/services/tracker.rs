//! A tracker over UDP.

use std::net::SocketAddr;

use riverrun_base::{Rng, Time};
use riverrun_tracker::server::{ConnectionIds, Swarms, SwarmsConfig, TrustedSources, UdpServer};

use crate::socket::{Datagrams, Socket};

/// riverrun's own tracker.
pub(crate) struct Tracker {
    server: UdpServer,
    swarms: Swarms,
}

impl Tracker {
    pub(crate) fn new(seed: u64) -> Self {
        let mut secret = [0; 32];
        Rng::new(seed).fill(&mut secret);
        Self {
            server: UdpServer::new(ConnectionIds::new(secret), TrustedSources::default()),
            swarms: Swarms::new(SwarmsConfig::default(), seed),
        }
    }
}

impl Socket for Tracker {
    fn handle_datagram(&mut self, now: Time, from: SocketAddr, bytes: &[u8], out: &mut Datagrams) {
        let mut answer = Vec::new();
        self.server
            .handle_datagram(now, from, bytes, &mut self.swarms, &mut answer);
        if !answer.is_empty() {
            out.send(from, answer);
        }
    }

    fn handle_timeout(&mut self, _: Time, _: &mut Datagrams) {}

    fn poll_timeout(&self) -> Option<Time> {
        None
    }
}
