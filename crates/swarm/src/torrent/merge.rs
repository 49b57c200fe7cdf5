//! A torrent that is there is added once more: what is said of it joins what is known.

use std::net::SocketAddr;
use std::sync::Arc;

use riverrun_metainfo::{Info, PieceHashes};

use super::{Announcer, Cx, HashFetch, Meta, MetadataFetch, Torrent};
use crate::PeerSource;
use crate::input::{AddTorrent, WebSeed};
use crate::key::TorrentKey;
use crate::outbox::{Event, Existed};

impl Torrent {
    /// Takes in trackers and peers that it does not know, and metadata if it lacks some. How it is treated stays as it
    /// is: that was said when it was added first, or since.
    pub(crate) fn merge(&mut self, cx: &mut Cx<'_>, add: AddTorrent) -> Existed {
        if self.is_private() {
            return Existed::Private;
        }
        let metadata = add
            .metadata
            .is_some_and(|(info, hashes)| self.complete_metadata(cx, info, hashes));
        self.add_trackers(cx, &add.trackers);
        self.found(cx, PeerSource::User, &add.peers);
        self.add_web_seeds(add.web_seeds);
        self.settle(cx);
        Existed::Merged { metadata }
    }

    /// Takes in metadata if there is none, and hashes of pieces if some are missing; whether it did.
    fn complete_metadata(&mut self, cx: &mut Cx<'_>, info: Arc<Info>, hashes: PieceHashes) -> bool {
        let lacks_hashes = |meta: &Meta| !meta.hashes.is_complete() && hashes.is_complete();
        if self.meta.as_ref().is_some_and(lacks_hashes) {
            self.hash_fetch = HashFetch::default();
            self.piece_hashes_changed(|known| *known = hashes);
            self.verify_waiting(cx);
            return true;
        }
        if self.knows_metadata() {
            return false;
        }
        let hashes = Arc::new(hashes);
        let meta = Meta { info, hashes };
        self.fetch = MetadataFetch::default();
        if self.is_fetching_metadata() {
            self.set_metadata(cx, meta);
        } else {
            self.learn_metadata(cx, meta);
        }
        true
    }
}

/// What a torrent leaves to another one that turned out to be the same.
pub(crate) struct Legacy {
    trackers: Vec<Vec<String>>,
    peers: Vec<(SocketAddr, PeerSource)>,
    web_seeds: Vec<WebSeed>,
    /// It was to run.
    runs: bool,
}

impl Torrent {
    /// It is the same as another torrent, which lives on: goes, and leaves it what it knows.
    pub(crate) fn leave_to(&mut self, cx: &mut Cx<'_>, with: TorrentKey) -> Legacy {
        let legacy = Legacy {
            trackers: self.announcer.urls(),
            peers: self.candidates.all().collect(),
            web_seeds: self
                .web_seeds
                .all()
                .map(|entry| entry.seed.clone())
                .collect(),
            runs: self.options.start,
        };
        // Trackers are told no goodbye: the other one is there under this name.
        self.announcer = Announcer::new(&[], self.hashes, &mut self.rng);
        cx.event(Event::United {
            torrent: self.key,
            with,
        });
        self.remove(cx);
        legacy
    }

    /// Takes in what the same torrent under another name has known, as far as a private one may (BEP 27).
    pub(crate) fn inherit(&mut self, cx: &mut Cx<'_>, legacy: Legacy) {
        if !self.is_private() {
            self.add_trackers(cx, &legacy.trackers);
            for (addr, source) in legacy.peers {
                self.found(cx, source, &[addr]);
            }
            self.add_web_seeds(legacy.web_seeds);
        }
        if legacy.runs && !self.options.start {
            self.options.start = true;
            self.start(cx);
        }
        self.settle(cx);
    }
}

#[cfg(test)]
mod tests {
    use riverrun_base::{InfoHashes, PeerId, Time};
    use riverrun_metainfo::PieceLayers;

    use super::*;
    use crate::{
        Config, Input, NetAction, Outbox, Shard, TorrentCommand, TorrentOptions, TorrentState,
        TorrentStats, sample,
    };

    const NOW: Time = Time::from_secs(1);

    fn info(private: bool) -> Arc<Info> {
        sample::info("a", Some(private.into()))
    }

    fn magnet(hashes: InfoHashes, n: u16) -> AddTorrent {
        AddTorrent {
            request: n.into(),
            hashes,
            metadata: None,
            summary: None,
            trackers: vec![vec![format!("http://tracker{n}.example/announce")]],
            peers: vec![SocketAddr::from(([9, 9, 9, 9], 1000 + n))],
            web_seeds: Vec::new(),
            options: TorrentOptions::default(),
            uploaded_bytes: 0,
            downloaded_bytes: 0,
        }
    }

    fn file(info: &Arc<Info>, n: u16) -> AddTorrent {
        let hashes = PieceHashes::new(info, &PieceLayers::new());
        AddTorrent {
            metadata: Some((info.clone(), hashes)),
            ..magnet(info.hashes(), n)
        }
    }

    /// Adds one after the other; what was there each time, and the torrent as it is then.
    fn add_all(adds: Vec<AddTorrent>) -> (Vec<Existed>, TorrentStats, Outbox) {
        let mut shard = Shard::new(Arc::new(Config::new(PeerId([1; 20]), 1)), 1);
        let mut out = Outbox::default();
        for add in adds {
            shard.handle(NOW, Input::Add(Box::new(add)), &mut out);
        }
        let keys: Vec<TorrentKey> = shard.torrents().collect();
        let [key] = keys[..] else {
            panic!("{} torrents", keys.len())
        };
        shard.check_invariants();
        let existed = out.events.iter().filter_map(|event| match event {
            Event::Added { existed, .. } => Some(*existed),
            _ => None,
        });
        let existed = existed.collect();
        (existed, shard.stats(NOW, key).unwrap(), out)
    }

    fn hosts(stats: &TorrentStats) -> Vec<String> {
        let urls = stats.trackers.iter().map(|tracker| &tracker.url);
        urls.map(|url| url.as_str().to_owned()).collect()
    }

    #[test]
    fn a_torrent_that_is_added_again_takes_in_new_trackers_and_peers() {
        let info = info(false);
        let twice = vec![file(&info, 1), magnet(info.hashes(), 2), file(&info, 1)];
        let (existed, stats, _) = add_all(twice);
        let merged = Existed::Merged { metadata: false };
        assert_eq!(existed, [Existed::No, merged, merged]);
        let urls = [1, 2].map(|n| format!("http://tracker{n}.example/announce"));
        assert_eq!(hosts(&stats), urls);
        assert_eq!(stats.candidates + stats.dialling, 2);
    }

    #[test]
    fn a_magnet_link_takes_the_metadata_of_a_torrent_file_that_is_added_later() {
        let info = info(false);
        let (existed, stats, out) = add_all(vec![magnet(info.hashes(), 1), file(&info, 2)]);
        assert_eq!(existed[1], Existed::Merged { metadata: true });
        assert_eq!(stats.pieces, 1);
        let told = |event: &Event| matches!(event, Event::Metadata { .. });
        assert!(out.events.iter().any(told));
        assert_eq!(out.storage.len(), 1, "its files are opened");
        let mut stopped = magnet(info.hashes(), 1);
        stopped.options.start = false;
        let (_, stats, out) = add_all(vec![stopped, file(&info, 2)]);
        assert_eq!((stats.pieces, out.storage.len()), (1, 0));
    }

    #[test]
    fn a_private_torrent_keeps_to_its_own_trackers_and_peers() {
        let info = info(true);
        let (existed, stats, _) = add_all(vec![file(&info, 1), magnet(info.hashes(), 2)]);
        assert_eq!(existed[1], Existed::Private);
        assert_eq!(hosts(&stats).len(), 1);
        assert_eq!(stats.candidates + stats.dialling, 1);
        // What turns out to be private by a torrent file has the trackers of that file.
        let (existed, stats, _) = add_all(vec![magnet(info.hashes(), 1), file(&info, 2)]);
        assert_eq!(existed[1], Existed::Merged { metadata: true });
        assert_eq!(hosts(&stats).len(), 2);
    }

    /// Links to each name of a hybrid, and then its torrent file; which of the links are to run.
    fn unite(private: bool, [first, second]: [bool; 2]) -> (Shard, Outbox) {
        let info = sample::hybrid(private);
        let hashes = info.hashes();
        let mut one = magnet(InfoHashes::v1_only(hashes.v1().unwrap()), 1);
        let mut other = magnet(InfoHashes::v2_only(hashes.v2().unwrap()), 2);
        (one.options.start, other.options.start) = (first, second);
        let mut shard = Shard::new(Arc::new(Config::new(PeerId([1; 20]), 1)), 1);
        let mut out = Outbox::default();
        for add in [one, other] {
            shard.handle(NOW, Input::Add(Box::new(add)), &mut out);
        }
        assert_eq!(shard.torrents().count(), 2, "nobody knows better yet");
        out = Outbox::default();
        let both = AddTorrent {
            trackers: Vec::new(),
            peers: Vec::new(),
            ..file(&info, 3)
        };
        shard.handle(NOW, Input::Add(Box::new(both)), &mut out);
        shard.check_invariants();
        for hash in hashes.wire() {
            assert_eq!(shard.find(hash), shard.torrents().next());
        }
        (shard, out)
    }

    #[test]
    fn two_links_to_one_torrent_become_one() {
        let (mut shard, mut out) = unite(false, [true, true]);
        let keys: Vec<_> = shard.torrents().collect();
        let [key] = keys[..] else { panic!("{keys:?}") };
        let united = out.events.iter().find_map(|event| match event {
            Event::United { torrent, with } => Some((*torrent, *with)),
            _ => None,
        });
        let (gone, with) = united.unwrap();
        assert_eq!(with, key);
        let removed =
            |event: &Event| matches!(event, Event::Removed { torrent } if *torrent == gone);
        assert!(out.events.iter().any(removed));
        let stats = shard.stats(NOW, key).unwrap();
        assert_eq!(stats.state, TorrentState::Opening);
        assert_eq!(stats.candidates + stats.dialling, 2);
        // Each tracker hears of both names, and that of neither we are gone.
        assert_eq!(stats.trackers.len(), 4);
        let is_goodbye = |action: &NetAction| match action {
            NetAction::Announce { request, .. } => {
                request.event == riverrun_tracker::AnnounceEvent::Stopped
            }
            _ => false,
        };
        assert!(!out.net.iter().any(is_goodbye));
        let command = TorrentCommand::Remove;
        shard.handle(
            NOW,
            Input::Torrent {
                torrent: key,
                command,
            },
            &mut out,
        );
        for hash in sample::hybrid(false).hashes().wire() {
            assert_eq!(shard.find(hash), None);
        }
    }

    #[test]
    fn the_one_runs_if_either_was_to() {
        let states = [[false, false], [true, false], [false, true]].map(|starts| {
            let (shard, _) = unite(false, starts);
            let key = shard.torrents().next().unwrap();
            shard.stats(NOW, key).unwrap().state
        });
        assert_eq!(
            states,
            [
                TorrentState::Stopped,
                TorrentState::Opening,
                TorrentState::Opening
            ]
        );
    }

    #[test]
    fn a_private_one_takes_nothing_from_the_other() {
        let (shard, _) = unite(true, [true, true]);
        let key = shard.torrents().next().unwrap();
        let stats = shard.stats(NOW, key).unwrap();
        let of_first = |url: &String| url.contains("tracker1");
        assert!(hosts(&stats).iter().all(of_first), "{stats:?}");
        assert_eq!(stats.candidates + stats.dialling, 1);
    }
}
