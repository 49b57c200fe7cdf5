//! What hosts run over UDP: the protocols' own state machines, behind [`Socket`](crate::Socket)s.

mod greeter;
mod liar;
mod node;
mod tracker;

use serde::{Deserialize, Serialize};

pub(crate) use self::greeter::Greeter;
pub(crate) use self::liar::Liar;
pub(crate) use self::node::{Node, NodeNews, Search};
pub(crate) use self::tracker::Tracker;

/// Something that a host runs over UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// A node of the distributed hash table (BEP 5): the host's torrent is looked for and announced there.
    Node,
    /// A uTP socket (BEP 29) that speaks first to whoever connects.
    Utp,
    /// A tracker (BEP 15).
    Tracker,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Node, Self::Utp, Self::Tracker];

    /// The port at which it is.
    pub const fn port(self) -> u16 {
        match self {
            Self::Node => 6881,
            Self::Utp => 6882,
            Self::Tracker => 6969,
        }
    }

    /// Which is at a port.
    pub(crate) fn at(port: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.port() == port)
    }
}
