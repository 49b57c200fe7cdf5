//! What is known of a torrent before it is taken in.

use std::sync::Arc;

use riverrun_base::InfoHashes;
use riverrun_metainfo::{HostPort, Info, Magnet, Metainfo, PieceHashes};
use riverrun_swarm::WebSeed;

/// What a source says of a torrent.
pub(crate) struct Known {
    pub(crate) hashes: InfoHashes,
    /// The whole torrent file, unless its metadata is to come from peers.
    pub(crate) metainfo: Option<Box<Metainfo>>,
    pub(crate) trackers: Vec<Vec<String>>,
    /// Servers that have the files (BEP 19).
    pub(crate) web_seeds: Vec<WebSeed>,
    /// Peers that a link names.
    pub(crate) peers: Vec<HostPort>,
    pub(crate) nodes: Vec<HostPort>,
}

impl Known {
    pub(crate) fn from_metainfo(metainfo: Box<Metainfo>) -> Self {
        Self {
            hashes: metainfo.info.hashes(),
            trackers: metainfo.trackers.clone(),
            web_seeds: web_seeds(&metainfo.web_seeds, false),
            peers: Vec::new(),
            nodes: metainfo.nodes.clone(),
            metainfo: Some(metainfo),
        }
    }

    pub(crate) fn from_magnet(magnet: &Magnet) -> Self {
        let trackers = magnet
            .trackers
            .iter()
            .map(|url| vec![url.clone()])
            .collect();
        Self {
            hashes: magnet.hashes,
            metainfo: None,
            trackers,
            web_seeds: web_seeds(&magnet.web_seeds, false),
            peers: magnet.peers.clone(),
            nodes: magnet.nodes.clone(),
        }
    }

    /// Somebody says more.
    pub(crate) fn join(&mut self, trackers: Vec<Vec<String>>, web_seeds: Vec<WebSeed>) {
        self.trackers.extend(trackers);
        self.web_seeds.extend(web_seeds);
    }

    /// The metadata was there already.
    pub(crate) fn complete_with(&mut self, metainfo: Metainfo) {
        self.hashes = metainfo.info.hashes();
        self.metainfo = Some(Box::new(metainfo));
    }

    pub(crate) fn is_private(&self) -> bool {
        let metainfo = self.metainfo.as_ref();
        metainfo.is_some_and(|metainfo| metainfo.info.is_private())
    }
}

/// Web seeds as decisions know them, without what is no URL.
pub(crate) fn web_seeds(urls: &[String], is_from_user: bool) -> Vec<WebSeed> {
    let seed = |url: &String| {
        let url = url.parse().ok()?;
        Some(WebSeed { url, is_from_user })
    };
    urls.iter().filter_map(seed).collect()
}

/// The metadata as decisions are made of it.
pub(crate) fn decided_by(metainfo: &Metainfo) -> (Arc<Info>, PieceHashes) {
    let hashes = PieceHashes::new(&metainfo.info, &metainfo.piece_layers);
    (metainfo.info.clone(), hashes)
}
