//! Which torrents have changed since when: what a listing of ten thousand has to look at is what it has to show.

use std::collections::VecDeque;

use crate::key::TorrentKey;

/// How many removed torrents are remembered; whoever has not asked for longer gets everything anew.
const REMOVED_MAX: usize = 10_000;

/// A moment in the history of a shard's torrents. Means nothing to another shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// Before anything was there: everything has changed since.
    pub const START: Self = Self(0);
}

/// All torrents in a list, the one that changed last at its end: a change costs a few words, and what has changed since
/// a revision is found from the end on.
#[derive(Debug, Default)]
pub(crate) struct Recency {
    /// The revision of the last change.
    now: u64,
    /// By the index of the torrents' keys.
    links: Vec<Option<Link>>,
    newest: Option<u32>,
    /// Torrents that were removed, and when.
    removed: VecDeque<(u64, TorrentKey)>,
    /// Of removals up to here some are forgotten.
    forgotten: u64,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    torrent: TorrentKey,
    changed: u64,
    older: Option<u32>,
    newer: Option<u32>,
}

impl Recency {
    pub(crate) const fn revision(&self) -> Revision {
        Revision(self.now)
    }

    /// Something about a torrent has changed, or it is new.
    pub(crate) fn touch(&mut self, torrent: TorrentKey) {
        self.now += 1;
        let (at, now) = (torrent.index(), self.now);
        if self.newest == Some(at)
            && let Some(link) = self.link(at)
        {
            (link.torrent, link.changed) = (torrent, now);
            return;
        }
        self.unlink(at);
        let older = self.newest.replace(at);
        if let Some(link) = older.and_then(|older| self.link(older)) {
            link.newer = Some(at);
        }
        if self.links.len() <= at as usize {
            self.links.resize(at as usize + 1, None);
        }
        self.links[at as usize] = Some(Link {
            torrent,
            changed: self.now,
            older,
            newer: None,
        });
    }

    /// A torrent is gone.
    pub(crate) fn remove(&mut self, torrent: TorrentKey) {
        self.now += 1;
        self.unlink(torrent.index());
        self.removed.push_back((self.now, torrent));
        if self.removed.len() > REMOVED_MAX
            && let Some((at, _)) = self.removed.pop_front()
        {
            self.forgotten = at;
        }
    }

    /// Whether everything has to be told to whoever knows of this revision, since nobody knows what it has missed.
    pub(crate) const fn is_lost(&self, since: Revision) -> bool {
        since.0 < self.forgotten || since.0 > self.now || since.0 == 0
    }

    /// The torrents that have changed since, the last first. Costs a step each.
    pub(crate) fn changed_since(&self, since: Revision) -> impl Iterator<Item = TorrentKey> + '_ {
        let link = |at: Option<u32>| self.links.get(at? as usize)?.as_ref();
        std::iter::successors(link(self.newest), move |newer| link(newer.older))
            .take_while(move |link| link.changed > since.0)
            .map(|link| link.torrent)
    }

    /// The torrents that were removed since, the last first. Costs a step each.
    pub(crate) fn removed_since(&self, since: Revision) -> impl Iterator<Item = TorrentKey> + '_ {
        let removed = self.removed.iter().rev();
        removed
            .take_while(move |(at, _)| *at > since.0)
            .map(|(_, torrent)| *torrent)
    }

    fn link(&mut self, at: u32) -> Option<&mut Link> {
        self.links.get_mut(at as usize)?.as_mut()
    }

    fn unlink(&mut self, at: u32) {
        let Some(link) = self.links.get_mut(at as usize).and_then(Option::take) else {
            return;
        };
        match link.newer {
            Some(newer) => {
                if let Some(newer) = self.link(newer) {
                    newer.older = link.older;
                }
            }
            None => self.newest = link.older,
        }
        if let Some(older) = link.older.and_then(|older| self.link(older)) {
            older.newer = link.newer;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(index: u32) -> TorrentKey {
        TorrentKey::new(index, 0)
    }

    fn changed(recency: &Recency, since: Revision) -> Vec<u32> {
        let mut keys: Vec<_> = recency
            .changed_since(since)
            .map(TorrentKey::index)
            .collect();
        keys.sort_unstable();
        keys
    }

    proptest! {
        #[test]
        fn exactly_what_changed_since_is_told(
            steps in proptest::collection::vec((0_u32..12, any::<bool>()), 0..80),
            cut in 0_usize..80,
        ) {
            let mut recency = Recency::default();
            let (mut alive, mut since) = (std::collections::BTreeSet::new(), Revision::START);
            let (mut expected, mut gone) = (std::collections::BTreeSet::new(), Vec::new());
            for (n, (index, removes)) in steps.into_iter().enumerate() {
                if n == cut {
                    since = recency.revision();
                    expected.clear();
                    gone.clear();
                }
                if removes && alive.remove(&index) {
                    recency.remove(key(index));
                    expected.remove(&index);
                    gone.insert(0, key(index));
                } else {
                    recency.touch(key(index));
                    alive.insert(index);
                    expected.insert(index);
                }
            }
            prop_assert_eq!(changed(&recency, since), expected.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(recency.removed_since(since).collect::<Vec<_>>(), gone);
            prop_assert_eq!(changed(&recency, Revision::START), alive.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn whoever_missed_forgotten_removals_is_told_everything() {
        let mut recency = Recency::default();
        recency.touch(key(0));
        let early = recency.revision();
        for _ in 0..=REMOVED_MAX {
            recency.remove(key(1));
        }
        let late = recency.revision();
        recency.touch(key(2));
        assert!(recency.is_lost(early));
        assert!(!recency.is_lost(late));
        assert!(recency.is_lost(Revision(late.0 + 9)), "from another life");
    }
}
