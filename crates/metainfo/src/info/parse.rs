//! From a dictionary to an [`Info`].
//!
//! The order of the checks is that of the most widespread library, so that a torrent with several
//! faults is refused for the same one.

use std::ops::Range;
use std::sync::Arc;

use riverrun_base::{BLOCK_LEN, InfoHash, InfoHashes, Sha1Digest};
use riverrun_bencode::{Dict, List, Value};
use riverrun_hash::{sha1, sha256};

use super::file_list::{self, Name, text_key};
use super::{Info, InfoError, MetaVersion, duplicates, file_tree, hybrid, symlinks};
use crate::layout::{PIECE_LEN_MAX, Spacing};
use crate::sanitize::{lossy_text, sanitize_element};
use crate::{File, Layout};

pub(super) fn parse(value: Value<'_, '_>) -> Result<Info, InfoError> {
    let dict = value.as_dict().ok_or(InfoError::NotADictionary)?;
    let has_v2 = has_v2(dict)?;
    let piece_len = piece_len(dict, has_v2)?;
    let raw_name = text_key(dict, b"name.utf-8", b"name").ok_or(InfoError::MissingName)?;
    // Where nothing is left of the name, the hash stands in: SHA-1 for v2 torrents too, as in
    // libtorrent.
    let name = sanitize_element(raw_name).unwrap_or_else(|| sha1(value.raw()).to_string());
    let (mut files, version) = files(
        dict,
        has_v2,
        Name {
            raw: raw_name,
            safe: &name,
        },
        piece_len,
    )?;
    if files.is_empty() {
        return Err(InfoError::NoFiles);
    }
    duplicates::rename(&mut files)?;
    let single_file = matches!(files.as_slice(), [only] if only.path.parent().is_none());
    let name = if single_file {
        files[0].path.to_string()
    } else {
        name
    };
    let spacing = if version == MetaVersion::V2 {
        Spacing::PieceAligned
    } else {
        Spacing::Packed
    };
    let layout = Layout::new(files, piece_len, spacing)?;
    let v1_pieces = v1_pieces(value, dict, &layout, version)?;
    if let Some(key) = value.duplicate_key() {
        return Err(InfoError::DuplicateKey(key.into()));
    }
    Ok(Info {
        raw: value.raw().into(),
        hashes: hashes(value.raw(), version),
        name,
        layout: Arc::new(layout),
        version,
        single_file,
        private: dict
            .get(b"private")
            .and_then(|private| private.as_int())
            .is_some_and(|private| private != 0),
        source: dict
            .get(b"source")
            .and_then(|source| source.as_bytes())
            .map(lossy_text),
        v1_pieces,
        similar: similar(dict).collect(),
        collections: collections(dict).collect(),
    })
}

/// Whether there is v2 metadata, which must be canonical.
fn has_v2(dict: Dict<'_, '_>) -> Result<bool, InfoError> {
    let version = dict
        .get(b"meta version")
        .and_then(|version| version.as_int())
        .unwrap_or(0);
    if version <= 0 {
        return Ok(false);
    }
    if let Some(key) = dict.as_value().duplicate_key() {
        return Err(InfoError::DuplicateKey(key.into()));
    }
    match version {
        _ if !dict.as_value().is_canonical() => Err(InfoError::Unsorted),
        1 | 2 => Ok(version == 2),
        _ => Err(InfoError::UnknownVersion(version)),
    }
}

fn piece_len(dict: Dict<'_, '_>, has_v2: bool) -> Result<u32, InfoError> {
    let len = dict
        .get(b"piece length")
        .and_then(|len| len.as_int())
        .ok_or(InfoError::MissingPieceLength)?;
    u32::try_from(len)
        .ok()
        .filter(|len| (1..=PIECE_LEN_MAX).contains(len))
        .filter(|len| !has_v2 || (len.is_power_of_two() && *len >= BLOCK_LEN))
        .ok_or(InfoError::InvalidPieceLength(len))
}

/// The files of all metadata there is.
fn files(
    dict: Dict<'_, '_>,
    has_v2: bool,
    name: Name<'_>,
    piece_len: u32,
) -> Result<(Vec<File>, MetaVersion), InfoError> {
    let list = dict.get(b"files").and_then(|files| files.as_list());
    let tree = dict.get(b"file tree").and_then(|tree| tree.as_dict());
    let v2 = match (has_v2, tree) {
        (true, Some(tree)) => Some(resolved(file_tree::files(tree, name, list.is_some())?)),
        (true, None) => return Err(InfoError::MissingFileTree),
        (false, Some(_)) => return Err(InfoError::MissingVersion),
        (false, None) => None,
    };
    let v1 = match list {
        Some(list) => Some(resolved(file_list::files(list, name)?)),
        None if !has_v2 || dict.get(b"length").is_some() => {
            Some(vec![file_list::single_file(dict)?])
        }
        None => None,
    };
    match (v1, v2) {
        // An empty v1 list beside a v2 tree is as good as none, as in libtorrent; without a tree it
        // is an error.
        (Some(v1), Some(v2)) if !v1.is_empty() && !v2.is_empty() => {
            Ok((hybrid::unify(v2, &v1, piece_len)?, MetaVersion::Hybrid))
        }
        (Some(v1), None) => Ok((v1, MetaVersion::V1)),
        (_, v2) => Ok((v2.unwrap_or_default(), MetaVersion::V2)),
    }
}

fn resolved(mut files: Vec<File>) -> Vec<File> {
    symlinks::resolve(&mut files);
    files
}

fn hashes(raw: &[u8], version: MetaVersion) -> InfoHashes {
    match version {
        MetaVersion::V1 => InfoHashes::v1_only(sha1(raw)),
        MetaVersion::V2 => InfoHashes::v2_only(sha256(raw)),
        MetaVersion::Hybrid => InfoHashes::hybrid(sha1(raw), sha256(raw)),
    }
}

/// Where in the info dictionary the v1 hashes stand.
fn v1_pieces(
    info: Value<'_, '_>,
    dict: Dict<'_, '_>,
    layout: &Layout,
    version: MetaVersion,
) -> Result<Option<Range<usize>>, InfoError> {
    let Some(value) = dict
        .get(b"pieces")
        .filter(|pieces| pieces.as_bytes().is_some())
    else {
        return if version == MetaVersion::V2 {
            Ok(None)
        } else {
            Err(InfoError::MissingPieces)
        };
    };
    let actual = value.as_bytes().map_or(0, <[u8]>::len);
    let expected = layout.piece_count() as usize * Sha1Digest::LEN;
    if actual != expected {
        return Err(InfoError::InvalidPieces { actual, expected });
    }
    let end = value.offset() - info.offset() + value.raw().len();
    Ok((version != MetaVersion::V2).then_some(end - actual..end))
}

/// The key `similar` (BEP 38), of an info dictionary or a torrent file.
pub(crate) fn similar(dict: Dict<'_, '_>) -> impl Iterator<Item = InfoHash> {
    let hash = |value: Value<'_, '_>| InfoHash::from_slice(value.as_bytes()?);
    list(dict, b"similar").flat_map(List::iter).filter_map(hash)
}

/// The key `collections` (BEP 38), of an info dictionary or a torrent file.
pub(crate) fn collections(dict: Dict<'_, '_>) -> impl Iterator<Item = String> {
    let name = |value: Value<'_, '_>| value.as_bytes().map(lossy_text);
    list(dict, b"collections")
        .flat_map(List::iter)
        .filter_map(name)
}

fn list<'doc, 'src>(
    dict: Dict<'doc, 'src>,
    key: &[u8],
) -> impl Iterator<Item = List<'doc, 'src>> + use<'doc, 'src> {
    dict.get(key).and_then(|value| value.as_list()).into_iter()
}
