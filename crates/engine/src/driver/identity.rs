//! Who we are to peers: an id and a port, both of which may change while we run.

use std::sync::{Arc, PoisonError, RwLock};

use riverrun_base::{PeerId, Rng};
use riverrun_peer::PeerConfig;

/// The start of our peer ids (BEP 20): the program, and its version.
const PEER_ID_PREFIX: &[u8; 8] = b"-RR0100-";

/// What new connections tell of us.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    config: Arc<RwLock<Arc<PeerConfig>>>,
    /// Peers are told of a node of the DHT, at our port, once we have one.
    has_node: bool,
}

impl Identity {
    /// What `config` says, at its port if it has one already.
    pub(crate) fn new(mut config: PeerConfig, has_node: bool) -> Self {
        config.dht_port = config.listen_port.filter(|_| has_node);
        Self {
            config: Arc::new(RwLock::new(Arc::new(config))),
            has_node,
        }
    }

    /// What a connection that begins now is told.
    pub(crate) fn config(&self) -> Arc<PeerConfig> {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        config.clone()
    }

    pub(crate) fn peer_id(&self) -> PeerId {
        self.config().peer_id
    }

    /// Peers can reach us at this port, and so can nodes of the DHT, if we are one.
    pub(crate) fn set_port(&self, port: u16) {
        self.change(|config| {
            config.listen_port = Some(port);
            config.dht_port = self.has_node.then_some(port);
        });
    }

    /// Becomes somebody else.
    pub(crate) fn rename(&self, peer_id: PeerId) {
        self.change(|config| config.peer_id = peer_id);
    }

    fn change(&self, change: impl FnOnce(&mut PeerConfig)) {
        let mut config = self.config.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut config));
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

    #[test]
    fn a_node_is_told_of_once_there_is_a_port() {
        let told = |has_node| {
            let identity = Identity::new(PeerConfig::new(PeerId([1; 20])), has_node);
            let before = identity.config().dht_port;
            identity.set_port(7001);
            (before, identity.config().dht_port)
        };
        assert_eq!(told(true), (None, Some(7001)));
        assert_eq!(told(false), (None, None));
    }
}
