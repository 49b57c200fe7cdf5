//! Threads that read blocks for connections.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use riverrun_base::{BlockMut, BlockSpan, Blocks as _, FileIndex, PieceIndex};
use riverrun_metainfo::Layout;
use riverrun_swarm::{ConnKey, StorageDone, StorageFault};

use crate::backend::{Place, RawFile};
use crate::disk::{Completion, Shared, read_failed};
use crate::fault::show;
use crate::span::{ReadError, read_span};
use crate::torrent::{Op, Torrent};

/// A block to be read.
pub(crate) struct ReadTask {
    pub(crate) torrent: Arc<Torrent>,
    pub(crate) conn: ConnKey,
    pub(crate) span: BlockSpan,
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
            self.read_block(&task);
        }
    }

    pub(crate) fn read_block(&self, task: &ReadTask) {
        let ReadTask {
            torrent,
            conn,
            span,
        } = task;
        let Some(layout) = torrent.state().layout.clone() else {
            return;
        };
        let Some(mut bytes) = self.wait_for_block(span.len) else {
            return;
        };
        let mut open = |index| self.open(torrent, &layout, index);
        let completion = match read_span(&layout, *span, &mut bytes, &mut open) {
            // It may have been withdrawn while it was read.
            Ok(()) if torrent.state().verified.has(span.piece) => Completion::Serve {
                conn: *conn,
                span: *span,
                block: bytes.freeze(),
            },
            Ok(()) => read_failed(torrent.site.torrent, *conn, *span, withdrawn()),
            Err(error) => {
                let fault = self.blame(torrent, &layout, span.piece, &error);
                read_failed(torrent.site.torrent, *conn, *span, fault)
            }
        };
        self.emit(vec![completion]);
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
        let path = layout.files()[index.as_usize()].path.as_str();
        self.ground.readers.forget_file(site.torrent, *index);
        if !matches!(self.ground.backend.device(&site.root), Ok(Some(_))) {
            return StorageFault::VolumeMissing {
                path: show(&site.root),
            };
        }
        if is_lasting(error) {
            self.lose(torrent, piece);
        }
        Place {
            root: &site.root,
            path,
        }
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
        let path = layout.files()[index.as_usize()].path.as_str();
        let place = Place {
            root: &torrent.site.root,
            path,
        };
        self.ground
            .readers
            .open(&*self.ground.backend, torrent.site.torrent, index, place)
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
