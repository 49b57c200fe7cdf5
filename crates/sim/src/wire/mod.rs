//! A connection: two ends, and what is on the way between them.

pub(crate) mod bytes;
pub(crate) mod direct;

use std::collections::VecDeque;
use std::time::Duration;

use riverrun_base::{Bitfield, BlockSpan, InfoHash, PieceIndex, Time};
use riverrun_peer::{BlockRun, HashRequest, Hashes, Holepunch, PeerExchange};
use riverrun_swarm::ConnKey;

use self::bytes::BytesEnd;
use self::direct::DirectEnd;
use crate::content::Payload;
use crate::ids::{ContentId, EndId, HostId};
use crate::link::Flow;

/// A connection.
pub(crate) struct Wire {
    pub(crate) ends: [End; 2],
    pub(crate) info_hash: InfoHash,
    pub(crate) content: ContentId,
    /// One way.
    pub(crate) latency: Duration,
    /// The largest TCP window that this path allows, in bytes.
    pub(crate) window_max: u64,
    /// How likely a block needs a packet again, of 0 to 1.
    pub(crate) block_loss: f64,
    /// Both handshakes are through.
    pub(crate) is_ready: bool,
}

/// One end of it.
pub(crate) struct End {
    pub(crate) host: HostId,
    /// `None` before it is accepted, and once its end was reported.
    pub(crate) key: Option<ConnKey>,
    /// What is on the way to this end.
    pub(crate) pipe: Pipe,
    /// What this end may have on the way to the other.
    pub(crate) flow: Flow,
    /// It is in its host's turns.
    pub(crate) has_turn: bool,
    /// It waits for room in its flow.
    pub(crate) waits_for_room: bool,
    pub(crate) talk: Talk,
}

/// How an end talks.
pub(crate) enum Talk {
    Direct(Box<DirectEnd>),
    Bytes(Box<BytesEnd>),
}

/// What is on the way to an end, in order.
#[derive(Default)]
pub(crate) struct Pipe {
    pub(crate) queue: VecDeque<InFlight>,
    /// Its next arrival is scheduled.
    pub(crate) is_scheduled: bool,
    /// Nobody reads: for lack of credit.
    pub(crate) is_stalled: bool,
}

/// Something on the way.
pub(crate) struct InFlight {
    pub(crate) at: Time,
    /// It has passed the downlink.
    pub(crate) is_through: bool,
    pub(crate) message: Message,
}

/// What goes over a wire.
pub(crate) enum Message {
    Have(PieceIndex),
    Pieces(Box<Bitfield>),
    DontHave(PieceIndex),
    HaveBlocks(BlockRun),
    /// With what will not be answered.
    Choke(Box<[BlockSpan]>),
    Unchoke,
    Interested(bool),
    Requests(Box<[BlockSpan]>),
    Cancel(BlockSpan),
    Reject(BlockSpan),
    Block(Sending),
    Suggest(PieceIndex),
    AllowFast(PieceIndex),
    RequestHashes(Box<HashRequest>),
    Hashes(Box<Hashes>),
    RejectHashes(Box<HashRequest>),
    RequestMetadata(u32),
    Metadata(Box<MetadataPiece>),
    RejectMetadata(u32),
    UploadOnly,
    Exchange(Box<PeerExchange>),
    Holepunch(Holepunch),
    /// Of a connection that runs byte by byte.
    Bytes(Box<Chunk>),
    Closed,
}

/// A block on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending {
    pub(crate) span: BlockSpan,
    pub(crate) payload: Payload,
    /// When its first byte left.
    pub(crate) began: Time,
}

pub(crate) struct MetadataPiece {
    pub(crate) piece: u32,
    pub(crate) total_len: u32,
    pub(crate) bytes: Vec<u8>,
}

/// Bytes on their way.
pub(crate) struct Chunk {
    pub(crate) bytes: Vec<u8>,
    pub(crate) began: Time,
}

impl Message {
    /// How many bytes of lines it takes; blocks and chunks take them when they are sent.
    pub(crate) fn len_bytes(&self) -> u64 {
        let len = match self {
            Self::Have(_) | Self::DontHave(_) | Self::Suggest(_) | Self::AllowFast(_) => 9,
            Self::Pieces(pieces) => 5 + pieces.as_bytes().len(),
            // Each lost request is rejected on its own (BEP 6).
            Self::Choke(lost) => 5 + 17 * lost.len(),
            Self::Unchoke | Self::Interested(_) => 5,
            Self::Requests(spans) => 17 * spans.len(),
            Self::Cancel(_) | Self::Reject(_) => 17,
            Self::RequestHashes(_) | Self::RejectHashes(_) => 53,
            Self::Hashes(hashes) => 53 + 32 * hashes.hashes.len(),
            Self::RequestMetadata(_) | Self::RejectMetadata(_) | Self::UploadOnly => 30,
            // Mostly IPv4: six bytes and one of flags.
            Self::Exchange(told) => 40 + 7 * told.added.len() + 6 * told.dropped.len(),
            Self::Holepunch(_) | Self::HaveBlocks(_) => 18,
            Self::Metadata(piece) => 50 + piece.bytes.len(),
            Self::Block(_) | Self::Bytes(_) | Self::Closed => 0,
        };
        len as u64
    }

    /// Whether it says, coming first, that its sender has nothing: who has pieces begins with a bitfield (BEP 3).
    pub(crate) const fn is_of_pieces(&self) -> bool {
        matches!(
            self,
            Self::Have(_)
                | Self::HaveBlocks(_)
                | Self::Choke(_)
                | Self::Unchoke
                | Self::Interested(_)
        )
    }

    /// What passes downlinks one after the other, in bytes.
    pub(crate) fn bulk_len(&self) -> Option<u64> {
        match self {
            Self::Block(sending) => Some(sending.span.len.into()),
            Self::Bytes(chunk) => Some(chunk.bytes.len() as u64),
            _ => None,
        }
    }
}

impl Wire {
    /// There and back.
    pub(crate) fn round_trip(&self) -> Duration {
        self.latency * 2
    }

    /// Whether nobody will ever use it again.
    pub(crate) fn is_over(&self) -> bool {
        self.ends.iter().all(|end| end.key.is_none())
    }
}

impl End {
    pub(crate) fn new(host: HostId, key: Option<ConnKey>, talk: Talk) -> Self {
        Self {
            host,
            key,
            pipe: Pipe::default(),
            flow: Flow::new(),
            has_turn: false,
            waits_for_room: false,
            talk,
        }
    }

    /// How it talks, if not byte by byte.
    pub(crate) fn direct(&mut self) -> Option<&mut DirectEnd> {
        match &mut self.talk {
            Talk::Direct(direct) => Some(direct),
            Talk::Bytes(_) => None,
        }
    }

    /// How it talks, if byte by byte.
    pub(crate) fn bytes(&mut self) -> Option<&mut BytesEnd> {
        match &mut self.talk {
            Talk::Direct(_) => None,
            Talk::Bytes(bytes) => Some(bytes),
        }
    }

    /// Whether it has something to send that lines have to carry.
    pub(crate) fn has_bulk(&self) -> bool {
        match &self.talk {
            Talk::Direct(direct) => direct.may_send(),
            Talk::Bytes(bytes) => bytes.has_output(),
        }
    }
}

impl Pipe {
    /// Puts something on its way; gives when to look, if that is not scheduled yet.
    pub(crate) fn push(&mut self, at: Time, message: Message) -> Option<Time> {
        let at = self.queue.back().map_or(at, |last| at.max(last.at));
        self.queue.push_back(InFlight {
            at,
            is_through: false,
            message,
        });
        let schedule = !self.is_scheduled && !self.is_stalled;
        self.is_scheduled |= schedule;
        // What waits before it is scheduled or stalled, so that this is the first.
        schedule.then_some(at)
    }
}

/// What is on the way to `end` came from the other side of its wire.
pub(crate) const fn sender(end: EndId) -> EndId {
    end.other()
}
