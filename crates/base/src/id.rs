//! Who is who: torrents and peers.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use crate::digest::{Sha1Digest, Sha256Digest};

pub use crate::digest::WireHash as InfoHash;

impl From<Sha1Digest> for InfoHash {
    fn from(digest: Sha1Digest) -> Self {
        Self(digest.0)
    }
}

impl From<Sha256Digest> for InfoHash {
    /// The truncated form of a v2 info-hash that goes over the wire.
    fn from(digest: Sha256Digest) -> Self {
        let mut bytes = [0; 20];
        bytes.copy_from_slice(&digest.0[..20]);
        Self(bytes)
    }
}

/// The info-hashes of one torrent: v1, v2, or both for a hybrid (BEP 52). At least one is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(Option<Sha1Digest>, Option<Sha256Digest>)")]
pub struct InfoHashes {
    v1: Option<Sha1Digest>,
    v2: Option<Sha256Digest>,
}

impl InfoHashes {
    /// Of a v1 torrent.
    pub const fn v1_only(v1: Sha1Digest) -> Self {
        Self {
            v1: Some(v1),
            v2: None,
        }
    }

    /// Of a v2 torrent.
    pub const fn v2_only(v2: Sha256Digest) -> Self {
        Self {
            v1: None,
            v2: Some(v2),
        }
    }

    /// Of a hybrid torrent.
    pub const fn hybrid(v1: Sha1Digest, v2: Sha256Digest) -> Self {
        Self {
            v1: Some(v1),
            v2: Some(v2),
        }
    }

    /// From what is known; `None` if nothing is.
    pub const fn new(v1: Option<Sha1Digest>, v2: Option<Sha256Digest>) -> Option<Self> {
        if v1.is_none() && v2.is_none() {
            None
        } else {
            Some(Self { v1, v2 })
        }
    }

    /// The SHA-1 of the info dictionary, if the torrent has v1 metadata.
    pub const fn v1(&self) -> Option<Sha1Digest> {
        self.v1
    }

    /// The SHA-256 of the info dictionary, if the torrent has v2 metadata.
    pub const fn v2(&self) -> Option<Sha256Digest> {
        self.v2
    }

    /// The names under which this torrent is announced and greeted: v1 first, then truncated v2.
    pub fn wire(&self) -> impl Iterator<Item = InfoHash> + use<> {
        let v1 = self.v1.map(InfoHash::from);
        v1.into_iter().chain(self.v2.map(InfoHash::from))
    }

    /// The name to use where there is room for one: v1 if there is one.
    pub fn primary(&self) -> InfoHash {
        match (self.v1, self.v2) {
            (Some(v1), _) => v1.into(),
            (None, Some(v2)) => v2.into(),
            (None, None) => unreachable!("the constructors take at least one hash"),
        }
    }

    /// The truncated v2 hash, under which v2-capable peers greet.
    pub fn wire_v2(&self) -> Option<InfoHash> {
        self.v2.map(InfoHash::from)
    }

    /// Whether `hash` names this torrent on the wire.
    pub fn matches(&self, hash: InfoHash) -> bool {
        self.wire().any(|own| own == hash)
    }
}

impl TryFrom<(Option<Sha1Digest>, Option<Sha256Digest>)> for InfoHashes {
    type Error = NoInfoHash;

    fn try_from((v1, v2): (Option<Sha1Digest>, Option<Sha256Digest>)) -> Result<Self, NoInfoHash> {
        Self::new(v1, v2).ok_or(NoInfoHash)
    }
}

/// A torrent without a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("neither a v1 nor a v2 info-hash")]
pub struct NoInfoHash;

/// The 20 bytes by which a peer names itself in a handshake (BEP 3, BEP 20).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct PeerId(pub [u8; 20]);

impl PeerId {
    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

impl Serialize for PeerId {
    /// As people read it where they do, which is not read back.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_has_two_names_on_the_wire() {
        let hashes = InfoHashes::hybrid(Sha1Digest([1; 20]), Sha256Digest([2; 32]));
        assert_eq!(
            hashes.wire().collect::<Vec<_>>(),
            [InfoHash([1; 20]), InfoHash([2; 20])]
        );
        assert_eq!(hashes.primary(), InfoHash([1; 20]));
        assert!(hashes.matches(InfoHash([2; 20])));
        assert!(!hashes.matches(InfoHash([3; 20])));
        assert_eq!(InfoHashes::new(None, None), None);
    }
}
