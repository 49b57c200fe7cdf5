//! Our port at one router: asked for, renewed, and given back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use riverrun_swarm::{Input, Witness};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::pcp::Grant;
use super::router::Router;
use super::server::Nonces;
use super::{Open, PortMapping, RETRY, renewal, unless_stopped};
use crate::driver::identity::{Identity, Ports};
use crate::driver::shard::ShardMessage;
use crate::driver::socket::Sockets;

/// An address of IPv4 where we listen, and the interface by which a router before it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) listening: SocketAddr,
    /// `None` for the path to everybody, if we listen at all addresses.
    pub(super) device: Option<String>,
}

impl Path {
    /// The address, if it is but one.
    pub(super) fn own(&self) -> Option<Ipv4Addr> {
        match self.listening.ip() {
            IpAddr::V4(ip) if !ip.is_unspecified() => Some(ip),
            _ => None,
        }
    }
}

/// The paths that begin where we listen: one for each interface, the first that peers and trackers are told of.
pub(super) fn paths(sockets: &Sockets, listening: &[SocketAddr]) -> Vec<Path> {
    let mut paths: Vec<Path> = Vec::new();
    for listening in listening.iter().copied().filter_map(forwardable) {
        let device = if listening.ip().is_unspecified() {
            None
        } else {
            match sockets.device_at(listening.ip()) {
                None => continue,
                found => found,
            }
        };
        if paths.len() < PATHS_MAX && !paths.iter().any(|path| path.device == device) {
            paths.push(Path { listening, device });
        }
    }
    paths
}

/// Routers that are asked at most: a machine has a handful of interfaces.
const PATHS_MAX: usize = 16;

/// An address where we listen that a router may stand before: of IPv4, and not of this machine alone.
fn forwardable(addr: SocketAddr) -> Option<SocketAddr> {
    let IpAddr::V4(ip) = addr.ip() else {
        return None;
    };
    (!ip.is_loopback() && addr.port() != 0).then_some(addr)
}

/// The task that has our port forwarded by one router.
pub(super) struct Forwarding {
    pub(super) sockets: Sockets,
    pub(super) path: Path,
    pub(super) nonces: Nonces,
    pub(super) open: Open,
    /// Whom to tell at which port we are reached. One port is all that can be told of a family, so that one of the routers
    /// is told of.
    pub(super) hearers: Option<Hearers>,
}

/// Who has to know our port.
#[derive(Clone)]
pub(super) struct Hearers {
    pub(super) identity: Identity,
    pub(super) shard: mpsc::Sender<ShardMessage>,
}

/// Something that is forwarded now.
struct Held {
    router: Router,
    mapping: PortMapping,
}

impl Forwarding {
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut held: Option<Held> = None;
        while let Some(wait) = unless_stopped(self.step(&mut held), &stop).await {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        if let Some(Held { router, mapping }) = held {
            self.open.replace(Some(mapping), None);
            router.unmap(mapping.port, mapping.external_port).await;
        }
    }

    /// Asks for a mapping, or for more of the one that there is; how long that holds.
    async fn step(&self, held: &mut Option<Held>) -> Duration {
        let port = self.path.listening.port();
        let mut old = None;
        if let Some(Held { router, mapping }) = held {
            old = Some(*mapping);
            match router.map(port, mapping.external_port).await {
                Ok(granted) => {
                    *mapping = mapped(port, router, &granted);
                    self.tell(old, *mapping).await;
                    return renewal(granted.lifetime);
                }
                // There may be another router by now, or the same one with another protocol.
                Err(error) => tracing::info!(%error, "our port is forwarded no more"),
            }
        }
        match Router::find(&self.sockets, &self.path, &self.nonces).await {
            Ok((router, granted)) => {
                let mapping = mapped(port, &router, &granted);
                *held = Some(Held { router, mapping });
                self.tell(old, mapping).await;
                renewal(granted.lifetime)
            }
            Err(error) => {
                tracing::info!(%error, path = ?self.path, "no router forwards our port");
                *held = None;
                self.open.replace(old, None);
                self.tell_port(port, Vec::new()).await;
                RETRY
            }
        }
    }

    async fn tell(&self, old: Option<PortMapping>, mapping: PortMapping) {
        if !self.open.replace(old, Some(mapping)) {
            return;
        }
        tracing::info!(?mapping, "the router forwards our port");
        let says = Witness::Router;
        let seen = mapping.external_ip.map(|ip| Input::ExternalIp { ip, says });
        self.tell_port(mapping.external_port, seen.into_iter().collect())
            .await;
    }

    /// Peers and trackers are told the port at which we are reached.
    async fn tell_port(&self, port: u16, mut inputs: Vec<Input>) {
        let Some(Hearers { identity, shard }) = &self.hearers else {
            return;
        };
        let ports = identity.ports();
        if ports.v4 != Some(port) {
            let v4 = Some(port);
            identity.set_ports(Ports { v4, ..ports });
            inputs.push(Input::ListenPort(port));
        }
        let _ = shard.send(ShardMessage::Inputs(inputs)).await;
    }
}

fn mapped(port: u16, router: &Router, granted: &Grant) -> PortMapping {
    PortMapping {
        ip: router.client().into(),
        port,
        external_port: granted.external_port,
        external_ip: granted.external_ip,
        by: router.protocol(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::NetworkOptions;

    #[test]
    fn ways_begin_at_addresses_of_ipv4_that_are_there_and_not_of_this_machine_alone() {
        let sockets = Sockets::new(&[], NetworkOptions::default()).unwrap();
        let begun = |addrs: &[&str]| -> Vec<String> {
            let addrs: Vec<_> = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
            let paths = paths(&sockets, &addrs).into_iter();
            paths.map(|path| path.listening.to_string()).collect()
        };
        assert_eq!(begun(&["[::]:7", "127.0.0.1:7", "0.0.0.0:0"]), [""; 0]);
        // RFC 5737: nobody has it.
        assert_eq!(begun(&["192.0.2.1:7", "0.0.0.0:8"]), ["0.0.0.0:8"]);
        assert_eq!(begun(&["0.0.0.0:7", "0.0.0.0:8"]), ["0.0.0.0:7"]);
    }
}
