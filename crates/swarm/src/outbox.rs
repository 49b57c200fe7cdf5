//! What a shard wants done, and what it has to tell.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use riverrun_base::{
    Bitfield, Block, BlockSpan, FileIndex, InfoHash, PeerId, PieceIndex, Sha1Digest, Sha256Digest,
};
use riverrun_metainfo::{Info, PieceHash, PieceHashes};
use riverrun_peer::{Attach, CloseReason, HashRequest, PeerCommand};
use riverrun_tracker::{AnnounceRequest, TrackerUrl};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::input::WebSeed;
use crate::key::{ConnKey, TorrentKey};
use crate::reason::{PickReason, SlotReason};

/// What a shard wants done. Reused: the driver drains it after each batch of inputs, in order.
#[derive(Debug, Default, Serialize)]
pub struct Outbox {
    /// For connections.
    pub peers: Vec<(ConnKey, PeerCommand)>,
    /// For storage. The jobs of one torrent are to be taken in this order.
    pub storage: Vec<(TorrentKey, StorageJob)>,
    /// For the network.
    pub net: Vec<NetAction>,
    /// Torrents whose metadata is needed and not in memory. Each is answered by
    /// [`Input::Loaded`](crate::Input::Loaded).
    pub loads: Vec<TorrentKey>,
    /// For whoever watches.
    pub events: Vec<Event>,
}

/// Work for storage.
#[derive(Clone, Debug, Serialize)]
pub enum StorageJob {
    /// Find out what is there: read the journal of claims, look at the files. Answered by
    /// [`StorageDone::Opened`] or [`StorageDone::Fault`]. Creates nothing yet.
    Open {
        /// The metadata.
        info: Arc<Info>,
        /// Which files are wanted, by index; unwanted ones are not created beyond pieces that they share.
        wanted: Vec<bool>,
    },
    /// Hash what is on disk of these pieces. Answered by a [`StorageDone::Checked`] each, then
    /// [`StorageDone::CheckEnded`]; pieces past the end of a file are reported as wrong without reading.
    Check {
        /// Which pieces.
        pieces: Bitfield,
        /// What they must hash to.
        #[serde(skip)]
        hashes: Arc<PieceHashes>,
    },
    /// Hold a block until its piece is verified. A second block for the same span replaces the first.
    Store {
        /// Where it belongs.
        span: BlockSpan,
        /// Its bytes.
        block: Block,
    },
    /// All blocks of a piece are stored: hash it, and write it if it is right. Answered by
    /// [`StorageDone::Verified`] and later [`StorageDone::Durable`], or by [`StorageDone::Failed`], after which the
    /// blocks are still held.
    Verify {
        /// Which piece.
        piece: PieceIndex,
        /// What it must hash to.
        expected: PieceHash,
    },
    /// Let go of the blocks held for a piece.
    Discard(PieceIndex),
    /// Read a block of a verified piece, or one that is held and that the shard has found right by its own hash (v2), and
    /// give it to a connection as [`PeerCommand::Serve`], without a detour through the shard. Only a failure is
    /// reported: [`StorageDone::ReadFailed`].
    Read {
        /// For whom.
        conn: ConnKey,
        /// What.
        span: BlockSpan,
    },
    /// Hash the blocks of a verified piece, to answer a hash request of layer 0. Answered by
    /// [`StorageDone::Leaves`] or [`StorageDone::ReadFailed`].
    HashLeaves {
        /// For whom.
        conn: ConnKey,
        /// Of which piece.
        piece: PieceIndex,
        /// Which request this answers; handed back.
        request: HashRequest,
    },
    /// The files wanted have changed.
    Wanted(Vec<bool>),
    /// A piece is no longer claimed: it was found wrong.
    Forget(PieceIndex),
    /// Make all that is written durable and record it. Answered by [`StorageDone::Synced`].
    Sync,
    /// Sync, then let go of files and locks. Answered by [`StorageDone::Closed`].
    Close,
}

/// What storage has done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum StorageDone {
    /// The journal and the files were looked at.
    Opened {
        /// Pieces that were durable and whose files have not changed since: to be believed.
        have: Bitfield,
        /// Pieces whose bytes are there in part or whole but have to be hashed before they are believed.
        unchecked: Bitfield,
    },
    /// A piece on disk was hashed. Comes unasked, and not ok, when a piece that was verified or believed turns out to
    /// be lost: its file is gone or cut, cannot be read, or a sync has failed.
    Checked {
        /// Which.
        piece: PieceIndex,
        /// Whether it is right.
        ok: bool,
    },
    /// Another program has changed a file: nothing of it is served or claimed any more until it is checked. Told once
    /// for each check.
    Changed {
        /// Which.
        file: FileIndex,
        /// Its whole path.
        path: String,
    },
    /// A check is through.
    CheckEnded,
    /// A piece hashes to what it must, in memory: it may be served, it is not yet durable.
    Verified(PieceIndex),
    /// A piece does not hash to what it must.
    Failed {
        /// Which.
        piece: PieceIndex,
        /// What its blocks hash to, in order; empty if blocks that were written early cannot be read back.
        blocks: BlockDigests,
    },
    /// These pieces would survive a power cut, and are recorded.
    Durable(Vec<PieceIndex>),
    /// A read failed.
    ReadFailed {
        /// For whom it was.
        conn: ConnKey,
        /// What; for leaves the whole piece.
        span: BlockSpan,
        /// Why.
        fault: StorageFault,
    },
    /// The hashes of a piece's blocks.
    Leaves {
        /// For whom.
        conn: ConnKey,
        /// Of which piece.
        piece: PieceIndex,
        /// Which request.
        request: HashRequest,
        /// The hashes, as many as the piece has blocks of its file.
        leaves: Vec<Sha256Digest>,
    },
    /// Writing, or opening, does not work now. Storage tries again by itself and keeps what it holds.
    Fault(StorageFault),
    /// It works again.
    Recovered,
    /// All that was written is durable and recorded.
    Synced,
    /// Files and locks are let go.
    Closed,
}

/// What the blocks of a failed piece hash to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockDigests {
    /// SHA-1 of each block, to find the liar when the piece comes again (v1).
    V1(Vec<Sha1Digest>),
    /// The leaves of the piece's merkle tree, to hold against the real ones (v2 and hybrid).
    V2(Vec<Sha256Digest>),
}

/// Why storage cannot do what it should.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StorageFault {
    /// The disk is full.
    #[error("no space left for {path}: {needed_bytes} bytes more are needed")]
    NoSpace {
        /// Which file.
        path: String,
        /// How much is missing, at least.
        needed_bytes: u64,
    },
    /// Something that is not ours lies where a file belongs.
    #[error("{path} is in the way: {what}")]
    Conflict {
        /// Which file.
        path: String,
        /// What is there.
        what: String,
    },
    /// The place where the data lies is not there now.
    #[error("the volume of {path} is not there")]
    VolumeMissing {
        /// Which directory.
        path: String,
    },
    /// Another process has the torrent's files or journal.
    #[error("{path} is used by another process")]
    Locked {
        /// Which file.
        path: String,
    },
    /// Another program has changed a file in which we had pieces.
    #[error("{path} was changed by another program")]
    Changed {
        /// Which file.
        path: String,
    },
    /// The operating system says no.
    #[error("{path}: {message}")]
    Io {
        /// Which file.
        path: String,
        /// What it says.
        message: String,
    },
}

/// The torrent's name for one announce under way: a tracker, for one of its info-hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TrackerKey(pub u32);

/// Work for the network.
#[derive(Clone, Debug, Serialize)]
pub enum NetAction {
    /// Dial a peer. Its end, or the failure to reach it, comes back as
    /// [`Input::PeerClosed`](crate::Input::PeerClosed).
    Dial {
        /// The torrent.
        torrent: TorrentKey,
        /// The new connection's name.
        conn: ConnKey,
        /// Where.
        addr: SocketAddr,
        /// The name to greet with.
        info_hash: InfoHash,
        /// What the connection has to know.
        attach: Box<Attach>,
        /// Dial encrypted.
        encrypted: bool,
    },
    /// Begin to use a web seed (BEP 19), of which can be asked from now on as of a peer that has everything. It never
    /// says so; it says [`Received`](riverrun_peer::PeerEvent::Received), and of what it turns out not to have
    /// [`LostPiece`](riverrun_peer::PeerEvent::LostPiece). Its end comes back as
    /// [`Input::PeerClosed`](crate::Input::PeerClosed).
    OpenWebSeed {
        /// The new connection's name.
        conn: ConnKey,
        /// Where, and who says so.
        seed: WebSeed,
        /// What it has.
        info: Arc<Info>,
    },
    /// Take an incoming connection.
    Accept {
        /// The driver's name for it.
        token: u64,
        /// Its name from now on.
        conn: ConnKey,
        /// What the connection has to know.
        attach: Box<Attach>,
    },
    /// Close an incoming connection: there is no room, or it is not welcome.
    Refuse {
        /// The driver's name for it.
        token: u64,
        /// Why.
        why: CloseReason,
    },
    /// Announce in the local network (BEP 14). Answers, if there are some, come back as
    /// [`Input::Found`](crate::Input::Found).
    AnnounceLocal {
        /// Under these names.
        info_hashes: Vec<InfoHash>,
    },
    /// Announce to a tracker, in both address families. Answered by
    /// [`Input::Announced`](crate::Input::Announced).
    Announce {
        /// The torrent.
        torrent: TorrentKey,
        /// Which announce.
        tracker: TrackerKey,
        /// Where.
        url: TrackerUrl,
        /// What to say.
        request: AnnounceRequest,
    },
    /// Look for peers in the distributed hash table. What is found comes back as
    /// [`Input::Found`](crate::Input::Found); an end is not reported.
    FindPeers {
        /// The torrent.
        torrent: TorrentKey,
        /// One of its names.
        info_hash: InfoHash,
        /// What to tell of ourselves; `None` to tell nothing.
        announce: Option<DhtAnnounce>,
        /// Seeds are of no use.
        no_seeds: bool,
    },
    /// There is a node of the distributed hash table.
    MeetNode(SocketAddr),
}

/// What a torrent tells the distributed hash table of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DhtAnnounce {
    /// Where we listen.
    pub port: u16,
    /// We have everything (BEP 33).
    pub is_seed: bool,
}

/// What a torrent is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum TorrentState {
    /// Nothing, as asked.
    Stopped,
    /// Storage is being opened.
    Opening,
    /// Fetching the metadata from peers.
    Metadata,
    /// Hashing what is on disk.
    Checking,
    /// Fetching pieces.
    Downloading,
    /// Everything wanted is there, but not everything (a partial seed, BEP 21).
    Finished,
    /// Everything is there.
    Seeding,
    /// Storage does not work; tried again.
    Faulted(StorageFault),
    /// Nothing: the metadata is what the info-hash names, and makes no torrent that we can handle.
    Invalid(String),
    /// Saying goodbye.
    Stopping,
}

/// What was there of a torrent that was to be taken in, and what became of all that was said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Existed {
    /// Nothing: it is new.
    No,
    /// The torrent, which has taken in trackers and peers that it did not know.
    Merged {
        /// And the metadata, of which it lacked something.
        metadata: bool,
    },
    /// The torrent, which is private: it has taken in nothing, since other trackers and peers than its own would lead
    /// it out of its swarm (BEP 27).
    Private,
}

/// Something to tell.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub enum Event {
    /// A torrent was taken in.
    Added {
        /// The asker's name for the request.
        request: u64,
        /// The torrent; an info-hash that is there already gives the torrent that has it.
        torrent: TorrentKey,
        /// What was there of it.
        existed: Existed,
    },
    /// A torrent does something else now.
    State {
        /// Which torrent.
        torrent: TorrentKey,
        /// What.
        state: TorrentState,
    },
    /// The metadata has arrived and is right.
    Metadata {
        /// Which torrent.
        torrent: TorrentKey,
        /// The metadata.
        info: Arc<Info>,
    },
    /// A piece was checked on disk.
    Checked {
        /// Which torrent.
        torrent: TorrentKey,
        /// Which piece.
        piece: PieceIndex,
        /// Whether it is right.
        ok: bool,
    },
    /// Another program has changed a file. Nothing of it is served any more; it is checked again, and what is right is
    /// taken back. While something is wrong nothing is downloaded, until the user asks for a check.
    FileChanged {
        /// Which torrent.
        torrent: TorrentKey,
        /// Which file.
        file: FileIndex,
        /// Its whole path.
        path: String,
    },
    /// A piece was received and is right.
    PieceVerified {
        /// Which torrent.
        torrent: TorrentKey,
        /// Which piece.
        piece: PieceIndex,
    },
    /// A piece was received and is wrong, or blocks of one that hash to something else than theirs (v2).
    PieceFailed {
        /// Which torrent.
        torrent: TorrentKey,
        /// Which piece.
        piece: PieceIndex,
    },
    /// All that is wanted is verified and durable; told as well of a torrent that was complete when it was started.
    Completed {
        /// Which torrent.
        torrent: TorrentKey,
    },
    /// A connection is up.
    PeerConnected {
        /// Which torrent.
        torrent: TorrentKey,
        /// Which connection.
        conn: ConnKey,
        /// The peer's address.
        addr: SocketAddr,
    },
    /// A connection is over, or never came up.
    PeerDisconnected {
        /// Which torrent.
        torrent: TorrentKey,
        /// Which connection.
        conn: ConnKey,
        /// The peer's address.
        addr: SocketAddr,
        /// Its id, if the handshakes were through.
        peer_id: Option<PeerId>,
        /// Payload sent to it, in all.
        uploaded_bytes: u64,
        /// Payload received from it, in all.
        downloaded_bytes: u64,
        /// Why.
        why: CloseReason,
    },
    /// A peer gave wrong data, and is not spoken to any more.
    PeerBanned {
        /// Which torrent.
        torrent: TorrentKey,
        /// The peer's address.
        ip: IpAddr,
    },
    /// A tracker has answered.
    Announced {
        /// Which torrent.
        torrent: TorrentKey,
        /// Which tracker.
        url: String,
        /// How many peers it named.
        peers: usize,
        /// Its warning, if it has one.
        warning: Option<String>,
    },
    /// A tracker has failed.
    TrackerFailed {
        /// Which torrent.
        torrent: TorrentKey,
        /// Which tracker.
        url: String,
        /// Why.
        message: String,
    },
    /// A web seed has failed, or turned out to be of no use.
    WebSeedFailed {
        /// Which torrent.
        torrent: TorrentKey,
        /// Which web seed.
        url: TrackerUrl,
        /// Why.
        message: String,
        /// After how long it may be used again; `None` if never.
        retry: Option<Duration>,
    },
    /// Nobody uses a torrent: its metadata and its files are let go, until [`Event::Loaded`].
    Dozing {
        /// Which torrent.
        torrent: TorrentKey,
    },
    /// The metadata of a torrent is in memory again.
    Loaded {
        /// Of which torrent.
        torrent: TorrentKey,
        /// The metadata.
        info: Arc<Info>,
    },
    /// A torrent is gone.
    Removed {
        /// Which.
        torrent: TorrentKey,
    },
    /// A piece was chosen to be requested from a peer; told only if [`Config::explain`](crate::Config::explain) says so.
    Picked {
        /// Which torrent.
        torrent: TorrentKey,
        /// From whom.
        conn: ConnKey,
        /// Which piece.
        piece: PieceIndex,
        /// Why.
        why: PickReason,
    },
    /// A peer has got a slot, or lost it; told only if [`Config::explain`](crate::Config::explain) says so.
    Slot {
        /// Which torrent.
        torrent: TorrentKey,
        /// Who.
        conn: ConnKey,
        /// Whether it is unchoked now.
        unchoked: bool,
        /// Why.
        why: SlotReason,
    },
    /// A decision broke an invariant: a bug. The torrent was stopped, the others live on.
    Broken {
        /// Which torrent.
        torrent: TorrentKey,
        /// What the panic said.
        message: String,
    },
    /// A torrent has turned out to be the same as another one, under the other of its names: two links to a hybrid were
    /// added before the metadata came. What was known of it is known to the other one now, and it is removed.
    United {
        /// Which torrent is removed.
        torrent: TorrentKey,
        /// The one that stays.
        with: TorrentKey,
    },
}

impl Event {
    /// The torrent that the event is about.
    pub const fn torrent(&self) -> TorrentKey {
        match self {
            Self::Added { torrent, .. }
            | Self::State { torrent, .. }
            | Self::Metadata { torrent, .. }
            | Self::Checked { torrent, .. }
            | Self::FileChanged { torrent, .. }
            | Self::PieceVerified { torrent, .. }
            | Self::PieceFailed { torrent, .. }
            | Self::Completed { torrent }
            | Self::PeerConnected { torrent, .. }
            | Self::PeerDisconnected { torrent, .. }
            | Self::PeerBanned { torrent, .. }
            | Self::Announced { torrent, .. }
            | Self::TrackerFailed { torrent, .. }
            | Self::WebSeedFailed { torrent, .. }
            | Self::Dozing { torrent }
            | Self::Loaded { torrent, .. }
            | Self::Removed { torrent }
            | Self::Picked { torrent, .. }
            | Self::Slot { torrent, .. }
            | Self::Broken { torrent, .. }
            | Self::United { torrent, .. } => *torrent,
        }
    }
}
