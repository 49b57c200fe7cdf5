//! Torrent files: the info dictionary and what stands around it (BEP 3, 5, 12, 17, 19, 38, 52).

mod layers;
mod outer;

use std::collections::BTreeMap;
use std::sync::Arc;

use riverrun_base::InfoHash;
use riverrun_bencode::{Document, Limits, ParseError, Writer};
use thiserror::Error;

use crate::info::{InfoEdit, InfoError};
use crate::{HostPort, Info, Magnet, PieceLayers};

pub use layers::PieceLayerError;
use outer::{Known, RawValues};

/// Why a torrent file is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MetainfoError {
    /// It is not bencode.
    #[error("the file is not bencode: {0}")]
    Bencode(#[from] ParseError),
    /// It is no dictionary.
    #[error("the file is not a dictionary")]
    NotADictionary,
    /// It has no info dictionary.
    #[error("the info dictionary is missing")]
    MissingInfo,
    /// Its info dictionary is refused.
    #[error(transparent)]
    Info(#[from] InfoError),
    /// Its piece layers do not fit the info dictionary.
    #[error("wrong piece layers: {0}")]
    PieceLayers(#[from] PieceLayerError),
}

/// A torrent file.
///
/// All fields but `info` and `piece_layers` can be changed freely: they are outside of what the
/// info-hash covers. What is not changed, and keys that are unknown here, are written as they were
/// read.
#[derive(Clone, Debug)]
pub struct Metainfo {
    /// The info dictionary.
    pub info: Arc<Info>,
    /// The addresses of trackers, tier by tier (BEP 12); those that cannot be one are left out.
    pub trackers: Vec<Vec<String>>,
    /// Web servers with the files (BEP 19, `url-list`), each once; a path with characters that no
    /// address may have is escaped, and addresses for several files end in a slash.
    pub web_seeds: Vec<String>,
    /// Scripts that serve pieces (BEP 17, `httpseeds`).
    pub http_seeds: Vec<String>,
    /// Nodes of the DHT to start from (BEP 5).
    pub nodes: Vec<HostPort>,
    /// A text by whoever made the torrent.
    pub comment: Option<String>,
    /// The program that made the torrent.
    pub created_by: Option<String>,
    /// When the torrent was made, in seconds since 1970.
    pub creation_date: Option<i64>,
    /// The hashes of pieces of v2 files, verified; files may be missing.
    pub piece_layers: PieceLayers,
    similar: Vec<InfoHash>,
    collections: Vec<String>,
    /// All values outside of `info` and `piece layers`, as they were read.
    read: RawValues,
    /// The file was read and had no key `piece layers`.
    without_layers: bool,
}

impl Metainfo {
    /// Parses a torrent file. Bytes after the end of its dictionary are ignored: such files are
    /// common.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MetainfoError> {
        let (document, _) = Document::parse_prefix(bytes, Limits::TORRENT)?;
        let dict = document
            .root()
            .as_dict()
            .ok_or(MetainfoError::NotADictionary)?;
        let info = dict
            .get(b"info")
            .filter(|info| info.as_dict().is_some())
            .ok_or(MetainfoError::MissingInfo)?;
        let info = Info::from_value(info)?;
        let piece_layers = match dict
            .get(b"piece layers")
            .and_then(|layers| layers.as_dict())
        {
            Some(layers) if info.hashes().v2().is_some() => layers::parse(layers, &info)?,
            _ => PieceLayers::new(),
        };
        let without_layers = dict.get(b"piece layers").is_none();
        let known = Self::assemble(Arc::new(info), piece_layers, outer::raw_values(dict));
        Ok(Self {
            without_layers,
            ..known
        })
    }

    /// A torrent file with nothing but this in it: of a torrent that came from peers.
    pub fn new(info: Arc<Info>, piece_layers: PieceLayers) -> Self {
        Self::assemble(info, piece_layers, RawValues::new())
    }

    fn assemble(info: Arc<Info>, piece_layers: PieceLayers, read: RawValues) -> Self {
        let known = Known::of(&read, info.layout().files().len() > 1);
        Self {
            info,
            trackers: known.trackers,
            web_seeds: known.web_seeds,
            http_seeds: known.http_seeds,
            nodes: known.nodes,
            comment: known.comment,
            created_by: known.created_by,
            creation_date: known.creation_date,
            piece_layers,
            similar: known.similar,
            collections: known.collections,
            read,
            without_layers: false,
        }
    }

    /// As the content of a torrent file. The info dictionary keeps its bytes, keys around it are
    /// sorted.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut values = self.read.clone();
        outer::write_changes(self, &mut values);
        values.insert(b"info".as_slice().into(), self.info.raw().as_ref().into());
        if self.has_layers_key() {
            values.insert(
                b"piece layers".as_slice().into(),
                layers::to_bytes(&self.piece_layers),
            );
        }
        let mut writer = Writer::new();
        writer.dict();
        for (key, value) in &values {
            writer.key(key).raw(value);
        }
        writer.end();
        writer.finish()
    }

    /// Whether to write piece layers: if there are some, or if no file is long enough to have any.
    fn has_layers_key(&self) -> bool {
        let layout = self.info.layout();
        let needs_none = |file: &crate::File| file.len <= u64::from(layout.nominal_piece_len());
        let is_v2 = self.info.hashes().v2().is_some();
        let none_needed = || layout.files().iter().all(needs_none);
        is_v2 && (!self.piece_layers.is_empty() || (!self.without_layers && none_needed()))
    }

    /// Changes the info dictionary, and so the info-hash: it is another torrent then.
    pub fn edit_info(&mut self, edit: &InfoEdit) -> Result<(), InfoError> {
        self.info = Arc::new(self.info.edited(edit)?);
        Ok(())
    }

    /// A link by which others find this torrent.
    pub fn magnet(&self) -> Magnet {
        Magnet {
            name: Some(self.info.name().to_owned()),
            trackers: self.trackers.iter().flatten().cloned().collect(),
            web_seeds: self.web_seeds.clone(),
            ..Magnet::new(self.info.hashes())
        }
    }

    /// Torrents that may have some of the same files (BEP 38), named inside or outside of the info
    /// dictionary.
    pub fn similar(&self) -> impl Iterator<Item = InfoHash> + '_ {
        self.similar.iter().chain(self.info.similar()).copied()
    }

    /// Names of collections (BEP 38), given inside or outside of the info dictionary.
    pub fn collections(&self) -> impl Iterator<Item = &str> + '_ {
        self.collections
            .iter()
            .chain(self.info.collections())
            .map(String::as_str)
    }

    /// The keys of the file that are unknown here, and their bencoded values.
    pub fn unknown(&self) -> BTreeMap<&[u8], &[u8]> {
        let unknown = self
            .read
            .iter()
            .filter(|(key, _)| !outer::KEYS.contains(&&***key));
        unknown.map(|(key, value)| (&**key, &**value)).collect()
    }
}
