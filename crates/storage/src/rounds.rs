//! Rounds in which a whole file system is made durable, so that what was found in place by thousands of torrents costs
//! one sync, not one a file.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The rounds of all file systems.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// How many were begun.
    begun: AtomicU64,
    /// The number of the last round of each device that went well.
    last: Mutex<BTreeMap<u64, u64>>,
    /// Held by the one that goes on. A round takes as long as the disk does, and nobody else waits for it.
    turn: Mutex<()>,
}

/// A moment between two rounds: what is on a file system at that moment is durable after the next round there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Rounds {
    /// The moment that is now.
    pub(crate) fn now(&self) -> Moment {
        Moment(self.begun.load(Ordering::SeqCst))
    }

    /// Whether what was on a device at that moment is durable by a round that others have begun.
    pub(crate) fn is_past(&self, device: u64, moment: Moment) -> bool {
        let last = lock(&self.last);
        last.get(&device).is_some_and(|round| *round > moment.0)
    }

    /// Sees that what was on a device at that moment is durable; `sync` does so. Rounds come one after the other.
    pub(crate) fn run(
        &self,
        device: u64,
        moment: Moment,
        sync: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let _turn = lock(&self.turn);
        // Others may have done it while we waited for our turn.
        if self.is_past(device, moment) {
            return Ok(());
        }
        let round = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        sync()?;
        lock(&self.last).insert(device, round);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_serves_all_who_came_before_it_and_nobody_else() {
        let (rounds, mut syncs) = (Rounds::default(), 0);
        let early = rounds.now();
        assert!(!rounds.is_past(1, early));
        for _ in 0..3 {
            let sync = || {
                syncs += 1;
                Ok(())
            };
            rounds.run(1, early, sync).unwrap();
        }
        assert_eq!(syncs, 1);
        assert!(rounds.is_past(1, early) && !rounds.is_past(2, early));
        let late = rounds.now();
        assert!(!rounds.is_past(1, late));
        assert!(
            rounds
                .run(1, late, || Err(io::ErrorKind::Other.into()))
                .is_err()
        );
        assert!(!rounds.is_past(1, late), "it went wrong");
        rounds.run(1, late, || Ok(())).unwrap();
        assert!(rounds.is_past(1, late));
    }
}
