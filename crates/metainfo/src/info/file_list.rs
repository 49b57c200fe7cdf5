//! The files of v1 metadata: one `length`, or a list of `files` (BEP 3, BEP 47).

use riverrun_bencode::{Dict, List};

use super::InfoError;
use super::attributes::{Attributes, path_elements};
use crate::{File, FileKind, SafePath};

/// A name by which `BitComet` marks padding; such files have no attribute.
const BITCOMET_PAD: &str = "_____padding_file_";

/// The torrent's name in the metadata and made safe.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) raw: &'a [u8],
    pub(super) safe: &'a str,
}

/// The one file of a torrent without a list of files.
pub(super) fn single_file(info: Dict<'_, '_>) -> Result<File, InfoError> {
    let attributes = Attributes::of(info);
    let len = attributes.len(info)?;
    let name = text_key(info, b"name.utf-8", b"name").filter(|name| !name.is_empty());
    let name = name.ok_or(InfoError::MissingName)?;
    let path = SafePath::from_name(name).ok_or(InfoError::MissingName)?;
    let raw_path = path.raw_if_different(&[name]);
    let (executable, hidden) = (attributes.executable, attributes.hidden);
    Ok(File {
        raw_path,
        executable,
        hidden,
        ..File::new(path, len)
    })
}

/// The files of a list, in order.
pub(super) fn files(list: List<'_, '_>, name: Name<'_>) -> Result<Vec<File>, InfoError> {
    list.iter()
        .enumerate()
        .map(|(index, entry)| file(entry.as_dict().ok_or(InfoError::InvalidFile)?, index, name))
        .collect()
}

fn file(entry: Dict<'_, '_>, index: usize, name: Name<'_>) -> Result<File, InfoError> {
    let attributes = Attributes::of(entry);
    let len = attributes.len(entry)?;
    let path = ["path.utf-8", "path"]
        .into_iter()
        .find_map(|key| entry.get(key.as_bytes())?.as_list());
    let Some(path) = path.filter(|path| !path.is_empty()) else {
        return pad_without_path(attributes, len).ok_or(InfoError::MissingPath(index));
    };
    let mut elements = vec![name.raw];
    elements.extend(path_elements(path)?);
    let safe = std::iter::once(name.safe.as_bytes()).chain(elements[1..].iter().copied());
    // Invariant: there is at least the name.
    let path = SafePath::from_elements(safe).ok_or(InfoError::MissingPath(index))?;
    let bitcomet_pad = path
        .components()
        .skip(1)
        .any(|element| element.contains(BITCOMET_PAD));
    let kind = match attributes.symlink_target(entry)? {
        Some(target) => FileKind::Symlink(target),
        None if attributes.pad || bitcomet_pad => FileKind::Pad,
        None => FileKind::Regular,
    };
    let raw_path = path.raw_if_different(&elements);
    let (executable, hidden) = (attributes.executable, attributes.hidden);
    Ok(File {
        raw_path,
        kind,
        executable,
        hidden,
        ..File::new(path, len)
    })
}

/// Pad files need no path; they get one by which people can tell them.
fn pad_without_path(attributes: Attributes, len: u64) -> Option<File> {
    let path = SafePath::from_elements([&b".pad"[..], len.to_string().as_bytes()])?;
    attributes.pad.then(|| File::pad(path, len))
}

/// The byte string under `preferred`, else that under `other`.
pub(super) fn text_key<'src>(
    dict: Dict<'_, 'src>,
    preferred: &[u8],
    other: &[u8],
) -> Option<&'src [u8]> {
    [preferred, other]
        .into_iter()
        .find_map(|key| dict.get(key)?.as_bytes())
}
