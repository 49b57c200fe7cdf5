//! What the decisions weigh.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The numbers that decide how fast a swarm is, together: an experiment may change them. What each is worth was measured
/// in simulated swarms; the project's `docs/tuning.md` has the tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tuning {
    /// How many peers of a torrent are unchoked at a time without an upload limit.
    pub slots: u32,
    /// Under an upload limit there are as few slots as bring a piece through one hop within this time, which takes
    /// slots × piece / uplink; but at least three.
    pub hop_max: Duration,
    /// A round of the choker lasts as long as the uplink takes to give each slot this many pieces, but no longer than
    /// [`Config::rechoke_interval`](crate::Config::rechoke_interval) says: on a fast line nobody waits ten seconds for a
    /// slot. If it is zero all rounds last as long as that.
    pub round_pieces: u32,
    /// For how long the uplink has something to send: longer than it takes to read a block and hand it over. What is
    /// more than that is served side by side, and no longer piece by piece.
    pub serve_ahead: Duration,
    /// Which part of its connections a torrent dials itself, in hundredths. The rest is for those that dial us: else
    /// the first that come are full of each other when the others come.
    pub dialled_percent: u32,
    /// Until this many pieces are verified the next is a random one: a rare piece is often on a slow peer, and a
    /// newcomer needs something to give (Cohen 2003, "random first piece").
    pub random_first: u32,
    /// Suggestions of an initial seed to one peer that it has not taken up.
    pub suggested_max: usize,
    /// Pieces that a peer may take while choked (BEP 6 has ten).
    pub allowed_fast: usize,
    /// How many pieces somebody who gives nothing takes before others go before it: enough to begin trading with.
    pub grace_pieces: u64,
    /// How many pieces a seed gives in one turn.
    pub quota_pieces: u64,
    /// A peer that sends a piece within this time gets it for itself: sharing would gain nothing that anybody notices,
    /// and one source is easier to blame.
    pub whole_piece: Duration,
    /// In v2 torrents, a piece that comes slower than this is passed on block by block: a hop of the crowd takes the time
    /// of a block then. On a faster line nobody would notice, and each block would be hashed twice. If it is zero, pieces
    /// are always passed on whole.
    pub relay_after: Duration,
    /// What all peers together may owe, as a time at the rate at which blocks come. More would wait before our own
    /// line, and be taken for the peers' silence: half the time after which that is reported.
    pub owed_time: Duration,
    /// In the end game blocks are asked for twice when all that is owed comes within this time. Before that they wait
    /// before our own line rather than at a slow peer, and a copy would only make the queue longer. If it is zero there
    /// is no end game.
    pub copy_time: Duration,
}

impl Tuning {
    /// What won.
    pub const DEFAULT: Self = Self {
        slots: 8,
        hop_max: Duration::from_secs(10),
        round_pieces: 2,
        serve_ahead: Duration::from_millis(150),
        dialled_percent: 50,
        random_first: 4,
        suggested_max: 4,
        allowed_fast: 5,
        grace_pieces: 4,
        quota_pieces: 20,
        whole_piece: Duration::from_secs(1),
        relay_after: Duration::from_millis(250),
        owed_time: Duration::from_secs(10),
        copy_time: Duration::from_secs(3),
    };
}

impl Default for Tuning {
    fn default() -> Self {
        Self::DEFAULT
    }
}
