//! What is to be sent, and what was sent but not acknowledged.
//!
//! Bytes are copied once: into chunks, cut into packets with room for a header before each. From there they are
//! sent, and sent again. Neighbours in a chunk leave in one piece, for the kernel to take apart (GSO).

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use riverrun_base::Time;

use crate::mtu::PathMtu;
use crate::packet::{HEADER_LEN, Header, PacketKind};
use crate::seq::Seq;

/// Packets that may be unacknowledged or wait: well below half of all numbers, so that old and new cannot be
/// confused, and enough for the largest buffer.
const FRAMES_MAX: usize = 8192;

/// How many bytes of packets lie side by side: a little less than the most that UDP sends at once.
const CHUNK_BYTES: usize = 65_000;

/// Chunks that are kept for use instead of being given back: to allocate them anew costs more than to copy into them.
const SPARE_CHUNKS_MAX: usize = 8;

/// A packet is lost when one that was sent so many later has arrived (BEP 29, "packet loss").
const REORDER_PACKETS: u64 = 3;

/// A packet that was lost that often, while later ones arrived, is too large for the path: where one in a hundred is
/// lost by chance, that happens to one in a hundred millions.
const LOSSES_MANY: u32 = 4;

/// Packets in flight that are smaller than they could be. More small writes wait to be sent together: like
/// Nagle's rule (RFC 896), only that a few requests need not wait for each other.
const SMALL_PACKETS_MAX: usize = 4;

/// An acknowledgement for something that was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AckOfUnsent;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameState {
    Waiting,
    InFlight,
    Lost,
    Acked,
}

/// One packet, by its place among all packets of the connection.
#[derive(Clone, Debug)]
struct Frame {
    chunk: u64,
    /// Where its payload begins in the chunk.
    start: usize,
    len: usize,
    /// How long its payload could have been.
    full: usize,
    /// More than the header before the payload: it is a probe, the first time.
    pad: usize,
    is_fin: bool,
    state: FrameState,
    transmissions: u32,
    sent_at: Time,
    /// Its last transmission's place among all transmissions.
    order: u64,
}

impl Frame {
    const fn is_probe(&self) -> bool {
        self.pad > 0 && self.transmissions <= 1
    }

    const fn is_small(&self) -> bool {
        self.len < self.full
    }

    const fn pad_now(&self) -> usize {
        if self.transmissions == 0 { self.pad } else { 0 }
    }
}

/// What an acknowledgement said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acked {
    /// Payload that has arrived.
    pub(crate) bytes: usize,
    /// A later one has overtaken it: it says nothing.
    pub(crate) is_old: bool,
    /// Something has arrived that had not before.
    pub(crate) has_news: bool,
    /// How long the latest of it took, if that is known.
    pub(crate) round_trip: Option<Duration>,
    /// The latest transmission that is now held to be lost.
    pub(crate) lost: Option<u64>,
    /// How long the longest packet is that was lost again and again.
    pub(crate) lost_often: Option<usize>,
    /// A probe of the path's size has arrived or was lost.
    pub(crate) probe_arrived: Option<bool>,
}

/// How much may be sent now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    /// Bytes in flight that congestion control allows.
    pub(crate) congestion: usize,
    /// Bytes that the peer has room for.
    pub(crate) peer: usize,
    /// One packet may go whatever the windows say.
    pub(crate) forced: bool,
    /// How many packets may go at once.
    pub(crate) segments_max: usize,
    /// How long a packet is that is known to pass. Longer ones go one by one.
    pub(crate) packet_len: usize,
}

/// Packets that lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    first: u64,
    count: u64,
}

/// The sending half of a connection.
#[derive(Clone, Debug)]
pub(crate) struct SendBuffer {
    frames: VecDeque<Frame>,
    /// The place of the first of `frames`.
    first: u64,
    /// The number of place 0.
    origin: Seq,
    /// The place of the first that was never sent.
    unsent: u64,
    chunks: VecDeque<Vec<u8>>,
    first_chunk: u64,
    /// Chunks to use again, while there is anything to send.
    spare: Vec<Vec<u8>>,
    lost: BTreeSet<u64>,
    in_flight_bytes: usize,
    /// Sent and not known to have arrived.
    outstanding_bytes: usize,
    buffered_bytes: usize,
    small_in_flight: usize,
    order: SendOrder,
    has_fin: bool,
}

/// When transmissions left, and which have arrived.
#[derive(Clone, Debug, Default)]
struct SendOrder {
    next: u64,
    /// One past the latest that has arrived.
    acked: u64,
    /// Until a transmission from here on has arrived, the order of places is not that of transmissions.
    mixed_until: u64,
    sacked_count: usize,
    duplicate_acks: u32,
}

impl SendBuffer {
    pub(crate) fn new(origin: Seq) -> Self {
        Self {
            frames: VecDeque::new(),
            first: 0,
            origin,
            unsent: 0,
            chunks: VecDeque::new(),
            first_chunk: 0,
            spare: Vec::new(),
            lost: BTreeSet::new(),
            in_flight_bytes: 0,
            outstanding_bytes: 0,
            buffered_bytes: 0,
            small_in_flight: 0,
            order: SendOrder::default(),
            has_fin: false,
        }
    }

    fn seq(&self, place: u64) -> Seq {
        // The low bits of a place are its distance from the origin, wrapped.
        let low = u16::try_from(place & 0xffff).unwrap_or(0);
        self.origin.plus(low)
    }

    fn frame(&self, place: u64) -> Option<&Frame> {
        let index = place.checked_sub(self.first)?;
        self.frames.get(usize::try_from(index).ok()?)
    }

    fn frame_mut(&mut self, place: u64) -> Option<&mut Frame> {
        let index = place.checked_sub(self.first)?;
        self.frames.get_mut(usize::try_from(index).ok()?)
    }

    /// The number of the next packet that was never sent.
    pub(crate) fn next_seq(&self) -> Seq {
        self.seq(self.unsent)
    }

    /// The transmission that comes next.
    pub(crate) const fn next_order(&self) -> u64 {
        self.order.next
    }

    /// One past the latest transmission that has arrived.
    pub(crate) const fn acked_order(&self) -> u64 {
        self.order.acked
    }

    pub(crate) const fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// Written and not yet acknowledged in order.
    pub(crate) const fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// Whether anything was sent that is not known to have arrived.
    pub(crate) fn is_outstanding(&self) -> bool {
        self.first < self.unsent
    }

    /// Whether something waits to be sent, for the first time or again.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.lost.is_empty() || self.unsent < self.end()
    }

    /// Whether the end was written and all has arrived.
    pub(crate) fn is_finished(&self) -> bool {
        self.has_fin && self.frames.is_empty()
    }

    pub(crate) const fn has_fin(&self) -> bool {
        self.has_fin
    }

    fn end(&self) -> u64 {
        self.first + self.frames.len() as u64
    }

    /// Takes in as much of `data` as there is room for, and says how much.
    pub(crate) fn write(
        &mut self,
        now: Time,
        mtu: &mut PathMtu,
        data: &[u8],
        limit: usize,
    ) -> usize {
        if self.has_fin {
            return 0;
        }
        let room = limit.saturating_sub(self.buffered_bytes);
        let mut rest = &data[..data.len().min(room)];
        let mut written = 0;
        while !rest.is_empty() && (self.last_has_room() || self.frames.len() < FRAMES_MAX) {
            if !self.last_has_room() {
                self.begin_frame(now, mtu, rest.len());
            }
            let count = self.fill_last(rest);
            rest = &rest[count..];
            written += count;
        }
        self.buffered_bytes += written;
        written
    }

    /// Marks the end: nothing can be written after it.
    pub(crate) fn finish(&mut self, now: Time, mtu: &mut PathMtu) {
        if self.has_fin {
            return;
        }
        self.begin_frame(now, mtu, 0);
        self.has_fin = true;
        if let Some(frame) = self.frames.back_mut() {
            frame.is_fin = true;
            frame.full = 0;
        }
    }

    fn last_has_room(&self) -> bool {
        self.frames
            .back()
            .is_some_and(|last| last.state == FrameState::Waiting && last.len < last.full)
    }

    fn begin_frame(&mut self, now: Time, mtu: &mut PathMtu, wanted: usize) {
        let full = mtu.datagram_len() - HEADER_LEN;
        let mut pad = 0;
        // Only a packet that will be full is worth a probe, or small messages would all be padded.
        if wanted >= full
            && let Some(len) = mtu.probe_len(now)
        {
            pad = len - mtu.datagram_len();
            mtu.probing(len);
        }
        let need = HEADER_LEN + pad + full;
        let has_room = self
            .chunks
            .back()
            .is_some_and(|chunk| chunk.len() + need <= CHUNK_BYTES);
        if !has_room {
            let mut chunk = self.spare.pop().unwrap_or_default();
            chunk.clear();
            // For all that is at hand now, headers included.
            chunk.reserve((need + wanted + wanted / 16).min(CHUNK_BYTES));
            self.chunks.push_back(chunk);
        }
        // Invariant: there is one, pushed above if not before.
        let chunk = self.chunks.back_mut().expect("a chunk to write to");
        let start = chunk.len() + HEADER_LEN + pad;
        chunk.resize(start, 0);
        self.frames.push_back(Frame {
            chunk: self.first_chunk + self.chunks.len() as u64 - 1,
            start,
            len: 0,
            full,
            pad,
            is_fin: false,
            state: FrameState::Waiting,
            transmissions: 0,
            sent_at: now,
            order: 0,
        });
    }

    /// Adds to the last frame, which ends its chunk.
    fn fill_last(&mut self, data: &[u8]) -> usize {
        let (Some(frame), Some(chunk)) = (self.frames.back_mut(), self.chunks.back_mut()) else {
            return 0;
        };
        let count = data.len().min(frame.full - frame.len);
        chunk.extend_from_slice(&data[..count]);
        frame.len += count;
        count
    }

    /// Chooses what to send next: what was lost first, then what is new.
    pub(crate) fn select(&self, allowance: Allowance) -> Option<Run> {
        if let Some(first) = self.lost.first().copied() {
            let len = self.frame(first)?.len;
            let fits =
                self.in_flight_bytes == 0 || self.in_flight_bytes + len <= allowance.congestion;
            if !fits && !allowance.forced {
                return None;
            }
            return Some(self.run(first, FrameState::Lost, allowance));
        }
        let next = self.frame(self.unsent)?;
        let fits_congestion =
            self.in_flight_bytes == 0 || self.in_flight_bytes + next.len <= allowance.congestion;
        let fits_peer = self.outstanding_bytes + next.len <= allowance.peer;
        if !(allowance.forced || fits_congestion && fits_peer) || self.waits_for_more(next) {
            return None;
        }
        Some(self.run(self.unsent, FrameState::Waiting, allowance))
    }

    /// Whether a small packet should rather wait for more to be written.
    fn waits_for_more(&self, frame: &Frame) -> bool {
        frame.is_small() && self.small_in_flight >= SMALL_PACKETS_MAX
    }

    /// The longest run of equal packets from `first` that may be sent; the last may be smaller.
    fn run(&self, first: u64, state: FrameState, allowance: Allowance) -> Run {
        let single = Run { first, count: 1 };
        let Some(head) = self.frame(first) else {
            return single;
        };
        let congestion = allowance.congestion.saturating_sub(self.in_flight_bytes);
        let peer = allowance.peer.saturating_sub(self.outstanding_bytes);
        // What is sent again has its place at the peer already.
        let room = if state == FrameState::Lost {
            congestion
        } else {
            congestion.min(peer)
        };
        let (mut bytes, mut end, mut count) = (head.len, head.start + head.len, 1);
        if head.pad_now() > 0 || head.is_small() || head.len > allowance.packet_len {
            return single;
        }
        while count < allowance.segments_max as u64 {
            let Some(next) = self.frame(first + count) else {
                break;
            };
            let is_neighbour =
                next.chunk == head.chunk && next.start == end + HEADER_LEN && next.pad == 0;
            bytes += next.len;
            if next.state != state || !is_neighbour || next.len > head.len || bytes > room {
                break;
            }
            if state == FrameState::Waiting && self.waits_for_more(next) {
                break;
            }
            end = next.start + next.len;
            count += 1;
            if next.len < head.len {
                break;
            }
        }
        Run { first, count }
    }

    /// Whether a run's packets were cut for a wider path than one that carries packets of that length.
    pub(crate) fn exceeds(&self, run: Run, packet_len: usize) -> bool {
        self.frame(run.first)
            .is_some_and(|frame| frame.len > packet_len)
    }

    /// Writes the headers of a run, and gives its bytes and the length of all its packets but the last.
    pub(crate) fn prepare(&mut self, run: Run, header: Header) -> (&[u8], usize) {
        let last = run.first + run.count - 1;
        for place in run.first..=last {
            let seq = self.seq(place);
            let Some(frame) = self.frame(place) else {
                break;
            };
            let kind = if frame.is_fin {
                PacketKind::Fin
            } else {
                PacketKind::Data
            };
            let (chunk, range) = (frame.chunk, header_range(frame));
            let header = Header {
                kind,
                seq,
                ..header
            };
            header.write_padded(&mut self.chunk_mut(chunk)[range]);
        }
        // Invariant: a run is made of frames that are there, and is used at once.
        let (head, tail) = (self.frame(run.first), self.frame(last));
        let (Some(head), Some(tail)) = (head, tail) else {
            return (&[], 0);
        };
        let begin = header_range(head).start;
        let segment = head.start + head.len - begin;
        let end = tail.start + tail.len;
        let chunk = usize::try_from(head.chunk - self.first_chunk).unwrap_or(usize::MAX);
        (&self.chunks[chunk][begin..end], segment)
    }

    fn chunk_mut(&mut self, chunk: u64) -> &mut [u8] {
        let index = usize::try_from(chunk - self.first_chunk).unwrap_or(usize::MAX);
        &mut self.chunks[index]
    }

    /// A run has left.
    pub(crate) fn sent(&mut self, now: Time, run: Run) {
        for place in run.first..run.first + run.count {
            let order = self.order.next;
            self.order.next += 1;
            let Some(frame) = self.frame_mut(place) else {
                break;
            };
            frame.state = FrameState::InFlight;
            frame.transmissions = frame.transmissions.saturating_add(1);
            frame.sent_at = now;
            frame.order = order;
            let (len, is_small, is_new) = (frame.len, frame.is_small(), frame.transmissions == 1);
            self.in_flight_bytes += len;
            self.small_in_flight += usize::from(is_small);
            if is_new {
                self.outstanding_bytes += len;
                self.unsent = place + 1;
            } else {
                self.lost.remove(&place);
                self.order.mixed_until = self.order.next;
            }
        }
    }

    /// The peer acknowledges all up to `ack` and those of `sack`. `min_rtt`: an acknowledgement that comes sooner
    /// is for an earlier transmission. `is_pure`: the packet carried nothing else.
    pub(crate) fn acked(
        &mut self,
        now: Time,
        ack: Seq,
        sack: Option<&[u8]>,
        is_pure: bool,
        min_rtt: Duration,
    ) -> Result<Acked, AckOfUnsent> {
        let mut acked = Acked::default();
        let count = ack.offset_from(self.seq(self.first).previous());
        let Ok(count) = u64::try_from(count) else {
            acked.is_old = true;
            return Ok(acked);
        };
        let next = self.first + count;
        if next > self.unsent {
            return Err(AckOfUnsent);
        }
        for place in self.first..next {
            self.mark_acked(now, place, min_rtt, &mut acked);
        }
        self.forget_until(next);
        for (index, byte) in sack.into_iter().flatten().enumerate() {
            for bit in (0..8).filter(|bit| byte & (1 << bit) != 0) {
                // Bit 0 is the packet after the one that is missing.
                let place = next + 1 + 8 * index as u64 + bit;
                if place >= self.unsent {
                    return Err(AckOfUnsent);
                }
                self.mark_acked(now, place, min_rtt, &mut acked);
            }
        }
        self.count_duplicate(is_pure && sack.is_none() && !acked.has_news, &mut acked);
        self.find_lost(&mut acked);
        Ok(acked)
    }

    fn mark_acked(&mut self, now: Time, place: u64, min_rtt: Duration, acked: &mut Acked) {
        let Some(frame) = self.frame_mut(place) else {
            return;
        };
        let before = std::mem::replace(&mut frame.state, FrameState::Acked);
        if before == FrameState::Acked {
            return;
        }
        let frame = frame.clone();
        let took = now.since(frame.sent_at);
        let is_clear = frame.transmissions == 1;
        acked.has_news = true;
        acked.bytes += frame.len;
        self.outstanding_bytes -= frame.len;
        self.order.sacked_count += 1;
        match before {
            FrameState::InFlight => self.leave_flight(&frame),
            _ => drop(self.lost.remove(&place)),
        }
        if is_clear || took >= min_rtt {
            if is_clear && frame.order >= self.order.acked {
                acked.round_trip = Some(took);
            }
            self.order.acked = self.order.acked.max(frame.order + 1);
        }
        if frame.is_probe() {
            acked.probe_arrived = Some(true);
        }
    }

    fn leave_flight(&mut self, frame: &Frame) {
        self.in_flight_bytes -= frame.len;
        self.small_in_flight -= usize::from(frame.is_small());
    }

    /// Drops frames before `next`, and chunks that no frame is in.
    fn forget_until(&mut self, next: u64) {
        while self.first < next {
            let Some(frame) = self.frames.pop_front() else {
                break;
            };
            self.first += 1;
            self.order.sacked_count -= 1;
            self.buffered_bytes -= frame.len;
        }
        let keep = self.frames.front().map(|frame| frame.chunk);
        while !self.chunks.is_empty() && keep != Some(self.first_chunk) {
            let done = self.chunks.pop_front();
            if self.spare.len() < SPARE_CHUNKS_MAX {
                self.spare.extend(done);
            }
            self.first_chunk += 1;
        }
        if keep.is_none() {
            // Nothing to send: an idle connection holds no memory.
            self.spare = Vec::new();
        }
    }

    /// Three in a row from a peer that does not say what it has: the next one is missing.
    fn count_duplicate(&mut self, is_duplicate: bool, acked: &mut Acked) {
        if !is_duplicate {
            if acked.has_news {
                self.order.duplicate_acks = 0;
            }
            return;
        }
        self.order.duplicate_acks += 1;
        let first = self.first;
        let is_first_time = self
            .frame(first)
            .is_some_and(|frame| frame.state == FrameState::InFlight && frame.transmissions == 1);
        if u64::from(self.order.duplicate_acks) == REORDER_PACKETS && is_first_time {
            self.mark_lost(first, acked);
        }
    }

    /// Holds for lost what was sent well before something that has arrived.
    fn find_lost(&mut self, acked: &mut Acked) {
        // While nothing arrived out of order, none is left that was sent before one that arrived.
        if self.order.sacked_count == 0 && self.order.acked >= self.order.mixed_until {
            return;
        }
        let until = self.order.acked.saturating_sub(REORDER_PACKETS);
        for place in self.first..self.unsent {
            let is_lost = self
                .frame(place)
                .is_some_and(|frame| frame.state == FrameState::InFlight && frame.order < until);
            if is_lost {
                self.mark_lost(place, acked);
            }
        }
    }

    fn mark_lost(&mut self, place: u64, acked: &mut Acked) {
        let Some(frame) = self.frame_mut(place) else {
            return;
        };
        frame.state = FrameState::Lost;
        let frame = frame.clone();
        self.leave_flight(&frame);
        self.lost.insert(place);
        if frame.transmissions >= LOSSES_MANY {
            acked.lost_often = acked.lost_often.max(Some(frame.len));
        }
        if frame.is_probe() {
            // It was too large, perhaps: no sign of congestion.
            acked.probe_arrived = Some(false);
        } else {
            acked.lost = acked.lost.max(Some(frame.order));
        }
    }

    /// Holds all that is in flight for lost.
    pub(crate) fn lose_all(&mut self) -> Acked {
        let mut acked = Acked::default();
        for place in self.first..self.unsent {
            if self
                .frame(place)
                .is_some_and(|frame| frame.state == FrameState::InFlight)
            {
                self.mark_lost(place, &mut acked);
            }
        }
        acked
    }

    /// Sends the last packet in flight once more, to make the peer say what it has.
    pub(crate) fn repeat_last(&mut self) -> Acked {
        let mut acked = Acked::default();
        let last = (self.first..self.unsent).rev().find(|place| {
            self.frame(*place)
                .is_some_and(|frame| frame.state == FrameState::InFlight)
        });
        if let Some(place) = last {
            self.mark_lost(place, &mut acked);
        }
        acked
    }
}

/// Where a frame's header, and the padding of a probe, lie in its chunk.
fn header_range(frame: &Frame) -> std::ops::Range<usize> {
    frame.start - HEADER_LEN - frame.pad_now()..frame.start
}
