//! A connection after its handshake: who has said what, and what follows from it.
//!
//! The children keep their own books; only what is here sends messages and reports events.

mod command;
mod incoming;

pub(crate) use command::Reading;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use riverrun_base::{BLOCK_LEN, Bitfield, Block, BlockSpan, PeerId, PieceIndex, Time};
use riverrun_metainfo::Info;

use crate::codec::extended::{OurHandshake, TheirIds, id as extended_id};
use crate::codec::message::Message;
use crate::codec::reader::Limits;
use crate::config::PeerConfig;
use crate::credit::Balance;
use crate::error::PeerMisbehaved;
use crate::event::{Features, PeerEvent, PeerHello};
use crate::exchange::ExchangePace;
use crate::handshake::Agreed;
use crate::hash_exchange::HashExchange;
use crate::metadata::MetadataExchange;
use crate::mse::{Encryption, EncryptionPolicy};
use crate::pending::{Incoming, Pending};
use crate::serve::Serving;
use crate::their_pieces::{Claim, TheirPieces};
use crate::timers::{Timer, Timers};
use crate::transmit::{Outgoing, SendBatch};
use crate::window::{Arrival, Window};

/// How long a peer with the fast extension may take, after it has choked us, to reject our requests. They follow
/// the choke in the same stream, so this is time for what was already on its way.
const REJECTS_WAIT: Duration = Duration::from_secs(10);
/// For how long a piece may wait to be told of in company. In a crowd of dozens with small pieces each would be a packet
/// of its own otherwise, there and here, and wake both ends: more work than the payload.
const HAVE_WAIT: Duration = Duration::from_millis(25);

/// What every part of a connection's life may use.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) out: Outgoing,
    pub(crate) events: VecDeque<PeerEvent>,
    pub(crate) timers: Timers,
}

/// A connection whose both sides know each other.
#[derive(Debug)]
pub(crate) struct Session {
    config: Arc<PeerConfig>,
    hello: PeerHello,
    info: Option<Arc<Info>>,
    ours: Ours,
    /// How the peer wants extended messages named.
    ids: TheirIds,
    pieces: TheirPieces,
    /// Pieces that the peer gives although it chokes us.
    allowed_fast: Vec<PieceIndex>,
    interest: Interest,
    peer_choking: bool,
    /// When the peer choked us last.
    choked_at: Time,
    pending: Pending,
    window: Window,
    serving: Serving,
    metadata: MetadataExchange,
    hashes: HashExchange,
    exchange: ExchangePace,
}

/// What our extended handshakes say of this connection.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a word of its own BEP"
)]
struct Ours {
    dialed: bool,
    /// We show no pieces, and must not look like one that has all it wants (BEP 16).
    hidden: bool,
    upload_only: bool,
    your_ip: Option<IpAddr>,
    /// We tell of other peers, and want to hear of them.
    exchange: bool,
}

/// Who wants something of whom.
#[derive(Clone, Copy, Debug, Default)]
struct Interest {
    ours: bool,
    theirs: bool,
}

impl Session {
    /// Reports [`PeerEvent::Ready`] and sends, in one go, all that comes first.
    pub(crate) fn open(
        config: Arc<PeerConfig>,
        agreed: Agreed,
        (peer_id, encryption): (PeerId, Encryption),
        link: &mut Link,
    ) -> Self {
        let Agreed {
            attach,
            info_hash,
            reserved,
            dialed,
        } = agreed;
        let features = Features {
            fast: reserved.fast,
            extended: reserved.extended,
            v2: attach.hashes.wire_v2() == Some(info_hash),
            dht: reserved.dht,
            ..Features::default()
        };
        let count = attach.info.as_ref().map(|info| info.layout().piece_count());
        let session = Self {
            hello: PeerHello {
                encryption,
                ..hello(peer_id, info_hash, features)
            },
            ours: Ours {
                dialed,
                hidden: attach.hide_pieces,
                // Who has no metadata is to be given it before anybody hangs up for want of a use.
                upload_only: attach.upload_only && count.is_some(),
                your_ip: attach.your_ip,
                exchange: !attach.private,
            },
            info: attach.info,
            ids: TheirIds::default(),
            pieces: TheirPieces::new(count),
            allowed_fast: Vec::new(),
            interest: Interest::default(),
            peer_choking: true,
            choked_at: Time::ZERO,
            pending: Pending::default(),
            window: Window::new(config.request_window_max, config.request_window_time_max),
            serving: Serving::new(config.request_queue_max),
            metadata: MetadataExchange::default(),
            hashes: HashExchange::default(),
            exchange: ExchangePace::default(),
            config,
        };
        link.events
            .push_back(PeerEvent::Ready(Box::new(session.hello.clone())));
        if features.extended {
            session.send_handshake(link);
        }
        let shown = if attach.hide_pieces || count.is_none() {
            None
        } else {
            Some(&attach.have)
        };
        session.send_pieces(shown, link);
        if let Some(port) = session.config.dht_port.filter(|_| features.dht) {
            link.out.send(Message::Port(port));
        }
        session
    }

    /// What the stream may hold now.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            bitfield: self.pieces.bitfield_len_max(),
            hashes: self.hashes.answer_len_max(),
        }
    }

    /// The head of a `piece` message has come; whether its bytes are wanted.
    pub(crate) fn start_block(
        &mut self,
        now: Time,
        span: BlockSpan,
        link: &mut Link,
    ) -> Result<bool, PeerMisbehaved> {
        self.require_claim(link)?;
        if span.len == 0 {
            // BitComet says no in this way; the most widespread library takes it as a reject.
            if let Some(asked) = self.pending.beginning(span.piece, span.offset) {
                self.handle_reject(now, asked, link);
            }
            return Ok(false);
        }
        match self.pending.start(span) {
            Incoming::Wanted => Ok(true),
            Incoming::Unwanted => {
                link.events.push_back(PeerEvent::Unwanted(span));
                Ok(false)
            }
            Incoming::Unknown => Err(PeerMisbehaved::BlockNotRequested(span)),
        }
    }

    /// All bytes of a wanted block have come.
    pub(crate) fn finish_block(
        &mut self,
        now: Time,
        span: BlockSpan,
        block: Block,
        link: &mut Link,
    ) {
        let Some(request) = self.pending.finish() else {
            return;
        };
        let arrival = Arrival {
            len: span.len,
            latency: now.since(request.sent_at),
            under_way: self.pending.wanted() + 1,
        };
        self.window.handle_arrival(now, arrival);
        link.events.push_back(PeerEvent::Received { span, block });
        // Peers without the fast extension drop what they cannot take, and tell nobody.
        let passed_over = self
            .pending
            .give_up_older(request.sent_at, self.snub_timeout());
        report_rejected(passed_over, link);
        self.watch_answers(now, link);
        link.timers.stop(Timer::Snub);
        self.watch(now, link);
        self.tell_window(link);
    }

    /// The peer owes blocks and none came for long. Not reading, we cannot know.
    pub(crate) fn handle_snub(&mut self, now: Time, reading: bool, link: &mut Link) {
        if self.pending.wanted() == 0 {
            return;
        }
        if !reading {
            return self.watch(now, link);
        }
        link.events.push_back(PeerEvent::Snubbed);
        self.window.handle_snub();
        self.tell_window(link);
        self.watch(now, link);
    }

    /// The peer has choked us and said no more about our requests.
    pub(crate) fn handle_no_rejects(&mut self, now: Time, reading: bool, link: &mut Link) {
        if !reading {
            return self.watch_answers_from(now, link);
        }
        let (choked_at, allowed) = (self.choked_at, &self.allowed_fast);
        let lost = self.pending.give_up(|request| {
            request.sent_at <= choked_at && !allowed.contains(&request.span.piece)
        });
        report_rejected(lost, link);
        self.watch(now, link);
    }

    /// Moves metadata and blocks to `batch`, as far as there is room and credit; the payload moved.
    pub(crate) fn transmit(&mut self, batch: &mut SendBatch, credit: &mut Balance) -> u64 {
        if let (Some(info), Some(id)) = (&self.info, self.metadata_id()) {
            while batch.room() > 0
                && let Some(message) = self.metadata.pop(info.raw())
            {
                let payload = &message.encode();
                batch.write(|scratch| Message::Extended { id, payload }.encode(scratch));
            }
        }
        let mut payload = 0;
        while batch.room() > 0
            && credit.is_left()
            && let Some((span, block)) = self.serving.pop()
        {
            credit.spend(block.len() as u64);
            payload += block.len() as u64;
            batch.push_block(span, block);
        }
        payload
    }

    /// Whether there are blocks to be sent.
    pub(crate) fn has_blocks(&self) -> bool {
        self.serving.ready_bytes() > 0
    }

    /// Whether the peer owes us blocks that we still want.
    pub(crate) fn awaits_blocks(&self) -> bool {
        self.pending.wanted() > 0
    }

    /// How many bytes wait beside those in [`Link::out`].
    pub(crate) fn queued_bytes(&self) -> usize {
        self.serving.ready_bytes() + self.metadata.owed_bytes()
    }

    pub(crate) fn tell_window(&mut self, link: &mut Link) {
        if let Some(depth) = self.window.take_change() {
            link.events.push_back(PeerEvent::Window(depth));
        }
    }

    /// Sees to it that the snub timer runs while blocks are owed.
    fn watch(&self, now: Time, link: &mut Link) {
        if self.pending.wanted() == 0 {
            link.timers.stop(Timer::Snub);
        } else if !link.timers.is_set(Timer::Snub) {
            link.timers.set(Timer::Snub, now + self.snub_timeout());
        }
    }

    /// For how long the peer may send nothing of what it owes.
    pub(crate) fn snub_timeout(&self) -> Duration {
        self.window.patience(self.config.snub_timeout)
    }

    /// The peer still answers requests from before its choke: it gets its time anew.
    fn watch_answers(&self, now: Time, link: &mut Link) {
        if link.timers.is_set(Timer::Rejects) {
            self.watch_answers_from(now, link);
        }
    }

    fn watch_answers_from(&self, now: Time, link: &mut Link) {
        if self.pending.wanted() > 0 {
            link.timers.set(Timer::Rejects, now + REJECTS_WAIT);
        } else {
            link.timers.stop(Timer::Rejects);
        }
    }

    /// The peer says something that it may say only after its first word on its pieces; silence means none.
    fn require_claim(&mut self, link: &mut Link) -> Result<(), PeerMisbehaved> {
        if !self.pieces.is_claimed() {
            let event = self.pieces.claim(Claim::None)?;
            link.events.extend(event);
        }
        Ok(())
    }

    fn handle_reject(&mut self, now: Time, span: BlockSpan, link: &mut Link) {
        if self.peer_choking {
            // So much for its being allowed.
            self.allowed_fast.retain(|piece| *piece != span.piece);
        }
        if self.pending.reject(span) {
            link.events.push_back(PeerEvent::Rejected(span));
        }
        self.watch_answers(now, link);
        self.watch(now, link);
    }

    /// Says no to requests of the peer, if it understands that.
    fn refuse(&self, spans: impl IntoIterator<Item = BlockSpan>, link: &mut Link) {
        if self.hello.features.fast {
            spans
                .into_iter()
                .for_each(|span| link.out.send(Message::Reject(span)));
        }
    }

    /// Whether single blocks are told of: only with v2 does each have a hash of its own.
    fn shares_blocks(&self) -> bool {
        self.hello.features.v2 && self.config.blocks
    }

    fn metadata_id(&self) -> Option<u8> {
        self.ids.metadata.filter(|id| *id != 0)
    }

    fn send_handshake(&self, link: &mut Link) {
        let metadata_len = self.info.as_ref().map(|info| info.raw().len());
        let ours = OurHandshake {
            client: self.config.client.as_deref(),
            // Who has dialled us knows it.
            listen_port: self.config.listen_port.filter(|_| self.ours.dialed),
            request_queue_max: self.config.request_queue_max,
            metadata_len: metadata_len.and_then(|len| u32::try_from(len).ok()),
            upload_only: self.ours.upload_only && !self.ours.hidden,
            your_ip: self.ours.your_ip,
            exchange: self.ours.exchange,
            holepunch: self.ours.exchange && self.config.holepunch,
            blocks: self.shares_blocks(),
            prefers_encryption: self.config.encryption != EncryptionPolicy::Off,
        };
        let (id, payload) = (extended_id::HANDSHAKE, &ours.encode());
        link.out.send(Message::Extended { id, payload });
    }

    /// Our first word on our pieces; `None` shows none.
    fn send_pieces(&self, have: Option<&Bitfield>, link: &mut Link) {
        let fast = self.hello.features.fast;
        match have.filter(|have| !have.none()) {
            None if fast => link.out.send(Message::HaveNone),
            None => {}
            Some(have) if fast && have.all() => link.out.send(Message::HaveAll),
            Some(have) => link.out.send(Message::Bitfield(have.as_bytes())),
        }
    }

    /// Whether a peer, or we, may ask for this.
    fn is_requestable(info: &Info, span: BlockSpan) -> bool {
        // BEP 3: "all current implementations … close connections which request an amount greater than" 16 KiB.
        span.len <= BLOCK_LEN && info.layout().contains(span)
    }
}

fn report_rejected(spans: Vec<BlockSpan>, link: &mut Link) {
    link.events
        .extend(spans.into_iter().map(PeerEvent::Rejected));
}

const fn hello(
    peer_id: PeerId,
    info_hash: riverrun_base::InfoHash,
    features: Features,
) -> PeerHello {
    PeerHello {
        peer_id,
        info_hash,
        features,
        encryption: Encryption::None,
        client: None,
        listen_port: None,
        request_queue_max: None,
        metadata_len: None,
        our_ip: None,
        ipv4: None,
        ipv6: None,
        upload_only: false,
        prefers_encryption: false,
    }
}
