//! The states of many messages side by side, as vector instructions want them.

use std::array;

use crate::block::Block;

/// The most messages that any kernel advances at once: 512 bits of 32-bit words.
pub(crate) const LANES_MAX: usize = 16;

/// A state of `W` words a lane, word by word: row `i` holds the words `i` of all lanes.
#[repr(align(64))]
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Columns<const W: usize>(pub(crate) [[u32; LANES_MAX]; W]);

/// Advances lane `i` by the first `count` blocks of `runs[i]`, at most [`LANES_MAX`] lanes, and may leave
/// anything in the lanes after them.
///
/// Panics if a run has fewer blocks, or if the processor lacks the instructions.
pub(crate) type Step<const W: usize> =
    fn(columns: &mut Columns<W>, runs: &[&[Block]], count: usize);

impl<const W: usize> Columns<W> {
    /// The same state in all lanes.
    pub(crate) fn splat(words: &[u32; W]) -> Self {
        Self(words.map(|word| [word; LANES_MAX]))
    }

    pub(crate) fn set(&mut self, lane: usize, words: &[u32; W]) {
        for (row, word) in self.0.iter_mut().zip(words) {
            row[lane] = *word;
        }
    }

    pub(crate) fn words(&self, lane: usize) -> [u32; W] {
        array::from_fn(|word| self.0[word][lane])
    }
}
