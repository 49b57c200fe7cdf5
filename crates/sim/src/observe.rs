//! What can be seen of a world while it goes on.

use std::net::SocketAddr;

use riverrun_base::{BlockSpan, InfoHash, PieceIndex, Time};
use riverrun_swarm::{ConnKey, PickReason, SlotReason, TorrentState};
use riverrun_tracker::AnnounceEvent;

use crate::content::Payload;
use crate::ids::{ContentId, HostId};
use crate::world::World;

/// Whoever looks at a world: a recorder, a checker. Called after each thing that happens, when all that follows from
/// it at once is done.
pub trait Observer {
    /// Whether it wants to be told of [`Happening`]s; else only of the world as it is.
    fn wants_happenings(&self) -> bool {
        true
    }

    /// Whether it wants to know why peers and pieces are chosen.
    fn wants_reasons(&self) -> bool {
        false
    }

    /// Something has happened, which consisted of these.
    fn observe(&mut self, world: &World, happenings: &[Happening]);
}

/// Nobody looks.
impl Observer for () {
    fn wants_happenings(&self) -> bool {
        false
    }

    fn observe(&mut self, _: &World, _: &[Happening]) {}
}

impl<O: Observer + ?Sized> Observer for &mut O {
    fn wants_happenings(&self) -> bool {
        (**self).wants_happenings()
    }

    fn wants_reasons(&self) -> bool {
        (**self).wants_reasons()
    }

    fn observe(&mut self, world: &World, happenings: &[Happening]) {
        (**self).observe(world, happenings);
    }
}

/// Several that look at one world.
impl Observer for [&mut dyn Observer] {
    fn wants_happenings(&self) -> bool {
        self.iter().any(|observer| (**observer).wants_happenings())
    }

    fn wants_reasons(&self) -> bool {
        self.iter().any(|observer| (**observer).wants_reasons())
    }

    fn observe(&mut self, world: &World, happenings: &[Happening]) {
        for observer in self {
            observer.observe(world, happenings);
        }
    }
}

/// Something that happened, as one who sees everything sees it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Happening {
    /// A host has joined.
    Joined {
        /// Which.
        host: HostId,
    },
    /// A host has left.
    Left {
        /// Which.
        host: HostId,
    },
    /// A host has crashed.
    Crashed {
        /// Which.
        host: HostId,
        /// Its disk has lost what was not synced.
        power: bool,
    },
    /// A host has come again after a crash.
    Restarted {
        /// Which.
        host: HostId,
    },
    /// Two hosts are connected, both handshakes are through.
    Connected {
        /// Who has dialled.
        from: HostId,
        /// Who was dialled.
        to: HostId,
    },
    /// A connection is over.
    Disconnected {
        /// Who had dialled.
        from: HostId,
        /// Who was dialled.
        to: HostId,
    },
    /// A block is given to a connection to be sent.
    Serving {
        /// Who sends it.
        from: HostId,
        /// To whom.
        to: HostId,
        /// Of which torrent.
        content: ContentId,
        /// Which.
        span: BlockSpan,
        /// What it is.
        payload: Payload,
    },
    /// A block has arrived and was waited for.
    Received {
        /// From whom.
        from: HostId,
        /// By whom.
        to: HostId,
        /// Of which torrent.
        content: ContentId,
        /// Which.
        span: BlockSpan,
        /// What it is.
        payload: Payload,
        /// When its first byte left.
        began: Time,
    },
    /// A host asks another for blocks of a piece.
    Requested {
        /// Who asks.
        by: HostId,
        /// Whom.
        to: HostId,
        /// For which piece.
        piece: PieceIndex,
        /// Why that one; only if somebody wants reasons.
        why: Option<PickReason>,
    },
    /// A host chokes another, or unchokes it.
    Choked {
        /// Who decides.
        by: HostId,
        /// About whom.
        to: HostId,
        /// On which of their connections, by the name that the first has for it.
        conn: ConnKey,
        /// Which of the two.
        choked: bool,
        /// Why; only if somebody wants reasons.
        why: Option<SlotReason>,
    },
    /// A host has verified a piece.
    Verified {
        /// Which.
        host: HostId,
        /// The piece.
        piece: PieceIndex,
    },
    /// A piece that a host got is wrong.
    Failed {
        /// Which host.
        host: HostId,
        /// The piece.
        piece: PieceIndex,
    },
    /// Pieces of a host would survive a power cut, as its storage says.
    Durable {
        /// Which host.
        host: HostId,
        /// The pieces.
        pieces: Vec<PieceIndex>,
    },
    /// A host does something else now.
    State {
        /// Which.
        host: HostId,
        /// What.
        state: TorrentState,
    },
    /// A host has verified the last piece that it lacked.
    Completed {
        /// Which.
        host: HostId,
    },
    /// A host speaks to another no more, since it gave wrong data.
    Banned {
        /// Who decides.
        by: HostId,
        /// About whom, if the address is that of a host.
        host: Option<HostId>,
    },
    /// A host announces to a tracker.
    Announced {
        /// Which host.
        host: HostId,
        /// Which tracker.
        url: String,
        /// Of which swarm: a hybrid torrent has two.
        info_hash: InfoHash,
        /// What.
        event: AnnounceEvent,
    },
    /// A socket of a host sends a datagram.
    DatagramSent {
        /// Which host.
        by: HostId,
        /// From which port.
        port: u16,
        /// Where to.
        to: SocketAddr,
        /// How long it is, in bytes, without headers.
        len: usize,
    },
    /// A datagram has come to a socket of a host.
    DatagramCame {
        /// Which host.
        host: HostId,
        /// To which port.
        port: u16,
        /// Who has sent it.
        by: HostId,
        /// Where it says that it comes from.
        from: SocketAddr,
        /// How long it is, in bytes, without headers.
        len: usize,
    },
    /// A search of a host for peers of its torrent, in the DHT, is over.
    Sought {
        /// Which host.
        by: HostId,
        /// When it began.
        began: Time,
        /// It said where the host is, too, and somebody was there to hear it.
        announced: bool,
        /// Those who have everything were of no use.
        no_seeds: bool,
        /// What it has found.
        found: Vec<SocketAddr>,
    },
    /// A host's clock has leapt, or stands still from now on for a while.
    ClockMoved {
        /// Which host.
        host: HostId,
    },
    /// The bytes of a piece have rotted on a host's disk.
    Spoiled {
        /// Which host.
        host: HostId,
        /// The piece.
        piece: PieceIndex,
    },
    /// The network is split, or whole again.
    Split {
        /// Whether it is split now.
        is_split: bool,
    },
    /// Somebody says something about what happens.
    Note {
        /// What.
        text: String,
    },
}
