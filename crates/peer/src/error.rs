//! What a peer can do wrong. Each variant is the peer's fault and ends the connection.

use riverrun_base::{BlockSpan, InvalidBitfield};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A breach of the protocol by the peer. As data it is told without words that only people read.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PeerMisbehaved {
    /// The first bytes are not a handshake.
    #[error("not a BitTorrent handshake")]
    NotBitTorrent,
    /// It speaks in the clear, and we do not.
    #[error("the peer does not encrypt")]
    NotEncrypted,
    /// Keys cannot be exchanged with it.
    #[error("key exchange: {0}")]
    KeyExchange(#[serde(skip)] &'static str),
    /// The handshake took too long.
    #[error("the handshake took too long")]
    HandshakeTimeout,
    /// It answered for another torrent than it was asked for.
    #[error("the peer answered for another torrent")]
    WrongTorrent,
    /// It has been silent too long.
    #[error("the peer has been silent too long")]
    Idle,
    /// A message is longer than any legal one of its kind.
    #[error("a message of {len} bytes, at most {limit} are legal")]
    MessageTooLong {
        /// The claimed length.
        len: u32,
        /// The limit.
        limit: u32,
    },
    /// A message has the wrong length for its kind.
    #[error("message {id} with {len} bytes of payload")]
    MessageLength {
        /// The message's id.
        id: u8,
        /// Its payload's length.
        len: u32,
    },
    /// A message came that the state does not allow, such as a second bitfield.
    #[error("message {id} where it is not allowed")]
    UnexpectedMessage {
        /// The message's id.
        id: u8,
    },
    /// The bitfield does not fit the torrent.
    #[error(transparent)]
    Bitfield(#[from] InvalidBitfield),
    /// A piece index is past the end.
    #[error("piece {index} of {count}")]
    PieceOutOfRange {
        /// The index.
        index: u32,
        /// How many pieces there are.
        count: u32,
    },
    /// A request that no torrent piece contains, or that is too long.
    #[error("request {0} is not inside a piece")]
    RequestOutOfRange(BlockSpan),
    /// Too many requests although told our limit.
    #[error("more than {limit} requests over our limit")]
    RequestFlood {
        /// The limit.
        limit: u32,
    },
    /// A block that was not requested.
    #[error("block {0} was not requested")]
    BlockNotRequested(BlockSpan),
    /// A hash message on a connection without v2, or hashes that were not requested.
    #[error("hashes that were not requested")]
    HashesNotRequested,
    /// It tells of other peers again and again.
    #[error("a flood of peer exchange")]
    ExchangeFlood,
    /// An extended message that cannot be read.
    #[error("extended message: {0}")]
    Extended(#[serde(skip)] &'static str),
}
