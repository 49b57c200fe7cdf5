//! What to download, and how.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use riverrun_base::InfoHashes;
use riverrun_metainfo::{Magnet, Metainfo, PublisherLink};
use riverrun_storage::StorageOptions;
use riverrun_swarm::{Limits, Priority, TorrentOptions, WebSeed};

use crate::error::AddError;
use crate::known::web_seeds;
use crate::transports::Transports;

/// A torrent to add to an [`Engine`](crate::Engine): where it comes from and how to treat it.
#[derive(Clone, Debug)]
pub struct AddTorrent {
    pub(crate) source: Source,
    pub(crate) dir: PathBuf,
    pub(crate) peers: Vec<SocketAddr>,
    pub(crate) trackers: Vec<Vec<String>>,
    pub(crate) web_seeds: Vec<WebSeed>,
    pub(crate) options: TorrentOptions,
    pub(crate) storage: StorageOptions,
    pub(crate) transports: Option<Transports>,
}

/// Where a torrent comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Metainfo(Box<Metainfo>),
    Magnet(Box<Magnet>),
    Publisher(Box<PublisherLink>),
    Url(String),
}

impl AddTorrent {
    fn new(source: Source) -> Self {
        Self {
            source,
            dir: PathBuf::from("."),
            peers: Vec::new(),
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            options: TorrentOptions::default(),
            storage: StorageOptions::default(),
            transports: None,
        }
    }

    /// From parsed metadata.
    pub fn from_metainfo(metainfo: Metainfo) -> Self {
        Self::new(Source::Metainfo(Box::new(metainfo)))
    }

    /// From the bytes of a `.torrent` file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AddError> {
        Ok(Self::from_metainfo(Metainfo::from_bytes(bytes)?))
    }

    /// From a `.torrent` file. Blocks on the file system.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, AddError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| AddError::Read {
            path: path.display().to_string(),
            source,
        })?;
        Self::from_bytes(&bytes)
    }

    /// From a parsed magnet link.
    pub fn from_magnet(magnet: Magnet) -> Self {
        Self::new(Source::Magnet(Box::new(magnet)))
    }

    /// From a magnet link.
    pub fn from_magnet_link(link: &str) -> Result<Self, AddError> {
        Ok(Self::from_magnet(link.parse()?))
    }

    /// From whatever torrent a publisher names now (BEP 46): looked up in the DHT when it is added.
    pub fn from_publisher(link: PublisherLink) -> Self {
        Self::new(Source::Publisher(Box::new(link)))
    }

    /// From nothing but info-hashes: peers have to come from elsewhere.
    pub fn from_info_hashes(hashes: InfoHashes) -> Self {
        Self::from_magnet(Magnet::new(hashes))
    }

    /// From a `.torrent` on the web; fetched when it is added.
    pub fn from_url(url: impl Into<String>) -> Self {
        Self::new(Source::Url(url.into()))
    }

    /// The directory into which the torrent's name goes; the current one if not set.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = dir.into();
        self
    }

    /// Peers to try beside those that trackers name.
    pub fn peers(mut self, peers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.peers.extend(peers);
        self
    }

    /// More trackers, as a tier of their own behind the torrent's (BEP 12).
    pub fn tracker_tier(mut self, urls: impl IntoIterator<Item = String>) -> Self {
        self.trackers.push(urls.into_iter().collect());
        self
    }

    /// Servers that have its files too (BEP 19), beside those that the torrent names: the URL of its one file, or of the
    /// directory in which its name lies. What is no URL of HTTP is passed over. They may be on this machine, where no URL
    /// out of a torrent leads.
    pub fn web_seeds(mut self, urls: impl IntoIterator<Item = String>) -> Self {
        let urls: Vec<_> = urls.into_iter().collect();
        self.web_seeds.extend(web_seeds(&urls, true));
        self
    }

    /// A priority for each file, in the order of the torrent's list.
    pub fn priorities(mut self, priorities: Vec<Priority>) -> Self {
        self.options.priorities = priorities;
        self
    }

    /// Downloads no file until priorities are set: for a magnet link, whose files are not known yet.
    pub fn skip_all_files(mut self) -> Self {
        self.options.unlisted_priority = Priority::Skip;
        self
    }

    /// Replaces files that are in the way and are not the torrent's. Without it they are a conflict.
    pub fn overwrite(mut self) -> Self {
        self.storage.overwrite = true;
        self
    }

    /// Takes the torrent in without starting it.
    pub fn paused(mut self) -> Self {
        self.options.start = false;
        self
    }

    /// Prefers the order of pieces to their rarity.
    pub fn sequential(mut self) -> Self {
        self.options.sequential = true;
        self
    }

    /// Downloads nothing, gives what is there.
    pub fn upload_only(mut self) -> Self {
        self.options.upload_only = true;
        self
    }

    /// Reveals pieces one by one while nobody else has them all (BEP 16): for the first seed of a torrent.
    pub fn super_seed(mut self) -> Self {
        self.options.super_seed = true;
        self
    }

    /// Limits the torrent's rates.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.limits = limits;
        self
    }

    /// What carries the connections that are dialled for it, as far as the engine allows; as the engine has it if
    /// not set.
    pub fn transports(mut self, transports: Transports) -> Self {
        self.transports = Some(transports);
        self
    }

    /// How its files are treated.
    pub fn storage(mut self, storage: StorageOptions) -> Self {
        self.storage = storage;
        self
    }
}
