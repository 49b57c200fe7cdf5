//! Rounds in which a whole file system is made durable, so that what was found in place by thousands of torrents costs
//! one sync, not one a file.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The rounds of all file systems.
#[derive(Debug, Default)]
pub(crate) struct Rounds(Mutex<State>);

/// A moment between two rounds: what is on a file system at that moment is durable after the next round there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

#[derive(Debug, Default)]
struct State {
    /// How many rounds were begun.
    begun: u64,
    /// The number of the last round of each device that went well.
    last: BTreeMap<u64, u64>,
}

impl Rounds {
    /// The moment that is now.
    pub(crate) fn now(&self) -> Moment {
        Moment(self.state().begun)
    }

    /// Whether what was on a device at that moment is durable by a round that others have begun.
    pub(crate) fn is_past(&self, device: u64, moment: Moment) -> bool {
        let state = self.state();
        state
            .last
            .get(&device)
            .is_some_and(|round| *round > moment.0)
    }

    /// Sees that what is on a device now is durable; `sync` does so. Rounds come one after the other.
    pub(crate) fn run(
        &self,
        device: u64,
        moment: Moment,
        sync: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = self.state();
        // Others may have done it while we waited for the lock.
        if state
            .last
            .get(&device)
            .is_some_and(|round| *round > moment.0)
        {
            return Ok(());
        }
        state.begun += 1;
        let round = state.begun;
        sync()?;
        state.last.insert(device, round);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
