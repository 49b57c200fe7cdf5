//! One pass over the pieces of a torrent, on all cores, several pieces side by side on each.

use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use riverrun_base::PieceIndex;
use riverrun_metainfo::Layout;

use crate::abreast;

/// How far a pass over files has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are through.
    pub done_bytes: u64,
    /// All bytes.
    pub total_bytes: u64,
    /// How long it took up to here.
    pub elapsed: Duration,
}

impl Progress {
    /// The average speed up to here.
    pub fn bytes_per_second(&self) -> u64 {
        let micros = self.elapsed.as_micros().max(1);
        let rate = u128::from(self.done_bytes) * 1_000_000 / micros;
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

/// What watches a pass, and may end it.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Called with how far it is, from several threads, after each mebibyte or so.
    pub progress: &'a (dyn Fn(Progress) + Sync),
    /// Set to true, it ends the pass soon.
    pub cancel: &'a AtomicBool,
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Watch(cancel: {})", self.cancel.load(Ordering::Relaxed))
    }
}

/// Counts what the threads of one pass have done.
pub(crate) struct Tally<'a> {
    watch: Watch<'a>,
    done_bytes: AtomicU64,
    total_bytes: u64,
    started: Instant,
    /// A thread has met an error: the others need not go on.
    failed: AtomicBool,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(watch: Watch<'a>, total_bytes: u64) -> Self {
        let (done_bytes, failed) = (AtomicU64::new(0), AtomicBool::new(false));
        Self {
            watch,
            done_bytes,
            total_bytes,
            started: Instant::now(),
            failed,
        }
    }

    /// More bytes are through.
    pub(crate) fn add(&self, bytes: u64) {
        let done_bytes = self.done_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let (total_bytes, elapsed) = (self.total_bytes, self.started.elapsed());
        (self.watch.progress)(Progress {
            done_bytes,
            total_bytes,
            elapsed,
        });
    }

    /// Whether it was asked to end.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.watch.cancel.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.is_cancelled() || self.failed.load(Ordering::Relaxed)
    }
}

/// What a thread does next.
pub(crate) struct Turn {
    /// The pieces to hash side by side.
    pub(crate) pieces: Range<u32>,
    /// Pieces of which the disk is to be told, since they come soon.
    ahead: Range<u32>,
}

impl Turn {
    pub(crate) fn ahead(&self) -> Vec<PieceIndex> {
        self.ahead.clone().map(PieceIndex).collect()
    }
}

/// All pieces of a torrent, in order, for several threads.
pub(crate) struct Turns {
    pieces: u32,
    group_len: u32,
    ahead_len: u32,
    next: AtomicU32,
    /// Up to which piece the disk was told.
    told: AtomicU32,
}

impl Turns {
    pub(crate) fn new(layout: &Layout, threads: NonZero<usize>) -> Self {
        let pieces = layout.piece_count();
        let threads = u32::try_from(threads.get()).unwrap_or(u32::MAX);
        // Threads that have nothing to do cost more than lanes that are empty.
        let share = pieces.div_ceil(threads).max(1);
        let group_len = abreast::group_len(layout).min(share);
        Self {
            pieces,
            group_len,
            ahead_len: abreast::pieces_ahead(layout, group_len),
            next: AtomicU32::new(0),
            told: AtomicU32::new(0),
        }
    }

    fn next(&self) -> Option<Turn> {
        // Never wraps: each thread stops at the first number past the end.
        let start = self.next.fetch_add(self.group_len, Ordering::Relaxed);
        if start >= self.pieces {
            return None;
        }
        let until = |count: u32| start.saturating_add(count).min(self.pieces);
        let end = until(self.group_len);
        let horizon = until(self.group_len.saturating_add(self.ahead_len));
        let told = self.told.fetch_max(horizon, Ordering::Relaxed);
        Some(Turn {
            pieces: start..end,
            // The first turns begin with pieces that nobody has told of.
            ahead: told..horizon.max(told),
        })
    }
}

/// Runs `each` for all turns on `threads` threads, each with a state of its own; gives the results in the order of
/// the pieces, which lack some if the pass was cancelled, or the first error.
///
/// The threads read neighbouring pieces at the same time, so that the disk sees one run through the files.
pub(crate) fn run<S: Default, T: Send, E: Send>(
    turns: &Turns,
    threads: NonZero<usize>,
    tally: &Tally<'_>,
    each: impl Fn(&mut S, &Turn) -> Result<Vec<T>, E> + Sync,
) -> Result<Vec<T>, E> {
    let work = || {
        let (mut state, mut done) = (S::default(), Vec::new());
        while !tally.is_over()
            && let Some(turn) = turns.next()
        {
            let result = each(&mut state, &turn);
            let result = result.inspect_err(|_| tally.failed.store(true, Ordering::Relaxed));
            done.push((turn.pieces.start, result?));
        }
        Ok(done)
    };
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.get()).map(|_| scope.spawn(work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect::<Result<Vec<_>, E>>()
    })?;
    let mut all: Vec<(u32, Vec<T>)> = results.into_iter().flatten().collect();
    all.sort_by_key(|(start, _)| *start);
    Ok(all.into_iter().flat_map(|(_, done)| done).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fixture::Fixture;
    use riverrun_metainfo::MetaVersion;

    #[test]
    fn each_piece_has_one_turn_and_the_disk_is_told_of_it_once_before() {
        for (version, piece_len) in [(MetaVersion::V1, 16 << 10), (MetaVersion::V2, 64 << 10)] {
            let fixture = Fixture::single(version, piece_len, 5 << 20);
            let turns = Turns::new(fixture.layout(), NonZero::new(2).unwrap());
            let (mut pieces, mut told) = (Vec::new(), Vec::new());
            while let Some(turn) = turns.next() {
                told.extend(turn.ahead());
                pieces.extend(turn.pieces.clone().map(PieceIndex));
                assert!(told.len() >= pieces.len());
            }
            let all: Vec<PieceIndex> = fixture.pieces().collect();
            assert_eq!((pieces, told), (all.clone(), all), "{version:?}");
        }
    }
}
