//! How wires begin and end.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use riverrun_base::{Bitfield, InfoHash};
use riverrun_peer::{
    Attach, CloseReason, DialFailure, Encryption, Features, PeerConfig, PeerConn, PeerEvent,
    PeerHello, Role,
};
use riverrun_swarm::{ConnKey, Input};

use super::datagrams::MAPPING_TIME;
use super::{World, index};
use crate::config::{Level, Nat};
use crate::host::Host;
use crate::ids::{ContentId, EndId, HostId};
use crate::link::window_under_loss;
use crate::manners::Claims;
use crate::observe::Happening;
use crate::schedule::What;
use crate::streams::mix;
use crate::wire::bytes::BytesEnd;
use crate::wire::direct::DirectEnd;
use crate::wire::{End, Message, Talk, Wire};

/// How many packets a block takes, about.
const BLOCK_PACKETS: f64 = 12.0;

/// What a dial comes upon.
enum Answer {
    Taken(HostId, ContentId),
    /// Nobody listens there.
    Refused,
    /// Nothing comes back.
    Silence,
}

/// What a dialler comes with.
pub(super) struct Dial {
    pub(super) info_hash: InfoHash,
    pub(super) attach: Box<Attach>,
    pub(super) encrypted: bool,
}

impl World {
    pub(super) fn dial(&mut self, host: HostId, conn: ConnKey, addr: SocketAddr, dial: Dial) {
        self.counts.wires += 1;
        if self.config.keep_events {
            self.log.dials.push((host, addr));
        }
        if self.host(host).config.utp {
            // A uTP dial is a datagram, which the dialler's NAT remembers.
            let port = self.host(host).addr.port();
            self.source_of_datagram(host, port, addr);
        }
        match self.knock(host, addr, dial.info_hash) {
            Answer::Taken(other, content) => {
                self.connect(host, conn, (other, content), dial);
            }
            Answer::Refused => {
                let other = self.by_addr.get(&addr).copied().unwrap_or(host);
                let wait = self.latency(host, other) * 2;
                self.fail_dial(host, conn, wait, DialFailure::Refused);
            }
            Answer::Silence => {
                let wait = self.config.dial_timeout;
                self.fail_dial(host, conn, wait, DialFailure::NoAnswer);
            }
        }
    }

    fn knock(&self, host: HostId, addr: SocketAddr, info_hash: InfoHash) -> Answer {
        let Some(other) = self.by_addr.get(&addr).copied() else {
            return Answer::Silence;
        };
        let target = self.host(other);
        let is_cut = self.are_split(host, other) || self.asleep(other).is_some();
        let lets_in = target.config.nat == Nat::Open || self.is_expected(host, addr);
        if !lets_in || is_cut {
            return Answer::Silence;
        }
        let Some(shard) = target.shard() else {
            return Answer::Refused;
        };
        let torrent = shard
            .find(info_hash)
            .and_then(|key| target.torrent_at(key))
            .map(|at| target.torrents[at].content);
        torrent.map_or(Answer::Refused, |content| Answer::Taken(other, content))
    }

    /// Whether the NAT before `addr` lets a uTP dial of this host in: something was sent to it from there lately.
    fn is_expected(&self, host: HostId, addr: SocketAddr) -> bool {
        let from = self.host(host);
        let target = self.by_addr.get(&addr).map(|other| self.host(*other));
        let both = target.filter(|target| from.config.utp && target.config.utp);
        both.is_some_and(|target| {
            let mapping = target.sockets.mappings.get(&(addr.port(), from.addr));
            mapping.is_some_and(|(_, used_at)| *used_at + MAPPING_TIME >= self.now)
        })
    }

    fn fail_dial(&mut self, host: HostId, conn: ConnKey, wait: Duration, failure: DialFailure) {
        let why = CloseReason::Unreachable(failure);
        self.input_later(host, wait, Input::PeerClosed { conn, why });
    }

    /// One way from one host to another.
    pub(super) fn latency(&self, a: HostId, b: HostId) -> Duration {
        let own = self.host(a).config.latency + self.host(b).config.latency;
        let share = self.streams.pair(a.0, b.0) >> 48;
        let share = u32::try_from(share).unwrap_or(0);
        own + self.config.pair_latency * share / 0xffff
    }

    fn connect(
        &mut self,
        host: HostId,
        conn: ConnKey,
        (other, content): (HostId, ContentId),
        mut dial: Dial,
    ) {
        self.bend_attach(host, content, &mut dial.attach);
        let info_hash = dial.info_hash;
        let [dials, listens] = [host, other].map(|host| self.host(host));
        let loss = dials.config.loss.max(listens.config.loss);
        let window_max = self
            .config
            .tcp
            .map_or(u64::MAX, |tcp| window_under_loss(loss, tcp.window_max));
        let in_bytes = [dials, listens]
            .iter()
            .any(|host| host.config.level == Level::Bytes);
        if !in_bytes && !listens.peer_config.encryption.allows(dial.encrypted) {
            let wait = self.latency(host, other) * 2;
            let why = CloseReason::PeerClosed;
            self.input_later(host, wait, Input::PeerClosed { conn, why });
            return;
        }
        let at = index(self.wires.len());
        let talks = if in_bytes {
            self.bytes_talks((host, other), at, dial)
        } else {
            direct_talks(dials, listens, dial.attach)
        };
        let [talk, other_talk] = talks;
        let wire = Wire {
            ends: [
                End::new(host, Some(conn), talk),
                End::new(other, None, other_talk),
            ],
            info_hash,
            content,
            latency: self.latency(host, other),
            window_max,
            block_loss: (loss * BLOCK_PACKETS).min(1.0),
            is_ready: false,
        };
        let latency = wire.latency;
        self.wires.push(Some(Box::new(wire)));
        self.note_conn(host, conn, EndId::new(at, 0), other);
        // The transport's own handshake takes a round trip; then the first bytes set out.
        if in_bytes {
            self.after(latency * 2, What::Ready(EndId::new(at, 0)));
        } else {
            let from = self.source_of_dial(host);
            let end = EndId::new(at, 1);
            let input = self.incoming(end, from);
            self.input_later(other, latency * 3, input);
        }
    }

    fn bytes_talks(&self, (host, other): (HostId, HostId), at: u32, dial: Dial) -> [Talk; 2] {
        let role = Role::Dialer {
            info_hash: dial.info_hash,
            attach: dial.attach,
            encrypted: dial.encrypted,
        };
        let seed = mix(self.config.seed ^ u64::from(at));
        let conn = |host: HostId, role| {
            let config = self.host(host).peer_config.clone();
            let conn = PeerConn::new(config, role, seed, self.now_at(host));
            Talk::Bytes(Box::new(BytesEnd::new(conn)))
        };
        [conn(host, role), conn(other, Role::Listener)]
    }

    /// From where a host's next dial comes.
    pub(super) fn source_of_dial(&mut self, host: HostId) -> SocketAddr {
        let host = self.host_mut(host);
        host.next_port = (host.next_port + 1) % 20_000;
        SocketAddr::new(host.addr.ip(), 40_000 + host.next_port)
    }

    /// What a listener is told of a wire that names a torrent of its.
    pub(super) fn incoming(&self, end: EndId, addr: SocketAddr) -> Input {
        // Invariant: a wire is only freed when both ends are over, and this one has just begun.
        let wire = self.wires[end.wire()].as_ref().expect("a new wire");
        let host = self.host(wire.ends[end.side()].host);
        let shard = host.shard().and_then(|shard| shard.find(wire.info_hash));
        Input::Incoming {
            token: end.token(),
            torrent: shard.unwrap_or(riverrun_swarm::TorrentKey::new(u32::MAX, 0)),
            addr,
        }
    }

    pub(super) fn accept(
        &mut self,
        host: HostId,
        token: u64,
        conn: ConnKey,
        mut attach: Box<Attach>,
    ) {
        let end_id = EndId::from_token(token);
        let Some(wire) = self.wires[end_id.wire()].as_deref() else {
            let why = CloseReason::PeerClosed;
            self.input_later(host, Duration::ZERO, Input::PeerClosed { conn, why });
            return;
        };
        let other = wire.ends[end_id.other().side()].host;
        let content = wire.content;
        self.bend_attach(host, content, &mut attach);
        self.note_conn(host, conn, end_id, other);
        let Some(wire) = self.wires[end_id.wire()].as_deref_mut() else {
            return;
        };
        let latency = wire.latency;
        let end = &mut wire.ends[end_id.side()];
        end.key = Some(conn);
        match &mut end.talk {
            Talk::Direct(direct) => {
                direct.attach(attach);
                self.after(latency, What::Ready(end_id.other()));
                self.ready(end_id);
            }
            Talk::Bytes(_) => self.attach_bytes(end_id, attach),
        }
    }

    pub(super) fn refuse(&mut self, end: EndId) {
        self.send(end, Message::Closed);
    }

    fn note_conn(&mut self, host: HostId, conn: ConnKey, end: EndId, other: HostId) {
        self.host_mut(host).conns.insert(conn, end);
        if self.config.keep_events {
            self.log.met.push((host, conn, other));
        }
    }

    /// What a host says that it has, by its manners.
    fn bend_attach(&self, host: HostId, content: ContentId, attach: &mut Attach) {
        let pieces = self.content(content).pieces();
        match self.host(host).config.manners.claims {
            Claims::Honest => {}
            Claims::All => attach.have = Bitfield::full(pieces),
            Claims::Nothing => attach.have = Bitfield::new(pieces),
        }
    }

    /// An end has both handshakes; a dialler that runs byte by byte has its transport.
    pub(super) fn ready(&mut self, end_id: EndId) {
        let Some(wire) = self.wires[end_id.wire()].as_deref_mut() else {
            return;
        };
        let end = &mut wire.ends[end_id.side()];
        if end.key.is_none() {
            return;
        }
        if let Talk::Bytes(_) = end.talk {
            self.pump(end_id);
            return;
        }
        let hello = Box::new(self.hello(end_id.other()));
        self.note_connected(end_id);
        self.peer_at(end_id, PeerEvent::Ready(hello));
        self.begin_talk(end_id);
    }

    /// Tells the other end what this one has.
    fn begin_talk(&mut self, end_id: EndId) {
        let Some(wire) = self.wires[end_id.wire()].as_deref_mut() else {
            return;
        };
        let Some(direct) = wire.ends[end_id.side()].direct() else {
            return;
        };
        let Some(attach) = direct.attach.take() else {
            return;
        };
        if attach.info.is_some() {
            let told = if attach.hide_pieces {
                Bitfield::new(attach.have.len())
            } else {
                attach.have
            };
            direct.told = told.clone();
            direct.has_claimed = true;
            self.send(end_id, Message::Pieces(Box::new(told)));
        } else if self.speaks_fast(end_id) {
            self.claim_nothing(end_id);
        }
        self.tell_window(end_id);
    }

    /// Whoever has no metadata has no piece. With the fast extension it says so at once; without, its first message
    /// about pieces does.
    pub(super) fn claim_nothing(&mut self, end_id: EndId) {
        let Some(wire) = self.wires[end_id.wire()].as_deref_mut() else {
            return;
        };
        let content = wire.content;
        let Some(direct) = wire.ends[end_id.side()].direct() else {
            return;
        };
        if !std::mem::replace(&mut direct.has_claimed, true) {
            let count = self.content(content).info().layout().piece_count();
            let nothing = Bitfield::new(count);
            self.send(end_id, Message::Pieces(Box::new(nothing)));
        }
    }

    fn speaks_fast(&self, end_id: EndId) -> bool {
        self.hello(end_id).features.fast
    }

    /// Once, when the first end is ready.
    pub(super) fn note_connected(&mut self, end_id: EndId) {
        let Some(wire) = self.wires[end_id.wire()].as_deref_mut() else {
            return;
        };
        if std::mem::replace(&mut wire.is_ready, true) {
            return;
        }
        let (from, to) = (wire.ends[0].host, wire.ends[1].host);
        self.happen(|| Happening::Connected { from, to });
    }

    /// What one end says of itself.
    pub(super) fn hello(&self, end_id: EndId) -> PeerHello {
        // Invariant: as for `incoming`.
        let wire = self.wires[end_id.wire()].as_ref().expect("a wire in use");
        let end = &wire.ends[end_id.side()];
        let host = self.host(end.host);
        let other = self.host(wire.ends[end_id.other().side()].host);
        let speaks_of_blocks = |host: &Host| host.peer_config.blocks;
        let content = self.content(wire.content);
        let len = u32::try_from(content.info().raw().len()).unwrap_or(u32::MAX);
        let (info, upload_only) = match &end.talk {
            Talk::Direct(direct) => (direct.info.is_some(), direct.upload_only),
            Talk::Bytes(_) => (false, false),
        };
        let knows = info || host.config.manners.metadata_liar;
        PeerHello {
            peer_id: host.peer_id(),
            info_hash: wire.info_hash,
            features: Features {
                fast: host.config.fast && other.config.fast,
                extended: true,
                v2: content.info().hashes().v2().is_some(),
                blocks: content.info().hashes().v2().is_some()
                    && speaks_of_blocks(host)
                    && speaks_of_blocks(other),
                metadata: true,
                dont_have: true,
                exchange: !content.info().is_private(),
                holepunch: host.config.utp && !content.info().is_private(),
                dht: false,
            },
            client: None,
            listen_port: (end_id.side() == 0).then(|| host.addr.port()),
            request_queue_max: Some(host.peer_config.request_queue_max.into()),
            metadata_len: knows.then_some(len),
            encryption: Encryption::None,
            our_ip: None::<IpAddr>,
            ipv4: None,
            ipv6: None,
            upload_only,
            prefers_encryption: false,
        }
    }

    /// Tells a host that its end of a wire is over.
    pub(super) fn report_end(&mut self, end_id: EndId, why: CloseReason) {
        let Some(wire) = self.wires[end_id.wire()].as_deref_mut() else {
            return;
        };
        let end = &mut wire.ends[end_id.side()];
        let Some(conn) = end.key.take() else { return };
        end.pipe.queue.clear();
        if let Some(direct) = end.direct() {
            direct.end();
        }
        let host = end.host;
        let (from, to) = (wire.ends[0].host, wire.ends[1].host);
        let told = std::mem::take(&mut wire.is_ready);
        if wire.is_over() {
            self.wires[end_id.wire()] = None;
        }
        self.host_mut(host).conns.remove(conn);
        if told {
            self.happen(|| Happening::Disconnected { from, to });
        }
        self.input_later(host, Duration::ZERO, Input::PeerClosed { conn, why });
    }

    /// Nothing has been heard from the other end for too long.
    pub(super) fn forget(&mut self, end: EndId) {
        let why = CloseReason::Transport("the connection has timed out".to_owned());
        self.report_end(end, why);
    }
}

fn direct_talks(dials: &Host, listens: &Host, attach: Box<Attach>) -> [Talk; 2] {
    let end = |config: &PeerConfig| Box::new(DirectEnd::new(config));
    let mut first = end(&dials.peer_config);
    first.attach(attach);
    [Talk::Direct(first), Talk::Direct(end(&listens.peer_config))]
}
