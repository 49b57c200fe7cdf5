//! What happens to a shard.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use riverrun_base::{InfoHashes, PeerId, PieceIndex, Rate, Time};
use riverrun_metainfo::{Info, PieceHashes};
use riverrun_peer::{CloseReason, PeerEvent};
use riverrun_tracker::{AnnounceResponse, TrackerFailure, TrackerUrl};
use serde::{Deserialize, Serialize};

use crate::external_ip::Witness;
use crate::key::{ConnKey, TorrentKey};
use crate::outbox::{StorageDone, TrackerKey};

/// Something that happened, or that somebody wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Input {
    /// Take a torrent in. Answered by [`Event::Added`](crate::Event::Added).
    Add(Box<AddTorrent>),
    /// Do something with a torrent.
    Torrent {
        /// Which.
        torrent: TorrentKey,
        /// What.
        command: TorrentCommand,
    },
    /// A peer has dialled us and named a torrent of ours. Answered by
    /// [`NetAction::Accept`](crate::NetAction::Accept) or [`NetAction::Refuse`](crate::NetAction::Refuse) with the
    /// same token.
    Incoming {
        /// The driver's name for the connection until it has a key.
        token: u64,
        /// Which torrent.
        torrent: TorrentKey,
        /// Where the peer dialled from.
        addr: SocketAddr,
    },
    /// A connection is up, or was accepted, and is carried by this. For the record: it decides nothing.
    Connected {
        /// Which.
        conn: ConnKey,
        /// What carries it.
        transport: Transport,
    },
    /// A connection reports.
    Peer {
        /// Which.
        conn: ConnKey,
        /// What.
        event: PeerEvent,
    },
    /// A connection is over: the last input with its key. Comes for failed dials too.
    PeerClosed {
        /// Which.
        conn: ConnKey,
        /// Why.
        why: CloseReason,
    },
    /// Storage reports.
    Storage {
        /// For which torrent.
        torrent: TorrentKey,
        /// What.
        done: StorageDone,
    },
    /// The metadata of a torrent was [loaded](crate::Outbox::loads).
    Loaded {
        /// Of which torrent.
        torrent: TorrentKey,
        /// The metadata and what pieces must hash to; `None` if it is not kept any more, or cannot be read.
        #[serde(with = "crate::record::metadata")]
        metadata: Option<(Arc<Info>, PieceHashes)>,
    },
    /// A tracker has answered, or failed to.
    Announced {
        /// For which torrent.
        torrent: TorrentKey,
        /// Which announce: the key that [`NetAction::Announce`](crate::NetAction::Announce) named.
        tracker: TrackerKey,
        /// Its answer.
        result: Result<AnnounceResponse, TrackerFailure>,
    },
    /// Peers were found by other means than a tracker.
    Found {
        /// For which torrent.
        torrent: TorrentKey,
        /// How.
        source: PeerSource,
        /// Where they listen.
        peers: Vec<SocketAddr>,
    },
    /// The limits of all torrents together have changed.
    Limits(Limits),
    /// The port where we listen has changed; announced from now on.
    ListenPort(u16),
    /// Somebody told us our address as seen from outside. It is a vote: see [`Witness`].
    ExternalIp {
        /// The address.
        ip: IpAddr,
        /// Who told.
        says: Witness,
    },
    /// The network that we may use is gone, or about to change: every connection is over, nothing is dialled or
    /// announced until it is back.
    Offline,
    /// The network is there, maybe with other addresses: peers that were not reached are tried again, and trackers are
    /// told where we are.
    Online,
    /// We have another id from now on, to peers that we connect to and to trackers.
    PeerId(PeerId),
    /// Stop every torrent: say goodbye to trackers and peers, sync storage.
    Shutdown,
    /// More torrents than one are about to be added. Until as many [ends](Input::BatchEnds) as beginnings have come,
    /// they are taken in and few of them are opened: whoever adds them waits for the first, and not for the second.
    BatchBegins,
    /// All of a batch are there.
    BatchEnds,
}

/// A torrent to take in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AddTorrent {
    /// The asker's name for this request, repeated in the answer.
    pub request: u64,
    /// Its info-hashes.
    pub hashes: InfoHashes,
    /// Its metadata and what its pieces must hash to; without it, it is fetched from peers.
    #[serde(with = "crate::record::metadata")]
    pub metadata: Option<(Arc<Info>, PieceHashes)>,
    /// What is known of it from an earlier run, if its metadata can be [loaded](crate::Outbox::loads) when it is needed.
    pub summary: Option<Summary>,
    /// Trackers, tier by tier (BEP 12).
    #[serde(serialize_with = "crate::record::masked_tiers")]
    pub trackers: Vec<Vec<String>>,
    /// Peers that the user named.
    pub peers: Vec<SocketAddr>,
    /// Servers that have its files.
    pub web_seeds: Vec<WebSeed>,
    /// How to treat it.
    pub options: TorrentOptions,
    /// Payload that was sent in earlier runs.
    pub uploaded_bytes: u64,
    /// Payload that was received in earlier runs.
    pub downloaded_bytes: u64,
}

/// A server that has the files of a torrent (BEP 19).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSeed {
    /// Where: that of the one file, or of the directory in which it lies, or all of them do.
    #[serde(deserialize_with = "crate::record::tracker_url")]
    pub url: TrackerUrl,
    /// The user named it, who may ask for what strangers may not.
    pub is_from_user: bool,
}

/// What stands for a torrent's metadata and pieces while they are not in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// All pieces were there, verified and durable, when they were seen last: nothing is opened before somebody wants
    /// something of it.
    pub is_complete: bool,
    /// Only peers from its trackers may be used (BEP 27).
    pub is_private: bool,
    /// How many pieces there are.
    pub pieces: u32,
    /// How many of them are wanted.
    pub wanted: u32,
    /// How many bytes all pieces have, padding not counted.
    pub total_bytes: u64,
    /// How many bytes wanted pieces have, padding not counted.
    pub wanted_bytes: u64,
}

/// How to treat a torrent; all of it can change later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a wish of the user, on its own"
)]
pub struct TorrentOptions {
    /// Begin at once. Follows what is asked for later: whether it is to run.
    pub start: bool,
    /// A priority a file, in the order of the torrent's list.
    pub priorities: Vec<Priority>,
    /// The priority of files past the end of that list, until priorities are set.
    pub unlisted_priority: Priority,
    /// Prefer pieces in order to rare ones.
    pub sequential: bool,
    /// Leave out pieces that are missing, only give what is there.
    pub upload_only: bool,
    /// Reveal pieces one by one while nobody else has them all (BEP 16).
    pub super_seed: bool,
    /// Rate limits of this torrent.
    pub limits: Limits,
    /// How many connections it may have.
    pub connections_max: u32,
}

impl Default for TorrentOptions {
    fn default() -> Self {
        Self {
            start: true,
            priorities: Vec::new(),
            unlisted_priority: Priority::Normal,
            sequential: false,
            upload_only: false,
            super_seed: false,
            limits: Limits::default(),
            connections_max: 100,
        }
    }
}

/// How much a file is wanted.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Priority {
    /// Not at all; pieces that it shares with wanted files still come.
    Skip,
    /// After all others.
    Low,
    /// As usual.
    #[default]
    Normal,
    /// Before all others.
    High,
}

/// Rate limits; `None` is without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Payload sent.
    pub upload: Option<Rate>,
    /// Payload received.
    pub download: Option<Rate>,
}

/// What is wanted of a torrent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TorrentCommand {
    /// Begin, or go on.
    Start,
    /// Say goodbye to trackers and peers, make everything durable, rest. Ends with
    /// [`TorrentState::Stopped`](crate::TorrentState::Stopped).
    Stop,
    /// Stop and forget; ends with [`Event::Removed`](crate::Event::Removed). Files stay.
    Remove,
    /// Hash everything that is on disk again. A torrent that rests does so, and rests again.
    Recheck,
    /// Set the files' priorities.
    Priorities(Vec<Priority>),
    /// Prefer order to rarity, or not.
    Sequential(bool),
    /// Wanted by a reader until that time: requested before everything else, the earliest first.
    Deadline {
        /// Which piece.
        piece: PieceIndex,
        /// Until when.
        at: Time,
    },
    /// Nobody waits for pieces any more.
    ClearDeadlines,
    /// Rate limits of the torrent.
    Limits(Limits),
    /// More trackers, as a tier of their own each; known ones are left where they are.
    AddTrackers(#[serde(serialize_with = "crate::record::masked")] Vec<String>),
    /// Somebody is about to read: have storage open, for a while at least.
    Wake,
    /// Announce now, as far as trackers' minimum intervals allow.
    Announce,
    /// Stop downloading but go on giving (a partial seed, BEP 21), or take it back.
    UploadOnly(bool),
}

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// uTP, over UDP (BEP 29).
    Utp,
}

/// How a peer became known. Some sources are trusted with more of the candidate list than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PeerSource {
    /// The user named it.
    User,
    /// The link that the user follows names it (BEP 9, `x.pe`): whoever made that chose it.
    Link,
    /// A tracker.
    Tracker,
    /// It dialled us.
    Incoming,
    /// The DHT.
    Dht,
    /// Another peer.
    Exchange,
    /// A multicast in the local network.
    Local,
}
