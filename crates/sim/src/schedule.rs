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

/// Everything that will happen: by time, and what was planned first comes first.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    heap: BinaryHeap<Entry>,
    sequence: u64,
}

impl Schedule {
    pub(crate) fn add(&mut self, at: Time, what: What) {
        self.sequence += 1;
        let sequence = self.sequence;
        self.heap.push(Entry { at, sequence, what });
    }

    pub(crate) fn next_time(&self) -> Option<Time> {
        self.heap.peek().map(|entry| entry.at)
    }

    pub(crate) fn pop(&mut self) -> Option<(Time, What)> {
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }
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

    #[test]
    fn the_earliest_comes_first_and_equals_in_their_order() {
        let mut schedule = Schedule::default();
        for (secs, host) in [(3, 0), (1, 1), (2, 2), (1, 3)] {
            schedule.add(Time::from_secs(secs), What::Wake(HostId(host)));
        }
        let mut order = Vec::new();
        while let Some((at, What::Wake(host))) = schedule.pop() {
            order.push((at.as_micros() / 1_000_000, host.0));
        }
        assert_eq!(order, [(1, 1), (1, 3), (2, 2), (3, 0)]);
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
