//! Threads that write: each takes a torrent, does what is on its agenda, and commits when that is due.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use riverrun_base::{Bitfield, InfoHashes, PieceIndex};
use riverrun_metainfo::{Layout, PieceHash};
use riverrun_swarm::{StorageDone, StorageFault};

use crate::cache::{Blocks, memory_bytes};
use crate::disk::Shared;
use crate::fault::show;
use crate::files::TorrentFiles;
use crate::survey::Survey;
use crate::torrent::{Check, Faults, Op, Schedule, Torrent, Writing};

/// Pieces that are written between two looks at the clock, and noted in the journal together.
const BATCH_MAX: usize = 32;
/// Operations that are done for one torrent before others get their turn.
const TURN_MAX: usize = 64;

/// What failed, and what is to be done again.
type Undone = Box<(StorageFault, Op)>;

/// Where something failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Op,
    Commit,
}

impl Source {
    const fn slot(self, faults: &mut Faults) -> &mut Option<StorageFault> {
        match self {
            Self::Op => &mut faults.op,
            Self::Commit => &mut faults.commit,
        }
    }
}

/// A piece to be written.
struct Right {
    piece: PieceIndex,
    blocks: Blocks,
    hash: PieceHash,
}

impl Right {
    /// The pieces to be written with this one.
    fn batch(torrent: &Torrent, first: Self) -> Vec<Self> {
        let mut state = torrent.state();
        // After a failure each by itself, so that what can be written is.
        let limit = if state.faults.any() { 1 } else { BATCH_MAX };
        let mut batch = vec![first];
        while batch.len() < limit
            && let Some(Op::Write {
                piece,
                blocks,
                hash,
            }) = state.agenda.pop_write()
        {
            batch.push(Self {
                piece,
                blocks,
                hash,
            });
        }
        batch
    }
}

impl Shared {
    /// Writes until the lane is closed.
    pub(crate) fn write_loop(&self) {
        while let Some(torrent) = self.writing.pop() {
            self.guard(&torrent, || self.work(&torrent, Instant::now()));
        }
    }

    /// A bug in the work for one torrent must not take the thread from the others. Its files are let go as after a
    /// kill: the journal says what is true.
    pub(crate) fn guard(&self, torrent: &Arc<Torrent>, run: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(run)).is_ok() {
            return;
        }
        let path = show(&torrent.site.root);
        tracing::error!(torrent = %torrent.site.torrent, path, "the work for a torrent has panicked");
        *torrent.files() = Writing::default();
        torrent.known.clear();
        let schedule = torrent.state().fail();
        self.schedule(torrent, schedule);
        let message = "internal error, see the log".to_owned();
        self.tell(
            torrent,
            StorageDone::Fault(StorageFault::Io { path, message }),
        );
    }

    /// Does what a torrent has to do, for one turn.
    pub(crate) fn work(&self, torrent: &Arc<Torrent>, now: Instant) {
        let mut writing = torrent.files();
        for _ in 0..TURN_MAX {
            let Some(op) = self.next_op(torrent, now) else {
                break;
            };
            if !self.perform(torrent, &mut writing, op, now) {
                break;
            }
        }
        self.commit_if_due(torrent, &mut writing, now);
        self.leave(torrent, &mut writing, now);
    }

    fn next_op(&self, torrent: &Torrent, now: Instant) -> Option<Op> {
        let mut state = torrent.state();
        if state.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        let waits_for_space =
            matches!(state.faults.op, Some(StorageFault::NoSpace { .. })) && !state.is_closing;
        let op = state.agenda.pop()?;
        if waits_for_space && matches!(op, Op::Write { .. } | Op::Spill { .. }) {
            // Each try might take the last bytes from another program, in vain.
            let needed = memory_bytes_of(&op);
            drop(state);
            let free = self.ground.backend.free_bytes(&torrent.site.root);
            state = torrent.state();
            if free.is_ok_and(|free| free < needed) {
                state.agenda.put_back(op);
                state.retry_at = Some(now + self.config.retry_interval);
                return None;
            }
        }
        Some(op)
    }

    /// Ends a turn, and sees to the next.
    fn leave(&self, torrent: &Arc<Torrent>, writing: &mut Writing, now: Instant) {
        let mut state = torrent.state();
        state.agenda.leave();
        let retry_at = state.retry_at.filter(|at| *at > now);
        if retry_at.is_none() && !state.agenda.is_empty() {
            let schedule = state.agenda.schedule();
            drop(state);
            return self.schedule(torrent, schedule);
        }
        drop(state);
        let Some(at) = retry_at.into_iter().chain(writing.commit_at).min() else {
            return;
        };
        if writing.wake_at.is_none_or(|set| set <= now || set > at) {
            writing.wake_at = Some(at);
            self.writing.push_at(at, torrent.clone());
        }
    }

    /// Does one thing, or a few of the same; false if it failed and has to be tried again.
    fn perform(&self, torrent: &Arc<Torrent>, writing: &mut Writing, op: Op, now: Instant) -> bool {
        let done = match op {
            Op::Write {
                piece,
                blocks,
                hash,
            } => {
                let batch = Right::batch(
                    torrent,
                    Right {
                        piece,
                        blocks,
                        hash,
                    },
                );
                self.write(torrent, writing, batch)
            }
            Op::Open {
                hashes,
                layout,
                wanted,
            } => self.open_files(torrent, writing, hashes, layout, wanted),
            Op::Close => {
                self.close(torrent, writing);
                Ok(())
            }
            op => self.perform_open(torrent, writing, op),
        };
        self.report_lost(torrent, writing);
        match done {
            Ok(()) => {
                self.recover(torrent, Source::Op);
                true
            }
            Err(undone) => {
                let (fault, op) = *undone;
                self.fail(torrent, writing, fault, op, now)
            }
        }
    }

    fn open_files(
        &self,
        torrent: &Arc<Torrent>,
        writing: &mut Writing,
        hashes: InfoHashes,
        layout: Arc<Layout>,
        wanted: Vec<bool>,
    ) -> Result<(), Undone> {
        let (ground, site) = (self.ground.clone(), torrent.site.clone());
        let known = torrent.known.clone();
        let what = (layout.clone(), wanted.clone());
        match TorrentFiles::open(ground, site, known, hashes, what) {
            Ok((
                files,
                Survey {
                    have, unchecked, ..
                },
            )) => {
                writing.files = Some(files);
                let mut state = torrent.state();
                state.layout = Some(layout);
                state.verified = have.clone();
                drop(state);
                self.recover(torrent, Source::Op);
                self.tell(torrent, StorageDone::Opened { have, unchecked });
                Ok(())
            }
            Err(fault) => Err(Box::new((
                fault,
                Op::Open {
                    hashes,
                    layout,
                    wanted,
                },
            ))),
        }
    }

    /// What can be done only while the files are open; nothing otherwise.
    fn perform_open(
        &self,
        torrent: &Arc<Torrent>,
        writing: &mut Writing,
        op: Op,
    ) -> Result<(), Undone> {
        let Some(files) = &mut writing.files else {
            if matches!(op, Op::Sync) {
                self.tell(torrent, StorageDone::Synced);
            }
            return Ok(());
        };
        match op {
            Op::Wanted(wanted) => files.set_wanted(wanted),
            Op::Adopt(piece, hash) => files.adopt(piece, hash),
            Op::Forget(piece) => {
                return files
                    .forget(&[piece])
                    .map_err(|fault| Box::new((fault, Op::Forget(piece))));
            }
            Op::Disown(file) => {
                return files
                    .disown(file)
                    .map_err(|fault| Box::new((fault, Op::Disown(file))));
            }
            Op::Check(pieces, hashes) => {
                if let Err(fault) = look_again(torrent, files, &pieces) {
                    return Err(Box::new((fault, Op::Check(pieces, hashes))));
                }
                self.start_check(torrent, &pieces, hashes);
            }
            Op::Spill { piece, blocks } => {
                let spilled = files
                    .prepare(&[(piece, &blocks)])
                    .and_then(|()| files.write(piece, &blocks));
                if let Err(fault) = spilled {
                    return Err(Box::new((fault, Op::Spill { piece, blocks })));
                }
                let mut state = torrent.state();
                if files.is_of_changed(piece) {
                    // It can be written nowhere, so it has to come again.
                    state.cache.remove(piece);
                } else {
                    state.cache.spilled(piece, &blocks);
                }
                state.note_spilled(&blocks);
            }
            Op::Sync => {
                let durable = files
                    .commit()
                    .map_err(|fault| Box::new((fault, Op::Sync)))?;
                writing.commit_at = None;
                self.tell_durable(torrent, durable);
                self.tell(torrent, StorageDone::Synced);
            }
            Op::Open { .. } | Op::Write { .. } | Op::Close => {}
        }
        Ok(())
    }

    fn write(
        &self,
        torrent: &Arc<Torrent>,
        writing: &mut Writing,
        batch: Vec<Right>,
    ) -> Result<(), Undone> {
        let Some(files) = &mut writing.files else {
            return Ok(());
        };
        let prepared = {
            let pieces: Vec<_> = batch
                .iter()
                .map(|right| (right.piece, &right.blocks))
                .collect();
            files.prepare(&pieces)
        };
        let mut rest = batch.into_iter();
        let mut failed = prepared.err();
        while failed.is_none()
            && let Some(next) = rest.as_slice().first()
        {
            failed = files.write(next.piece, &next.blocks).err();
            if failed.is_none()
                && let Some(right) = rest.next()
            {
                self.wrote(torrent, files, &right);
            }
        }
        let Some(fault) = failed else { return Ok(()) };
        let mut rest: Vec<Op> = rest
            .map(
                |Right {
                     piece,
                     blocks,
                     hash,
                 }| Op::Write {
                    piece,
                    blocks,
                    hash,
                },
            )
            .collect();
        let mut state = torrent.state();
        while rest.len() > 1
            && let Some(op) = rest.pop()
        {
            state.agenda.put_back(op);
        }
        drop(state);
        rest.pop()
            .map_or(Ok(()), |first| Err(Box::new((fault, first))))
    }

    /// A piece was written: it is not needed in memory any more.
    fn wrote(&self, torrent: &Arc<Torrent>, files: &mut TorrentFiles, right: &Right) {
        let is_safe = files.wrote(right.piece, right.hash, &right.blocks);
        torrent.state().cache.remove(right.piece);
        if !is_safe {
            self.lose(torrent, right.piece);
        }
        self.resume_reads(torrent, right.piece);
    }

    fn start_check(
        &self,
        torrent: &Arc<Torrent>,
        pieces: &Bitfield,
        hashes: Arc<riverrun_metainfo::PieceHashes>,
    ) {
        let mut state = torrent.state();
        if state.is_closing {
            return;
        }
        let id = state.agenda.take_ticket();
        let schedule = state.agenda.return_ticket(id);
        debug_assert_eq!(schedule, Schedule::NotNeeded, "this thread has the torrent");
        state.checks.push_back(Check {
            id,
            pieces: pieces.ones().collect(),
            hashes,
            running: 0,
            told: 0,
        });
        let is_first = state.checks.len() == 1;
        if pieces.none() && is_first {
            state.checks.pop_back();
            drop(state);
            return self.tell(torrent, StorageDone::CheckEnded);
        }
        drop(state);
        if is_first {
            self.begin_check(torrent);
        }
    }

    /// Commits if enough waits for it, or waits long enough; else sets the time when it will have.
    fn commit_if_due(&self, torrent: &Arc<Torrent>, writing: &mut Writing, now: Instant) {
        let Writing {
            files: Some(files),
            commit_at,
            ..
        } = writing
        else {
            writing.commit_at = None;
            return;
        };
        if !files.is_dirty() && !files.is_writing() {
            *commit_at = None;
            return;
        }
        let is_due = commit_at.is_some_and(|at| at <= now)
            || files.unsynced_bytes() >= self.config.sync_bytes;
        if !is_due {
            commit_at.get_or_insert(now + self.config.sync_interval);
            return;
        }
        let committed = files.commit();
        *commit_at = files.is_writing().then(|| now + self.config.sync_interval);
        match committed {
            Ok(durable) => {
                self.recover(torrent, Source::Commit);
                self.tell_durable(torrent, durable);
            }
            Err(fault) => {
                *commit_at = Some(now + self.config.retry_interval);
                files.reread();
                self.tell_fault(torrent, Source::Commit, fault);
            }
        }
        self.report_lost(torrent, writing);
    }

    fn close(&self, torrent: &Arc<Torrent>, writing: &mut Writing) {
        writing.commit_at = None;
        if let Some(files) = writing.files.take() {
            match files.close() {
                Ok(durable) => self.tell_durable(torrent, durable),
                Err(fault) => self.tell(torrent, StorageDone::Fault(fault)),
            }
        }
        let key = torrent.site.torrent;
        self.ground.readers.forget_all(|(of, _)| of == key);
        torrent.known.clear();
        torrent.state().reset();
        self.tell(torrent, StorageDone::Closed);
        self.note_closed();
    }

    /// Sees that what failed is tried again, unless the torrent is being closed. Gives whether to go on at once.
    fn fail(
        &self,
        torrent: &Arc<Torrent>,
        writing: &mut Writing,
        fault: StorageFault,
        op: Op,
        now: Instant,
    ) -> bool {
        if let Some(files) = &mut writing.files {
            files.reread();
        }
        self.report_lost(torrent, writing);
        let mut state = torrent.state();
        if state.is_closing {
            drop(state);
            self.give_up(torrent, &op);
            return true;
        }
        state.agenda.put_back(op);
        state.retry_at = Some(now + self.config.retry_interval);
        drop(state);
        self.tell_fault(torrent, Source::Op, fault);
        false
    }

    /// What is not done any more, since the torrent is being closed.
    fn give_up(&self, torrent: &Torrent, op: &Op) {
        match op {
            Op::Spill { blocks, .. } => torrent.state().note_spilled(blocks),
            Op::Sync => self.tell(torrent, StorageDone::Synced),
            _ => {}
        }
    }

    fn tell_fault(&self, torrent: &Torrent, source: Source, fault: StorageFault) {
        let mut state = torrent.state();
        let before = source.slot(&mut state.faults).replace(fault.clone());
        drop(state);
        if before.as_ref() != Some(&fault) {
            self.tell(torrent, StorageDone::Fault(fault));
        }
    }

    fn recover(&self, torrent: &Torrent, source: Source) {
        let mut state = torrent.state();
        if source == Source::Op {
            state.retry_at = None;
        }
        let was_faulty = source.slot(&mut state.faults).take().is_some();
        let is_well = !state.faults.any();
        drop(state);
        if was_faulty && is_well {
            self.tell(torrent, StorageDone::Recovered);
        }
    }

    fn report_lost(&self, torrent: &Arc<Torrent>, writing: &mut Writing) {
        let lost = writing
            .files
            .as_mut()
            .map(TorrentFiles::drain_lost)
            .unwrap_or_default();
        for piece in lost {
            self.lose(torrent, piece);
        }
        let Some(files) = &mut writing.files else {
            return;
        };
        for index in files.drain_changed() {
            self.spoil(torrent, files.layout(), index);
        }
    }

    fn tell_durable(&self, torrent: &Torrent, durable: Vec<PieceIndex>) {
        if !durable.is_empty() {
            self.tell(torrent, StorageDone::Durable(durable));
        }
    }
}

/// Takes the files of `pieces` as they are now, to be hashed; nothing is believed of those that were changed.
fn look_again(
    torrent: &Torrent,
    files: &mut TorrentFiles,
    pieces: &Bitfield,
) -> Result<(), StorageFault> {
    for index in files.changed_since(pieces) {
        let mut state = torrent.state();
        for piece in files.pieces_of(index) {
            state.verified.clear(piece);
        }
        drop(state);
        files.look_again(index)?;
    }
    Ok(())
}

fn memory_bytes_of(op: &Op) -> u64 {
    match op {
        Op::Write { blocks, .. } | Op::Spill { blocks, .. } => memory_bytes(blocks) as u64,
        _ => 0,
    }
}
