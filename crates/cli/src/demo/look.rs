//! All peers at one moment.

use std::time::Duration;

use riverrun_base::{Bitfield, Rate};
use riverrun_engine::TorrentStats;
use serde_json::{Map, Value, json};

/// What all peers have and do at one moment; the seeder is the first.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// How long after the beginning.
    pub(crate) at: Duration,
    pub(crate) peers: Vec<PeerLook>,
}

/// What one peer has and does.
#[derive(Clone, Debug)]
pub(crate) struct PeerLook {
    pub(crate) name: char,
    /// The pieces that it has, verified.
    pub(crate) pieces: Bitfield,
    /// It has everything, on disk.
    pub(crate) is_complete: bool,
    /// Payload of the pieces that it has.
    pub(crate) verified_bytes: u64,
    pub(crate) downloaded_bytes: u64,
    pub(crate) uploaded_bytes: u64,
    pub(crate) down: Rate,
    pub(crate) up: Rate,
    /// Its connections to others.
    pub(crate) links: Vec<Link>,
    /// Those that have ended since the last look, as they were at their end.
    pub(crate) ended: Vec<Link>,
}

/// One peer's connection to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The other's place among the peers.
    pub(crate) other: usize,
    /// A name for the connection that no later one has.
    pub(crate) conn: (u32, u32),
    /// What came through it.
    pub(crate) downloaded_bytes: u64,
    /// What comes through it now.
    pub(crate) down: Rate,
}

impl PeerLook {
    pub(crate) fn new(
        name: char,
        pieces: Bitfield,
        is_complete: bool,
        stats: &TorrentStats,
        links: Vec<Link>,
        ended: Vec<Link>,
    ) -> Self {
        Self {
            name,
            pieces,
            is_complete,
            verified_bytes: stats.total_bytes.saturating_sub(stats.left_bytes),
            downloaded_bytes: stats.downloaded_bytes,
            uploaded_bytes: stats.uploaded_bytes,
            down: stats.download_rate,
            up: stats.upload_rate,
            links,
            ended,
        }
    }
}

impl Look {
    /// Those who want it.
    pub(crate) fn receivers(&self) -> &[PeerLook] {
        self.peers.get(1..).unwrap_or_default()
    }

    /// Whether all have everything.
    pub(crate) fn is_over(&self) -> bool {
        self.receivers().iter().all(|peer| peer.is_complete)
    }

    /// All that all have received.
    pub(crate) fn downloaded_bytes(&self) -> u64 {
        self.peers.iter().map(|peer| peer.downloaded_bytes).sum()
    }

    /// Whether those who want it have each piece at least once, taken together.
    pub(crate) fn is_out(&self) -> bool {
        let receivers = self.receivers();
        receivers.first().is_some_and(|first| {
            first
                .pieces
                .zeros()
                .all(|piece| receivers.iter().any(|peer| peer.pieces.has(piece)))
        })
    }

    /// From whom a peer gets, and the part of its rate in percent, larger parts first.
    pub(crate) fn feeds(&self, peer: &PeerLook) -> Vec<(char, u64)> {
        let all: u64 = peer
            .links
            .iter()
            .map(|link| link.down.bytes_per_second())
            .sum();
        let part = |link: &Link| {
            let hundredfold = link.down.bytes_per_second().saturating_mul(100);
            let percent = hundredfold.checked_div(all)?;
            Some((self.peers.get(link.other)?.name, percent)).filter(|_| percent > 0)
        };
        let mut parts: Vec<_> = peer.links.iter().filter_map(part).collect();
        parts.sort_by_key(|(name, percent)| (std::cmp::Reverse(*percent), *name));
        parts
    }

    /// One event of progress a peer.
    pub(crate) fn events(&self) -> impl Iterator<Item = Value> + '_ {
        self.peers.iter().map(|peer| {
            let from: Map<String, Value> = peer
                .links
                .iter()
                .filter_map(|link| {
                    let name = self.peers.get(link.other)?.name.to_string();
                    Some((name, link.down.bytes_per_second().into()))
                })
                .collect();
            json!({
                "event": "progress",
                "seconds": self.at.as_secs_f64(),
                "peer": peer.name,
                "pieces": peer.pieces.count_ones(),
                "verified_bytes": peer.verified_bytes,
                "downloaded_bytes": peer.downloaded_bytes,
                "uploaded_bytes": peer.uploaded_bytes,
                "down_bytes_per_s": peer.down.bytes_per_second(),
                "up_bytes_per_s": peer.up.bytes_per_second(),
                "from_bytes_per_s": from,
            })
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use riverrun_base::PieceIndex;

    /// Peers of these names that have these pieces, of one byte each.
    pub(in crate::demo) fn look(names: &str, pieces: &[&str]) -> Look {
        let peer = |(name, pieces): (char, &&str)| PeerLook {
            name,
            pieces: bitfield(pieces),
            is_complete: false,
            verified_bytes: bitfield(pieces).count_ones().into(),
            downloaded_bytes: 0,
            uploaded_bytes: 0,
            down: Rate::ZERO,
            up: Rate::ZERO,
            links: Vec::new(),
            ended: Vec::new(),
        };
        Look {
            at: Duration::ZERO,
            peers: names.chars().zip(pieces).map(peer).collect(),
        }
    }

    fn bitfield(text: &str) -> Bitfield {
        let mut pieces = Bitfield::new(u32::try_from(text.len()).unwrap());
        for (piece, bit) in (0..).map(PieceIndex).zip(text.chars()) {
            if bit == '1' {
                pieces.set(piece);
            }
        }
        pieces
    }

    impl Look {
        /// One more connection, through which so much has come, and comes in each second.
        pub(in crate::demo) fn connect(&mut self, receiver: char, giver: char, bytes: u64) {
            let at = |name| {
                self.peers
                    .iter()
                    .position(|peer| peer.name == name)
                    .unwrap()
            };
            let (receiver, other) = (at(receiver), at(giver));
            let bits = u32::try_from(bytes).unwrap();
            self.peers[receiver].links.push(Link {
                other,
                conn: (u32::try_from(other).unwrap(), bits),
                downloaded_bytes: bytes,
                down: Rate::from_bytes_per_second(bytes),
            });
        }

        /// Ends the connections of a receiver; through each so much more has come.
        pub(in crate::demo) fn end_all(&mut self, receiver: char, bytes: u64) {
            let receiver = self.peers.iter_mut().find(|peer| peer.name == receiver);
            let receiver = receiver.unwrap();
            receiver.ended = std::mem::take(&mut receiver.links);
            for link in &mut receiver.ended {
                link.downloaded_bytes += bytes;
            }
        }
    }

    #[test]
    fn the_seeder_is_not_needed_once_each_piece_is_elsewhere() {
        assert!(!look("SAB", &["111", "100", "010"]).is_out());
        assert!(look("SAB", &["111", "101", "010"]).is_out());
    }
}
