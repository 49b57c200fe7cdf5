//! Hash maps whose seed is given, not drawn: random in production, fixed in a simulation.

use std::hash::{BuildHasher, DefaultHasher, Hasher};

/// A hash map with a given seed. Its order must never reach an output.
#[expect(
    clippy::disallowed_types,
    reason = "the one place that pairs it with a seed"
)]
pub type Map<K, V> = std::collections::HashMap<K, V, SeededState>;

/// A hash set with a given seed. Its order must never reach an output.
#[expect(
    clippy::disallowed_types,
    reason = "the one place that pairs it with a seed"
)]
pub type Set<T> = std::collections::HashSet<T, SeededState>;

/// Builds `SipHash` hashers whose state starts from a secret seed, so that strangers who choose keys cannot
/// choose collisions.
#[derive(Clone, Copy, Debug)]
pub struct SeededState(u64);

impl SeededState {
    /// A state from a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl BuildHasher for SeededState {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_the_hash() {
        let hash = |seed| SeededState::new(seed).hash_one("peer");
        assert_eq!(hash(1), hash(1));
        assert_ne!(hash(1), hash(2));
    }
}
