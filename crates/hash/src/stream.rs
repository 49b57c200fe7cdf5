//! One message, given in parts over time.

use crate::block::{Block, Tail};

/// Takes the blocks of one message.
pub(crate) type Compress<const W: usize> = fn(words: &mut [u32; W], blocks: &[Block]);

/// A message on its way: the state after its whole blocks, and the bytes that wait for more.
#[derive(Clone)]
pub(crate) struct Stream<const W: usize> {
    pub(crate) words: [u32; W],
    pub(crate) tail: Tail,
}

impl<const W: usize> Stream<W> {
    pub(crate) const fn new(initial: [u32; W]) -> Self {
        Self {
            words: initial,
            tail: Tail::EMPTY,
        }
    }

    pub(crate) fn update(&mut self, compress: Compress<W>, bytes: &[u8]) {
        let bytes = if self.tail.is_empty() {
            bytes
        } else {
            self.tail.fill(bytes)
        };
        if let Some(block) = self.tail.take_block() {
            compress(&mut self.words, block);
        }
        let (blocks, rest) = self.tail.split(bytes);
        compress(&mut self.words, blocks);
        self.tail.fill(rest);
    }

    pub(crate) fn finish(mut self, compress: Compress<W>) -> [u32; W] {
        compress(&mut self.words, self.tail.pad());
        self.words
    }
}
