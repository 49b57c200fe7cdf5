//! Symbolic links of a torrent: their targets must be in the torrent too (BEP 47).

use std::collections::{BTreeMap, BTreeSet};

use crate::{File, FileKind};

/// How many links may lie on the way of one link to its target: the kernel's own limit.
const TRAVERSALS_MAX: usize = 40;

/// The files and directories of the torrent, as paths below its directory.
struct Tree<'a> {
    files: BTreeMap<&'a str, IsLink>,
    /// The directories that have files, sorted.
    directories: Vec<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct IsLink(bool);

/// Makes the target of each symlink a path like that of other files, the torrent's name first.
/// Targets are relative to the torrent's directory; ones relative to the link are understood too. A
/// link whose target is not in the torrent is made to point to itself.
pub(crate) fn resolve(files: &mut [File]) {
    if !files
        .iter()
        .any(|file| matches!(file.kind, FileKind::Symlink(_)))
    {
        return;
    }
    let targets = Tree::of(files).targets(files);
    for (file, target) in files.iter_mut().zip(targets) {
        if matches!(file.kind, FileKind::Symlink(_)) {
            let target = target.map_or_else(
                || file.path.clone(),
                |target| file.path.with_below_root(&target),
            );
            file.kind = FileKind::Symlink(target);
        }
    }
}

impl<'a> Tree<'a> {
    fn of(files: &'a [File]) -> Self {
        let below = |file: &'a File| {
            let path = file.path.below_root()?;
            Some((path, IsLink(matches!(file.kind, FileKind::Symlink(_)))))
        };
        let files: BTreeMap<_, _> = files.iter().filter_map(below).collect();
        let parents: BTreeSet<_> = files.keys().filter_map(|path| parent(path)).collect();
        Self {
            files,
            directories: parents.into_iter().collect(),
        }
    }

    fn is_directory(&self, path: &str) -> bool {
        let starts_with = |candidate: &str, prefix: &str| {
            let at = self
                .directories
                .partition_point(|directory| *directory < candidate);
            self.directories
                .get(at)
                .is_some_and(|found| found.starts_with(prefix))
        };
        self.directories.binary_search(&path).is_ok() || {
            let prefix = format!("{path}/");
            starts_with(&prefix, &prefix)
        }
    }

    /// The target of each file that is a valid link.
    fn targets(&self, files: &[File]) -> Vec<Option<String>> {
        // Links that may stand for a directory, and where they lead.
        let mut links = BTreeMap::new();
        let direct: Vec<_> = files
            .iter()
            .map(|file| self.direct_target(file, &mut links))
            .collect();
        let indirect = |file: &File| match &file.kind {
            FileKind::Symlink(target) => self
                .leads_inside(target.as_str(), &links)
                .then(|| target.to_string()),
            _ => None,
        };
        direct
            .into_iter()
            .zip(files)
            .map(|(target, file)| target.or_else(|| indirect(file)))
            .collect()
    }

    /// The target of a link without other links on the way.
    fn direct_target(&self, file: &File, links: &mut BTreeMap<String, String>) -> Option<String> {
        let FileKind::Symlink(target) = &file.kind else {
            return None;
        };
        let own = file.path.below_root()?;
        let target = target.as_str();
        let relative = parent(own).map(|parent| format!("{parent}/{target}"));
        let exists = |path: &&str| self.files.contains_key(*path) || self.is_directory(path);
        let found = [Some(target), relative.as_deref()]
            .into_iter()
            .flatten()
            .find(exists);
        if self.files.get(found.unwrap_or(target)) != Some(&IsLink(false)) {
            links.insert(own.to_owned(), found.unwrap_or(target).to_owned());
        }
        found.map(str::to_owned)
    }

    /// Whether `target` exists once links on the way are followed.
    fn leads_inside(&self, target: &str, links: &BTreeMap<String, String>) -> bool {
        let mut target = target.to_owned();
        for _ in 0..TRAVERSALS_MAX {
            let ends = target.match_indices('/').map(|(end, _)| end);
            let Some(end) = ends
                .into_iter()
                .find(|end| !self.is_directory(&target[..*end]))
            else {
                return self.files.contains_key(target.as_str()) || self.is_directory(&target);
            };
            let Some(link) = links.get(&target[..end]) else {
                return false;
            };
            target = format!("{link}{}", &target[end..]);
        }
        false
    }
}

fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SafePath;

    fn path(text: &str) -> SafePath {
        SafePath::from_elements(text.split('/').map(str::as_bytes)).unwrap()
    }

    fn file(at: &str) -> File {
        File::new(path(at), 1)
    }

    fn link(at: &str, target: &str) -> File {
        File {
            kind: FileKind::Symlink(path(target)),
            ..File::new(path(at), 0)
        }
    }

    fn check(mut files: Vec<File>, expected: &[&str]) {
        resolve(&mut files);
        let targets = files.iter().filter_map(|file| match &file.kind {
            FileKind::Symlink(target) => Some(target.as_str()),
            _ => None,
        });
        assert_eq!(targets.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn targets_in_the_torrent_are_kept() {
        check(vec![file("t/a/b"), link("t/l", "a/b")], &["t/a/b"]);
        check(vec![file("t/a/b/c"), link("t/l", "a")], &["t/a"]);
        check(
            vec![file("t/a.x/b"), file("t/a/b/c"), link("t/l", "a")],
            &["t/a"],
        );
    }

    #[test]
    fn targets_relative_to_the_link_are_understood() {
        check(vec![file("t/a/b"), link("t/a/l", "b")], &["t/a/b"]);
        check(vec![file("t/a/b/c"), link("t/a/l", "b")], &["t/a/b"]);
    }

    #[test]
    fn links_through_links_are_followed() {
        check(
            vec![
                file("t/v/a/f"),
                link("t/v/cur", "v/a"),
                link("t/f", "v/cur/f"),
            ],
            &["t/v/a", "t/v/cur/f"],
        );
        check(
            vec![
                link("t/f", "v/cur/f"),
                file("t/v/a/f"),
                link("t/v/cur", "a"),
            ],
            &["t/v/cur/f", "t/v/a"],
        );
    }

    #[test]
    fn links_to_nowhere_point_to_themselves() {
        check(vec![file("t/a"), link("t/l", "b")], &["t/l"]);
        check(
            vec![file("t/a"), link("t/l", "m/x"), link("t/m", "l/y")],
            &["t/l", "t/m"],
        );
        check(vec![file("t/a"), link("t/l", "l")], &["t/l"]);
    }
}
