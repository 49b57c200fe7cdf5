//! When each torrent wants to be woken.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use riverrun_base::Time;

use crate::key::TorrentKey;

/// Deadlines of torrents, kept lazily: a torrent stands in the heap with a time not later than its own. A
/// deadline that moves back, as most do, costs nothing; a torrent that is woken too early is asked again.
#[derive(Debug, Default)]
pub(crate) struct Wheel {
    heap: BinaryHeap<Reverse<(Time, TorrentKey)>>,
}

/// A torrent's own part of the wheel: the time for which it stands in the heap.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Alarm(Option<Time>);

impl Wheel {
    /// Makes sure that the torrent is woken at `at`, or before.
    pub(crate) fn set(&mut self, torrent: TorrentKey, alarm: &mut Alarm, at: Option<Time>) {
        let Some(at) = at else { return };
        if alarm.0.is_none_or(|set| at < set) {
            alarm.0 = Some(at);
            self.heap.push(Reverse((at, torrent)));
        }
    }

    /// When the next torrent is to be woken.
    pub(crate) fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// A torrent whose time has come. It has to [`ring`](Alarm::ring) its alarm.
    pub(crate) fn pop(&mut self, now: Time) -> Option<(Time, TorrentKey)> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

impl Alarm {
    /// Takes the alarm off; false if this entry of the heap was outdated by an earlier one.
    pub(crate) fn ring(&mut self, at: Time) -> bool {
        let current = self.0 == Some(at);
        if current {
            self.0 = None;
        }
        current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_time_outdates_a_later_one() {
        let (mut wheel, mut alarm) = (Wheel::default(), Alarm::default());
        let key = TorrentKey::new(1, 0);
        wheel.set(key, &mut alarm, Some(Time::from_secs(9)));
        wheel.set(key, &mut alarm, Some(Time::from_secs(5)));
        wheel.set(key, &mut alarm, Some(Time::from_secs(7)));
        wheel.set(key, &mut alarm, None);
        assert_eq!(wheel.next(), Some(Time::from_secs(5)));
        assert_eq!(wheel.pop(Time::from_secs(4)), None);
        let (at, _) = wheel.pop(Time::from_secs(6)).unwrap();
        assert!(alarm.ring(at));
        let (at, _) = wheel.pop(Time::from_secs(9)).unwrap();
        assert!(!alarm.ring(at), "the entry for 9 s is outdated");
        assert_eq!(wheel.next(), None);
    }
}
