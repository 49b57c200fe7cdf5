//! How much strangers may make us do: queries an address and a network, bytes of replies in all.

use std::hash::BuildHasher;
use std::net::SocketAddr;

use riverrun_base::{Nearness, SeededState, Time, TokenBucket};

use crate::config::Config;
use crate::contact::network_of;

/// How many allowances there are of each kind. Sources that fall on one share it: with a flood from a thousand
/// addresses an honest one is hit one time in five.
const SLOTS: usize = 4096;

/// How many seconds' worth of queries may come at once.
const BURST_SECS: u32 = 10;

/// How many seconds' worth of replies may go at once.
const REPLY_BURST_SECS: u64 = 2;

/// What one source may still ask.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    /// In thousandths of a query.
    left: u32,
    /// In tenths of a second.
    filled_at: u32,
}

/// The gate through which queries go.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    hasher: SeededState,
    per_ip: Allowances,
    per_network: Allowances,
    replies: TokenBucket,
    is_local_free: bool,
}

#[derive(Clone, Debug)]
struct Allowances {
    per_second: u32,
    /// Empty until somebody asks: ten thousand nodes of a simulation need not pay for it.
    slots: Vec<Allowance>,
}

impl Allowances {
    const fn new(per_second: u32) -> Self {
        Self {
            per_second,
            slots: Vec::new(),
        }
    }

    fn take(&mut self, now: Time, hash: u64) -> bool {
        let now = u32::try_from(now.as_micros() / 100_000).unwrap_or(u32::MAX);
        let full = self.per_second.saturating_mul(BURST_SECS * 1000);
        if self.slots.is_empty() {
            let fresh = Allowance {
                left: full,
                filled_at: now,
            };
            self.slots.resize(SLOTS, fresh);
        }
        // Invariant: the remainder is below the number of slots.
        let at = usize::try_from(hash % SLOTS as u64).expect("below the number of slots");
        let slot = &mut self.slots[at];
        let tenths = now.saturating_sub(slot.filled_at);
        let gained = tenths.saturating_mul(self.per_second.saturating_mul(100));
        slot.left = slot.left.saturating_add(gained).min(full);
        slot.filled_at = now;
        let allowed = slot.left >= 1000;
        if allowed {
            slot.left -= 1000;
        }
        allowed
    }
}

impl Gate {
    pub(crate) fn new(now: Time, config: &Config, seed: u64) -> Self {
        let rate = config.reply_rate;
        let burst = rate.bytes_per_second().saturating_mul(REPLY_BURST_SECS);
        Self {
            hasher: SeededState::new(seed),
            per_ip: Allowances::new(config.queries_per_ip),
            per_network: Allowances::new(config.queries_per_network),
            replies: TokenBucket::new(rate, burst, now),
            is_local_free: config.is_local_network,
        }
    }

    /// Whether a query from there is answered now. One that is not costs no more than this look.
    pub(crate) fn admits(&mut self, now: Time, from: SocketAddr) -> bool {
        if self.is_local_free && Nearness::is_local(from.ip()) {
            return true;
        }
        if self.replies.available(now) == 0 {
            return false;
        }
        let ip = self.hasher.hash_one(from.ip());
        let network = self.hasher.hash_one(network_of(from.ip()));
        self.per_ip.take(now, ip) && self.per_network.take(now, network)
    }

    /// A reply of that many bytes goes out.
    pub(crate) fn spend(&mut self, now: Time, to: SocketAddr, bytes: usize) {
        if !(self.is_local_free && Nearness::is_local(to.ip())) {
            self.replies.take(now, bytes as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn gate(change: impl FnOnce(&mut Config)) -> (Gate, Config) {
        let mut config = Config::new([0; 32]);
        change(&mut config);
        (Gate::new(Time::ZERO, &config, 1), config)
    }

    #[test]
    fn one_address_gets_its_share_and_no_more() {
        let (mut gate, config) = gate(|_| {});
        let from = "192.0.2.1:7".parse().unwrap();
        let mut now = Time::ZERO;
        let mut answered = 0;
        while now < Time::from_secs(100) {
            answered += u32::from(gate.admits(now, from));
            now += Duration::from_millis(1);
        }
        let expected = config.queries_per_ip * (100 + BURST_SECS);
        assert!(
            answered.abs_diff(expected) <= expected / 20,
            "{answered} {expected}"
        );
        // Another address is answered all the while.
        assert!(gate.admits(now, "198.51.100.1:7".parse().unwrap()));
    }

    #[test]
    fn a_network_gets_no_more_by_having_more_addresses() {
        let (mut gate, config) = gate(|_| {});
        let answered: u32 = (0..100_000_u32)
            .map(|n| {
                let [.., host] = n.to_be_bytes();
                let from = SocketAddr::from(([192, 0, 2, host], 7));
                u32::from(gate.admits(Time::from_secs(u64::from(n / 10_000)), from))
            })
            .sum();
        assert!(
            answered <= config.queries_per_network * (10 + BURST_SECS),
            "{answered}"
        );
    }

    #[test]
    fn replies_keep_to_their_budget() {
        let (mut gate, config) = gate(|config| {
            config.queries_per_ip = 1_000_000;
            config.queries_per_network = 1_000_000;
        });
        let mut sent = 0_u64;
        for n in 0..2_000_000_u64 {
            let now = Time::from_micros(n * 50);
            let from = SocketAddr::from(([192, 0, 2, 1], 7));
            if gate.admits(now, from) {
                gate.spend(now, from, 300);
                sent += 300;
            }
        }
        let budget = config.reply_rate.bytes_per_second() * (100 + REPLY_BURST_SECS);
        assert!(sent.abs_diff(budget) <= budget / 20, "{sent} {budget}");
    }
}
