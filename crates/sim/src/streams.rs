//! Chance, one stream for each concern.

use riverrun_base::Rng;

/// Streams of random numbers. Each has its own, so that a fault that is added to a scenario, or a peer that draws
/// once more, does not shift what all others draw.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    /// Ids of hosts and seeds of their shards.
    pub(crate) hosts: Rng,
    /// Loss, reordering and jitter of packets.
    pub(crate) packets: Rng,
    /// What disks lose and spoil.
    pub(crate) disks: Rng,
    /// When peers come.
    pub(crate) churn: Rng,
    /// What hostile peers do.
    pub(crate) mischief: Rng,
    /// Trackers.
    pub(crate) trackers: Rng,
    /// By this the pairs of hosts differ.
    pub(crate) pairs: u64,
}

impl Streams {
    pub(crate) fn new(seed: u64) -> Self {
        let stream = |name: u64| Rng::new(mix(seed ^ mix(name)));
        Self {
            hosts: stream(1),
            packets: stream(2),
            disks: stream(3),
            churn: stream(4),
            mischief: stream(5),
            trackers: stream(6),
            pairs: stream(7).next_u64(),
        }
    }

    /// A number for a pair of hosts, whatever else was drawn; the same in both directions.
    pub(crate) fn pair(&self, a: u32, b: u32) -> u64 {
        let (low, high) = (a.min(b), a.max(b));
        mix(self.pairs ^ (u64::from(high) << 32 | u64::from(low)))
    }
}

/// Splitmix64's finaliser: every bit of the result depends on every bit of `x`.
pub(crate) const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Whether something of this probability happens, of 0 to 1.
pub(crate) fn happens(rng: &mut Rng, probability: f64) -> bool {
    // Nothing is drawn for what cannot happen, so that a world without faults is that world.
    probability > 0.0 && unit(rng) < probability
}

/// A number of 0 to 1, without 1.
pub(crate) fn unit(rng: &mut Rng) -> f64 {
    // 52 random bits below the exponent of 1 are a number from 1 to 2.
    f64::from_bits(0x3ff0_0000_0000_0000 | (rng.next_u64() >> 12)) - 1.0
}
