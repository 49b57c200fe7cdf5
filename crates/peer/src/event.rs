//! What a connection reports. Facts; [`PeerCommand`](crate::PeerCommand) mirrors them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use riverrun_base::{Bitfield, Block, BlockSpan, InfoHash, PeerId, PieceIndex, Sha1Digest};
use serde::{Deserialize, Serialize};

use crate::blocks::BlockRun;
use crate::exchange::PeerExchange;
use crate::hashes::{HashRequest, Hashes};
use crate::holepunch::Holepunch;
use crate::mse::Encryption;

/// Something that a connection's peer did, checked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PeerEvent {
    /// A dialling peer wants the connection encrypted, and has sent its key. To go on costs a tenth of a millisecond
    /// of arithmetic: answer with [`ExchangeKeys`](crate::PeerCommand::ExchangeKeys), or close.
    KeyExchange,
    /// It has named its torrent so that only those see which one who know it ([`veiled`](crate::veiled)): answer with
    /// [`Unveil`](crate::PeerCommand::Unveil), or close.
    Veiled(Sha1Digest),
    /// A dialling peer has named its torrent: answer with [`Attach`](crate::PeerCommand::Attach), or close.
    Handshake(InfoHash),
    /// Both handshakes are through. Comes once, before any event below.
    Ready(Box<PeerHello>),
    /// The peer's extended handshake (BEP 10) has come or was repeated; the hello as it is now.
    Extended(Box<PeerHello>),
    /// The peer chokes us. Requests under way were lost, and are each reported as rejected first, except those
    /// that an allowed-fast set or the fast extension keeps alive.
    Choked,
    /// The peer unchokes us.
    Unchoked,
    /// The peer wants something from us.
    Interested,
    /// The peer wants nothing from us.
    NotInterested,
    /// The peer has a piece more. Peers repeat themselves; it may be one that was told before.
    Has(PieceIndex),
    /// All that the peer has. Comes once, soon after [`PeerEvent::Ready`] or after the metadata, before any
    /// [`PeerEvent::Has`].
    HasPieces(Bitfield),
    /// The peer has verified these blocks of a piece that it has not whole, and gives them. It may tell of some that were
    /// told before, or of a piece of which it has told that it has it.
    HasBlocks(BlockRun),
    /// The peer no longer has a piece (BEP 54).
    LostPiece(PieceIndex),
    /// The peer requests a block. It lies in the torrent; the rest is to be decided. Ends in exactly one of
    /// [`PeerEvent::Served`], [`PeerEvent::Unwants`], our reject, our choke (unless the piece is allowed fast), our
    /// loss of the piece.
    Wants(BlockSpan),
    /// The peer takes back a request that was not yet served.
    Unwants(BlockSpan),
    /// A block that was requested has come.
    Received {
        /// Which.
        span: BlockSpan,
        /// Its bytes, as many as the span has. Not verified.
        block: Block,
    },
    /// A block has come that nobody waits for any more: its request was taken back, or given up. Its bytes are let
    /// go; they were received all the same, and have used up credit.
    Unwanted(BlockSpan),
    /// A block that was requested will not come: rejected, lost to a choke, passed over for long, or never asked
    /// for since that was not allowed any more. Every request ends in this, in [`PeerEvent::Received`], or without
    /// an event in our cancel.
    Rejected(BlockSpan),
    /// A block is with the transport to its last byte. It may come after our choke, or our loss of the piece, if it was on
    /// its way there already.
    Served(BlockSpan),
    /// The number of requests that should be under way has changed (from bandwidth and round-trip time). Told
    /// first right after [`PeerEvent::Ready`].
    Window(u32),
    /// The peer owes us blocks and has sent nothing of any for the snub timeout; told again each time that it passes.
    /// Not told while it is us who do not read.
    Snubbed,
    /// We may request this piece although choked (BEP 6).
    AllowedFast(PieceIndex),
    /// The peer suggests this piece (BEP 6).
    Suggested(PieceIndex),
    /// Hashes that were requested have come. Not verified.
    Hashes(Hashes),
    /// Hashes that were requested will not come.
    HashesRejected(HashRequest),
    /// The peer asks for hashes.
    WantsHashes(HashRequest),
    /// A piece of the metadata that was requested has come (BEP 9). Not verified.
    Metadata {
        /// Which 16 KiB piece.
        piece: u32,
        /// How long the peer says the whole is, in bytes; within the limit.
        total_len: u32,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A piece of the metadata that was requested will not come.
    MetadataRejected(u32),
    /// The peer tells of others (BEP 11); at most about once a minute.
    Exchange(Box<PeerExchange>),
    /// The peer says something about a meeting (BEP 55).
    Holepunch(Holepunch),
    /// The UDP port of the peer's DHT node (BEP 5).
    DhtPort(u16),
}

/// Who a peer says it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHello {
    /// Its id.
    pub peer_id: PeerId,
    /// The info-hash under which the connection runs: for a hybrid torrent the v2 one if both know v2.
    pub info_hash: InfoHash,
    /// What both sides can do.
    pub features: Features,
    /// How much of the connection is encrypted.
    pub encryption: Encryption,
    /// Its name and version (BEP 10, `v`), cleaned of control characters, at most 64 characters.
    pub client: Option<String>,
    /// The port where it listens (BEP 10, `p`).
    pub listen_port: Option<u16>,
    /// How many requests it keeps waiting (BEP 10, `reqq`).
    pub request_queue_max: Option<u32>,
    /// The length of the metadata that it can give (BEP 9), in bytes; within the limit.
    pub metadata_len: Option<u32>,
    /// Our address as it sees us (BEP 10, `yourip`).
    pub our_ip: Option<IpAddr>,
    /// Its IPv4 address beside the one it came from (BEP 10).
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address beside the one it came from (BEP 10).
    pub ipv6: Option<Ipv6Addr>,
    /// It uploads only (BEP 21).
    pub upload_only: bool,
    /// It would rather have connections encrypted.
    pub prefers_encryption: bool,
}

/// What both sides of a connection can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each stands for one BEP, on its own"
)]
pub struct Features {
    /// Fast extension (BEP 6).
    pub fast: bool,
    /// Extension protocol (BEP 10).
    pub extended: bool,
    /// The connection runs under v2: hash messages are legal (BEP 52).
    pub v2: bool,
    /// The peer exchanges metadata (BEP 9).
    pub metadata: bool,
    /// The peer understands `lt_donthave` (BEP 54).
    pub dont_have: bool,
    /// The peer wants to hear of single blocks of a v2 torrent that are verified, and tells of its own.
    pub blocks: bool,
    /// The peer wants to hear of others (BEP 11).
    pub exchange: bool,
    /// The peer can be met through others, and can have others meet (BEP 55).
    pub holepunch: bool,
    /// The peer runs a DHT node (BEP 5).
    pub dht: bool,
}
