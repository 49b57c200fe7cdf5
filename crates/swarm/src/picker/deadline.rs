//! Pieces that a reader waits for.

use std::collections::{BTreeMap, BTreeSet};

use riverrun_base::{PieceIndex, Time};

/// How many pieces may have a deadline: more than any reader's window, few enough to be looked through.
const DEADLINES_MAX: usize = 4096;

/// How many of the most urgent pieces one choice looks at.
pub(super) const URGENT_MAX: usize = 32;

/// Pieces by the time until which they are wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Deadlines {
    by_time: BTreeSet<(Time, PieceIndex)>,
    by_piece: BTreeMap<PieceIndex, Time>,
}

impl Deadlines {
    /// Sets or moves a deadline. When there are too many the latest is forgotten.
    pub(super) fn set(&mut self, piece: PieceIndex, at: Time) {
        self.remove(piece);
        self.by_time.insert((at, piece));
        self.by_piece.insert(piece, at);
        if self.by_piece.len() > DEADLINES_MAX
            && let Some((_, latest)) = self.by_time.pop_last()
        {
            self.by_piece.remove(&latest);
        }
    }

    pub(super) fn remove(&mut self, piece: PieceIndex) {
        if let Some(at) = self.by_piece.remove(&piece) {
            self.by_time.remove(&(at, piece));
        }
    }

    pub(super) fn clear(&mut self) {
        self.by_time.clear();
        self.by_piece.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }

    /// The most urgent pieces, the earliest deadline first.
    pub(super) fn urgent(&self) -> impl Iterator<Item = (Time, PieceIndex)> + '_ {
        self.by_time.iter().copied().take(URGENT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_is_the_most_urgent_and_a_deadline_can_move() {
        let mut deadlines = Deadlines::default();
        deadlines.set(PieceIndex(1), Time::from_secs(5));
        deadlines.set(PieceIndex(2), Time::from_secs(3));
        deadlines.set(PieceIndex(1), Time::from_secs(1));
        let order: Vec<u32> = deadlines.urgent().map(|(_, piece)| piece.0).collect();
        assert_eq!(order, [1, 2]);
        deadlines.remove(PieceIndex(1));
        assert_eq!(deadlines.urgent().count(), 1);
        assert!(!deadlines.is_empty());
    }

    #[test]
    fn deadlines_are_bounded_and_the_latest_goes() {
        let mut deadlines = Deadlines::default();
        for piece in 0..5000_u32 {
            deadlines.set(PieceIndex(piece), Time::from_secs(u64::from(piece)));
        }
        assert_eq!(deadlines.by_piece.len(), DEADLINES_MAX);
        assert_eq!(deadlines.by_time.len(), DEADLINES_MAX);
        assert!(deadlines.by_piece.contains_key(&PieceIndex(0)));
    }
}
