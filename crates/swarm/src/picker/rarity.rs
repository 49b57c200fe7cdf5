//! How many peers have each piece, and the pieces not yet begun in the order of rarity.

use std::collections::BTreeMap;
use std::ops::Range;

use riverrun_base::{Bitfield, PieceIndex, Rng};

use super::set::PieceSet;
use crate::input::Priority;

/// How many pieces a search by rarity looks at before it falls back to comparing bitfields word by word.
/// It keeps a choice cheap in torrents of a hundred thousand pieces; below that rarity is exact.
const SCAN_MAX: usize = 4096;

/// How many of the pieces found by the fallback are compared.
const SAMPLE_MAX: usize = 512;

/// A piece that stands in no bucket.
const NOWHERE: u32 = u32::MAX;

/// The order in which classes are served.
pub(super) const CLASSES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

/// Availability, and buckets by availability of all pieces that may be begun.
///
/// Peers that have every piece are counted as one number, so that a seed that comes or goes costs nothing, and
/// a `have` moves one piece from a bucket to its neighbour.
#[derive(Clone, Debug)]
pub(crate) struct Rarity {
    /// Peers that have the piece or some of its blocks, without those that have all.
    counts: Box<[u32]>,
    /// How many of them have only some blocks.
    in_part: BTreeMap<PieceIndex, u32>,
    /// Peers that have all pieces.
    complete: u32,
    /// Pieces whose count is 0.
    absent: u32,
    classes: [Class; 3],
    /// Where in its bucket a piece stands.
    places: Box<[u32]>,
}

#[derive(Clone, Debug)]
struct Class {
    members: PieceSet,
    len: usize,
    /// By count; the last is not empty.
    buckets: Vec<Vec<PieceIndex>>,
}

impl Rarity {
    pub(super) fn new(pieces: u32) -> Self {
        let class = || Class {
            members: PieceSet::new(pieces),
            len: 0,
            buckets: Vec::new(),
        };
        Self {
            counts: vec![0; pieces as usize].into(),
            in_part: BTreeMap::new(),
            complete: 0,
            absent: pieces,
            classes: [class(), class(), class()],
            places: vec![NOWHERE; pieces as usize].into(),
        }
    }

    /// How many pieces there are.
    pub(crate) fn piece_count(&self) -> u32 {
        // Invariant: made for a number of pieces that fits.
        u32::try_from(self.counts.len()).unwrap_or(u32::MAX)
    }

    /// How many connected peers have the whole piece.
    pub(crate) fn availability(&self, piece: PieceIndex) -> u32 {
        self.copies(piece) - self.in_part(piece)
    }

    /// How many connected peers have the piece or some of its blocks: by that the rarest comes first.
    pub(crate) fn copies(&self, piece: PieceIndex) -> u32 {
        self.complete + self.counts.get(piece.as_usize()).copied().unwrap_or(0)
    }

    /// How many connected peers have some blocks of the piece, and not the whole.
    pub(crate) fn in_part(&self, piece: PieceIndex) -> u32 {
        self.in_part.get(&piece).copied().unwrap_or(0)
    }

    /// How many have some blocks, by piece.
    pub(crate) const fn all_in_part(&self) -> &BTreeMap<PieceIndex, u32> {
        &self.in_part
    }

    /// A peer has some blocks of a piece.
    pub(super) fn add_part(&mut self, piece: PieceIndex) {
        *self.in_part.entry(piece).or_default() += 1;
        self.step(piece, true);
    }

    /// A peer has no blocks of a piece any more, or all of them, or it has gone.
    pub(super) fn remove_part(&mut self, piece: PieceIndex) {
        if let Some(peers) = self.in_part.get_mut(&piece) {
            *peers -= 1;
            if *peers == 0 {
                self.in_part.remove(&piece);
            }
            self.step(piece, false);
        }
    }

    /// Whether some piece is with no connected peer.
    pub(crate) const fn any_absent(&self) -> bool {
        self.complete == 0 && self.absent > 0
    }

    /// A peer has told all that it has.
    pub(super) fn add_peer(&mut self, have: &Bitfield) {
        if have.all() {
            self.complete += 1;
        } else {
            have.ones().for_each(|piece| self.step(piece, true));
        }
    }

    /// A peer has gone, or its bitfield is about to change in more than one place.
    pub(super) fn remove_peer(&mut self, have: &Bitfield) {
        if have.all() {
            self.complete -= 1;
        } else {
            have.ones().for_each(|piece| self.step(piece, false));
        }
    }

    /// A peer has got `piece`; `have` is what it has with it.
    pub(super) fn add_piece(&mut self, piece: PieceIndex, have: &Bitfield) {
        self.step(piece, true);
        if have.all() {
            have.ones().for_each(|piece| self.step(piece, false));
            self.complete += 1;
        }
    }

    /// A peer has lost `piece`; `have` is what it has without it.
    pub(super) fn remove_piece(&mut self, piece: PieceIndex, have: &Bitfield) {
        if have.count_ones() + 1 == have.len() {
            self.complete -= 1;
            have.ones().for_each(|piece| self.step(piece, true));
        } else {
            self.step(piece, false);
        }
    }

    fn step(&mut self, piece: PieceIndex, up: bool) {
        let class = self.class_of(piece);
        if let Some(class) = class {
            self.take_out(piece, class);
        }
        let count = &mut self.counts[piece.as_usize()];
        match (up, *count) {
            (true, 0) => self.absent -= 1,
            (false, 1) => self.absent += 1,
            _ => {}
        }
        *count = if up { *count + 1 } else { *count - 1 };
        if let Some(class) = class {
            self.put_in(piece, class);
        }
    }

    /// Of pieces of a class that may be begun the one that fewest have.
    pub(super) fn rarest_of(
        &self,
        class: usize,
        pieces: impl Iterator<Item = PieceIndex>,
    ) -> Option<PieceIndex> {
        let members = &self.classes[class].members;
        let startable = pieces.filter(|piece| members.has(*piece));
        startable.min_by_key(|piece| self.counts[piece.as_usize()])
    }

    /// Lets a piece be begun, with a priority; [`Priority::Skip`] takes it out.
    pub(super) fn set_startable(&mut self, piece: PieceIndex, priority: Priority) {
        if let Some(class) = self.class_of(piece) {
            self.take_out(piece, class);
            self.classes[class].members.remove(piece);
            self.classes[class].len -= 1;
        }
        if let Some(class) = CLASSES.iter().position(|class| *class == priority) {
            self.put_in(piece, class);
            self.classes[class].members.insert(piece);
            self.classes[class].len += 1;
        }
    }

    /// Whether a piece may be begun.
    pub(super) fn is_startable(&self, piece: PieceIndex) -> bool {
        self.class_of(piece).is_some()
    }

    /// Whether some piece may be begun that somebody has.
    pub(super) fn any_reachable(&self) -> bool {
        self.classes.iter().any(|class| {
            let unreachable = match self.complete {
                0 => class.buckets.first().map_or(0, Vec::len),
                _ => 0,
            };
            class.len > unreachable
        })
    }

    fn class_of(&self, piece: PieceIndex) -> Option<usize> {
        let placed = self
            .places
            .get(piece.as_usize())
            .is_some_and(|place| *place != NOWHERE);
        placed.then(|| {
            // Invariant: a piece with a place is a member of the class that gave it.
            let found = self
                .classes
                .iter()
                .position(|class| class.members.has(piece));
            found.expect("a piece in a bucket is in a class")
        })
    }

    fn put_in(&mut self, piece: PieceIndex, class: usize) {
        let buckets = &mut self.classes[class].buckets;
        let count = self.counts[piece.as_usize()] as usize;
        if buckets.len() <= count {
            buckets.resize_with(count + 1, Vec::new);
        }
        self.places[piece.as_usize()] = u32::try_from(buckets[count].len()).unwrap_or(NOWHERE);
        buckets[count].push(piece);
    }

    fn take_out(&mut self, piece: PieceIndex, class: usize) {
        let buckets = &mut self.classes[class].buckets;
        let bucket = &mut buckets[self.counts[piece.as_usize()] as usize];
        let place = self.places[piece.as_usize()];
        bucket.swap_remove(place as usize);
        if let Some(moved) = bucket.get(place as usize) {
            self.places[moved.as_usize()] = place;
        }
        self.places[piece.as_usize()] = NOWHERE;
        while buckets.last().is_some_and(Vec::is_empty) {
            buckets.pop();
        }
    }

    /// The rarest piece of a class that the peer has; a suggested one if it is as rare, else a random one.
    pub(super) fn rarest(
        &self,
        class: usize,
        have: &Bitfield,
        suggested: &[PieceIndex],
        rng: &mut Rng,
    ) -> Option<PieceIndex> {
        let class = &self.classes[class];
        // Pieces of the lowest bucket are with peers that have all, or with nobody.
        let buckets = class.buckets.iter().skip(usize::from(!have.all()));
        let mut left = SCAN_MAX;
        for bucket in buckets {
            if let Some(found) = first_from(bucket, rng.below(bucket.len()), have, &mut left) {
                return Some(
                    self.suggestion(class, found, have, suggested)
                        .unwrap_or(found),
                );
            }
            if left == 0 {
                return self.sampled(class, have, rng);
            }
        }
        None
    }

    /// A piece of a class that of all connected peers only this one has.
    pub(super) fn only_here(
        &self,
        class: usize,
        have: &Bitfield,
        suggested: &[PieceIndex],
        rng: &mut Rng,
    ) -> Option<PieceIndex> {
        // Of a peer that has everything these are the pieces that no other peer has, else those that it alone has.
        let count = match (have.all(), self.complete) {
            (true, 1) => 0,
            (false, 0) => 1,
            _ => return None,
        };
        let class = &self.classes[class];
        let bucket = class
            .buckets
            .get(count)
            .filter(|bucket| !bucket.is_empty())?;
        let found = first_from(bucket, rng.below(bucket.len()), have, &mut { SCAN_MAX })?;
        Some(
            self.suggestion(class, found, have, suggested)
                .unwrap_or(found),
        )
    }

    /// The longest run of pieces of a class that the peer has and that may be begun, among the first that lie behind
    /// `after`, and from the beginning on.
    pub(super) fn longest_gap(
        &self,
        class: usize,
        have: &Bitfield,
        after: Option<PieceIndex>,
    ) -> Option<Range<u32>> {
        let members = &self.classes[class].members;
        let start = after.filter(|after| after.0 < self.piece_count());
        let free = members.shared_from(have, start.unwrap_or_default());
        let mut longest = 0..0;
        let mut gap = 0..0;
        for piece in free.take(SCAN_MAX) {
            if piece.0 == gap.end {
                gap.end += 1;
            } else {
                gap = piece.0..piece.0 + 1;
            }
            if gap.len() > longest.len() {
                longest = gap.clone();
            }
        }
        (!longest.is_empty()).then_some(longest)
    }

    /// The most common piece of a class that the peer has.
    pub(super) fn commonest(
        &self,
        class: usize,
        have: &Bitfield,
        rng: &mut Rng,
    ) -> Option<PieceIndex> {
        let class = &self.classes[class];
        let mut left = SCAN_MAX;
        for bucket in class.buckets.iter().rev() {
            if let Some(found) = first_from(bucket, rng.below(bucket.len()), have, &mut left) {
                return Some(found);
            }
            if left == 0 {
                return self.sampled(class, have, rng);
            }
        }
        None
    }

    /// Any piece of a class that the peer has.
    pub(super) fn random(
        &self,
        class: usize,
        have: &Bitfield,
        suggested: &[PieceIndex],
        rng: &mut Rng,
    ) -> Option<PieceIndex> {
        let class = &self.classes[class];
        if class.len == 0 {
            return None;
        }
        let wished = suggested
            .iter()
            .find(|p| class.members.has(**p) && have.has(**p));
        wished.copied().or_else(|| {
            let start = PieceIndex(u32::try_from(rng.below(self.counts.len())).unwrap_or(0));
            class.members.shared_from(have, start).next()
        })
    }

    /// The first piece of a class, by index, that the peer has.
    pub(super) fn lowest(&self, class: usize, have: &Bitfield) -> Option<PieceIndex> {
        let class = &self.classes[class];
        (class.len > 0)
            .then(|| class.members.shared_from(have, PieceIndex(0)).next())
            .flatten()
    }

    fn suggestion(
        &self,
        class: &Class,
        rival: PieceIndex,
        have: &Bitfield,
        suggested: &[PieceIndex],
    ) -> Option<PieceIndex> {
        let count = self.counts[rival.as_usize()];
        let fits = |piece: &&PieceIndex| {
            class.members.has(**piece)
                && have.has(**piece)
                && self.counts[piece.as_usize()] == count
        };
        suggested.iter().find(fits).copied()
    }

    fn sampled(&self, class: &Class, have: &Bitfield, rng: &mut Rng) -> Option<PieceIndex> {
        let start = PieceIndex(u32::try_from(rng.below(self.counts.len())).unwrap_or(0));
        class
            .members
            .shared_from(have, start)
            .take(SAMPLE_MAX)
            .min_by_key(|piece| self.counts[piece.as_usize()])
    }

    /// Panics if the buckets and the counts do not agree.
    pub(super) fn check_invariants(&self) {
        for (piece, peers) in &self.in_part {
            assert!(
                *peers > 0 && *peers <= self.counts[piece.as_usize()],
                "{piece}"
            );
        }
        for class in &self.classes {
            let mut len = 0;
            for (count, bucket) in class.buckets.iter().enumerate() {
                for (place, piece) in bucket.iter().enumerate() {
                    assert_eq!(
                        self.counts[piece.as_usize()] as usize,
                        count,
                        "bucket of {piece}"
                    );
                    assert_eq!(
                        self.places[piece.as_usize()] as usize,
                        place,
                        "place of {piece}"
                    );
                    assert!(class.members.has(*piece), "class of {piece}");
                    len += 1;
                }
            }
            assert_eq!(len, class.len);
        }
    }
}

/// The first piece of a bucket, from `start` on and around, that the peer has.
fn first_from(
    bucket: &[PieceIndex],
    start: usize,
    have: &Bitfield,
    left: &mut usize,
) -> Option<PieceIndex> {
    let (early, late) = bucket.split_at(start);
    let mut looked = late.iter().chain(early).take(*left).enumerate();
    let found = looked.find(|(_, piece)| have.has(**piece));
    if found.is_none() {
        *left -= bucket.len().min(*left);
    }
    found.map(|(_, piece)| *piece)
}
