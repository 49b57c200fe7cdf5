//! What is transferred: files of known, incompressible bytes, and whether a copy equals them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use riverrun_base::Rng;

/// How the files of a payload are laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// One file whose last piece and last block are short.
    Single,
    /// Many files in directories: empty ones, tiny ones, several to a piece and several pieces to one, names with
    /// spaces and beyond ASCII.
    Many,
    /// Some 64 MiB in three files, none of which ends with a piece.
    Medium,
    /// One file of exactly 1 GiB.
    Large,
}

/// Files to publish, in a directory of their own.
#[derive(Debug)]
pub(crate) struct Payload {
    parent: PathBuf,
    name: String,
    len_bytes: u64,
}

impl Payload {
    /// Writes the files into `parent`. The same seed gives the same bytes.
    pub(crate) fn write(parent: &Path, shape: Shape, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let (name, files): (_, &[(&str, u64)]) = match shape {
            Shape::Single => ("single file.bin", &[("", 3_000_017)]),
            Shape::Medium => (
                "medium",
                &[
                    ("first.bin", 40_000_001),
                    ("second.bin", 7),
                    ("third.bin", 27_108_864),
                ],
            ),
            Shape::Large => ("large.bin", &[("", 1 << 30)]),
            Shape::Many => (
                "many",
                &[
                    ("README", 5),
                    ("a/empty", 0),
                    ("a/exactly one block", 16_384),
                    ("a/one more", 16_385),
                    ("b/deep/deeper/large.bin", 2_345_678),
                    ("b/deep/other.bin", 700_000),
                    ("b/ünïcödé 名前", 77_777),
                    ("z/also empty", 0),
                    ("z/last", 131_073),
                ],
            ),
        };
        for (path, len) in files {
            let path = parent.join(name).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            write_random(
                path.to_str().unwrap().trim_end_matches('/').as_ref(),
                *len,
                &mut rng,
            );
        }
        Self {
            parent: parent.to_owned(),
            name: name.to_owned(),
            len_bytes: files.iter().map(|(_, len)| len).sum(),
        }
    }

    /// Its length: that of all files together.
    pub(crate) const fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// The file or directory.
    pub(crate) fn path(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// The directory that it is in: what clients call the download directory.
    pub(crate) fn parent(&self) -> &Path {
        &self.parent
    }

    /// Fails unless `dir` holds the same files, byte for byte, and no others under the payload's name. Empty files
    /// do not count if the client does not make them.
    pub(crate) fn assert_copied_to(&self, dir: &Path, empty_files: bool) {
        let (mut ours, theirs) = (
            files_below(&self.path()),
            files_below(&dir.join(&self.name)),
        );
        ours.retain(|_, path| empty_files || fs::metadata(path).unwrap().len() > 0);
        let names = |files: &BTreeMap<PathBuf, PathBuf>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&theirs), "the files differ");
        for (name, path) in &ours {
            assert!(is_equal(path, &theirs[name]), "{} differs", name.display());
        }
    }
}

fn write_random(path: &Path, len: u64, rng: &mut Rng) {
    use std::io::Write as _;
    let mut file = fs::File::create(path).unwrap();
    let mut chunk = vec![0; 1 << 20];
    let mut left = usize::try_from(len).unwrap();
    while left > 0 {
        let part = left.min(chunk.len());
        rng.fill(&mut chunk[..part]);
        file.write_all(&chunk[..part]).unwrap();
        left -= part;
    }
}

fn files_below(root: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.exists() {
            found.insert(path.strip_prefix(root).unwrap().to_owned(), path);
        }
    }
    found
}

fn is_equal(first: &Path, second: &Path) -> bool {
    use std::io::Read as _;
    if fs::metadata(first).unwrap().len() != fs::metadata(second).unwrap().len() {
        return false;
    }
    let (mut first, mut second) = (
        fs::File::open(first).unwrap(),
        fs::File::open(second).unwrap(),
    );
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let count = first.read(&mut a).unwrap();
        if count == 0 {
            return true;
        }
        second.read_exact(&mut b[..count]).unwrap();
        if a[..count] != b[..count] {
            return false;
        }
    }
}
