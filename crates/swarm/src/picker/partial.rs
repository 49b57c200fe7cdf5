//! A piece that was begun: what has become of each of its blocks.

use riverrun_base::{Bitfield, PieceIndex};

use crate::key::ConnKey;

/// How many peers may owe us the same block at once; a bound for the end game and for late deadlines.
const ASKED_MAX: usize = 3;
/// With the one who gives most, which others that are slow do not keep out.
const ASKED_MAX_BEST: usize = ASKED_MAX + 1;

/// What has become of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// Nobody was asked.
    Free,
    /// A peer was asked, or several: the others stand in [`Partial::extra`].
    Asked(ConnKey),
    /// It has come from this connection.
    Got(ConnKey),
    /// It is known without being requested: padding.
    Known,
}

/// Who may work on a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Everyone.
    Open,
    /// This peer, which is fast enough; others rather than idle.
    Preferred(ConnKey),
    /// Only this peer, so that whatever is wrong with the piece is its doing.
    Sole(ConnKey),
    /// Only the next peer that asks.
    SoleUnclaimed,
    /// Whoever has some of its blocks and is passing them on. Who has all of the torrent should give what nobody has yet,
    /// and gives of this rather than be idle.
    Relayed,
    /// Snubbed peers, which should not hold up others' pieces; others rather than idle.
    Slow,
}

/// A piece that was begun.
#[derive(Clone, Debug)]
pub(super) struct Partial {
    slots: Box<[Slot]>,
    /// Who else was asked for a block.
    extra: Vec<(u32, ConnKey)>,
    pub(super) claim: Claim,
    free: u32,
    asked: u32,
    /// No block before this one is free.
    first_free: usize,
}

/// What a block that came was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// Not needed: it is there, or its piece is.
    Unwanted,
    /// Needed.
    Taken {
        /// Who was asked for it too and need not send it.
        cancel: Vec<ConnKey>,
        /// Whether it was the last of its piece.
        complete: bool,
    },
}

impl Partial {
    /// A piece of `blocks` blocks, of which `is_known` need not come.
    pub(super) fn new(blocks: u32, claim: Claim, is_known: impl Fn(u32) -> bool) -> Self {
        let slot = |block| {
            if is_known(block) {
                Slot::Known
            } else {
                Slot::Free
            }
        };
        let slots: Box<[Slot]> = (0..blocks).map(slot).collect();
        let free = slots.iter().filter(|slot| **slot == Slot::Free).count();
        Self {
            slots,
            extra: Vec::new(),
            claim,
            free: u32::try_from(free).unwrap_or(u32::MAX),
            asked: 0,
            first_free: 0,
        }
    }

    pub(super) const fn free(&self) -> u32 {
        self.free
    }

    /// Blocks that somebody was asked for.
    pub(super) const fn asked(&self) -> u32 {
        self.asked
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.free == 0 && self.asked == 0
    }

    /// Whether no block has come and nobody owes one.
    pub(super) fn is_untouched(&self) -> bool {
        self.asked == 0 && !self.slots.iter().any(|slot| matches!(slot, Slot::Got(_)))
    }

    /// Takes up to `count` free blocks for `conn`, if not all then of those that it has.
    pub(super) fn take(
        &mut self,
        conn: ConnKey,
        only: Option<&Bitfield>,
        count: usize,
        out: &mut Vec<u32>,
    ) {
        let before = out.len();
        if let Some(only) = only {
            out.extend(self.free_of(only).take(count));
        } else {
            let slots = (0..).zip(&self.slots).skip(self.first_free);
            let free = slots.filter(|(_, slot)| **slot == Slot::Free);
            out.extend(free.map(|(block, _)| block).take(count));
            if let Some(last) = out[before..].last() {
                self.first_free = *last as usize + 1;
            }
        }
        for block in &out[before..] {
            self.slots[*block as usize] = Slot::Asked(conn);
            self.free -= 1;
            self.asked += 1;
        }
    }

    /// The free blocks among these.
    pub(super) fn free_of<'a>(&'a self, blocks: &'a Bitfield) -> impl Iterator<Item = u32> + 'a {
        let blocks = blocks.ones().map(|PieceIndex(block)| block);
        blocks.filter(|block| self.slots.get(*block as usize) == Some(&Slot::Free))
    }

    /// Whether one of these blocks has not come.
    pub(super) fn lacks_of(&self, blocks: &Bitfield) -> bool {
        let mut slots = blocks
            .ones()
            .filter_map(|block| self.slots.get(block.as_usize()));
        slots.any(|slot| matches!(slot, Slot::Free | Slot::Asked(_)))
    }

    /// Who was asked for a block.
    fn askers(&self, block: u32) -> impl Iterator<Item = ConnKey> + '_ {
        let first = match self.slots.get(block as usize) {
            Some(Slot::Asked(conn)) => Some(*conn),
            _ => None,
        };
        let extra = self.extra.iter().filter(move |(of, _)| *of == block);
        first.into_iter().chain(extra.map(|(_, conn)| *conn))
    }

    /// The block that the fewest peers were asked for, `conn` not among them. `is_best` says that it gives most.
    pub(super) fn least_asked(&self, conn: ConnKey, is_best: bool) -> Option<(usize, u32)> {
        let max = if is_best { ASKED_MAX_BEST } else { ASKED_MAX };
        let blocks = 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let asked = blocks.filter(|block| matches!(self.slots[*block as usize], Slot::Asked(_)));
        asked
            .filter(|block| self.askers(*block).all(|other| other != conn))
            .map(|block| (self.askers(block).count(), block))
            .filter(|(askers, _)| *askers < max)
            .min()
    }

    /// Asks one more peer for a block that is on its way.
    pub(super) fn ask_too(&mut self, block: u32, conn: ConnKey) {
        self.extra.push((block, conn));
    }

    /// A peer will not send a block. Whether that set it free.
    pub(super) fn release(&mut self, block: u32, conn: ConnKey) -> bool {
        if let Some(at) = self.extra.iter().position(|ask| *ask == (block, conn)) {
            self.extra.swap_remove(at);
            return false;
        }
        let Some(slot) = self.slots.get_mut(block as usize) else {
            return false;
        };
        if *slot != Slot::Asked(conn) {
            return false;
        }
        if let Some(at) = self.extra.iter().position(|(of, _)| *of == block) {
            *slot = Slot::Asked(self.extra.swap_remove(at).1);
            return false;
        }
        *slot = Slot::Free;
        self.asked -= 1;
        self.set_free(block);
        true
    }

    fn set_free(&mut self, block: u32) {
        self.free += 1;
        self.first_free = self.first_free.min(block as usize);
    }

    /// A block has come.
    pub(super) fn receive(&mut self, block: u32, conn: ConnKey) -> Receipt {
        let Some(slot) = self.slots.get(block as usize).copied() else {
            return Receipt::Unwanted;
        };
        match slot {
            Slot::Got(_) | Slot::Known => return Receipt::Unwanted,
            Slot::Free => self.free -= 1,
            Slot::Asked(_) => self.asked -= 1,
        }
        let cancel = self.askers(block).filter(|other| *other != conn).collect();
        self.extra.retain(|(of, _)| *of != block);
        self.slots[block as usize] = Slot::Got(conn);
        Receipt::Taken {
            cancel,
            complete: self.is_complete(),
        }
    }

    /// Who sent each block that came.
    pub(super) fn senders(&self) -> impl Iterator<Item = (u32, ConnKey)> + '_ {
        (0_u32..)
            .zip(&self.slots)
            .filter_map(|(block, slot)| match slot {
                Slot::Got(conn) => Some((block, *conn)),
                _ => None,
            })
    }

    /// Wants a block again that has come.
    pub(super) fn reject(&mut self, block: u32) {
        if let Some(slot @ Slot::Got(_)) = self.slots.get_mut(block as usize) {
            *slot = Slot::Free;
            self.set_free(block);
        }
    }

    /// Wants all blocks again. Nobody may owe one.
    pub(super) fn restart(&mut self, claim: Claim) {
        for block in 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX) {
            self.reject(block);
        }
        self.claim = claim;
    }

    /// Panics if the counts are wrong.
    pub(super) fn check_invariants(&self) {
        let count = |test: fn(&Slot) -> bool| self.slots.iter().filter(|s| test(s)).count();
        assert_eq!(count(|slot| *slot == Slot::Free), self.free as usize);
        assert_eq!(
            count(|slot| matches!(slot, Slot::Asked(_))),
            self.asked as usize
        );
        assert!(!self.slots[..self.first_free].contains(&Slot::Free));
        for (block, _) in &self.extra {
            assert!(matches!(self.slots[*block as usize], Slot::Asked(_)));
            assert!(self.askers(*block).count() <= ASKED_MAX_BEST);
        }
    }

    /// How many peers owe this block.
    pub(super) fn asked_of(&self, block: u32) -> usize {
        self.askers(block).count()
    }
}
