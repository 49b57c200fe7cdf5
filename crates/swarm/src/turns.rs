//! Thousands of torrents at once: whose files are opened and checked now, and who stays awake without being used.
//!
//! Only for torrents that can be put away and loaded again: nothing of the others becomes less by waiting.

use std::collections::BTreeSet;
use std::time::Duration;

use riverrun_base::Time;

use crate::key::TorrentKey;

/// How many torrents are being opened or checked before others wait: enough for all disks, and little memory.
const BUSY_MAX: usize = 64;
/// While more torrents come so soon after the last, they are only taken in: whoever adds them waits for that, and not
/// for checks, which would take the processor and the disk from it.
const RUSH_INTERVAL: Duration = Duration::from_millis(20);
/// Who waits gets a turn after this time even so: some checks take hours, and others must not wait for them.
const TURN_INTERVAL: Duration = Duration::from_millis(100);
/// How many torrents stay awake that nobody uses; of more, the one that was used the longest ago dozes at once.
const IDLE_MAX: usize = 64;

/// Who is busy, who waits, and who is idle.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    busy: BTreeSet<TorrentKey>,
    waiting: BTreeSet<TorrentKey>,
    /// When somebody asked for a turn last.
    asked_at: Option<Time>,
    /// When somebody was given a turn last, or began to wait when nobody did.
    given_at: Time,
    idle: BTreeSet<(Time, TorrentKey)>,
}

/// A torrent's own part: since when it is idle, if it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Idle(Option<Time>);

impl Turns {
    /// Whether a torrent may be opened at once; if not, it waits from now on.
    pub(crate) fn take(&mut self, now: Time, torrent: TorrentKey) -> bool {
        let is_rush = self.is_rush(now);
        self.asked_at = Some(now);
        let is_free = self.busy.len() < BUSY_MAX && !is_rush || self.busy.contains(&torrent);
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
        let must_wait = self.busy.len() >= BUSY_MAX || self.is_rush(now);
        if must_wait && now < self.given_at + TURN_INTERVAL {
            return None;
        }
        let next = self.waiting.pop_first()?;
        self.busy.insert(next);
        self.given_at = now;
        Some(next)
    }

    /// When it is somebody's turn, whatever the others do.
    pub(crate) fn next_due(&self) -> Option<Time> {
        let in_any_case = self.given_at + TURN_INTERVAL;
        let after_rush = self.asked_at.map(|at| at + RUSH_INTERVAL);
        let after_rush = after_rush.filter(|_| self.busy.len() < BUSY_MAX);
        (!self.waiting.is_empty()).then(|| after_rush.map_or(in_any_case, |at| at.min(in_any_case)))
    }

    /// Whether many ask for a turn just now.
    fn is_rush(&self, now: Time) -> bool {
        self.asked_at.is_some_and(|at| now < at + RUSH_INTERVAL)
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
        let mut now = Time::from_secs(9);
        for n in 0..BUSY_MAX {
            now += RUSH_INTERVAL;
            assert!(turns.take(now, key(n)));
        }
        now += RUSH_INTERVAL;
        assert!(turns.take(now, key(0)), "it has its turn");
        assert!(
            !turns.take(now, key(100)) && !turns.take(now, key(101)) && !turns.take(now, key(102))
        );
        let begun = now;
        turns.note_busy(key(5), false);
        assert_eq!(turns.next(now), None, "others may come");
        assert_eq!(turns.next_due(), Some(now + RUSH_INTERVAL));
        now += RUSH_INTERVAL;
        assert_eq!(turns.next(now), Some(key(100)));
        assert_eq!(turns.next(now), None);
        assert_eq!(turns.next_due(), Some(now + TURN_INTERVAL));
        assert_eq!(turns.next(now + TURN_INTERVAL), Some(key(101)));
        assert!(now < begun + TURN_INTERVAL);
        turns.forget(key(102), &mut Idle::default());
        assert_eq!(turns.next_due(), None);
    }

    #[test]
    fn while_more_come_they_are_taken_in_and_few_are_opened() {
        let mut turns = Turns::default();
        let (mut now, mut opened) = (Time::from_secs(9), 0);
        for n in 0..500 {
            now += Duration::from_millis(1);
            opened += usize::from(turns.take(now, key(n)));
            opened += std::iter::from_fn(|| turns.next(now)).count();
        }
        assert_eq!(opened, 5);
        now += RUSH_INTERVAL;
        assert!(turns.next_due().is_some_and(|due| due <= now));
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
