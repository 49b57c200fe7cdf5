//! One connection: its stream, TCP or uTP, its [`PeerConn`], and the loop between them.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use riverrun_base::Blocks;
use riverrun_peer::{
    CloseReason, PeerCommand, PeerConn, PeerEvent, PeerMisbehaved, Role, SendBatch,
};
use riverrun_swarm::{ConnKey, Input};
use tokio::io::Interest;
use tokio::sync::{Notify, mpsc};

use super::callers::Callers;
use super::clock::{Alarm, Clock};
use super::dial::OtherWay;
use super::doorstep::Place;
use super::identity::Identity;
use super::listen::{Directory, KeyExchanges};
use super::routes::{CONN_INBOX_BATCHES, ConnMessage};
use super::shard::ShardMessage;
use super::socket::Family;
use super::stream::PeerStream;

/// Events that may wait for the shard before the connection stops reading.
const EVENTS_WAITING_MAX: usize = 512;

/// Reads and writes in one turn of the loop, so that one connection cannot keep a worker to itself.
const TURNS_MAX: usize = 8;

/// The most slices that one write takes (the kernel's `IOV_MAX` is 1024).
const SLICES_MAX: usize = 64;

/// What every connection of an engine shares.
#[derive(Clone)]
pub(crate) struct ConnContext {
    pub(crate) clock: Clock,
    pub(crate) identity: Identity,
    pub(crate) blocks: Arc<dyn Blocks>,
    /// Notified when the block budget has room again.
    pub(crate) room: Arc<Notify>,
    pub(crate) shard: mpsc::Sender<ShardMessage>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) key_exchanges: Arc<KeyExchanges>,
    pub(crate) callers: Callers,
}

impl ConnContext {
    pub(crate) fn new(
        clock: Clock,
        identity: Identity,
        blocks: Arc<dyn Blocks>,
        room: Arc<Notify>,
        shard: mpsc::Sender<ShardMessage>,
    ) -> Self {
        Self {
            clock,
            identity,
            blocks,
            room,
            shard,
            directory: Arc::new(Directory::default()),
            key_exchanges: Arc::new(KeyExchanges::new(clock.now())),
            callers: Callers::default(),
        }
    }
}

/// Why the loop ended.
type End = CloseReason;

/// A connection's task.
pub(crate) struct ConnTask {
    context: ConnContext,
    /// `None` until the shard has accepted an incoming connection.
    key: Option<ConnKey>,
    peer: PeerConn,
    stream: PeerStream,
    addr: SocketAddr,
    /// Where the shard reaches this task; handed over when an incoming peer has named its torrent.
    own_inbox: Option<mpsc::Sender<ConnMessage>>,
    /// Held until an incoming connection is accepted.
    half_open: Option<Place>,
    inbox: mpsc::Receiver<ConnMessage>,
    /// How else we may dial, while the peer has not said a word.
    other_way: Option<OtherWay>,
    /// Read, and not used yet: nothing, unless the connection is starved.
    input: Vec<u8>,
    /// The block budget was empty: reading waits for room.
    starved: bool,
    batch: SendBatch,
    /// How much the transport holds at most, as it was told.
    waiting_max: usize,
    outgoing: Vec<PeerEvent>,
    introduction: Option<ShardMessage>,
    alarm: Alarm,
}

impl ConnTask {
    /// For a connection that we dialled.
    pub(crate) fn dialled(
        context: ConnContext,
        key: ConnKey,
        role: Role,
        seed: u64,
        stream: PeerStream,
        addr: SocketAddr,
        inbox: mpsc::Receiver<ConnMessage>,
    ) -> Self {
        Self::new(context, Some(key), role, seed, stream, addr, inbox)
    }

    /// If the peer says nothing, it is dialled in this way too before it is given up.
    pub(crate) fn or(self, other_way: Option<OtherWay>) -> Self {
        Self { other_way, ..self }
    }

    /// For a connection that a peer dialled.
    pub(crate) fn accepted(
        context: ConnContext,
        seed: u64,
        stream: PeerStream,
        addr: SocketAddr,
        half_open: Place,
    ) -> Self {
        let (own_inbox, inbox) = mpsc::channel(CONN_INBOX_BATCHES);
        let mut task = Self::new(context, None, Role::Listener, seed, stream, addr, inbox);
        task.own_inbox = Some(own_inbox);
        task.half_open = Some(half_open);
        task
    }

    fn new(
        context: ConnContext,
        key: Option<ConnKey>,
        role: Role,
        seed: u64,
        stream: PeerStream,
        addr: SocketAddr,
        inbox: mpsc::Receiver<ConnMessage>,
    ) -> Self {
        let config = context.identity.config(Family::of(&addr));
        let peer = PeerConn::new(config, role, seed, context.clock.now());
        Self {
            alarm: context.clock.alarm(),
            context,
            key,
            peer,
            stream,
            addr,
            own_inbox: None,
            half_open: None,
            inbox,
            other_way: None,
            input: Vec::new(),
            starved: false,
            batch: SendBatch::new(),
            waiting_max: 0,
            outgoing: Vec::new(),
            introduction: None,
        }
    }

    /// Runs to the connection's end and reports it.
    pub(crate) async fn run(mut self) {
        self.stream.set_nodelay();
        self.tell_waiting_max();
        // Of its own, so that waiting for them does not borrow the rest.
        let (shard, room) = (self.context.shard.clone(), self.context.room.clone());
        let why = loop {
            if let Err(end) = self.turn(&shard, &room).await
                && let Err(end) = self.begin_again(end).await
            {
                break end;
            }
        };
        tracing::debug!(addr = %self.addr, ?why, "connection closed");
        let Some(conn) = self.key else { return };
        if !self.outgoing.is_empty() {
            let events = std::mem::take(&mut self.outgoing);
            let _ = self
                .context
                .shard
                .send(ShardMessage::Peer { conn, events })
                .await;
        }
        let _ = self
            .context
            .shard
            .send(ShardMessage::Closed { conn, why })
            .await;
    }

    /// Waits for the next thing to happen and handles it.
    async fn turn(&mut self, shard: &mpsc::Sender<ShardMessage>, room: &Notify) -> Result<(), End> {
        let mut has_room = pin!(room.notified());
        if self.starved {
            // First listen, then look, so that room made in between is not missed.
            has_room.as_mut().enable();
            self.parse()?;
        }
        let now = self.context.clock.now();
        self.collect_events()?;
        if self.batch.is_empty() {
            // Whether there is more does not matter here: the next turn asks again.
            let _ = self.peer.poll_transmit(now, &mut self.batch);
        }
        if self.batch.is_empty()
            && let Some(reason) = self.peer.close_requested()
        {
            return Err(reason);
        }
        let has_news = self.introduction.is_some() || !self.outgoing.is_empty();
        let interest = self.interest();
        let deadline = self.peer.poll_timeout();
        let clock = self.context.clock;
        tokio::select! {
            permit = shard.reserve(), if has_news => {
                let permit = permit.map_err(|_| CloseReason::Shutdown)?;
                if let Some(message) = next_message(&mut self.introduction, &mut self.outgoing, self.key) {
                    permit.send(message);
                }
                Ok(())
            }
            message = self.inbox.recv() => self.handle_message(message),
            ready = self.stream.ready(interest) => {
                let ready = ready.map_err(transport)?;
                if ready.read {
                    self.read_some()?;
                }
                if ready.write {
                    self.write_some()?;
                }
                Ok(())
            }
            () = has_room, if self.starved => Ok(()),
            () = self.alarm.ring(deadline) => {
                self.peer.handle_timeout(clock.now()).map_err(misbehaved)
            }
        }
    }

    /// The connection has come to this end. If the peer has not said a word, and there is another way, that is tried, and
    /// the handshake begins anew. If not, or in vain, the end is the one that it has come to.
    async fn begin_again(&mut self, end: End) -> Result<(), End> {
        let is_theirs = matches!(
            end,
            CloseReason::PeerClosed
                | CloseReason::Transport(_)
                | CloseReason::Misbehaved(PeerMisbehaved::HandshakeTimeout)
        );
        if !is_theirs || !self.peer.is_unheard() {
            return Err(end);
        }
        let Some(other_way) = self.other_way.take() else {
            return Err(end);
        };
        tracing::debug!(addr = %self.addr, why = ?end, "not a word, dialling by the other transport");
        let mut dial = Box::pin(other_way.dial());
        let dialled = loop {
            tokio::select! {
                dialled = &mut dial => break dialled,
                message = self.inbox.recv() => self.handle_message(message)?,
            }
            if !self.peer.is_unheard() {
                // It was to be closed.
                return Err(self.peer.close_requested().unwrap_or(end));
            }
        };
        let stream = dialled.map_err(|_| end)?;
        let (transport, clock) = (stream.transport(), self.context.clock);
        self.stream = stream;
        self.stream.set_nodelay();
        self.batch.clear();
        self.waiting_max = 0;
        self.tell_waiting_max();
        self.peer.begin_again(clock.now());
        if let Some(conn) = self.key {
            let connected = Input::Connected { conn, transport };
            // If the shard is gone, the next turn finds out.
            let _ = self
                .context
                .shard
                .send(ShardMessage::Inputs(vec![connected]))
                .await;
        }
        Ok(())
    }

    /// What to wait for on the socket; `None` if nothing.
    fn interest(&self) -> Option<Interest> {
        let reads =
            !self.starved && self.peer.wants_read() && self.outgoing.len() < EVENTS_WAITING_MAX;
        match (reads, !self.batch.is_empty()) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        }
    }

    fn handle_message(&mut self, message: Option<ConnMessage>) -> Result<(), End> {
        let now = self.context.clock.now();
        let mut next = message;
        loop {
            match next {
                None => return Err(CloseReason::Shutdown),
                Some(ConnMessage::Accepted { conn, attach }) => {
                    self.key = Some(conn);
                    self.own_inbox = None;
                    self.half_open = None;
                    self.peer.handle_command(now, PeerCommand::Attach(attach));
                }
                Some(ConnMessage::Commands(commands)) => {
                    for command in commands {
                        if let PeerCommand::Close(CloseReason::Offline) = command {
                            // There is no way left for what waits to be sent.
                            return Err(CloseReason::Offline);
                        }
                        self.peer.handle_command(now, command);
                    }
                }
            }
            match self.inbox.try_recv() {
                Ok(message) => next = Some(message),
                Err(_) => return Ok(()),
            }
        }
    }

    fn read_some(&mut self) -> Result<(), End> {
        for _ in 0..TURNS_MAX {
            if self
                .interest()
                .is_none_or(|interest| !interest.is_readable())
            {
                break;
            }
            match self.stream.try_read(&mut self.input) {
                Ok(0) => {
                    return Err(self
                        .peer
                        .close_requested()
                        .unwrap_or(CloseReason::PeerClosed));
                }
                Ok(_) => {
                    self.parse()?;
                    self.collect_events()?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(transport(error)),
            }
        }
        Ok(())
    }

    /// Feeds what was read to the connection.
    fn parse(&mut self) -> Result<(), End> {
        let now = self.context.clock.now();
        let consumed = self
            .peer
            .handle_bytes(now, &mut self.input, &*self.context.blocks)
            .map_err(misbehaved)?;
        self.input.drain(..consumed);
        self.starved = !self.input.is_empty();
        Ok(())
    }

    fn write_some(&mut self) -> Result<(), End> {
        for _ in 0..TURNS_MAX {
            if self.batch.is_empty() {
                let now = self.context.clock.now();
                let _ = self.peer.poll_transmit(now, &mut self.batch);
            }
            if self.batch.is_empty() {
                break;
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 0;
            for (slot, bytes) in slices.iter_mut().zip(self.batch.slices()) {
                *slot = IoSlice::new(bytes);
                count += 1;
            }
            match self.stream.try_write_vectored(&slices[..count]) {
                Ok(written) => self.batch.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(transport(error)),
            }
        }
        self.peer.handle_written(&mut self.batch);
        self.tell_waiting_max();
        Ok(())
    }

    /// The transport is to hold no more than it needs until we are there again.
    fn tell_waiting_max(&mut self) {
        let waiting_max = self.batch.waiting_max();
        if waiting_max != self.waiting_max {
            self.waiting_max = waiting_max;
            self.stream.set_waiting_max(waiting_max);
        }
    }

    /// Takes what the connection has to report. The first reports of an incoming one are answered here: which
    /// torrent is it for?
    fn collect_events(&mut self) -> Result<(), End> {
        while let Some(event) = self.peer.poll_event() {
            match event {
                PeerEvent::KeyExchange => {
                    let now = self.context.clock.now();
                    if !self.context.key_exchanges.admit(now) {
                        return Err(CloseReason::Crowded);
                    }
                    self.peer.handle_command(now, PeerCommand::ExchangeKeys);
                }
                PeerEvent::Veiled(name) => {
                    let info_hash = self.context.directory.unveil(name);
                    let info_hash = info_hash.ok_or(CloseReason::TorrentStopped)?;
                    let now = self.context.clock.now();
                    self.peer
                        .handle_command(now, PeerCommand::Unveil(info_hash));
                }
                PeerEvent::Handshake(info_hash) => {
                    let torrent = self.context.directory.find(info_hash);
                    let (Some(torrent), Some(inbox)) = (torrent, self.own_inbox.clone()) else {
                        return Err(CloseReason::TorrentStopped);
                    };
                    let addr = self.addr;
                    self.context.callers.came(addr.ip());
                    self.introduction = Some(ShardMessage::Incoming {
                        torrent,
                        addr,
                        transport: self.stream.transport(),
                        inbox,
                    });
                }
                event => self.outgoing.push(event),
            }
        }
        Ok(())
    }
}

fn next_message(
    introduction: &mut Option<ShardMessage>,
    outgoing: &mut Vec<PeerEvent>,
    key: Option<ConnKey>,
) -> Option<ShardMessage> {
    if let Some(message) = introduction.take() {
        return Some(message);
    }
    let conn = key?;
    Some(ShardMessage::Peer {
        conn,
        events: std::mem::take(outgoing),
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that `map_err` wants"
)]
fn transport(error: io::Error) -> CloseReason {
    CloseReason::Transport(error.to_string())
}

const fn misbehaved(error: PeerMisbehaved) -> CloseReason {
    CloseReason::Misbehaved(error)
}
