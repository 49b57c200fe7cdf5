//! What a disk holds, how long it takes, and what it does not survive.

use std::collections::BTreeMap;
use std::time::Duration;

use riverrun_base::{Bitfield, BlockSpan, PieceIndex, Time};
use riverrun_metainfo::{PieceHash, merkle};
use riverrun_swarm::{BlockDigests, StorageDone};
use serde::{Deserialize, Serialize};

use crate::content::{Content, Payload};
use crate::seconds;

/// A disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskConfig {
    /// How long each job takes before the first byte.
    #[serde(with = "seconds")]
    pub seek: Duration,
    /// Bytes read, written or hashed a second; without it, at once.
    pub rate: Option<u64>,
    /// How long a piece takes from verified to durable: the wait for a sync, and the sync.
    #[serde(with = "seconds")]
    pub sync: Duration,
    /// How many bytes there is room for; without it, without end.
    pub space: Option<u64>,
    /// How often a read gives something else than was written, of 0 to 1.
    pub corrupt_reads: f64,
    /// How often a piece is written over another one, of 0 to 1, which nobody notices until it is read.
    pub misdirected_writes: f64,
    /// How many of the pieces that were written and not synced are torn by a power cut, of 0 to 1.
    pub torn: f64,
}

impl Default for DiskConfig {
    /// Takes no time worth speaking of, and does what it should; a power cut loses half of what was not synced.
    fn default() -> Self {
        Self {
            seek: Duration::from_millis(1),
            rate: None,
            sync: Duration::from_secs(1),
            space: None,
            corrupt_reads: 0.0,
            misdirected_writes: 0.0,
            torn: 0.5,
        }
    }
}

/// What of one torrent is on a disk.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    /// Pieces whose bytes are right in the files, synced or not.
    pub(crate) written: Bitfield,
    /// Pieces that are claimed in the journal.
    pub(crate) durable: Bitfield,
    /// Blocks of pieces that are not verified: zero for one that is not there.
    held: BTreeMap<PieceIndex, Box<[Option<Payload>]>>,
    /// Files are open.
    pub(crate) is_open: bool,
}

impl Store {
    /// With these pieces there and durable.
    pub(crate) fn new(have: Bitfield) -> Self {
        Self {
            written: have.clone(),
            durable: have,
            held: BTreeMap::new(),
            is_open: false,
        }
    }

    pub(crate) fn store(&mut self, content: &Content, span: BlockSpan, payload: Payload) {
        let blocks = content.info().layout().block_count(span.piece) as usize;
        let piece = self
            .held
            .entry(span.piece)
            .or_insert_with(|| vec![None; blocks].into());
        let at = (span.offset / riverrun_base::BLOCK_LEN) as usize;
        piece[at] = Some(payload);
    }

    /// What is held of a piece that is not verified.
    pub(crate) fn held(&self, span: BlockSpan) -> Option<Payload> {
        let blocks = self.held.get(&span.piece)?;
        blocks.get(span.block()? as usize).copied().flatten()
    }

    pub(crate) fn discard(&mut self, piece: PieceIndex) {
        self.held.remove(&piece);
    }

    /// Hashes a piece from memory.
    ///
    /// # Panics
    ///
    /// If not all of its blocks were stored, which the decisions promise.
    pub(crate) fn verify(
        &mut self,
        content: &Content,
        piece: PieceIndex,
        expected: PieceHash,
    ) -> StorageDone {
        let held: Vec<Payload> = self
            .held
            .get(&piece)
            .map(|blocks| blocks.iter().copied().flatten().collect())
            .unwrap_or_default();
        let spans: Vec<BlockSpan> = content.spans(piece).collect();
        assert_eq!(held.len(), spans.len(), "all blocks of {piece} are stored");
        let blocks = || spans.iter().copied().zip(held.iter().copied());
        if held.iter().any(|payload| *payload != Payload::Right) {
            let blocks = match expected.v2 {
                Some(_) => BlockDigests::V2(
                    blocks()
                        .map(|(span, payload)| content.sha256(span, payload))
                        .collect(),
                ),
                None => BlockDigests::V1(
                    blocks()
                        .map(|(span, payload)| content.sha1(span, payload))
                        .collect(),
                ),
            };
            return StorageDone::Failed { piece, blocks };
        }
        if let Some(root) = expected.v2 {
            let leaves = content.leaves(piece);
            assert_eq!(merkle::root_of(&leaves, root.leaves), root.root);
        }
        self.held.remove(&piece);
        self.written.set(piece);
        StorageDone::Verified(piece)
    }

    /// Takes a piece for right without looking: a mistake made on purpose.
    pub(crate) fn trust(&mut self, piece: PieceIndex) -> StorageDone {
        let held = self.held.remove(&piece);
        let blocks = held.iter().flatten().flatten();
        if blocks.copied().all(|payload| payload == Payload::Right) {
            self.written.set(piece);
        }
        StorageDone::Verified(piece)
    }

    /// The bytes of a piece are not what they were.
    pub(crate) fn spoil(&mut self, piece: PieceIndex) {
        self.written.clear(piece);
    }

    /// The process has ended: what was in its memory is gone.
    pub(crate) fn crash(&mut self) {
        self.held.clear();
        self.is_open = false;
    }

    /// What a new process finds: what is claimed and there, and what is there without a claim.
    pub(crate) fn found(&self) -> (Bitfield, Bitfield) {
        let mut unchecked = self.written.clone();
        for piece in self.durable.ones() {
            unchecked.clear(piece);
        }
        (self.durable.clone(), unchecked)
    }
}

/// One disk: does one job after the other.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) config: DiskConfig,
    free_at: Time,
    pub(crate) used_bytes: u64,
    /// Reads and writes fail until then.
    pub(crate) fails_until: Option<Time>,
    /// Pieces that are verified and could not be written, by torrent.
    pub(crate) unwritten: Vec<(usize, PieceIndex)>,
    /// A fault was reported and is not over.
    pub(crate) is_faulted: bool,
}

impl Disk {
    pub(crate) const fn new(config: DiskConfig) -> Self {
        Self {
            config,
            free_at: Time::ZERO,
            used_bytes: 0,
            fails_until: None,
            unwritten: Vec::new(),
            is_faulted: false,
        }
    }

    /// Does a job of so many bytes; gives when it is done.
    pub(crate) fn work(&mut self, now: Time, bytes: u64) -> Time {
        let begin = now.max(self.free_at);
        let moving = self.config.rate.map_or(Duration::ZERO, |rate| {
            Duration::from_micros(bytes.saturating_mul(1_000_000) / rate.max(1))
        });
        self.free_at = begin + self.config.seek + moving;
        if self.is_instant() {
            // Jobs do not wait for each other.
            self.free_at = Time::ZERO;
            return now + self.config.seek;
        }
        self.free_at
    }

    /// Whether it never makes anybody wait.
    pub(crate) const fn is_instant(&self) -> bool {
        self.config.rate.is_none()
    }
}
