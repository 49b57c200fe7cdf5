//! Datagrams that may be taken apart on their way.
//!
//! All others carry "don't fragment", as `quinn_udp` sets sockets up, for their loss is how uTP finds how much the path
//! carries. The kernel knows no such choice for one datagram, only for a socket. So the socket is changed while one is
//! sent: seldom, only for what was cut for a path that became narrower. What another task sends through it meanwhile may
//! be taken apart too, or the other way round; the one does no harm, and the other is a loss that is mended.
//!
//! IPv6 has no routers that take datagrams apart, and the option by which `quinn_udp` forbids the sender to do it cannot
//! be unset by the crates at hand.

use tokio::net::UdpSocket;

/// While it lives, what leaves through the socket may be taken apart.
#[derive(Debug)]
pub(super) struct Fragments<'a> {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "not done there"))]
    socket: Option<&'a UdpSocket>,
}

impl<'a> Fragments<'a> {
    /// Nothing is changed where that cannot be: what is too large is lost then, as it was.
    pub(super) fn allow(socket: &'a UdpSocket, is_ipv4: bool) -> Self {
        let socket = is_ipv4.then_some(socket);
        #[cfg(target_os = "linux")]
        if let Some(socket) = socket {
            use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
            let _ = set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT);
        }
        Self { socket }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Fragments<'_> {
    fn drop(&mut self) {
        use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
        if let Some(socket) = self.socket {
            let _ = set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::PROBE);
        }
    }
}
