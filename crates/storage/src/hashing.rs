//! Threads that hash pieces: those that were received, from memory, and those to be checked, from disk.

use std::sync::Arc;
use std::time::Instant;

use riverrun_base::{BLOCK_LEN, BlockSpan, PieceIndex};
use riverrun_metainfo::{Layout, PieceHash};
use riverrun_peer::HashRequest;
use riverrun_swarm::{BlockDigests, ConnKey, StorageDone};

use crate::abreast::{self, Group, Slab};
use crate::cache::{Blocks, Slot};
use crate::disk::{Completion, Shared, read_failed};
use crate::gather::{Received, When};
use crate::judge::{Digests, Hashed, PieceHasher, ZEROS, is_right};
use crate::span::{ReadError, Stored, read_span};
use crate::torrent::{Op, Schedule, Torrent};

/// Something to hash. What is being hashed holds a ticket, for which a close waits.
pub(crate) enum HashTask {
    /// Pieces that were received, as they were gathered: at the time that was planned for it, or whenever this is done.
    Judge(Option<Instant>),
    /// The blocks of a verified piece.
    Leaves {
        torrent: Arc<Torrent>,
        ticket: u64,
        conn: ConnKey,
        piece: PieceIndex,
        request: HashRequest,
    },
    /// The next pieces of a check.
    Check(Arc<Torrent>),
}

impl Shared {
    /// Hashes until the lane is closed.
    pub(crate) fn hash_loop(&self) {
        let mut slab = Slab::default();
        while let Some(task) = self.hashing.pop() {
            self.hash(task, &mut slab);
        }
    }

    /// Does a task; `slab` is memory for what is read.
    pub(crate) fn hash(&self, task: HashTask, slab: &mut Slab) {
        match task {
            HashTask::Judge(planned) => self.judge_gathered(planned),
            HashTask::Leaves {
                torrent,
                ticket,
                conn,
                piece,
                request,
            } => {
                self.guard(&torrent, || {
                    self.hash_leaves(&torrent, conn, (piece, request), slab);
                });
                self.return_ticket(&torrent, ticket);
            }
            HashTask::Check(torrent) => {
                self.guard(&torrent, || self.check_next(&torrent, slab));
            }
        }
    }

    fn return_ticket(&self, torrent: &Arc<Torrent>, ticket: u64) {
        let schedule = torrent.state().agenda.return_ticket(ticket);
        self.schedule(torrent, schedule);
    }

    /// A piece is whole: it will be hashed now, or soon together with others.
    pub(crate) fn gather(&self, received: Received) {
        match self.gather.add(Instant::now(), received) {
            When::Now => self.hashing.push(HashTask::Judge(None)),
            When::At(when) => self.hashing.push_at(when, HashTask::Judge(Some(when))),
            When::AsPlanned => {}
        }
    }

    fn judge_gathered(&self, planned: Option<Instant>) {
        let (pieces, more) = self.gather.take(planned);
        if more {
            self.hashing.push(HashTask::Judge(None));
        }
        let mut found: Vec<Option<Hashed>> = pieces.iter().map(|_| None).collect();
        if let [first, _, ..] = &pieces[..] {
            // Whatever comes of it: those that have nothing found for them are hashed by themselves.
            self.guard(&first.torrent, || hash_received(&pieces, &mut found));
        }
        for (received, found) in pieces.into_iter().zip(found) {
            let (torrent, ticket) = (received.torrent.clone(), received.ticket);
            self.guard(&torrent, || self.judge(received, found));
            self.return_ticket(&torrent, ticket);
        }
    }

    /// Says whether a piece is right, from what was found by hashing it if it was hashed already.
    fn judge(&self, received: Received, found: Option<Hashed>) {
        let Received {
            torrent,
            piece,
            expected: hash,
            blocks,
            ..
        } = received;
        let (torrent, Some(layout)) = (&torrent, torrent.state().layout.clone()) else {
            return;
        };
        let found = found.or_else(|| {
            let mut hasher = PieceHasher::of(&hash);
            let take = &mut |blocks: &[&[u8]]| hasher.update(blocks);
            let read = self.visit(torrent, &layout, piece, &blocks, take);
            read.is_ok().then(|| hasher.finish())
        });
        if is_complete(&layout, piece, &blocks)
            && found.is_some_and(|found| is_right(&hash, &found))
        {
            return self.pass(torrent, piece, hash, blocks);
        }
        let mut digests = Digests::new(&hash);
        let told = self.visit(torrent, &layout, piece, &blocks, &mut |blocks| {
            digests.update(blocks);
        });
        let blocks = match told {
            Ok(()) if !self.is_of_changed(torrent, &layout, piece) => digests.finish(),
            // Nobody is to be blamed for what the disk, or another program, did.
            _ => BlockDigests::V1(Vec::new()),
        };
        torrent.state().cache.fail(piece);
        self.tell(torrent, StorageDone::Failed { piece, blocks });
    }

    fn pass(&self, torrent: &Arc<Torrent>, piece: PieceIndex, hash: PieceHash, blocks: Blocks) {
        let mut state = torrent.state();
        state.verified.set(piece);
        state.cache.pass(piece);
        drop(state);
        // Told before it can be written, so that it is never durable first.
        self.tell(torrent, StorageDone::Verified(piece));
        let schedule = torrent.state().agenda.push_now(Op::Write {
            piece,
            blocks,
            hash,
        });
        self.schedule(torrent, schedule);
    }

    fn hash_leaves(
        &self,
        torrent: &Arc<Torrent>,
        conn: ConnKey,
        (piece, request): (PieceIndex, HashRequest),
        slab: &mut Slab,
    ) {
        let (layout, held) = {
            let state = torrent.state();
            let Some(layout) = state.layout.clone() else {
                return;
            };
            (layout, state.cache.verified(piece))
        };
        // In a v2 torrent each piece is of one file, and what follows in it is padding.
        let len = layout
            .slices(layout.piece_span(piece))
            .next()
            .map_or(0, |slice| slice.len);
        let mut hasher = PieceHasher::new(false, len);
        let hashed = if let Some(blocks) = held {
            let take = &mut |blocks: &[&[u8]]| hasher.update(blocks);
            let read = self.visit(torrent, &layout, piece, &blocks, take);
            read.map(|()| hasher.finish())
        } else {
            let group = vec![(piece, hasher)];
            let mut hashed = self
                .hash_stored(torrent, &layout, group, &[], slab)
                .into_iter();
            // Invariant: what is hashed is what was given.
            let hashed = hashed.next().expect("a piece was given").1;
            hashed.and_then(|hashed| {
                self.confirm_all(torrent, &layout, &[layout.piece_span(piece)])?;
                Ok(hashed)
            })
        };
        match hashed {
            Ok((_, leaves)) => {
                self.tell(
                    torrent,
                    StorageDone::Leaves {
                        conn,
                        piece,
                        request,
                        leaves,
                    },
                );
            }
            Err(error) => {
                let fault = self.blame(torrent, &layout, piece, &error);
                let span = layout.piece_span(piece);
                self.emit(vec![read_failed(torrent.site.torrent, conn, span, fault)]);
            }
        }
    }

    /// Begins the first check that waits, on all threads.
    pub(crate) fn begin_check(&self, torrent: &Arc<Torrent>) {
        for _ in 0..self.config.hash_threads.max(1) {
            self.hashing.push(HashTask::Check(torrent.clone()));
        }
    }

    /// Hashes the next pieces of a check, then makes room for other torrents before those after them.
    fn check_next(&self, torrent: &Arc<Torrent>, slab: &mut Slab) {
        let (step, layout, ticket) = {
            let mut state = torrent.state();
            let Some(layout) = state.layout.clone() else {
                return;
            };
            let threads = self.config.hash_threads.max(1);
            let Some(step) = state
                .checks
                .front_mut()
                .and_then(|check| check.next_step(&layout, threads))
            else {
                return;
            };
            (step, layout, state.agenda.take_ticket())
        };
        let known = |(piece, hash): &(PieceIndex, Option<PieceHash>)| {
            Some((*piece, PieceHasher::of(hash.as_ref()?)))
        };
        let group = step.pieces.iter().filter_map(known).collect();
        let hashed = self.hash_stored(torrent, &layout, group, &step.ahead, slab);
        let mut hashed = hashed.into_iter();
        let judge = |(piece, expected): (PieceIndex, Option<PieceHash>)| {
            let right = expected.filter(|expected| {
                let found = hashed.next().and_then(|(_, found)| found.ok());
                found.is_some_and(|found| is_right(expected, &found))
            });
            (piece, right)
        };
        let checked = step.pieces.into_iter().map(judge).collect();
        let schedule = self.note_checked(torrent, checked);
        self.schedule(torrent, schedule);
        self.end_check_step(torrent, step.id);
        self.return_ticket(torrent, ticket);
    }

    /// Takes the pieces of a check, with their hashes if they are right.
    fn note_checked(
        &self,
        torrent: &Arc<Torrent>,
        checked: Vec<(PieceIndex, Option<PieceHash>)>,
    ) -> Schedule {
        let mut state = torrent.state();
        for (piece, right) in &checked {
            if right.is_some() {
                state.verified.set(*piece);
            } else {
                state.verified.clear(*piece);
            }
        }
        drop(state);
        let told = checked.iter().map(|(piece, right)| Completion::Done {
            torrent: torrent.site.torrent,
            done: StorageDone::Checked {
                piece: *piece,
                ok: right.is_some(),
            },
        });
        self.emit(told.collect());
        let mut state = torrent.state();
        let ops = checked.into_iter().map(|(piece, right)| match right {
            Some(hash) => Op::Adopt(piece, hash),
            None => Op::Forget(piece),
        });
        let pushed = ops.map(|op| state.agenda.push_now(op));
        pushed.fold(Schedule::NotNeeded, Schedule::or)
    }

    fn end_check_step(&self, torrent: &Arc<Torrent>, id: u64) {
        let mut state = torrent.state();
        let Some(check) = state.checks.front_mut().filter(|check| check.id == id) else {
            return;
        };
        check.running -= 1;
        if !check.pieces.is_empty() {
            drop(state);
            return self.hashing.push(HashTask::Check(torrent.clone()));
        }
        if check.running > 0 {
            return;
        }
        state.checks.pop_front();
        let has_next = !state.checks.is_empty();
        drop(state);
        self.tell(torrent, StorageDone::CheckEnded);
        if has_next {
            self.begin_check(torrent);
        }
    }

    /// Gives all blocks of a piece, from memory or disk: many at once, which hash faster than one by one. After an error
    /// what was given may be false.
    fn visit(
        &self,
        torrent: &Torrent,
        layout: &Layout,
        piece: PieceIndex,
        blocks: &Blocks,
        take: &mut dyn FnMut(&[&[u8]]),
    ) -> Result<(), ReadError> {
        let mut buffer = [0; BLOCK_LEN as usize];
        let mut run: Vec<&[u8]> = Vec::new();
        for (index, slot) in (0..).zip(blocks) {
            let Some(span) = layout.span(piece, index) else {
                break;
            };
            let len = span.len as usize;
            match slot {
                Slot::Memory(block) => run.push(block),
                Slot::Empty => run.push(&ZEROS[..len]),
                Slot::Disk => {
                    take(&run);
                    run.clear();
                    let mut open = |index| self.open(torrent, layout, index);
                    read_span(layout, span, &mut buffer[..len], &mut open)?;
                    take(&[&buffer[..len]]);
                }
            }
        }
        take(&run);
        // What was read is what we wrote only if nobody else has changed it since.
        if blocks.iter().any(|slot| matches!(slot, Slot::Disk)) {
            self.confirm_all(torrent, layout, &[layout.piece_span(piece)])?;
        }
        Ok(())
    }

    /// Hashes pieces as they are on disk, side by side.
    fn hash_stored(
        &self,
        torrent: &Torrent,
        layout: &Layout,
        group: Group,
        ahead: &[PieceIndex],
        slab: &mut Slab,
    ) -> Vec<(PieceIndex, Result<Hashed, ReadError>)> {
        let mut open = |index| self.open(torrent, layout, index);
        let mut stored = Stored {
            layout,
            open: &mut open,
        };
        abreast::hash(layout, group, ahead, (&mut stored, slab))
    }

    /// Whether a piece has a part in a file that somebody else has changed.
    fn is_of_changed(&self, torrent: &Torrent, layout: &Layout, piece: PieceIndex) -> bool {
        self.confirm_all(torrent, layout, &[layout.piece_span(piece)])
            .is_err()
    }

    pub(crate) fn tell(&self, torrent: &Torrent, done: StorageDone) {
        self.emit(vec![Completion::Done {
            torrent: torrent.site.torrent,
            done,
        }]);
    }
}

/// Hashes pieces that are in memory side by side.
fn hash_received(pieces: &[Received], found: &mut [Option<Hashed>]) {
    let blocks: Vec<Option<Vec<&[u8]>>> = pieces.iter().map(in_memory).collect();
    let whole: Vec<usize> = (0..pieces.len()).filter(|n| blocks[*n].is_some()).collect();
    let hasher = |n: &usize| PieceHasher::of(&pieces[*n].expected);
    let mut hashers: Vec<PieceHasher> = whole.iter().map(hasher).collect();
    let blocks: Vec<&[&[u8]]> = blocks.iter().flatten().map(Vec::as_slice).collect();
    PieceHasher::update_many(&mut hashers.iter_mut().collect::<Vec<_>>(), &blocks);
    for (n, hasher) in whole.into_iter().zip(hashers) {
        found[n] = Some(hasher.finish());
    }
}

/// The blocks of a piece, if none was written early.
fn in_memory(received: &Received) -> Option<Vec<&[u8]>> {
    let layout = received.torrent.state().layout.clone()?;
    let block = |(index, slot)| match slot {
        &Slot::Disk => None,
        Slot::Memory(block) => Some(&**block),
        Slot::Empty => {
            let span = layout.span(received.piece, index)?;
            Some(&ZEROS[..span.len as usize])
        }
    };
    (0..).zip(&received.blocks).map(block).collect()
}

/// Whether all blocks are there that are not padding.
fn is_complete(layout: &Layout, piece: PieceIndex, blocks: &Blocks) -> bool {
    (0..).zip(blocks).all(|(index, slot)| {
        let span: Option<BlockSpan> = layout.span(piece, index);
        !matches!(slot, Slot::Empty) || span.is_some_and(|span| layout.is_padding(span))
    })
}
