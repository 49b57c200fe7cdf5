//! How large a datagram the path carries (BEP 29, "packet sizes"; RFC 8899).
//!
//! Payload that was sent under a number can never be cut anew, so nothing may depend on a size that is not known
//! to pass. A probe is therefore an ordinary packet, padded: if it is lost, the same payload goes without
//! padding. ICMP need not come through; its loss, while others arrive, says enough.
//!
//! A path may become narrower than what it carried. Then nothing that was cut for it gets through any more, and probes
//! cannot mend that. Once it is noticed (RFC 8899, 4.3), new packets are cut for the smallest path, and the old ones go
//! so that routers may take them apart.

use std::time::Duration;

use riverrun_base::Time;

use crate::config::DatagramLimits;

/// Two sizes closer together than this are not worth another probe.
const STEP_BYTES_MIN: usize = 16;

/// A size is given up when that many probes were lost: one may be lost by chance.
const PROBES_PER_SIZE: u8 = 2;

/// The path may change; how long until a search begins anew.
const SEARCH_AGAIN_AFTER: Duration = Duration::from_mins(10);

/// The search for one path.
#[derive(Clone, Debug)]
pub(crate) struct PathMtu {
    limits: DatagramLimits,
    /// Known to pass.
    passes: usize,
    /// Worth a try.
    ceiling: usize,
    /// Out there now.
    probe: Option<usize>,
    lost_in_a_row: u8,
    search_again: Option<Time>,
}

impl PathMtu {
    pub(crate) const fn new(limits: DatagramLimits) -> Self {
        Self {
            limits,
            passes: limits.floor,
            ceiling: limits.ceiling,
            probe: None,
            lost_in_a_row: 0,
            search_again: None,
        }
    }

    /// The largest datagram that is known to pass.
    pub(crate) const fn datagram_len(&self) -> usize {
        self.passes
    }

    /// How large a probe should be sent now, if one should. The first try is the most that is possible, for it
    /// passes nearly everywhere; after that the middle.
    pub(crate) fn probe_len(&mut self, now: Time) -> Option<usize> {
        if self.search_again.is_some_and(|again| now >= again) {
            self.search_again = None;
            self.ceiling = self.limits.ceiling;
        }
        if self.probe.is_some() || self.ceiling < self.passes + STEP_BYTES_MIN {
            return None;
        }
        if self.ceiling == self.limits.ceiling {
            return Some(self.ceiling);
        }
        Some(self.passes.midpoint(self.ceiling + 1))
    }

    /// A probe has been put together; it is the only one until it is acknowledged or lost.
    pub(crate) const fn probing(&mut self, len: usize) {
        self.probe = Some(len);
    }

    /// The probe has arrived.
    pub(crate) fn acked(&mut self, now: Time) {
        if let Some(len) = self.probe.take() {
            self.lost_in_a_row = 0;
            self.passes = self.passes.max(len);
            self.settle(now);
        }
    }

    /// The probe was lost, while others arrived.
    pub(crate) fn lost(&mut self, now: Time) {
        let Some(len) = self.probe.take() else { return };
        self.lost_in_a_row += 1;
        if self.lost_in_a_row >= PROBES_PER_SIZE {
            self.lost_in_a_row = 0;
            self.ceiling = len - 1;
            self.settle(now);
        }
    }

    /// A datagram of that length was lost again and again, while others arrived.
    pub(crate) fn lost_often(&mut self, now: Time, len: usize) {
        // What was cut for a wider path than we believe in says nothing of what we believe.
        if len <= self.passes {
            self.black_hole(now);
        }
    }

    /// Nothing arrives any more: perhaps the path has become narrower.
    pub(crate) fn black_hole(&mut self, now: Time) {
        if self.passes == self.limits.floor {
            return;
        }
        self.ceiling = self.passes;
        self.passes = self.limits.floor;
        self.probe = None;
        self.settle(now);
    }

    fn settle(&mut self, now: Time) {
        if self.ceiling < self.passes + STEP_BYTES_MIN && self.ceiling < self.limits.ceiling {
            self.search_again = Some(now + SEARCH_AGAIN_AFTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: DatagramLimits = DatagramLimits {
        floor: 548,
        ceiling: 1472,
    };

    /// Probes on a path that carries `path` bytes until the search rests; gives the number of probes.
    fn search(mtu: &mut PathMtu, path: usize, now: Time) -> usize {
        for count in 0..100 {
            let Some(len) = mtu.probe_len(now) else {
                return count;
            };
            mtu.probing(len);
            assert_eq!(mtu.probe_len(now), None, "one at a time");
            if len <= path {
                mtu.acked(now);
            } else {
                mtu.lost(now);
            }
        }
        panic!("the search does not end");
    }

    #[test]
    fn every_path_is_found_to_within_a_step() {
        for path in 548..=1600 {
            let mut mtu = PathMtu::new(LIMITS);
            let probes = search(&mut mtu, path, Time::ZERO);
            let found = mtu.datagram_len();
            assert!(
                found <= path && path.min(1472) - found < STEP_BYTES_MIN,
                "{path}: {found}"
            );
            assert!(probes <= 16, "{path}: {probes} probes");
        }
    }

    #[test]
    fn the_usual_path_takes_one_probe() {
        let mut mtu = PathMtu::new(LIMITS);
        assert_eq!(search(&mut mtu, 1472, Time::ZERO), 1);
        assert_eq!(mtu.datagram_len(), 1472);
    }

    #[test]
    fn one_loss_by_chance_lowers_nothing() {
        let mut mtu = PathMtu::new(LIMITS);
        mtu.probing(1472);
        mtu.lost(Time::ZERO);
        assert_eq!(mtu.probe_len(Time::ZERO), Some(1472));
    }

    #[test]
    fn only_what_should_have_passed_makes_a_black_hole() {
        let mut mtu = PathMtu::new(LIMITS);
        search(&mut mtu, 1472, Time::ZERO);
        mtu.lost_often(Time::ZERO, 1473);
        assert_eq!(mtu.datagram_len(), 1472);
        mtu.lost_often(Time::ZERO, 1472);
        assert_eq!(mtu.datagram_len(), 548);
        // The smallest path can only be broken: that is no reason to stop looking for a wider one.
        mtu.lost_often(Time::ZERO, 548);
        mtu.black_hole(Time::ZERO);
        assert_eq!(mtu.probe_len(Time::ZERO), Some(1472));
    }

    #[test]
    fn a_path_that_changes_is_found_again() {
        let mut mtu = PathMtu::new(LIMITS);
        search(&mut mtu, 1472, Time::ZERO);
        mtu.black_hole(Time::ZERO);
        assert_eq!(mtu.datagram_len(), 548);
        search(&mut mtu, 1300, Time::ZERO);
        assert!(mtu.datagram_len() > 1280);
        assert_eq!(mtu.probe_len(Time::from_secs(599)), None);
        search(&mut mtu, 1472, Time::from_secs(600));
        assert_eq!(mtu.datagram_len(), 1472);
    }
}
