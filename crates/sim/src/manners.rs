//! How hosts behave that do not do their part.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::seconds;

/// How a host behaves. The default is an honest one.
///
/// The decisions of such a host are riverrun's own; what they say is bent on the way out. So a liar is as clever as
/// we are in all else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is something that a host may do or not"
)]
pub struct Manners {
    /// Which of the blocks that it sends are wrong.
    pub poison: Poison,
    /// Takes requests and never answers.
    pub mute: bool,
    /// Gives nothing: never unchokes.
    pub free_rider: bool,
    /// Gives wrong metadata.
    pub metadata_liar: bool,
    /// What it says that it has.
    pub claims: Claims,
    /// What it sends without being asked.
    pub flood: Option<Flood>,
    /// Its node of the DHT wants to be found instead of others.
    #[serde(skip_serializing_if = "is_false")]
    pub node_liar: bool,
    /// Asks the services of others in the name of strangers, to have these flooded.
    #[serde(skip_serializing_if = "is_false")]
    pub forges: bool,
}

/// Which blocks are wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Poison {
    /// None.
    #[default]
    Never,
    /// Every n-th block of the torrent; with 1 all.
    Every(u32),
    /// The first that it is asked for, by each peer.
    Once,
}

/// What a host says that it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claims {
    /// What it has.
    #[default]
    Honest,
    /// Everything, from the start.
    All,
    /// Nothing, ever.
    Nothing,
}

/// What a host sends without being asked, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flood {
    /// How often.
    #[serde(with = "seconds")]
    pub every: Duration,
    /// Requests to each peer, of random blocks, whether or not it is choked.
    #[serde(default)]
    pub requests: u32,
    /// Have messages to each peer, of random pieces.
    #[serde(default)]
    pub haves: u32,
    /// Bytes that are no message; ends a connection that runs byte by byte, and one that does not as well.
    #[serde(default)]
    pub garbage: bool,
}

impl Manners {
    /// Whether it does all that it should.
    pub fn is_honest(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
const fn is_false(it: &bool) -> bool {
    !*it
}
