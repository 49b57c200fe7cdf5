//! Who has what, and who is there, as a run goes on.

use riverrun_base::{Bitfield, PieceIndex};

use crate::recording::{Moment, MomentKind, Recording};

/// The state of all peers between two moments.
#[derive(Clone, Debug)]
pub(crate) struct Holdings {
    have: Vec<Bitfield>,
    present: Vec<bool>,
    /// Present peers that have it, for each piece.
    copies: Vec<u32>,
}

impl Holdings {
    /// Before the first moment. Those who join at 0 are there.
    pub(crate) fn at_start(recording: &Recording) -> Self {
        let mut have = Vec::new();
        let mut copies = vec![0; recording.pieces as usize];
        let present: Vec<bool> = recording.peers.iter().map(|p| p.joined <= 0.0).collect();
        for (card, is_there) in recording.peers.iter().zip(&present) {
            let mut field = Bitfield::new(recording.pieces);
            for piece in card.first_pieces(recording.pieces) {
                if field.set(PieceIndex(piece)) && *is_there {
                    copies[piece as usize] += 1;
                }
            }
            have.push(field);
        }
        Self {
            have,
            present,
            copies,
        }
    }

    /// After one more moment. Gives whether it was news that a peer has a piece.
    pub(crate) fn follow(&mut self, moment: &Moment) -> bool {
        match moment.kind {
            MomentKind::Have { peer, piece } => self.gain(peer as usize, piece),
            MomentKind::Joined { peer } | MomentKind::Restarted { peer } => {
                self.turn(peer as usize, true)
            }
            MomentKind::Left { peer } | MomentKind::Crashed { peer } => {
                self.turn(peer as usize, false)
            }
            _ => false,
        }
    }

    fn gain(&mut self, peer: usize, piece: u32) -> bool {
        let is_news = self
            .have
            .get_mut(peer)
            .is_some_and(|field| field.set(PieceIndex(piece)));
        if is_news && self.present[peer] {
            self.copies[piece as usize] += 1;
        }
        is_news
    }

    fn turn(&mut self, peer: usize, is_there: bool) -> bool {
        let Some(was) = self.present.get_mut(peer) else {
            return false;
        };
        if *was != is_there {
            *was = is_there;
            for piece in self.have[peer].ones() {
                let copies = &mut self.copies[piece.as_usize()];
                *copies = if is_there { *copies + 1 } else { *copies - 1 };
            }
        }
        false
    }

    /// How many pieces a peer has.
    pub(crate) fn count(&self, peer: usize) -> u32 {
        self.have[peer].count_ones()
    }

    /// Whether a peer has a piece.
    pub(crate) fn has(&self, peer: usize, piece: u32) -> bool {
        self.have
            .get(peer)
            .is_some_and(|field| field.has(PieceIndex(piece)))
    }

    pub(crate) fn is_present(&self, peer: usize) -> bool {
        self.present[peer]
    }

    /// Copies among those who are there: of the rarest piece, and of a piece on average.
    pub(crate) fn copies(&self) -> (u32, f64) {
        let rarest = self.copies.iter().copied().min().unwrap_or(0);
        let sum: f64 = self.copies.iter().map(|n| f64::from(*n)).sum();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 pieces")]
        let pieces = self.copies.len().max(1) as f64;
        (rarest, sum / pieces)
    }
}
