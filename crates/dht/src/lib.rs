//! A node of BitTorrent's distributed hash table (BEP 5), without sockets and clocks.
//!
//! [`Dht`] is fed datagrams and the time, and pushes datagrams and events into an [`Outbox`]. Beside BEP 5 it speaks
//! BEP 32 (IPv6), 33 (scrapes), 42 (ids bound to addresses), 43 (read-only), 44 (items), 45 (several addresses), 46
//! (torrents that change) and 51 (samples).
//!
//! What strangers can make it hold or send has a bound in each file: the table ([`Dht`] keeps two nodes a network),
//! what others store, the queries answered to one address, the bytes of all answers.

mod bloom;
mod config;
mod contact;
mod dht;
mod id;
mod item;
mod items;
mod krpc;
mod limits;
mod lookup;
mod node;
mod peers;
mod question;
mod reach;
mod rpcs;
mod saved;
mod search;
mod table;
mod token;
mod votes;

pub use bloom::BloomFilter;
pub use config::Config;
pub use contact::{Contact, Family};
pub use dht::{Dht, NodeStats};
pub use id::{Distance, NodeId};
pub use item::{
    InvalidItem, Keypair, SALT_BYTES_MAX, Signed, Stored, VALUE_BYTES_MAX, mutable_target,
    torrent_pointer,
};
pub use question::{
    Announce, Datagram, Event, Finding, ItemName, LookupId, Outbox, PeersQuestion, Question, Report,
};
pub use saved::{InvalidState, NODES_MAX, SavedState};
