//! riverrun as a library: publish, download and seed torrents inside a tokio program.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use riverrun_engine::{AddTorrent, Engine};
//!
//! let engine = Engine::builder("state").start().await?;
//! let torrent = engine.add(AddTorrent::from_file("debian.torrent")?.dir("downloads")).await?;
//! torrent.wait_completed().await?;
//! engine.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! An [`Engine`] owns sockets, disk threads and torrents; a [`TorrentHandle`] watches and steers one of them; a
//! [`FileReader`] reads a file while it is still coming. What is decided, and why, is in `riverrun-swarm`, which
//! knows no sockets; this crate only carries its decisions out.
//!
//! Nothing is global: two engines in one process share nothing.

mod add;
mod authorities;
mod changes;
mod dht;
mod driver;
mod engine;
mod error;
mod hindrances;
mod intake;
mod known;
mod network;
mod publications;
mod reader;
mod recording;
mod restore;
mod session;
mod torrent;
mod transports;

pub use add::AddTorrent;
pub use authorities::{Authorities, InvalidAuthorities};
pub use changes::Changes;
pub use dht::{DEFAULT_BOOTSTRAP, DhtConfig, DhtHandle, DhtNode, DhtSearch, draw_secret};
pub use driver::port_map::PortMapping;
pub use driver::tracker::TrackerClient;
#[doc(hidden)]
pub use driver::utp::{UtpConn, UtpEndpoint};
pub use engine::{Engine, EngineBuilder};
pub use error::{AddError, EngineStopped, FileError, StartError, WaitError};
pub use network::{
    Bind, Dscp, NetworkOptions, NetworkState, ParseBindError, ParseDscpError, ParseProxyError,
    Proxy,
};
pub use publications::Publications;
pub use reader::FileReader;
pub use recording::{Recording, RecordingError};
pub use session::Unreadable;
pub use torrent::TorrentHandle;
pub use transports::Transports;

pub use riverrun_base::{
    Bitfield, ByteSize, FileIndex, InfoHash, InfoHashes, PeerId, PieceIndex, Rate, Time,
};
pub use riverrun_dht::{
    Announce, BloomFilter, Contact, Family, Finding, InvalidItem, ItemName, Keypair, NodeId,
    NodeStats, PeersQuestion, Question, Report, Signed, Stored, mutable_target, torrent_pointer,
};
pub use riverrun_metainfo::{HostPort, Info, Magnet, Metainfo, PublisherLink};
pub use riverrun_peer::{Encryption, EncryptionPolicy};
pub use riverrun_storage::StorageOptions;
pub use riverrun_swarm::{
    ConnKey, Event, Given, Input, InvalidEntry, InvalidHead, Limits, Misses, Outbox, PeerStats,
    Priority, Revision, Shard, Step, StorageFault, TorrentKey, TorrentState, TorrentStats,
    Transport, WebSeed, WebSeedStats, WebSeedStatus, Why,
};
pub use riverrun_tracker::{InvalidTrackerUrl, ScrapeCounts, TrackerFailure, TrackerUrl};
pub use tokio_stream::wrappers::BroadcastStream;
