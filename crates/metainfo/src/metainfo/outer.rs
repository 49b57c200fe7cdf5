//! The keys around the info dictionary.

use std::collections::{BTreeMap, BTreeSet};

use riverrun_base::InfoHash;
use riverrun_bencode::{Dict, Document, Limits, Value, Writer};

use super::Metainfo;
use crate::HostPort;
use crate::info::{collections, similar};
use crate::sanitize::lossy_text;
use crate::url::{tracker_url, web_seed_url};

/// Bencoded values by their key.
pub(super) type RawValues = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// The keys that are understood, beside `info` and `piece layers`.
pub(super) const KEYS: [&[u8]; 12] = [
    b"announce",
    b"announce-list",
    b"collections",
    b"comment",
    b"comment.utf-8",
    b"created by",
    b"created by.utf-8",
    b"creation date",
    b"httpseeds",
    b"nodes",
    b"similar",
    b"url-list",
];

/// What the values mean.
#[derive(Default)]
pub(super) struct Known {
    pub(super) trackers: Vec<Vec<String>>,
    pub(super) web_seeds: Vec<String>,
    pub(super) http_seeds: Vec<String>,
    pub(super) nodes: Vec<HostPort>,
    pub(super) comment: Option<String>,
    pub(super) created_by: Option<String>,
    pub(super) creation_date: Option<i64>,
    pub(super) similar: Vec<InfoHash>,
    pub(super) collections: Vec<String>,
}

/// The values around `info` and `piece layers`; of a key that is there twice, the first.
pub(super) fn raw_values(dict: Dict<'_, '_>) -> RawValues {
    let mut values = RawValues::new();
    for (key, value) in dict
        .iter()
        .filter(|(key, _)| !matches!(*key, b"info" | b"piece layers"))
    {
        values
            .entry(key.into())
            .or_insert_with(|| value.raw().into());
    }
    values
}

impl Known {
    /// Understands `values`, of a torrent that is a directory of several files or not.
    pub(super) fn of(values: &RawValues, in_directory: bool) -> Self {
        let bytes = joined(values);
        // Invariant: the values are parts of a document that was parsed within these limits.
        let Ok(document) = Document::parse(
            &bytes,
            Limits {
                bytes: usize::MAX,
                ..Limits::TORRENT
            },
        ) else {
            return Self::default();
        };
        let Some(dict) = document.root().as_dict() else {
            return Self::default();
        };
        Self {
            trackers: trackers(dict),
            web_seeds: unique(strings(dict, b"url-list"))
                .map(|raw| web_seed_url(raw, in_directory))
                .collect(),
            http_seeds: unique(strings(dict, b"httpseeds"))
                .map(|raw| web_seed_url(raw, false))
                .collect(),
            nodes: nodes(dict),
            comment: text(dict, b"comment.utf-8", b"comment"),
            created_by: text(dict, b"created by.utf-8", b"created by"),
            creation_date: dict
                .get(b"creation date")
                .and_then(|date| date.as_int())
                .filter(|date| *date >= 0),
            similar: similar(dict).collect(),
            collections: collections(dict).collect(),
        }
    }
}

/// Writes into `values` what of `metainfo` differs from what they mean.
pub(super) fn write_changes(metainfo: &Metainfo, values: &mut RawValues) {
    let read = Known::of(values, metainfo.info.layout().files().len() > 1);
    let mut change = |changed: bool, keys: &[&[u8]], new: Vec<(&[u8], Vec<u8>)>| {
        if changed {
            values.retain(|key, _| !keys.contains(&&**key));
            values.extend(
                new.into_iter()
                    .map(|(key, value)| (key.into(), value.into())),
            );
        }
    };
    change(
        metainfo.trackers != read.trackers,
        &[b"announce", b"announce-list"],
        write_trackers(&metainfo.trackers),
    );
    change(
        metainfo.web_seeds != read.web_seeds,
        &[b"url-list"],
        write_strings(b"url-list", &metainfo.web_seeds),
    );
    change(
        metainfo.http_seeds != read.http_seeds,
        &[b"httpseeds"],
        write_strings(b"httpseeds", &metainfo.http_seeds),
    );
    change(
        metainfo.nodes != read.nodes,
        &[b"nodes"],
        write_nodes(&metainfo.nodes),
    );
    change(
        metainfo.comment != read.comment,
        &[b"comment", b"comment.utf-8"],
        write_text(b"comment", metainfo.comment.as_deref()),
    );
    change(
        metainfo.created_by != read.created_by,
        &[b"created by", b"created by.utf-8"],
        write_text(b"created by", metainfo.created_by.as_deref()),
    );
    let date = metainfo
        .creation_date
        .map(|date| (&b"creation date"[..], encoded(|writer| writer.int(date))));
    change(
        metainfo.creation_date != read.creation_date,
        &[b"creation date"],
        date.into_iter().collect(),
    );
}

/// The values as one dictionary again.
fn joined(values: &RawValues) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.dict();
    for (key, value) in values {
        writer.key(key).raw(value);
    }
    writer.end();
    writer.finish()
}

/// The tiers of `announce-list`; without a usable address there, `announce`.
fn trackers(dict: Dict<'_, '_>) -> Vec<Vec<String>> {
    let urls = |tier: Value<'_, '_>| -> Vec<String> {
        let urls = tier
            .as_list()
            .map(riverrun_bencode::List::iter)
            .into_iter()
            .flatten();
        urls.filter_map(|url| tracker_url(url.as_bytes()?))
            .collect()
    };
    let list = dict.get(b"announce-list").and_then(|list| list.as_list());
    let tiers = list.map(riverrun_bencode::List::iter).into_iter().flatten();
    let tiers: Vec<_> = tiers.map(urls).filter(|tier| !tier.is_empty()).collect();
    if !tiers.is_empty() {
        return tiers;
    }
    let single = dict
        .get(b"announce")
        .and_then(|url| tracker_url(url.as_bytes()?));
    single.map(|url| vec![url]).into_iter().collect()
}

/// The byte strings, or the one byte string, under `key`; empty ones are left out.
fn strings<'src>(dict: Dict<'_, 'src>, key: &[u8]) -> Vec<&'src [u8]> {
    let Some(value) = dict.get(key) else {
        return Vec::new();
    };
    let list = value
        .as_list()
        .map(riverrun_bencode::List::iter)
        .into_iter()
        .flatten();
    let strings = value
        .as_bytes()
        .into_iter()
        .chain(list.filter_map(|string| string.as_bytes()));
    strings.filter(|string| !string.is_empty()).collect()
}

fn unique(strings: Vec<&[u8]>) -> impl Iterator<Item = &[u8]> {
    let mut seen = BTreeSet::new();
    strings
        .into_iter()
        .filter(move |string| seen.insert(*string))
}

fn nodes(dict: Dict<'_, '_>) -> Vec<HostPort> {
    let node = |node: Value<'_, '_>| {
        let node = node.as_list()?;
        let port = u16::try_from(node.get(1)?.as_u64()?)
            .ok()
            .filter(|port| *port > 0)?;
        Some(HostPort {
            host: node.get(0)?.as_str()?.to_owned(),
            port,
        })
    };
    let list = dict.get(b"nodes").and_then(|nodes| nodes.as_list());
    list.map(riverrun_bencode::List::iter)
        .into_iter()
        .flatten()
        .filter_map(node)
        .collect()
}

/// The text under `preferred`, or else, also where that is empty, under `other`.
fn text(dict: Dict<'_, '_>, preferred: &[u8], other: &[u8]) -> Option<String> {
    let texts = [preferred, other]
        .into_iter()
        .filter_map(|key| dict.get(key)?.as_bytes());
    texts.map(lossy_text).find(|text| !text.is_empty())
}

fn encoded(write: impl FnOnce(&mut Writer) -> &mut Writer) -> Vec<u8> {
    let mut writer = Writer::new();
    write(&mut writer);
    writer.finish()
}

/// `announce` is the first tracker; `announce-list` has all of them if there are more.
fn write_trackers(tiers: &[Vec<String>]) -> Vec<(&'static [u8], Vec<u8>)> {
    let mut urls = tiers.iter().flatten();
    let Some(first) = urls.next() else {
        return Vec::new();
    };
    let announce = (
        &b"announce"[..],
        encoded(|writer| writer.bytes(first.as_bytes())),
    );
    if urls.next().is_none() {
        return vec![announce];
    }
    let mut writer = Writer::new();
    writer.list();
    for tier in tiers.iter().filter(|tier| !tier.is_empty()) {
        writer.list();
        for url in tier {
            writer.bytes(url.as_bytes());
        }
        writer.end();
    }
    writer.end();
    vec![announce, (b"announce-list", writer.finish())]
}

/// One string stands alone, several in a list.
fn write_strings<'key>(key: &'key [u8], strings: &[String]) -> Vec<(&'key [u8], Vec<u8>)> {
    match strings {
        [] => Vec::new(),
        [only] => vec![(key, encoded(|writer| writer.bytes(only.as_bytes())))],
        several => {
            let mut writer = Writer::new();
            writer.list();
            for string in several {
                writer.bytes(string.as_bytes());
            }
            writer.end();
            vec![(key, writer.finish())]
        }
    }
}

fn write_nodes(nodes: &[HostPort]) -> Vec<(&'static [u8], Vec<u8>)> {
    if nodes.is_empty() {
        return Vec::new();
    }
    let mut writer = Writer::new();
    writer.list();
    for node in nodes {
        writer
            .list()
            .bytes(node.host.as_bytes())
            .uint(node.port.into())
            .end();
    }
    writer.end();
    vec![(b"nodes", writer.finish())]
}

fn write_text<'key>(key: &'key [u8], text: Option<&str>) -> Vec<(&'key [u8], Vec<u8>)> {
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| (key, encoded(|writer| writer.bytes(text.as_bytes()))))
        .into_iter()
        .collect()
}
