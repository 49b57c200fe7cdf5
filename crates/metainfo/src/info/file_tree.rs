//! The files of v2 metadata: a tree of dictionaries (BEP 52, "file tree").

use riverrun_base::Sha256Digest;
use riverrun_bencode::{Dict, Value};

use super::InfoError;
use super::attributes::{Attributes, PATH_ELEMENTS_MAX};
use super::file_list::Name;
use crate::{File, FileKind, SafePath};

/// The files of the tree, in its order. A tree of nothing but one file at its top makes a torrent
/// of a single file, unless `in_directory`: then even that one is inside of the directory `name`.
pub(super) fn files(
    tree: Dict<'_, '_>,
    name: Name<'_>,
    in_directory: bool,
) -> Result<Vec<File>, InfoError> {
    if let Some((key, node)) = only(tree)
        && let Some(properties) = leaf(node)
        && !in_directory
        && !key.is_empty()
    {
        let path = SafePath::from_elements([key]).ok_or(InfoError::InvalidFileTree)?;
        return Ok(vec![file(properties, path, &[key])?]);
    }
    let mut files = Vec::new();
    let mut elements = vec![name.raw];
    let mut open = vec![tree.iter()];
    while let Some(directory) = open.last_mut() {
        let Some((key, node)) = directory.next() else {
            open.pop();
            elements.pop();
            continue;
        };
        let children = node
            .as_dict()
            .filter(|_| !key.is_empty())
            .ok_or(InfoError::InvalidFileTree)?;
        elements.push(key);
        if let Some(properties) = leaf(node) {
            let safe = std::iter::once(name.safe.as_bytes()).chain(elements[1..].iter().copied());
            let path = SafePath::from_elements(safe).ok_or(InfoError::InvalidFileTree)?;
            files.push(file(properties, path, &elements)?);
            elements.pop();
        } else if open.len() > PATH_ELEMENTS_MAX {
            return Err(InfoError::DirectoryTooDeep(PATH_ELEMENTS_MAX));
        } else {
            open.push(children.iter());
        }
    }
    Ok(files)
}

/// The key and value of a dictionary that has but one.
fn only<'doc, 'src>(dict: Dict<'doc, 'src>) -> Option<(&'src [u8], Value<'doc, 'src>)> {
    let mut entries = dict.iter();
    entries.next().filter(|_| entries.next().is_none())
}

/// The value of the empty key, if a node has no other: then it is a file.
fn leaf<'doc, 'src>(node: Value<'doc, 'src>) -> Option<Value<'doc, 'src>> {
    only(node.as_dict()?)
        .filter(|(key, _)| key.is_empty())
        .map(|(_, properties)| properties)
}

fn file(properties: Value<'_, '_>, path: SafePath, elements: &[&[u8]]) -> Result<File, InfoError> {
    let entry = properties.as_dict().ok_or(InfoError::InvalidFileTree)?;
    let attributes = Attributes::of(entry);
    if attributes.pad {
        return Err(InfoError::PadInFileTree);
    }
    let len = attributes.len(entry)?;
    let kind = attributes
        .symlink_target(entry)?
        .map_or(FileKind::Regular, FileKind::Symlink);
    let pieces_root = if len > 0 {
        Some(pieces_root(entry)?)
    } else {
        None
    };
    let raw_path = path.raw_if_different(elements);
    let (executable, hidden) = (attributes.executable, attributes.hidden);
    Ok(File {
        raw_path,
        kind,
        executable,
        hidden,
        pieces_root,
        ..File::new(path, len)
    })
}

fn pieces_root(entry: Dict<'_, '_>) -> Result<Sha256Digest, InfoError> {
    let root = entry
        .get(b"pieces root")
        .and_then(|root| Sha256Digest::from_slice(root.as_bytes()?));
    root.filter(|root| root.0 != [0; 32])
        .ok_or(InfoError::MissingPiecesRoot)
}
