//! What can be seen of a torrent from outside: numbers, not decisions.

use std::net::SocketAddr;

use riverrun_base::{Bitfield, InfoHash, PeerId, PieceIndex, Rate, Time};
use riverrun_peer::Encryption;
use riverrun_tracker::TrackerUrl;

use super::Torrent;
use super::peers::Peer;
use super::pieces::Pieces;
use crate::input::{PeerSource, Summary, TorrentOptions, Transport};
use crate::key::ConnKey;
use crate::outbox::TorrentState;

/// A torrent in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TorrentStats {
    /// What it is doing.
    pub state: TorrentState,
    /// Only peers from its trackers may be used (BEP 27); not known before the metadata.
    pub is_private: bool,
    /// How many pieces there are; 0 before the metadata.
    pub pieces: u32,
    /// How many are verified.
    pub verified: u32,
    /// How many would survive a power cut.
    pub durable: u32,
    /// How many are wanted, there or not.
    pub wanted: u32,
    /// How many bytes all pieces have, padding not counted.
    pub total_bytes: u64,
    /// How many bytes of all pieces are not there, padding not counted.
    pub left_bytes: u64,
    /// How many bytes wanted pieces have, padding not counted.
    pub wanted_bytes: u64,
    /// How many bytes of wanted pieces are not there, padding not counted.
    pub wanted_left_bytes: u64,
    /// Payload sent since the torrent was added.
    pub uploaded_bytes: u64,
    /// Payload received since the torrent was added.
    pub downloaded_bytes: u64,
    /// Payload received that was not needed.
    pub wasted_bytes: u64,
    /// Payload received that was wrong.
    pub failed_bytes: u64,
    /// Payload sent, lately.
    pub upload_rate: Rate,
    /// Payload received, lately.
    pub download_rate: Rate,
    /// Connections that are up, to peers.
    pub connected: u32,
    /// Web seeds that are in use.
    pub web_seeds: u32,
    /// Connected peers that are reached by uTP.
    pub utp: u32,
    /// Connections that are being dialled.
    pub dialling: u32,
    /// Connected peers that have everything.
    pub seeds: u32,
    /// Connected peers that want something of us.
    pub interested: u32,
    /// Connected peers that we unchoke.
    pub unchoked: u32,
    /// Connected peers that unchoke us.
    pub unchoking: u32,
    /// Addresses that are known.
    pub candidates: u32,
    /// How many copies of the rarest piece connected peers have; `None` without any peer.
    pub rarest_copies: Option<u32>,
    /// Its trackers.
    pub trackers: Vec<TrackerStats>,
    /// How it is treated.
    pub options: TorrentOptions,
}

/// One tracker of a torrent, for one of its info-hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerStats {
    /// Where.
    pub url: TrackerUrl,
    /// What is announced.
    pub info_hash: InfoHash,
    /// How the last announce went.
    pub status: TrackerStatus,
    /// Failures in a row.
    pub failures: u32,
    /// When it is announced to again, if its turn is; `None` if never.
    pub next: Option<Time>,
}

/// How a tracker does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackerStatus {
    /// Not asked yet.
    Idle,
    /// Being asked.
    Announcing,
    /// It has answered.
    Working {
        /// How many peers have everything, as it says.
        seeders: Option<u32>,
        /// How many have not.
        leechers: Option<u32>,
        /// What it wants the user to know.
        warning: Option<String>,
    },
    /// It has failed, with this message.
    Failing(String),
}

/// One connection in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the protocol's own state is four bits"
)]
pub struct PeerStats {
    /// Which connection.
    pub conn: ConnKey,
    /// The peer's address.
    pub addr: SocketAddr,
    /// How it became known.
    pub source: PeerSource,
    /// We have dialled it.
    pub is_outgoing: bool,
    /// What carries the connection, once it is up.
    pub transport: Option<Transport>,
    /// Its id, once the handshakes are through.
    pub peer_id: Option<PeerId>,
    /// Its name and version, if it told.
    pub client: Option<String>,
    /// How much of the connection is encrypted.
    pub encryption: Encryption,
    /// How many pieces it has.
    pub have: u32,
    /// It chokes us.
    pub is_choking: bool,
    /// We are interested in it.
    pub is_interesting: bool,
    /// We unchoke it.
    pub is_unchoked: bool,
    /// It is interested in us.
    pub is_interested: bool,
    /// It owes blocks for too long.
    pub is_snubbed: bool,
    /// Blocks that it owes.
    pub requests: u32,
    /// Blocks that we owe it.
    pub wants: u32,
    /// Payload sent to it.
    pub uploaded_bytes: u64,
    /// Payload received from it.
    pub downloaded_bytes: u64,
    /// Payload sent to it, lately.
    pub upload_rate: Rate,
    /// Payload received from it, lately.
    pub download_rate: Rate,
}

impl Torrent {
    /// The torrent in numbers. Costs a step a peer, and one a piece while there are peers.
    pub(crate) fn stats(&self, now: Time) -> TorrentStats {
        let said = self.summary();
        let [uploaded_bytes, downloaded_bytes, wasted_bytes, failed_bytes] = self.rates.totals();
        let [up, down] = self.rates.rates_shown(now).map(Rate::from_bytes_per_second);
        let count =
            |test: fn(&Peer) -> bool| bounded(self.peers.ready().filter(|p| test(p)).count());
        TorrentStats {
            state: self.state(),
            is_private: said.is_private,
            pieces: said.pieces,
            verified: self.count_of(Pieces::have),
            durable: self.count_of(Pieces::durable),
            wanted: said.wanted,
            total_bytes: said.total_bytes,
            left_bytes: self.left_bytes().unwrap_or(0),
            wanted_bytes: said.wanted_bytes,
            wanted_left_bytes: self
                .pieces
                .as_ref()
                .map_or(0, |pieces| self.payload_of(pieces.needed())),
            uploaded_bytes,
            downloaded_bytes,
            wasted_bytes,
            failed_bytes,
            upload_rate: up,
            download_rate: down,
            connected: count(|_| true),
            web_seeds: bounded(self.web_seeds.open()),
            utp: count(|peer| peer.transport == Some(Transport::Utp)),
            dialling: self.peers.half_open(),
            seeds: count(Peer::is_seed),
            interested: count(|peer| peer.up.is_interested),
            unchoked: count(|peer| peer.up.is_unchoked),
            unchoking: count(|peer| !peer.down.is_choking),
            candidates: bounded(self.candidates.len()),
            rarest_copies: self
                .availability()
                .and_then(|copies| copies.into_iter().min()),
            trackers: self.announcer.stats(),
            options: self.options.clone(),
        }
    }

    /// How many bytes of all pieces are not there; `None` before the metadata.
    pub(super) fn left_bytes(&self) -> Option<u64> {
        if !self.knows_metadata() {
            return None;
        }
        Some(match &self.pieces {
            Some(pieces) => self.payload_of(pieces.have().zeros()),
            None if self.is_complete() => 0,
            None => self.summary().total_bytes,
        })
    }

    /// What can be said of metadata and pieces, in memory or not; nothing before the metadata.
    pub(super) fn summary(&self) -> Summary {
        let Some(meta) = &self.meta else {
            return self.rest.summary().unwrap_or_default();
        };
        let layout = meta.info.layout();
        let pieces = self.pieces.as_ref();
        Summary {
            is_complete: self.is_complete(),
            is_private: meta.info.is_private(),
            pieces: layout.piece_count(),
            wanted: pieces.map_or(0, Pieces::wanted_count),
            total_bytes: layout.payload_len(),
            wanted_bytes: pieces.map_or(0, |pieces| self.payload_of(pieces.wanted())),
        }
    }

    /// How many pieces there are of those that a field says.
    fn count_of(&self, field: fn(&Pieces) -> &Bitfield) -> u32 {
        match &self.pieces {
            Some(pieces) => field(pieces).count_ones(),
            None if self.is_complete() => self.summary().pieces,
            None => 0,
        }
    }

    fn payload_of(&self, pieces: impl Iterator<Item = PieceIndex>) -> u64 {
        let Some(meta) = &self.meta else { return 0 };
        let layout = meta.info.layout();
        pieces
            .map(|piece| u64::from(layout.payload_in(layout.piece_span(piece))))
            .sum()
    }

    /// Its connections to peers.
    pub(crate) fn peer_stats(&self, now: Time) -> Vec<PeerStats> {
        let rate = Rate::from_bytes_per_second;
        let stats = |peer: &Peer| PeerStats {
            conn: peer.conn,
            addr: peer.addr,
            source: peer.source,
            is_outgoing: peer.is_outgoing,
            transport: peer.transport,
            peer_id: peer.hello.as_ref().map(|hello| hello.peer_id),
            client: peer.hello.as_ref().and_then(|hello| hello.client.clone()),
            encryption: peer
                .hello
                .as_ref()
                .map_or(Encryption::None, |hello| hello.encryption),
            have: peer.have.count_ones(),
            is_choking: peer.down.is_choking,
            is_interesting: peer.down.is_interested,
            is_unchoked: peer.up.is_unchoked,
            is_interested: peer.up.is_interested,
            is_snubbed: peer.down.is_snubbed,
            requests: bounded(peer.down.requests.len()),
            wants: bounded(peer.up.wants.len() + peer.up.reading.len()),
            uploaded_bytes: peer.up.total_bytes,
            downloaded_bytes: peer.down.total_bytes,
            upload_rate: rate(peer.up.meter.rate_shown(now)),
            download_rate: rate(peer.down.meter.rate_shown(now)),
        };
        let peers = self.peers.iter().filter(|peer| peer.web_seed.is_none());
        peers.map(stats).collect()
    }

    /// The pieces that are verified; `None` before storage is open.
    pub(crate) fn have(&self) -> Option<&Bitfield> {
        self.pieces.as_ref().map(Pieces::have)
    }

    /// How many connected peers have each piece; `None` without peers.
    pub(crate) fn availability(&self) -> Option<Vec<u32>> {
        let pieces = self.pieces.as_ref()?;
        let picker = pieces.picker_ref()?;
        let all = (0..pieces.have().len()).map(PieceIndex);
        Some(
            all.map(|piece| picker.rarity().availability(piece))
                .collect(),
        )
    }
}

fn bounded(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
