//! What a client says to a tracker, and what it hears back, whatever carries it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use riverrun_base::{InfoHash, PeerId};
use serde::{Deserialize, Serialize};

/// The shortest time between two announces of one torrent to one tracker, whatever the tracker asks for: an
/// interval of zero must not turn clients into a flood.
pub const INTERVAL_MIN: Duration = Duration::from_mins(1);

/// The longest interval that is honoured. Trackers ask for half an hour to two hours; one that asks for years
/// must not silence a torrent for good.
pub const INTERVAL_MAX: Duration = Duration::from_hours(6);

/// The interval if the tracker names none: what most trackers use.
pub const INTERVAL_DEFAULT: Duration = Duration::from_mins(30);

/// How many peers of one response are taken. Clients ask for at most 200; more is a tracker's whim, and
/// memory.
pub const PEERS_MAX: usize = 1000;

/// The `left` of a torrent whose size is not known yet. Leaving it out, or sending -1, is answered with an
/// error by some trackers; and a small number would read as an almost complete peer.
const LEFT_UNKNOWN: u64 = i64::MAX.cast_unsigned();

/// Why a client announces (BEP 3, "event"; BEP 21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum AnnounceEvent {
    /// It is time to.
    #[default]
    None,
    /// The torrent was started: the first announce.
    Started,
    /// The download is complete now. Never sent if it was complete at the start.
    Completed,
    /// The torrent was stopped: the last announce.
    Stopped,
    /// As [`AnnounceEvent::None`], by a partial seed: it is incomplete and downloads nothing more (BEP 21).
    Paused,
}

impl AnnounceEvent {
    /// The value of `event` in an HTTP announce, if it is sent at all.
    pub const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Started => Some("started"),
            Self::Completed => Some("completed"),
            Self::Stopped => Some("stopped"),
            Self::Paused => Some("paused"),
        }
    }
}

/// One announce of one info-hash (BEP 3, "Trackers"). No address is sent: the tracker sees it (BEP 7
/// discourages anything else).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnnounceRequest {
    /// The torrent; each info-hash of a hybrid is announced on its own.
    pub info_hash: InfoHash,
    /// Who we are.
    pub peer_id: PeerId,
    /// Where we listen.
    pub port: u16,
    /// Payload bytes sent since `started`.
    pub uploaded: u64,
    /// Payload bytes received since `started`.
    pub downloaded: u64,
    /// Bytes still to get; `None` while the torrent's size is unknown.
    pub left: Option<u64>,
    /// Why.
    pub event: AnnounceEvent,
    /// How many peers to send; `None` leaves it to the tracker. A stopping client gets none.
    pub num_want: Option<u32>,
    /// A random number, the same in both address families and for all info-hashes, by which a tracker knows
    /// us when our address changes (BEP 7).
    pub key: u32,
    /// The `tracker id` of this tracker's last response, if it had one.
    pub tracker_id: Option<Vec<u8>>,
    /// What the tracker may tell others of how we connect.
    pub encryption: AnnouncedEncryption,
}

/// Whether connections to a client are to be encrypted, as trackers over HTTP are told (an extension of Vuze's that
/// the field has taken over): they may sort peers by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum AnnouncedEncryption {
    /// They cannot be.
    #[default]
    None,
    /// They can be.
    Supported,
    /// They must be.
    Required,
}

impl AnnouncedEncryption {
    /// What is added to the URL of an announce.
    pub(crate) const fn arguments(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Supported => "&supportcrypto=1",
            // Both, as Transmission has it: trackers may know only one.
            Self::Required => "&supportcrypto=1&requirecrypto=1",
        }
    }
}

impl AnnounceRequest {
    /// The number for `left` on the wire; never above `i64::MAX`, since many trackers read it as signed.
    pub(crate) fn left_on_wire(&self) -> u64 {
        self.left.unwrap_or(LEFT_UNKNOWN).min(LEFT_UNKNOWN)
    }

    /// How many peers to ask for on the wire.
    pub(crate) fn num_want_on_wire(&self) -> Option<u32> {
        match self.event {
            AnnounceEvent::Stopped => Some(0),
            _ => self.num_want,
        }
    }
}

/// A tracker's answer to an announce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnounceResponse {
    /// When to announce again; between [`INTERVAL_MIN`] and [`INTERVAL_MAX`].
    pub interval: Duration,
    /// How long at least to wait even if peers are short; within the same bounds.
    pub min_interval: Option<Duration>,
    /// Peers of both address families, at most [`PEERS_MAX`], IPv4-mapped addresses as IPv4, none with port
    /// zero. Any address may be among them: which to dial is not decided here.
    pub peers: Vec<SocketAddr>,
    /// How many peers have everything.
    pub seeders: Option<u32>,
    /// How many peers have not.
    pub leechers: Option<u32>,
    /// How many peers have ever completed the download.
    pub downloaded: Option<u32>,
    /// Our address as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
    /// To be repeated in the next announce to this tracker.
    pub tracker_id: Option<Vec<u8>>,
    /// What the tracker wants the user to know, in one line of at most 256 characters.
    pub warning: Option<String>,
}

impl AnnounceResponse {
    /// How long to wait at least before the next announce without an event.
    pub fn wait_min(&self) -> Duration {
        self.min_interval.unwrap_or(INTERVAL_MIN)
    }
}

/// An interval that a tracker asked for, in seconds, within bounds.
pub(crate) fn interval_within_bounds(seconds: i64) -> Duration {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Duration::from_secs(seconds).clamp(INTERVAL_MIN, INTERVAL_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_intervals_are_brought_within_bounds() {
        for (asked, taken) in [
            (i64::MIN, INTERVAL_MIN),
            (-1, INTERVAL_MIN),
            (0, INTERVAL_MIN),
            (59, INTERVAL_MIN),
            (1800, Duration::from_mins(30)),
            (1 << 31, INTERVAL_MAX),
            (i64::MAX, INTERVAL_MAX),
        ] {
            assert_eq!(interval_within_bounds(asked), taken, "{asked}");
        }
    }
}
