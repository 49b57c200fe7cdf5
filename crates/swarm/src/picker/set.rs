//! Sets of pieces that are searched together with a peer's bitfield, 64 pieces a step.

use riverrun_base::{Bitfield, PieceIndex};

/// A set of piece indices below a fixed bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PieceSet {
    /// Piece 0 is the highest bit of the first word, as in a bitfield on the wire.
    words: Box<[u64]>,
}

impl PieceSet {
    /// No piece out of `len`.
    pub(crate) fn new(len: u32) -> Self {
        Self {
            words: vec![0; (len as usize).div_ceil(64)].into(),
        }
    }

    pub(crate) fn has(&self, piece: PieceIndex) -> bool {
        self.words
            .get(piece.as_usize() / 64)
            .is_some_and(|word| word & bit(piece) != 0)
    }

    pub(crate) fn insert(&mut self, piece: PieceIndex) {
        self.words[piece.as_usize() / 64] |= bit(piece);
    }

    pub(crate) fn remove(&mut self, piece: PieceIndex) {
        self.words[piece.as_usize() / 64] &= !bit(piece);
    }

    /// The pieces of this set that `have` has too, from `start` on and then from the beginning.
    pub(crate) fn shared_from<'a>(
        &'a self,
        have: &'a Bitfield,
        start: PieceIndex,
    ) -> impl Iterator<Item = PieceIndex> + 'a {
        let first = start.as_usize() / 64;
        let count = self.words.len();
        let before = bit(start).wrapping_sub(1) | bit(start);
        // The first word comes twice: its end at first, its beginning at last.
        (0..=count)
            .filter(move |_| first < count)
            .flat_map(move |step| {
                let at = (first + step) % count;
                let mask = match step {
                    0 => before,
                    _ if step == count => !before,
                    _ => u64::MAX,
                };
                ones(at, self.words[at] & word_of(have, at) & mask)
            })
    }
}

/// The 64 pieces of a bitfield that word number `at` stands for.
fn word_of(field: &Bitfield, at: usize) -> u64 {
    let bytes = field.as_bytes();
    let mut word = [0; 8];
    let rest = bytes.get(at * 8..).unwrap_or(&[]);
    let len = rest.len().min(8);
    word[..len].copy_from_slice(&rest[..len]);
    u64::from_be_bytes(word)
}

fn ones(at: usize, mut word: u64) -> impl Iterator<Item = PieceIndex> {
    let base = u32::try_from(at * 64).unwrap_or(u32::MAX);
    std::iter::from_fn(move || {
        let lead = (word != 0).then(|| word.leading_zeros())?;
        word &= !(1 << 63 >> lead);
        Some(PieceIndex(base + lead))
    })
}

const fn bit(piece: PieceIndex) -> u64 {
    1 << 63 >> (piece.0 % 64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_search_gives_each_shared_piece_once_in_cyclic_order(
            ours in prop::collection::btree_set(0_u32..200, 0..60),
            theirs in prop::collection::btree_set(0_u32..200, 0..60),
            start in 0_u32..200,
        ) {
            let mut set = PieceSet::new(200);
            let mut have = Bitfield::new(200);
            for piece in &ours {
                set.insert(PieceIndex(*piece));
            }
            for piece in &theirs {
                have.set(PieceIndex(*piece));
            }
            let found: Vec<u32> = set.shared_from(&have, PieceIndex(start)).map(|p| p.0).collect();
            let (late, early): (Vec<u32>, Vec<u32>) =
                ours.intersection(&theirs).copied().partition(|piece| *piece >= start);
            prop_assert_eq!(found, [late, early].concat());
        }
    }

    #[test]
    fn an_empty_set_is_searched_without_a_word() {
        let found = PieceSet::new(0)
            .shared_from(&Bitfield::new(0), PieceIndex(0))
            .count();
        assert_eq!(found, 0);
    }
}
