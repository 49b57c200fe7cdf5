//! Tracker announces and scrapes, both sides, without a socket (BEP 3, 7, 12, 15, 21, 23, 24, 31, 41, 48).
//!
//! - A client's messages: [`AnnounceRequest`] and [`AnnounceResponse`], as HTTP requests ([`http`]) or as UDP
//!   datagrams ([`UdpTracker`], a state machine that a driver feeds with datagrams and time).
//! - When to announce where: [`Tiers`] and [`Backoff`].
//! - A tracker's own side: [`server`], whose swarm table a simulator runs as well as a real server.
//!
//! This crate resolves no names, opens no connections and checks no certificates; which resolved addresses
//! may be talked to is for its driver to decide.

mod announce;
mod backoff;
mod compact;
mod failure;
pub mod http;
mod scrape;
pub mod server;
mod text;
mod tiers;
mod udp;
mod url;

pub use announce::{
    AnnounceEvent, AnnounceRequest, AnnounceResponse, AnnouncedEncryption, INTERVAL_DEFAULT,
    INTERVAL_MAX, INTERVAL_MIN, PEERS_MAX,
};
pub use backoff::Backoff;
pub use failure::{InvalidReply, Retry, TrackerFailure};
pub use scrape::{ScrapeCounts, ScrapeResponse};
pub use tiers::Tiers;
pub use udp::{JobId, TooManyJobs, UdpTracker, UdpTrackerConfig, UdpTrackerEvent};
pub use url::{InvalidTrackerUrl, TrackerHost, TrackerScheme, TrackerUrl};
