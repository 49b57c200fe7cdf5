//! The thread that writes a recording.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use tokio::sync::watch;

use super::{CHUNK_BYTES_MAX, MAGIC, seal};

/// How many bytes wait for the disk. A disk that is slower for so long ends the recording: the transfer does not wait
/// for it, and what has a gap cannot be replayed.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Where a recording goes. Dropping it ends the recording in order, unless something could not be written.
#[derive(Debug)]
pub(crate) struct RecordWriter {
    /// An empty one is the end.
    chunks: mpsc::Sender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    has_gap: bool,
}

/// Tells when all of a recording is written.
#[derive(Clone, Debug)]
pub(crate) struct Written(watch::Receiver<()>);

impl Written {
    /// Returns when nothing more will be written.
    pub(crate) async fn wait(mut self) {
        // Nothing is ever sent: the other end is dropped.
        let _ = self.0.changed().await;
    }
}

impl RecordWriter {
    /// A new file. One that is there already is an error.
    pub(crate) fn create(path: &Path) -> io::Result<(Self, Written)> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        // It says who was spoken to about what.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        let (chunks, taken) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (writing, written) = watch::channel(());
        let (name, counter) = (path.display().to_string(), waiting.clone());
        let write = move || {
            if let Err(error) = write_all(file, &taken, &counter) {
                tracing::warn!("{name}: {error}: the recording ends here");
            }
            drop(writing);
        };
        let builder = thread::Builder::new().name("riverrun-record".to_owned());
        builder.spawn(write)?;
        let writer = Self {
            chunks,
            waiting,
            has_gap: false,
        };
        Ok((writer, Written(written)))
    }

    /// Has a chunk written; `false` if the recording has ended because it could not be.
    pub(crate) fn write(&mut self, chunk: Vec<u8>) -> bool {
        let len = chunk.len();
        if self.waiting.fetch_add(len, Ordering::Relaxed) + len > WAITING_BYTES_MAX.max(len) {
            tracing::warn!("the disk is too slow for the recording, which ends here");
            self.has_gap = true;
        }
        !self.has_gap && self.chunks.send(chunk).is_ok()
    }
}

impl Drop for RecordWriter {
    fn drop(&mut self) {
        if !self.has_gap {
            // If the thread is gone, it has said why.
            let _ = self.chunks.send(Vec::new());
        }
    }
}

fn write_all(
    file: File,
    chunks: &mpsc::Receiver<Vec<u8>>,
    waiting: &AtomicUsize,
) -> io::Result<()> {
    let mut file = BufWriter::new(file);
    file.write_all(MAGIC)?;
    loop {
        let mut next = chunks.try_recv().ok();
        if next.is_none() {
            // What is known so far survives the end of this process.
            file.flush()?;
            next = chunks.recv().ok();
        }
        let Some(chunk) = next else { return Ok(()) };
        if chunk.is_empty() {
            file.write_all(&0_u32.to_le_bytes())?;
            return file.flush();
        }
        write_chunk(&mut file, &chunk)?;
        waiting.fetch_sub(chunk.len(), Ordering::Relaxed);
    }
}

fn write_chunk(file: &mut impl Write, chunk: &[u8]) -> io::Result<()> {
    let len = u32::try_from(chunk.len()).ok();
    let len = len.filter(|len| *len <= CHUNK_BYTES_MAX);
    let len = len.ok_or_else(|| io::Error::other("too much happened at once"))?;
    file.write_all(&len.to_le_bytes())?;
    file.write_all(&seal(chunk))?;
    file.write_all(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in the file once all is written; `stuck` bytes wait for the disk already.
    async fn written(stuck: usize) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recording");
        let (mut writer, written) = RecordWriter::create(&path).unwrap();
        writer.waiting.store(stuck, Ordering::Relaxed);
        assert_eq!(writer.write(b"chunk".to_vec()), stuck == 0);
        drop(writer);
        written.wait().await;
        std::fs::read(path).unwrap()
    }

    #[tokio::test]
    async fn an_end_is_written_unless_something_is_missing() {
        let seal = seal(b"chunk");
        let whole = [&MAGIC[..], &5_u32.to_le_bytes(), &seal, b"chunk", &[0; 4]].concat();
        assert_eq!(written(0).await, whole);
        assert_eq!(written(WAITING_BYTES_MAX).await, MAGIC);
    }
}
