//! Reading a recording, and making the decisions in it again.

use std::io::{self, Read};

use riverrun_swarm::{InvalidEntry, InvalidHead, Replay, Shard, Step};
use thiserror::Error;

use super::{CHUNK_BYTES_MAX, MAGIC, seal};

/// Why a recording cannot be replayed, or no further.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// It is no recording.
    #[error("not a recording")]
    NotARecording,
    /// It was recorded by a program that records in another way.
    #[error(transparent)]
    Head(#[from] InvalidHead),
    /// It breaks off: the program was killed, the power went, or the file was not copied whole.
    #[error("the recording breaks off after {at_bytes} bytes")]
    BreaksOff {
        /// How much of it is whole.
        at_bytes: u64,
    },
    /// Its bytes are not those that were written.
    #[error("the recording is damaged behind byte {at_bytes}")]
    Damaged {
        /// Where the chunk begins that is damaged.
        at_bytes: u64,
    },
    /// What was written is no entry: by a program that records in another way under the same number.
    #[error("behind byte {at_bytes} of the recording: {source}")]
    Entry {
        /// Where its chunk begins.
        at_bytes: u64,
        /// What is wrong with it.
        source: InvalidEntry,
    },
    /// Reading failed.
    #[error("reading failed")]
    Read(#[source] io::Error),
}

/// A recording that is replayed, step by step: the decisions are made by this program, not by the one that recorded.
/// One chunk of the recording is in memory at a time.
pub struct Recording<R> {
    reader: R,
    replay: Replay,
    chunk: Vec<u8>,
    /// Where in the chunk the next entry begins.
    next: usize,
    /// Where in the file the chunk begins, and where it ends.
    chunk_at: u64,
    at: u64,
    has_ended: bool,
}

impl<R: Read> Recording<R> {
    /// Reads the beginning of a recording.
    pub fn open(mut reader: R) -> Result<Self, RecordingError> {
        let mut magic = [0; MAGIC.len()];
        match reader.read_exact(&mut magic) {
            Ok(()) if magic == *MAGIC => {}
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(RecordingError::Read(error));
            }
            _ => return Err(RecordingError::NotARecording),
        }
        let chunk_at = MAGIC.len() as u64;
        let mut at = chunk_at;
        let chunk = read_chunk(&mut reader, &mut at)?.ok_or(RecordingError::NotARecording)?;
        let mut rest = &chunk[..];
        let replay = Replay::begin(&mut rest)?;
        let next = chunk.len() - rest.len();
        Ok(Self {
            reader,
            replay,
            chunk,
            next,
            chunk_at,
            at,
            has_ended: false,
        })
    }

    /// The program that has recorded it, with its version.
    pub fn program(&self) -> &str {
        self.replay.program()
    }

    /// The decisions as they are after the steps so far.
    pub const fn shard(&self) -> &Shard {
        self.replay.shard()
    }

    /// Makes the decisions that follow from the next thing that was given; `None` at the end. After an error there is
    /// nothing more.
    pub fn step(&mut self) -> Result<Option<Step<'_>>, RecordingError> {
        while !self.has_ended && self.next == self.chunk.len() {
            self.chunk_at = self.at;
            // Whatever comes of it, until there is another.
            self.has_ended = true;
            if let Some(chunk) = read_chunk(&mut self.reader, &mut self.at)? {
                (self.chunk, self.next, self.has_ended) = (chunk, 0, false);
            }
        }
        if self.has_ended {
            return Ok(None);
        }
        let mut rest = &self.chunk[self.next..];
        let at_bytes = self.chunk_at;
        let step = self.replay.step(&mut rest);
        self.next = self.chunk.len() - rest.len();
        step.map_err(|source| RecordingError::Entry { at_bytes, source })
    }
}

/// The next chunk, `None` if the recording ends in order; `at` is where it begins, and then where it ends.
fn read_chunk(reader: &mut impl Read, at: &mut u64) -> Result<Option<Vec<u8>>, RecordingError> {
    let at_bytes = *at;
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => RecordingError::BreaksOff { at_bytes },
        _ => RecordingError::Read(error),
    };
    let mut len = [0; 4];
    reader.read_exact(&mut len).map_err(broken)?;
    let len = u32::from_le_bytes(len);
    if len == 0 {
        return Ok(None);
    }
    if len > CHUNK_BYTES_MAX {
        return Err(RecordingError::Damaged { at_bytes });
    }
    let mut sealed = [0; 8];
    reader.read_exact(&mut sealed).map_err(broken)?;
    let mut chunk = Vec::new();
    // Grows with what is there, not with what the length says.
    let read = reader.take(len.into()).read_to_end(&mut chunk);
    if read.map_err(broken)? < len as usize {
        return Err(RecordingError::BreaksOff { at_bytes });
    }
    if seal(&chunk) != sealed {
        return Err(RecordingError::Damaged { at_bytes });
    }
    *at += (size_of_val(&len) + sealed.len() + chunk.len()) as u64;
    Ok(Some(chunk))
}
