//! What has arrived: bytes in order, and packets that came early.
//!
//! Bytes in order lie in chunks, which the reader takes as they are and gives back empty: so few of them are in use that
//! they stay in the processor's cache.

use std::collections::VecDeque;

use crate::packet::SACK_BYTES_MAX;
use crate::seq::Seq;

/// Packets that may wait for one before them. More could not be acknowledged selectively.
const EARLY_PACKETS_MAX: u16 = 2016;

const _: () = assert!(EARLY_PACKETS_MAX as usize == SACK_BYTES_MAX * 8);

/// A new connection may hold this part of the most; see [`RecvBuffer::consume`].
const INITIAL_PART: usize = 16;

/// Each time that this many windows were received and read, the window doubles.
const WINDOWS_PER_DOUBLING: usize = 4;

/// How much one chunk holds: what one read of the kernel's brings.
const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks that are kept for use instead of being given back.
const SPARE_CHUNKS_MAX: usize = 4;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// It was the next.
    InOrder,
    /// It waits for one before it.
    Early,
    /// It was there already.
    Duplicate,
    /// It is past the window, or the end.
    Refused,
}

/// The receiving half of a connection.
#[derive(Clone, Debug)]
pub(crate) struct RecvBuffer {
    /// Unread, in order.
    chunks: VecDeque<Vec<u8>>,
    /// How much of the first chunk was read.
    read: usize,
    /// What all chunks hold that was not read.
    readable: usize,
    spare: Vec<Vec<u8>>,
    /// The last packet before the first gap.
    ack: Seq,
    /// Entry `i` is packet `ack + 2 + i`.
    early: VecDeque<Option<Box<[u8]>>>,
    early_bytes: usize,
    limit: usize,
    limit_max: usize,
    /// Read since the limit was set.
    consumed: usize,
    fin: Option<Seq>,
}

impl RecvBuffer {
    /// `ack` is the last number that the peer has used.
    pub(crate) fn new(ack: Seq, limit_max: usize) -> Self {
        Self {
            chunks: VecDeque::new(),
            read: 0,
            readable: 0,
            spare: Vec::new(),
            ack,
            early: VecDeque::new(),
            early_bytes: 0,
            limit: limit_max / INITIAL_PART,
            limit_max,
            consumed: 0,
            fin: None,
        }
    }

    /// The last packet before the first gap.
    pub(crate) const fn ack(&self) -> Seq {
        self.ack
    }

    /// The most bytes that may be here now.
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// How many more bytes there is room for.
    pub(crate) fn window(&self) -> usize {
        self.limit
            .saturating_sub(self.readable)
            .saturating_sub(self.early_bytes)
    }

    /// Whether the peer has sent all, and all of it is here.
    pub(crate) fn is_finished(&self) -> bool {
        self.fin == Some(self.ack)
    }

    /// Whether packets wait for one before them.
    pub(crate) fn has_gap(&self) -> bool {
        !self.early.is_empty()
    }

    /// Takes in the payload of a packet; `is_fin`: none comes after it.
    pub(crate) fn receive(&mut self, seq: Seq, payload: &[u8], is_fin: bool) -> Received {
        let offset = seq.offset_from(self.ack);
        if offset <= 0 {
            return Received::Duplicate;
        }
        let offset = offset.cast_unsigned();
        let past_end = self.fin.is_some_and(|fin| seq.offset_from(fin) > 0);
        if past_end || offset > EARLY_PACKETS_MAX {
            return Received::Refused;
        }
        let slot = usize::from(offset).checked_sub(2);
        if slot.is_some_and(|slot| matches!(self.early.get(slot), Some(Some(_)))) {
            return Received::Duplicate;
        }
        // One that fills the gap may use room that was left to it when others came early.
        if payload.len() > self.window() && !(offset == 1 && self.fits_gap(payload)) {
            return Received::Refused;
        }
        if is_fin {
            if usize::from(offset) < self.early.len() + 1 {
                // Something after the end is here already.
                return Received::Refused;
            }
            self.fin = Some(seq);
        }
        let Some(slot) = slot else {
            self.append(payload);
            self.advance();
            return Received::InOrder;
        };
        if slot >= self.early.len() {
            self.early.resize(slot + 1, None);
        }
        self.early[slot] = Some(payload.into());
        self.early_bytes += payload.len();
        Received::Early
    }

    /// Whether a packet that the reader waits for may exceed the window, so that a window full of early packets
    /// cannot stand still for ever.
    fn fits_gap(&self, payload: &[u8]) -> bool {
        self.has_gap() && self.readable + payload.len() <= self.limit
    }

    /// Adds to what can be read.
    fn append(&mut self, payload: &[u8]) {
        self.readable += payload.len();
        let has_room = |chunk: &Vec<u8>| chunk.len() + payload.len() <= CHUNK_BYTES;
        if let Some(chunk) = self.chunks.back_mut()
            && has_room(chunk)
        {
            if chunk.capacity() < chunk.len() + payload.len() {
                // More than one packet: a stream.
                chunk.reserve_exact(CHUNK_BYTES - chunk.len());
            }
            chunk.extend_from_slice(payload);
        } else if !payload.is_empty() {
            let mut chunk = self.spare.pop().unwrap_or_default();
            chunk.extend_from_slice(payload);
            self.chunks.push_back(chunk);
        }
    }

    /// The next packet has come, and with it those that waited for it.
    fn advance(&mut self) {
        self.ack = self.ack.next();
        while let Some(Some(_)) = self.early.front() {
            let Some(Some(payload)) = self.early.pop_front() else {
                break;
            };
            self.early_bytes -= payload.len();
            self.append(&payload);
            self.ack = self.ack.next();
        }
        // The entry before the first early packet stood for `ack + 1`'s successor.
        self.early.pop_front();
    }

    /// Writes which packets came early, and gives the length of the mask; 0 if none did.
    pub(crate) fn write_sack(&self, mask: &mut [u8; SACK_BYTES_MAX]) -> usize {
        let count = self.early.len().min(SACK_BYTES_MAX * 8);
        let len = count.div_ceil(32) * 4;
        mask[..len].fill(0);
        for (bit, early) in self.early.iter().take(count).enumerate() {
            if early.is_some() {
                mask[bit / 8] |= 1 << (bit % 8);
            }
        }
        len
    }

    /// How many bytes can be read.
    pub(crate) const fn readable_len(&self) -> usize {
        self.readable
    }

    /// Bytes to read: those of the first chunk.
    pub(crate) fn readable(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| &chunk[self.read..])
    }

    /// Reads the first chunk whole, in exchange for a buffer that is used for a later one; that buffer, empty, if there
    /// is nothing to read.
    pub(crate) fn take(&mut self, mut buffer: Vec<u8>) -> Vec<u8> {
        buffer.clear();
        let Some(mut chunk) = self.chunks.pop_front() else {
            return buffer;
        };
        self.recycle(buffer);
        chunk.drain(..self.read);
        self.read = 0;
        self.was_read(chunk.len());
        chunk
    }

    /// The first `count` bytes were read.
    pub(crate) fn consume(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            let len = self.readable().len().min(left);
            assert!(len > 0, "{count} bytes read, {left} fewer came");
            left -= len;
            self.read += len;
            if self.readable().is_empty() {
                self.read = 0;
                if let Some(chunk) = self.chunks.pop_front() {
                    self.recycle(chunk);
                }
            }
        }
        self.was_read(count);
    }

    fn recycle(&mut self, mut chunk: Vec<u8>) {
        if chunk.capacity() > 0 && self.spare.len() < SPARE_CHUNKS_MAX {
            chunk.clear();
            self.spare.push(chunk);
        }
    }

    /// A peer whose data is taken as it comes earns a larger window.
    fn was_read(&mut self, count: usize) {
        self.readable -= count;
        self.consumed += count;
        if self.limit < self.limit_max && self.consumed >= WINDOWS_PER_DOUBLING * self.limit {
            self.limit = (self.limit * 2).min(self.limit_max);
            self.consumed = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer() -> RecvBuffer {
        RecvBuffer::new(Seq(65_534), 16 * 1000)
    }

    fn read_all(buffer: &mut RecvBuffer) -> Vec<u8> {
        let mut all = Vec::new();
        while buffer.readable_len() > 0 {
            let part = buffer.readable().to_vec();
            buffer.consume(part.len());
            all.extend(part);
        }
        all
    }

    #[test]
    fn any_order_of_arrival_is_read_in_order() {
        // Packets 65535, 0, 1, 2, 3 in all 120 orders.
        let mut orders = vec![vec![]];
        for n in 0..5_u16 {
            orders = orders
                .into_iter()
                .flat_map(|order: Vec<u16>| {
                    (0..=order.len()).map(move |at| {
                        let mut order = order.clone();
                        order.insert(at, n);
                        order
                    })
                })
                .collect();
        }
        assert_eq!(orders.len(), 120);
        for order in orders {
            let mut buffer = buffer();
            for n in &order {
                let seq = Seq(65_535).plus(*n);
                let payload = [u8::try_from(*n).unwrap(); 3];
                let received = buffer.receive(seq, &payload, *n == 4);
                assert!(matches!(received, Received::InOrder | Received::Early));
                let again = buffer.receive(seq, &payload, *n == 4);
                assert_eq!(again, Received::Duplicate, "{order:?}");
            }
            assert!(buffer.is_finished() && !buffer.has_gap(), "{order:?}");
            assert_eq!(
                read_all(&mut buffer),
                [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
            );
            assert_eq!(buffer.receive(Seq(4), b"x", false), Received::Refused);
        }
    }

    #[test]
    fn chunks_and_parts_of_them_give_all_bytes_in_order() {
        let mut buffer = RecvBuffer::new(Seq(0), 16 << 20);
        let mut sent = Vec::new();
        let mut read = Vec::new();
        let mut scrap = Vec::new();
        for n in 1..3000_u16 {
            let payload = vec![n.to_le_bytes()[0]; usize::from(n) * 7 % 1453];
            assert_eq!(buffer.receive(Seq(n), &payload, false), Received::InOrder);
            sent.extend(payload);
            match n % 257 {
                // Part of the first chunk, then what is left of it.
                20 => {
                    let part = buffer.readable()[..100].to_vec();
                    buffer.consume(part.len());
                    read.extend(part);
                }
                200 => {
                    scrap = buffer.take(scrap);
                    read.extend_from_slice(&scrap);
                }
                // More than a chunk.
                0 => {
                    let before = read.len();
                    read.extend_from_slice(&sent[before..]);
                    buffer.consume(buffer.readable_len());
                }
                _ => {}
            }
            assert_eq!(buffer.readable_len(), sent.len() - read.len());
        }
        read.extend(read_all(&mut buffer));
        assert!(read == sent);
        assert!(buffer.take(scrap).is_empty());
        let kept = buffer.spare.iter().map(Vec::capacity).sum::<usize>();
        assert!(kept <= SPARE_CHUNKS_MAX * CHUNK_BYTES, "{kept}");
    }

    #[test]
    fn the_mask_begins_two_after_the_last_in_order() {
        let mut buffer = buffer();
        let mut mask = [0xff; SACK_BYTES_MAX];
        assert_eq!(buffer.write_sack(&mut mask), 0);
        for n in [0, 2, 9] {
            buffer.receive(Seq(n), b"x", false);
        }
        assert_eq!(buffer.write_sack(&mut mask), 4);
        assert_eq!(mask[..4], [0b0000_0101, 0b0000_0010, 0, 0]);
        buffer.receive(Seq(40), b"x", false);
        assert_eq!(buffer.write_sack(&mut mask), 8);
        // The gap before 0 is filled; the next is 1.
        buffer.receive(Seq(65_535), b"x", false);
        assert_eq!(buffer.ack(), Seq(0));
        buffer.write_sack(&mut mask);
        assert_eq!(mask[..2], [0b1000_0001, 0]);
    }

    #[test]
    fn nothing_beyond_the_window_is_kept() {
        let mut buffer = buffer();
        assert_eq!(buffer.window(), 1000);
        assert_eq!(buffer.receive(Seq(1), &[1; 600], false), Received::Early);
        assert_eq!(buffer.receive(Seq(2), &[2; 600], false), Received::Refused);
        assert_eq!(buffer.receive(Seq(5000), b"x", false), Received::Refused);
        // Whoever fills the gap gets room.
        assert_eq!(
            buffer.receive(Seq(65_535), &[0; 600], false),
            Received::InOrder
        );
        assert_eq!(buffer.window(), 0);
        assert_eq!(buffer.receive(Seq(0), &[9; 600], false), Received::Refused);
        buffer.consume(600);
        assert_eq!(buffer.receive(Seq(0), &[9; 100], false), Received::InOrder);
    }

    #[test]
    fn a_window_is_earned() {
        let mut buffer = buffer();
        let mut seq = Seq(65_535);
        for _ in 0..1000 {
            buffer.receive(seq, &[0; 1000], false);
            buffer.consume(1000);
            seq = seq.next();
        }
        assert_eq!(buffer.window(), 16_000);
    }
}
