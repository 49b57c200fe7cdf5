//! The messages of BEP 3, 5, 6, 10 and 52, one variant each.
//!
//! A length prefix, an id, a payload; all integers are big-endian. What may be said when is not known here.

use riverrun_base::{BlockSpan, PieceIndex, Sha256Digest};

use crate::error::PeerMisbehaved;
use crate::hashes::HashRequest;

/// The ids of messages.
pub(crate) mod id {
    pub(crate) const CHOKE: u8 = 0;
    pub(crate) const UNCHOKE: u8 = 1;
    pub(crate) const INTERESTED: u8 = 2;
    pub(crate) const NOT_INTERESTED: u8 = 3;
    pub(crate) const HAVE: u8 = 4;
    pub(crate) const BITFIELD: u8 = 5;
    pub(crate) const REQUEST: u8 = 6;
    pub(crate) const PIECE: u8 = 7;
    pub(crate) const CANCEL: u8 = 8;
    pub(crate) const PORT: u8 = 9;
    pub(crate) const SUGGEST: u8 = 13;
    pub(crate) const HAVE_ALL: u8 = 14;
    pub(crate) const HAVE_NONE: u8 = 15;
    pub(crate) const REJECT: u8 = 16;
    pub(crate) const ALLOWED_FAST: u8 = 17;
    pub(crate) const EXTENDED: u8 = 20;
    pub(crate) const HASH_REQUEST: u8 = 21;
    pub(crate) const HASHES: u8 = 22;
    pub(crate) const HASH_REJECT: u8 = 23;
}

/// The length of a hash request's payload: root, base layer, index, count, proof layers.
pub(crate) const HASH_REQUEST_LEN: u32 = 32 + 4 * 4;
/// The length of what stands before the bytes in a `piece` message's payload.
pub(crate) const PIECE_HEAD_LEN: u32 = 4 + 4;

/// A message other than `piece`, whose payload is streamed, and the keep-alive, which is no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    Choke,
    Unchoke,
    Interested,
    NotInterested,
    Have(PieceIndex),
    Bitfield(&'a [u8]),
    Request(BlockSpan),
    Cancel(BlockSpan),
    Port(u16),
    Suggest(PieceIndex),
    HaveAll,
    HaveNone,
    Reject(BlockSpan),
    AllowedFast(PieceIndex),
    Extended {
        /// As the receiver named it; 0 is the handshake.
        id: u8,
        payload: &'a [u8],
    },
    /// The numbers are not checked.
    HashRequest(HashRequest),
    Hashes {
        request: HashRequest,
        /// As many as `request` asks for.
        hashes: &'a [[u8; 32]],
    },
    HashReject(HashRequest),
}

impl<'a> Message<'a> {
    /// The message with this id and payload. [`id::PIECE`] is not among them.
    pub(crate) fn parse(id: u8, payload: &'a [u8]) -> Result<Self, PeerMisbehaved> {
        let message = match id {
            id::CHOKE => Self::Choke,
            id::UNCHOKE => Self::Unchoke,
            id::INTERESTED => Self::Interested,
            id::NOT_INTERESTED => Self::NotInterested,
            id::HAVE => Self::Have(piece(id, payload)?),
            id::BITFIELD => return Ok(Self::Bitfield(payload)),
            id::REQUEST => Self::Request(span(id, payload)?),
            id::CANCEL => Self::Cancel(span(id, payload)?),
            id::PORT => match payload {
                [high, low] => Self::Port(u16::from_be_bytes([*high, *low])),
                _ => return Err(wrong_length(id, payload)),
            },
            id::SUGGEST => Self::Suggest(piece(id, payload)?),
            id::HAVE_ALL => Self::HaveAll,
            id::HAVE_NONE => Self::HaveNone,
            id::REJECT => Self::Reject(span(id, payload)?),
            id::ALLOWED_FAST => Self::AllowedFast(piece(id, payload)?),
            id::EXTENDED => return extended(payload),
            id::HASH_REQUEST => Self::HashRequest(hash_request(id, payload)?.0),
            id::HASHES => return hashes(payload),
            id::HASH_REJECT => Self::HashReject(hash_request(id, payload)?.0),
            _ => return Err(PeerMisbehaved::UnexpectedMessage { id }),
        };
        match exact_len(id) {
            Some(len) if payload.len() != len as usize => Err(wrong_length(id, payload)),
            _ => Ok(message),
        }
    }

    pub(crate) const fn id(&self) -> u8 {
        match self {
            Self::Choke => id::CHOKE,
            Self::Unchoke => id::UNCHOKE,
            Self::Interested => id::INTERESTED,
            Self::NotInterested => id::NOT_INTERESTED,
            Self::Have(_) => id::HAVE,
            Self::Bitfield(_) => id::BITFIELD,
            Self::Request(_) => id::REQUEST,
            Self::Cancel(_) => id::CANCEL,
            Self::Port(_) => id::PORT,
            Self::Suggest(_) => id::SUGGEST,
            Self::HaveAll => id::HAVE_ALL,
            Self::HaveNone => id::HAVE_NONE,
            Self::Reject(_) => id::REJECT,
            Self::AllowedFast(_) => id::ALLOWED_FAST,
            Self::Extended { .. } => id::EXTENDED,
            Self::HashRequest(_) => id::HASH_REQUEST,
            Self::Hashes { .. } => id::HASHES,
            Self::HashReject(_) => id::HASH_REJECT,
        }
    }

    /// Appends the whole message, length prefix and all.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0, 0, 0, 0, self.id()]);
        match self {
            Self::Choke | Self::Unchoke | Self::Interested | Self::NotInterested => {}
            Self::HaveAll | Self::HaveNone => {}
            Self::Have(piece) | Self::Suggest(piece) | Self::AllowedFast(piece) => {
                out.extend_from_slice(&piece.0.to_be_bytes());
            }
            Self::Bitfield(bytes) => out.extend_from_slice(bytes),
            Self::Request(span) | Self::Cancel(span) | Self::Reject(span) => {
                for number in [span.piece.0, span.offset, span.len] {
                    out.extend_from_slice(&number.to_be_bytes());
                }
            }
            Self::Port(port) => out.extend_from_slice(&port.to_be_bytes()),
            Self::Extended { id, payload } => {
                out.push(*id);
                out.extend_from_slice(payload);
            }
            Self::HashRequest(request) | Self::HashReject(request) => {
                encode_hash_request(request, out);
            }
            Self::Hashes { request, hashes } => {
                encode_hash_request(request, out);
                out.extend_from_slice(hashes.as_flattened());
            }
        }
        // Invariant: what we send is bounded far below 4 GiB, by the limits on what is served.
        let len = u32::try_from(out.len() - start - 4).expect("a message fits its length prefix");
        out[start..start + 4].copy_from_slice(&len.to_be_bytes());
    }
}

/// Appends all of a `piece` message that stands before its bytes.
pub(crate) fn encode_piece_head(span: BlockSpan, out: &mut Vec<u8>) {
    let len = span.len.saturating_add(1 + PIECE_HEAD_LEN);
    out.extend_from_slice(&len.to_be_bytes());
    out.push(id::PIECE);
    out.extend_from_slice(&span.piece.0.to_be_bytes());
    out.extend_from_slice(&span.offset.to_be_bytes());
}

/// The one legal length of the payload of a message, if there is only one.
pub(crate) const fn exact_len(id: u8) -> Option<u32> {
    match id {
        id::CHOKE | id::UNCHOKE | id::INTERESTED | id::NOT_INTERESTED => Some(0),
        id::HAVE_ALL | id::HAVE_NONE => Some(0),
        id::HAVE | id::SUGGEST | id::ALLOWED_FAST => Some(4),
        id::REQUEST | id::CANCEL | id::REJECT => Some(12),
        id::PORT => Some(2),
        id::HASH_REQUEST | id::HASH_REJECT => Some(HASH_REQUEST_LEN),
        _ => None,
    }
}

/// How many hashes answer `request`: the nodes, and an uncle from each proof layer but the first
/// `log2(count) - 1`, whose nodes follow from those sent (BEP 52, "hashes").
pub(crate) const fn answer_len(request: &HashRequest) -> u64 {
    let follow = request.count.saturating_sub(1).checked_ilog2();
    // For a power of two, `ilog2(count - 1)` is `log2(count) - 1`.
    let follow = match follow {
        Some(follow) => follow,
        None => 0,
    };
    request.count as u64 + request.proof_layers.saturating_sub(follow) as u64
}

fn wrong_length(id: u8, payload: &[u8]) -> PeerMisbehaved {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    PeerMisbehaved::MessageLength { id, len }
}

fn numbers<const N: usize>(id: u8, payload: &[u8]) -> Result<[u32; N], PeerMisbehaved> {
    let (chunks, rest) = payload.as_chunks::<4>();
    match <&[[u8; 4]; N]>::try_from(chunks) {
        Ok(chunks) if rest.is_empty() => Ok(chunks.map(u32::from_be_bytes)),
        _ => Err(wrong_length(id, payload)),
    }
}

fn piece(id: u8, payload: &[u8]) -> Result<PieceIndex, PeerMisbehaved> {
    numbers(id, payload).map(|[index]| PieceIndex(index))
}

fn span(id: u8, payload: &[u8]) -> Result<BlockSpan, PeerMisbehaved> {
    let [index, offset, len] = numbers(id, payload)?;
    Ok(BlockSpan {
        piece: PieceIndex(index),
        offset,
        len,
    })
}

fn extended(payload: &[u8]) -> Result<Message<'_>, PeerMisbehaved> {
    match payload {
        [id, payload @ ..] => Ok(Message::Extended { id: *id, payload }),
        [] => Err(wrong_length(id::EXTENDED, payload)),
    }
}

fn hash_request(id: u8, payload: &[u8]) -> Result<(HashRequest, &[u8]), PeerMisbehaved> {
    let (head, hashes) = payload
        .split_at_checked(HASH_REQUEST_LEN as usize)
        .ok_or_else(|| wrong_length(id, payload))?;
    let (root, rest) = head.split_at(Sha256Digest::LEN);
    let [base_layer, index, count, proof_layers] = numbers(id, rest)?;
    let request = HashRequest {
        // Invariant: it was split off with that length.
        pieces_root: Sha256Digest::from_slice(root).expect("32 bytes"),
        base_layer,
        index,
        count,
        proof_layers,
    };
    Ok((request, hashes))
}

fn hashes(payload: &[u8]) -> Result<Message<'_>, PeerMisbehaved> {
    let (request, rest) = hash_request(id::HASHES, payload)?;
    let (hashes, odd) = rest.as_chunks::<32>();
    if !odd.is_empty() || hashes.len() as u64 != answer_len(&request) {
        return Err(wrong_length(id::HASHES, payload));
    }
    Ok(Message::Hashes { request, hashes })
}

fn encode_hash_request(request: &HashRequest, out: &mut Vec<u8>) {
    out.extend_from_slice(request.pieces_root.as_bytes());
    for number in [
        request.base_layer,
        request.index,
        request.count,
        request.proof_layers,
    ] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: BlockSpan = BlockSpan {
        piece: PieceIndex(1),
        offset: 0x4000,
        len: 5,
    };
    const REQUEST: HashRequest = HashRequest {
        pieces_root: Sha256Digest([7; 32]),
        base_layer: 1,
        index: 4,
        count: 4,
        proof_layers: 3,
    };

    #[test]
    fn every_message_reads_back_as_it_was_written() {
        let hashes = [[1; 32]; 6];
        for message in [
            Message::Choke,
            Message::Unchoke,
            Message::Interested,
            Message::NotInterested,
            Message::Have(PieceIndex(258)),
            Message::Bitfield(&[0x80, 1]),
            Message::Request(SPAN),
            Message::Cancel(SPAN),
            Message::Port(6881),
            Message::Suggest(PieceIndex(3)),
            Message::HaveAll,
            Message::HaveNone,
            Message::Reject(SPAN),
            Message::AllowedFast(PieceIndex(9)),
            Message::Extended {
                id: 3,
                payload: b"de",
            },
            Message::HashRequest(REQUEST),
            Message::Hashes {
                request: REQUEST,
                hashes: &hashes,
            },
            Message::HashReject(REQUEST),
        ] {
            let mut wire = Vec::new();
            message.encode(&mut wire);
            let len = u32::from_be_bytes(wire[..4].try_into().unwrap());
            assert_eq!(len as usize, wire.len() - 4, "{message:?}");
            assert_eq!(Message::parse(wire[4], &wire[5..]), Ok(message));
        }
    }

    #[test]
    fn the_wire_is_as_the_beps_draw_it() {
        let check = |message: Message<'_>, expected: &[u8]| {
            let mut wire = Vec::new();
            message.encode(&mut wire);
            assert_eq!(wire, expected, "{message:?}");
        };
        check(Message::Choke, &[0, 0, 0, 1, 0]);
        check(
            Message::Have(PieceIndex(0x102)),
            &[0, 0, 0, 5, 4, 0, 0, 1, 2],
        );
        check(
            Message::Request(SPAN),
            &[0, 0, 0, 13, 6, 0, 0, 0, 1, 0, 0, 0x40, 0, 0, 0, 0, 5],
        );
        check(Message::Port(0x1ae1), &[0, 0, 0, 3, 9, 0x1a, 0xe1]);
        let mut head = Vec::new();
        encode_piece_head(SPAN, &mut head);
        assert_eq!(head, [0, 0, 0, 14, 7, 0, 0, 0, 1, 0, 0, 0x40, 0]);
    }

    #[test]
    fn a_wrong_length_is_the_peers_fault() {
        for id in (0..=23).filter(|id| ![id::BITFIELD, id::PIECE, id::EXTENDED].contains(id)) {
            let payload = [0; 11];
            let error = Message::parse(id, &payload).unwrap_err();
            let unknown = matches!(id, 10..=12 | 18 | 19);
            let expected = if unknown {
                PeerMisbehaved::UnexpectedMessage { id }
            } else {
                PeerMisbehaved::MessageLength { id, len: 11 }
            };
            assert_eq!(error, expected);
        }
        assert!(Message::parse(id::EXTENDED, &[]).is_err());
    }

    #[test]
    fn an_answer_has_as_many_hashes_as_were_asked_for() {
        let count = |count, proof_layers| {
            answer_len(&HashRequest {
                count,
                proof_layers,
                ..REQUEST
            })
        };
        assert_eq!(count(2, 0), 2);
        assert_eq!(count(2, 1), 3, "the sibling of their parent");
        assert_eq!(count(4, 1), 4, "both parents follow from the nodes");
        assert_eq!(count(4, 2), 5);
        assert_eq!(count(512, 10), 514);
        assert_eq!(count(0, 3), 3);
        assert_eq!(
            count(u32::MAX, u32::MAX),
            u64::from(u32::MAX) * 2 - 31,
            "no overflow"
        );
    }
}
