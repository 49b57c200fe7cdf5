//! What a shard was given, as bytes, and whether it does the same when it is given it again.
//!
//! A shard is decided by its configuration, its seed, and what it is given when. So a record of those, without payload,
//! is enough to have it do all of it once more, anywhere. Of what it did only digests are kept: the rest is what a
//! replay finds out.
//!
//! A record is a head and entries, in chunks that whoever keeps them has to keep apart and in order. What stands in it
//! is what serde derives of the types of this crate's inputs, so that none of them can be forgotten. What no record
//! holds: payload (the blocks are gone, their digests stay where a decision needed them) and the users' keys in the
//! URLs of trackers, which are masked.

mod fields;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use riverrun_base::{BlockDigest, Time};
use riverrun_peer::PeerEvent;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::Config;
use crate::input::Input;
use crate::outbox::Outbox;
use crate::shard::Shard;

pub(crate) use self::fields::{masked, masked_tiers, metadata, tracker_url};

/// The layout of records. To be raised whenever an input, or the configuration, is told in another way than before.
const FORMAT: u32 = 8;

/// What a shard is given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Given {
    /// Something that happened.
    Input(Input),
    /// The time at which it had something to do.
    Timeout,
}

/// The first eight bytes of a digest over actions.
type Digest = [u8; 8];

/// Keeps what a shard is given, and digests of what it does.
#[derive(Debug)]
pub struct Recorder {
    /// What was recorded and not yet taken.
    bytes: Vec<u8>,
    digests: Digests,
    last: Time,
}

impl Recorder {
    /// For a shard that is made with this configuration and seed, by a program of this name and version.
    pub fn new(program: &str, config: &Config, seed: u64) -> Self {
        Self {
            bytes: extended(Vec::new(), &(FORMAT, program, seed, config)),
            digests: Digests::default(),
            last: Time::ZERO,
        }
    }

    /// Has the shard take an input, and records it.
    pub fn handle(&mut self, now: Time, shard: &mut Shard, input: Input, out: &mut Outbox) {
        let block = match &input {
            Input::Peer {
                event: PeerEvent::Received { block, .. },
                ..
            } => Some(block.clone()),
            _ => None,
        };
        let given = Given::Input(input);
        self.begin(now, &given);
        let before = Mark::of(out);
        if let Given::Input(input) = given {
            shard.handle(now, input, out);
        }
        self.end(block.and_then(|block| block.known_digest()), &before, out);
    }

    /// Has the shard do what is due, and records it if something was.
    pub fn handle_timeout(&mut self, now: Time, shard: &mut Shard, out: &mut Outbox) {
        if shard.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        self.begin(now, &Given::Timeout);
        let before = Mark::of(out);
        shard.handle_timeout(now, out);
        self.end(None, &before, out);
    }

    /// The next chunk: what was recorded since the last. The first begins with the head. Empty if nothing was.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    fn begin(&mut self, now: Time, given: &Given) {
        // An entry may be earlier than the last one where a driver reads its clock twice.
        let after = now.as_micros().wrapping_sub(self.last.as_micros());
        self.last = now;
        self.bytes = extended(
            std::mem::take(&mut self.bytes),
            &(after.cast_signed(), given),
        );
    }

    fn end(&mut self, block: Option<BlockDigest>, before: &Mark, out: &Outbox) {
        let did = self.digests.of(before, out);
        self.bytes = extended(std::mem::take(&mut self.bytes), &(block, did));
    }
}

/// How full an outbox was.
struct Mark {
    peers: usize,
    storage: usize,
    net: usize,
    loads: usize,
    events: usize,
}

impl Mark {
    const START: Self = Self {
        peers: 0,
        storage: 0,
        net: 0,
        loads: 0,
        events: 0,
    };

    const fn of(out: &Outbox) -> Self {
        Self {
            peers: out.peers.len(),
            storage: out.storage.len(),
            net: out.net.len(),
            loads: out.loads.len(),
            events: out.events.len(),
        }
    }
}

/// Digests of what a shard does.
#[derive(Debug, Default)]
struct Digests {
    scratch: Vec<u8>,
}

impl Digests {
    /// Of all that is in an outbox since then; `None` of nothing.
    fn of(&mut self, before: &Mark, out: &Outbox) -> Option<Digest> {
        let peers = &out.peers[before.peers..];
        let storage = &out.storage[before.storage..];
        let (net, events) = (&out.net[before.net..], &out.events[before.events..]);
        let loads = &out.loads[before.loads..];
        let is_empty = peers.is_empty() && storage.is_empty() && net.is_empty();
        if is_empty && loads.is_empty() && events.is_empty() {
            return None;
        }
        self.scratch.clear();
        let scratch = std::mem::take(&mut self.scratch);
        self.scratch = extended(scratch, &(peers, storage, net, loads, events));
        let digest = riverrun_hash::sha1(&self.scratch);
        digest.as_bytes().first_chunk().copied()
    }
}

fn extended<T: Serialize>(bytes: Vec<u8>, value: &T) -> Vec<u8> {
    // Invariant: all that the format cannot write are sequences that do not know their length; there are none.
    postcard::to_extend(value, bytes).expect("lengths are known")
}

/// Bytes that no record begins with.
#[derive(Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidHead {
    /// It is laid out in another way.
    #[error("a recording in format {found}, where this program reads format {FORMAT}")]
    Format {
        /// The number of that layout.
        found: u32,
    },
    /// It cannot be read.
    #[error("no recording: {0}")]
    Unreadable(String),
}

/// Bytes that are no entry of a record.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("an entry that cannot be read: {0}")]
pub struct InvalidEntry(String);

/// A shard that is given again what one was given before.
pub struct Replay {
    shard: Shard,
    program: String,
    now: Time,
    out: Outbox,
    digests: Digests,
}

/// One thing that a shard was given, and what it does.
#[derive(Debug)]
pub struct Step<'a> {
    /// When.
    pub at: Time,
    /// What it is given.
    pub given: Given,
    /// What it wants done.
    pub did: &'a Outbox,
    /// Whether that is what it wanted done when it was recorded.
    pub agrees: bool,
}

impl Replay {
    /// From the first chunk of a record, of which the entries are left.
    pub fn begin(chunk: &mut &[u8]) -> Result<Self, InvalidHead> {
        let unreadable = |error: postcard::Error| InvalidHead::Unreadable(error.to_string());
        let (found, rest) = postcard::take_from_bytes::<u32>(chunk).map_err(unreadable)?;
        if found != FORMAT {
            return Err(InvalidHead::Format { found });
        }
        let ((program, seed, config), rest) =
            postcard::take_from_bytes::<(String, u64, Config)>(rest).map_err(unreadable)?;
        *chunk = rest;
        Ok(Self {
            shard: Shard::new(Arc::new(config), seed),
            program,
            now: Time::ZERO,
            out: Outbox::default(),
            digests: Digests::default(),
        })
    }

    /// The program that has recorded it, with its version.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The shard as it is now.
    pub const fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Takes the next entry off a chunk; `None` if none is left.
    pub fn step(&mut self, chunk: &mut &[u8]) -> Result<Option<Step<'_>>, InvalidEntry> {
        if chunk.is_empty() {
            return Ok(None);
        }
        let entry = postcard::take_from_bytes::<(i64, Given, Option<BlockDigest>, Option<Digest>)>;
        let ((after, given, block, recorded), rest) =
            entry(chunk).map_err(|error| InvalidEntry(error.to_string()))?;
        *chunk = rest;
        let micros = self.now.as_micros().wrapping_add(after.cast_unsigned());
        self.now = Time::from_micros(micros);
        self.clear();
        match given.clone() {
            Given::Input(input) => {
                remember(&input, block);
                self.shard.handle(self.now, input, &mut self.out);
            }
            Given::Timeout => self.shard.handle_timeout(self.now, &mut self.out),
        }
        let did = self.digests.of(&Mark::START, &self.out);
        Ok(Some(Step {
            at: self.now,
            given,
            did: &self.out,
            agrees: did == recorded,
        }))
    }

    fn clear(&mut self) {
        self.out.peers.clear();
        self.out.storage.clear();
        self.out.net.clear();
        self.out.loads.clear();
        self.out.events.clear();
    }
}

/// Tells a block that has lost its bytes what they hashed to.
fn remember(input: &Input, digest: Option<BlockDigest>) {
    if let (
        Input::Peer {
            event: PeerEvent::Received { block, .. },
            ..
        },
        Some(digest),
    ) = (input, digest)
    {
        block.digest(|_| digest);
    }
}
