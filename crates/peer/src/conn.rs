//! One connection: the handshake, then the session, and what holds for both.

use std::sync::Arc;
use std::time::Duration;

use riverrun_base::{Bitfield, Blocks, InfoHash, Rng, Time};

use crate::codec::message::Message;
use crate::codec::reader::{Frame, Reader};
use crate::command::{Attach, CloseReason, PeerCommand};
use crate::config::PeerConfig;
use crate::credit::Balance;
use crate::error::PeerMisbehaved;
use crate::event::PeerEvent;
use crate::handshake::{Handshake, Progress};
use crate::mse::{Envelope, Intent};
use crate::session::{Link, Reading, Session};
use crate::timers::Timer;
use crate::transmit::SendBatch;

/// Who has begun.
#[derive(Debug)]
pub enum Role {
    /// We have dialled, for this torrent.
    Dialer {
        /// The name to greet under: for a hybrid the v1 one lets every peer answer, and those that know v2
        /// upgrade (BEP 52).
        info_hash: InfoHash,
        /// The torrent.
        attach: Box<Attach>,
        /// Dial encrypted.
        encrypted: bool,
    },
    /// The peer has dialled. It names a torrent: [`PeerEvent::Handshake`].
    Listener,
}

/// Bytes moved over a connection, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of blocks that came, wanted or not.
    pub payload_received: u64,
    /// Bytes of blocks that left.
    pub payload_sent: u64,
    /// All other bytes that came.
    pub protocol_received: u64,
    /// All other bytes that left.
    pub protocol_sent: u64,
}

/// A connection to one peer, without its transport.
///
/// Feed it what comes ([`PeerConn::handle_bytes`]), what is decided ([`PeerConn::handle_command`]) and the time
/// ([`PeerConn::handle_timeout`]); after each, drain [`PeerConn::poll_event`], send what
/// [`PeerConn::poll_transmit`] gives and set a timer for [`PeerConn::poll_timeout`]. Its memory is bounded, whatever
/// the peer does: by the blocks under way, the queues that the configuration names, and the length of the
/// longest legal message. Events are bounded by the bytes of one `handle_bytes`.
#[derive(Debug)]
pub struct PeerConn {
    config: Arc<PeerConfig>,
    seed: u64,
    envelope: Envelope,
    state: State,
    link: Link,
    send_credit: Balance,
    receive_credit: Balance,
    totals: Totals,
    /// A block's bytes are next and there was no memory for them.
    starved: bool,
    keepalive_interval: Duration,
    close: Option<CloseReason>,
}

#[derive(Debug)]
enum State {
    Handshake(Handshake),
    Open(Box<Open>),
    /// Closed, or between two states.
    Over,
}

#[derive(Debug)]
struct Open {
    reader: Reader,
    session: Session,
}

impl PeerConn {
    /// A connection whose transport is there. `seed` is for its randomness, the same seed for the same run.
    pub fn new(config: Arc<PeerConfig>, role: Role, seed: u64, now: Time) -> Self {
        let mut link = Link::default();
        let (envelope, handshake) = match role {
            Role::Dialer {
                info_hash,
                attach,
                encrypted,
            } => {
                let (handshake, greeting) = Handshake::dial(&config, info_hash, attach);
                let envelope = if encrypted {
                    let intent = Intent::new(&config, greeting);
                    Envelope::dial(intent, &config, seed)
                } else {
                    link.out.greet(greeting);
                    Envelope::open()
                };
                (envelope, handshake)
            }
            Role::Listener => (Envelope::listen(config.encryption), Handshake::listen()),
        };
        link.timers
            .set(Timer::Handshake, now + config.handshake_timeout);
        Self {
            keepalive_interval: jittered(config.keepalive_interval, seed),
            config,
            seed,
            envelope,
            state: State::Handshake(handshake),
            link,
            send_credit: Balance::default(),
            receive_credit: Balance::default(),
            totals: Totals::default(),
            starved: false,
            close: None,
        }
    }

    /// Bytes from the peer; gives how many were consumed. Less than all means that there is no memory for the
    /// block that comes next, or that a command is to be waited for: stop reading, and call again with the rest, first
    /// and as it is now (it was decrypted in place), once that may have changed.
    pub fn handle_bytes(
        &mut self,
        now: Time,
        bytes: &mut [u8],
        blocks: &dyn Blocks,
    ) -> Result<usize, PeerMisbehaved> {
        if self.close.is_some() {
            return Ok(bytes.len());
        }
        let opened = self.envelope.receive(bytes);
        let opened = opened.map_err(|error| self.misbehave(error))?;
        self.link.events.extend(opened.event);
        let mut consumed = opened.consumed;
        let mut result = Ok(());
        if !self.envelope.is_busy() {
            let mut rest = &bytes[consumed..];
            if !opened.replay.is_empty() {
                result = self.read(now, &mut &opened.replay[..], blocks);
            }
            result = result.and_then(|()| self.read(now, &mut rest, blocks));
            let used = bytes.len() - consumed - rest.len();
            self.envelope.used(used);
            consumed += used;
        }
        self.count_received(now, consumed);
        result.map_err(|error| self.misbehave(error))?;
        Ok(consumed)
    }

    /// Carries out a decision. Before [`PeerEvent::Ready`] only those take effect that attach, change what we have,
    /// grant credit or close; requests are answered as rejected.
    pub fn handle_command(&mut self, now: Time, command: PeerCommand) {
        match (&mut self.state, command) {
            (_, PeerCommand::Close(reason)) => self.end(reason),
            (_, PeerCommand::Credit(credit)) => {
                self.send_credit.grant(credit.send_bytes);
                self.receive_credit.grant(credit.receive_bytes);
            }
            (_, PeerCommand::ExchangeKeys) => {
                if let Err(error) = self.envelope.admit(&self.config, self.seed) {
                    self.misbehave(error);
                }
            }
            (_, PeerCommand::Unveil(info_hash)) => self.envelope.unveil(info_hash),
            (State::Handshake(_), PeerCommand::Attach(attach)) => self.attach(now, attach),
            (State::Handshake(handshake), command) => {
                if let Some(attach) = handshake.attached() {
                    update(attach, &command);
                }
                reject_early(command, &mut self.link);
            }
            (State::Open(open), command) => {
                match open.session.handle_command(now, command, &mut self.link) {
                    Ok(Reading::SkipBlock) => open.reader.skip_rest(),
                    Ok(Reading::Unchanged) => {}
                    Err(error) => _ = self.misbehave(error),
                }
            }
            (State::Over, _) => {}
        }
    }

    /// Time has passed: to be called at [`PeerConn::poll_timeout`] or later.
    pub fn handle_timeout(&mut self, now: Time) -> Result<(), PeerMisbehaved> {
        while let Some(timer) = self.link.timers.take_expired(now) {
            let reading = self.wants_read() && !self.starved;
            let is_unheard = self.is_unheard();
            match (timer, &mut self.state) {
                (Timer::Handshake, _) if is_unheard => {
                    // All is kept: it may begin again.
                    let error = PeerMisbehaved::HandshakeTimeout;
                    self.close = Some(CloseReason::Misbehaved(error.clone()));
                    return Err(error);
                }
                (Timer::Handshake, _) => {
                    return Err(self.misbehave(PeerMisbehaved::HandshakeTimeout));
                }
                (Timer::Idle, _) if reading => return Err(self.misbehave(PeerMisbehaved::Idle)),
                // Who does not listen cannot complain of silence.
                (Timer::Idle, _) => {
                    self.link
                        .timers
                        .set(Timer::Idle, now + self.config.idle_timeout);
                }
                (Timer::KeepAlive, _) => self.link.out.keep_alive(),
                (Timer::Snub, State::Open(open)) => {
                    open.session.handle_snub(now, reading, &mut self.link);
                }
                (Timer::Rejects, State::Open(open)) => {
                    open.session.handle_no_rejects(now, reading, &mut self.link);
                }
                (Timer::Haves, _) => self.link.out.urge_haves(),
                (Timer::Snub | Timer::Rejects, _) => {}
            }
        }
        Ok(())
    }

    /// What the peer did, in order.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<PeerEvent> {
        self.link.events.pop_front()
    }

    /// Something of `out` has been written: the blocks that are with the transport now are [`PeerEvent::Served`].
    /// [`PeerConn::poll_transmit`] looks for that too.
    pub fn handle_written(&mut self, out: &mut SendBatch) {
        while let Some(span) = out.pop_gone() {
            self.link.events.push_back(PeerEvent::Served(span));
        }
    }

    /// Appends what is to be sent to `out`, as far as it has room; whether that was anything.
    #[must_use]
    pub fn poll_transmit(&mut self, now: Time, out: &mut SendBatch) -> bool {
        self.handle_written(out);
        out.begin(now);
        let before = out.len_bytes();
        let may_speak = self.close.is_none() && self.envelope.drain(out);
        let mark = out.mark();
        if let State::Open(open) = &self.state
            && self.send_credit.is_left()
            && open.session.has_blocks()
        {
            // They cost little in company.
            self.link.out.urge_haves();
        }
        let drained = may_speak && self.link.out.drain(out);
        if !self.link.out.has_haves() {
            self.link.timers.stop(Timer::Haves);
        }
        let payload = match &mut self.state {
            State::Open(open) if drained => open.session.transmit(out, &mut self.send_credit),
            _ => 0,
        };
        self.envelope.seal(out, mark);
        out.end(now);
        let sent = (out.len_bytes() - before) as u64;
        self.totals.payload_sent += payload;
        self.totals.protocol_sent += sent - payload;
        if sent > 0 && self.is_ready() {
            self.link
                .timers
                .set(Timer::KeepAlive, now + self.keepalive_interval);
        }
        sent > 0
    }

    /// When [`PeerConn::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.link.timers.next()
    }

    /// Whether more bytes are welcome: there is no command to be waited for, and receive credit. Without requests
    /// under way no payload can come, so that the peer is listened to: its unchoke is what leads to requests.
    pub fn wants_read(&self) -> bool {
        match &self.state {
            State::Handshake(_) if !self.envelope.wants_read() => false,
            State::Handshake(handshake) => handshake.wants_read(),
            State::Open(open) => self.receive_credit.is_left() || !open.session.awaits_blocks(),
            State::Over => false,
        }
    }

    /// Why the connection is to be closed, if it is: a command or the peer's fault. Nothing more will be sent.
    pub fn close_requested(&self) -> Option<CloseReason> {
        self.close.clone()
    }

    /// What was moved.
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether the handshake is through and the connection not closed.
    pub const fn is_ready(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether we have dialled, and not a byte has come: whoever is there may still be one that talks over another
    /// transport only.
    pub fn is_unheard(&self) -> bool {
        matches!(self.state, State::Handshake(Handshake::Dialed { .. }))
            && self.totals.protocol_received == 0
    }

    /// The transport is another one now: the handshake begins anew, as it began. What commands have changed since is
    /// told in it. Does nothing unless the connection [is unheard](Self::is_unheard).
    pub fn begin_again(&mut self, now: Time) {
        if !self.is_unheard() {
            return;
        }
        let State::Handshake(Handshake::Dialed {
            info_hash, attach, ..
        }) = std::mem::replace(&mut self.state, State::Over)
        else {
            return;
        };
        let role = Role::Dialer {
            info_hash,
            attach,
            // Until the peer has said something, keys are all that can be exchanged.
            encrypted: self.envelope.is_busy(),
        };
        self.close = None;
        // Keys are not offered twice.
        self.seed = Rng::new(self.seed).next_u64();
        let fresh = Self::new(self.config.clone(), role, self.seed, now);
        self.envelope = fresh.envelope;
        self.state = fresh.state;
        self.link = Link {
            events: std::mem::take(&mut self.link.events),
            ..fresh.link
        };
    }

    /// How many bytes wait for [`PeerConn::poll_transmit`], about; blocks for want of credit too.
    pub fn queued_bytes(&self) -> usize {
        let waiting = match &self.state {
            State::Open(open) => open.session.queued_bytes(),
            State::Handshake(_) | State::Over => 0,
        };
        self.envelope.len_bytes() + self.link.out.len_bytes() + waiting
    }

    fn read(
        &mut self,
        now: Time,
        rest: &mut &[u8],
        blocks: &dyn Blocks,
    ) -> Result<(), PeerMisbehaved> {
        if let State::Handshake(_) = &self.state {
            let State::Handshake(handshake) = std::mem::replace(&mut self.state, State::Over)
            else {
                return Ok(());
            };
            let progress = handshake.receive(&self.config, rest)?;
            self.proceed(now, progress);
        }
        match &mut self.state {
            State::Open(open) => {
                self.starved = !open.read(now, rest, blocks, &mut self.link)?;
                Ok(())
            }
            State::Handshake(_) | State::Over => Ok(()),
        }
    }

    fn proceed(&mut self, now: Time, progress: Progress) {
        self.state = match progress {
            Progress::More(handshake) => State::Handshake(handshake),
            Progress::Named(handshake, info_hash) => {
                self.link.events.push_back(PeerEvent::Handshake(info_hash));
                State::Handshake(handshake)
            }
            Progress::Done(agreed, peer_id) => {
                let timers = &mut self.link.timers;
                timers.stop(Timer::Handshake);
                timers.set(Timer::Idle, now + self.config.idle_timeout);
                timers.set(Timer::KeepAlive, now + self.keepalive_interval);
                let config = self.config.clone();
                let encryption = self.envelope.encryption();
                let mut session =
                    Session::open(config, agreed, (peer_id, encryption), &mut self.link);
                session.tell_window(&mut self.link);
                let reader = Reader::default();
                State::Open(Box::new(Open { reader, session }))
            }
        };
    }

    fn attach(&mut self, now: Time, attach: Box<Attach>) {
        let State::Handshake(handshake) = std::mem::replace(&mut self.state, State::Over) else {
            return;
        };
        match handshake.attach(&self.config, attach) {
            Ok((progress, answer)) => {
                if let Some(greeting) = answer {
                    self.link.out.greet(greeting);
                }
                self.proceed(now, progress);
            }
            Err(error) => _ = self.misbehave(error),
        }
    }

    fn count_received(&mut self, now: Time, consumed: usize) {
        let payload = match &mut self.state {
            State::Open(open) => open.reader.take_payload_bytes(),
            State::Handshake(_) | State::Over => 0,
        };
        self.receive_credit.spend(payload);
        self.totals.payload_received += payload;
        self.totals.protocol_received += consumed as u64 - payload;
        if consumed > 0 && self.is_ready() {
            self.link
                .timers
                .set(Timer::Idle, now + self.config.idle_timeout);
        }
        if let State::Open(open) = &self.state
            && payload > 0
            && self.link.timers.is_set(Timer::Snub)
        {
            // Over a thin line that many share, one block takes longer than a peer may be silent.
            let timeout = open.session.snub_timeout();
            self.link.timers.set(Timer::Snub, now + timeout);
        }
    }

    fn misbehave(&mut self, error: PeerMisbehaved) -> PeerMisbehaved {
        self.end(CloseReason::Misbehaved(error.clone()));
        error
    }

    /// The first reason stays. Gives back all memory but the events, which tell what came before.
    fn end(&mut self, reason: CloseReason) {
        self.close.get_or_insert(reason);
        self.state = State::Over;
        self.envelope = Envelope::open();
        let events = std::mem::take(&mut self.link.events);
        self.link = Link {
            events,
            ..Link::default()
        };
    }
}

impl Open {
    /// Takes what it can from `rest`. `false` if a block's bytes are next and there is no memory for them.
    fn read(
        &mut self,
        now: Time,
        rest: &mut &[u8],
        blocks: &dyn Blocks,
        link: &mut Link,
    ) -> Result<bool, PeerMisbehaved> {
        let Self { reader, session } = self;
        while let Some(frame) = reader.next(rest, session.limits())? {
            match frame {
                Frame::KeepAlive => {}
                Frame::Message { id, payload } => {
                    session.handle_message(now, Message::parse(id, payload)?, link)?;
                }
                Frame::PieceHead(span) => {
                    if session.start_block(now, span, link)? {
                        reader.await_block(span);
                    } else {
                        reader.skip(span.len);
                    }
                }
                Frame::NeedsBlock(span) => match blocks.allocate(span.len as usize) {
                    Some(block) => reader.fill(span, block),
                    None => return Ok(false),
                },
                Frame::Block(span, block) => {
                    session.finish_block(now, span, block.freeze(), link);
                }
            }
        }
        Ok(true)
    }
}

/// What is decided while the handshake lasts changes what is told after it.
fn update(attach: &mut Attach, command: &PeerCommand) {
    match command {
        PeerCommand::Have(piece) => _ = attach.have.set(*piece),
        PeerCommand::DontHave(piece) => _ = attach.have.clear(*piece),
        PeerCommand::UploadOnly(upload_only) => attach.upload_only = *upload_only,
        PeerCommand::Metadata(info) => {
            attach.have = Bitfield::new(info.layout().piece_count());
            attach.info = Some(info.clone());
        }
        _ => {}
    }
}

/// Whoever asks for something before the handshake is through is told that it will not come.
fn reject_early(command: PeerCommand, link: &mut Link) {
    match command {
        PeerCommand::Request(spans) => {
            link.events
                .extend(spans.into_iter().map(PeerEvent::Rejected));
        }
        PeerCommand::RequestHashes(request) => {
            link.events.push_back(PeerEvent::HashesRejected(request));
        }
        PeerCommand::RequestMetadata(piece) => {
            link.events.push_back(PeerEvent::MetadataRejected(piece));
        }
        _ => {}
    }
}

/// Up to an eighth shorter, so that connections that began together do not speak together.
fn jittered(interval: Duration, seed: u64) -> Duration {
    let eighth = usize::try_from((interval / 8).as_micros()).unwrap_or(usize::MAX);
    let shorter = Rng::new(seed).below(eighth) as u64;
    interval.saturating_sub(Duration::from_micros(shorter))
}
