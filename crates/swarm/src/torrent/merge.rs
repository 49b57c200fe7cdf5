//! A torrent that is there is added once more: what is said of it joins what is known.

use std::sync::Arc;

use riverrun_metainfo::{Info, PieceHashes};

use super::{Cx, HashFetch, Meta, MetadataFetch, Torrent};
use crate::PeerSource;
use crate::input::AddTorrent;
use crate::outbox::Existed;

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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use riverrun_base::{InfoHashes, PeerId, Time};
    use riverrun_metainfo::PieceLayers;

    use super::*;
    use crate::{
        Config, Event, Input, Outbox, Shard, TorrentKey, TorrentOptions, TorrentStats, sample,
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
}
