//! Messages as blocks of 64 bytes: the end of a message that fills no block yet, and the padding after it
//! (FIPS 180-4, section 5).

use std::slice;

/// What SHA-1 and SHA-256 take at a time.
pub(crate) type Block = [u8; BLOCK_LEN];

pub(crate) const BLOCK_LEN: usize = 64;

/// The bytes of a message that fill no block yet, and how long the message is so far.
#[derive(Clone, Copy)]
pub(crate) struct Tail {
    /// Two, because padding may need a second one.
    blocks: [Block; 2],
    /// How many bytes of the first block are taken.
    taken: usize,
    /// Of the whole message, in bytes.
    len: u64,
}

impl Tail {
    pub(crate) const EMPTY: Self = Self {
        blocks: [[0; BLOCK_LEN]; 2],
        taken: 0,
        len: 0,
    };

    pub(crate) const fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// Takes bytes until the first block is full, and returns the others.
    pub(crate) fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (now, later) = bytes.split_at(bytes.len().min(BLOCK_LEN - self.taken));
        self.blocks[0][self.taken..][..now.len()].copy_from_slice(now);
        self.taken += now.len();
        self.len += now.len() as u64;
        later
    }

    /// Empties the first block if it is full. Its bytes stay readable until the next `fill`.
    pub(crate) const fn take_block(&mut self) -> Option<&[Block]> {
        if self.taken < BLOCK_LEN {
            return None;
        }
        self.taken = 0;
        Some(slice::from_ref(&self.blocks[0]))
    }

    /// The whole blocks at the start of `bytes`, and the rest. None while bytes wait in the tail.
    pub(crate) fn split<'a>(&mut self, bytes: &'a [u8]) -> (&'a [Block], &'a [u8]) {
        if self.taken > 0 {
            return (&[], bytes);
        }
        let (blocks, rest) = bytes.as_chunks();
        self.len += blocks.as_flattened().len() as u64;
        (blocks, rest)
    }

    /// The last blocks of the message: what waits, and the padding.
    pub(crate) fn pad(&mut self) -> &[Block] {
        let count = if self.taken < BLOCK_LEN - size_of::<u64>() {
            1
        } else {
            2
        };
        let last = self.blocks[..count].as_flattened_mut();
        last[self.taken..].fill(0);
        last[self.taken] = 0x80;
        let bits_at = last.len() - size_of::<u64>();
        last[bits_at..].copy_from_slice(&(self.len << 3).to_be_bytes());
        &self.blocks[..count]
    }
}

/// The padding of a message of `len` bytes that fill their blocks.
pub(crate) fn padding_of(len: usize) -> Block {
    debug_assert!(len.is_multiple_of(BLOCK_LEN));
    let mut tail = Tail {
        len: len as u64,
        ..Tail::EMPTY
    };
    tail.pad()[0]
}

/// Blocks in a row that a lane can take without looking up.
#[derive(Clone, Copy)]
enum Run<'a> {
    /// In the caller's memory.
    Outside(&'a [Block]),
    /// The blocks of the tail from the first of these numbers to the second.
    Tail(usize, usize),
}

/// What to do when the parts of a message are at their end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Pad: the message is whole.
    Pad,
    /// Leave bytes that fill no block in the tail: more may come.
    Keep,
}

/// A message in parts, as runs of blocks. Only blocks that lie across parts are copied.
pub(crate) struct Feed<'a> {
    part: &'a [u8],
    parts: slice::Iter<'a, &'a [u8]>,
    tail: Tail,
    ending: Ending,
    run: Run<'a>,
}

impl<'a> Feed<'a> {
    /// At the first run. There may be none: see [`Self::is_over`].
    pub(crate) fn new(tail: Tail, parts: &'a [&'a [u8]], ending: Ending) -> Self {
        let mut feed = Self {
            part: &[],
            parts: parts.iter(),
            tail,
            ending,
            run: Run::Outside(&[]),
        };
        feed.next_run();
        feed
    }

    /// A place where none is.
    pub(crate) fn vacant() -> Self {
        Self::new(Tail::EMPTY, &[], Ending::Keep)
    }

    /// The blocks that come next.
    pub(crate) fn blocks(&self) -> &[Block] {
        match self.run {
            Run::Outside(blocks) => blocks,
            Run::Tail(from, to) => &self.tail.blocks[from..to],
        }
    }

    /// Whether no block is left.
    pub(crate) fn is_over(&self) -> bool {
        self.blocks().is_empty()
    }

    /// What is left where it is over.
    pub(crate) const fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Goes on by `count` blocks, not more than there are in the run.
    pub(crate) fn advance(&mut self, count: usize) {
        match &mut self.run {
            Run::Outside(blocks) => *blocks = &blocks[count..],
            Run::Tail(from, _) => *from += count,
        }
        if self.is_over() {
            self.next_run();
        }
    }

    fn next_run(&mut self) {
        loop {
            let (blocks, rest) = self.tail.split(self.part);
            self.part = rest;
            if !blocks.is_empty() {
                self.run = Run::Outside(blocks);
                return;
            }
            self.part = self.tail.fill(self.part);
            if self.tail.take_block().is_some() {
                self.run = Run::Tail(0, 1);
                return;
            }
            let Some(part) = self.parts.next() else { break };
            self.part = part;
        }
        let count = match self.ending {
            Ending::Pad => self.tail.pad().len(),
            Ending::Keep => 0,
        };
        self.ending = Ending::Keep;
        self.run = Run::Tail(0, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The blocks that a feed gives, `step` at most at a time.
    fn drain(mut feed: Feed<'_>, step: usize) -> (Vec<Block>, Tail) {
        let mut blocks = Vec::new();
        while !feed.is_over() {
            let count = step.min(feed.blocks().len());
            blocks.extend(&feed.blocks()[..count]);
            feed.advance(count);
        }
        (blocks, *feed.tail())
    }

    #[test]
    fn a_message_in_any_parts_is_the_same_blocks() {
        let bytes: Vec<u8> = (0..=255).cycle().take(400).collect();
        for len in 0..300 {
            let message = &bytes[..len];
            let (whole, _) = drain(Feed::new(Tail::EMPTY, &[message], Ending::Pad), 9);
            assert_eq!(whole.len(), (len + 9).div_ceil(BLOCK_LEN));
            assert_eq!(&whole.as_flattened()[..len], message);
            for cut in [0, 1.min(len), len / 3, len / 2, len] {
                let (front, back) = message.split_at(cut);
                let parts = [front, &[], back];
                let (blocks, _) = drain(Feed::new(Tail::EMPTY, &parts, Ending::Pad), 1);
                assert_eq!(blocks, whole, "{len} bytes cut at {cut}");
            }
        }
    }

    #[test]
    fn a_message_that_goes_on_keeps_what_fills_no_block() {
        let bytes = [7; 200];
        let (blocks, tail) = drain(Feed::new(Tail::EMPTY, &[&bytes], Ending::Keep), 2);
        assert_eq!((blocks.len(), tail.taken, tail.len), (3, 8, 200));
        let (more, tail) = drain(Feed::new(tail, &[&bytes[..56]], Ending::Keep), 2);
        assert_eq!((more, tail.taken, tail.len), (vec![[7; BLOCK_LEN]], 0, 256));
    }

    #[test]
    fn padding_of_full_blocks_is_that_of_the_tail() {
        let zeros = [0; 192];
        let (blocks, _) = drain(Feed::new(Tail::EMPTY, &[&zeros], Ending::Pad), 4);
        assert_eq!(blocks[3], padding_of(192));
    }
}
