//! What can go wrong, an enum an operation.

use std::io;
use std::net::SocketAddr;

use riverrun_metainfo::{MagnetError, MetainfoError};
use riverrun_swarm::StorageFault;
use thiserror::Error;

/// The engine has been shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the engine has stopped")]
pub struct EngineStopped;

/// Why an engine did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Storage does not start.
    #[error(transparent)]
    Storage(#[from] riverrun_storage::StartError),
    /// A thread does not start.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The torrents that are kept cannot be read, or belong to another process. They are left as they are.
    #[error("cannot use {path} for the torrents that are kept: {message}")]
    Session {
        /// The file.
        path: String,
        /// Why.
        message: String,
    },
    /// What is decided cannot be recorded.
    #[error("cannot record in {path}")]
    Record {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The addresses of this machine cannot be listed.
    #[error("cannot list the addresses of this machine")]
    Network(#[source] io::Error),
    /// Datagrams are to go by a proxy, which does not take them.
    #[error("no datagrams by the proxy")]
    Relay(#[source] io::Error),
    /// The HTTP client does not start.
    #[error("cannot set up the HTTP client")]
    Http(#[source] reqwest::Error),
}

/// Why a torrent was not taken in.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AddError {
    /// It is no torrent.
    #[error("not a valid torrent")]
    Metainfo(#[from] MetainfoError),
    /// It is no magnet link.
    #[error("not a valid magnet link")]
    Magnet(#[from] MagnetError),
    /// A torrent file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A torrent could not be fetched from the web.
    #[error("cannot fetch {url}: {message}")]
    Fetch {
        /// The URL.
        url: String,
        /// Why.
        message: String,
    },
    /// A link to a publisher needs the DHT.
    #[error("a link to a publisher is looked up in the DHT, which is not used")]
    NoDht,
    /// The publisher names no torrent that could be found.
    #[error("no torrent of this publisher was found in the DHT")]
    NotPublished,
    /// It could not be kept for the next run, so it was not taken in; or it is there, and what is new about it is not
    /// kept. The log says why.
    #[error("the torrent cannot be kept")]
    NotKept,
    /// The engine has been shut down.
    #[error(transparent)]
    Stopped(#[from] EngineStopped),
}

/// Why a wait ended without what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The torrent was removed.
    #[error("the torrent was removed")]
    Removed,
    /// The engine has been shut down.
    #[error(transparent)]
    Stopped(#[from] EngineStopped),
}

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FileError {
    /// The metadata is not known yet.
    #[error("the torrent's metadata is not known yet")]
    NoMetadata,
    /// There is no such file, or it is padding or a symbolic link.
    #[error("the torrent has no file {0} with content")]
    NoSuchFile(u32),
    /// Reading from disk failed.
    #[error(transparent)]
    Storage(#[from] StorageFault),
}
