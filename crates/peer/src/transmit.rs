//! Bytes on their way out: what waits to be sent, and the batch for one vectored write.

use std::collections::VecDeque;
use std::ops::Range;

use riverrun_base::{Block, BlockSpan, PieceIndex, Time};

use crate::codec::message::{Message, encode_piece_head};
use crate::handshake::Greeting;
use crate::pace::Pace;

/// How many chunks that are at most: 32 blocks and what stands before each. A system call takes more, but
/// tiny blocks are not worth an entry each without end.
const BATCH_CHUNKS: usize = 2 * 32;
/// A scratch buffer larger than this is given back once it is empty.
const SCRATCH_KEEP_LEN: usize = 64 * 1024;

/// Chunks for one vectored write. Reused: a driver keeps one for each connection that has something to send.
///
/// Small things share a scratch buffer; blocks are referenced. After a write [`SendBatch::advance`] drops what
/// has been written, and the rest stays.
#[derive(Debug, Default)]
pub struct SendBatch {
    scratch: Vec<u8>,
    chunks: VecDeque<Chunk>,
    /// How much of the first chunk has been written.
    written: usize,
    len_bytes: usize,
    pace: Pace,
    /// How many bytes have ever been written.
    gone: u64,
    /// The blocks, and how many bytes will have been written after each.
    blocks: VecDeque<(u64, BlockSpan)>,
}

/// A place in a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    chunks: usize,
    scratch: usize,
}

#[derive(Debug)]
enum Chunk {
    Scratch(Range<usize>),
    Block(Block),
}

impl SendBatch {
    /// Nothing to send.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes are to be written.
    pub const fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// How many bytes a driver lets wait in the transport, as far as it can tell it so: what it has taken in a moment
    /// lately. What is there can be neither taken back nor overtaken.
    pub const fn waiting_max(&self) -> usize {
        self.pace.waiting_max()
    }

    /// Whether nothing is to be written.
    pub const fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }

    /// The bytes to be written, in order.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let first = std::iter::once(self.written);
        let starts = first.chain(std::iter::repeat(0));
        let whole = self.chunks.iter().map(|chunk| match chunk {
            Chunk::Scratch(range) => &self.scratch[range.clone()],
            Chunk::Block(block) => block,
        });
        whole.zip(starts).map(|(slice, start)| &slice[start..])
    }

    /// The first `len` bytes have been written.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn advance(&mut self, mut len: usize) {
        self.len_bytes = self
            .len_bytes
            .checked_sub(len)
            .expect("no more is written than was there");
        self.gone += len as u64;
        while let Some(chunk) = self.chunks.front() {
            let left = chunk.len() - self.written;
            if len < left {
                self.written += len;
                return;
            }
            len -= left;
            self.written = 0;
            self.chunks.pop_front();
        }
        self.empty();
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.empty();
        self.blocks.clear();
    }

    fn empty(&mut self) {
        self.chunks.clear();
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH_KEEP_LEN);
        (self.written, self.len_bytes) = (0, 0);
    }

    /// It is about to be filled: if it is empty, what was in it is with the transport.
    pub(crate) fn begin(&mut self, now: Time) {
        if self.is_empty() {
            self.pace.emptied(now);
        }
    }

    /// It was filled.
    pub(crate) fn end(&mut self, now: Time) {
        self.pace.filled(now, self.len_bytes);
    }

    /// The next block that is with the transport to its last byte.
    pub(crate) fn pop_gone(&mut self) -> Option<BlockSpan> {
        let (_, span) = self.blocks.pop_front_if(|(end, _)| *end <= self.gone)?;
        Some(span)
    }

    /// How many bytes there is room for; a block is taken whole if there is any.
    pub(crate) fn room(&self) -> usize {
        if self.chunks.len() >= BATCH_CHUNKS {
            return 0;
        }
        // The scratch buffer is only emptied with the batch, however often that is topped up before.
        self.pace
            .portion()
            .saturating_sub(self.len_bytes.max(self.scratch.len()))
    }

    /// Where the batch ends now.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            chunks: self.chunks.len(),
            scratch: self.scratch.len(),
        }
    }

    /// Changes what was appended since `mark`. Blocks are copied first: they are others' too.
    pub(crate) fn rewrite(&mut self, mark: Mark, mut change: impl FnMut(&mut [u8])) {
        // What was written since may have become part of the chunk before.
        let before = mark.chunks.saturating_sub(1);
        for (index, chunk) in self.chunks.iter_mut().enumerate().skip(before) {
            match chunk {
                Chunk::Block(_) if index < mark.chunks => {}
                Chunk::Scratch(range) => {
                    let start = range.start.max(mark.scratch);
                    if start < range.end {
                        change(&mut self.scratch[start..range.end]);
                    }
                }
                Chunk::Block(block) => {
                    let start = self.scratch.len();
                    self.scratch.extend_from_slice(block);
                    change(&mut self.scratch[start..]);
                    *chunk = Chunk::Scratch(start..self.scratch.len());
                }
            }
        }
    }

    /// Appends small things.
    pub(crate) fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.scratch.len();
        write(&mut self.scratch);
        let end = self.scratch.len();
        self.len_bytes += end - start;
        match self.chunks.back_mut() {
            Some(Chunk::Scratch(last)) if last.end == start => last.end = end,
            _ if start == end => {}
            _ => self.chunks.push_back(Chunk::Scratch(start..end)),
        }
    }

    /// Appends a `piece` message.
    pub(crate) fn push_block(&mut self, span: BlockSpan, block: Block) {
        self.write(|scratch| encode_piece_head(span, scratch));
        self.len_bytes += block.len();
        self.chunks.push_back(Chunk::Block(block));
        self.blocks
            .push_back((self.gone + self.len_bytes as u64, span));
    }
}

impl Chunk {
    fn len(&self) -> usize {
        match self {
            Self::Scratch(range) => range.len(),
            Self::Block(block) => block.len(),
        }
    }
}

/// All that waits to be sent except blocks and metadata, which their own queues hold until there is room.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// Whole messages, one after the other.
    bytes: Vec<u8>,
    /// How much of `bytes` is gone.
    gone: usize,
    haves: Haves,
}

/// Pieces to tell of. Held as numbers until the moment of sending, so that several go together and one that is lost
/// again is never told.
#[derive(Debug, Default)]
struct Haves {
    waiting: VecDeque<PieceIndex>,
    /// They are sent even if nothing else is.
    are_due: bool,
}

impl Outgoing {
    pub(crate) fn greet(&mut self, greeting: Greeting) {
        greeting.encode(&mut self.bytes);
    }

    pub(crate) fn send(&mut self, message: Message<'_>) {
        message.encode(&mut self.bytes);
    }

    /// If there is nothing else to send.
    pub(crate) fn keep_alive(&mut self) {
        if self.len_bytes() == 0 {
            self.bytes.extend_from_slice(&[0; 4]);
        }
    }

    /// Tells of a piece when something else is sent, or when it is [urged](Self::urge_haves).
    pub(crate) fn have(&mut self, piece: PieceIndex) {
        self.haves.waiting.push_back(piece);
    }

    /// Tells of pieces that wait now, even if nothing else is sent.
    pub(crate) fn urge_haves(&mut self) {
        self.haves.are_due = true;
    }

    /// Whether there are pieces to tell of.
    pub(crate) fn has_haves(&self) -> bool {
        !self.haves.waiting.is_empty()
    }

    /// Takes back a piece that was not yet told of; whether it was there.
    pub(crate) fn unhave(&mut self, piece: PieceIndex) -> bool {
        let haves = &mut self.haves.waiting;
        let before = haves.len();
        haves.retain(|waiting| *waiting != piece);
        haves.len() < before
    }

    /// How many bytes wait, without pieces to tell of: those are our doing alone.
    pub(crate) const fn answer_bytes(&self) -> usize {
        self.bytes.len() - self.gone
    }

    pub(crate) fn len_bytes(&self) -> usize {
        // A `have` is nine bytes.
        self.answer_bytes() + self.haves.waiting.len() * 9
    }

    /// Moves what there is room for; whether all is gone, so that something else may follow.
    pub(crate) fn drain(&mut self, batch: &mut SendBatch) -> bool {
        let len = batch.room().min(self.bytes.len() - self.gone);
        let range = self.gone..self.gone + len;
        batch.write(|scratch| scratch.extend_from_slice(&self.bytes[range]));
        self.gone += len;
        if self.gone < self.bytes.len() {
            return false;
        }
        self.bytes.clear();
        self.bytes.shrink_to(SCRATCH_KEEP_LEN);
        self.gone = 0;
        if !self.haves.are_due && batch.is_empty() {
            return true;
        }
        while batch.room() > 0 {
            let Some(piece) = self.haves.waiting.pop_front() else {
                self.haves.are_due = false;
                return true;
            };
            batch.write(|scratch| Message::Have(piece).encode(scratch));
        }
        self.haves.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: BlockSpan = BlockSpan {
        piece: PieceIndex(0),
        offset: 0,
        len: 3,
    };

    fn bytes(batch: &SendBatch) -> Vec<u8> {
        let bytes: Vec<u8> = batch.slices().flatten().copied().collect();
        assert_eq!(bytes.len(), batch.len_bytes());
        bytes
    }

    #[test]
    fn a_batch_can_be_written_in_any_portions() {
        let mut whole = SendBatch::new();
        let fill = |batch: &mut SendBatch| {
            batch.write(|scratch| scratch.extend_from_slice(b"ab"));
            batch.write(|scratch| scratch.extend_from_slice(b"cd"));
            batch.push_block(SPAN, Block::unbudgeted(b"xyz"));
            batch.push_block(SPAN, Block::unbudgeted(b"uvw"));
            batch.write(|_| {});
            batch.write(|scratch| scratch.push(b'!'));
        };
        fill(&mut whole);
        assert_eq!(whole.slices().count(), 5);
        let expected = bytes(&whole);
        assert!(expected.starts_with(b"abcd") && expected.ends_with(b"uvw!"));
        for portion in 1..=expected.len() {
            let mut batch = SendBatch::new();
            fill(&mut batch);
            let mut out = Vec::new();
            while !batch.is_empty() {
                let len = portion.min(batch.len_bytes());
                out.extend_from_slice(&bytes(&batch)[..len]);
                batch.advance(len);
            }
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn more_can_follow_what_is_half_written() {
        let mut batch = SendBatch::new();
        batch.write(|scratch| scratch.extend_from_slice(b"abc"));
        batch.advance(2);
        batch.write(|scratch| scratch.extend_from_slice(b"de"));
        assert_eq!(bytes(&batch), b"cde");
    }

    #[test]
    fn what_came_after_a_mark_is_changed_and_blocks_stay_as_they_were() {
        let mut batch = SendBatch::new();
        batch.write(|scratch| scratch.extend_from_slice(b"ab"));
        batch.push_block(SPAN, Block::unbudgeted(b"xyz"));
        let block = Block::unbudgeted(b"uvw");
        let flip = |bytes: &mut [u8]| bytes.iter_mut().for_each(|byte| *byte ^= 0x80);
        for count in 0..3 {
            let before = bytes(&batch);
            let mark = batch.mark();
            batch.write(|scratch| scratch.push(b'c'));
            (0..count).for_each(|_| batch.push_block(SPAN, block.clone()));
            batch.write(|scratch| scratch.push(b'd'));
            let mut expected = bytes(&batch);
            flip(&mut expected[before.len()..]);
            batch.rewrite(mark, flip);
            assert_eq!(bytes(&batch), expected);
        }
        assert_eq!(&block[..], b"uvw");
    }

    #[test]
    fn haves_go_together_and_a_lost_piece_is_not_told() {
        let mut out = Outgoing::default();
        (0..3).for_each(|piece| out.have(PieceIndex(piece)));
        assert!(out.unhave(PieceIndex(1)) && !out.unhave(PieceIndex(1)));
        out.send(Message::Unchoke);
        out.keep_alive();
        let mut batch = SendBatch::new();
        assert!(out.drain(&mut batch));
        let haves = [0, 0, 0, 5, 4, 0, 0, 0, 0, 0, 0, 0, 5, 4, 0, 0, 0, 2];
        assert_eq!(bytes(&batch), [&[0, 0, 0, 1, 1][..], &haves].concat());
        assert_eq!(out.len_bytes(), 0);
    }

    #[test]
    fn a_batch_is_bounded_however_much_waits() {
        let mut out = Outgoing::default();
        let payload = &vec![0; 100_000];
        (0..5).for_each(|_| out.send(Message::Extended { id: 1, payload }));
        let mut batch = SendBatch::new();
        assert!(!out.drain(&mut batch));
        assert_eq!(batch.len_bytes(), batch.pace.portion());
        while !out.drain(&mut batch) {
            batch.clear();
        }
    }

    #[test]
    fn blocks_are_gone_when_their_last_byte_is() {
        let mut batch = SendBatch::new();
        let spans = [1, 2].map(|piece| BlockSpan {
            piece: PieceIndex(piece),
            ..SPAN
        });
        for span in spans {
            batch.push_block(span, Block::unbudgeted(b"xyz"));
        }
        let message = batch.len_bytes() / 2;
        batch.advance(message - 1);
        assert_eq!(batch.pop_gone(), None);
        batch.advance(1 + message - 1);
        assert_eq!((batch.pop_gone(), batch.pop_gone()), (Some(spans[0]), None));
        batch.advance(1);
        assert_eq!((batch.pop_gone(), batch.pop_gone()), (Some(spans[1]), None));
    }
}
