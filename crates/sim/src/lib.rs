//! A deterministic world: thousands of riverrun's own decisions on a virtual clock, with lines, disks, trackers and
//! faults between them.
//!
//! The `Shard`s, `PeerConn`s and tracker `Swarms` are those of production, unchanged. A [`World`] is built from plain
//! data ([`WorldConfig`], [`HostConfig`]); one seed is one run, on any machine. Whoever wants to look plugs in an
//! [`Observer`].

mod action;
pub mod chaos;
pub mod check;
mod config;
mod content;
mod disk;
pub mod fluid;
mod host;
mod ids;
mod link;
mod manners;
mod model;
mod observe;
mod planted;
pub mod recording;
pub mod report;
pub mod scenario;
mod schedule;
pub mod science;
mod seconds;
mod services;
mod socket;
mod streams;
mod tracker;
mod web;
mod wire;
mod world;

pub use action::Action;
pub use config::{HostConfig, Level, Nat, Start, Stay, UdpConfig, WorldConfig};
pub use content::{Content, Payload, Version};
pub use disk::DiskConfig;
pub use host::{Host, Life, Tally};
pub use ids::{ContentId, HostId, LineId};
pub use link::TcpConfig;
pub use manners::{Claims, Flood, Manners, Poison};
pub use observe::{Happening, Observer};
pub use planted::Planted;
pub use services::Service;
pub use socket::{Datagrams, Socket};
pub use tracker::{Lie, TrackerConfig};
pub use web::WebServerConfig;
pub use world::{Announced, Counts, Setup, World};
