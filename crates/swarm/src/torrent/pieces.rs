//! Which pieces are there, which are wanted, and the picker that says what to get next.

use std::collections::BTreeSet;

use riverrun_base::{Bitfield, FileIndex, PieceIndex};
use riverrun_metainfo::Layout;

use super::peers::Peers;
use crate::input::Priority;
use crate::picker::{Geometry, Order, Picker};

/// The pieces of a torrent whose storage is open.
#[derive(Debug)]
pub(crate) struct Pieces {
    /// Verified: may be served.
    have: Bitfield,
    /// Would survive a power cut.
    durable: Bitfield,
    /// Wanted, there or not.
    wanted: Bitfield,
    /// How many pieces are wanted and not there.
    left: u32,
    priorities: Box<[Priority]>,
    /// Being hashed.
    verifying: BTreeSet<PieceIndex>,
    /// Only while there are peers: an idle torrent needs none.
    picker: Option<Box<Picker>>,
}

impl Geometry for Layout {
    fn blocks(&self, piece: PieceIndex) -> u32 {
        self.block_count(piece)
    }

    fn is_padding(&self, piece: PieceIndex, block: u32) -> bool {
        self.span(piece, block)
            .is_some_and(|span| Self::is_padding(self, span))
    }
}

/// The priorities of pieces that follow from those of files: a shared piece has that of the file which is
/// wanted most.
pub(crate) fn piece_priorities(layout: &Layout, files: &[Priority]) -> Box<[Priority]> {
    let mut pieces = vec![Priority::Skip; layout.piece_count() as usize];
    for (index, file) in (0..).map(FileIndex).zip(layout.files()) {
        if file.is_pad() {
            continue;
        }
        let priority = files.get(index.as_usize()).copied().unwrap_or_default();
        for piece in layout.pieces_of(index) {
            let slot = &mut pieces[piece as usize];
            *slot = priority.max(*slot);
        }
    }
    // Pieces of padding alone cost nothing, and without them nothing is ever complete.
    for (piece, slot) in (0..).map(PieceIndex).zip(&mut pieces) {
        if *slot == Priority::Skip && Layout::is_padding(layout, layout.piece_span(piece)) {
            *slot = Priority::Low;
        }
    }
    pieces.into()
}

impl Pieces {
    pub(crate) fn new(have: Bitfield, priorities: Box<[Priority]>) -> Self {
        let mut pieces = Self {
            durable: have.clone(),
            wanted: Bitfield::new(have.len()),
            left: 0,
            have,
            priorities: priorities.clone(),
            verifying: BTreeSet::new(),
            picker: None,
        };
        pieces.want(priorities);
        pieces
    }

    pub(crate) const fn have(&self) -> &Bitfield {
        &self.have
    }

    pub(crate) const fn durable(&self) -> &Bitfield {
        &self.durable
    }

    /// Whether a piece is wanted and not there.
    pub(crate) fn needs(&self, piece: PieceIndex) -> bool {
        self.wanted.has(piece) && !self.have.has(piece)
    }

    /// How many pieces are wanted and not there.
    pub(crate) const fn left(&self) -> u32 {
        self.left
    }

    /// How many pieces are wanted.
    pub(crate) const fn wanted_count(&self) -> u32 {
        self.wanted.count_ones()
    }

    /// Whether all that is wanted is there and durable.
    pub(crate) fn is_settled(&self) -> bool {
        self.left == 0 && !self.wanted.has_any_not_in(&self.durable)
    }

    /// The pieces that are wanted, there or not.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.wanted.ones()
    }

    /// The pieces that are wanted and not there.
    pub(crate) fn needed(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.wanted.ones().filter(|piece| !self.have.has(*piece))
    }

    /// How many pieces a peer has that we need.
    pub(crate) fn needed_of(&self, theirs: &Bitfield) -> u32 {
        let (have, wanted) = (self.have.as_bytes(), self.wanted.as_bytes());
        let need = wanted.iter().zip(have).map(|(wanted, have)| wanted & !have);
        need.zip(theirs.as_bytes())
            .map(|(need, theirs)| (need & theirs).count_ones())
            .sum()
    }

    /// Sets what is wanted; gives the begun pieces that are given up.
    pub(crate) fn want(&mut self, priorities: Box<[Priority]>) -> Vec<PieceIndex> {
        self.wanted = Bitfield::new(self.have.len());
        for (piece, priority) in (0..).map(PieceIndex).zip(&priorities) {
            if *priority > Priority::Skip {
                self.wanted.set(piece);
            }
        }
        self.left = u32::try_from(self.needed().count()).unwrap_or(u32::MAX);
        self.priorities.clone_from(&priorities);
        self.picker
            .as_mut()
            .map_or_else(Vec::new, |picker| picker.set_priorities(priorities))
    }

    /// A piece is verified. Whether that is news.
    pub(crate) fn verified(&mut self, piece: PieceIndex) -> bool {
        let needed = self.needs(piece);
        if !self.have.set(piece) {
            return false;
        }
        self.left -= u32::from(needed);
        if let Some(picker) = &mut self.picker {
            picker.verified(piece);
        }
        true
    }

    /// The pieces that wait for the disk, if nothing else does: all that are missing are here and not hashed yet, or none
    /// is missing and some would not survive a power cut. None otherwise.
    pub(crate) fn stuck(&self) -> Vec<PieceIndex> {
        if self.left == 0 {
            let volatile = self.wanted().filter(|piece| !self.durable.has(*piece));
            return volatile.collect();
        }
        let hashing = self.verifying.iter().filter(|piece| self.needs(**piece));
        let hashing: Vec<_> = hashing.copied().collect();
        if hashing.len() == self.left as usize {
            hashing
        } else {
            Vec::new()
        }
    }

    /// A piece is to be hashed. False if it is being hashed already.
    pub(crate) fn begin_verify(&mut self, piece: PieceIndex) -> bool {
        self.verifying.insert(piece)
    }

    /// Whether a piece is being hashed.
    pub(crate) fn is_verifying(&self, piece: PieceIndex) -> bool {
        self.verifying.contains(&piece)
    }

    /// A piece was hashed.
    pub(crate) fn end_verify(&mut self, piece: PieceIndex) {
        self.verifying.remove(&piece);
    }

    pub(crate) fn set_durable(&mut self, piece: PieceIndex) {
        if self.have.has(piece) {
            self.durable.set(piece);
        }
    }

    /// A piece is not, or no longer, there. Whether it was.
    pub(crate) fn lose(&mut self, piece: PieceIndex) -> bool {
        let had = self.have.clear(piece);
        self.durable.clear(piece);
        if had {
            self.left += u32::from(self.wanted.has(piece));
            if let Some(picker) = &mut self.picker {
                picker.forget(piece);
            }
        }
        had
    }

    /// The picker, made anew from what the peers have if there is none.
    pub(crate) fn picker(&mut self, peers: &Peers, order: Order) -> &mut Picker {
        self.picker.get_or_insert_with(|| {
            let mut picker = Picker::new(&self.have, self.priorities.clone());
            picker.set_order(order);
            peers.iter().filter(|peer| peer.has_told).for_each(|peer| {
                picker.add_peer(&peer.have);
                peer.parts.keys().for_each(|piece| picker.add_part(*piece));
            });
            Box::new(picker)
        })
    }

    /// The picker, if there is one.
    pub(crate) fn picker_mut(&mut self) -> Option<&mut Picker> {
        self.picker.as_deref_mut()
    }

    /// The picker, if there is one.
    pub(crate) fn picker_ref(&self) -> Option<&Picker> {
        self.picker.as_deref()
    }

    /// Lets the picker go. Nothing may be under way.
    pub(crate) fn drop_picker(&mut self) {
        self.picker = None;
    }
}
