//! Cuts the byte stream into messages.
//!
//! A message that is whole in the input is read in place. A `piece`'s bytes are copied once, into their
//! block, as they come. Everything else is assembled in one buffer that grows with what has arrived and
//! never by a claimed length; what a length may be is checked before the first byte is kept.

use riverrun_base::{BLOCK_LEN, BlockMut, BlockSpan, PieceIndex};

use crate::codec::message::{HASH_REQUEST_LEN, PIECE_HEAD_LEN, exact_len, id};
use crate::error::PeerMisbehaved;

/// The longest extended message. The largest in use is a piece of metadata, 16 KiB and its dictionary
/// (BEP 9); the rest is room for a handshake with many unknown keys.
pub(crate) const EXTENDED_LEN_MAX: u32 = 128 * 1024;
/// A buffer larger than this is given back after its message.
const BUFFER_KEEP_LEN: usize = 4 * 1024;

/// What the state of the connection allows of messages whose length varies, in bytes of payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The bitfield.
    pub(crate) bitfield: u32,
    /// The longest answer to a hash request of ours; `None` if none is due.
    pub(crate) hashes: Option<u32>,
}

/// A step of the stream.
#[derive(Debug)]
pub(crate) enum Frame<'a> {
    KeepAlive,
    /// A whole message, other than `piece`.
    Message {
        id: u8,
        payload: &'a [u8],
    },
    /// The head of a `piece` message. To be followed by [`Reader::await_block`] or [`Reader::skip`].
    PieceHead(BlockSpan),
    /// The bytes of a block are next, and have no place to go: [`Reader::fill`].
    NeedsBlock(BlockSpan),
    /// All bytes of a block are there.
    Block(BlockSpan, BlockMut),
}

/// Where in the stream we are.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    state: State,
    /// The start of a message that was not whole in one input.
    partial: Vec<u8>,
    /// `partial` was handed out as a message and is to be cleared.
    spent: bool,
    /// Bytes of blocks that have passed, wanted or not.
    payload_bytes: u64,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Message,
    AwaitBlock(BlockSpan),
    Block {
        span: BlockSpan,
        block: BlockMut,
        filled: usize,
    },
    Skip {
        left: usize,
    },
}

impl Reader {
    /// The next step of the stream; takes from the front of `input` what belongs to it. `None` if there is
    /// not enough; `input` is empty then.
    pub(crate) fn next<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
        limits: Limits,
    ) -> Result<Option<Frame<'a>>, PeerMisbehaved> {
        if let State::Skip { left } = &mut self.state {
            let skipped = take(input, *left).len();
            self.payload_bytes += skipped as u64;
            *left -= skipped;
            if *left > 0 {
                return Ok(None);
            }
            self.state = State::Message;
        }
        match &self.state {
            State::AwaitBlock(span) => Ok(Some(Frame::NeedsBlock(*span))),
            State::Block { .. } => Ok(self.next_of_block(input)),
            State::Message | State::Skip { .. } => self.next_message(input, limits),
        }
    }

    /// The bytes that follow are wanted.
    pub(crate) fn await_block(&mut self, span: BlockSpan) {
        self.state = State::AwaitBlock(span);
    }

    /// The bytes that follow are not wanted.
    pub(crate) fn skip(&mut self, len: u32) {
        self.state = State::Skip { left: len as usize };
    }

    /// The bytes that follow go into `block`, which is as long as `span`.
    pub(crate) fn fill(&mut self, span: BlockSpan, block: BlockMut) {
        assert_eq!(block.len(), span.len as usize, "a block of the wrong size");
        let filled = 0;
        self.state = State::Block {
            span,
            block,
            filled,
        };
    }

    /// The rest of the block that is coming in is not wanted any more.
    pub(crate) fn skip_rest(&mut self) {
        match &self.state {
            State::AwaitBlock(span) => self.skip(span.len),
            State::Block { block, filled, .. } => {
                let left = block.len() - filled;
                self.state = State::Skip { left };
            }
            State::Message | State::Skip { .. } => {}
        }
    }

    /// How many bytes of blocks have passed since the last call.
    pub(crate) const fn take_payload_bytes(&mut self) -> u64 {
        std::mem::replace(&mut self.payload_bytes, 0)
    }

    fn next_of_block(&mut self, input: &mut &[u8]) -> Option<Frame<'static>> {
        let State::Block { block, filled, .. } = &mut self.state else {
            return None;
        };
        let bytes = take(input, block.len() - *filled);
        block[*filled..*filled + bytes.len()].copy_from_slice(bytes);
        *filled += bytes.len();
        self.payload_bytes += bytes.len() as u64;
        if *filled < block.len() {
            return None;
        }
        match std::mem::take(&mut self.state) {
            State::Block { span, block, .. } => Some(Frame::Block(span, block)),
            _ => None,
        }
    }

    fn next_message<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
        limits: Limits,
    ) -> Result<Option<Frame<'a>>, PeerMisbehaved> {
        if self.spent {
            self.spent = false;
            self.partial.clear();
            self.partial.shrink_to(BUFFER_KEEP_LEN);
        }
        if self.partial.is_empty()
            && let Extent::Whole(step) = measure(input, limits)?
        {
            return Ok(Some(step.frame(take(input, step.len))));
        }
        loop {
            match measure(&self.partial, limits)? {
                Extent::Needs(len) => {
                    let bytes = take(input, len - self.partial.len());
                    self.partial.extend_from_slice(bytes);
                    if self.partial.len() < len {
                        return Ok(None);
                    }
                }
                Extent::Whole(step) => {
                    self.spent = true;
                    return Ok(Some(step.frame(&self.partial)));
                }
            }
        }
    }
}

/// How far the step at the start of some bytes reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// It is not whole; with that many bytes one can say more.
    Needs(usize),
    Whole(Step),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    kind: Kind,
    /// Of the whole step, in bytes.
    len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    KeepAlive,
    Message(u8),
    PieceHead(BlockSpan),
}

impl Step {
    fn frame(self, bytes: &[u8]) -> Frame<'_> {
        match self.kind {
            Kind::KeepAlive => Frame::KeepAlive,
            Kind::PieceHead(span) => Frame::PieceHead(span),
            Kind::Message(id) => Frame::Message {
                id,
                payload: &bytes[5..],
            },
        }
    }
}

fn measure(bytes: &[u8], limits: Limits) -> Result<Extent, PeerMisbehaved> {
    let Some((len, rest)) = bytes.split_first_chunk() else {
        return Ok(Extent::Needs(4));
    };
    let len = u32::from_be_bytes(*len);
    let Some(payload_len) = len.checked_sub(1) else {
        let kind = Kind::KeepAlive;
        return Ok(Extent::Whole(Step { kind, len: 4 }));
    };
    let Some((id, rest)) = rest.split_first() else {
        return Ok(Extent::Needs(5));
    };
    check_len(*id, payload_len, limits)?;
    if *id == id::PIECE {
        return Ok(measure_piece_head(payload_len, rest));
    }
    let whole = 4 + len as usize;
    if bytes.len() < whole {
        return Ok(Extent::Needs(whole));
    }
    let kind = Kind::Message(*id);
    Ok(Extent::Whole(Step { kind, len: whole }))
}

fn measure_piece_head(payload_len: u32, payload: &[u8]) -> Extent {
    let len = 5 + PIECE_HEAD_LEN as usize;
    let (numbers, _) = payload.as_chunks::<4>();
    let [index, offset, ..] = numbers else {
        return Extent::Needs(len);
    };
    let kind = Kind::PieceHead(BlockSpan {
        piece: PieceIndex(u32::from_be_bytes(*index)),
        offset: u32::from_be_bytes(*offset),
        // `check_len` has seen to it that there is a head.
        len: payload_len.saturating_sub(PIECE_HEAD_LEN),
    });
    Extent::Whole(Step { kind, len })
}

/// Whether a message with this id may have a payload of this length.
fn check_len(id: u8, len: u32, limits: Limits) -> Result<(), PeerMisbehaved> {
    if let Some(exact) = exact_len(id) {
        let wrong = PeerMisbehaved::MessageLength { id, len };
        return if len == exact { Ok(()) } else { Err(wrong) };
    }
    let (min, limit) = match id {
        id::BITFIELD => (0, limits.bitfield),
        id::PIECE => (PIECE_HEAD_LEN, PIECE_HEAD_LEN + BLOCK_LEN),
        id::EXTENDED => (1, EXTENDED_LEN_MAX),
        id::HASHES => {
            let limit = limits.hashes.ok_or(PeerMisbehaved::HashesNotRequested)?;
            (HASH_REQUEST_LEN, limit)
        }
        // The most widespread library closes on ids that it does not know, so nobody can send new ones.
        _ => return Err(PeerMisbehaved::UnexpectedMessage { id }),
    };
    if len > limit {
        return Err(PeerMisbehaved::MessageTooLong { len, limit });
    }
    if len < min {
        return Err(PeerMisbehaved::MessageLength { id, len });
    }
    Ok(())
}

/// Takes at most `len` bytes from the front.
fn take<'a>(input: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (front, rest) = input.split_at(len.min(input.len()));
    *input = rest;
    front
}

#[cfg(test)]
mod tests {
    use riverrun_base::Rng;

    use super::*;
    use crate::codec::message::{Message, encode_piece_head};

    const LIMITS: Limits = Limits {
        bitfield: 2,
        hashes: Some(HASH_REQUEST_LEN + 64),
    };

    /// Feeds `wire` in chunks cut by `rng`; what came out, as text.
    fn read(wire: &[u8], mut rng: Option<Rng>) -> Result<Vec<String>, PeerMisbehaved> {
        let mut reader = Reader::default();
        let mut seen = Vec::new();
        let mut left = wire;
        while !left.is_empty() {
            let len = rng.as_mut().map_or(left.len(), |rng| 1 + rng.below(9));
            let mut chunk = take(&mut left, len);
            loop {
                let accept = match reader.next(&mut chunk, LIMITS)? {
                    None => break,
                    Some(Frame::PieceHead(span)) => Some((span, span.piece == PieceIndex(1))),
                    Some(Frame::NeedsBlock(span)) => {
                        reader.fill(span, BlockMut::unbudgeted(span.len as usize));
                        continue;
                    }
                    Some(frame) => {
                        seen.push(match frame {
                            Frame::Message { id, payload } => {
                                format!("{:?}", Message::parse(id, payload)?)
                            }
                            Frame::Block(span, block) => format!("{span} {:?}", &*block),
                            other => format!("{other:?}"),
                        });
                        None
                    }
                };
                match accept {
                    Some((span, true)) => reader.await_block(span),
                    Some((span, false)) => reader.skip(span.len),
                    None => {}
                }
            }
            assert!(chunk.is_empty(), "nothing is left over");
        }
        Ok(seen)
    }

    fn stream() -> Vec<u8> {
        let mut wire = vec![0, 0, 0, 0];
        let piece = |index, bytes: &[u8], wire: &mut Vec<u8>| {
            let len = u32::try_from(bytes.len()).unwrap();
            let span = BlockSpan {
                piece: PieceIndex(index),
                offset: 8,
                len,
            };
            encode_piece_head(span, wire);
            wire.extend_from_slice(bytes);
        };
        Message::Bitfield(&[1, 0x80]).encode(&mut wire);
        piece(1, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], &mut wire);
        piece(2, &[0; 30], &mut wire);
        Message::Have(PieceIndex(7)).encode(&mut wire);
        piece(1, &[], &mut wire);
        let payload = &[b'x'; 40];
        Message::Extended { id: 1, payload }.encode(&mut wire);
        Message::Choke.encode(&mut wire);
        wire
    }

    #[test]
    fn the_cut_of_the_stream_does_not_matter() {
        let whole = read(&stream(), None).unwrap();
        assert_eq!(whole.len(), 7, "{whole:#?}");
        for seed in 0..200 {
            assert_eq!(read(&stream(), Some(Rng::new(seed))).unwrap(), whole);
        }
    }

    #[test]
    fn a_length_is_checked_before_a_byte_is_kept() {
        let too_long = |len, limit| PeerMisbehaved::MessageTooLong { len, limit };
        let length = |id, len| PeerMisbehaved::MessageLength { id, len };
        for (id, len, expected) in [
            (id::CHOKE, 1, length(id::CHOKE, 1)),
            (id::HAVE, u32::MAX - 1, length(id::HAVE, u32::MAX - 1)),
            (id::BITFIELD, 3, too_long(3, 2)),
            (id::PIECE, 7, length(id::PIECE, 7)),
            (id::PIECE, 16_393, too_long(16_393, 16_392)),
            (id::EXTENDED, 0, length(id::EXTENDED, 0)),
            (
                id::EXTENDED,
                EXTENDED_LEN_MAX + 1,
                too_long(EXTENDED_LEN_MAX + 1, EXTENDED_LEN_MAX),
            ),
            (id::HASHES, 47, length(id::HASHES, 47)),
            (id::HASHES, 113, too_long(113, 112)),
            (11, 0, PeerMisbehaved::UnexpectedMessage { id: 11 }),
        ] {
            let mut wire = (len + 1).to_be_bytes().to_vec();
            wire.push(id);
            let mut reader = Reader::default();
            let error = reader.next(&mut &wire[..], LIMITS).unwrap_err();
            assert_eq!(error, expected);
            assert_eq!(reader.partial.capacity(), 0);
        }
        let none_due = Limits {
            hashes: None,
            ..LIMITS
        };
        let wire = [0, 0, 0, 60, id::HASHES];
        let mut reader = Reader::default();
        let error = reader.next(&mut &wire[..], none_due);
        assert_eq!(error.unwrap_err(), PeerMisbehaved::HashesNotRequested);
    }

    #[test]
    fn the_rest_of_a_block_can_be_let_go() {
        let span = BlockSpan {
            piece: PieceIndex(0),
            offset: 0,
            len: 10,
        };
        let mut reader = Reader::default();
        reader.fill(span, BlockMut::unbudgeted(10));
        assert!(reader.next(&mut &[1; 4][..], LIMITS).unwrap().is_none());
        reader.skip_rest();
        let mut rest = &[1, 1, 1, 1, 1, 1, 0, 0, 0, 0][..];
        let frame = reader.next(&mut rest, LIMITS).unwrap();
        assert!(matches!(frame, Some(Frame::KeepAlive)));
        assert_eq!(reader.take_payload_bytes(), 10);
    }
}
