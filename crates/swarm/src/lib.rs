//! The decisions of a BitTorrent client, without any I/O.
//!
//! A shard owns torrents. Everything that happens reaches it as an [`Input`] with the time; everything it
//! wants done leaves through an [`Outbox`]. It has no clock, socket, file, thread or lock, so that the same
//! code runs in an engine and, by the thousand, in a simulator.

mod allowed_fast;
mod bans;
mod candidates;
mod choker;
mod config;
mod discovery;
mod exchange;
mod external_ip;
mod input;
mod key;
mod limits;
mod local;
mod meter;
mod outbox;
mod picker;
mod priority;
mod reason;
mod recency;
mod record;
#[cfg(test)]
mod sample;
mod shard;
mod shared;
mod torrent;
mod tuning;
mod turns;
mod web_seeds;
mod wheel;

pub use candidates::Misses;
pub use config::{Config, Picking, UnchokeSlots};
pub use discovery::Discovery;
pub use external_ip::Witness;
pub use input::{
    AddTorrent, Input, Limits, PeerSource, Priority, Summary, TorrentCommand, TorrentOptions,
    Transport, WebSeed,
};
pub use key::{ConnKey, TorrentKey};
pub use local::LocalSearch;
pub use outbox::{
    BlockDigests, DhtAnnounce, Event, Existed, NetAction, Outbox, StorageDone, StorageFault,
    StorageJob, TorrentState, TrackerKey,
};
pub use reason::{PickReason, SlotReason};
pub use recency::Revision;
pub use record::{Given, InvalidEntry, InvalidHead, Recorder, Replay, Step};
pub use shard::{Changes, Shard};
pub use torrent::{
    PeerStats, TorrentStats, TrackerStats, TrackerStatus, WebSeedStats, WebSeedStatus, Why,
};
pub use tuning::Tuning;
