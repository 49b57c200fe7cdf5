//! Paths that cannot lead out of their directory.

use std::fmt;
use std::path::PathBuf;

use crate::sanitize::{sanitize_element, sanitize_forced};

/// The path of a file of a torrent, relative to the directory into which the torrent is saved.
///
/// Made only from sanitised elements: none is empty, `.` or `..`, none has a separator, a control
/// character or one that disguises it, none is longer than 255 bytes. The first component of a
/// torrent with several files is the torrent's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SafePath(Box<str>);

impl SafePath {
    /// The path of these elements, sanitised; one that is nothing afterwards becomes `_`. `None`
    /// without any element.
    pub fn from_elements<'a>(elements: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut path: Option<String> = None;
        for element in elements {
            let element = sanitize_forced(element);
            path = Some(match path {
                None => element,
                Some(path) => path + "/" + &element,
            });
        }
        path.map(|path| Self(path.into()))
    }

    /// The path of one element, sanitised; `None` if nothing is left of it.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        sanitize_element(name).map(|name| Self(name.into()))
    }

    /// Its elements, from the outermost directory to the file.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.0.split('/')
    }

    /// The elements, separated by `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last element.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// All but the last element, separated by `/`; `None` if there is but one.
    pub fn parent(&self) -> Option<&str> {
        self.0.rsplit_once('/').map(|(parent, _)| parent)
    }

    /// In the notation of the platform.
    pub fn to_path_buf(&self) -> PathBuf {
        self.components().collect()
    }

    /// All but the first element; `None` if there is but one.
    pub(crate) fn below_root(&self) -> Option<&str> {
        self.0.split_once('/').map(|(_, rest)| rest)
    }

    /// The first element and the path `below` it, which must be made of sanitised elements.
    pub(crate) fn with_below_root(&self, below: &str) -> Self {
        let root = self.0.split('/').next().unwrap_or_default();
        Self(format!("{root}/{below}").into())
    }

    /// The elements of which the path was made, if they differ from its own.
    pub(crate) fn raw_if_different(&self, elements: &[&[u8]]) -> Option<Box<[Box<[u8]>]>> {
        let same = self
            .components()
            .map(str::as_bytes)
            .eq(elements.iter().copied());
        (!same).then(|| elements.iter().map(|element| (*element).into()).collect())
    }

    /// The path with `.n` before the extension of its last element.
    pub(crate) fn numbered(&self, n: u32) -> Self {
        let name = self.0.len() - self.file_name().len();
        let dot = self.0[name..]
            .rfind('.')
            .map_or(self.0.len(), |dot| name + dot);
        let (base, extension) = self.0.split_at(dot);
        Self(format!("{base}.{n}{extension}").into())
    }
}

impl fmt::Display for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(elements: &[&str]) -> SafePath {
        SafePath::from_elements(elements.iter().map(|element| element.as_bytes())).unwrap()
    }

    #[test]
    fn elements_never_lead_outside() {
        assert_eq!(path(&["temp", "..", "/", "bar"]).as_str(), "temp/_/_/bar");
        assert_eq!(
            path(&["temp", "foo/../../../bar"]).as_str(),
            "temp/foo......bar"
        );
        assert_eq!(path(&["", ""]).as_str(), "_/_");
        assert_eq!(SafePath::from_elements([]), None);
        assert_eq!(SafePath::from_name(b".."), None);
    }

    #[test]
    fn parts_are_what_they_say() {
        let path = path(&["a", "b", "c.txt"]);
        assert_eq!(path.components().collect::<Vec<_>>(), ["a", "b", "c.txt"]);
        assert_eq!((path.parent(), path.file_name()), (Some("a/b"), "c.txt"));
        assert_eq!(path.below_root(), Some("b/c.txt"));
        assert_eq!(
            path.to_path_buf(),
            ["a", "b", "c.txt"].iter().collect::<PathBuf>()
        );
        assert_eq!(format!("{path:>10}"), " a/b/c.txt");
    }

    #[test]
    fn numbers_go_before_the_extension() {
        assert_eq!(
            path(&["a.d", "b.tar.gz"]).numbered(1).as_str(),
            "a.d/b.tar.1.gz"
        );
        assert_eq!(path(&["a.d", "b"]).numbered(2).as_str(), "a.d/b.2");
        assert_eq!(path(&["a", ".rc"]).numbered(3).as_str(), "a/.3.rc");
    }
}
