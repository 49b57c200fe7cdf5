//! The folder that is shared when none is given: always the same bytes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use riverrun_base::{ByteSize, Rng};

use crate::failure::{Failure, Outcome};

/// The name of the folder, and of its torrent.
const NAME: &str = "riverrun-demo";
const TEXT: &str = "\
This folder was made by `riverrun demo`, to be handed from one peer to all others.
The other files hold random bytes, always the same, so that no piece is like another;
one file is empty, since folders have such files.
";
/// How much is written at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Makes the folder in `dir`, with `size` bytes in all. Can be dropped at any time.
pub(crate) async fn make(dir: &Path, ByteSize(size): ByteSize) -> Outcome<PathBuf> {
    let root = dir.join(NAME);
    let text = TEXT.len().min(usize::try_from(size).unwrap_or(usize::MAX));
    let rest = size - text as u64;
    // Files of different lengths, so that pieces and ends of files do not fall together.
    let (half, third) = (rest / 2, rest / 3);
    let files = [
        ("film.bin", half),
        ("music/song.bin", third),
        ("music/other.bin", rest - half - third),
    ];
    write(&root.join("README.txt"), &TEXT.as_bytes()[..text])?;
    write(&root.join("empty"), b"")?;
    for (seed, (name, len)) in (1..).zip(files) {
        fill(&root.join(name), len, Rng::new(seed)).await?;
    }
    Ok(root)
}

fn write(path: &Path, bytes: &[u8]) -> Outcome {
    let written = create(path).and_then(|mut file| file.write_all(bytes));
    written.map_err(|e| Failure::io(path, e))
}

fn create(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    File::create(path)
}

/// Writes `len` random bytes; between chunks, others get their turn.
async fn fill(path: &Path, len: u64, mut rng: Rng) -> Outcome {
    let failed = |e| Failure::io(path, e);
    let mut file = BufWriter::new(create(path).map_err(failed)?);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = len;
    while left > 0 {
        let next = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        rng.fill(&mut chunk[..next]);
        file.write_all(&chunk[..next]).map_err(failed)?;
        left -= next as u64;
        tokio::task::yield_now().await;
    }
    file.flush().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_folder_has_the_size_that_was_asked_for() {
        for size in [1, 100, 5_000, 3_000_001] {
            let dir = tempfile::tempdir().unwrap();
            let root = make(dir.path(), ByteSize(size)).await.unwrap();
            let len = |name: &str| fs::metadata(root.join(name)).unwrap().len();
            let names = [
                "README.txt",
                "film.bin",
                "music/song.bin",
                "music/other.bin",
            ];
            assert_eq!(names.map(len).iter().sum::<u64>(), size);
            assert_eq!(len("empty"), 0);
        }
    }
}
