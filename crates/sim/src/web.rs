//! Web servers that have the files of a world's torrents (BEP 19).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::seconds;

/// A web server. Every host knows it as a web seed of each torrent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WebServerConfig {
    /// Payload that it sends, in bytes per second; without it, at once.
    pub up: Option<u64>,
    /// From it to any host, one way. A request costs twice as much.
    #[serde(with = "seconds")]
    pub latency: Duration,
    /// Everything that it sends is wrong.
    pub lies: bool,
    /// It has nothing to do with the torrents.
    pub lacks_all: bool,
    /// It refuses each request whose number is a multiple of this: it is busy. 0 refuses none.
    pub busy_every: u32,
    /// It answers nobody from then on, until [`WebServerConfig::back_at`].
    #[serde(with = "seconds")]
    pub gone_at: Duration,
    /// Not after [`WebServerConfig::gone_at`] if it is always there.
    #[serde(with = "seconds")]
    pub back_at: Duration,
}

impl Default for WebServerConfig {
    fn default() -> Self {
        Self {
            up: None,
            latency: Duration::from_millis(20),
            lies: false,
            lacks_all: false,
            busy_every: 0,
            gone_at: Duration::ZERO,
            back_at: Duration::ZERO,
        }
    }
}
