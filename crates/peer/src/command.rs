//! What the decisions tell a connection to do. Imperatives; [`PeerEvent`](crate::PeerEvent) mirrors them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use riverrun_base::{Bitfield, Block, BlockSpan, InfoHash, InfoHashes, PieceIndex};
use riverrun_metainfo::Info;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::blocks::BlockRun;
use crate::exchange::PeerExchange;
use crate::hashes::{HashRequest, Hashes};
use crate::holepunch::Holepunch;

/// An instruction to one connection.
#[derive(Clone, Debug, Serialize)]
pub enum PeerCommand {
    /// The peer's key is worth our arithmetic: the exchange goes on ([`PeerEvent::KeyExchange`]).
    ///
    /// [`PeerEvent::KeyExchange`]: crate::PeerEvent::KeyExchange
    ExchangeKeys,
    /// The torrent that the peer named veiled ([`PeerEvent::Veiled`]).
    ///
    /// [`PeerEvent::Veiled`]: crate::PeerEvent::Veiled
    Unveil(InfoHash),
    /// The torrent that a listening connection's peer asked for: the handshake can be answered.
    Attach(Box<Attach>),
    /// The metadata of a torrent that was attached without has arrived and was verified. What the peer said of
    /// its pieces before is now reported.
    Metadata(Arc<Info>),
    /// We have a piece: verified, may be requested. Becomes part of the bitfield if that is still to be sent.
    Have(PieceIndex),
    /// We no longer have a piece (BEP 54, to peers that know it).
    DontHave(PieceIndex),
    /// We have verified these blocks of a piece that we have not whole, and give them; for peers that want to hear of it.
    HaveBlocks(BlockRun),
    /// Choke the peer: its waiting requests are rejected, or dropped without the fast extension.
    Choke,
    /// Unchoke the peer.
    Unchoke,
    /// Tell the peer that we want something it has.
    Interested,
    /// Tell the peer that it has nothing we want.
    NotInterested,
    /// Request these blocks, in this order.
    Request(Vec<BlockSpan>),
    /// Take a request back. With the fast extension the peer still answers, and that answer is swallowed.
    Cancel(BlockSpan),
    /// Answer the peer's request for `span` with these bytes, whose length is the span's.
    Serve {
        /// What the peer asked for.
        span: BlockSpan,
        /// The bytes.
        block: Block,
    },
    /// Refuse the peer's request.
    Reject(BlockSpan),
    /// Suggest a piece to the peer (BEP 6).
    Suggest(PieceIndex),
    /// Allow the peer to request a piece although choked (BEP 6).
    AllowFast(PieceIndex),
    /// Ask for hashes (BEP 52).
    RequestHashes(HashRequest),
    /// Answer the peer's hash request.
    SendHashes(Hashes),
    /// Refuse the peer's hash request.
    RejectHashes(HashRequest),
    /// Ask for a 16 KiB piece of the metadata (BEP 9).
    RequestMetadata(u32),
    /// We upload only from now on (BEP 21), or no longer.
    UploadOnly(bool),
    /// Tell the peer of others (BEP 11), if it wants to hear of them.
    Exchange(Box<PeerExchange>),
    /// Say something about a meeting (BEP 55), if the peer understands it.
    Holepunch(Holepunch),
    /// More payload may be sent and received, beside what earlier credit left over.
    Credit(Credit),
    /// Send what is due no more; end the connection.
    Close(CloseReason),
}

/// How much payload a connection may move until the next credit, in bytes; `None` is without limit.
///
/// A connection starts unlimited in both directions. A block goes whole if anything is left, and the next credit
/// pays back what it took too much. At zero it sends no more blocks, or tells its driver
/// to read no more, and the transport's window passes the limit on to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Credit {
    /// Payload to send.
    pub send_bytes: Option<u64>,
    /// Payload to receive.
    pub receive_bytes: Option<u64>,
}

/// What a connection has to know of its torrent.
#[derive(Clone, Debug, Serialize)]
pub struct Attach {
    /// All its info-hashes.
    pub hashes: InfoHashes,
    /// The metadata; `None` while it is still to be fetched from peers.
    pub info: Option<Arc<Info>>,
    /// The pieces that we have, at the time of attaching; empty without metadata.
    pub have: Bitfield,
    /// Tell the peer of no piece at first (an initial seeder reveals them one by one, BEP 16).
    pub hide_pieces: bool,
    /// We upload only (BEP 21): a seed, or partial seed.
    pub upload_only: bool,
    /// Tell the peer nothing that would lead others here (BEP 27).
    pub private: bool,
    /// The peer's address, told to it (BEP 10, `yourip`).
    pub your_ip: Option<IpAddr>,
}

/// Why a dial failed.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DialFailure {
    /// The host is there, and nobody listens.
    #[error("connection refused")]
    Refused,
    /// Nobody has answered in time.
    #[error("no answer")]
    NoAnswer,
    /// There is no way there, such as to IPv6 from a machine without it.
    #[error("no way there")]
    NoWay,
    /// The proxy by which everything goes cannot be reached, or does not let us. That says nothing of the peer.
    #[error("{0}")]
    Proxy(String),
    /// Something else.
    #[error("{0}")]
    Other(String),
}

/// Why a web seed cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WebSeedFailure {
    /// Not now.
    Failed {
        /// Why.
        message: String,
        /// After how long its server wants to be asked again, if it says (RFC 9110, 10.2.3). Any time at all.
        retry_after: Option<Duration>,
    },
    /// Never: it does not have what the torrent consists of.
    Unfit(String),
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed it.
    PeerClosed,
    /// The transport failed.
    Transport(String),
    /// The dial failed.
    Unreachable(DialFailure),
    /// The web seed cannot be used.
    WebSeed(WebSeedFailure),
    /// The peer broke the protocol.
    Misbehaved(crate::PeerMisbehaved),
    /// Neither side has anything for the other.
    BothSeeds,
    /// The peer was banned.
    Banned,
    /// A better use for the connection's place was found.
    Crowded,
    /// The torrent was stopped or removed.
    TorrentStopped,
    /// We are connected to this peer already.
    Duplicate,
    /// The peer is ourselves.
    Ourselves,
    /// The network that we may use is gone, or our address in it is another.
    Offline,
    /// The engine shuts down.
    Shutdown,
}
