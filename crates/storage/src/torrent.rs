//! One torrent as the threads see it: what it holds in memory, and what is to be done in which order.
//!
//! Two locks: `state` is held for moments and never while anything is read, written or hashed; `files` belongs to
//! the one disk thread that works for the torrent. `files` is taken before `state`, never after.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use riverrun_base::{Bitfield, BlockSpan, FileIndex, InfoHashes, PieceIndex};
use riverrun_metainfo::{Layout, PieceHash, PieceHashes};
use riverrun_swarm::{ConnKey, StorageFault};

use crate::abreast;
use crate::cache::{Blocks, Cache, memory_bytes};
use crate::files::TorrentFiles;
use crate::ground::Site;
use crate::known::KnownFiles;

/// A torrent that was attached.
pub(crate) struct Torrent {
    pub(crate) site: Site,
    /// How the files were left.
    pub(crate) known: Arc<KnownFiles>,
    state: Mutex<State>,
    files: Mutex<Writing>,
}

/// What belongs to the disk thread that works for a torrent.
#[derive(Default)]
pub(crate) struct Writing {
    pub(crate) files: Option<TorrentFiles>,
    /// When the next commit is due, if there is something to commit.
    pub(crate) commit_at: Option<Instant>,
    /// When a disk thread will look at the torrent next.
    pub(crate) wake_at: Option<Instant>,
}

/// What a torrent holds in memory.
pub(crate) struct State {
    /// Where bytes belong; known from opening to closing.
    pub(crate) layout: Option<Arc<Layout>>,
    pub(crate) cache: Cache,
    /// Pieces that may be served: verified in memory or on disk.
    pub(crate) verified: Bitfield,
    /// Reads of blocks that are being written.
    pub(crate) delayed_reads: Vec<(ConnKey, BlockSpan)>,
    pub(crate) checks: VecDeque<Check>,
    pub(crate) agenda: Agenda,
    /// Bytes that are on the agenda to be written early.
    pub(crate) spilling_bytes: usize,
    /// What does not work, as it was told.
    pub(crate) faults: Faults,
    /// When what failed is to be tried again; nothing is tried before.
    pub(crate) retry_at: Option<Instant>,
    /// A close is on the agenda: what fails now is given up.
    pub(crate) is_closing: bool,
}

/// What does not work.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// The first thing on the agenda.
    pub(crate) op: Option<StorageFault>,
    /// Committing what was written.
    pub(crate) commit: Option<StorageFault>,
}

/// What a torrent has to do on disk, in order.
#[derive(Default)]
pub(crate) struct Agenda {
    ops: VecDeque<Op>,
    /// Operations that wait until what was being hashed when they came is through, and all that came after them.
    waiting: VecDeque<(u64, Op)>,
    /// What is being hashed.
    tickets: BTreeSet<u64>,
    next_ticket: u64,
    /// A disk thread has it, or will have it.
    is_scheduled: bool,
}

/// Something to do on disk.
pub(crate) enum Op {
    Open {
        hashes: InfoHashes,
        layout: Arc<Layout>,
        wanted: Vec<bool>,
    },
    Wanted(Vec<bool>),
    /// Write a piece that is right.
    Write {
        piece: PieceIndex,
        blocks: Blocks,
        hash: PieceHash,
    },
    /// Write blocks of a piece early, to make room.
    Spill {
        piece: PieceIndex,
        blocks: Blocks,
    },
    /// Claim a piece that was found in place.
    Adopt(PieceIndex, PieceHash),
    Forget(PieceIndex),
    /// Claim nothing of a file any more, which somebody else has changed.
    Disown(FileIndex),
    Check(Bitfield, Arc<PieceHashes>),
    Sync,
    Close,
}

/// A check of pieces on disk that is under way.
pub(crate) struct Check {
    pub(crate) id: u64,
    pub(crate) pieces: VecDeque<PieceIndex>,
    pub(crate) hashes: Arc<PieceHashes>,
    pub(crate) running: usize,
    /// Of how many of the pieces the disk was told.
    pub(crate) told: usize,
}

/// Some pieces of a check.
pub(crate) struct CheckStep {
    pub(crate) id: u64,
    /// The pieces, each with what it must hash to if that is known.
    pub(crate) pieces: Vec<(PieceIndex, Option<PieceHash>)>,
    /// Those of which the disk is to be told.
    pub(crate) ahead: Vec<PieceIndex>,
}

impl Check {
    /// As many pieces as are hashed side by side, on one of so many threads.
    pub(crate) fn next_step(&mut self, layout: &Layout, threads: usize) -> Option<CheckStep> {
        let group_len = abreast::group_len(layout) as usize;
        let share = self.pieces.len().div_ceil(threads);
        let count = group_len.min(share);
        if count == 0 {
            return None;
        }
        self.running += 1;
        let hash = |piece| (piece, self.hashes.get(piece));
        let pieces = self.pieces.drain(..count).map(hash).collect();
        let distance = abreast::pieces_ahead(layout, abreast::group_len(layout)) as usize;
        let told = self.told.saturating_sub(count);
        self.told = told.max(distance);
        let ahead = self.pieces.iter().copied().take(distance).skip(told);
        Some(CheckStep {
            id: self.id,
            pieces,
            ahead: ahead.collect(),
        })
    }
}

/// Whether a torrent has to be given to a disk thread.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schedule {
    Needed,
    NotNeeded,
}

impl Schedule {
    /// Needed if either is.
    pub(crate) fn or(self, other: Self) -> Self {
        match self {
            Self::Needed => self,
            Self::NotNeeded => other,
        }
    }
}

impl Torrent {
    pub(crate) fn new(site: Site) -> Self {
        let state = State {
            layout: None,
            cache: Cache::default(),
            verified: Bitfield::new(0),
            delayed_reads: Vec::new(),
            checks: VecDeque::new(),
            agenda: Agenda::default(),
            spilling_bytes: 0,
            faults: Faults::default(),
            retry_at: None,
            is_closing: false,
        };
        Self {
            site,
            known: Arc::default(),
            state: Mutex::new(state),
            files: Mutex::default(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn files(&self) -> MutexGuard<'_, Writing> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Faults {
    /// Whether anything does not work.
    pub(crate) const fn any(&self) -> bool {
        self.op.is_some() || self.commit.is_some()
    }
}

impl State {
    /// Forgets all but what is still to be done.
    pub(crate) fn reset(&mut self) {
        self.layout = None;
        self.cache.clear();
        self.verified = Bitfield::new(0);
        self.delayed_reads.clear();
        self.checks.clear();
        self.faults = Faults::default();
        self.spilling_bytes = 0;
        (self.retry_at, self.is_closing) = (None, false);
    }
}

impl State {
    /// After a bug: nothing is known, nothing is served. What is on the agenda still comes to its turn.
    pub(crate) fn fail(&mut self) -> Schedule {
        let is_closing = self.is_closing;
        self.reset();
        self.is_closing = is_closing;
        self.agenda.leave();
        self.agenda.schedule()
    }

    /// These blocks wait no more to be written early.
    pub(crate) fn note_spilled(&mut self, blocks: &Blocks) {
        // A close in between has forgotten them already.
        self.spilling_bytes = self.spilling_bytes.saturating_sub(memory_bytes(blocks));
    }
}

impl Op {
    /// Whether it has to wait for what is being hashed.
    const fn is_barrier(&self) -> bool {
        matches!(self, Self::Check(..) | Self::Sync | Self::Close)
    }
}

impl Agenda {
    /// Adds what was asked for, in the order of the asking.
    pub(crate) fn push(&mut self, op: Op) -> Schedule {
        let must_wait = op.is_barrier() && !self.tickets.is_empty();
        if must_wait || !self.waiting.is_empty() {
            self.waiting.push_back((self.next_ticket, op));
            return Schedule::NotNeeded;
        }
        self.push_now(op)
    }

    /// Adds what follows from something that was asked for before anything that waits.
    pub(crate) fn push_now(&mut self, op: Op) -> Schedule {
        self.ops.push_back(op);
        self.schedule()
    }

    /// Puts back what failed.
    pub(crate) fn put_back(&mut self, op: Op) {
        self.ops.push_front(op);
    }

    /// The next operation.
    pub(crate) fn pop(&mut self) -> Option<Op> {
        self.ops.pop_front()
    }

    /// The next operation, if it is a piece to write.
    pub(crate) fn pop_write(&mut self) -> Option<Op> {
        self.ops.pop_front_if(|op| matches!(op, Op::Write { .. }))
    }

    /// Whether there is nothing that could be done now.
    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Asks for a disk thread, if none has the torrent.
    pub(crate) fn schedule(&mut self) -> Schedule {
        if std::mem::replace(&mut self.is_scheduled, true) {
            Schedule::NotNeeded
        } else {
            Schedule::Needed
        }
    }

    /// The disk thread is through.
    pub(crate) fn leave(&mut self) {
        self.is_scheduled = false;
    }

    /// Begins to hash something.
    pub(crate) fn take_ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.tickets.insert(self.next_ticket - 1);
        self.next_ticket - 1
    }

    /// Something was hashed: what waited for it may go on.
    pub(crate) fn return_ticket(&mut self, ticket: u64) -> Schedule {
        self.tickets.remove(&ticket);
        let oldest = self.tickets.first().copied().unwrap_or(u64::MAX);
        let mut schedule = Schedule::NotNeeded;
        while let Some((_, op)) = self.waiting.pop_front_if(|(before, _)| *before <= oldest) {
            if self.push_now(op) == Schedule::Needed {
                schedule = Schedule::Needed;
            }
        }
        schedule
    }
}
