//! Two files with one path: the later one is renamed.

use std::collections::BTreeSet;

use super::InfoError;
use crate::{File, SafePath};

/// How often a new name may be taken already: more is an attack (as in libtorrent, which counts
/// alike).
const COLLISIONS_MAX: u32 = 500;

/// Renames files until no two have the same path, and none has that of a directory: `name.ext`
/// becomes `name.1.ext`. Padding is never stored, so its names do not matter.
pub(crate) fn rename(files: &mut [File]) -> Result<(), InfoError> {
    let colliding = colliding(files);
    if colliding.is_empty() {
        return Ok(());
    }
    let mut taken: BTreeSet<SafePath> = BTreeSet::new();
    let mut collisions = 0;
    let mut renamed = Vec::with_capacity(colliding.len());
    let paths = Paths::of(files);
    for index in colliding {
        let path = &files[index].path;
        let mut n = 0;
        let free = loop {
            n += 1;
            let candidate = path.numbered(n);
            if !paths.has(candidate.as_str()) && !taken.contains(&candidate) {
                break candidate;
            }
            collisions += 1;
            if collisions > COLLISIONS_MAX {
                return Err(InfoError::TooManyDuplicates(COLLISIONS_MAX));
            }
        };
        taken.insert(free.clone());
        renamed.push((index, free));
    }
    for (index, path) in renamed {
        let file = &mut files[index];
        let original = || {
            file.path
                .components()
                .map(|element| element.as_bytes().into())
                .collect()
        };
        file.raw_path.get_or_insert_with(original);
        file.path = path;
    }
    Ok(())
}

/// The files that need a new name, in order.
fn colliding(files: &[File]) -> Vec<usize> {
    let paths = Paths::of(files);
    if paths.is_free_of_collisions() {
        return Vec::new();
    }
    let mut first = BTreeSet::new();
    let collides = |index: &usize| {
        let path = files[*index].path.as_str();
        paths.has_directory(path) || (paths.is_shared(path) && !first.insert(path))
    };
    (0..files.len())
        .filter(|index| !files[*index].is_pad())
        .filter(collides)
        .collect()
}

/// The paths of all stored files, in such an order that what is in a directory follows its name
/// directly.
struct Paths<'a>(Vec<&'a str>);

impl<'a> Paths<'a> {
    fn of(files: &'a [File]) -> Self {
        let mut paths: Vec<_> = files
            .iter()
            .filter(|file| !file.is_pad())
            .map(|file| file.path.as_str())
            .collect();
        paths.sort_unstable_by(|a, b| order(a).cmp(order(b)));
        Self(paths)
    }

    /// Whether no two are the same, and none is a directory: whatever collides with a path follows it directly.
    fn is_free_of_collisions(&self) -> bool {
        let collides = |pair: &[&str]| pair[0] == pair[1] || is_inside(pair[1], pair[0]);
        !self.0.windows(2).any(collides)
    }

    /// The paths from `path` on.
    fn from(&self, path: &str) -> &[&'a str] {
        &self.0[self.0.partition_point(|other| order(other).lt(order(path)))..]
    }

    fn has(&self, path: &str) -> bool {
        self.from(path)
            .first()
            .is_some_and(|found| *found == path || is_inside(found, path))
    }

    fn is_shared(&self, path: &str) -> bool {
        self.from(path).get(1).is_some_and(|found| *found == path)
    }

    fn has_directory(&self, path: &str) -> bool {
        let rest = self.from(path);
        let after = rest.partition_point(|other| *other == path);
        rest.get(after).is_some_and(|found| is_inside(found, path))
    }
}

/// The bytes of a path, separators before all else: none of them occurs in an element.
fn order(path: &str) -> impl Iterator<Item = u8> + '_ {
    path.bytes().map(|byte| if byte == b'/' { 0 } else { byte })
}

fn is_inside(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(paths: &[&str], expected: &[&str]) {
        let path =
            |text: &&str| SafePath::from_elements(text.split('/').map(str::as_bytes)).unwrap();
        let mut files: Vec<_> = paths.iter().map(|text| File::new(path(text), 1)).collect();
        rename(&mut files).unwrap();
        assert_eq!(
            files
                .iter()
                .map(|file| file.path.as_str())
                .collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn the_later_of_two_is_renamed() {
        check(
            &["t/foo/bar.txt", "t/foo/bar.txt"],
            &["t/foo/bar.txt", "t/foo/bar.1.txt"],
        );
        check(&["t/_", "t/_", "t/_"], &["t/_", "t/_.1", "t/_.2"]);
        check(&["t/a", "t/b"], &["t/a", "t/b"]);
        check(&["t/A", "t/a"], &["t/A", "t/a"]);
    }

    #[test]
    fn directories_keep_their_names() {
        check(&["t/a", "t/a.b", "t/a/b"], &["t/a.1", "t/a.b", "t/a/b"]);
        check(&["t/a", "t/a", "t/a/b/c"], &["t/a.1", "t/a.2", "t/a/b/c"]);
    }

    #[test]
    fn a_new_name_is_not_taken() {
        check(
            &["t/a", "t/a", "t/a.1", "t/a.2/x"],
            &["t/a", "t/a.3", "t/a.1", "t/a.2/x"],
        );
    }

    #[test]
    fn many_duplicates_are_an_attack() {
        let file = File::new(SafePath::from_elements([&b"t"[..], b"a"]).unwrap(), 1);
        assert!(rename(&mut vec![file.clone(); 33]).is_ok());
        assert_eq!(
            rename(&mut vec![file; 34]),
            Err(InfoError::TooManyDuplicates(500))
        );
    }
}
