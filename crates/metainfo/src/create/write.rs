//! The info dictionary of a plan, in its one canonical form.

use riverrun_base::{Sha1Digest, Sha256Digest};
use riverrun_bencode::Writer;

use super::{CreateOptions, SourceFile};
use crate::MetaVersion;

/// A file of the layout.
pub(super) struct Entry<'a> {
    /// Its source; padding has none.
    pub(super) source: Option<&'a SourceFile>,
    pub(super) len: u64,
    pub(super) root: Option<Sha256Digest>,
}

/// Writes the info dictionary.
pub(super) fn info(
    options: &CreateOptions,
    piece_len: u32,
    entries: &[Entry<'_>],
    v1: &[Sha1Digest],
) -> Vec<u8> {
    let (has_v1, has_v2) = (
        options.version != MetaVersion::V2,
        options.version != MetaVersion::V1,
    );
    let single = match entries {
        [
            Entry {
                source: Some(source),
                ..
            },
        ] if source.path.is_empty() => Some(*source),
        _ => None,
    };
    let mut writer = Writer::new();
    writer.dict();
    if let Some(single) = single.filter(|_| has_v1) {
        attributes(&mut writer, Some(single));
    }
    strings(
        &mut writer,
        b"collections",
        options.collections.iter().map(String::as_bytes),
    );
    if has_v2 {
        writer.key(b"file tree");
        file_tree(&mut writer, &options.name, entries);
    }
    match single {
        Some(_) if has_v1 => drop(writer.key(b"length").uint(entries[0].len)),
        None if has_v1 => {
            writer.key(b"files");
            file_list(&mut writer, entries);
        }
        _ => {}
    }
    if has_v2 {
        writer.key(b"meta version").int(2);
    }
    writer
        .key(b"name")
        .bytes(&options.name)
        .key(b"piece length")
        .uint(piece_len.into());
    if has_v1 {
        writer
            .key(b"pieces")
            .bytes(&v1.iter().flat_map(|hash| hash.0).collect::<Vec<_>>());
    }
    if options.private {
        writer.key(b"private").int(1);
    }
    strings(
        &mut writer,
        b"similar",
        options.similar.iter().map(|hash| &hash.0[..]),
    );
    if let Some(source) = &options.source {
        writer.key(b"source").bytes(source.as_bytes());
    }
    writer.end();
    writer.finish()
}

/// A list under `key`, if there is anything in it.
fn strings<'a>(writer: &mut Writer, key: &[u8], strings: impl ExactSizeIterator<Item = &'a [u8]>) {
    if strings.len() > 0 {
        writer.key(key);
        list(writer, strings);
    }
}

fn list<'a>(writer: &mut Writer, strings: impl Iterator<Item = &'a [u8]>) {
    writer.list();
    for string in strings {
        writer.bytes(string);
    }
    writer.end();
}

/// The attributes of a file, or of padding (BEP 47), in the order in which libtorrent writes them.
fn attributes(writer: &mut Writer, source: Option<&SourceFile>) {
    let has = |letter: u8| match (letter, source) {
        (b'p', source) => source.is_none(),
        (b'h', Some(source)) => source.hidden,
        (b'x', Some(source)) => source.executable,
        (b'l', Some(source)) => source.symlink.is_some(),
        _ => false,
    };
    let letters: Vec<u8> = b"phxl"
        .iter()
        .copied()
        .filter(|letter| has(*letter))
        .collect();
    if !letters.is_empty() {
        writer.key(b"attr").bytes(&letters);
    }
}

fn symlink_path(writer: &mut Writer, source: Option<&SourceFile>) {
    if let Some(target) = source.and_then(|source| source.symlink.as_ref()) {
        writer.key(b"symlink path");
        list(writer, target.iter().map(Vec::as_slice));
    }
}

/// The v1 list of files (BEP 3).
fn file_list(writer: &mut Writer, entries: &[Entry<'_>]) {
    writer.list();
    for entry in entries {
        writer.dict();
        attributes(writer, entry.source);
        writer.key(b"length").uint(entry.len).key(b"path");
        match entry.source {
            Some(source) => list(writer, source.path.iter().map(Vec::as_slice)),
            None => list(
                writer,
                [&b".pad"[..], entry.len.to_string().as_bytes()].into_iter(),
            ),
        }
        symlink_path(writer, entry.source);
        writer.end();
    }
    writer.end();
}

/// The v2 tree of files (BEP 52).
fn file_tree(writer: &mut Writer, name: &[u8], entries: &[Entry<'_>]) {
    writer.dict();
    let mut open: Vec<&[u8]> = Vec::new();
    for (entry, source) in entries
        .iter()
        .filter_map(|entry| Some((entry, entry.source?)))
    {
        let elements: Vec<&[u8]> = match source.path.as_slice() {
            [] => vec![name],
            path => path.iter().map(Vec::as_slice).collect(),
        };
        let common = open
            .iter()
            .zip(&elements)
            .take_while(|(a, b)| a == b)
            .count();
        for _ in common..open.len() {
            writer.end();
        }
        for element in &elements[common..] {
            writer.key(element).dict();
        }
        writer.key(b"");
        properties(writer, entry, source);
        open = elements;
    }
    for _ in open {
        writer.end();
    }
    writer.end();
}

fn properties(writer: &mut Writer, entry: &Entry<'_>, source: &SourceFile) {
    writer.dict();
    attributes(writer, Some(source));
    if source.symlink.is_none() {
        writer.key(b"length").uint(entry.len);
    }
    if let Some(root) = entry.root {
        writer.key(b"pieces root").bytes(&root.0);
    }
    symlink_path(writer, Some(source));
    writer.end();
}
