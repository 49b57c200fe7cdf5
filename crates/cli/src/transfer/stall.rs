//! A download that stands still: since when, and whether it was said why.

use std::time::{Duration, Instant};

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
    /// What was said of it last.
    code: Option<&'static str>,
}

impl Stall {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            received_bytes: 0,
            since: now,
            asked_at: None,
            code: None,
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

    /// Whether this reason was not the last one said.
    pub(crate) fn is_news(&mut self, code: &'static str) -> bool {
        self.code.replace(code) != Some(code)
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
        assert!(stall.is_news("all_choked") && !stall.is_news("all_choked"));
        assert!(stall.is_news("offline"));
        assert_eq!(stall.lasts(at(7), 16_384), None);
        assert!(stall.lasts(at(12), 16_384).is_some() && stall.is_news("offline"));
    }
}
