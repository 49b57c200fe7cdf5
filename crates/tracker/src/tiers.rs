//! Which tracker to ask next (BEP 12, "Order of Processing").

use riverrun_base::Rng;

/// The trackers of a torrent, tier by tier: each tier in its own order, shuffled once, the one that answered
/// last in front.
///
/// Knows nothing of time: the caller walks the order, and tells which tracker answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiers<T> {
    tiers: Vec<Vec<T>>,
}

impl<T: PartialEq> Tiers<T> {
    /// From tiers as they stand in the metainfo. Each is shuffled; empty tiers go, and so does a tracker that
    /// an earlier place has already.
    pub fn new(tiers: impl IntoIterator<Item = Vec<T>>, rng: &mut Rng) -> Self {
        let mut all = Self { tiers: Vec::new() };
        for trackers in tiers {
            all.push_tier(trackers, rng);
        }
        all
    }

    /// Adds a last tier, shuffled; gives how many of its trackers are new.
    pub fn push_tier(&mut self, trackers: Vec<T>, rng: &mut Rng) -> usize {
        let mut tier = Vec::new();
        for tracker in trackers {
            if !self.contains(&tracker) && !tier.contains(&tracker) {
                tier.push(tracker);
            }
        }
        rng.shuffle(&mut tier);
        let added = tier.len();
        if added > 0 {
            self.tiers.push(tier);
        }
        added
    }

    /// The trackers in the order in which to ask them: all of a tier before the next.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.tiers.iter().flatten()
    }

    /// The tiers, each in its order.
    pub fn tiers(&self) -> impl Iterator<Item = &[T]> {
        self.tiers.iter().map(Vec::as_slice)
    }

    /// The tracker to ask after `failed`; `None` after the last, or if `failed` is not among them.
    pub fn after(&self, failed: &T) -> Option<&T> {
        self.iter().skip_while(|tracker| *tracker != failed).nth(1)
    }

    /// Moves a tracker that answered to the front of its tier; the others keep their order.
    pub fn promote(&mut self, answered: &T) {
        for tier in &mut self.tiers {
            if let Some(at) = tier.iter().position(|tracker| tracker == answered) {
                tier[..=at].rotate_right(1);
                return;
            }
        }
    }

    /// Whether a tracker is among them.
    pub fn contains(&self, tracker: &T) -> bool {
        self.iter().any(|known| known == tracker)
    }

    /// How many trackers there are.
    pub fn len(&self) -> usize {
        self.tiers.iter().map(Vec::len).sum()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.tiers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiers(lists: &[&[&'static str]]) -> Tiers<&'static str> {
        Tiers::new(lists.iter().map(|list| list.to_vec()), &mut Rng::new(1))
    }

    fn order(tiers: &Tiers<&'static str>) -> Vec<&'static str> {
        tiers.iter().copied().collect()
    }

    #[test]
    fn a_tier_is_exhausted_before_the_next() {
        let tiers = tiers(&[&["a1", "a2"], &["b1"], &["c1"]]);
        assert!(
            order(&tiers)[..2]
                .iter()
                .all(|tracker| tracker.starts_with('a'))
        );
        assert_eq!(order(&tiers)[2..], ["b1", "c1"]);
        assert_eq!(tiers.after(&"b1"), Some(&"c1"));
        assert_eq!(tiers.after(&"c1"), None);
        assert_eq!(tiers.after(&"unknown"), None);
    }

    #[test]
    fn each_tier_is_shuffled_on_its_own() {
        let list: Vec<u32> = (0..50).collect();
        let tiers = Tiers::new([list.clone(), (50..60).collect()], &mut Rng::new(5));
        let [first, second] = tiers.tiers().collect::<Vec<_>>()[..] else {
            panic!("two tiers")
        };
        assert_ne!(first, list);
        let mut sorted = first.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, list);
        assert!(second.iter().all(|tracker| *tracker >= 50));
    }

    #[test]
    fn success_promotes_within_the_tier_as_in_bep_12() {
        let mut tiers = tiers(&[&["x"], &["1", "2", "3"]]);
        let shuffled = order(&tiers);
        let [_, first, second, third] = shuffled[..] else {
            panic!("four trackers")
        };
        tiers.promote(&second);
        assert_eq!(order(&tiers), ["x", second, first, third]);
        tiers.promote(&third);
        assert_eq!(order(&tiers), ["x", third, second, first]);
        tiers.promote(&"unknown");
        assert_eq!(order(&tiers), ["x", third, second, first]);
    }

    #[test]
    fn a_tracker_counts_once() {
        let mut tiers = tiers(&[&["a", "a"], &[], &["a"], &["b", "a"]]);
        assert_eq!(order(&tiers), ["a", "b"]);
        assert_eq!(tiers.push_tier(vec!["c", "b"], &mut Rng::new(1)), 1);
        assert_eq!(tiers.push_tier(vec!["c"], &mut Rng::new(1)), 0);
        assert_eq!((tiers.len(), tiers.tiers().count()), (3, 3));
        assert!(!tiers.is_empty() && Tiers::<u8>::new([], &mut Rng::new(1)).is_empty());
    }
}
