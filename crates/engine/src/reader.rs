//! Reading a file of a torrent that is still downloading.

use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use riverrun_base::{BLOCK_LEN, Block, BlockSpan, FileIndex, PieceIndex, Time};
use riverrun_metainfo::{FileKind, Info};
use riverrun_swarm::{StorageJob, TorrentCommand};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};

use crate::driver::shard::ShardMessage;
use crate::error::FileError;
use crate::torrent::TorrentHandle;

/// How many pieces past the one being read are asked for ahead of all others.
const READ_AHEAD_PIECES: u32 = 4;

/// A block on its way, and where in the file it begins.
type Fetching = dyn Future<Output = io::Result<(u64, Block)>> + Send;

/// A file of a torrent, readable from the start of the download: what is not there yet is waited for, and
/// asked of peers before everything else.
///
/// Clones read on their own from the same place. Dropping a read that waits loses nothing.
pub struct FileReader {
    torrent: TorrentHandle,
    info: Arc<Info>,
    file: FileIndex,
    /// Where the file begins among the torrent's pieces, laid end to end.
    file_offset: u64,
    len: u64,
    position: u64,
    /// The bytes under the position, once read.
    current: Option<(u64, Block)>,
    fetching: Option<Pin<Box<Fetching>>>,
}

impl FileReader {
    pub(crate) fn new(
        torrent: TorrentHandle,
        info: Arc<Info>,
        file: FileIndex,
    ) -> Result<Self, FileError> {
        let found = info
            .layout()
            .file(file)
            .filter(|file| file.kind == FileKind::Regular);
        let found = found.ok_or(FileError::NoSuchFile(file.0))?;
        let (file_offset, len) = (found.offset, found.len);
        Ok(Self {
            torrent,
            info,
            file,
            file_offset,
            len,
            position: 0,
            current: None,
            fetching: None,
        })
    }

    /// The file's length in bytes.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file is empty.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the next read begins, in bytes.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Which file of the torrent this is.
    pub const fn file(&self) -> FileIndex {
        self.file
    }

    /// Moves to `position`; past the end, reads give nothing.
    fn move_to(&mut self, position: u64) {
        if position != self.position {
            self.position = position;
            self.fetching = None;
        }
    }

    /// The rest of the current block from the position on, if it is the right one.
    fn at_hand(&self) -> Option<&[u8]> {
        let (start, block) = self.current.as_ref()?;
        let skip = usize::try_from(self.position.checked_sub(*start)?).ok()?;
        let rest = usize::try_from(self.len - self.position).unwrap_or(usize::MAX);
        let bytes = block.get(skip..)?;
        let bytes = &bytes[..bytes.len().min(rest)];
        (!bytes.is_empty()).then_some(bytes)
    }
}

impl Clone for FileReader {
    fn clone(&self) -> Self {
        Self {
            torrent: self.torrent.clone(),
            info: self.info.clone(),
            file: self.file,
            file_offset: self.file_offset,
            len: self.len,
            position: self.position,
            current: self.current.clone(),
            fetching: None,
        }
    }
}

impl std::fmt::Debug for FileReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "FileReader({} at {} of {})",
            self.file, self.position, self.len
        )
    }
}

impl AsyncRead for FileReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.position >= self.len || out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if let Some(bytes) = self.at_hand() {
                let count = bytes.len().min(out.remaining());
                out.put_slice(&bytes[..count]);
                self.position += count as u64;
                return Poll::Ready(Ok(()));
            }
            let start = self.file_offset + self.position;
            let (torrent, info, file_offset) =
                (self.torrent.clone(), self.info.clone(), self.file_offset);
            let fetching = self
                .fetching
                .get_or_insert_with(|| Box::pin(fetch(torrent, info, start, file_offset)));
            let result = ready!(fetching.as_mut().poll(context));
            self.fetching = None;
            self.current = Some(result?);
        }
    }
}

impl AsyncSeek for FileReader {
    fn start_seek(mut self: Pin<&mut Self>, target: SeekFrom) -> io::Result<()> {
        let position = match target {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        let before_start = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "seek before the start of the file",
            )
        };
        let position = position.ok_or_else(before_start)?;
        self.move_to(position);
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position))
    }
}

/// Waits for the piece at `start`, counted from the torrent's first piece, and reads the block there. Gives the
/// block with the offset in the file at which it begins.
async fn fetch(
    torrent: TorrentHandle,
    info: Arc<Info>,
    start: u64,
    file_offset: u64,
) -> io::Result<(u64, Block)> {
    let (piece, offset) = locate(&info, start)?;
    wait_for(&torrent, &info, piece).await?;
    let rest = info.layout().piece_len(piece).saturating_sub(offset);
    let span = BlockSpan {
        piece,
        offset,
        len: rest.min(BLOCK_LEN),
    };
    let (conn, answer) = torrent.routes.open_read();
    let job = StorageJob::Read { conn, span };
    let message = ShardMessage::Read {
        torrent: torrent.key(),
        job,
    };
    torrent.shard.send(message).await.map_err(|_| stopped())?;
    let block = answer
        .await
        .map_err(|_| stopped())?
        .map_err(io::Error::other)?;
    Ok((start - file_offset, block))
}

fn locate(info: &Info, start: u64) -> io::Result<(PieceIndex, u32)> {
    let piece_len = u64::from(info.layout().nominal_piece_len());
    let fits = |value: u64| u32::try_from(value).map_err(io::Error::other);
    Ok((
        PieceIndex(fits(start / piece_len)?),
        fits(start % piece_len)?,
    ))
}

/// Waits until `piece` is verified; asks for it, and for some after it, before all others.
async fn wait_for(torrent: &TorrentHandle, info: &Info, piece: PieceIndex) -> io::Result<()> {
    if torrent.has_piece(piece) {
        return Ok(());
    }
    let end = info
        .layout()
        .piece_count()
        .min(piece.0.saturating_add(READ_AHEAD_PIECES));
    for (order, index) in (piece.0..end).enumerate() {
        // Any time in the past is "now"; later pieces are wanted a little later.
        let at = Time::from_millis(order as u64);
        let deadline = TorrentCommand::Deadline {
            piece: PieceIndex(index),
            at,
        };
        torrent.command(deadline).await.map_err(|_| stopped())?;
    }
    tokio::select! {
        () = torrent.shared.wait_piece(piece) => Ok(()),
        () = torrent.shard.closed() => Err(stopped()),
    }
}

fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the engine has stopped")
}
