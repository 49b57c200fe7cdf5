//! Names for torrents and connections inside one shard.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name {
            index: u32,
            generation: u32,
        }

        impl $name {
            /// The slot, and how often it has been used before.
            pub const fn new(index: u32, generation: u32) -> Self {
                Self { index, generation }
            }

            /// The slot.
            pub const fn index(self) -> u32 {
                self.index
            }

            /// How often the slot was used before: a key outlives what it named without naming the next.
            pub const fn generation(self) -> u32 {
                self.generation
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}.{}", self.index, self.generation)
            }
        }
    };
}

key!(
    /// A torrent of a shard.
    TorrentKey
);
key!(
    /// A connection of a shard, from the decision to dial or accept until its end was reported.
    ConnKey
);
