//! One pass over the pieces of a torrent, on all cores.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use riverrun_base::PieceIndex;

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

/// Runs `each` for all pieces, in order, on `threads` threads, each with a state of its own; gives the results by
/// piece, which lack some if the pass was cancelled, or the first error.
///
/// The threads read neighbouring pieces at the same time, so that the disk sees one run through the files.
pub(crate) fn run<S: Default, T: Send, E: Send>(
    pieces: u32,
    threads: NonZero<usize>,
    tally: &Tally<'_>,
    each: impl Fn(&mut S, PieceIndex) -> Result<T, E> + Sync,
) -> Result<Vec<(PieceIndex, T)>, E> {
    let next = AtomicU32::new(0);
    let work = || {
        let (mut state, mut done) = (S::default(), Vec::new());
        while !tally.is_over() {
            // Never wraps: each thread stops at the first number past the end.
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces {
                break;
            }
            let result = each(&mut state, PieceIndex(piece));
            let result = result.inspect_err(|_| tally.failed.store(true, Ordering::Relaxed));
            done.push((PieceIndex(piece), result?));
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
    let mut all: Vec<(PieceIndex, T)> = results.into_iter().flatten().collect();
    all.sort_by_key(|(piece, _)| *piece);
    Ok(all)
}
