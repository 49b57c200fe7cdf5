//! What can be asked of the DHT, and what it tells.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use riverrun_base::InfoHash;

use crate::contact::Contact;
use crate::id::NodeId;
use crate::item::{Stored, mutable_target};

/// The name of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(pub(crate) u64);

/// What to search for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The nodes nearest to a name.
    Nodes(NodeId),
    /// The peers of a torrent.
    Peers(PeersQuestion),
    /// An item (BEP 44).
    Item(ItemName),
    /// Store an item on the nodes nearest to its target (BEP 44).
    Put {
        /// The item.
        item: Stored,
        /// Only where this is the version that is there.
        cas: Option<i64>,
    },
    /// What nodes near a name have stored (BEP 51).
    Samples(NodeId),
}

/// A search for peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeersQuestion {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Tell the nodes that we are a peer too, once the nearest are found.
    pub announce: Option<Announce>,
    /// We have everything: seeds are of no use (BEP 33).
    pub no_seeds: bool,
    /// Count seeds and downloaders (BEP 33).
    pub scrape: bool,
}

impl PeersQuestion {
    /// Only looks for peers.
    pub const fn new(info_hash: InfoHash) -> Self {
        Self {
            info_hash,
            announce: None,
            no_seeds: false,
            scrape: false,
        }
    }
}

/// How we announce ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// Where we listen, as nodes of IPv4 are told; `None` for the port from which our datagrams come as they see it.
    pub v4: Option<u16>,
    /// The same for nodes of IPv6.
    pub v6: Option<u16>,
    /// We have everything (BEP 33).
    pub is_seed: bool,
}

impl Announce {
    /// At the same port in both families.
    pub const fn at(port: u16, is_seed: bool) -> Self {
        Self {
            v4: Some(port),
            v6: Some(port),
            is_seed,
        }
    }

    /// What a node at this address is told.
    pub(crate) const fn port_for(&self, node: SocketAddr) -> Option<u16> {
        match node {
            SocketAddr::V4(_) => self.v4,
            SocketAddr::V6(_) => self.v6,
        }
    }
}

/// The name of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemName {
    /// By what it hashes to.
    Immutable(NodeId),
    /// By who signs it.
    Mutable {
        /// The public key.
        key: [u8; 32],
        /// Tells the items of one key apart.
        salt: Vec<u8>,
    },
}

impl ItemName {
    /// Where it is stored.
    pub fn target(&self) -> NodeId {
        match self {
            Self::Immutable(target) => *target,
            Self::Mutable { key, salt } => mutable_target(key, salt),
        }
    }
}

impl Question {
    /// Towards what the search goes.
    pub(crate) fn target(&self) -> NodeId {
        match self {
            Self::Nodes(target) | Self::Samples(target) => *target,
            Self::Peers(peers) => peers.info_hash.into(),
            Self::Item(name) => name.target(),
            Self::Put { item, .. } => item.target(),
        }
    }
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// From which of our sockets, in the order in which they were given.
    pub socket: usize,
    /// To whom.
    pub to: SocketAddr,
    /// What.
    pub bytes: Vec<u8>,
}

/// What a [`Dht`](crate::Dht) wants done, and what it has to tell. Reused: the driver drains it after each call.
#[derive(Debug, Default)]
pub struct Outbox {
    /// To send, in order.
    pub datagrams: Vec<Datagram>,
    /// For whoever asked.
    pub events: Vec<Event>,
}

/// Something to tell.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A search has found something.
    Found {
        /// Which search.
        lookup: LookupId,
        /// What.
        finding: Finding,
    },
    /// A search is over.
    Ended {
        /// Which search.
        lookup: LookupId,
        /// How it went.
        report: Report,
    },
    /// Enough nodes agree on our address.
    OwnAddress(IpAddr),
}

/// What a search finds on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Peers that were not told before.
    Peers(Vec<SocketAddr>),
    /// An item, verified; a later version each time.
    Item(Stored),
    /// What one node has stored.
    Samples {
        /// The node.
        from: SocketAddr,
        /// Some of its info-hashes.
        info_hashes: Vec<InfoHash>,
        /// How many it has.
        count: u64,
        /// After which time it may be asked again.
        interval: Duration,
    },
}

/// How a search went, in all address families together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// How many queries were sent.
    pub queries: usize,
    /// How many nodes have answered.
    pub answers: usize,
    /// How many nodes store what was to be stored.
    pub stored: usize,
    /// How many would not, and what the last of them said.
    pub refused: usize,
    /// The code and text of the last refusal.
    pub refusal: Option<(i64, String)>,
    /// How many downloaders and seeds there are, if that was asked for.
    pub scrape: Option<(f64, f64)>,
    /// The nearest nodes that have answered.
    pub nearest: Vec<Contact>,
}

impl Report {
    /// Adds what the same search found in another address family.
    pub(crate) fn join(&mut self, other: Self) {
        self.queries += other.queries;
        self.answers += other.answers;
        self.stored += other.stored;
        self.refused += other.refused;
        self.refusal = self.refusal.take().or(other.refusal);
        self.scrape = match (self.scrape, other.scrape) {
            (Some((a, b)), Some((c, d))) => Some((a + c, b + d)),
            (ours, theirs) => ours.or(theirs),
        };
        self.nearest.extend(other.nearest);
    }
}
