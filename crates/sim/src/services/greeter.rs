//! A uTP socket that speaks first: the best that somebody can hope for who wants others to be flooded.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use riverrun_base::Time;
use riverrun_utp::{ConnectionIds, Demux, Packet, Route, UtpConfig, UtpSocket};

use crate::socket::{Datagrams, Socket};
use crate::streams::mix;

/// How many connections there are at most.
const CONNECTIONS_MAX: usize = 256;
/// How much it says to whoever connects, in bytes.
const GREETING_BYTES: usize = 4000;
/// How many datagrams leave at once.
const SEGMENTS_MAX: usize = 16;

/// riverrun's own uTP, without anything above it.
pub(crate) struct Greeter {
    demux: Demux<u64>,
    connections: BTreeMap<u64, Connection>,
    count: u64,
    seed: u64,
}

struct Connection {
    peer: SocketAddr,
    ids: ConnectionIds,
    socket: UtpSocket,
}

impl Greeter {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            demux: Demux::new(seed),
            connections: BTreeMap::new(),
            count: 0,
            seed,
        }
    }

    fn accept(&mut self, now: Time, peer: SocketAddr, ids: ConnectionIds, syn: &Packet<'_>) -> u64 {
        self.count += 1;
        let seed = mix(self.seed ^ self.count);
        if self.connections.len() < CONNECTIONS_MAX
            && let Some(mut socket) =
                UtpSocket::accept(now, UtpConfig::default(), peer, ids, syn, seed)
        {
            socket.write(now, &[0; GREETING_BYTES]);
            let connection = Connection { peer, ids, socket };
            self.demux.insert(peer, ids, self.count);
            self.connections.insert(self.count, connection);
        }
        self.count
    }

    fn send(&mut self, now: Time, name: u64, out: &mut Datagrams) {
        let Some(connection) = self.connections.get_mut(&name) else {
            return;
        };
        let socket = &mut connection.socket;
        while let Some(transmit) = socket.poll_transmit(now, SEGMENTS_MAX) {
            for segment in transmit.bytes.chunks(transmit.segment_len) {
                out.send(connection.peer, segment.to_vec());
            }
            socket.handle_transmitted(now);
        }
        if socket.end().is_some() {
            self.demux.remove(connection.peer, connection.ids);
            self.connections.remove(&name);
        }
    }
}

impl Socket for Greeter {
    fn handle_datagram(&mut self, now: Time, from: SocketAddr, bytes: &[u8], out: &mut Datagrams) {
        let Ok(packet) = Packet::parse(bytes) else {
            return;
        };
        let name = match self.demux.route(from, &packet) {
            Route::Nobody => return,
            Route::New(ids) => self.accept(now, from, ids, &packet),
            Route::Known(name) => {
                if let Some(connection) = self.connections.get_mut(&name) {
                    connection.socket.handle_packet(now, &packet);
                    let count = connection.socket.readable_len();
                    connection.socket.consume(count);
                }
                name
            }
        };
        self.send(now, name, out);
    }

    fn handle_timeout(&mut self, now: Time, out: &mut Datagrams) {
        let is_due = |connection: &Connection| {
            let due = connection.socket.poll_timeout();
            due.is_some_and(|due| due <= now)
        };
        let due = self.connections.iter().filter(|(_, own)| is_due(own));
        let due: Vec<u64> = due.map(|(name, _)| *name).collect();
        for name in due {
            if let Some(connection) = self.connections.get_mut(&name) {
                connection.socket.handle_timeout(now);
            }
            self.send(now, name, out);
        }
    }

    fn poll_timeout(&self) -> Option<Time> {
        let all = self.connections.values();
        all.filter_map(|own| own.socket.poll_timeout()).min()
    }
}
