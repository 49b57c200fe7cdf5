//! Why a choice was made, for whoever wants to know: see [`Config::explain`](crate::Config::explain).

use std::fmt;

use serde::Serialize;

/// Why a piece was chosen to be requested from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum PickReason {
    /// A reader waits for it.
    Deadline,
    /// The peer chokes us and gives this one nevertheless (BEP 6).
    AllowedFast,
    /// The peer sends more of what it was asked for before.
    GoesOn,
    /// It was begun, and is better finished first.
    Begun,
    /// The first pieces are random ones: something to give soon.
    RandomFirst,
    /// Any piece will do: [`Picking::Random`](crate::Picking::Random).
    Random,
    /// Fewest peers have it.
    Rarest {
        /// How many have it.
        have: u32,
        /// Of how many.
        of: u32,
        /// Among equals, the peer has suggested it (BEP 6).
        suggested: bool,
    },
    /// Only this peer has it.
    OnlyHere,
    /// The peer is slow: a piece that many others have can wait for it.
    Commonest,
    /// The first that is missing, since the pieces are wanted in order.
    InOrder,
    /// Somebody else was asked for it and may be too late for a reader.
    Late,
    /// It lies behind the one before: who sends long runs goes on.
    Behind,
    /// A long run of missing pieces begins with it.
    Gap {
        /// How many are missing from there on.
        pieces: u32,
    },
    /// Everything is asked for already: whoever is idle is asked for what is missing too.
    EndGame,
}

impl fmt::Display for PickReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline => f.write_str("a reader waits for it"),
            Self::AllowedFast => f.write_str("allowed although choked"),
            Self::GoesOn => f.write_str("goes on with its piece"),
            Self::Begun => f.write_str("finish begun piece"),
            Self::RandomFirst => f.write_str("random first"),
            Self::Random => f.write_str("random"),
            Self::Rarest {
                have,
                of,
                suggested,
            } => {
                write!(f, "rarest: {have} of {of} neighbours have it")?;
                if *suggested {
                    f.write_str(", and it was suggested")?;
                }
                Ok(())
            }
            Self::OnlyHere => f.write_str("only this peer has it"),
            Self::Commonest => f.write_str("common piece for a slow peer"),
            Self::InOrder => f.write_str("next in order"),
            Self::Late => f.write_str("may be late for a reader"),
            Self::Behind => f.write_str("behind the one before"),
            Self::Gap { pieces } => write!(f, "first of {pieces} missing ones that lie together"),
            Self::EndGame => f.write_str("end game"),
        }
    }
}

/// Why a peer has got a slot, or lost it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum SlotReason {
    /// A slot was free.
    Free,
    /// It gives us most.
    GivesMost,
    /// Its turn has come by chance.
    Optimistic,
    /// Its turn has come: a seed serves everybody in turn.
    Rotation,
    /// Others come before it.
    Outranked,
    /// It has had its chance and gives nothing, and others do.
    GivesNothing,
    /// It wants nothing now, and others wait.
    NotInterested,
    /// There are fewer slots.
    FewerSlots,
}

impl fmt::Display for SlotReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Free => "a slot is free",
            Self::GivesMost => "gives most",
            Self::Optimistic => "optimistic",
            Self::Rotation => "its turn",
            Self::Outranked => "others come first",
            Self::GivesNothing => "gives nothing",
            Self::NotInterested => "wants nothing",
            Self::FewerSlots => "fewer slots",
        })
    }
}
