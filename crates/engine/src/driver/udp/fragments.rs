//! Datagrams that may be taken apart on their way.
//!
//! All others carry "don't fragment", as `quinn_udp` sets sockets up, for their loss is how uTP finds how much the path
//! carries. The kernel knows no such choice for one datagram of IPv4, only for a socket. So the socket is changed while
//! one is sent: seldom, only for what was cut for a path that became narrower. What another task sends through it meanwhile
//! may be taken apart too, or the other way round; the one does no harm, and the other is a loss that is mended.
//!
//! IPv6 has no routers that take datagrams apart: the sender does, to what it knows of the path, which is what routers have
//! said of it (RFC 8200 §5). Where they keep silent it knows nothing. A socket of Linux can be told how long fragments are
//! to be (`IPV6_MTU`), but what the interface carries in one piece is not taken apart for that.

use tokio::net::UdpSocket;

/// While it lives, what leaves through the socket may be taken apart.
#[derive(Debug)]
pub(super) struct Fragments<'a> {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "not done there"))]
    socket: &'a UdpSocket,
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "not done there"))]
    is_ipv4: bool,
}

impl<'a> Fragments<'a> {
    /// Nothing is changed where that cannot be: what is too large is lost then, as it was.
    pub(super) fn allow(socket: &'a UdpSocket, is_ipv4: bool) -> Self {
        let allowed = Self { socket, is_ipv4 };
        #[cfg(target_os = "linux")]
        allowed.set(true);
        allowed
    }

    #[cfg(target_os = "linux")]
    fn set(&self, may: bool) {
        use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery as V4, Ipv6PathMtuDiscovery as V6};
        let _ = if self.is_ipv4 {
            let mode = if may { V4::DONT } else { V4::PROBE };
            sockopt::set_ip_mtu_discover(self.socket, mode)
        } else {
            let mode = if may { V6::DONT } else { V6::PROBE };
            sockopt::set_ipv6_mtu_discover(self.socket, mode)
        };
    }
}

#[cfg(target_os = "linux")]
impl Drop for Fragments<'_> {
    fn drop(&mut self) {
        self.set(false);
    }
}
