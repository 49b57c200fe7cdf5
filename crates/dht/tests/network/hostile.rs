//! Nodes that want to be found instead of those that are honest.
//!
//! They answer every query at once, bear ids that suit their addresses (BEP 42 lets an address have eight prefixes):
//! one that stays for tables, and for searches the one that is nearest to what is sought. They name none but each
//! other, take every announce, and give none back.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use riverrun_base::Rng;
use riverrun_bencode::{Document, Limits, Writer};
use riverrun_dht::NodeId;

/// All hostile nodes of a world.
pub(crate) struct Kind {
    members: Vec<(SocketAddr, Vec<NodeId>)>,
    /// The compact contacts near a target, as tables see the kind and as searches do.
    near: RefCell<BTreeMap<(bool, NodeId), Vec<u8>>>,
}

impl Kind {
    pub(crate) fn new(addrs: &[SocketAddr], rng: &mut Rng) -> Rc<Self> {
        let mut ids = |addr: &SocketAddr| -> Vec<_> {
            // Eight random bytes at the end give eight prefixes; with some to spare all of them turn up.
            (0..24).map(|_| NodeId::for_ip(addr.ip(), rng)).collect()
        };
        Rc::new(Self {
            members: addrs.iter().map(|addr| (*addr, ids(addr))).collect(),
            near: RefCell::default(),
        })
    }

    fn id_of(&self, member: usize, target: NodeId, is_search: bool) -> NodeId {
        let ids = &self.members[member].1;
        let nearest = ids.iter().min_by_key(|id| id.distance(&target));
        *nearest.filter(|_| is_search).unwrap_or(&ids[0])
    }

    fn near(&self, target: NodeId, is_search: bool) -> Vec<u8> {
        let mut near = self.near.borrow_mut();
        near.entry((is_search, target))
            .or_insert_with(|| {
                let mut all: Vec<_> = (0..self.members.len())
                    .map(|member| (self.id_of(member, target, is_search), member))
                    .collect();
                all.sort_unstable_by_key(|(id, _)| id.distance(&target));
                let compact = |(id, member): &(NodeId, usize)| {
                    let (addr, _) = self.members[*member];
                    let IpAddr::V4(ip) = addr.ip() else {
                        return Vec::new();
                    };
                    [&id.0[..], &ip.octets(), &addr.port().to_be_bytes()].concat()
                };
                all.iter().take(8).flat_map(compact).collect()
            })
            .clone()
    }
}

/// One of them.
pub(crate) struct Hostile {
    kind: Rc<Kind>,
    member: usize,
}

impl Hostile {
    pub(crate) const fn new(kind: Rc<Kind>, member: usize) -> Self {
        Self { kind, member }
    }

    /// What it says to a query.
    pub(crate) fn reply(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let document = Document::parse(bytes, Limits::MESSAGE).ok()?;
        let root = document.root().as_dict()?;
        let method = root.get(b"q")?.as_bytes()?;
        let arguments = root.get(b"a")?.as_dict()?;
        let target = [&b"target"[..], b"info_hash"]
            .iter()
            .find_map(|key| NodeId::from_slice(arguments.get(key)?.as_bytes()?));
        let is_search = !matches!(method, b"ping" | b"find_node");
        let near = target.map(|target| self.kind.near(target, is_search));
        let id = self
            .kind
            .id_of(self.member, target.unwrap_or(NodeId([0; 20])), is_search);
        let mut out = Writer::new();
        out.dict().key(b"r").dict().key(b"id").bytes(&id.0);
        if let Some(near) = near {
            out.key(b"nodes").bytes(&near);
        }
        out.key(b"token").bytes(b"anything").end();
        out.key(b"t").bytes(root.get(b"t")?.as_bytes()?);
        out.key(b"y").bytes(b"r").end();
        Some(out.finish())
    }
}
