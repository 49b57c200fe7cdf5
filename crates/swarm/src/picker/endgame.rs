//! Asking a second peer for a block that is on its way from a first.
//!
//! BEP 3 sends "requests for everything to everyone" when all blocks are requested. That wastes as much as it
//! gains, so it is bounded here: only an idle peer is asked, for one block at a time, and no block is owed by
//! more than a few.

use std::collections::BTreeMap;

use riverrun_base::PieceIndex;

use super::partial::{Claim, Partial};
use super::{Asker, BlockIndex};

/// How many pieces one search looks through.
const SCAN_MAX: usize = 256;

/// The block, of all that are on their way, that the fewest peers owe and the asker could send.
pub(super) fn second_copy(
    partials: &BTreeMap<PieceIndex, Partial>,
    asker: &Asker<'_>,
) -> Option<BlockIndex> {
    partials
        .iter()
        .filter(|(piece, partial)| {
            partial.asked() > 0 && asker.may_have(**piece) && !is_sole(partial.claim)
        })
        .take(SCAN_MAX)
        .filter_map(|(piece, partial)| {
            let (askers, block) = partial.least_asked(asker.conn, asker.is_best)?;
            Some((
                askers,
                BlockIndex {
                    piece: *piece,
                    block,
                },
            ))
        })
        .min()
        .map(|(_, block)| block)
}

/// Whether only one peer may send the piece.
pub(super) const fn is_sole(claim: Claim) -> bool {
    matches!(claim, Claim::Sole(_) | Claim::SoleUnclaimed)
}
