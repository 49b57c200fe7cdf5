//! Uplinks, and how wires begin and end.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use riverrun_base::{Bitfield, Block, BlockSpan, InfoHash};
use riverrun_peer::{Attach, CloseReason, Features, PeerEvent, PeerHello};
use riverrun_swarm::{ConnKey, Input};

use super::{Message, SNUB_TIME, What, World};
use crate::wire::{End, Side, Wire};

impl World {
    /// A wire has something to send: its turn will come.
    pub(super) fn offer(&mut self, node: usize, wire: usize, side: Side) {
        let turns = &mut self.nodes[node].uplink.turns;
        if !turns.contains(&(wire, side)) {
            turns.push_back((wire, side));
        }
        self.transmit(node);
    }

    pub(super) fn transmit(&mut self, node: usize) {
        if self.nodes[node].uplink.is_busy {
            return;
        }
        let turns = self.nodes[node].uplink.turns.len();
        for _ in 0..turns {
            let Some((wire, side)) = self.nodes[node].uplink.turns.pop_front() else {
                return;
            };
            let end = &mut self.wires[wire].ends[side];
            if end.key.is_none() || !end.may_send() {
                continue;
            }
            let Some((span, block)) = end.queue.pop_front() else {
                continue;
            };
            if let Some(credit) = &mut end.credit_bytes {
                *credit -= i64::from(span.len);
            }
            if end.may_send() {
                self.nodes[node].uplink.turns.push_back((wire, side));
            }
            self.nodes[node].uplink.is_busy = true;
            let micros = u64::from(span.len) * 1_000_000 / self.nodes[node].uplink.rate;
            self.after(
                Duration::from_micros(micros),
                What::Sent(node, (wire, side), span, block),
            );
            return;
        }
    }

    pub(super) fn sent(
        &mut self,
        node: usize,
        (wire, side): (usize, Side),
        span: BlockSpan,
        block: Block,
    ) {
        self.nodes[node].uplink.is_busy = false;
        self.nodes[node].sent_bytes += u64::from(span.len);
        if let Some(conn) = self.wires[wire].ends[side].key {
            self.peer(node, conn, PeerEvent::Served(span));
            self.send(wire, side, Message::Block(span, block));
        }
        self.transmit(node);
    }

    pub(super) fn dial(
        &mut self,
        node: usize,
        conn: ConnKey,
        addr: SocketAddr,
        info_hash: InfoHash,
        attach: Box<Attach>,
    ) {
        self.dials.push((node, addr));
        let target = self.by_addr.get(&addr).copied();
        let target = target.filter(|other| {
            let other = &self.nodes[*other];
            !other.is_dead && !other.manners.is_hidden && other.torrent.is_some()
        });
        let Some(other) = target else {
            let why = CloseReason::Unreachable("nobody is there".to_owned());
            let closed = Input::PeerClosed { conn, why };
            self.after(self.latency * 2, What::Input(node, Box::new(closed)));
            return;
        };
        let wire = self.wires.len();
        let ends = [
            End::new(node, Some(conn), Some(attach)),
            End::new(other, None, None),
        ];
        self.wires.push(Wire {
            ends,
            info_hash,
            is_ready: false,
        });
        self.nodes[node].conns.insert(conn, (wire, 0));
        self.ends.insert((node, conn), other);
        let token = wire as u64;
        self.tokens.insert(token, wire);
        self.nodes[node].next_port += 1;
        let from = SocketAddr::new(
            IpAddr::from([127, 0, 0, 1]),
            60_000 + self.nodes[node].next_port % 5000,
        );
        let torrent = self.nodes[other].torrent.expect("it has one");
        let incoming = Input::Incoming {
            token,
            torrent,
            addr: from,
        };
        self.after(self.latency, What::Input(other, Box::new(incoming)));
    }

    pub(super) fn accept(&mut self, token: u64, conn: ConnKey, attach: Box<Attach>) {
        let wire = self.tokens.remove(&token).expect("a token once");
        let end = &mut self.wires[wire].ends[1];
        let node = end.node;
        *end = End::new(node, Some(conn), Some(attach));
        self.nodes[node].conns.insert(conn, (wire, 1));
        self.ends
            .insert((node, conn), self.wires[wire].ends[0].node);
        self.after(self.latency, What::Ready(wire));
    }

    /// Both ends have shaken hands.
    pub(super) fn ready(&mut self, wire: usize) {
        if self.wires[wire].ends.iter().any(|end| end.key.is_none()) {
            return;
        }
        self.wires[wire].is_ready = true;
        for side in 0..2 {
            let hello = Box::new(self.hello(wire, side));
            self.peer_at(wire, 1 - side, PeerEvent::Ready(hello));
        }
        for side in 0..2 {
            let end = &mut self.wires[wire].ends[side];
            let Some(attach) = &end.attach else { continue };
            if attach.info.is_some() {
                end.told = if attach.hide_pieces {
                    Bitfield::new(attach.have.len())
                } else {
                    attach.have.clone()
                };
                let told = end.told.clone();
                self.send(wire, side, Message::Pieces(told));
            }
            let window = self.wires[wire].ends[side].window;
            self.peer_at(wire, side, PeerEvent::Window(window));
        }
    }

    /// What one end says of itself.
    pub(super) fn hello(&self, wire: usize, side: Side) -> PeerHello {
        let end = &self.wires[wire].ends[side];
        let node = &self.nodes[end.node];
        let info = end.attach.as_ref().and_then(|attach| attach.info.as_ref());
        let len = info.map(|info| u32::try_from(info.raw().len()).expect("small"));
        let lie = node.manners.is_metadata_liar;
        PeerHello {
            peer_id: node.peer_id,
            info_hash: self.wires[wire].info_hash,
            features: Features {
                fast: self.fast,
                extended: true,
                v2: node.content.info.hashes().v2().is_some(),
                metadata: true,
                dont_have: true,
                dht: false,
            },
            client: None,
            listen_port: (side == 0).then(|| node.addr.port()),
            request_queue_max: None,
            metadata_len: if lie {
                Some(u32::try_from(node.content.info.raw().len()).expect("small"))
            } else {
                len
            },
            our_ip: None,
            ipv4: None,
            ipv6: None,
            upload_only: end.upload_only,
        }
    }

    /// Tells a side that its wire has ended.
    pub(super) fn report_end(&mut self, wire: usize, side: Side, why: CloseReason) {
        let end = &mut self.wires[wire].ends[side];
        let Some(conn) = end.key.take() else { return };
        end.queue.clear();
        let node = end.node;
        self.nodes[node].conns.remove(&conn);
        self.after(
            Duration::ZERO,
            What::Input(node, Box::new(Input::PeerClosed { conn, why })),
        );
    }

    pub(super) fn snub_check(&mut self, wire: usize, side: Side) {
        let end = &mut self.wires[wire].ends[side];
        end.snub_check = false;
        if end.key.is_none() || end.requests.is_empty() {
            return;
        }
        let silence = end.silence(self.now);
        end.snub_check = true;
        if silence >= SNUB_TIME {
            end.touch(self.now);
            self.peer_at(wire, side, PeerEvent::Snubbed);
            self.after(SNUB_TIME, What::SnubCheck(wire, side));
        } else {
            self.after(
                SNUB_TIME.saturating_sub(silence),
                What::SnubCheck(wire, side),
            );
        }
    }

    pub(super) fn rejected(&mut self, wire: usize, side: Side, span: BlockSpan) {
        let end = &mut self.wires[wire].ends[side];
        if end.take_cancelled(span) || !end.take_request(span) {
            return;
        }
        self.peer_at(wire, side, PeerEvent::Rejected(span));
    }
}
