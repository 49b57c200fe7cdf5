//! What the peer says it has.
//!
//! Its bitfield comes first or not at all, by the letter (BEP 3). aria2 sends another in place of many `have`
//! messages; what is new in it counts as if it had come one by one, and nothing is lost by it. Without metadata the number of pieces is not known: what the peer
//! says is kept as it came, up to a bound, and checked once the metadata is there.

use riverrun_base::{Bitfield, PieceIndex};

use crate::error::PeerMisbehaved;
use crate::event::PeerEvent;

/// The longest bitfield while the number of pieces is not known: 2^21 pieces, the most that are accepted in
/// a torrent.
const BITFIELD_LEN_MAX: u32 = (1 << 21) / 8;
/// How many changes are kept while the number of pieces is not known. Fetching metadata takes seconds, in
/// which a peer completes a few pieces; what is beyond is lost, as if the peer had not said it.
const CHANGES_MAX: usize = 4096;

/// The first word of a peer on its pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    All,
    None,
    /// The payload of its bitfield.
    Some(Box<[u8]>),
}

/// What a peer says later of one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Has,
    Lost,
    AllowedFast,
    Suggested,
}

/// The state of that conversation.
#[derive(Debug)]
pub(crate) enum TheirPieces {
    /// The metadata is not there.
    Unsized {
        claim: Option<Claim>,
        changes: Vec<(Change, PieceIndex)>,
    },
    /// It is.
    Sized {
        count: u32,
        /// What it has, once the first word has been said.
        have: Option<Bitfield>,
    },
}

impl TheirPieces {
    /// For a torrent of `count` pieces, if that is known.
    pub(crate) const fn new(count: Option<u32>) -> Self {
        match count {
            Some(count) => Self::Sized { count, have: None },
            None => Self::Unsized {
                claim: None,
                changes: Vec::new(),
            },
        }
    }

    /// The longest payload that a bitfield may have, in bytes.
    pub(crate) fn bitfield_len_max(&self) -> u32 {
        match self {
            Self::Sized { count, .. } => count.div_ceil(8),
            Self::Unsized { .. } => BITFIELD_LEN_MAX,
        }
    }

    /// Whether the peer has said its first word.
    pub(crate) const fn is_claimed(&self) -> bool {
        match self {
            Self::Sized { have, .. } => have.is_some(),
            Self::Unsized { claim, .. } => claim.is_some(),
        }
    }

    /// Whether the peer has said that it has a piece.
    pub(crate) fn has(&self, piece: PieceIndex) -> bool {
        match self {
            Self::Sized { have, .. } => have.as_ref().is_some_and(|have| have.has(piece)),
            Self::Unsized { .. } => false,
        }
    }

    /// The peer says all that it has. The first word is reported whole, later ones by what is new.
    pub(crate) fn claim(&mut self, claim: Claim) -> Result<Vec<PeerEvent>, PeerMisbehaved> {
        match self {
            Self::Sized { count, have } => {
                let claimed = bitfield(claim, *count)?;
                let Some(have) = have else {
                    *have = Some(claimed.clone());
                    return Ok(vec![PeerEvent::HasPieces(claimed)]);
                };
                let new = claimed.ones().filter(|piece| have.set(*piece));
                Ok(new.map(PeerEvent::Has).collect())
            }
            Self::Unsized { claim: kept, .. } => {
                *kept = Some(claim);
                Ok(Vec::new())
            }
        }
    }

    /// The peer says something of a piece. What it has said before is no event.
    pub(crate) fn change(
        &mut self,
        change: Change,
        piece: PieceIndex,
    ) -> Result<Option<PeerEvent>, PeerMisbehaved> {
        match self {
            Self::Sized { count, have } => {
                let event = event(change, piece, *count)?;
                let is_news = have.as_mut().is_none_or(|have| match change {
                    Change::Has => have.set(piece),
                    Change::Lost => have.clear(piece),
                    Change::AllowedFast | Change::Suggested => true,
                });
                Ok(is_news.then_some(event))
            }
            Self::Unsized { changes, .. } => {
                if changes.len() < CHANGES_MAX {
                    changes.push((change, piece));
                }
                Ok(None)
            }
        }
    }

    /// The metadata is there: what was kept is checked and reported.
    pub(crate) fn resize(&mut self, count: u32) -> Result<Vec<PeerEvent>, PeerMisbehaved> {
        let Self::Unsized { claim, changes } = self else {
            return Ok(Vec::new());
        };
        let (claim, changes) = (claim.take(), std::mem::take(changes));
        *self = Self::Sized { count, have: None };
        let mut events = match claim {
            Some(claim) => self.claim(claim)?,
            None => Vec::new(),
        };
        for (change, piece) in changes {
            events.extend(self.change(change, piece)?);
        }
        Ok(events)
    }
}

fn bitfield(claim: Claim, count: u32) -> Result<Bitfield, PeerMisbehaved> {
    match claim {
        Claim::All => Ok(Bitfield::full(count)),
        Claim::None => Ok(Bitfield::new(count)),
        Claim::Some(bytes) => Ok(Bitfield::from_bytes(&bytes, count)?),
    }
}

fn event(change: Change, piece: PieceIndex, count: u32) -> Result<PeerEvent, PeerMisbehaved> {
    if piece.0 >= count {
        let index = piece.0;
        return Err(PeerMisbehaved::PieceOutOfRange { index, count });
    }
    Ok(match change {
        Change::Has => PeerEvent::Has(piece),
        Change::Lost => PeerEvent::LostPiece(piece),
        Change::AllowedFast => PeerEvent::AllowedFast(piece),
        Change::Suggested => PeerEvent::Suggested(piece),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: PieceIndex = PieceIndex(9);

    fn shown(events: &[PeerEvent]) -> String {
        format!("{events:?}")
    }

    #[test]
    fn what_came_before_the_metadata_is_reported_after_it() {
        let mut pieces = TheirPieces::new(None);
        let events = pieces.claim(Claim::Some([0x80, 0].into())).unwrap();
        assert!(events.is_empty());
        for change in [Change::Has, Change::Lost, Change::AllowedFast] {
            assert!(pieces.change(change, PIECE).unwrap().is_none());
        }
        let events = pieces.resize(10).unwrap();
        assert_eq!(
            shown(&events),
            "[HasPieces(Bitfield(1/10)), Has(PieceIndex(9)), LostPiece(PieceIndex(9)), \
             AllowedFast(PieceIndex(9))]"
        );
        assert!(pieces.is_claimed());
        assert!(pieces.resize(10).unwrap().is_empty());
    }

    #[test]
    fn a_further_bitfield_adds_what_is_new() {
        let mut pieces = TheirPieces::new(Some(10));
        pieces.claim(Claim::None).unwrap();
        assert!(pieces.change(Change::Has, PIECE).unwrap().is_some());
        assert!(pieces.change(Change::Has, PIECE).unwrap().is_none());
        let events = pieces.claim(Claim::Some([0x80, 0x40].into())).unwrap();
        assert_eq!(shown(&events), "[Has(PieceIndex(0))]");
        assert!(pieces.claim(Claim::None).unwrap().is_empty());
        assert!(pieces.change(Change::Lost, PIECE).unwrap().is_some());
    }

    #[test]
    fn what_does_not_fit_the_metadata_is_found_then() {
        let mut pieces = TheirPieces::new(None);
        pieces.claim(Claim::Some([0x80, 0x40].into())).unwrap();
        assert!(matches!(pieces.resize(9), Err(PeerMisbehaved::Bitfield(_))));
        let mut pieces = TheirPieces::new(None);
        pieces.claim(Claim::All).unwrap();
        pieces.change(Change::Has, PIECE).unwrap();
        let error = PeerMisbehaved::PieceOutOfRange { index: 9, count: 9 };
        assert_eq!(pieces.resize(9).unwrap_err(), error);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut pieces = TheirPieces::new(None);
        for index in 0..10_000 {
            pieces.change(Change::Has, PieceIndex(index)).unwrap();
        }
        assert_eq!(pieces.resize(10_000).unwrap().len(), CHANGES_MAX);
    }
}
