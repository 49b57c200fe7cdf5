//! Who we are to peers: an id, and a port in each address family, all of which may change while we run.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use riverrun_base::{PeerId, Rng};
use riverrun_peer::PeerConfig;

use super::socket::Family;

/// The start of our peer ids (BEP 20): the program, and its version.
const PEER_ID_PREFIX: &[u8; 8] = b"-RR0100-";

/// The ports at which those of each address family reach us; `None` where we do not listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) v4: Option<u16>,
    pub(crate) v6: Option<u16>,
}

impl Ports {
    /// Of the addresses where we listen: the user may have named another port for each family.
    pub(crate) fn at(addrs: &[SocketAddr]) -> Self {
        let first = |family| {
            let mut own = addrs.iter().filter(|addr| Family::of(addr) == family);
            own.next().map(SocketAddr::port)
        };
        Self {
            v4: first(Family::V4),
            v6: first(Family::V6),
        }
    }

    pub(crate) const fn of(self, family: Family) -> Option<u16> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// For whoever wants but one.
    pub(crate) fn any(self) -> Option<u16> {
        self.v4.or(self.v6)
    }

    /// With this port in families where we do not listen.
    pub(crate) fn or(self, port: u16) -> Self {
        Self {
            v4: self.v4.or(Some(port)),
            v6: self.v6.or(Some(port)),
        }
    }
}

/// What new connections tell of us.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    told: Arc<RwLock<Told>>,
    /// Peers are told of a node of the DHT, at our port, once we have one.
    has_node: bool,
}

/// What it is now.
#[derive(Debug)]
struct Told {
    ports: Ports,
    v4: Arc<PeerConfig>,
    v6: Arc<PeerConfig>,
}

impl Identity {
    /// What `config` says, and where we listen already.
    pub(crate) fn new(config: PeerConfig, has_node: bool, ports: Ports) -> Self {
        let config = Arc::new(config);
        let told = Told {
            ports,
            v4: config.clone(),
            v6: config,
        };
        let identity = Self {
            told: Arc::new(RwLock::new(told)),
            has_node,
        };
        identity.set_ports(ports);
        identity
    }

    /// What a connection is told that begins now with a peer of this family.
    pub(crate) fn config(&self, family: Family) -> Arc<PeerConfig> {
        let told = self.read();
        match family {
            Family::V4 => told.v4.clone(),
            Family::V6 => told.v6.clone(),
        }
    }

    pub(crate) fn peer_id(&self) -> PeerId {
        self.read().v4.peer_id
    }

    pub(crate) fn ports(&self) -> Ports {
        self.read().ports
    }

    /// Peers can reach us at these ports, and so can nodes of the DHT, if we are one.
    pub(crate) fn set_ports(&self, ports: Ports) {
        let mut told = self.write();
        let Told { ports: own, v4, v6 } = &mut *told;
        *own = ports;
        for (config, port) in [(v4, ports.v4), (v6, ports.v6)] {
            let config = Arc::make_mut(config);
            config.listen_port = port;
            config.dht_port = port.filter(|_| self.has_node);
        }
    }

    /// Becomes somebody else.
    pub(crate) fn rename(&self, peer_id: PeerId) {
        let mut told = self.write();
        let Told { v4, v6, .. } = &mut *told;
        for config in [v4, v6] {
            Arc::make_mut(config).peer_id = peer_id;
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Told> {
        self.told.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Told> {
        self.told.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An id that nobody else has.
pub(crate) fn draw_peer_id(rng: &mut Rng) -> PeerId {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut bytes = [0; 20];
    let (prefix, rest) = bytes.split_at_mut(PEER_ID_PREFIX.len());
    prefix.copy_from_slice(PEER_ID_PREFIX);
    for byte in rest {
        *byte = ALPHABET[rng.below(ALPHABET.len())];
    }
    PeerId(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(addrs: &[&str]) -> Ports {
        let addrs: Vec<_> = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
        Ports::at(&addrs)
    }

    #[test]
    fn each_family_is_told_the_port_that_it_can_reach() {
        let both = ports(&["0.0.0.0:7000", "[::]:8000", "[::1]:9000"]);
        assert_eq!((both.v4, both.v6), (Some(7000), Some(8000)));
        let one = ports(&["[::]:8000"]);
        assert_eq!((one.v4, one.any()), (None, Some(8000)));
        assert_eq!(one.or(1), ports(&["0.0.0.0:1", "[::]:8000"]));
        let identity = Identity::new(PeerConfig::new(PeerId([1; 20])), true, both);
        let told = |family| {
            let config = identity.config(family);
            (config.listen_port, config.dht_port)
        };
        assert_eq!(told(Family::V4), (Some(7000), Some(7000)));
        assert_eq!(told(Family::V6), (Some(8000), Some(8000)));
        identity.rename(PeerId([2; 20]));
        identity.set_ports(one);
        assert_eq!(told(Family::V4), (None, None));
        for family in Family::ALL {
            assert_eq!(identity.config(family).peer_id, PeerId([2; 20]));
        }
    }

    #[test]
    fn a_node_is_told_of_once_there_is_a_port() {
        let told = |has_node| {
            let config = PeerConfig::new(PeerId([1; 20]));
            let identity = Identity::new(config, has_node, Ports::default());
            let before = identity.config(Family::V4).dht_port;
            identity.set_ports(ports(&["0.0.0.0:7001"]));
            (before, identity.config(Family::V4).dht_port)
        };
        assert_eq!(told(true), (None, Some(7001)));
        assert_eq!(told(false), (None, None));
    }
}
