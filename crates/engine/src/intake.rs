//! How torrents get into an engine.

use std::collections::VecDeque;
use std::time::Duration;

use riverrun_metainfo::{HostPort, Magnet, Metainfo, PublisherLink};
use riverrun_swarm::{Discovery, Input, PeerSource};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::add::{AddTorrent, Source};
use crate::driver::shard::{NewTorrent, ShardMessage, Taken};
use crate::driver::socket::{Family, Sockets};
use crate::driver::web::{Author, Web, read_body};
use crate::engine::Engine;
use crate::error::{AddError, EngineStopped};
use crate::known::{Known, decided_by};
use crate::session::{Addition, Keep, Standing};
use crate::torrent::{Times, TorrentHandle};

/// How many of the nodes that a torrent names are asked.
const TORRENT_NODES_MAX: usize = 16;

/// How many of the peers that a link names are tried.
const LINK_PEERS_MAX: usize = 100;

/// How many torrents that are added together are on their way at a time: enough for few transactions, and not too
/// much metadata in memory.
const ON_THE_WAY_MAX: usize = 256;

/// Torrents that are being added together: few of them are opened until it is dropped.
pub(crate) struct Batch {
    shard: mpsc::Sender<ShardMessage>,
    runtime: Handle,
}

impl Batch {
    pub(crate) async fn begin(shard: &mpsc::Sender<ShardMessage>) -> Self {
        // Without the shard's task nothing of the batch is taken in.
        let _ = shard.send(inputs(Input::BatchBegins)).await;
        Self {
            shard: shard.clone(),
            runtime: Handle::current(),
        }
    }
}

impl Drop for Batch {
    /// Also if whoever adds them stops in the middle.
    fn drop(&mut self) {
        if let Err(TrySendError::Full(end)) = self.shard.try_send(inputs(Input::BatchEnds)) {
            let shard = self.shard.clone();
            self.runtime.spawn(async move { shard.send(end).await });
        }
    }
}

fn inputs(input: Input) -> ShardMessage {
    ShardMessage::Inputs(vec![input])
}

/// A torrent that is being added.
struct Begun {
    taken: oneshot::Receiver<Taken>,
    /// What a link has named, if it names peers.
    linked: Option<Linked>,
    /// Comes when it is durable, if it is to be.
    written: Option<oneshot::Receiver<()>>,
}

impl Begun {
    /// Waits until it is there, and durable.
    async fn finish(self) -> Result<TorrentHandle, AddError> {
        let Taken { torrent, is_new } = self.taken.await.map_err(|_| EngineStopped)?;
        if let Some(written) = self.written
            && written.await.is_err()
        {
            if is_new {
                torrent.remove().await?;
            }
            return Err(AddError::NotKept);
        }
        if let Some(linked) = self.linked {
            linked.tell(&torrent).await?;
        }
        Ok(torrent)
    }
}

/// Peers that a link names.
struct Linked {
    peers: Vec<HostPort>,
    sockets: Sockets,
}

impl Linked {
    /// Tells the torrent: of addresses at once, of names when they are known, for which nothing waits.
    async fn tell(self, torrent: &TorrentHandle) -> Result<(), EngineStopped> {
        let Self { mut peers, sockets } = self;
        peers.truncate(LINK_PEERS_MAX);
        let addrs: Vec<_> = peers.iter().filter_map(HostPort::socket_addr).collect();
        if !addrs.is_empty() {
            torrent.found_by(PeerSource::Link, addrs).await?;
        }
        peers.retain(|peer| peer.socket_addr().is_none());
        for peer in peers {
            let (torrent, sockets) = (torrent.clone(), sockets.clone());
            tokio::spawn(async move {
                // A name that does not resolve is one peer less, and the engine may have been stopped.
                if let Ok(found) = sockets.resolve(&peer.host, peer.port).await {
                    let _ = torrent.found_by(PeerSource::Link, found).await;
                }
            });
        }
        Ok(())
    }
}

impl Engine {
    /// Takes a torrent in. One that is there already gives its handle: it takes in trackers and peers that it does not
    /// know, and metadata if it lacks it, unless it is private (BEP 27); options and directory stay as they are. In an
    /// engine that keeps its torrents all this is durable when this returns.
    pub async fn add(&self, add: AddTorrent) -> Result<TorrentHandle, AddError> {
        self.begin_add(add).await?.finish().await
    }

    /// Takes torrents in, in this order, each as [`Engine::add`] does. An engine that keeps its torrents makes many of
    /// them durable at once; one by one it is that which takes time. Their files are looked at afterwards, and so it is
    /// one call for all of them that takes the least. `adds` may make them one by one: few are in memory at a time.
    pub async fn add_all(
        &self,
        adds: impl IntoIterator<Item = AddTorrent>,
    ) -> Vec<Result<TorrentHandle, AddError>> {
        let mut on_the_way: VecDeque<Result<Begun, AddError>> = VecDeque::new();
        let mut added = Vec::new();
        let _batch = Batch::begin(&self.shard).await;
        for add in adds {
            if on_the_way.len() == ON_THE_WAY_MAX
                && let Some(first) = on_the_way.pop_front()
            {
                added.push(finish(first).await);
            }
            on_the_way.push_back(self.begin_add(add).await);
        }
        for begun in on_the_way {
            added.push(finish(begun).await);
        }
        added
    }

    /// The peers that a link names, whose names are to be resolved.
    fn linked(&self, known: &mut Known) -> Option<Linked> {
        (!known.peers.is_empty()).then(|| Linked {
            peers: std::mem::take(&mut known.peers),
            sockets: self.inner.sockets.clone(),
        })
    }

    /// Has a torrent taken in and kept, without waiting for that.
    async fn begin_add(&self, add: AddTorrent) -> Result<Begun, AddError> {
        let AddTorrent {
            source,
            dir,
            peers,
            trackers,
            web_seeds,
            options,
            storage,
            transports,
        } = add;
        let mut known = self.look_up(source).await?;
        known.nodes.truncate(TORRENT_NODES_MAX);
        if Discovery::Dht.allowed(known.is_private()) {
            self.meet_nodes(known.nodes.clone());
        }
        known.join(trackers, web_seeds);
        let linked = self.linked(&mut known);
        let times = Times::now();
        let metadata = known.metainfo.as_deref().map(decided_by);
        let keep = |reply| Keep {
            addition: Addition {
                hashes: known.hashes,
                dir: std::path::absolute(&dir).unwrap_or_else(|_| dir.clone()),
                trackers: known.trackers.clone(),
                web_seeds: known.web_seeds.clone(),
                nodes: known.nodes.clone(),
                storage,
                transports,
                added_at: times.added,
            },
            standing: Standing::new(options.clone()),
            metainfo: known.metainfo,
            reply,
        };
        let is_kept = self.inner.keeping.is_some();
        let (keep, written) = is_kept.then(oneshot::channel).map_or_else(
            || (None, None),
            |(reply, written)| (Some(keep(reply)), Some(written)),
        );
        let torrent = riverrun_swarm::AddTorrent {
            request: 0,
            hashes: known.hashes,
            metadata,
            summary: None,
            trackers: known.trackers,
            peers,
            web_seeds: known.web_seeds,
            options,
            uploaded_bytes: 0,
            downloaded_bytes: 0,
        };
        let (reply, taken) = oneshot::channel();
        let new = NewTorrent {
            torrent,
            root: dir,
            storage,
            transports,
            times,
            name: None,
            keep,
            reply,
        };
        self.send(ShardMessage::Add(Box::new(new))).await?;
        Ok(Begun {
            taken,
            linked,
            written,
        })
    }

    /// Torrents name nodes of the DHT to begin from (BEP 5, "Torrent File Extensions").
    pub(crate) fn meet_nodes(&self, nodes: Vec<HostPort>) {
        if let Some(dht) = &self.inner.dht
            && !nodes.is_empty()
        {
            tokio::spawn(dht.clone().meet(self.inner.sockets.clone(), nodes));
        }
    }

    async fn look_up(&self, source: Source) -> Result<Known, AddError> {
        match source {
            Source::Metainfo(metainfo) => Ok(Known::from_metainfo(metainfo)),
            Source::Magnet(magnet) => Ok(self.look_up_magnet(&magnet).await),
            Source::Publisher(link) => {
                let magnet = self.look_up_publisher(*link).await?;
                Ok(self.look_up_magnet(&magnet).await)
            }
            Source::Url(url) => {
                let bytes = self.fetch(&url).await?;
                let metainfo = Metainfo::from_bytes(&bytes)?;
                Ok(Known::from_metainfo(Box::new(metainfo)))
            }
        }
    }

    /// The torrent that a publisher names now.
    async fn look_up_publisher(&self, link: PublisherLink) -> Result<Magnet, AddError> {
        let found = self.publications(link, Duration::MAX)?.look().await?;
        found.ok_or(AddError::NotPublished)
    }

    /// Fetches a torrent file from the web; over IPv6 if it does not come over IPv4.
    async fn fetch(&self, url: &str) -> Result<Vec<u8>, AddError> {
        let mut failure = "no address in a family that we use".to_owned();
        for family in Family::ALL {
            match Web::new(&self.inner.sockets)
                .get(family, url, Author::User)
                .await
            {
                Some(Ok(response)) => return read_torrent(url, response).await,
                Some(Err(error)) => failure = error.to_string(),
                None => {}
            }
        }
        Err(fetch_error(url, failure))
    }

    async fn look_up_magnet(&self, magnet: &Magnet) -> Known {
        let mut known = Known::from_magnet(magnet);
        if let Some(metainfo) = self.inner.session.metadata(magnet.hashes).await {
            known.complete_with(metainfo);
        }
        known
    }
}

async fn finish(begun: Result<Begun, AddError>) -> Result<TorrentHandle, AddError> {
    begun?.finish().await
}

async fn read_torrent(url: &str, response: reqwest::Response) -> Result<Vec<u8>, AddError> {
    if !response.status().is_success() {
        let message = format!("HTTP status {}", response.status());
        return Err(fetch_error(url, message));
    }
    read_body(response, riverrun_bencode::Limits::TORRENT.bytes)
        .await
        .map_err(|error| fetch_error(url, error.to_string()))
}

fn fetch_error(url: &str, message: String) -> AddError {
    AddError::Fetch {
        url: url.to_owned(),
        message,
    }
}
