//! How long a peer may be silent before it is held to snub.

use std::time::Duration;

use riverrun_base::Time;

/// A peer that was seen to answer late is waited for so many times as long as it took.
const SEEN_TIMES: u32 = 2;
/// But at most so many times as long as others.
const LONGER_MAX: u32 = 3;
/// How long a late answer counts.
const MEMORY: Duration = Duration::from_mins(5);

/// What a peer's answers have shown of its line.
///
/// An uplink that many share answers each of them only when it is their turn: eight slots of a piece each, at four seconds
/// a piece, are half a minute. Held to be silent, the only peer with a piece would be asked for one block here and one
/// there, and its line would carry pieces that nobody can pass on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    /// The longest time from a request to its block, of late.
    longest: Duration,
    seen_at: Time,
}

impl Patience {
    /// A block has come so long after it was asked for.
    pub(crate) fn note(&mut self, now: Time, latency: Duration) {
        if latency >= self.longest || now.since(self.seen_at) > MEMORY {
            *self = Self {
                longest: latency,
                seen_at: now,
            };
        }
    }

    /// How long the peer may be silent, where others may be for `timeout`.
    pub(crate) fn of(&self, timeout: Duration) -> Duration {
        (self.longest * SEEN_TIMES).clamp(timeout, timeout * LONGER_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_late_is_waited_for_but_not_for_ever() {
        let timeout = Duration::from_secs(20);
        let waits = |patience: Patience| patience.of(timeout).as_secs();
        let mut patience = Patience::default();
        assert_eq!(waits(patience), 20);
        for (now, latency, expected) in [
            (10, 1, 20),
            (40, 25, 50),
            (41, 2, 50),
            (90, 50, 60),
            (390, 3, 60),
            (391, 3, 20),
        ] {
            patience.note(Time::from_secs(now), Duration::from_secs(latency));
            assert_eq!(waits(patience), expected, "after {now} s");
        }
    }
}
