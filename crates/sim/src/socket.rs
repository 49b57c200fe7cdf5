//! Datagram sockets of hosts: where state machines that speak UDP are plugged in.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use riverrun_base::Time;

/// Something that speaks UDP: a DHT node, uTP, a tracker client.
pub trait Socket: Any {
    /// A datagram has come.
    fn handle_datagram(&mut self, now: Time, from: SocketAddr, bytes: &[u8], out: &mut Datagrams);

    /// Time has passed: called at [`Socket::poll_timeout`] or later.
    fn handle_timeout(&mut self, now: Time, out: &mut Datagrams);

    /// When something is due.
    fn poll_timeout(&self) -> Option<Time>;
}

/// What a socket wants sent.
#[derive(Debug, Default)]
pub struct Datagrams(Vec<(SocketAddr, Vec<u8>)>);

impl Datagrams {
    /// Sends a datagram.
    pub fn send(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        self.0.push((to, bytes));
    }

    pub(crate) fn take(self) -> Vec<(SocketAddr, Vec<u8>)> {
        self.0
    }
}

/// The sockets of a host, and what its NAT knows of them.
#[derive(Default)]
pub(crate) struct Sockets {
    /// By port.
    pub(crate) open: BTreeMap<u16, Box<dyn Socket>>,
    /// From the port as others see it, and who sees it, to the port, and when it was used last.
    pub(crate) mappings: BTreeMap<(u16, SocketAddr), (u16, Time)>,
    /// When the next timeout is scheduled.
    pub(crate) wakes_at: Option<Time>,
}
