//! The 68 bytes with which both sides begin (BEP 3, "peer protocol").

use riverrun_base::{InfoHash, PeerId};

use crate::error::PeerMisbehaved;

/// The name of the protocol, its length before it.
pub(crate) const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";
/// All up to the peer's id: what a listener needs to know which torrent is meant.
const HEAD_LEN: usize = 20 + 8 + 20;
/// The whole.
const LEN: usize = HEAD_LEN + 20;

/// What a side can do, by the bits that it sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a bit of its own BEP"
)]
pub(crate) struct Reserved {
    /// Extension protocol (BEP 10).
    pub(crate) extended: bool,
    /// DHT (BEP 5).
    pub(crate) dht: bool,
    /// Fast extension (BEP 6).
    pub(crate) fast: bool,
    /// Greets under v1 but knows v2 (BEP 52, "upgrade path").
    pub(crate) v2: bool,
}

impl Reserved {
    fn from_bytes(bytes: [u8; 8]) -> Self {
        Self {
            extended: bytes[5] & 0x10 != 0,
            dht: bytes[7] & 0x01 != 0,
            fast: bytes[7] & 0x04 != 0,
            v2: bytes[7] & 0x10 != 0,
        }
    }

    fn to_bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[5] = if self.extended { 0x10 } else { 0 };
        bytes[7] = u8::from(self.dht) | u8::from(self.fast) << 2 | u8::from(self.v2) << 4;
        bytes
    }
}

/// Our greeting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Greeting {
    pub(crate) reserved: Reserved,
    pub(crate) info_hash: InfoHash,
    pub(crate) peer_id: PeerId,
}

impl Greeting {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(PROTOCOL);
        out.extend_from_slice(&self.reserved.to_bytes());
        out.extend_from_slice(self.info_hash.as_bytes());
        out.extend_from_slice(self.peer_id.as_bytes());
    }
}

/// As much of the peer's greeting as has come.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    bytes: [u8; LEN],
    len: usize,
}

impl Received {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; LEN],
            len: 0,
        }
    }

    /// Takes what belongs to the greeting from the front of `input`. What cannot become a greeting is
    /// refused at the first wrong byte.
    pub(crate) fn take(&mut self, input: &mut &[u8]) -> Result<(), PeerMisbehaved> {
        let (front, rest) = input.split_at(input.len().min(LEN - self.len));
        self.bytes[self.len..self.len + front.len()].copy_from_slice(front);
        self.len += front.len();
        *input = rest;
        let known = self.len.min(PROTOCOL.len());
        if self.bytes[..known] == PROTOCOL[..known] {
            Ok(())
        } else {
            Err(PeerMisbehaved::NotBitTorrent)
        }
    }

    /// What the peer can do and which torrent it means, once that is there.
    pub(crate) fn head(&self) -> Option<(Reserved, InfoHash)> {
        let (_, rest) = self.bytes[..self.len].split_first_chunk::<20>()?;
        let (reserved, rest) = rest.split_first_chunk::<8>()?;
        let (info_hash, _) = rest.split_first_chunk::<20>()?;
        Some((Reserved::from_bytes(*reserved), InfoHash(*info_hash)))
    }

    /// Who the peer is, once that is there.
    pub(crate) fn peer_id(&self) -> Option<PeerId> {
        let id = (self.len == LEN).then_some(&self.bytes[HEAD_LEN..])?;
        id.try_into().ok().map(PeerId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_reads_back_and_shows_its_parts_as_they_come() {
        let reserved = Reserved {
            extended: true,
            fast: true,
            ..Reserved::default()
        };
        let greeting = Greeting {
            reserved,
            info_hash: InfoHash([7; 20]),
            peer_id: PeerId([9; 20]),
        };
        let mut wire = Vec::new();
        greeting.encode(&mut wire);
        assert_eq!(wire.len(), LEN);
        assert_eq!(wire[20..28], [0, 0, 0, 0, 0, 0x10, 0, 4]);
        let mut received = Received::new();
        for (at, byte) in wire.iter().enumerate() {
            assert_eq!(received.head().is_some(), at >= HEAD_LEN);
            assert_eq!(received.peer_id(), None);
            received.take(&mut &[*byte][..]).unwrap();
        }
        assert_eq!(received.head(), Some((reserved, InfoHash([7; 20]))));
        assert_eq!(received.peer_id(), Some(PeerId([9; 20])));
        let mut more = &b"more"[..];
        received.take(&mut more).unwrap();
        assert_eq!(more, b"more", "what follows is left");
    }

    #[test]
    fn something_else_is_refused_at_its_first_byte() {
        let refused = |bytes: &[u8]| Received::new().take(&mut &*bytes).is_err();
        assert!(refused(b"GET / HTTP/1.1"));
        assert!(refused(b"\x13BitTorrent protokoll"));
        assert!(!refused(b"\x13BitTorrent pro"));
        assert!(!refused(b""));
    }
}
