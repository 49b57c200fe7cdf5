//! What will happen, in order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use riverrun_base::Time;

use crate::ids::{EndId, HostId};

/// One thing that will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    /// A host's shard has something due.
    Wake(HostId),
    /// Something arrives at an end of a wire.
    Arrive(EndId),
    /// A host's uplink has sent what it was sending.
    Sent(HostId),
    /// The transport's window may have room again.
    Room(EndId),
    /// Both ends of a wire have shaken hands.
    Ready(EndId),
    /// An end looks whether it was snubbed.
    LookForSnub(EndId),
    /// A timer of a connection that runs byte by byte.
    Timer(EndId),
    /// A socket of a host has something due.
    Socket(HostId),
    /// Something that waits for its time.
    Pending(u32),
    /// A peer misbehaves by the clock.
    Mischief(HostId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    at: Time,
    sequence: u64,
    what: What,
}

impl Ord for Entry {
    /// The heap gives the greatest first: that is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How long a slot of the ring is, in bits of microseconds: about a millisecond.
const SLOT_BITS: u32 = 10;
/// How many slots there are, a power of two: the ring sees four seconds ahead, which is as far as most things are planned.
const SLOTS: u64 = 4096;

/// Everything that will happen: by time, and what was planned first comes first.
///
/// A heap of all of it would be as large as the world, and each look into it would miss the processor's caches. So only
/// the slot that is due is a heap, the next few seconds lie about unsorted by slots, and what comes later is in a heap
/// of its own.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// The slot that is due, and what was planned for before it. Empty only if everything is.
    near: BinaryHeap<Entry>,
    /// The number of that slot.
    at_slot: u64,
    /// The slots after it, each at its number modulo their count; made when it is needed.
    ring: Vec<Vec<Entry>>,
    /// How many entries are in the ring.
    in_ring: usize,
    /// What is beyond the ring.
    far: BinaryHeap<Entry>,
    sequence: u64,
}

impl Schedule {
    pub(crate) fn add(&mut self, at: Time, what: What) {
        self.sequence += 1;
        let sequence = self.sequence;
        let entry = Entry { at, sequence, what };
        let slot = slot_of(at);
        if self.near.is_empty() {
            // Nothing else is planned.
            self.at_slot = slot;
        }
        if slot <= self.at_slot {
            self.near.push(entry);
        } else if slot - self.at_slot < SLOTS {
            self.put_in_ring(entry);
        } else {
            self.far.push(entry);
        }
    }

    pub(crate) fn next_time(&self) -> Option<Time> {
        self.near.peek().map(|entry| entry.at)
    }

    pub(crate) fn pop(&mut self) -> Option<(Time, What)> {
        let entry = self.near.pop()?;
        if self.near.is_empty() {
            self.open_next_slot();
        }
        Some((entry.at, entry.what))
    }

    fn put_in_ring(&mut self, entry: Entry) {
        if self.ring.is_empty() {
            self.ring.resize_with(place_of(SLOTS - 1) + 1, Vec::new);
        }
        self.in_ring += 1;
        self.ring[place_of(slot_of(entry.at))].push(entry);
    }

    /// Goes on to the next slot in which there is something, if there is any.
    fn open_next_slot(&mut self) {
        let far = self.far.peek().map(|entry| slot_of(entry.at));
        if self.in_ring > 0 {
            // Whatever is far away is behind all of the ring: it may come in on the way, and not be due.
            while self.ring[place_of(self.at_slot)].is_empty() {
                self.at_slot += 1;
            }
        } else if let Some(far) = far {
            self.at_slot = far;
        } else {
            return;
        }
        while let Some(entry) = self.far.peek().copied()
            && slot_of(entry.at) - self.at_slot < SLOTS
        {
            self.far.pop();
            self.put_in_ring(entry);
        }
        // Its room goes with it: else every slot would come to have room for the fullest of all.
        let slot = std::mem::take(&mut self.ring[place_of(self.at_slot)]);
        self.in_ring -= slot.len();
        self.near = BinaryHeap::from(slot);
    }
}

const fn slot_of(at: Time) -> u64 {
    at.as_micros() >> SLOT_BITS
}

const fn place_of(slot: u64) -> usize {
    (slot % SLOTS) as usize
}

/// Things that wait for their time, named by a number that is used again.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Waiting<T> {
    pub(crate) fn add(&mut self, thing: T) -> u32 {
        if let Some(index) = self.free.pop() {
            self.slots[index as usize] = Some(thing);
            return index;
        }
        self.slots.push(Some(thing));
        // Invariant: what waits fits into memory, and is larger than a byte.
        u32::try_from(self.slots.len() - 1).expect("what waits is counted in 32 bits")
    }

    pub(crate) fn take(&mut self, index: u32) -> Option<T> {
        let thing = self.slots.get_mut(index as usize)?.take();
        if thing.is_some() {
            self.free.push(index);
        }
        thing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn len(schedule: &Schedule) -> usize {
        schedule.near.len() + schedule.in_ring + schedule.far.len()
    }

    fn order(planned: &[(u64, u32)]) -> Vec<(u64, u32)> {
        let mut schedule = Schedule::default();
        for (millis, host) in planned {
            schedule.add(Time::from_millis(*millis), What::Wake(HostId(*host)));
        }
        assert_eq!(len(&schedule), planned.len());
        let mut order = Vec::new();
        while let Some((at, What::Wake(host))) = schedule.pop() {
            order.push((at.as_micros() / 1000, host.0));
        }
        order
    }

    #[test]
    fn the_earliest_comes_first_and_equals_in_their_order() {
        let planned = [(3000, 0), (1000, 1), (2000, 2), (1000, 3)];
        assert_eq!(
            order(&planned),
            [(1000, 1), (1000, 3), (2000, 2), (3000, 0)]
        );
    }

    #[test]
    fn what_is_far_away_waits_for_its_turn() {
        let planned = [
            (9_000_000, 0),
            (4_000, 1),
            (10_000, 2),
            (0, 3),
            (9_000_000, 4),
        ];
        let expected = [
            (0, 3),
            (4_000, 1),
            (10_000, 2),
            (9_000_000, 0),
            (9_000_000, 4),
        ];
        assert_eq!(order(&planned), expected);
    }

    #[test]
    fn it_is_in_order_while_more_is_planned() {
        let mut rng = riverrun_base::Rng::new(1);
        let mut schedule = Schedule::default();
        let mut plain = std::collections::BTreeSet::new();
        let mut now = Time::ZERO;
        let mut number = 0;
        for _ in 0..50_000 {
            // Three in four are planned, then three in four are taken: it grows and shrinks.
            let grows = number % 8_000 < 4_000;
            if rng.below(4) < if grows { 3 } else { 1 } {
                let reach = [1, 5_000, 3_000_000, 100_000_000][rng.below(4)];
                let wait = u64::try_from(rng.below(reach)).unwrap();
                let at = now + std::time::Duration::from_micros(wait);
                schedule.add(at, What::Pending(number));
                plain.insert((at, number));
                number += 1;
            } else {
                let first = plain
                    .pop_first()
                    .map(|(at, number)| (at, What::Pending(number)));
                assert_eq!(schedule.next_time(), first.map(|(at, _)| at));
                assert_eq!(schedule.pop(), first);
                now = first.map_or(now, |(at, _)| at);
            }
            assert_eq!(len(&schedule), plain.len());
        }
    }

    #[test]
    fn a_place_is_used_again_once_it_is_empty() {
        let mut waiting = Waiting::default();
        let first = waiting.add('a');
        assert_eq!(waiting.take(first), Some('a'));
        assert_eq!(waiting.take(first), None);
        assert_eq!(waiting.add('b'), first);
        assert_ne!(waiting.add('c'), first);
    }
}
