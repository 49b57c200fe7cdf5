//! How much is put together for one write.
//!
//! What the transport has can be neither taken back nor overtaken, so it is to have no more than it needs until it is
//! given more. On a fast line that is a lot, and many blocks share a system call; on a slow one it is a block.

use std::time::Duration;

use riverrun_base::{BLOCK_LEN, Time};

/// A batch is not to take longer than this: a choke, a cancel or a piece that is more urgent waits for it.
const TIME_MAX: Duration = Duration::from_millis(10);
/// Enough to amortise a system call.
const PORTION_MAX: usize = 512 * 1024;
/// How many of the longest batches wait for a line that takes each in less than [`TIME_MAX`]: with but one, whoever
/// writes has to be woken up for each, and leaves the line idle if the machine has other work.
const FAST_WAITING: usize = 2;
/// One block.
const PORTION_MIN: usize = BLOCK_LEN as usize;

/// Sets the size of batches by how long they take.
#[derive(Debug)]
pub(crate) struct Pace {
    portion: usize,
    /// When the batch was filled last that has not been written whole, and how long it was then.
    filled: Option<(Time, usize)>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            portion: PORTION_MIN,
            filled: None,
        }
    }
}

impl Pace {
    /// How many bytes a batch is to have, about.
    pub(crate) const fn portion(&self) -> usize {
        self.portion
    }

    /// How many bytes are to wait in the transport at most.
    pub(crate) const fn waiting_max(&self) -> usize {
        if self.portion < PORTION_MAX {
            self.portion
        } else {
            FAST_WAITING * PORTION_MAX
        }
    }

    /// A batch has so many bytes now.
    pub(crate) fn filled(&mut self, now: Time, len_bytes: usize) {
        if len_bytes > 0 {
            let (since, _) = *self.filled.get_or_insert((now, 0));
            self.filled = Some((since, len_bytes));
        }
    }

    /// The batch is written.
    pub(crate) fn emptied(&mut self, now: Time) {
        let Some((since, len_bytes)) = self.filled.take() else {
            return;
        };
        let took = now.since(since);
        if took > TIME_MAX {
            self.portion = (self.portion / 2).max(PORTION_MIN);
        } else if took < TIME_MAX / 2 && len_bytes >= self.portion {
            self.portion = (self.portion * 2).min(PORTION_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The portion in KiB after these batches.
    fn portion(took: &[u64]) -> usize {
        pace(took).portion() / 1024
    }

    /// After these batches, each full and written in so many microseconds.
    fn pace(took: &[u64]) -> Pace {
        let (mut pace, mut now) = (Pace::default(), Time::ZERO);
        for micros in took {
            pace.filled(now, pace.portion());
            now += Duration::from_micros(*micros);
            pace.emptied(now);
        }
        pace
    }

    #[test]
    fn a_batch_is_what_a_moment_takes() {
        assert_eq!(portion(&[]), 16);
        assert_eq!(portion(&[100; 3]), 128);
        assert_eq!(portion(&[100; 9]), 512, "there is a limit");
        assert_eq!(portion(&[7_000; 9]), 16, "a block takes 7 ms");
        assert_eq!(portion(&[100, 100, 7_000]), 64, "near enough");
        assert_eq!(portion(&[100, 100, 11_000]), 32);
        assert_eq!(portion(&[2_000_000; 9]), 16, "never less than a block");
    }

    #[test]
    fn more_than_a_batch_waits_only_on_a_fast_line() {
        let waiting = |took: &[u64]| pace(took).waiting_max() / 1024;
        assert_eq!(waiting(&[100; 4]), 256);
        assert_eq!(waiting(&[100; 5]), 1024);
        assert_eq!(waiting(&[100, 100, 100, 100, 100, 11_000]), 256);
    }

    #[test]
    fn time_without_anything_to_send_and_small_batches_say_nothing() {
        let mut pace = Pace::default();
        pace.emptied(Time::from_secs(9));
        pace.filled(Time::from_secs(9), 5);
        pace.emptied(Time::from_secs(9));
        assert_eq!(pace.portion(), PORTION_MIN);
    }
}
