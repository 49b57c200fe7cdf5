//! Where decisions meet the world: sockets, timers, disk threads, trackers.
//!
//! A task a connection reads, parses and writes; one task owns the shard and takes batches of inputs; tracker
//! announces are tasks of their own. Every channel is bounded. No task that receives from the shard's task
//! ever waits for it without also receiving, so the two cannot wait for each other.

pub(crate) mod callers;
pub(crate) mod clock;
pub(crate) mod conn;
pub(crate) mod decisions;
pub(crate) mod dht;
pub(crate) mod dial;
pub(crate) mod doorstep;
pub(crate) mod identity;
pub(crate) mod listen;
pub(crate) mod lsd;
pub(crate) mod port_map;
pub(crate) mod presence;
pub(crate) mod relay;
pub(crate) mod routes;
pub(crate) mod shard;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod tracker;
pub(crate) mod udp;
pub(crate) mod udp_tracker;
pub(crate) mod utp;
pub(crate) mod web;
pub(crate) mod web_seed;
