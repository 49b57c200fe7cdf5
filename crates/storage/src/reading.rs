//! Threads that read blocks for connections.

use std::io::{self, IoSliceMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use riverrun_base::{BlockMut, BlockSpan, Blocks as _, FileIndex, PieceIndex};
use riverrun_metainfo::Layout;
use riverrun_swarm::{ConnKey, StorageDone, StorageFault};

use crate::backend::{Access, FileStat, RawFile};
use crate::disk::{Completion, Shared, read_failed};
use crate::fault::show;
use crate::span::{ReadError, read_span};
use crate::torrent::{Op, Torrent};

/// Blocks to be read for one connection, in a row in one piece.
pub(crate) struct ReadTask {
    pub(crate) torrent: Arc<Torrent>,
    pub(crate) conn: ConnKey,
    /// At least one.
    pub(crate) spans: Vec<BlockSpan>,
}

/// The most blocks that are read by one call. With more, the answer to the first would wait.
const RUN_BLOCKS_MAX: usize = 32;

impl ReadTask {
    pub(crate) fn new(torrent: &Arc<Torrent>, conn: ConnKey, span: BlockSpan) -> Self {
        Self {
            torrent: torrent.clone(),
            conn,
            spans: vec![span],
        }
    }

    /// Takes a block in if it is the next of this row.
    pub(crate) fn extend(
        &mut self,
        torrent: &Arc<Torrent>,
        conn: ConnKey,
        span: BlockSpan,
    ) -> bool {
        let is_next = self.spans.last().is_some_and(|last| {
            last.piece == span.piece && last.offset.checked_add(last.len) == Some(span.offset)
        });
        let fits = is_next
            && self.conn == conn
            && self.spans.len() < RUN_BLOCKS_MAX
            && Arc::ptr_eq(&self.torrent, torrent);
        if fits {
            self.spans.push(span);
        }
        fits
    }
}

/// Where readers wait for memory.
#[derive(Default)]
pub(crate) struct Room {
    is_closed: Mutex<bool>,
    told: Condvar,
}

/// How long to wait before looking for memory again, should no one tell.
const ROOM_LOOK_INTERVAL: Duration = Duration::from_millis(100);

impl Room {
    /// There may be memory now.
    pub(crate) fn tell(&self) {
        self.told.notify_all();
    }

    /// Nobody waits any more.
    pub(crate) fn close(&self) {
        *self.guard() = true;
        self.told.notify_all();
    }

    /// Waits; false if the end has come.
    fn wait(&self) -> bool {
        let guard = self.guard();
        if *guard {
            return false;
        }
        let waited = self.told.wait_timeout(guard, ROOM_LOOK_INTERVAL);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn guard(&self) -> MutexGuard<'_, bool> {
        self.is_closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Reads until the lane is closed.
    pub(crate) fn read_loop(&self) {
        while let Some(task) = self.reading.pop() {
            self.read_row(&task);
        }
    }

    pub(crate) fn read_row(&self, task: &ReadTask) {
        let Some(layout) = task.torrent.state().layout.clone() else {
            return;
        };
        let mut spans = &task.spans[..];
        while let Some((first, rest)) = spans.split_first() {
            let Some(block) = self.wait_for_block(first.len) else {
                return;
            };
            // As many more as there is memory for now.
            let more = rest
                .iter()
                .map_while(|span| self.read_blocks.allocate(span.len as usize));
            let mut blocks: Vec<BlockMut> = std::iter::once(block).chain(more).collect();
            let (now, later) = spans.split_at(blocks.len());
            let read = self.read_run(task, &layout, now, &mut blocks);
            let read = now.iter().zip(blocks).zip(read);
            let answers =
                read.map(|((span, block), read)| self.answer(task, &layout, *span, block, read));
            self.emit(answers.collect());
            spans = later;
        }
    }

    /// Reads blocks that lie in a row: by one call if they are of one file.
    fn read_run(
        &self,
        task: &ReadTask,
        layout: &Layout,
        spans: &[BlockSpan],
        blocks: &mut [BlockMut],
    ) -> Vec<Result<(), ReadError>> {
        let mut open = |index| self.open(&task.torrent, layout, index);
        if spans.len() > 1
            && read_in_a_row(layout, spans, blocks, &mut open)
            && self.confirm_all(&task.torrent, layout, spans).is_ok()
        {
            return spans.iter().map(|_| Ok(())).collect();
        }
        let read = |(span, block): (&BlockSpan, &mut BlockMut)| {
            read_span(layout, *span, block, &mut open)?;
            self.confirm_all(&task.torrent, layout, &[*span])
        };
        spans.iter().zip(blocks).map(read).collect()
    }

    fn answer(
        &self,
        task: &ReadTask,
        layout: &Layout,
        span: BlockSpan,
        block: BlockMut,
        read: Result<(), ReadError>,
    ) -> Completion {
        let ReadTask { torrent, conn, .. } = task;
        let key = torrent.site.torrent;
        match read {
            // It may have been withdrawn while it was read.
            Ok(()) if torrent.state().verified.has(span.piece) => Completion::Serve {
                conn: *conn,
                span,
                block: block.freeze(),
            },
            Ok(()) => read_failed(key, *conn, span, withdrawn()),
            Err(error) => {
                let fault = self.blame(torrent, layout, span.piece, &error);
                read_failed(key, *conn, span, fault)
            }
        }
    }

    /// What a failed read means. A piece that is not on the disk any more is lost; a disk that is not there will be
    /// again.
    pub(crate) fn blame(
        &self,
        torrent: &Arc<Torrent>,
        layout: &Layout,
        piece: PieceIndex,
        (index, error): &ReadError,
    ) -> StorageFault {
        let site = &torrent.site;
        self.ground.readers.forget((site.torrent, *index));
        if !matches!(self.ground.backend.device(&site.root), Ok(Some(_))) {
            return StorageFault::VolumeMissing {
                path: show(&site.root),
            };
        }
        if matches!(self.is_as_left(torrent, layout, *index), Ok(false)) {
            return self.spoil(torrent, layout, *index);
        }
        if is_lasting(error) {
            self.lose(torrent, piece);
        }
        site.place(&layout.files()[index.as_usize()])
            .fault(error, 0)
    }

    /// A verified piece is not on the disk any more.
    pub(crate) fn lose(&self, torrent: &Arc<Torrent>, piece: PieceIndex) {
        let mut state = torrent.state();
        if !state.verified.clear(piece) {
            return;
        }
        let schedule = state.agenda.push(Op::Forget(piece));
        drop(state);
        let done = StorageDone::Checked { piece, ok: false };
        self.emit(vec![Completion::Done {
            torrent: torrent.site.torrent,
            done,
        }]);
        self.schedule(torrent, schedule);
    }

    pub(crate) fn open(
        &self,
        torrent: &Torrent,
        layout: &Layout,
        index: FileIndex,
    ) -> io::Result<Arc<dyn RawFile>> {
        let site = &torrent.site;
        let place = site.place(&layout.files()[index.as_usize()]);
        let open = || self.ground.backend.open(place, Access::Read);
        self.ground.readers.open((site.torrent, index), open)
    }

    /// Whether a file is as it was left. What was read of it before is true then.
    fn is_as_left(&self, torrent: &Torrent, layout: &Layout, index: FileIndex) -> io::Result<bool> {
        let open = || self.open(torrent, layout, index)?.stat();
        let look = || match open()? {
            // Only open any more: another file has its name now, or none.
            FileStat { links: 0, .. } => {
                self.ground.readers.forget((torrent.site.torrent, index));
                open()
            }
            stat => Ok(stat),
        };
        torrent.known.is_as_left(index, look)
    }

    /// Sees that all files with a part in `spans` are as they were left.
    pub(crate) fn confirm_all(
        &self,
        torrent: &Torrent,
        layout: &Layout,
        spans: &[BlockSpan],
    ) -> Result<(), ReadError> {
        let mut last = None;
        for slice in spans.iter().flat_map(|span| layout.slices(*span)) {
            let is_pad = layout.files()[slice.file.as_usize()].is_pad();
            if is_pad || last.replace(slice.file) == Some(slice.file) {
                continue;
            }
            match self.is_as_left(torrent, layout, slice.file) {
                Ok(true) => {}
                Ok(false) => return Err((slice.file, io::Error::other(CHANGED))),
                Err(error) => return Err((slice.file, error)),
            }
        }
        Ok(())
    }

    /// Somebody else has changed a file: nothing of it is served or claimed any more, until it is checked.
    pub(crate) fn spoil(
        &self,
        torrent: &Arc<Torrent>,
        layout: &Layout,
        index: FileIndex,
    ) -> StorageFault {
        let site = &torrent.site;
        let path = show(&site.place(&layout.files()[index.as_usize()]).full());
        if torrent.known.spoil(index) {
            self.ground.readers.forget((site.torrent, index));
            let mut state = torrent.state();
            for piece in layout.pieces_of(index) {
                state.verified.clear(PieceIndex(piece));
            }
            let schedule = state.agenda.push_now(Op::Disown(index));
            drop(state);
            let file = index;
            let path = path.clone();
            self.tell(torrent, StorageDone::Changed { file, path });
            self.schedule(torrent, schedule);
        }
        StorageFault::Changed { path }
    }

    /// Memory for a block, when there is some; `None` if the end comes first.
    fn wait_for_block(&self, len: u32) -> Option<BlockMut> {
        loop {
            if let Some(block) = self.read_blocks.allocate(len as usize) {
                return Some(block);
            }
            if !self.room.wait() {
                return None;
            }
        }
    }
}

/// Reads blocks that lie in a row if they are of one file; whether that was done. Whatever is not as it should be is
/// left to reads of single blocks, which say what it is.
fn read_in_a_row(
    layout: &Layout,
    spans: &[BlockSpan],
    blocks: &mut [BlockMut],
    open: &mut dyn FnMut(FileIndex) -> io::Result<Arc<dyn RawFile>>,
) -> bool {
    let row = BlockSpan {
        len: spans.iter().map(|span| span.len).sum(),
        ..spans[0]
    };
    let mut slices = layout.slices(row);
    let (Some(slice), None) = (slices.next(), slices.next()) else {
        return false;
    };
    if layout.files()[slice.file.as_usize()].is_pad() {
        return false;
    }
    let mut parts: Vec<IoSliceMut<'_>> = blocks
        .iter_mut()
        .map(|block| IoSliceMut::new(block))
        .collect();
    let read = open(slice.file).and_then(|file| file.read_vectored_at(&mut parts, slice.offset));
    read.is_ok_and(|count| count == row.len as usize)
}

/// What is said of a file that is not as it was left.
const CHANGED: &str = "another program has changed the file";

/// Whether the error is of the data, not of the moment.
fn is_lasting(error: &io::Error) -> bool {
    let is_data = rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::IO);
    is_data
        || matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound | io::ErrorKind::InvalidInput
        )
}

fn withdrawn() -> StorageFault {
    StorageFault::Io {
        path: String::new(),
        message: "the piece was found wrong".to_owned(),
    }
}
