//! What a tracker is told, and what it answers, whatever carries it.

use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::InfoHash;

use super::peers::Role;
use crate::announce::AnnounceEvent;

/// Of which address families a client can be sent peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// Its own only (BEP 15).
    Own,
    /// First its own; the other if there is room left (BEP 7).
    Both,
}

/// What a client announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Where the client listens.
    pub peer: SocketAddr,
    /// Why it announces.
    pub event: AnnounceEvent,
    /// How many bytes it has still to get.
    pub left: u64,
    /// How many peers it wants; `None` leaves it to us.
    pub num_want: Option<u32>,
    /// Of which kinds.
    pub families: Families,
}

impl Announce {
    /// What a peer is follows from what it has still to get; `completed` alone would be easy to claim.
    pub(super) const fn role(&self) -> Role {
        match (self.left, self.event) {
            (0, _) => Role::Seed,
            (_, AnnounceEvent::Paused) => Role::PartialSeed,
            _ => Role::Downloading,
        }
    }

    /// Whom the peer can use. A client with a magnet link does not know the size and may say that nothing is left
    /// to get (aria2 does): whoever starts is sent seeds too.
    pub(super) const fn needs(&self) -> Role {
        match self.event {
            AnnounceEvent::Started => Role::Downloading,
            _ => self.role(),
        }
    }
}

/// The numbers of a swarm, both address families together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwarmCounts {
    /// How many peers have everything.
    pub seeders: u32,
    /// How many have not.
    pub leechers: u32,
    /// How many of these download (BEP 21).
    pub downloaders: u32,
    /// How many peers have completed the download here.
    pub downloaded: u32,
}

/// The answer to an announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceReply {
    /// When to announce again.
    pub interval: Duration,
    /// How long at least to wait.
    pub interval_min: Duration,
    /// The swarm.
    pub counts: SwarmCounts,
    /// Some of its peers, never the asker.
    pub peers: Vec<SocketAddr>,
}
