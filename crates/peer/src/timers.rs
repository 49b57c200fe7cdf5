//! The deadlines of one connection: a slot a kind, so that setting one is a store.

use riverrun_base::Time;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The handshake is through by then, or never.
    Handshake,
    /// The peer has said something by then.
    Idle,
    /// We have to say something.
    KeepAlive,
    /// A block that the peer owes us has come by then.
    Snub,
    /// A peer that choked us has rejected our requests by then (BEP 6).
    Rejects,
    /// Pieces that we have are told by then, with something else or without.
    Haves,
}

impl Timer {
    const ALL: [Self; 6] = [
        Self::Handshake,
        Self::Idle,
        Self::KeepAlive,
        Self::Snub,
        Self::Rejects,
        Self::Haves,
    ];
}

/// All deadlines; each is set or not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers([Option<Time>; Timer::ALL.len()]);

impl Timers {
    pub(crate) const fn set(&mut self, timer: Timer, at: Time) {
        self.0[timer as usize] = Some(at);
    }

    pub(crate) const fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(crate) const fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Time> {
        self.0.iter().flatten().min().copied()
    }

    /// A timer whose deadline has come; it is stopped.
    pub(crate) fn take_expired(&mut self, now: Time) -> Option<Timer> {
        let due = |timer: &Timer| self.0[*timer as usize].is_some_and(|at| at <= now);
        let timer = Timer::ALL.into_iter().find(due)?;
        self.stop(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_is_next_and_each_expires_once() {
        let mut timers = Timers::default();
        assert_eq!(timers.next(), None);
        timers.set(Timer::Idle, Time::from_secs(3));
        timers.set(Timer::Snub, Time::from_secs(2));
        assert_eq!(timers.next(), Some(Time::from_secs(2)));
        assert_eq!(timers.take_expired(Time::from_secs(1)), None);
        assert_eq!(timers.take_expired(Time::from_secs(3)), Some(Timer::Idle));
        assert_eq!(timers.take_expired(Time::from_secs(3)), Some(Timer::Snub));
        assert_eq!(timers.take_expired(Time::from_secs(3)), None);
        assert!(!timers.is_set(Timer::Idle));
    }
}
