//! Which blocks to request from whom.
//!
//! Works on plain data: pieces, blocks, bitfields. Rarest first among the pieces that somebody has, random ties;
//! pieces that were begun before new ones; files' priorities before all that, readers' deadlines before those.
//! Nothing here looks at all pieces for one request.

mod deadline;
mod endgame;
mod partial;
mod rarity;
mod set;

use std::collections::{BTreeMap, BTreeSet};

use riverrun_base::{Bitfield, PieceIndex, Rng, Time};

use self::deadline::Deadlines;
use self::partial::{Claim, Partial};
use self::rarity::{CLASSES, Rarity};
use crate::config::Picking;
use crate::input::Priority;
use crate::key::ConnKey;
use crate::reason::PickReason;

pub(crate) use self::partial::Receipt;
pub(crate) use self::set::PieceSet;

/// How many open pieces one choice compares.
const OPEN_SCAN_MAX: usize = 256;

/// A block by its number in its piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BlockIndex {
    pub(crate) piece: PieceIndex,
    pub(crate) block: u32,
}

/// How pieces are made of blocks.
pub(crate) trait Geometry {
    /// How many blocks a piece has.
    fn blocks(&self, piece: PieceIndex) -> u32;
    /// Whether a block is padding (BEP 47): known, and never requested.
    fn is_padding(&self, piece: PieceIndex, block: u32) -> bool;
}

/// How a peer is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It sends a piece so soon that no other needs to help.
    Whole,
    /// It sends what lies together: pieces one behind the other, each by itself.
    Runs,
    /// Pieces are shared with other peers.
    Shared,
    /// It owes blocks for too long: it gets pieces that nobody waits for.
    Snubbed,
    /// It may have sent wrong data: it gets pieces alone, until one of them tells.
    Parole,
}

/// In which order pieces are begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// By what the other peers have.
    Free(Picking),
    /// As they lie in the torrent.
    Sequential,
}

impl Order {
    pub(crate) const fn new(picking: Picking, sequential: bool) -> Self {
        if sequential {
            Self::Sequential
        } else {
            Self::Free(picking)
        }
    }
}

/// A peer that could be asked for blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) conn: ConnKey,
    pub(crate) have: &'a Bitfield,
    /// The blocks that it has of pieces that it has not whole.
    pub(crate) parts: &'a BTreeMap<PieceIndex, Bitfield>,
    /// While it chokes us: the pieces that it gives nevertheless (BEP 6).
    pub(crate) only: Option<&'a BTreeSet<PieceIndex>>,
    pub(crate) suggested: &'a [PieceIndex],
    /// The piece of which it was asked for blocks the last time.
    pub(crate) current: Option<PieceIndex>,
    pub(crate) pace: Pace,
    /// Until so many pieces are verified, the next is a random one.
    pub(crate) random_first: u32,
    /// Whether it owes nothing now.
    pub(crate) is_idle: bool,
    /// Whether it has given more than any other.
    pub(crate) is_best: bool,
    /// Deadlines before this are late: what others owe of such pieces is asked for again.
    pub(crate) late: Time,
    /// Whether it must not take pieces that wait for a peer which had no part in their failure.
    pub(crate) is_suspect: bool,
}

impl Asker<'_> {
    fn may_have(&self, piece: PieceIndex) -> bool {
        self.have.has(piece) && self.only.is_none_or(|only| only.contains(&piece))
    }

    /// The blocks that it passes on of a piece that it has not whole.
    fn part_of(&self, piece: PieceIndex) -> Option<&Bitfield> {
        let is_plain = matches!(self.pace, Pace::Whole | Pace::Shared);
        let may = self.only.is_none() && is_plain && !self.have.has(piece);
        may.then(|| self.parts.get(&piece)).flatten()
    }
}

/// Which blocks are requested, and which pieces come next.
#[derive(Clone, Debug)]
pub(crate) struct Picker {
    rarity: Rarity,
    /// By piece; a piece that is there, or is being verified, keeps its own.
    priorities: Box<[Priority]>,
    /// Pieces that are verified.
    done: PieceSet,
    verified: u32,
    partials: BTreeMap<PieceIndex, Partial>,
    /// Those of `partials` that have free blocks.
    open: BTreeSet<PieceIndex>,
    deadlines: Deadlines,
    order: Order,
    /// Rises whenever blocks may have come free: who found nothing before may look again.
    epoch: u64,
    in_endgame: bool,
    /// In the end game blocks may be asked for twice.
    copying: bool,
    /// Pieces are passed on block by block.
    relaying: bool,
    /// How many connected peers have told what they have.
    peers: u32,
    /// Why pieces were chosen, if somebody wants to know.
    reasons: Option<Vec<(PieceIndex, PickReason)>>,
}

impl Picker {
    /// For a torrent with `have` verified; all other pieces may be begun by their priority.
    pub(crate) fn new(have: &Bitfield, priorities: Box<[Priority]>) -> Self {
        let mut picker = Self {
            rarity: Rarity::new(have.len()),
            priorities,
            done: PieceSet::new(have.len()),
            verified: have.count_ones(),
            partials: BTreeMap::new(),
            open: BTreeSet::new(),
            deadlines: Deadlines::default(),
            order: Order::Free(Picking::RarestFirst),
            epoch: 0,
            in_endgame: false,
            copying: true,
            relaying: false,
            peers: 0,
            reasons: None,
        };
        have.ones().for_each(|piece| picker.done.insert(piece));
        for piece in have.zeros() {
            picker
                .rarity
                .set_startable(piece, picker.priorities[piece.as_usize()]);
        }
        picker
    }

    /// How many connected peers have each piece.
    pub(crate) const fn rarity(&self) -> &Rarity {
        &self.rarity
    }

    /// Rises whenever blocks may have come free.
    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn add_peer(&mut self, have: &Bitfield) {
        self.peers += 1;
        self.rarity.add_peer(have);
    }

    pub(crate) fn remove_peer(&mut self, have: &Bitfield) {
        self.peers -= 1;
        self.rarity.remove_peer(have);
    }

    /// A peer has gone that had these pieces, and blocks of those.
    pub(crate) fn forget_peer<'a>(
        &mut self,
        have: &Bitfield,
        parts: impl Iterator<Item = &'a PieceIndex>,
    ) {
        self.remove_peer(have);
        parts.for_each(|piece| self.remove_part(*piece));
    }

    /// A peer has got a piece; `have` is what it has with it.
    pub(crate) fn add_piece(&mut self, piece: PieceIndex, have: &Bitfield) {
        self.rarity.add_piece(piece, have);
    }

    /// A peer has lost a piece; `have` is what it has without it.
    pub(crate) fn remove_piece(&mut self, piece: PieceIndex, have: &Bitfield) {
        self.rarity.remove_piece(piece, have);
    }

    /// A peer has some blocks of a piece.
    pub(crate) fn add_part(&mut self, piece: PieceIndex) {
        self.rarity.add_part(piece);
    }

    /// A peer has no blocks of a piece any more, or all of them, or it has gone.
    pub(crate) fn remove_part(&mut self, piece: PieceIndex) {
        self.rarity.remove_part(piece);
    }

    /// Whether one of these blocks of a piece has not come.
    pub(crate) fn lacks_of(&self, piece: PieceIndex, blocks: &Bitfield) -> bool {
        match self.partials.get(&piece) {
            Some(partial) => partial.lacks_of(blocks),
            None => !self.done.has(piece),
        }
    }

    pub(crate) const fn set_order(&mut self, order: Order) {
        self.order = order;
    }

    fn is_rarest_first(&self) -> bool {
        self.order == Order::Free(Picking::RarestFirst)
    }

    /// Wants a piece until a time, before all others.
    pub(crate) fn set_deadline(&mut self, piece: PieceIndex, at: Time) {
        if !self.done.has(piece) && piece.as_usize() < self.priorities.len() {
            self.deadlines.set(piece, at);
            self.epoch += 1;
        }
    }

    pub(crate) fn clear_deadlines(&mut self) {
        self.deadlines.clear();
    }

    /// Changes the pieces' priorities. What was begun and is not wanted any more is given up; its pieces are
    /// returned, and whoever owes blocks of them need not send them.
    pub(crate) fn set_priorities(&mut self, priorities: Box<[Priority]>) -> Vec<PieceIndex> {
        self.priorities = priorities;
        let skipped = |piece: &PieceIndex| self.priorities[piece.as_usize()] == Priority::Skip;
        let given_up: Vec<_> = self
            .partials
            .iter()
            .filter(|(piece, partial)| skipped(piece) && !partial.is_complete())
            .map(|(piece, _)| *piece)
            .collect();
        for piece in &given_up {
            self.partials.remove(piece);
            self.open.remove(piece);
        }
        for piece in (0..u32::try_from(self.priorities.len()).unwrap_or(u32::MAX)).map(PieceIndex) {
            if !self.done.has(piece) && !self.partials.contains_key(&piece) {
                self.rarity
                    .set_startable(piece, self.priorities[piece.as_usize()]);
            }
        }
        self.epoch += 1;
        given_up
    }

    /// Up to `count` blocks to request from a peer, in this order.
    pub(crate) fn pick(
        &mut self,
        asker: &Asker<'_>,
        count: usize,
        geometry: &impl Geometry,
        rng: &mut Rng,
    ) -> Vec<BlockIndex> {
        let (mut picked, mut asker) = (Vec::new(), *asker);
        // A piece of padding alone gives no block, and is no longer startable then.
        while picked.len() < count
            && let Some((piece, why)) = self.next_piece(&asker, rng)
        {
            self.explain(piece, why);
            self.take(piece, &asker, count - picked.len(), geometry, &mut picked);
            asker.current = Some(piece);
        }
        if picked.is_empty() && count > 0 {
            picked.extend(self.second_copy(&asker));
        }
        self.note_endgame();
        picked
    }

    /// The piece of which the peer is to send the next free blocks, and why that one.
    fn next_piece(&self, asker: &Asker<'_>, rng: &mut Rng) -> Option<(PieceIndex, PickReason)> {
        if let Some(piece) = self.urgent(asker) {
            return Some((piece, PickReason::Deadline));
        }
        if let Some(only) = asker.only {
            let mut only = only.iter().copied();
            let allowed = only.find(|piece| {
                asker.have.has(*piece)
                    && (self.rarity.is_startable(*piece)
                        || self.joinable(*piece, asker, Join::Idle))
            });
            return allowed.map(|piece| (piece, PickReason::AllowedFast));
        }
        if let Some(piece) = self.same_as_before(asker) {
            return Some((piece, PickReason::GoesOn));
        }
        if asker.pace == Pace::Runs
            && let Some(next) = self.next_in_run(asker, rng)
        {
            return Some(next);
        }
        let begun = self.best_open(asker, Join::Meant);
        let class = begun.map_or(CLASSES.len(), |(class, _)| class);
        let new_before = (0..class).find_map(|class| self.new_or_part(class, asker, rng));
        if let Some(piece) = new_before {
            return Some((piece, self.reason_to_begin(piece, asker)));
        }
        let begun = begun.map(|(_, piece)| piece);
        if let Some(piece) = self.rarer_than(begun, class, asker, rng) {
            return Some((piece, self.reason_to_begin(piece, asker)));
        }
        if let Some(piece) = self.sole_piece(class, asker, begun, rng) {
            return Some((piece, PickReason::OnlyHere));
        }
        begun
            .or_else(|| self.best_open(asker, Join::Idle).map(|(_, piece)| piece))
            .map(|piece| (piece, PickReason::Begun))
    }

    /// A piece to begin for who sends pieces one behind the other: the one behind the last, or the first of a long gap.
    fn next_in_run(&self, asker: &Asker<'_>, rng: &mut Rng) -> Option<(PieceIndex, PickReason)> {
        let mut classes = 0..CLASSES.len();
        let class = classes.find(|class| self.rarity.lowest(*class, asker.have).is_some())?;
        if self.order == Order::Sequential {
            let lowest = self.rarity.lowest(class, asker.have)?;
            return Some((lowest, PickReason::InOrder));
        }
        let behind = asker.current.map(|last| PieceIndex(last.0 + 1));
        let behind = behind.filter(|piece| {
            asker.have.has(*piece)
                && self.rarity.is_startable(*piece)
                && self.class_of(*piece) == class
        });
        if let Some(piece) = behind {
            return Some((piece, PickReason::Behind));
        }
        let gap = self.rarity.longest_gap(class, asker.have, asker.current)?;
        // Behind what is there, a gap is filled from its beginning (BEP 19). Where somebody else may be about to go on, or
        // everybody would begin, it is begun somewhere else.
        let is_behind_ours = gap.start > 0 && self.done.has(PieceIndex(gap.start - 1));
        let ahead = if is_behind_ours {
            0
        } else {
            rng.below((gap.len() / 2).max(1))
        };
        let piece = PieceIndex(gap.start + u32::try_from(ahead).unwrap_or(0));
        Some((
            piece,
            PickReason::Gap {
                pieces: gap.end - piece.0,
            },
        ))
    }

    /// A piece to begin although others are begun, since it is rarer: what is passed on block by block need not be whole
    /// to be of use.
    fn rarer_than(
        &self,
        begun: Option<PieceIndex>,
        class: usize,
        asker: &Asker<'_>,
        rng: &mut Rng,
    ) -> Option<PieceIndex> {
        let may = self.relaying && class < CLASSES.len() && self.open.len() < OPEN_SCAN_MAX;
        if !may || !self.is_rarest_first() {
            return None;
        }
        let copies = |piece| self.rarity.copies(piece);
        let least = begun.map_or(u32::MAX, copies);
        let new = self.new_or_part(class, asker, rng);
        new.filter(|piece| copies(*piece) < least)
    }

    /// Why [`Self::new_piece`] has given a piece.
    fn reason_to_begin(&self, piece: PieceIndex, asker: &Asker<'_>) -> PickReason {
        match (self.order, asker.pace) {
            (Order::Sequential, _) => PickReason::InOrder,
            (Order::Free(Picking::Random), _) => PickReason::Random,
            (_, Pace::Snubbed) => PickReason::Commonest,
            _ if self.verified < asker.random_first => PickReason::RandomFirst,
            _ => PickReason::Rarest {
                have: self.rarity.copies(piece),
                of: self.peers,
                suggested: asker.suggested.contains(&piece),
            },
        }
    }

    /// Whether blocks may be asked for twice in the end game, as a copy of what waits before our own line comes no sooner;
    /// and whether pieces are passed on block by block, and so of use before they are whole.
    pub(crate) const fn set_manner(&mut self, copying: bool, relaying: bool) {
        self.relaying = relaying;
        if copying && !self.copying {
            self.epoch += 1;
        }
        self.copying = copying;
    }

    /// Remembers from now on why pieces are chosen, or no longer.
    pub(crate) fn set_explaining(&mut self, explaining: bool) {
        match (explaining, &self.reasons) {
            (true, None) => self.reasons = Some(Vec::new()),
            (false, Some(_)) => self.reasons = None,
            _ => {}
        }
    }

    /// Why pieces were chosen since it was asked last; nothing unless it is to remember that.
    pub(crate) fn take_reasons(&mut self) -> Vec<(PieceIndex, PickReason)> {
        self.reasons
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn explain(&mut self, piece: PieceIndex, why: PickReason) {
        if let Some(reasons) = &mut self.reasons {
            reasons.push((piece, why));
        }
    }

    /// The piece of which this peer was asked for blocks the last time, if it has more: going on with it needs no
    /// search.
    fn same_as_before(&self, asker: &Asker<'_>) -> Option<PieceIndex> {
        let piece = asker.current?;
        let meant = self.joinable(piece, asker, Join::Meant);
        (meant && self.order != Order::Sequential).then_some(piece)
    }

    /// The piece with the earliest deadline that has free blocks.
    fn urgent(&self, asker: &Asker<'_>) -> Option<PieceIndex> {
        if self.deadlines.is_empty() || matches!(asker.pace, Pace::Snubbed | Pace::Parole) {
            return None;
        }
        let free = |piece: &PieceIndex| {
            self.rarity.is_startable(*piece) || self.joinable(*piece, asker, Join::Idle)
        };
        let mut urgent = self.deadlines.urgent().map(|(_, piece)| piece);
        urgent.find(|piece| asker.may_have(*piece) && free(piece))
    }

    /// A piece to begin although others are begun: a peer that alone has pieces should not send what others could.
    fn sole_piece(
        &self,
        class: usize,
        asker: &Asker<'_>,
        begun: Option<PieceIndex>,
        rng: &mut Rng,
    ) -> Option<PieceIndex> {
        let others_have = begun.is_some_and(|piece| self.rarity.copies(piece) > 1);
        let may = self.is_rarest_first() && asker.pace != Pace::Snubbed;
        if !may || !others_have || class >= CLASSES.len() {
            return None;
        }
        self.rarity
            .only_here(class, asker.have, asker.suggested, rng)
    }

    /// A piece to begin, whole or with the blocks that the peer has of it, if fewer have anything of that.
    fn new_or_part(&self, class: usize, asker: &Asker<'_>, rng: &mut Rng) -> Option<PieceIndex> {
        let whole = self.new_piece(class, asker, rng);
        if self.order == Order::Sequential || asker.parts.is_empty() {
            return whole;
        }
        let parts = asker.parts.keys().copied();
        let parts = parts.filter(|piece| asker.part_of(*piece).is_some());
        let part = self.rarity.rarest_of(class, parts);
        let copies = |piece: &PieceIndex| self.rarity.copies(*piece);
        [whole, part].into_iter().flatten().min_by_key(copies)
    }

    fn new_piece(&self, class: usize, asker: &Asker<'_>, rng: &mut Rng) -> Option<PieceIndex> {
        let (have, wished) = (asker.have, asker.suggested);
        match asker.pace {
            _ if self.order == Order::Sequential => self.rarity.lowest(class, have),
            _ if self.order == Order::Free(Picking::Random) => {
                self.rarity.random(class, have, &[], rng)
            }
            Pace::Snubbed => self.rarity.commonest(class, have, rng),
            _ if self.verified < asker.random_first => self.rarity.random(class, have, wished, rng),
            _ => self.rarity.rarest(class, have, wished, rng),
        }
    }

    /// The best of the pieces that were begun and have free blocks, and its class: the first if the order is sequential, else
    /// one that is the peer's own, else the rarest, else the one that lacks least.
    fn best_open(&self, asker: &Asker<'_>, join: Join) -> Option<(usize, PieceIndex)> {
        let open = self.open.iter().copied().take(OPEN_SCAN_MAX);
        let fit = open.filter(|piece| self.joinable(*piece, asker, join));
        let best = fit.min_by_key(|piece| {
            let partial = &self.partials[piece];
            let is_own =
                matches!(partial.claim, Claim::Preferred(by) | Claim::Sole(by) if by == asker.conn);
            let copies = self.rarity.copies(*piece);
            let rank = match self.order {
                Order::Free(Picking::RarestFirst) => (!is_own, copies, partial.free()),
                Order::Free(Picking::Random) => (!is_own, 0, partial.free()),
                // The pieces come in order as they are.
                Order::Sequential => (false, 0, 0),
            };
            (self.class_of(*piece), rank)
        })?;
        Some((self.class_of(best), best))
    }

    fn class_of(&self, piece: PieceIndex) -> usize {
        let priority = self.priorities[piece.as_usize()];
        CLASSES
            .iter()
            .position(|class| *class == priority)
            .unwrap_or(CLASSES.len())
    }

    fn joinable(&self, piece: PieceIndex, asker: &Asker<'_>, join: Join) -> bool {
        let Some(partial) = self
            .partials
            .get(&piece)
            .filter(|partial| partial.free() > 0)
        else {
            return false;
        };
        if !asker.may_have(piece) {
            let part = asker.part_of(piece);
            let gives = part.is_some_and(|part| partial.free_of(part).next().is_some());
            if !gives || matches!(partial.claim, Claim::Sole(_) | Claim::SoleUnclaimed) {
                return false;
            }
        }
        match partial.claim {
            Claim::Sole(conn) => conn == asker.conn,
            Claim::SoleUnclaimed if asker.is_suspect => false,
            Claim::SoleUnclaimed => asker.pace != Pace::Snubbed || join == Join::Idle,
            Claim::Preferred(conn) if conn == asker.conn => true,
            // A suspect must not mix its blocks with those of others, whatever is left to do.
            _ if asker.pace == Pace::Parole => false,
            Claim::Preferred(_) => join == Join::Idle,
            Claim::Slow => asker.pace == Pace::Snubbed || join == Join::Idle,
            Claim::Open => asker.pace != Pace::Snubbed || join == Join::Idle,
            Claim::Relayed => {
                let is_meant = asker.pace != Pace::Snubbed && !asker.have.all();
                is_meant || join == Join::Idle
            }
        }
    }

    /// Takes free blocks of a piece, beginning it if need be.
    fn take(
        &mut self,
        piece: PieceIndex,
        asker: &Asker<'_>,
        count: usize,
        geometry: &impl Geometry,
        picked: &mut Vec<BlockIndex>,
    ) {
        let part = asker.part_of(piece);
        let claim = match asker.pace {
            _ if part.is_some() => Claim::Relayed,
            Pace::Whole | Pace::Runs => Claim::Preferred(asker.conn),
            Pace::Shared => Claim::Open,
            Pace::Snubbed => Claim::Slow,
            Pace::Parole => Claim::Sole(asker.conn),
        };
        let partial = self.begin(piece, claim, geometry);
        if partial.claim == Claim::SoleUnclaimed {
            partial.claim = Claim::Sole(asker.conn);
        }
        let mut blocks = Vec::new();
        partial.take(asker.conn, part, count, &mut blocks);
        if partial.free() == 0 {
            self.open.remove(&piece);
        }
        picked.extend(blocks.into_iter().map(|block| BlockIndex { piece, block }));
    }

    /// The piece as one that was begun; the claim is that of a piece begun now.
    fn begin(&mut self, piece: PieceIndex, claim: Claim, geometry: &impl Geometry) -> &mut Partial {
        self.partials.entry(piece).or_insert_with(|| {
            self.rarity.set_startable(piece, Priority::Skip);
            self.open.insert(piece);
            Partial::new(geometry.blocks(piece), claim, |block| {
                geometry.is_padding(piece, block)
            })
        })
    }

    /// A block that is on its way from another peer: of a piece that comes too late, or of any if there is
    /// nothing else left to request.
    fn second_copy(&mut self, asker: &Asker<'_>) -> Option<BlockIndex> {
        if matches!(asker.pace, Pace::Snubbed | Pace::Parole) {
            return None;
        }
        let late = self.late_copy(asker).map(|at| (at, PickReason::Late));
        let (found, why) = late.or_else(|| {
            let may = asker.is_idle && self.copying && self.is_endgame();
            let copy = may.then(|| endgame::second_copy(&self.partials, asker));
            copy.flatten().map(|at| (at, PickReason::EndGame))
        })?;
        self.explain(found.piece, why);
        // Invariant: the search gives blocks of pieces that were begun.
        let partial = self
            .partials
            .get_mut(&found.piece)
            .expect("a piece that was begun");
        partial.ask_too(found.block, asker.conn);
        Some(found)
    }

    /// A block of a piece that a reader waits for longer than this peer would take.
    fn late_copy(&self, asker: &Asker<'_>) -> Option<BlockIndex> {
        let urgent = self
            .deadlines
            .urgent()
            .filter(|(at, piece)| *at <= asker.late && asker.may_have(*piece));
        urgent.map(|(_, piece)| piece).find_map(|piece| {
            let partial = self.partials.get(&piece)?;
            let fits = !endgame::is_sole(partial.claim);
            let (_, block) = fits
                .then(|| partial.least_asked(asker.conn, asker.is_best))
                .flatten()?;
            Some(BlockIndex { piece, block })
        })
    }

    /// When the end game begins, peers that found nothing to do have something.
    fn note_endgame(&mut self) {
        let is_endgame = self.is_endgame();
        if is_endgame && !self.in_endgame {
            self.epoch += 1;
        }
        self.in_endgame = is_endgame;
    }

    /// Whether every block that somebody has is requested.
    pub(crate) fn is_endgame(&self) -> bool {
        !self.rarity.any_reachable()
            && self
                .open
                .iter()
                .all(|piece| self.rarity.availability(*piece) == 0)
    }

    /// A block has come from a peer.
    pub(crate) fn receive(
        &mut self,
        at: BlockIndex,
        conn: ConnKey,
        geometry: &impl Geometry,
    ) -> Receipt {
        if self.rarity.is_startable(at.piece) {
            // Late: nobody was waited for any more, and the piece was put back.
            self.begin(at.piece, Claim::Open, geometry);
        }
        let Some(partial) = self.partials.get_mut(&at.piece) else {
            return Receipt::Unwanted;
        };
        if matches!(partial.claim, Claim::Sole(sole) if sole != conn) {
            // Late from before the piece was begun again: taking it would blur who is to blame.
            return Receipt::Unwanted;
        }
        let receipt = partial.receive(at.block, conn);
        if partial.free() == 0 {
            self.open.remove(&at.piece);
        }
        receipt
    }

    /// A peer will not send a block. A piece of which nothing has come and nothing is on its way is as if it had
    /// never been begun, and stands back behind the rarer ones; but if one peer alone must send it, that is kept.
    pub(crate) fn release(&mut self, at: BlockIndex, conn: ConnKey) {
        let Some(partial) = self.partials.get_mut(&at.piece) else {
            return;
        };
        if !partial.release(at.block, conn) {
            return;
        }
        if partial.is_untouched() && !endgame::is_sole(partial.claim) {
            return self.forget(at.piece);
        }
        self.open.insert(at.piece);
        self.epoch += 1;
    }

    /// A peer will send nothing more for now, and its blocks were released: pieces that were its own are
    /// everyone's. Returns the pieces that only it could finish, which have to begin again from nothing.
    pub(crate) fn abandon(&mut self, conn: ConnKey, pieces: &[PieceIndex]) -> Vec<PieceIndex> {
        let mut restarted = Vec::new();
        for piece in pieces {
            let Some(partial) = self.partials.get_mut(piece) else {
                continue;
            };
            if partial.is_complete() {
                continue;
            }
            if partial.claim == Claim::Preferred(conn) {
                partial.claim = Claim::Open;
                self.epoch += 1;
            } else if partial.claim == Claim::Sole(conn) {
                partial.restart(Claim::SoleUnclaimed);
                self.open.insert(*piece);
                self.epoch += 1;
                restarted.push(*piece);
            }
        }
        restarted
    }

    /// The pieces that only this peer works on.
    pub(crate) fn claimed_by(&self, conn: ConnKey) -> Vec<PieceIndex> {
        let own = |claim| claim == Claim::Preferred(conn) || claim == Claim::Sole(conn);
        let mine = self
            .partials
            .iter()
            .filter(|(_, partial)| own(partial.claim));
        mine.map(|(piece, _)| *piece).collect()
    }

    /// The pieces that were begun and not yet verified.
    pub(crate) fn begun(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.partials.keys().copied()
    }

    /// Throws away what a peer sent of pieces that are not complete.
    pub(crate) fn distrust(&mut self, conn: ConnKey) {
        let mut reopened = Vec::new();
        for (piece, partial) in &mut self.partials {
            if partial.is_complete() {
                continue;
            }
            let from: Vec<u32> = partial
                .senders()
                .filter(|(_, by)| *by == conn)
                .map(|(at, _)| at)
                .collect();
            for block in &from {
                partial.reject(*block);
            }
            if !from.is_empty() {
                reopened.push(*piece);
            }
        }
        for piece in reopened {
            self.reopen(piece);
        }
    }

    /// Who sent each block of a piece that has not been verified.
    pub(crate) fn senders(&self, piece: PieceIndex) -> Vec<(u32, ConnKey)> {
        self.partials
            .get(&piece)
            .map_or_else(Vec::new, |partial| partial.senders().collect())
    }

    /// The pieces all of whose blocks have come, not yet verified.
    pub(crate) fn complete(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.partials
            .iter()
            .filter(|(_, partial)| partial.is_complete())
            .map(|(piece, _)| *piece)
    }

    /// A piece is verified.
    pub(crate) fn verified(&mut self, piece: PieceIndex) {
        self.partials.remove(&piece);
        self.open.remove(&piece);
        self.rarity.set_startable(piece, Priority::Skip);
        self.deadlines.remove(piece);
        if !self.done.has(piece) {
            self.done.insert(piece);
            self.verified += 1;
        }
    }

    /// A piece is wrong, and all of it has to come again: from one peer alone.
    pub(crate) fn restart_alone(&mut self, piece: PieceIndex) {
        if let Some(partial) = self.partials.get_mut(&piece) {
            partial.restart(Claim::SoleUnclaimed);
            self.reopen(piece);
        }
    }

    /// A piece is wrong, and these blocks of it are known to be: they have to come again, from anyone.
    pub(crate) fn reject_blocks(&mut self, piece: PieceIndex, blocks: &[u32]) {
        if let Some(partial) = self.partials.get_mut(&piece) {
            for block in blocks {
                partial.reject(*block);
            }
            partial.claim = Claim::Open;
            self.reopen(piece);
        }
    }

    fn reopen(&mut self, piece: PieceIndex) {
        if self
            .partials
            .get(&piece)
            .is_some_and(|partial| partial.free() > 0)
        {
            self.open.insert(piece);
        }
        self.epoch += 1;
    }

    /// A piece that was verified is lost, or one that was begun is forgotten: it may be begun again.
    pub(crate) fn forget(&mut self, piece: PieceIndex) {
        self.partials.remove(&piece);
        self.open.remove(&piece);
        if self.done.has(piece) {
            self.done.remove(piece);
            self.verified -= 1;
        }
        self.rarity
            .set_startable(piece, self.priorities[piece.as_usize()]);
        self.epoch += 1;
    }

    /// A begun piece, the emptiest, that nobody connected has and nobody owes blocks of, if more than `max`
    /// pieces are open: the memory of its blocks is better used.
    pub(crate) fn unreachable(&self, max: usize) -> Option<PieceIndex> {
        if self.open.len() <= max {
            return None;
        }
        let stuck = self
            .open
            .iter()
            .filter(|piece| self.partials[piece].asked() == 0 && self.rarity.copies(**piece) == 0);
        stuck
            .max_by_key(|piece| self.partials[piece].free())
            .copied()
    }

    /// How many peers owe a block.
    pub(crate) fn asked_of(&self, at: BlockIndex) -> usize {
        self.partials
            .get(&at.piece)
            .map_or(0, |partial| partial.asked_of(at.block))
    }

    /// How many block requests are under way, copies counted once.
    pub(crate) fn asked(&self) -> u32 {
        self.partials.values().map(Partial::asked).sum()
    }

    /// Panics if something does not agree with something else.
    pub(crate) fn check_invariants(&self) {
        self.rarity.check_invariants();
        for (piece, partial) in &self.partials {
            partial.check_invariants();
            assert!(
                !self.rarity.is_startable(*piece),
                "begun and startable: {piece}"
            );
            assert_eq!(
                self.open.contains(piece),
                partial.free() > 0,
                "open: {piece}"
            );
            assert!(!self.done.has(*piece), "begun and verified: {piece}");
        }
        assert!(
            self.open
                .iter()
                .all(|piece| self.partials.contains_key(piece))
        );
    }
}

/// How eagerly a peer joins a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Join {
    /// Only where it is meant to.
    Meant,
    /// Anywhere rather than be idle.
    Idle,
}

#[cfg(test)]
mod tests;
