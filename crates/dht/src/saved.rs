//! What a node keeps between two runs: its ids, and nodes that were alive.
//!
//! ```text
//! "RRDHT" version(1 byte) SHA-1(20 bytes, of all that follows) bencode
//! ```

use std::net::IpAddr;

use riverrun_bencode::{Document, Limits, Writer};
use riverrun_hash::sha1;
use thiserror::Error;

use crate::contact::{Contact, Family, put_contacts, read_contacts};
use crate::id::NodeId;

const MAGIC: &[u8; 5] = b"RRDHT";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = MAGIC.len() + 1 + 20;

/// How many nodes of each family are kept: with nine of ten gone there are enough left to begin.
pub const NODES_MAX: usize = 300;

/// How many sockets' ids are kept.
const IDS_MAX: usize = 64;

/// Why a saved state cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidState {
    /// It is no state of a DHT node.
    #[error("not the state of a DHT node")]
    Magic,
    /// It was written by a later version.
    #[error("version {0} of the format is unknown, the newest known is {VERSION}")]
    Version(u8),
    /// Its checksum is wrong.
    #[error("the checksum is wrong")]
    Checksum,
    /// What it says makes no sense.
    #[error("the content is malformed")]
    Content,
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedState {
    /// Our ids, and the addresses for which they were made if that was known.
    pub ids: Vec<(NodeId, Option<IpAddr>)>,
    /// Nodes that were alive, the best first.
    pub nodes: Vec<Contact>,
}

impl SavedState {
    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let nodes = |family| -> Vec<_> {
            let nodes = self.nodes.iter().copied();
            let nodes = nodes.filter(|contact| Family::of(contact.addr) == family);
            nodes.take(NODES_MAX).collect()
        };
        let mut body = Writer::new();
        body.dict().key(b"ids").list();
        for (id, ip) in self.ids.iter().take(IDS_MAX) {
            let ip = ip.map_or_else(String::new, |ip| ip.to_string());
            body.list().bytes(&id.0).bytes(ip.as_bytes()).end();
        }
        body.end();
        body.key(b"nodes").bytes(&put_contacts(&nodes(Family::V4)));
        body.key(b"nodes6").bytes(&put_contacts(&nodes(Family::V6)));
        body.end();
        let body = body.finish();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend(MAGIC);
        bytes.push(VERSION);
        bytes.extend(sha1(&body).0);
        bytes.extend(body);
        bytes
    }

    /// From bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidState> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(InvalidState::Magic)?;
        let (version, rest) = rest.split_first().ok_or(InvalidState::Magic)?;
        if *version != VERSION {
            return Err(InvalidState::Version(*version));
        }
        let (sum, body) = rest
            .split_first_chunk::<20>()
            .ok_or(InvalidState::Checksum)?;
        if sha1(body).0 != *sum {
            return Err(InvalidState::Checksum);
        }
        Self::read(body).ok_or(InvalidState::Content)
    }

    fn read(body: &[u8]) -> Option<Self> {
        let document = Document::parse(body, Limits::MESSAGE).ok()?;
        let dict = document.root().as_dict()?;
        let mut ids = Vec::new();
        for pair in dict.get(b"ids")?.as_list()?.iter().take(IDS_MAX) {
            let pair = pair.as_list()?;
            let id = NodeId::from_slice(pair.get(0)?.as_bytes()?)?;
            ids.push((id, pair.get(1)?.as_str()?.parse().ok()));
        }
        let v4 = read_contacts(dict.get(b"nodes")?.as_bytes()?, Family::V4);
        let v6 = read_contacts(dict.get(b"nodes6")?.as_bytes()?, Family::V6);
        let nodes = v4.take(NODES_MAX).chain(v6.take(NODES_MAX)).collect();
        Some(Self { ids, nodes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> SavedState {
        let contact = |n: u8, addr: &str| Contact {
            id: NodeId([n; 20]),
            addr: addr.parse().unwrap(),
        };
        SavedState {
            ids: vec![
                (NodeId([1; 20]), Some(IpAddr::from([192, 0, 2, 1]))),
                (NodeId([2; 20]), None),
            ],
            nodes: vec![contact(3, "192.0.2.9:1"), contact(4, "[2001:db8::1]:2")],
        }
    }

    #[test]
    fn a_state_reads_back() {
        assert_eq!(SavedState::from_bytes(&state().to_bytes()), Ok(state()));
        let empty = SavedState::default();
        assert_eq!(SavedState::from_bytes(&empty.to_bytes()), Ok(empty));
    }

    #[test]
    fn no_damaged_byte_and_no_missing_end_goes_unnoticed() {
        let bytes = state().to_bytes();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(SavedState::from_bytes(&damaged).is_err(), "{at}");
            assert!(SavedState::from_bytes(&bytes[..at]).is_err(), "{at}");
        }
    }
}
