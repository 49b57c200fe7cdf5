//! What happens to a world from outside: operators, accidents, the end of accidents.

use std::time::Duration;

use riverrun_base::PieceIndex;
use riverrun_swarm::{Limits, TorrentCommand};

use crate::ids::HostId;
use crate::manners::Manners;

/// Something that is done to a world, now or at a time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Action {
    /// A host joins.
    Join(HostId),
    /// A host says goodbye and goes.
    Leave(HostId),
    /// A host ends without a word. With `power` off it loses what was not synced, and nobody is told that its
    /// connections are over.
    Crash {
        /// Which.
        host: HostId,
        /// Whether it is the power that fails, and not the process.
        power: bool,
    },
    /// A host that has crashed starts again with what was durable.
    Restart(HostId),
    /// Its user wants something of its torrent.
    Command(HostId, TorrentCommand),
    /// Its user sets the limits of all its torrents.
    Limits(HostId, Limits),
    /// Its lines become faster or slower, in bytes per second; `None` is at once.
    Rates {
        /// Which host.
        host: HostId,
        /// Its uplink.
        up: Option<u64>,
        /// Its downlink.
        down: Option<u64>,
    },
    /// It behaves in another way from now on.
    Manners(HostId, Manners),
    /// Hosts of different groups cannot reach each other; those that are not named are in group 0.
    Split(Vec<(HostId, u32)>),
    /// Everybody can reach everybody again.
    Heal,
    /// A tracker, by its place among all, answers nobody, or again.
    Tracker {
        /// Which.
        index: usize,
        /// Whether it is down.
        down: bool,
    },
    /// A host's clock leaps ahead.
    Leap(HostId, Duration),
    /// A host is suspended: nothing happens there, and then its clock has leapt.
    Sleep(HostId, Duration),
    /// A host's disk fails every read and write for so long.
    DiskFails(HostId, Duration),
    /// So much fits on a host's disk from now on, in bytes; `None` is without end.
    DiskSpace(HostId, Option<u64>),
    /// The bytes of a piece rot on a host's disk. Nobody notices until somebody looks.
    Spoil(HostId, PieceIndex),
    /// A line of text for whoever reads the record.
    Note(String),
}

impl Action {
    /// Whose machine has to be awake for it, if it is something that a user does there.
    pub(crate) const fn user(&self) -> Option<HostId> {
        match self {
            Self::Join(host)
            | Self::Leave(host)
            | Self::Command(host, _)
            | Self::Limits(host, _) => Some(*host),
            _ => None,
        }
    }
}
