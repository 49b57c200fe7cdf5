//! A download that stands still: since when, and whether it was said why.

use std::time::{Duration, Instant};

use riverrun_engine::Why;

/// Before that a silence is nothing to speak of: trackers and peers take a moment to answer.
const SAID_AFTER: Duration = Duration::from_secs(5);

/// The reason is looked for this often.
const ASKED_AGAIN: Duration = Duration::from_secs(1);

/// Since when nothing has come.
#[derive(Debug)]
pub(crate) struct Stall {
    received_bytes: u64,
    since: Instant,
    /// When it was asked for the reason last.
    asked_at: Option<Instant>,
    /// The last reason.
    why: Option<Why>,
}

impl Stall {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            received_bytes: 0,
            since: now,
            asked_at: None,
            why: None,
        }
    }

    /// How long it has lasted, if that is long enough to say why, and it was not told a moment ago.
    pub(crate) fn lasts(&mut self, now: Instant, received_bytes: u64) -> Option<Duration> {
        if received_bytes != self.received_bytes {
            *self = Self {
                received_bytes,
                ..Self::new(now)
            };
        }
        let lasts = now.duration_since(self.since);
        let asked = self.asked_at.map(|at| now.duration_since(at));
        let is_due = lasts >= SAID_AFTER && asked.is_none_or(|ago| ago >= ASKED_AGAIN);
        if is_due {
            self.asked_at = Some(now);
        }
        is_due.then_some(lasts)
    }

    /// Takes in the reason as it is now. Whether there is one, and it is another than the last: not the same in other
    /// numbers.
    pub(crate) fn is_news(&mut self, why: Option<Why>) -> bool {
        let last = std::mem::replace(&mut self.why, why);
        let is_same = |why: &Why| last.is_some_and(|last| last.code() == why.code());
        self.why.as_ref().is_some_and(|why| !is_same(why))
    }

    /// The last reason, while it lasts.
    pub(crate) const fn reason(&self) -> Option<&Why> {
        self.why.as_ref()
    }

    /// The reason at the end of a sentence that says what has not come; nothing without one.
    pub(crate) fn clause(&self) -> String {
        let clause = |why| format!(": {why}");
        self.reason().map(clause).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_once_and_again_after_something_came() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut stall = Stall::new(start);
        assert_eq!(stall.lasts(at(4), 0), None);
        assert_eq!(stall.lasts(at(6), 0), Some(Duration::from_secs(6)));
        assert_eq!(stall.lasts(at(6), 0), None, "it was just told");
        let dialling = |dialling| Some(Why::Connecting { dialling });
        assert!(stall.is_news(dialling(1)) && !stall.is_news(dialling(2)));
        assert_eq!(stall.clause(), ": 2 peers are being dialled");
        assert!(stall.is_news(Some(Why::Offline)) && !stall.is_news(None));
        assert_eq!(stall.clause(), "");
        assert!(stall.is_news(Some(Why::Offline)));
        assert_eq!(stall.lasts(at(7), 16_384), None);
        assert_eq!(stall.reason(), None);
        assert!(stall.lasts(at(12), 16_384).is_some() && stall.is_news(Some(Why::Offline)));
    }
}
