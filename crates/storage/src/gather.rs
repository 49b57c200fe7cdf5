//! Pieces that were received and wait to be hashed: many at once, when many come.
//!
//! A wide kernel hashes 8 or 16 pieces in little more time than one. Where pieces come so fast that waiting for a
//! few more costs nobody anything, one waits for them; where they come slowly, each is hashed at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use riverrun_base::PieceIndex;
use riverrun_hash::{Algorithm, Kernel};
use riverrun_metainfo::PieceHash;

use crate::cache::{Blocks, memory_bytes};
use crate::torrent::Torrent;

/// A piece that was received. What is being hashed holds a ticket, for which a close waits.
pub(crate) struct Received {
    pub(crate) torrent: Arc<Torrent>,
    pub(crate) ticket: u64,
    pub(crate) piece: PieceIndex,
    pub(crate) expected: PieceHash,
    pub(crate) blocks: Blocks,
}

/// When to call [`Gather::take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Now,
    At(Instant),
    /// A call that was asked for before is still to come.
    AsPlanned,
}

/// The pieces that wait.
pub(crate) struct Gather {
    /// How long one may wait for others.
    patience: Duration,
    /// With so much memory waiting it is enough.
    bytes_max: usize,
    /// How many are hashed together.
    lanes: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    pieces: VecDeque<Received>,
    /// How many of them, from the front, wait for a thread only. While there are such, a call of [`Gather::take`] is to
    /// come for them.
    released: usize,
    bytes: usize,
    pace: Pace,
    /// When the others need not wait any longer.
    until: Option<Instant>,
}

impl Waiting {
    /// Nobody waits for others any more.
    fn release(&mut self) {
        self.released = self.pieces.len();
        self.until = None;
    }
}

impl Gather {
    pub(crate) fn new(patience: Duration, bytes_max: usize) -> Self {
        Self {
            patience,
            bytes_max,
            lanes: Kernel::best(Algorithm::Sha1).lanes(),
            waiting: Mutex::default(),
        }
    }

    /// Hashes so many together, whatever kernel this machine was found to be best with.
    #[cfg(test)]
    pub(crate) fn with_lanes(self, lanes: usize) -> Self {
        Self { lanes, ..self }
    }

    /// Takes in a piece.
    pub(crate) fn add(&self, now: Instant, received: Received) -> When {
        // The blocks of a v2 piece are enough by themselves.
        let is_enough = received.expected.v1.is_none();
        let mut waiting = self.waiting();
        let gap = waiting.pace.note(now);
        waiting.bytes += memory_bytes(&received.blocks);
        waiting.pieces.push_back(received);
        // Worth a wait if at this pace some more come in time.
        let comes_fast = gap.is_some_and(|gap| gap * COMPANY_MIN <= self.patience);
        let waits = comes_fast && !self.patience.is_zero();
        let company = waiting.pieces.len() - waiting.released;
        if is_enough || !waits || company >= self.lanes || waiting.bytes >= self.bytes_max {
            let is_planned = waiting.released > 0;
            waiting.release();
            return if is_planned {
                When::AsPlanned
            } else {
                When::Now
            };
        }
        if waiting.until.is_some() {
            return When::AsPlanned;
        }
        let at = now + self.patience;
        waiting.until = Some(at);
        When::At(at)
    }

    /// The pieces to hash together next, and whether more can be hashed now. Nothing at a time that was planned for
    /// pieces which became enough before: those that wait now have a time of their own. Who still waits for others is
    /// left alone, as some that are hashed by themselves cost as much as all lanes together.
    pub(crate) fn take(&self, planned: Option<Instant>) -> (Vec<Received>, bool) {
        let mut waiting = self.waiting();
        if planned.is_some() {
            if waiting.until != planned {
                return (Vec::new(), false);
            }
            waiting.release();
        }
        let count = waiting.released.min(self.lanes);
        let taken: Vec<Received> = waiting.pieces.drain(..count).collect();
        let bytes: usize = taken.iter().map(|it| memory_bytes(&it.blocks)).sum();
        waiting.bytes -= bytes;
        waiting.released -= count;
        (taken, waiting.released > 0)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How fast pieces come.
#[derive(Default)]
struct Pace {
    last: Option<Instant>,
    /// Between two, on average; unknown before the second.
    gap: Option<Duration>,
}

impl Pace {
    /// A piece has come; the time between two, on average.
    fn note(&mut self, now: Instant) -> Option<Duration> {
        let last = self.last.replace(now)?;
        let gap = now.saturating_duration_since(last).min(GAP_MAX);
        let average = self.gap.map_or(gap, |average| (average * 3 + gap) / 4);
        self.gap = Some(average);
        self.gap
    }
}

/// A longer gap counts as this, so that a download which goes on after a pause is soon known to be fast.
const GAP_MAX: Duration = Duration::from_millis(50);

/// How many others have to be expected for a wait.
const COMPANY_MIN: u32 = 4;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use riverrun_base::{Block, Sha1Digest};
    use riverrun_swarm::TorrentKey;

    use super::*;
    use crate::cache::Slot;
    use crate::config::StorageOptions;
    use crate::ground::Site;

    const PATIENCE: Duration = Duration::from_millis(20);

    fn received(v1: bool) -> Received {
        let site = Site {
            torrent: TorrentKey::new(0, 0),
            root: PathBuf::from("/"),
            options: StorageOptions::default(),
        };
        let v1 = v1.then_some(Sha1Digest([0; 20]));
        Received {
            torrent: Arc::new(Torrent::new(site)),
            ticket: 0,
            piece: PieceIndex(0),
            expected: PieceHash { v1, v2: None },
            blocks: vec![Slot::Memory(Block::unbudgeted(&[0; 10]))],
        }
    }

    /// When pieces are hashed of which each comes so many milliseconds after the last; `At` is after all patience.
    fn check(gather: &Gather, start: Instant, gaps: &[u64], v1: bool, expect: &[When]) {
        let mut now = start;
        for (gap, expect) in gaps.iter().zip(expect) {
            now += Duration::from_millis(*gap);
            let found = gather.add(now, received(v1));
            let expect = match expect {
                When::At(_) => When::At(now + PATIENCE),
                other => *other,
            };
            assert_eq!(found, expect, "after {:?}", now - start);
        }
    }

    #[test]
    fn pieces_wait_for_others_only_where_many_come() {
        use When::{AsPlanned, At, Now};
        let start = Instant::now();
        let gather = || Gather::new(PATIENCE, usize::MAX).with_lanes(8);
        let slow = gather();
        check(&slow, start, &[0], true, &[Now]);
        assert_eq!(slow.take(None).0.len(), 1);
        check(&slow, start, &[100], true, &[Now]);
        let fast = gather();
        check(&fast, start, &[0], true, &[Now]);
        assert_eq!(fast.take(None).0.len(), 1);
        check(
            &fast,
            start,
            &[1, 1, 1],
            true,
            &[At(start), AsPlanned, AsPlanned],
        );
        check(&gather(), start, &[1, 1], false, &[Now, AsPlanned]);
        let narrow = Gather::new(PATIENCE, 20).with_lanes(8);
        check(&narrow, start, &[1], true, &[Now]);
        assert_eq!(narrow.take(None).0.len(), 1);
        check(&narrow, start, &[1, 1], true, &[At(start), Now]);
        check(
            &Gather::new(Duration::ZERO, 99).with_lanes(8),
            start,
            &[1, 1],
            true,
            &[Now, AsPlanned],
        );
    }

    #[test]
    fn as_many_are_taken_as_there_are_lanes_and_who_comes_after_them_waits() {
        let gather = Gather::new(PATIENCE, usize::MAX).with_lanes(8);
        let now = Instant::now();
        let add = |count: usize| (0..count).map(|_| gather.add(now, received(true))).last();
        add(1);
        assert_eq!(gather.take(None).0.len(), 1);
        assert_eq!(add(8), Some(When::Now));
        assert_eq!(add(3), Some(When::AsPlanned));
        let (first, more) = gather.take(None);
        assert_eq!((first.len(), more), (8, false));
        assert_eq!(gather.take(None).0.len(), 0, "three are not enough");
        let (rest, more) = gather.take(Some(now + PATIENCE));
        assert_eq!((rest.len(), more), (3, false));
        assert_eq!(add(8), Some(When::Now));
        assert_eq!(add(8), Some(When::AsPlanned), "they are called for");
        assert_eq!(gather.take(None).0.len(), 8);
        let (rest, more) = gather.take(None);
        assert_eq!((rest.len(), more), (8, false));
    }

    #[test]
    fn a_time_that_has_become_needless_takes_nothing_of_the_next_pieces() {
        let gather = Gather::new(PATIENCE, usize::MAX).with_lanes(8);
        let start = Instant::now();
        let add = |at| gather.add(start + Duration::from_millis(at), received(true));
        assert_eq!(add(0), When::Now);
        gather.take(None);
        let When::At(first) = add(1) else {
            panic!("pieces come fast")
        };
        for at in 2..=gather.lanes as u64 {
            add(at);
        }
        assert_eq!(gather.take(None).0.len(), gather.lanes);
        let When::At(second) = add(gather.lanes as u64 + 1) else {
            panic!("pieces come fast")
        };
        assert_eq!(gather.take(Some(first)).0.len(), 0);
        assert_eq!(gather.take(Some(second)).0.len(), 1);
    }
}
