//! How fast a file can be spread at all: bounds that no schedule beats.
//!
//! The sources are Kumar and Ross 2006 (fluid), Mundinger, Weber and Weiss 2008 (pieces, equal capacities), and the
//! count of copies that must have been sent by any time. Times in seconds, rates in bytes per second.

/// A flash crowd: one or more seeds, and leechers that all begin at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Crowd {
    /// How long the file is, in bytes.
    pub len_bytes: u64,
    /// What the seeds send together.
    pub seed_up: f64,
    /// What each leecher sends.
    pub up: Vec<f64>,
    /// What each leecher receives; infinite where nothing limits it.
    pub down: Vec<f64>,
}

impl Crowd {
    /// Leechers that are all alike.
    pub fn equal(len_bytes: u64, seed_up: f64, leechers: usize, up: f64, down: f64) -> Self {
        Self {
            len_bytes,
            seed_up,
            up: vec![up; leechers],
            down: vec![down; leechers],
        }
    }

    /// When the last leecher can be complete at the earliest: every byte has left the seed, the slowest has received
    /// all, and all copies have been sent.
    pub fn makespan(&self) -> f64 {
        let slowest = self.down.iter().copied().fold(f64::INFINITY, f64::min);
        self.by_seed()
            .max(self.len() / slowest)
            .max(self.by_copies(self.up.len()))
    }

    /// When the k-th leecher (the first is 1) can be complete at the earliest.
    pub fn kth(&self, k: usize) -> f64 {
        let mut down = self.down.clone();
        down.sort_by(|a, b| b.total_cmp(a));
        let Some(kth) = k.checked_sub(1).and_then(|at| down.get(at)) else {
            return 0.0;
        };
        self.by_seed().max(self.len() / kth).max(self.by_copies(k))
    }

    /// The mean of all leechers' times, at the least.
    pub fn mean(&self) -> f64 {
        let count = self.up.len();
        (1..=count).map(|k| self.kth(k)).sum::<f64>() / as_f64(count.max(1))
    }

    /// What relaying adds at the least when a piece can only be passed on whole: `slots` × piece / uplink for each
    /// doubling of those who have it.
    pub fn store_and_forward(&self, piece_len: u64, slots: usize) -> f64 {
        let fastest = self.up.iter().copied().fold(0.0, f64::max);
        if fastest <= 0.0 {
            return 0.0;
        }
        let doublings = self.up.len().checked_ilog2().unwrap_or(0);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a piece is far below 2^52 bytes"
        )]
        let piece_len = piece_len as f64;
        as_f64(slots) * piece_len / fastest * f64::from(doublings)
    }

    fn len(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a file is below 2^52 bytes")]
        let len = self.len_bytes as f64;
        len
    }

    fn by_seed(&self) -> f64 {
        self.len() / self.seed_up
    }

    /// When `k` copies can have been sent.
    fn by_copies(&self, k: usize) -> f64 {
        as_f64(k) * self.len() / (self.seed_up + self.up.iter().sum::<f64>())
    }
}

/// How many rounds spreading `pieces` pieces to `leechers` takes if everybody sends one piece a round and receives one
/// (Mundinger et al. 2008): pieces + ⌊log2 leechers⌋.
pub fn rounds(pieces: u32, leechers: u32) -> u32 {
    pieces + leechers.checked_ilog2().unwrap_or(0)
}

fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MBIT: f64 = 1e6 / 8.0;
    const FILE: u64 = 100 << 20;

    /// The worked examples of the field: 1000 leechers of 0.4 up and 1.5 Mbit/s down.
    #[test]
    fn each_term_binds_where_it_should() {
        let crowd = |seed_up: f64| Crowd::equal(FILE, seed_up * MBIT, 1000, 0.4 * MBIT, 1.5 * MBIT);
        assert!((crowd(6.0).makespan() - 2066.0).abs() < 0.5);
        assert!((crowd(0.4).makespan() - 2097.0).abs() < 0.5);
        let mut mixed = crowd(1000.0);
        mixed.down[7] = 0.1 * MBIT;
        assert!(
            (mixed.makespan() - 8389.0).abs() < 0.5,
            "the slowest line binds"
        );
    }

    #[test]
    fn the_first_can_be_complete_long_before_the_last() {
        let crowd = Crowd::equal(FILE, 6.0 * MBIT, 1000, 0.4 * MBIT, f64::INFINITY);
        assert!((crowd.kth(1) - 139.8).abs() < 0.1);
        assert!((crowd.kth(1000) - crowd.makespan()).abs() < 1e-9);
        assert!(crowd.mean() < crowd.makespan());
        assert!(crowd.kth(1) <= crowd.mean());
    }

    #[test]
    fn rounds_grow_with_the_logarithm() {
        assert_eq!(rounds(100, 1), 100);
        assert_eq!(rounds(100, 10), 103);
        assert_eq!(rounds(100, 1000), 109);
        let crowd = Crowd::equal(FILE, 1e6, 1000, 1e6, 1e6);
        assert!((crowd.store_and_forward(1_000_000, 1) - 9.0).abs() < 1e-9);
    }
}
