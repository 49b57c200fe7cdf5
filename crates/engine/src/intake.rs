//! How torrents get into an engine.

use std::time::Duration;

use riverrun_metainfo::{Magnet, Metainfo, PublisherLink};
use riverrun_swarm::Discovery;
use tokio::sync::oneshot;

use crate::add::{AddTorrent, Source};
use crate::driver::shard::{NewTorrent, ShardMessage};
use crate::driver::socket::Family;
use crate::driver::web::{Author, Web, read_body};
use crate::engine::Engine;
use crate::error::{AddError, EngineStopped};
use crate::known::{Known, decided_by};
use crate::session::{Addition, Keeper, KeptId, Standing};
use crate::torrent::{Times, TorrentHandle};

/// A torrent that is there, and perhaps not durable yet.
struct Begun<'a> {
    torrent: TorrentHandle,
    /// Who keeps it, and what comes when it is kept.
    kept: Option<(&'a Keeper, oneshot::Receiver<KeptId>)>,
}

impl Begun<'_> {
    /// Waits until it is durable, if it is to be.
    async fn finish(self) -> Result<TorrentHandle, AddError> {
        if let Some((keeper, written)) = self.kept {
            keeper.note_kept(&self.torrent, written).await?;
        }
        Ok(self.torrent)
    }
}

impl Engine {
    /// Takes a torrent in. One that is there already gives its handle, with more trackers and peers. In an engine that
    /// keeps its torrents it is durable when this returns.
    pub async fn add(&self, add: AddTorrent) -> Result<TorrentHandle, AddError> {
        self.begin_add(add).await?.finish().await
    }

    /// Takes torrents in, in this order, each as [`Engine::add`] does. An engine that keeps its torrents makes many of
    /// them durable at once; one by one it is that which takes time.
    pub async fn add_all(
        &self,
        adds: impl IntoIterator<Item = AddTorrent>,
    ) -> Vec<Result<TorrentHandle, AddError>> {
        let mut begun = Vec::new();
        for add in adds {
            begun.push(self.begin_add(add).await);
        }
        let mut added = Vec::with_capacity(begun.len());
        for begun in begun {
            added.push(match begun {
                Ok(begun) => begun.finish().await,
                Err(error) => Err(error),
            });
        }
        added
    }

    /// Takes a torrent in, and has it kept without waiting for that.
    async fn begin_add(&self, add: AddTorrent) -> Result<Begun<'_>, AddError> {
        let AddTorrent {
            source,
            dir,
            peers,
            trackers,
            options,
            storage,
            transports,
        } = add;
        let mut known = self.look_up(source).await?;
        self.meet_nodes(&known);
        known.trackers.extend(trackers);
        known.peers.extend(peers);
        let times = Times::now();
        let kept = self.inner.keeping.as_ref().map(|keeping| {
            let addition = Addition {
                hashes: known.hashes,
                dir: std::path::absolute(&dir).unwrap_or_else(|_| dir.clone()),
                trackers: known.trackers.clone(),
                storage,
                transports,
                added_at: times.added,
            };
            (&keeping.keeper, addition, Standing::new(options.clone()))
        });
        let torrent = riverrun_swarm::AddTorrent {
            request: 0,
            hashes: known.hashes,
            metadata: known.metainfo.as_deref().map(decided_by),
            summary: None,
            trackers: known.trackers,
            peers: known.peers,
            options,
            uploaded_bytes: 0,
            downloaded_bytes: 0,
        };
        let (reply, answer) = oneshot::channel();
        let new = NewTorrent {
            torrent,
            root: dir,
            storage,
            transports,
            times,
            name: None,
            reply,
        };
        self.send(ShardMessage::Add(Box::new(new))).await?;
        let torrent = answer.await.map_err(|_| EngineStopped)?;
        let kept = match kept {
            Some((keeper, addition, standing)) => {
                let metainfo = known.metainfo;
                let written = keeper.keep(&torrent, addition, standing, metainfo).await;
                written.map(|written| (keeper, written))
            }
            None => None,
        };
        Ok(Begun { torrent, kept })
    }

    /// A torrent names nodes of the DHT to begin from (BEP 5, "Torrent File Extensions").
    fn meet_nodes(&self, known: &Known) {
        if let Some(dht) = &self.inner.dht
            && !known.nodes.is_empty()
            && Discovery::Dht.allowed(known.is_private())
        {
            let meet = dht
                .clone()
                .meet(self.inner.sockets.clone(), known.nodes.clone());
            tokio::spawn(meet);
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
        let mut known = Known::from_magnet(magnet, &self.inner.sockets).await;
        if let Some(metainfo) = self.inner.session.metadata(magnet.hashes).await {
            known.complete_with(metainfo);
        }
        known
    }
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
