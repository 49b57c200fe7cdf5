//! How a torrent comes to its files: at once, or when those have theirs that came before.

use riverrun_metainfo::Layout;

use super::lifecycle::Phase;
use super::{Cx, Torrent};
use crate::input::Priority;
use crate::outbox::StorageJob;

impl Torrent {
    /// Opens its files, as soon as it is its turn.
    pub(super) fn open(&mut self, cx: &mut Cx<'_>) {
        if self.can_wait(cx) && !cx.shared.turns.take(cx.now, self.key) {
            self.life.phase = Phase::Waiting;
            self.let_metadata_go(cx, false);
            return;
        }
        self.open_now(cx);
    }

    /// Whether others may be opened first: nobody waits for it, and it costs nothing meanwhile.
    fn can_wait(&self, cx: &Cx<'_>) -> bool {
        let was_busy = self.life.is_loading();
        !was_busy && !self.life.is_resting() && self.can_let_metadata_go(cx)
    }

    /// Others that were to be opened first are.
    pub(crate) fn take_turn(&mut self, cx: &mut Cx<'_>) {
        if self.life.phase == Phase::Waiting {
            self.open_now(cx);
            self.settle(cx);
        }
    }

    /// Whether it is being opened or checked, and that goes on.
    pub(crate) const fn is_busy(&self) -> bool {
        let is_busy = matches!(
            self.life.phase,
            Phase::Loading | Phase::Opening | Phase::Checking
        );
        is_busy && self.life.fault.is_none()
    }

    fn open_now(&mut self, cx: &mut Cx<'_>) {
        let Some(meta) = &self.meta else {
            self.life.invalid = None;
            self.life.phase = Phase::Loading;
            cx.out.loads.push(self.key);
            return;
        };
        self.life.phase = Phase::Opening;
        let job = StorageJob::Open {
            info: meta.info.clone(),
            wanted: self.wanted_files(),
        };
        cx.store(self.key, job);
    }

    /// A priority for each file, listed or not.
    pub(super) fn file_priorities(&self, layout: &Layout) -> Vec<Priority> {
        let listed = self.options.priorities.iter().copied();
        let unlisted = std::iter::repeat(self.options.unlisted_priority);
        listed.chain(unlisted).take(layout.files().len()).collect()
    }

    pub(super) fn wanted_files(&self) -> Vec<bool> {
        let Some(meta) = &self.meta else {
            return Vec::new();
        };
        let priorities = self.file_priorities(meta.info.layout()).into_iter();
        priorities
            .map(|priority| priority > Priority::Skip)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use riverrun_base::{Bitfield, PeerId, Time};
    use riverrun_metainfo::{Info, PieceHashes, PieceLayers};

    use super::*;
    use crate::{
        AddTorrent, Config, Input, Outbox, Shard, StorageDone, TorrentKey, TorrentOptions,
        TorrentState, Why, sample,
    };

    const COUNT: u32 = 300;
    /// As many as are busy at a time, and as many as stay awake.
    const AWAKE_MAX: usize = 2 * 64;

    fn info(n: u32) -> Arc<Info> {
        sample::info(&n.to_string(), None)
    }

    fn metadata(n: u32) -> (Arc<Info>, PieceHashes) {
        let info = info(n);
        let hashes = PieceHashes::new(&info, &PieceLayers::new());
        (info, hashes)
    }

    fn add(n: u32) -> Input {
        Input::Add(Box::new(AddTorrent {
            request: n.into(),
            hashes: info(n).hashes(),
            metadata: Some(metadata(n)),
            summary: None,
            trackers: Vec::new(),
            peers: Vec::new(),
            web_seeds: Vec::new(),
            options: TorrentOptions::default(),
            uploaded_bytes: 0,
            downloaded_bytes: 0,
        }))
    }

    fn shard() -> Shard {
        let mut config = Config::new(PeerId([1; 20]), 1);
        config.doze_after = Some(Duration::from_mins(2));
        Shard::new(Arc::new(config), 1)
    }

    /// Storage and session: answers what was asked for, and says which files are open, or will be.
    fn answer(shard: &mut Shard, now: Time, out: &mut Outbox, open: &mut BTreeSet<TorrentKey>) {
        let mut inputs = Vec::new();
        for (torrent, job) in out.storage.drain(..) {
            let done = match job {
                StorageJob::Open { info, .. } => {
                    open.insert(torrent);
                    let pieces = info.layout().piece_count();
                    let (have, unchecked) = (Bitfield::full(pieces), Bitfield::new(pieces));
                    StorageDone::Opened { have, unchecked }
                }
                StorageJob::Close => {
                    open.remove(&torrent);
                    StorageDone::Closed
                }
                _ => continue,
            };
            inputs.push(Input::Storage { torrent, done });
        }
        for torrent in out.loads.drain(..) {
            let metadata = Some(metadata(torrent.index()));
            inputs.push(Input::Loaded { torrent, metadata });
        }
        for input in inputs {
            shard.handle(now, input, out);
        }
    }

    #[test]
    fn of_many_torrents_at_once_few_are_open_and_all_come_to_seed() {
        let (mut shard, mut out, now) = (shard(), Outbox::default(), Time::from_secs(1));
        shard.handle(now, Input::BatchBegins, &mut out);
        for n in 0..COUNT {
            shard.handle(now, add(n), &mut out);
        }
        assert_eq!(out.storage.len(), 0, "more may come");
        let why = |shard: &Shard, at: usize| shard.why(now, shard.torrents().nth(at).unwrap());
        let queued = |position, of| Some(Why::Queued { position, of });
        assert_eq!(why(&shard, 9), queued(10, COUNT));
        shard.handle(now, Input::BatchEnds, &mut out);
        assert_eq!(why(&shard, 9), None, "it is being opened");
        assert_eq!(why(&shard, 64), queued(1, COUNT - 64));
        assert_eq!(out.storage.len() + out.loads.len(), AWAKE_MAX / 2);
        let mut open = BTreeSet::new();
        for _ in 0..COUNT {
            answer(&mut shard, now, &mut out, &mut open);
            assert!(open.len() <= AWAKE_MAX, "{} are open", open.len());
            shard.check_invariants();
        }
        for torrent in shard.torrents().collect::<Vec<_>>() {
            let stats = shard.stats(now, torrent).unwrap();
            assert_eq!(stats.state, TorrentState::Seeding);
            assert_eq!((stats.verified, stats.left_bytes), (1, 0));
        }
        assert!(open.len() <= AWAKE_MAX / 2, "{} stay open", open.len());
    }

    #[test]
    fn checks_that_take_long_do_not_hold_up_others_for_ever() {
        let (mut shard, mut out, mut now) = (shard(), Outbox::default(), Time::from_secs(1));
        for n in 0..100 {
            shard.handle(now, add(n), &mut out);
        }
        for opened in 65..=100 {
            // Storage answers nobody.
            now = shard.poll_timeout().unwrap();
            shard.handle_timeout(now, &mut out);
            assert_eq!(out.storage.len() + out.loads.len(), opened);
        }
        assert!(now < Time::from_secs(6));
    }
}
