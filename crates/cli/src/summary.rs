//! A torrent as `show` tells it: one value for people and for scripts.

use riverrun_base::{ByteSize, FileIndex, InfoHashes};
use riverrun_metainfo::{FileKind, MetaVersion, Metainfo};
use serde::Serialize;

use crate::values::rfc3339;

/// All there is to say of a torrent file.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) name: String,
    pub(crate) info_hash_v1: Option<String>,
    pub(crate) info_hash_v2: Option<String>,
    pub(crate) version: &'static str,
    pub(crate) piece_length: u32,
    pub(crate) pieces: u32,
    pub(crate) total_size: u64,
    pub(crate) private: bool,
    pub(crate) source: Option<String>,
    pub(crate) comment: Option<String>,
    pub(crate) created_by: Option<String>,
    /// RFC 3339, in UTC.
    pub(crate) creation_date: Option<String>,
    pub(crate) trackers: Vec<Vec<String>>,
    pub(crate) web_seeds: Vec<String>,
    pub(crate) http_seeds: Vec<String>,
    pub(crate) nodes: Vec<String>,
    pub(crate) similar: Vec<String>,
    pub(crate) collections: Vec<String>,
    pub(crate) unknown_keys: Vec<String>,
    pub(crate) magnet: String,
    pub(crate) files: Vec<FileSummary>,
}

/// One file of the torrent.
#[derive(Debug, Serialize)]
pub(crate) struct FileSummary {
    pub(crate) path: String,
    pub(crate) length: u64,
    pub(crate) pad: bool,
    pub(crate) executable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) symlink: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pieces_root: Option<String>,
    /// The first piece and the one after the last.
    pub(crate) pieces: [u32; 2],
}

impl Summary {
    pub(crate) fn of(metainfo: &Metainfo) -> Self {
        let info = &metainfo.info;
        let layout = info.layout();
        let (info_hash_v1, info_hash_v2) = hash_texts(&info.hashes());
        Self {
            name: info.name().to_owned(),
            info_hash_v1,
            info_hash_v2,
            version: version_name(info.version()),
            piece_length: layout.nominal_piece_len(),
            pieces: layout.piece_count(),
            total_size: layout.payload_len(),
            private: info.is_private(),
            source: info.source().map(str::to_owned),
            comment: metainfo.comment.clone(),
            created_by: metainfo.created_by.clone(),
            creation_date: metainfo.creation_date.map(rfc3339),
            trackers: metainfo.trackers.clone(),
            web_seeds: metainfo.web_seeds.clone(),
            http_seeds: metainfo.http_seeds.clone(),
            nodes: metainfo.nodes.iter().map(ToString::to_string).collect(),
            similar: metainfo.similar().map(|hash| hash.to_string()).collect(),
            collections: metainfo.collections().map(str::to_owned).collect(),
            unknown_keys: metainfo
                .unknown()
                .keys()
                .map(|key| key.escape_ascii().to_string())
                .collect(),
            magnet: metainfo.magnet().to_string(),
            files: files(metainfo),
        }
    }

    /// How many files there are, padding and links not counted.
    pub(crate) fn file_count(&self) -> usize {
        self.files
            .iter()
            .filter(|file| !file.pad && file.symlink.is_none())
            .count()
    }
}

fn files(metainfo: &Metainfo) -> Vec<FileSummary> {
    let layout = metainfo.info.layout();
    let summary = |(index, file): (FileIndex, &riverrun_metainfo::File)| {
        let pieces = layout.pieces_of(index);
        FileSummary {
            path: file.path.as_str().to_owned(),
            length: file.len,
            pad: file.is_pad(),
            executable: file.executable,
            symlink: match &file.kind {
                FileKind::Symlink(target) => Some(target.as_str().to_owned()),
                FileKind::Regular | FileKind::Pad => None,
            },
            pieces_root: file.pieces_root.map(|root| root.to_string()),
            pieces: [pieces.start, pieces.end],
        }
    };
    (0..)
        .map(FileIndex)
        .zip(layout.files())
        .map(summary)
        .collect()
}

/// The v1 and the v2 info-hash in hex.
pub(crate) fn hash_texts(hashes: &InfoHashes) -> (Option<String>, Option<String>) {
    (
        hashes.v1().map(|hash| hash.to_string()),
        hashes.v2().map(|hash| hash.to_string()),
    )
}

/// The info-hashes as people copy them: v1 first.
pub(crate) fn hashes_on_one_line(hashes: &InfoHashes) -> String {
    let (v1, v2) = hash_texts(hashes);
    v1.into_iter().chain(v2).collect::<Vec<_>>().join(" ")
}

pub(crate) const fn version_name(version: MetaVersion) -> &'static str {
    match version {
        MetaVersion::V1 => "v1",
        MetaVersion::V2 => "v2",
        MetaVersion::Hybrid => "hybrid",
    }
}

/// The length of pieces, in the binary units that people choose them in.
pub(crate) fn piece_length(bytes: u32) -> String {
    const UNITS: [(u32, &str); 2] = [(1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = UNITS
        .iter()
        .find(|(scale, _)| bytes >= *scale && bytes.is_multiple_of(*scale));
    unit.map_or_else(
        || ByteSize(bytes.into()).to_string(),
        |(scale, name)| format!("{} {name}", bytes / scale),
    )
}

/// `one file`, `3 files`, `2 entries`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("one {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}
