//! Names of things in a world.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A host, by its place in [`World::hosts`](crate::World::hosts).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostId(pub u32);

impl HostId {
    /// Its place in a list of hosts.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {}", self.0)
    }
}

/// A torrent that exists in a world, whoever has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId(pub u32);

/// A line that several hosts share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineId(pub u32);

/// One end of a wire: 0 has dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EndId(u32);

impl EndId {
    pub(crate) const fn new(wire: u32, side: usize) -> Self {
        Self(wire * 2 + if side == 0 { 0 } else { 1 })
    }

    pub(crate) const fn wire(self) -> usize {
        self.0 as usize / 2
    }

    pub(crate) const fn side(self) -> usize {
        self.0 as usize % 2
    }

    pub(crate) const fn other(self) -> Self {
        Self(self.0 ^ 1)
    }

    pub(crate) fn token(self) -> u64 {
        self.0.into()
    }

    pub(crate) fn from_token(token: u64) -> Self {
        // Invariant: tokens are made of ends.
        Self(u32::try_from(token).expect("a token of ours"))
    }
}
