//! How far from a target its nearest nodes usually stand, and so how many nodes there are.
//!
//! One search tells it badly: the distance of the eighth nearest node is off by a third as a rule. So the last searches
//! count together. A stranger can make nodes stand closer around a target of ours, but then it has to crowd most of the
//! targets that we remember, and each target counts once, however often it is searched for.

use std::collections::VecDeque;

use crate::id::NodeId;
use crate::table::BUCKET_NODES;

/// How many targets are remembered.
const TARGETS_MAX: usize = 16;

/// How far the eight nearest nodes reached from the targets of the last searches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    /// In the first 64 bits of a distance.
    seen: VecDeque<(NodeId, u64)>,
}

impl Reach {
    /// A search for `target` is over.
    pub(crate) fn note(&mut self, target: NodeId, reach: u64) {
        self.seen.retain(|(known, _)| *known != target);
        if self.seen.len() >= TARGETS_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back((target, reach));
    }

    /// The median, of that around ourselves too if we know so many nodes; zero if nothing is known. A search that
    /// found hardly anybody, because the network went meanwhile, must not spoil it.
    pub(crate) fn usual(&self, around_us: Option<u64>) -> u64 {
        let seen = self.seen.iter().map(|(_, reach)| *reach);
        let mut seen: Vec<u64> = seen.chain(around_us).collect();
        seen.sort_unstable();
        seen.get(seen.len() / 2).copied().unwrap_or_default()
    }
}

/// How many nodes there are if the eight nearest reach so far.
pub(crate) fn estimate_count(reach: u64) -> u64 {
    if reach == 0 {
        return 0;
    }
    let all = (BUCKET_NODES as u128) << 64;
    u64::try_from(all / u128::from(reach)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_targets_count_once_each() {
        let mut reach = Reach::default();
        assert_eq!(reach.usual(None), 0);
        assert_eq!(reach.usual(Some(7)), 7);
        for n in 0..20 {
            reach.note(NodeId([n; 20]), 100);
        }
        assert_eq!(reach.usual(None), 100);
        // One that is crowded, and one that was cut short, hardly move it.
        for _ in 0..20 {
            reach.note(NodeId([99; 20]), 4);
        }
        reach.note(NodeId([98; 20]), 1 << 62);
        assert_eq!(reach.usual(None), 100);
        assert_eq!(reach.seen.len(), TARGETS_MAX);
    }

    #[test]
    fn a_reach_is_as_good_as_a_count() {
        assert_eq!(estimate_count(0), 0);
        assert_eq!(estimate_count(8 << 54), 1024);
        assert_eq!(estimate_count(1), u64::MAX);
    }
}
