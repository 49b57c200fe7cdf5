//! The peers, and the tracker that introduces them to each other.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use riverrun_base::{PeerId, Rate};
use riverrun_engine::{
    AddTorrent, ConnKey, Engine, Event, Limits, Metainfo, TorrentHandle, TorrentState,
};
use riverrun_trackerd::{Running, Trackerd};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::Stream;
use tokio_stream::wrappers::BroadcastStream;

use super::look::{Link, Look, PeerLook};
use super::place::Place;
use crate::commands::{cannot_add, wait_checked};
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::transfer::{cannot_start, storage_failure};

/// Only this machine, and any free port.
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Blocks in memory for one peer: many engines share this process.
const CACHE_BYTES: usize = 16 << 20;

/// A tracker and the peers, the seeder first.
#[derive(Debug, Default)]
pub(crate) struct Swarm {
    tracker: Option<Running>,
    peers: Vec<Peer>,
}

/// One peer: an engine of its own.
#[derive(Debug)]
struct Peer {
    name: char,
    engine: Engine,
    torrent: TorrentHandle,
    /// What happened since the last look.
    events: BroadcastStream<Event>,
}

impl Swarm {
    /// Starts the tracker.
    pub(crate) async fn track(&mut self) -> Outcome {
        let tracker = Trackerd::builder().http(LOOPBACK).start().await;
        self.tracker = Some(tracker.map_err(|e| Failure::new(ExitCode::Network, e))?);
        Ok(())
    }

    /// Where peers announce themselves.
    pub(crate) fn tracker_url(&self) -> Option<String> {
        let addr = self.tracker.as_ref()?.http_addrs().first()?;
        Some(format!("http://{addr}/announce"))
    }

    /// The one who has everything, in `dir`, which is only read.
    pub(crate) async fn join_seeder(
        &mut self,
        metainfo: &Metainfo,
        dir: &Path,
        up: Rate,
        place: &Place,
    ) -> Outcome {
        let add = self.add(metainfo, dir.to_owned()).upload_only();
        self.join('S', add, up, place).await?;
        let Some(seeder) = self.peers.last() else {
            return Ok(());
        };
        wait_checked(&seeder.torrent).await?;
        if seeder.torrent.pieces().all() {
            return Ok(());
        }
        let message = format!("{}: was changed meanwhile", metainfo.info.name());
        Err(Failure::say(ExitCode::Mismatch, message).hint("try again when nobody writes to it"))
    }

    /// One more who wants it, and waits for the beginning.
    pub(crate) async fn join_peer(
        &mut self,
        metainfo: &Metainfo,
        up: Rate,
        place: &Place,
    ) -> Outcome {
        let name = ('A'..='Z').nth(self.peers.len().saturating_sub(1));
        // Invariant: there are sixteen at most.
        let name = name.unwrap_or('Z');
        let add = self.add(metainfo, place.copy_of(name)).paused();
        self.join(name, add, up, place).await
    }

    fn add(&self, metainfo: &Metainfo, dir: PathBuf) -> AddTorrent {
        AddTorrent::from_metainfo(metainfo.clone())
            .dir(dir)
            .tracker_tier(self.tracker_url())
    }

    async fn join(&mut self, name: char, add: AddTorrent, up: Rate, place: &Place) -> Outcome {
        let limits = Limits {
            upload: Some(up),
            download: None,
        };
        let engine = Engine::builder(place.state_of(name))
            .listen([LOOPBACK])
            .limits(limits)
            .cache_bytes(CACHE_BYTES)
            .start()
            .await
            .map_err(cannot_start)?;
        let torrent = engine.add(add).await.map_err(cannot_add)?;
        let events = engine.events();
        self.peers.push(Peer {
            name,
            engine,
            torrent,
            events,
        });
        Ok(())
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = char> + '_ {
        self.peers.iter().map(|peer| peer.name)
    }

    /// Lets all who wait begin.
    pub(crate) async fn begin(&self) -> Outcome {
        for peer in self.peers.iter().skip(1) {
            let begun = peer.torrent.start().await;
            begun.map_err(|e| Failure::new(ExitCode::Other, e))?;
        }
        Ok(())
    }

    /// How it is now. A peer whose storage does not work is a failure.
    pub(crate) async fn look(&mut self, began: Instant) -> Outcome<Look> {
        let ids: Vec<PeerId> = self
            .peers
            .iter()
            .map(|peer| peer.engine.peer_id())
            .collect();
        let mut peers = Vec::new();
        for peer in &mut self.peers {
            peers.push(peer.look(&ids).await?);
        }
        Ok(Look {
            at: began.elapsed(),
            peers,
        })
    }

    /// Ends all peers, and the tracker.
    pub(crate) async fn shutdown(self) {
        let mut leaving: JoinSet<()> = self
            .peers
            .into_iter()
            .map(|peer| peer.engine.shutdown())
            .collect();
        while leaving.join_next().await.is_some() {}
        // The tracker's last, so that peers can say goodbye to it. What it still answers is of no interest.
        drop(self.tracker);
    }
}

impl Peer {
    /// `ids` are those of all peers, in order.
    async fn look(&mut self, ids: &[PeerId]) -> Outcome<PeerLook> {
        let name = self.name;
        let gone = |e| Failure::new(ExitCode::Other, e).about(name);
        // In this order, so that what is complete has all its bytes counted.
        let is_complete = self.torrent.is_completed();
        let pieces = self.torrent.pieces();
        let stats = self.torrent.stats().await.map_err(gone)?;
        let connections = self.torrent.peers().await.map_err(gone)?;
        if let TorrentState::Faulted(fault) = &stats.state {
            return Err(storage_failure(fault));
        }
        let link = |peer_id: Option<PeerId>, conn: ConnKey, downloaded_bytes, down| {
            let other = ids.iter().position(|id| Some(*id) == peer_id)?;
            let conn = (conn.index(), conn.generation());
            Some(Link {
                other,
                conn,
                downloaded_bytes,
                down,
            })
        };
        let links = connections.iter().filter_map(|peer| {
            link(
                peer.peer_id,
                peer.conn,
                peer.downloaded_bytes,
                peer.download_rate,
            )
        });
        let links = links.collect();
        let ended = self
            .ended()
            .filter_map(|(peer_id, conn, bytes)| link(peer_id, conn, bytes, Rate::ZERO));
        let ended = ended.collect();
        Ok(PeerLook::new(
            name,
            pieces,
            is_complete,
            &stats,
            links,
            ended,
        ))
    }

    /// The connections that have ended since this was asked the last time: with whom, and what came through them.
    fn ended(&mut self) -> impl Iterator<Item = (Option<PeerId>, ConnKey, u64)> + '_ {
        let mut cx = Context::from_waker(Waker::noop());
        let events =
            std::iter::from_fn(
                move || match Pin::new(&mut self.events).poll_next(&mut cx) {
                    Poll::Ready(event) => event,
                    Poll::Pending => None,
                },
            );
        events.filter_map(|event| match event {
            Ok(Event::PeerDisconnected {
                conn,
                peer_id,
                downloaded_bytes,
                ..
            }) => Some((peer_id, conn, downloaded_bytes)),
            _ => None,
        })
    }
}
