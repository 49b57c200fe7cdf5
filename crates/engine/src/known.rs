//! What is known of a torrent before it is taken in.

use std::net::SocketAddr;
use std::sync::Arc;

use riverrun_base::InfoHashes;
use riverrun_metainfo::{HostPort, Info, Magnet, Metainfo, PieceHashes};

use crate::driver::socket::Sockets;

/// What a source says of a torrent.
pub(crate) struct Known {
    pub(crate) hashes: InfoHashes,
    /// The whole torrent file, unless its metadata is to come from peers.
    pub(crate) metainfo: Option<Box<Metainfo>>,
    pub(crate) trackers: Vec<Vec<String>>,
    pub(crate) peers: Vec<SocketAddr>,
    pub(crate) nodes: Vec<HostPort>,
}

impl Known {
    pub(crate) fn from_metainfo(metainfo: Box<Metainfo>) -> Self {
        Self {
            hashes: metainfo.info.hashes(),
            trackers: metainfo.trackers.clone(),
            peers: Vec::new(),
            nodes: metainfo.nodes.clone(),
            metainfo: Some(metainfo),
        }
    }

    pub(crate) async fn from_magnet(magnet: &Magnet, sockets: &Sockets) -> Self {
        let mut peers = Vec::new();
        for peer in &magnet.peers {
            // A name that does not resolve is one peer less.
            if let Ok(found) = sockets.resolve(&peer.host, peer.port).await {
                peers.extend(found);
            }
        }
        let trackers = magnet
            .trackers
            .iter()
            .map(|url| vec![url.clone()])
            .collect();
        Self {
            hashes: magnet.hashes,
            metainfo: None,
            trackers,
            peers,
            nodes: magnet.nodes.clone(),
        }
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

/// The metadata as decisions are made of it.
pub(crate) fn decided_by(metainfo: &Metainfo) -> (Arc<Info>, PieceHashes) {
    let hashes = PieceHashes::new(&metainfo.info, &metainfo.piece_layers);
    (metainfo.info.clone(), hashes)
}
