//! Metadata from peer to peer (BEP 9): a dictionary, and in data messages raw bytes after it.

use std::collections::VecDeque;

use riverrun_bencode::{Document, Limits, Writer};

use crate::codec::extended::METADATA_LEN_MAX;
use crate::error::PeerMisbehaved;

/// The length of every piece of the metadata but the last (BEP 9).
const PIECE_LEN: u32 = 16 * 1024;
/// How often the whole metadata is given to one peer, counted in pieces; then requests are rejected (BEP 9:
/// "typically the number of pieces of metadata times a factor").
const SERVED_FACTOR: u32 = 3;
/// The dictionary of a message has four keys.
const LIMITS: Limits = Limits {
    depth: 8,
    tokens: 64,
    bytes: crate::codec::reader::EXTENDED_LEN_MAX as usize,
};

/// A message of BEP 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetadataMessage<'a> {
    Request(u32),
    Data {
        piece: u32,
        /// Of the whole; within the limit.
        total_len: u32,
        /// As many as the piece has.
        bytes: &'a [u8],
    },
    Reject(u32),
}

impl<'a> MetadataMessage<'a> {
    /// `None` for a type that is not known: "an unrecognized message ID MUST be ignored".
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Option<Self>, PeerMisbehaved> {
        const UNREADABLE: PeerMisbehaved = PeerMisbehaved::Extended("unreadable metadata message");
        let (document, len) = Document::parse_prefix(payload, LIMITS).map_err(|_| UNREADABLE)?;
        let dict = document.root().as_dict().ok_or(UNREADABLE)?;
        let number = |key| dict.get(key).and_then(|value| value.as_int());
        let kind = number(b"msg_type").ok_or(UNREADABLE)?;
        if !(0..=2).contains(&kind) {
            return Ok(None);
        }
        let piece = number(b"piece").and_then(|piece| u32::try_from(piece).ok());
        let piece = piece.ok_or(UNREADABLE)?;
        match kind {
            0 => Ok(Some(Self::Request(piece))),
            2 => Ok(Some(Self::Reject(piece))),
            _ => {
                let total_len = number(b"total_size").and_then(|len| u32::try_from(len).ok());
                let total_len = total_len.ok_or(UNREADABLE)?;
                data(piece, total_len, &payload[len..]).map(Some)
            }
        }
    }

    /// The payload of the extended message.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        let (kind, piece) = match self {
            Self::Request(piece) => (0, *piece),
            Self::Data { piece, .. } => (1, *piece),
            Self::Reject(piece) => (2, *piece),
        };
        writer.dict().key(b"msg_type").uint(kind);
        writer.key(b"piece").uint(piece.into());
        if let Self::Data { total_len, .. } = self {
            writer.key(b"total_size").uint((*total_len).into());
        }
        writer.end();
        let mut payload = writer.finish();
        if let Self::Data { bytes, .. } = self {
            payload.extend_from_slice(bytes);
        }
        payload
    }
}

fn data(piece: u32, total_len: u32, bytes: &[u8]) -> Result<MetadataMessage<'_>, PeerMisbehaved> {
    if total_len > METADATA_LEN_MAX {
        return Err(PeerMisbehaved::Extended("metadata over the limit"));
    }
    let start = piece.checked_mul(PIECE_LEN);
    let left = start.and_then(|start| total_len.checked_sub(start));
    let expected = left
        .filter(|left| *left > 0)
        .map(|left| left.min(PIECE_LEN));
    if expected.is_none_or(|expected| bytes.len() != expected as usize) {
        return Err(PeerMisbehaved::Extended(
            "a piece of metadata of the wrong length",
        ));
    }
    Ok(MetadataMessage::Data {
        piece,
        total_len,
        bytes,
    })
}

/// What is asked for and owed in both directions.
#[derive(Debug, Default)]
pub(crate) struct MetadataExchange {
    /// Our requests.
    asked: Vec<u32>,
    /// The peer's requests that are to be answered with data. No bytes are put together before they can leave.
    owed: VecDeque<u32>,
    /// How many pieces were ever owed.
    admitted: u32,
}

impl MetadataExchange {
    /// We ask for a piece; whether that was not asked already.
    pub(crate) fn ask(&mut self, piece: u32) -> bool {
        let new = !self.asked.contains(&piece);
        if new {
            self.asked.push(piece);
        }
        new
    }

    /// An answer has come; whether it was asked for.
    pub(crate) fn answered(&mut self, piece: u32) -> bool {
        let at = self.asked.iter().position(|asked| *asked == piece);
        at.map(|at| self.asked.swap_remove(at)).is_some()
    }

    /// Everything asked for, which will not come.
    pub(crate) fn give_up(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.asked)
    }

    /// The peer asks for a piece of `metadata`; whether it will get it.
    pub(crate) fn admit(&mut self, piece: u32, metadata: Option<&[u8]>) -> bool {
        let Some(metadata) = metadata.filter(|metadata| piece_of(metadata, piece).is_some()) else {
            return false;
        };
        let pieces = metadata.len().div_ceil(PIECE_LEN as usize);
        let limit = u32::try_from(pieces)
            .unwrap_or(u32::MAX)
            .saturating_mul(SERVED_FACTOR);
        if self.admitted >= limit {
            return false;
        }
        self.admitted += 1;
        self.owed.push_back(piece);
        true
    }

    /// The next data message that is owed.
    pub(crate) fn pop<'a>(&mut self, metadata: &'a [u8]) -> Option<MetadataMessage<'a>> {
        let piece = self.owed.pop_front()?;
        let bytes = piece_of(metadata, piece)?;
        let total_len = u32::try_from(metadata.len()).ok()?;
        Some(MetadataMessage::Data {
            piece,
            total_len,
            bytes,
        })
    }

    /// About how many bytes are owed.
    pub(crate) fn owed_bytes(&self) -> usize {
        self.owed.len() * PIECE_LEN as usize
    }
}

fn piece_of(metadata: &[u8], piece: u32) -> Option<&[u8]> {
    metadata.chunks(PIECE_LEN as usize).nth(piece as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_bep_9_shows_them() {
        let check = |message: MetadataMessage<'_>, wire: &[u8]| {
            assert_eq!(message.encode(), wire);
            assert_eq!(MetadataMessage::parse(wire), Ok(Some(message)));
        };
        check(MetadataMessage::Request(0), b"d8:msg_typei0e5:piecei0ee");
        check(MetadataMessage::Reject(7), b"d8:msg_typei2e5:piecei7ee");
        let data = MetadataMessage::Data {
            piece: 0,
            total_len: 5,
            bytes: b"d1:ae",
        };
        check(data, b"d8:msg_typei1e5:piecei0e10:total_sizei5eed1:ae");
    }

    #[test]
    fn an_unknown_type_is_ignored() {
        for payload in [
            &b"d8:msg_typei3e5:piecei0ee"[..],
            b"d8:msg_typei-1ee",
            b"d8:msg_typei99ee trailing",
        ] {
            assert_eq!(MetadataMessage::parse(payload), Ok(None));
        }
    }

    #[test]
    fn what_makes_no_sense_is_the_peers_fault() {
        for payload in [
            &b""[..],
            b"de",
            b"i1e",
            b"d8:msg_typei0ee",
            b"d8:msg_typei0e5:piecei-1ee",
            b"d8:msg_typei0e5:piecei4294967296ee",
            b"d8:msg_typei1e5:piecei0eexxxxx",
            b"d8:msg_typei1e5:piecei0e10:total_sizei0ee",
            b"d8:msg_typei1e5:piecei0e10:total_sizei-1ee",
            b"d8:msg_typei1e5:piecei0e10:total_sizei5eexxxx",
            b"d8:msg_typei1e5:piecei1e10:total_sizei16384eex",
            b"d8:msg_typei1e5:piecei4294967295e10:total_sizei16384eex",
            b"d8:msg_typei1e5:piecei2047e10:total_sizei33554433eex",
        ] {
            let parsed = MetadataMessage::parse(payload);
            assert!(
                matches!(parsed, Err(PeerMisbehaved::Extended(_))),
                "{} {parsed:?}",
                payload.escape_ascii()
            );
        }
    }

    #[test]
    fn the_metadata_is_given_three_times_and_then_no_more() {
        let metadata = vec![b'm'; PIECE_LEN as usize + 1];
        let mut exchange = MetadataExchange::default();
        assert!(!exchange.admit(0, None), "we do not have it ourselves");
        assert!(
            !exchange.admit(2, Some(&metadata)),
            "there is no such piece"
        );
        for _ in 0..6 {
            assert!(exchange.admit(1, Some(&metadata)));
        }
        assert!(!exchange.admit(0, Some(&metadata)));
        let Some(MetadataMessage::Data { bytes, .. }) = exchange.pop(&metadata) else {
            panic!("six are owed");
        };
        assert_eq!(bytes, b"m");
    }

    #[test]
    fn only_what_was_asked_for_counts() {
        let mut exchange = MetadataExchange::default();
        assert!(exchange.ask(3) && !exchange.ask(3));
        assert!(!exchange.answered(2));
        assert!(exchange.answered(3) && !exchange.answered(3));
    }
}
