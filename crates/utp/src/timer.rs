//! When to give up waiting for an acknowledgement.

use riverrun_base::Time;

use crate::rtt::Rtt;

/// What the time has come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// To send the last packet again, to learn what has arrived.
    Probe,
    /// To hold everything for lost, for so many times in a row.
    Timeout {
        /// How many, with this one.
        in_a_row: u32,
    },
}

/// Runs from the last progress while something is under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct RetransmitTimer {
    since: Option<Time>,
    has_probed: bool,
    timeouts: u32,
    forced: bool,
}

impl RetransmitTimer {
    /// Whether one packet is to be sent whatever the windows say.
    pub(crate) const fn is_forced(&self) -> bool {
        self.forced
    }

    /// Something waits to leave.
    pub(crate) fn arm(&mut self, now: Time) {
        self.since.get_or_insert(now);
    }

    /// The peer is there, though nothing has arrived.
    pub(crate) fn heard(&mut self) {
        self.timeouts = 0;
    }

    /// Something has left.
    pub(crate) fn sent(&mut self, now: Time) {
        if self.since.is_none() || self.forced {
            self.since = Some(now);
        }
        self.forced = false;
    }

    /// Something has arrived; `more` is still under way.
    pub(crate) fn progressed(&mut self, now: Time, more: bool) {
        self.since = more.then_some(now);
        self.has_probed = false;
        self.timeouts = 0;
        self.forced = false;
    }

    /// When the wait is over. `stalled`: nothing is under way, but something waits for a word from the peer.
    pub(crate) fn deadline(&self, rtt: &Rtt, stalled: bool) -> Option<Time> {
        let since = self.since?;
        if self.forced {
            return None;
        }
        if !self.has_probed
            && !stalled
            && let Some(wait) = rtt.probe_timeout()
        {
            return Some(since + wait);
        }
        Some(since + rtt.timeout())
    }

    /// What the time has come for, if for anything.
    pub(crate) fn due(&mut self, now: Time, rtt: &Rtt, stalled: bool) -> Option<Due> {
        if self
            .deadline(rtt, stalled)
            .is_none_or(|deadline| now < deadline)
        {
            return None;
        }
        self.forced = true;
        if !self.has_probed && !stalled && rtt.probe_timeout().is_some() {
            self.has_probed = true;
            return Some(Due::Probe);
        }
        self.since = Some(now);
        self.timeouts += 1;
        Some(Due::Timeout {
            in_a_row: self.timeouts,
        })
    }
}
