//! Thousands of torrents at once: whose files are opened and checked now, and who stays awake without being used.
//!
//! Only for torrents that can be put away and loaded again: nothing of the others becomes less by waiting.

use std::collections::BTreeSet;
use std::time::Duration;

use riverrun_base::Time;

use crate::key::TorrentKey;

/// How many torrents are being opened or checked before others wait: enough for all disks, and little memory.
const BUSY_MAX: usize = 64;
/// Who waits gets a turn after this time even so: some checks take hours, and others must not wait for them.
const TURN_INTERVAL: Duration = Duration::from_millis(100);
/// How many torrents stay awake that nobody uses; of more, the one that was used the longest ago dozes at once.
const IDLE_MAX: usize = 64;

/// Who is busy, who waits, and who is idle.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    busy: BTreeSet<TorrentKey>,
    waiting: BTreeSet<TorrentKey>,
    /// How many batches of torrents are being added: those are only taken in, for checks would take the processor and
    /// the disk from whoever waits for that.
    batches: usize,
    /// When somebody was given a turn last, or began to wait when nobody did.
    given_at: Time,
    idle: BTreeSet<(Time, TorrentKey)>,
}

/// A torrent's own part: since when it is idle, if it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Idle(Option<Time>);

impl Turns {
    /// A batch of torrents is about to be added.
    pub(crate) const fn begin_batch(&mut self) {
        self.batches += 1;
    }

    /// All of a batch are there.
    pub(crate) const fn end_batch(&mut self) {
        self.batches = self.batches.saturating_sub(1);
    }

    /// Whether there is room for one more that is busy.
    fn has_room(&self) -> bool {
        self.busy.len() < BUSY_MAX && self.batches == 0
    }

    /// Whether a torrent may be opened at once; if not, it waits from now on.
    pub(crate) fn take(&mut self, now: Time, torrent: TorrentKey) -> bool {
        let is_free = self.has_room() || self.busy.contains(&torrent);
        if is_free {
            self.busy.insert(torrent);
        } else {
            if self.waiting.is_empty() {
                self.given_at = now;
            }
            self.waiting.insert(torrent);
        }
        is_free
    }

    /// Notes whether a torrent is being opened or checked.
    pub(crate) fn note_busy(&mut self, torrent: TorrentKey, is_busy: bool) {
        if is_busy {
            self.busy.insert(torrent);
        } else {
            self.busy.remove(&torrent);
        }
    }

    /// The next torrent whose turn it is, if it is somebody's.
    pub(crate) fn next(&mut self, now: Time) -> Option<TorrentKey> {
        if !self.has_room() && now < self.given_at + TURN_INTERVAL {
            return None;
        }
        let next = self.waiting.pop_first()?;
        self.busy.insert(next);
        self.given_at = now;
        Some(next)
    }

    /// Who waits gets the turn after so many others, himself included, and how many wait; `None` for who does not wait.
    pub(crate) fn place(&self, torrent: TorrentKey) -> Option<(usize, usize)> {
        let before = self.waiting.range(..torrent).count();
        let waits = self.waiting.contains(&torrent);
        waits.then(|| (before + 1, self.waiting.len()))
    }

    /// When it is somebody's turn, whatever the others do.
    pub(crate) fn next_due(&self) -> Option<Time> {
        (!self.waiting.is_empty()).then(|| self.given_at + TURN_INTERVAL)
    }

    /// Notes since when a torrent is idle, if it is.
    pub(crate) fn note_idle(&mut self, torrent: TorrentKey, idle: &mut Idle, since: Option<Time>) {
        if idle.0 == since {
            return;
        }
        if let Some(since) = idle.0.take() {
            self.idle.remove(&(since, torrent));
        }
        if let Some(since) = since {
            self.idle.insert((since, torrent));
        }
        idle.0 = since;
    }

    /// The torrent that is to doze now, if too many are idle.
    pub(crate) fn longest_idle(&self) -> Option<TorrentKey> {
        let (_, torrent) = self.idle.first()?;
        (self.idle.len() > IDLE_MAX).then_some(*torrent)
    }

    /// A torrent is gone.
    pub(crate) fn forget(&mut self, torrent: TorrentKey, idle: &mut Idle) {
        self.busy.remove(&torrent);
        self.waiting.remove(&torrent);
        self.note_idle(torrent, idle, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> TorrentKey {
        TorrentKey::new(u32::try_from(n).unwrap(), 0)
    }

    #[test]
    fn who_waits_gets_the_turn_of_who_is_through_and_one_in_time_anyway() {
        let mut turns = Turns::default();
        let now = Time::from_secs(9);
        for n in 0..BUSY_MAX {
            assert!(turns.take(now, key(n)));
        }
        assert!(turns.take(now, key(0)), "it has its turn");
        assert_eq!(turns.next_due(), None);
        assert!(
            !turns.take(now, key(100)) && !turns.take(now, key(101)) && !turns.take(now, key(102))
        );
        let places = [0, 100, 102].map(|n| turns.place(key(n)));
        assert_eq!(places, [None, Some((1, 3)), Some((3, 3))]);
        assert_eq!(turns.next(now), None);
        turns.note_busy(key(5), false);
        assert_eq!(turns.next(now), Some(key(100)));
        assert_eq!(turns.next(now), None);
        assert_eq!(turns.next_due(), Some(now + TURN_INTERVAL));
        assert_eq!(turns.next(now + TURN_INTERVAL), Some(key(101)));
        turns.forget(key(102), &mut Idle::default());
        assert_eq!(turns.next_due(), None);
    }

    #[test]
    fn until_all_batches_are_there_they_are_taken_in_and_few_are_opened() {
        let mut turns = Turns::default();
        let (mut now, mut opened) = (Time::from_secs(9), 0);
        turns.begin_batch();
        turns.begin_batch();
        for n in 0..500 {
            now += Duration::from_millis(1);
            opened += usize::from(turns.take(now, key(n)));
            opened += std::iter::from_fn(|| turns.next(now)).count();
        }
        assert_eq!(opened, 4, "one in a tenth of a second");
        turns.end_batch();
        assert_eq!(turns.next(now), None);
        turns.end_batch();
        let rest = std::iter::from_fn(|| turns.next(now)).count();
        assert_eq!(opened + rest, BUSY_MAX);
    }

    #[test]
    fn of_too_many_that_are_idle_the_one_that_was_used_first_dozes() {
        let mut turns = Turns::default();
        let mut idle = vec![Idle::default(); IDLE_MAX + 1];
        for (n, idle) in idle.iter_mut().enumerate() {
            assert_eq!(turns.longest_idle(), None);
            let since = Time::from_secs(1000 - n as u64);
            turns.note_idle(key(n), idle, Some(since));
        }
        assert_eq!(turns.longest_idle(), Some(key(IDLE_MAX)));
        // It is used again, and so is another.
        turns.note_idle(
            key(IDLE_MAX),
            &mut idle[IDLE_MAX],
            Some(Time::from_secs(2000)),
        );
        assert_eq!(turns.longest_idle(), Some(key(IDLE_MAX - 1)));
        turns.note_idle(key(3), &mut idle[3], None);
        assert_eq!(turns.longest_idle(), None);
    }
}
