//! Which connection a datagram belongs to: its sender and the id in its header.

use std::net::SocketAddr;

use riverrun_base::{Map, Rng, SeededState};

use crate::packet::{Packet, PacketKind};
use crate::seq::random_u16;

/// Random ids that are tried for one peer before a dial is refused.
const ID_ATTEMPTS: usize = 16;

/// The two ids of a connection. The dialler draws one, and its packets but the first carry the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionIds {
    /// In packets to us.
    pub recv: u16,
    /// In packets to the peer.
    pub send: u16,
}

impl ConnectionIds {
    /// Ours, if the peer's `SYN` carries `id`.
    pub const fn answering(id: u16) -> Self {
        Self {
            recv: id.wrapping_add(1),
            send: id,
        }
    }

    /// Ours, if our `SYN` carries `id`.
    pub const fn dialling(id: u16) -> Self {
        Self {
            recv: id,
            send: id.wrapping_add(1),
        }
    }
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<T> {
    /// It is for this connection.
    Known(T),
    /// A peer wants a new connection, which has these ids.
    New(ConnectionIds),
    /// It is for none: not to be answered, for its sender may be a lie.
    Nobody,
}

/// The connections of one UDP socket. `T` is the driver's name for one.
#[derive(Clone, Debug)]
pub struct Demux<T> {
    connections: Map<(SocketAddr, u16), T>,
    rng: Rng,
}

impl<T: Clone> Demux<T> {
    /// Without connections. Ids are drawn by the seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let hasher = SeededState::new(rng.next_u64());
        Self {
            connections: Map::with_hasher(hasher),
            rng,
        }
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Ids for a connection to `peer` that no other has; `None` if none were found, with tens of thousands of
    /// connections to one address.
    pub fn draw(&mut self, peer: SocketAddr) -> Option<ConnectionIds> {
        for _ in 0..ID_ATTEMPTS {
            let ids = ConnectionIds::dialling(random_u16(&mut self.rng));
            if !self.connections.contains_key(&(peer, ids.recv)) {
                return Some(ids);
            }
        }
        None
    }

    /// Routes packets from `peer` with the id `ids.recv` to this connection.
    pub fn insert(&mut self, peer: SocketAddr, ids: ConnectionIds, connection: T) {
        self.connections.insert((peer, ids.recv), connection);
    }

    /// Forgets a connection.
    pub fn remove(&mut self, peer: SocketAddr, ids: ConnectionIds) {
        self.connections.remove(&(peer, ids.recv));
    }

    /// Forgets all connections, and gives them in no order.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        self.connections.drain().map(|(_, connection)| connection)
    }

    /// Whose packet this is.
    pub fn route(&self, peer: SocketAddr, packet: &Packet<'_>) -> Route<T> {
        let id = packet.connection_id();
        let find = |id: u16| self.connections.get(&(peer, id)).cloned();
        match packet.kind() {
            PacketKind::Syn => {
                let ids = ConnectionIds::answering(id);
                find(ids.recv).map_or(Route::New(ids), Route::Known)
            }
            // Some send a reset with the id of packets to them, some with that of packets from them: what we
            // receive with is then one less, if we dialled, or one more.
            PacketKind::Reset => find(id)
                .or_else(|| find(id.wrapping_sub(1)))
                .or_else(|| find(id.wrapping_add(1)))
                .map_or(Route::Nobody, Route::Known),
            _ => find(id).map_or(Route::Nobody, Route::Known),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{HEADER_LEN, Header};
    use crate::seq::Seq;

    fn route(demux: &Demux<u8>, peer: SocketAddr, kind: PacketKind, id: u16) -> Route<u8> {
        let header = Header {
            kind,
            connection_id: id,
            timestamp: 0,
            timestamp_difference: 0,
            window: 0,
            seq: Seq(0),
            ack: Seq(0),
        };
        let mut bytes = [0; HEADER_LEN];
        header.write(&mut bytes);
        demux.route(peer, &Packet::parse(&bytes).unwrap())
    }

    #[test]
    fn a_packet_belongs_to_its_sender_and_id() {
        let peer = SocketAddr::from(([10, 0, 0, 1], 1));
        let other = SocketAddr::from(([10, 0, 0, 1], 2));
        let mut demux = Demux::new(1);
        demux.insert(peer, ConnectionIds::answering(65_535), 7);
        assert_eq!(route(&demux, peer, PacketKind::Data, 0), Route::Known(7));
        assert_eq!(route(&demux, peer, PacketKind::Data, 65_535), Route::Nobody);
        assert_eq!(route(&demux, other, PacketKind::Data, 0), Route::Nobody);
        // A `SYN` that comes again is no second connection.
        assert_eq!(
            route(&demux, peer, PacketKind::Syn, 65_535),
            Route::Known(7)
        );
        let new = ConnectionIds { recv: 1, send: 0 };
        assert_eq!(route(&demux, peer, PacketKind::Syn, 0), Route::New(new));
        for id in [65_535, 0] {
            assert_eq!(route(&demux, peer, PacketKind::Reset, id), Route::Known(7));
        }
        assert_eq!(route(&demux, other, PacketKind::Reset, 0), Route::Nobody);
        demux.remove(peer, ConnectionIds::answering(65_535));
        assert!(demux.is_empty());
    }

    #[test]
    fn drawn_ids_are_free_and_replay_from_the_seed() {
        let peer = SocketAddr::from(([10, 0, 0, 1], 1));
        let draw = |seed| {
            let mut demux = Demux::new(seed);
            let mut drawn = Vec::new();
            for n in 0..200_u8 {
                let ids = demux.draw(peer).unwrap();
                assert_eq!(ids.send, ids.recv.wrapping_add(1));
                assert!(!drawn.contains(&ids.recv));
                demux.insert(peer, ids, n);
                drawn.push(ids.recv);
            }
            drawn
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
