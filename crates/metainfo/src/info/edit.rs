//! Changes to an info dictionary. They change the info-hash.

use std::collections::BTreeMap;

use riverrun_bencode::{Dict, Document, Limits, Writer};

use super::{Info, InfoError};

/// What to change; `None` leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InfoEdit {
    /// Whether only peers from the trackers may be used (BEP 27).
    pub private: Option<bool>,
    /// The key `source`; `Some(None)` removes it.
    pub source: Option<Option<String>>,
    /// The name of the file, or of the directory of several.
    pub name: Option<String>,
}

impl Info {
    /// The info dictionary with these changes; all other keys keep their values, unknown ones too.
    pub fn edited(&self, edit: &InfoEdit) -> Result<Self, InfoError> {
        let document = Document::parse(self.raw(), Limits::TORRENT)?;
        let dict = document.root().as_dict().ok_or(InfoError::NotADictionary)?;
        let mut values: BTreeMap<&[u8], Vec<u8>> = dict
            .iter()
            .map(|(key, value)| (key, value.raw().to_vec()))
            .collect();
        match edit.private {
            Some(true) => drop(values.insert(b"private", b"i1e".to_vec())),
            Some(false) => drop(values.remove(&b"private"[..])),
            None => {}
        }
        match &edit.source {
            Some(Some(source)) => drop(values.insert(b"source", string(source))),
            Some(None) => drop(values.remove(&b"source"[..])),
            None => {}
        }
        if let Some(name) = &edit.name {
            values.insert(b"name", string(name));
            values.remove(&b"name.utf-8"[..]);
            if let Some(tree) = dict
                .get(b"file tree")
                .and_then(|tree| tree.as_dict())
                .filter(|_| self.is_single_file())
            {
                values.insert(b"file tree", renamed(tree, name));
            }
        }
        Self::from_bytes(&written(&values))
    }
}

/// The tree of a single file, which repeats the name.
fn renamed(tree: Dict<'_, '_>, name: &str) -> Vec<u8> {
    written(
        &tree
            .iter()
            .map(|(_, node)| (name.as_bytes(), node.raw().to_vec()))
            .collect(),
    )
}

fn written(values: &BTreeMap<&[u8], Vec<u8>>) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.dict();
    for (key, value) in values {
        writer.key(key).raw(value);
    }
    writer.end();
    writer.finish()
}

fn string(text: &str) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.bytes(text.as_bytes());
    writer.finish()
}
