//! Sockets for a multicast group: a pair an interface, one to speak and one to hear.

use std::io;
use std::net::{IpAddr, SocketAddr};

use if_addrs::{IfOperStatus, Interface};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::ground::Place;
use super::{Family, Sockets};

/// Where a group is spoken to: an address of ours, and its interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stand {
    place: Place,
    index: u32,
}

/// The pair of one interface.
#[derive(Debug)]
pub(crate) struct Multicast {
    pub(crate) speaks: UdpSocket,
    pub(crate) hears: UdpSocket,
}

impl Sockets {
    /// Where a group of this family can be spoken to: each interface that we may use and on which we listen, once.
    /// Not loopback: nobody is there who could not be told otherwise. Nowhere with a proxy, which carries no groups.
    pub(crate) fn stands(&self, family: Family) -> Vec<Stand> {
        if self.is_proxied() {
            return Vec::new();
        }
        let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
            tracing::warn!(%error, "interfaces cannot be listed");
            Vec::new()
        });
        let mut stands: Vec<Stand> = Vec::new();
        for interface in interfaces.iter().filter(|found| self.serves(found, family)) {
            let index = interface.index.unwrap_or(0);
            let is_new = stands.iter().all(|stand| stand.index != index);
            let places = self.inner.ground.borrow().places_at(interface.ip());
            if let Some(place) = places.into_iter().next().filter(|_| is_new) {
                stands.push(Stand { place, index });
            }
        }
        stands
    }

    /// Whether we listen at an interface's address, and others can be there.
    fn serves(&self, interface: &Interface, family: Family) -> bool {
        let ip = interface.ip();
        let listen = &self.inner.listen;
        let listens = listen.is_empty()
            || listen.iter().any(|own| {
                Family::of(own) == family && (own.ip().is_unspecified() || own.ip() == ip)
            });
        Family::of_ip(ip) == family
            && listens
            && interface.oper_status == IfOperStatus::Up
            && !interface.is_loopback()
            // Peers would have to know by which of their interfaces to reach us.
            && !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
    }
}

impl Stand {
    /// The pair for a group.
    pub(crate) fn open(&self, group: SocketAddr) -> io::Result<Multicast> {
        let socket = || {
            let socket = Socket::new(Domain::for_address(group), Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_nonblocking(true)?;
            io::Result::Ok(socket)
        };
        let (speaks, hears) = (socket()?, socket()?);
        self.place.hold(&speaks, 0)?;
        // Other programs of this machine hear it as well.
        hears.set_reuse_address(true)?;
        self.place.hold_group(&hears, group)?;
        match (group.ip(), self.place.ip) {
            (IpAddr::V4(group), IpAddr::V4(own)) => {
                speaks.set_multicast_if_v4(&own)?;
                hears.join_multicast_v4(&group, &own)?;
            }
            (IpAddr::V6(group), IpAddr::V6(_)) => {
                speaks.set_multicast_if_v6(self.index)?;
                hears.join_multicast_v6(&group, self.index)?;
            }
            _ => return Err(io::Error::other("a group of another address family")),
        }
        Ok(Multicast {
            speaks: UdpSocket::from_std(speaks.into())?,
            hears: UdpSocket::from_std(hears.into())?,
        })
    }
}
