//! Fetching the metadata from peers (BEP 9).
//!
//! Peers say how long it is before anybody knows, so there is one attempt for each length that somebody claims; a
//! liar neither fixes the length for others nor spoils theirs. Many peers fill one attempt together. If it turns out
//! wrong, every peer that had part in it fills one of its own: that tells liars from those beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use riverrun_base::{BLOCK_LEN, InfoHashes, Time};
use riverrun_metainfo::{Info, PieceHashes, PieceLayers};
use riverrun_peer::PeerCommand;

use super::{Cx, Meta, Torrent};
use crate::key::ConnKey;

/// The longest metadata that is accepted: 2^21 pieces take 40 MiB of v1 hashes, but no client offers more.
const METADATA_LEN_MAX: u32 = 32 << 20;
/// What all attempts of a torrent together may hold, in bytes: two of the longest.
const HELD_BYTES_MAX: usize = 64 << 20;
/// Requests to one peer at a time: enough to fetch what is usual in one round trip.
const REQUESTS_MAX: usize = 8;
/// How long a peer may take for 16 KiB.
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// How long a peer that rejected is left alone.
const REJECT_WAIT: Duration = Duration::from_secs(10);

/// Attempts at the metadata, and who is asked for what.
#[derive(Clone, Debug, Default)]
pub(super) struct MetadataFetch {
    attempts: BTreeMap<AttemptKey, Attempt>,
    asked: BTreeMap<ConnKey, Asked>,
    /// Peers that had part in something wrong, and fill their own attempts.
    suspects: BTreeSet<ConnKey>,
}

/// What an attempt is known by: the length, and the peer if it fills it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct AttemptKey {
    len: u32,
    alone: Option<ConnKey>,
}

#[derive(Clone, Debug, Default)]
struct Attempt {
    pieces: BTreeMap<u32, (Vec<u8>, ConnKey)>,
}

#[derive(Clone, Debug, Default)]
struct Asked {
    pieces: BTreeSet<u32>,
    /// When it should have answered, or may be asked again.
    until: Time,
}

impl AttemptKey {
    const fn piece_count(&self) -> u32 {
        self.len.div_ceil(BLOCK_LEN)
    }

    /// How long a piece has to be.
    fn piece_len(&self, piece: u32) -> Option<usize> {
        let offset = piece.checked_mul(BLOCK_LEN)?;
        let rest = self.len.checked_sub(offset).filter(|rest| *rest > 0)?;
        Some(rest.min(BLOCK_LEN) as usize)
    }
}

impl MetadataFetch {
    /// When a peer will have taken too long.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.asked.values().map(|asked| asked.until).min()
    }

    fn key_for(&self, conn: ConnKey, len: u32) -> AttemptKey {
        AttemptKey {
            len,
            alone: self.suspects.contains(&conn).then_some(conn),
        }
    }

    /// Which pieces to ask a peer for that claims this length.
    fn pick(&mut self, now: Time, conn: ConnKey, len: u32) -> Vec<u32> {
        let key = self.key_for(conn, len);
        if self
            .asked
            .get(&conn)
            .is_some_and(|asked| asked.until > now && asked.pieces.is_empty())
        {
            return Vec::new();
        }
        let others: BTreeSet<u32> = self
            .asked
            .iter()
            .filter(|(other, _)| key.alone.is_none() && !self.suspects.contains(other))
            .flat_map(|(_, asked)| asked.pieces.iter().copied())
            .collect();
        let attempt = self.attempts.entry(key).or_default();
        let asked = self.asked.entry(conn).or_default();
        let room = REQUESTS_MAX.saturating_sub(asked.pieces.len());
        let missing =
            |piece: &u32| !attempt.pieces.contains_key(piece) && !asked.pieces.contains(piece);
        // What nobody is asked for first; then again what others owe, so that a silent peer holds up nothing.
        let fresh =
            (0..key.piece_count()).filter(|piece| missing(piece) && !others.contains(piece));
        let again = (0..key.piece_count()).filter(|piece| missing(piece) && others.contains(piece));
        let picked: Vec<u32> = fresh.chain(again).take(room).collect();
        asked.pieces.extend(&picked);
        if asked.pieces.is_empty() {
            self.asked.remove(&conn);
        } else {
            asked.until = now + ANSWER_TIME;
        }
        picked
    }

    /// Takes a piece that was asked for; gives the whole with who sent it once it is there.
    fn take(
        &mut self,
        conn: ConnKey,
        piece: u32,
        len: u32,
        bytes: Vec<u8>,
    ) -> Option<(AttemptKey, Vec<u8>, BTreeSet<ConnKey>)> {
        let key = self.key_for(conn, len);
        let was_asked = self
            .asked
            .get_mut(&conn)
            .is_some_and(|asked| asked.pieces.remove(&piece));
        if !was_asked || key.piece_len(piece) != Some(bytes.len()) {
            return None;
        }
        self.make_room(key, bytes.len());
        let attempt = self.attempts.entry(key).or_default();
        attempt.pieces.entry(piece).or_insert((bytes, conn));
        if attempt.pieces.len() < key.piece_count() as usize {
            return None;
        }
        let pieces = self.attempts.remove(&key)?.pieces;
        let senders = pieces.values().map(|(_, sender)| *sender).collect();
        let whole = pieces.into_values().flat_map(|(bytes, _)| bytes).collect();
        Some((key, whole, senders))
    }

    /// Lets the longest other attempts go while all together hold too much: the longest is most likely a lie.
    fn make_room(&mut self, key: AttemptKey, more: usize) {
        let held = |attempts: &BTreeMap<AttemptKey, Attempt>| -> usize {
            let pieces = attempts
                .values()
                .flat_map(|attempt| attempt.pieces.values());
            pieces.map(|(bytes, _)| bytes.len()).sum()
        };
        while held(&self.attempts) + more > HELD_BYTES_MAX {
            let other = self
                .attempts
                .keys()
                .rev()
                .find(|other| **other != key)
                .copied();
            let Some(other) = other else { return };
            self.attempts.remove(&other);
        }
    }

    /// What these peers sent together is wrong. Gives the liar if there was only one.
    fn failed(&mut self, senders: &BTreeSet<ConnKey>) -> Option<ConnKey> {
        if let (1, Some(liar)) = (senders.len(), senders.first()) {
            return Some(*liar);
        }
        for sender in senders {
            self.suspects.insert(*sender);
            self.asked.remove(sender);
        }
        None
    }

    fn forget(&mut self, conn: ConnKey) {
        self.asked.remove(&conn);
        self.suspects.remove(&conn);
        self.attempts.retain(|key, _| key.alone != Some(conn));
    }
}

impl Torrent {
    fn wants_metadata(&self) -> bool {
        self.meta.is_none() && self.life.is_open_to_peers()
    }

    /// Asks a peer for pieces of the metadata, if they are needed and it has them.
    pub(super) fn request_metadata(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        if !self.wants_metadata() {
            return;
        }
        let Some(hello) = self.peers.get(conn).and_then(|peer| peer.hello.as_ref()) else {
            return;
        };
        let len = hello
            .metadata_len
            .filter(|len| (1..=METADATA_LEN_MAX).contains(len));
        let (Some(len), true) = (len, hello.features.metadata) else {
            return;
        };
        for piece in self.fetch.pick(cx.now, conn, len) {
            cx.tell(conn, PeerCommand::RequestMetadata(piece));
        }
    }

    pub(super) fn metadata_came(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnKey,
        piece: u32,
        total_len: u32,
        bytes: Vec<u8>,
    ) {
        let hello = self.peers.get(conn).and_then(|peer| peer.hello.as_ref());
        let claimed = hello.and_then(|hello| hello.metadata_len);
        if !self.wants_metadata() || claimed != Some(total_len) {
            return;
        }
        match self.fetch.take(conn, piece, total_len, bytes) {
            None => self.request_metadata(cx, conn),
            Some((_, whole, _)) if matches(self.hashes, &whole) => self.metadata_right(cx, &whole),
            Some((_, _, senders)) => self.metadata_wrong(cx, &senders),
        }
    }

    fn metadata_right(&mut self, cx: &mut Cx<'_>, bytes: &[u8]) {
        self.fetch = MetadataFetch::default();
        match Info::from_bytes(bytes) {
            Ok(info) => {
                let hashes = Arc::new(PieceHashes::new(&info, &PieceLayers::new()));
                self.set_metadata(
                    cx,
                    Meta {
                        info: Arc::new(info),
                        hashes,
                    },
                );
            }
            Err(error) => self.invalidate(cx, error.to_string()),
        }
    }

    fn metadata_wrong(&mut self, cx: &mut Cx<'_>, senders: &BTreeSet<ConnKey>) {
        let liar = self.fetch.failed(senders);
        if let Some(peer) = liar.and_then(|liar| self.peers.get(liar)) {
            let culprit = peer.culprit();
            self.ban(cx, culprit);
        }
        self.request_metadata_of_all(cx);
    }

    fn request_metadata_of_all(&mut self, cx: &mut Cx<'_>) {
        for conn in self.peers.conns() {
            self.request_metadata(cx, conn);
        }
    }

    pub(super) fn metadata_rejected(&mut self, cx: &mut Cx<'_>, conn: ConnKey, piece: u32) {
        if let Some(asked) = self.fetch.asked.get_mut(&conn) {
            asked.pieces.remove(&piece);
            asked.until = cx.now + REJECT_WAIT;
        }
        self.request_metadata_of_all(cx);
    }

    pub(super) fn metadata_due(&mut self, cx: &mut Cx<'_>) {
        let late = self
            .fetch
            .asked
            .iter()
            .filter(|(_, asked)| asked.until <= cx.now);
        let late: Vec<_> = late.map(|(conn, _)| *conn).collect();
        if late.is_empty() {
            return;
        }
        for conn in late {
            self.fetch.asked.remove(&conn);
        }
        self.request_metadata_of_all(cx);
    }

    pub(super) fn metadata_peer_gone(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        if self.meta.is_none() {
            self.fetch.forget(conn);
            for other in self
                .peers
                .conns()
                .into_iter()
                .filter(|other| *other != conn)
            {
                self.request_metadata(cx, other);
            }
        }
    }
}

/// Whether bytes are the info dictionary that the hashes name; each hash that is known has to fit.
fn matches(hashes: InfoHashes, bytes: &[u8]) -> bool {
    hashes
        .v1()
        .is_none_or(|v1| riverrun_hash::sha1(bytes) == v1)
        && hashes
            .v2()
            .is_none_or(|v2| riverrun_hash::sha256(bytes) == v2)
}
