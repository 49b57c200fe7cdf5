//! A node of the DHT that wants to be found instead of honest ones.
//!
//! It answers every query at once, with whichever id that suits its address (BEP 42 allows eight prefixes) is nearest to
//! what is sought, names none but its own kind, takes every announce and gives none back; and it makes itself known.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use riverrun_base::{Rng, Time};
use riverrun_bencode::{Document, Limits, Writer};
use riverrun_dht::NodeId;

use crate::socket::{Datagrams, Socket};

/// How often it tells a node that it is there.
const SHOW_EVERY: Duration = Duration::from_secs(2);
/// How many ids it chooses from: enough to have all prefixes that its address allows.
const IDS: usize = 24;
/// How many of its kind it names.
const NAMED: usize = 8;

pub(crate) struct Liar {
    /// Its kind, itself first.
    kind: Vec<Member>,
    /// Whom it tells that it is there.
    honest: Vec<SocketAddr>,
    shows_at: Time,
    rng: Rng,
}

struct Member {
    addr: SocketAddr,
    ids: Vec<NodeId>,
}

impl Member {
    fn nearest(&self, target: NodeId) -> NodeId {
        let nearest = self.ids.iter().min_by_key(|id| id.distance(&target));
        // Invariant: it has ids.
        *nearest.unwrap_or(&self.ids[0])
    }
}

impl Liar {
    /// One at the first of the addresses of its kind.
    pub(crate) fn new(now: Time, kind: &[SocketAddr], honest: Vec<SocketAddr>, seed: u64) -> Self {
        let member = |addr: &SocketAddr| {
            // Each of the kind knows which ids the others have.
            let mut rng = Rng::new(u64::from(addr.port()) ^ number(addr.ip()));
            let ids = (0..IDS).map(|_| NodeId::for_ip(addr.ip(), &mut rng));
            Member {
                addr: *addr,
                ids: ids.collect(),
            }
        };
        Self {
            kind: kind.iter().map(member).collect(),
            honest,
            shows_at: now,
            rng: Rng::new(seed),
        }
    }

    fn reply(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let document = Document::parse(bytes, Limits::MESSAGE).ok()?;
        let root = document.root().as_dict()?;
        let arguments = root.get(b"a")?.as_dict()?;
        let target = [&b"target"[..], b"info_hash"]
            .iter()
            .find_map(|key| NodeId::from_slice(arguments.get(key)?.as_bytes()?));
        let own = self.kind[0].nearest(target.unwrap_or(NodeId([0; 20])));
        let mut out = Writer::new();
        out.dict().key(b"r").dict().key(b"id").bytes(&own.0);
        if let Some(target) = target {
            out.key(b"nodes").bytes(&self.named(target));
        }
        out.key(b"token").bytes(b"anything").end();
        out.key(b"t").bytes(root.get(b"t")?.as_bytes()?);
        out.key(b"y").bytes(b"r").end();
        Some(out.finish())
    }

    /// The compact addresses of those of its kind that are nearest to something.
    fn named(&self, target: NodeId) -> Vec<u8> {
        let near = |member: &Member| (member.nearest(target), member.addr);
        let mut all: Vec<_> = self.kind.iter().map(near).collect();
        all.sort_unstable_by_key(|(id, _)| id.distance(&target));
        let compact = |(id, addr): &(NodeId, SocketAddr)| match addr.ip() {
            IpAddr::V4(ip) => [&id.0[..], &ip.octets(), &addr.port().to_be_bytes()].concat(),
            IpAddr::V6(_) => Vec::new(),
        };
        all.iter().take(NAMED).flat_map(compact).collect()
    }
}

impl Socket for Liar {
    fn handle_datagram(&mut self, _: Time, from: SocketAddr, bytes: &[u8], out: &mut Datagrams) {
        if let Some(reply) = self.reply(bytes) {
            out.send(from, reply);
        }
    }

    fn handle_timeout(&mut self, now: Time, out: &mut Datagrams) {
        self.shows_at = now + SHOW_EVERY;
        let Some(to) = self.rng.choose(&self.honest).copied() else {
            return;
        };
        out.send(
            to,
            find_node(self.kind[0].ids[0], NodeId::random(&mut self.rng)),
        );
    }

    fn poll_timeout(&self) -> Option<Time> {
        Some(self.shows_at)
    }
}

/// A query of somebody with this id (BEP 5).
fn find_node(id: NodeId, target: NodeId) -> Vec<u8> {
    let mut out = Writer::new();
    out.dict().key(b"a").dict();
    out.key(b"id").bytes(&id.0);
    out.key(b"target").bytes(&target.0).end();
    out.key(b"q").bytes(b"find_node");
    out.key(b"t").bytes(b"aa");
    out.key(b"y").bytes(b"q").end();
    out.finish()
}

fn number(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(_) => 0,
    }
}
