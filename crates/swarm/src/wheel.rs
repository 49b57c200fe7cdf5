//! When each torrent wants to be woken.

use std::collections::BTreeSet;

use riverrun_base::Time;

use crate::key::TorrentKey;

/// Deadlines of torrents, kept lazily: a torrent stands here with a time not later than its own. A deadline that
/// moves back, as most do, costs nothing; a torrent that is woken too early is asked again.
#[derive(Debug, Default)]
pub(crate) struct Wheel {
    entries: BTreeSet<(Time, TorrentKey)>,
}

/// A torrent's own part of the wheel: the time for which it stands there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Alarm(Option<Time>);

impl Wheel {
    /// Makes sure that the torrent is woken at `at`, or before.
    pub(crate) fn set(&mut self, torrent: TorrentKey, alarm: &mut Alarm, at: Option<Time>) {
        let Some(at) = at else { return };
        if alarm.0.is_none_or(|set| at < set) {
            self.clear(torrent, alarm);
            alarm.0 = Some(at);
            self.entries.insert((at, torrent));
        }
    }

    /// The torrent need not be woken.
    pub(crate) fn clear(&mut self, torrent: TorrentKey, alarm: &mut Alarm) {
        if let Some(set) = alarm.0.take() {
            self.entries.remove(&(set, torrent));
        }
    }

    /// When the next torrent is to be woken.
    pub(crate) fn next(&self) -> Option<Time> {
        self.entries.first().map(|(at, _)| *at)
    }

    /// A torrent whose time has come. Its alarm has to be [silenced](Alarm::silence).
    pub(crate) fn pop(&mut self, now: Time) -> Option<TorrentKey> {
        self.next().filter(|at| *at <= now)?;
        self.entries.pop_first().map(|(_, torrent)| torrent)
    }
}

impl Alarm {
    /// It has rung.
    pub(crate) const fn silence(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_time_counts_until_it_has_come() {
        let (mut wheel, mut alarm) = (Wheel::default(), Alarm::default());
        let key = TorrentKey::new(1, 0);
        wheel.set(key, &mut alarm, Some(Time::from_secs(9)));
        wheel.set(key, &mut alarm, Some(Time::from_secs(5)));
        wheel.set(key, &mut alarm, Some(Time::from_secs(7)));
        wheel.set(key, &mut alarm, None);
        assert_eq!(wheel.next(), Some(Time::from_secs(5)));
        assert_eq!(wheel.pop(Time::from_secs(4)), None);
        assert_eq!(wheel.pop(Time::from_secs(6)), Some(key));
        alarm.silence();
        assert_eq!(wheel.next(), None);
        wheel.set(key, &mut alarm, Some(Time::from_secs(7)));
        wheel.clear(key, &mut alarm);
        assert_eq!(wheel.next(), None);
    }
}
