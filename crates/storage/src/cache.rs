//! The blocks of pieces that are not on disk yet, of one torrent.

use std::collections::BTreeMap;

use riverrun_base::{Block, BlockSpan, PieceIndex};
use riverrun_metainfo::Layout;

/// Blocks by piece. It counts the bytes that it holds; the budget is the blocks' own.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    pieces: BTreeMap<PieceIndex, Held>,
    /// Bytes of pieces that are not verified, in memory: what could be written early.
    loose_bytes: usize,
}

/// The blocks of a piece as they are at one moment, for whoever hashes and writes it.
pub(crate) type Blocks = Vec<Slot>;

/// The place of one block.
#[derive(Clone, Debug, Default)]
pub(crate) enum Slot {
    #[default]
    Empty,
    Memory(Block),
    /// Written early, to make room.
    Disk,
}

/// Where bytes of a verified piece are.
#[derive(Debug)]
pub(crate) enum Whereabouts {
    Memory(Block),
    Disk,
    /// In memory, but not as one block: to be read once they are written.
    OnTheWay,
}

#[derive(Debug)]
struct Held {
    slots: Blocks,
    stage: Stage,
    loose_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Filling,
    /// Some of its blocks are being written early.
    Spilling,
    /// Being hashed.
    Judged,
    /// Verified, waits to be written.
    Right,
}

impl Held {
    fn set_stage(&mut self, stage: Stage) {
        self.stage = stage;
    }

    const fn is_loose(&self) -> bool {
        matches!(self.stage, Stage::Filling | Stage::Spilling)
    }
}

impl Cache {
    /// Bytes that could be written early to make room.
    pub(crate) const fn loose_bytes(&self) -> usize {
        self.loose_bytes
    }

    /// Holds a block. One that is no block of its piece, or of a piece that is being verified, is let go.
    pub(crate) fn store(&mut self, layout: &Layout, span: BlockSpan, block: Block) {
        let Some(index) = span
            .block()
            .filter(|index| layout.span(span.piece, *index) == Some(span))
        else {
            return;
        };
        if block.len() != span.len as usize {
            return;
        }
        let count = layout.block_count(span.piece) as usize;
        let held = self
            .pieces
            .entry(span.piece)
            .or_insert_with(|| Held::new(count));
        if !held.is_loose() {
            return;
        }
        let slot = &mut held.slots[index as usize];
        if !matches!(slot, Slot::Memory(_)) {
            held.loose_bytes += block.len();
            self.loose_bytes += block.len();
        }
        *slot = Slot::Memory(block);
    }

    /// All that is held of a piece, which changes no more until [`Cache::fail`].
    pub(crate) fn judge(&mut self, layout: &Layout, piece: PieceIndex) -> Blocks {
        let count = layout.block_count(piece) as usize;
        let held = self.pieces.entry(piece).or_insert_with(|| Held::new(count));
        held.set_stage(Stage::Judged);
        self.loose_bytes -= std::mem::take(&mut held.loose_bytes);
        held.slots.clone()
    }

    /// A piece was found right.
    pub(crate) fn pass(&mut self, piece: PieceIndex) {
        if let Some(held) = self.pieces.get_mut(&piece) {
            held.set_stage(Stage::Right);
        }
    }

    /// A piece was found wrong: its blocks may be replaced.
    pub(crate) fn fail(&mut self, piece: PieceIndex) {
        if let Some(held) = self.pieces.get_mut(&piece) {
            held.set_stage(Stage::Filling);
            held.loose_bytes = memory_bytes(&held.slots);
            self.loose_bytes += held.loose_bytes;
        }
    }

    /// Lets go of a piece.
    pub(crate) fn remove(&mut self, piece: PieceIndex) {
        if let Some(held) = self.pieces.remove(&piece) {
            self.loose_bytes -= held.loose_bytes;
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Where the bytes of `span` are, which is of a verified piece.
    pub(crate) fn find(&self, span: BlockSpan) -> Whereabouts {
        let Some(held) = self
            .pieces
            .get(&span.piece)
            .filter(|held| held.stage == Stage::Right)
        else {
            return Whereabouts::Disk;
        };
        let Some(slot) = span
            .block()
            .and_then(|index| held.slots.get(index as usize))
        else {
            return Whereabouts::OnTheWay;
        };
        match slot {
            Slot::Memory(block) if block.len() == span.len as usize => {
                Whereabouts::Memory(block.clone())
            }
            Slot::Memory(_) => Whereabouts::OnTheWay,
            // What is not held of a piece that is right is padding, of which the disk has none either.
            Slot::Disk | Slot::Empty => Whereabouts::Disk,
        }
    }

    /// A block of a piece that is not verified, if it is in memory.
    pub(crate) fn held(&self, span: BlockSpan) -> Option<Block> {
        let held = self.pieces.get(&span.piece)?;
        match held.slots.get(span.block()? as usize)? {
            Slot::Memory(block) if block.len() == span.len as usize => Some(block.clone()),
            _ => None,
        }
    }

    /// The blocks of a verified piece that is not written yet.
    pub(crate) fn verified(&self, piece: PieceIndex) -> Option<Blocks> {
        self.pieces
            .get(&piece)
            .filter(|held| held.stage == Stage::Right)
            .map(|held| held.slots.clone())
    }

    /// The piece that takes the most memory and is not verified, with its blocks, to be written early.
    pub(crate) fn spill(&mut self) -> Option<(PieceIndex, Blocks)> {
        let filling = self
            .pieces
            .iter_mut()
            .filter(|(_, held)| held.stage == Stage::Filling && held.loose_bytes > 0);
        let (piece, held) =
            filling.max_by_key(|(piece, held)| (held.loose_bytes, std::cmp::Reverse(**piece)))?;
        held.set_stage(Stage::Spilling);
        Some((*piece, held.slots.clone()))
    }

    /// These blocks of a piece were written early. Those that were replaced meanwhile stay.
    pub(crate) fn spilled(&mut self, piece: PieceIndex, blocks: &Blocks) {
        let Some(held) = self.pieces.get_mut(&piece) else {
            return;
        };
        if held.stage == Stage::Spilling {
            held.set_stage(Stage::Filling);
        }
        if !held.is_loose() {
            return;
        }
        for (slot, written) in held.slots.iter_mut().zip(blocks) {
            if let (Slot::Memory(now), Slot::Memory(written)) = (&*slot, written)
                && std::ptr::eq(&raw const **now, &raw const **written)
            {
                held.loose_bytes -= written.len();
                self.loose_bytes -= written.len();
                *slot = Slot::Disk;
            }
        }
    }
}

impl Held {
    fn new(count: usize) -> Self {
        Self {
            slots: vec![Slot::Empty; count],
            stage: Stage::Filling,
            loose_bytes: 0,
        }
    }
}

/// Bytes of these blocks that are in memory.
pub(crate) fn memory_bytes(blocks: &Blocks) -> usize {
    let len = |slot: &Slot| {
        if let Slot::Memory(block) = slot {
            block.len()
        } else {
            0
        }
    };
    blocks.iter().map(len).sum()
}
