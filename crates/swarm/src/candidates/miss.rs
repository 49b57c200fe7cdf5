//! What came of dials that were in vain.

use serde::Serialize;

/// Why a peer was dialled in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// Nobody listens.
    Refused,
    /// Nobody has answered.
    NoAnswer,
    /// There is no way there.
    NoWay,
    /// It hung up in the handshake, or said nothing.
    HungUp,
    /// What it said is not the protocol, or of another torrent.
    Unfit,
    /// It was up, and neither side got anything of it.
    Useless,
    /// Something else.
    Other,
}

/// How many peers were dialled in vain the last time, by what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Misses {
    /// Nobody listens there.
    pub refused: u32,
    /// Nobody has answered.
    pub no_answer: u32,
    /// There is no way there, such as to IPv6 from a machine without it.
    pub no_way: u32,
    /// They hung up in the handshake, or said nothing.
    pub hung_up: u32,
    /// What they said is not the protocol, or of another torrent.
    pub unfit: u32,
    /// They were connected, and neither side had anything for the other.
    pub useless: u32,
    /// Something else.
    pub other: u32,
}

impl Misses {
    /// How many there are.
    pub const fn total(&self) -> u32 {
        let silent = self.refused + self.no_answer + self.no_way;
        silent + self.hung_up + self.unfit + self.useless + self.other
    }

    /// Whether nobody was reached, though there were ways.
    pub const fn are_walls(&self) -> bool {
        let walls = self.refused + self.no_answer;
        walls > 0 && walls + self.no_way == self.total()
    }

    pub(super) const fn count(&mut self, miss: Miss) {
        let number = match miss {
            Miss::Refused => &mut self.refused,
            Miss::NoAnswer => &mut self.no_answer,
            Miss::NoWay => &mut self.no_way,
            Miss::HungUp => &mut self.hung_up,
            Miss::Unfit => &mut self.unfit,
            Miss::Useless => &mut self.useless,
            Miss::Other => &mut self.other,
        };
        *number += 1;
    }
}
