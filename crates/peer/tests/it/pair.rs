//! Two connections, a pipe each way, and a clock that stands until it is moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use riverrun_base::{Block, BlockMut, Blocks, InfoHash, InfoHashes, PeerId, Rng, Time};
use riverrun_peer::{
    Attach, CloseReason, PeerCommand, PeerConfig, PeerConn, PeerEvent, PeerMisbehaved, Role,
    SendBatch, veiled,
};

use crate::torrent::content;

/// Memory that is there every third time.
#[derive(Default)]
pub(crate) struct Scarce(AtomicUsize);

impl Blocks for Scarce {
    fn allocate(&self, len: usize) -> Option<BlockMut> {
        let asked = self.0.fetch_add(1, Ordering::Relaxed);
        (asked % 3 == 2).then(|| BlockMut::unbudgeted(len))
    }
}

/// Memory without end.
pub(crate) struct Plenty;

impl Blocks for Plenty {
    fn allocate(&self, len: usize) -> Option<BlockMut> {
        Some(BlockMut::unbudgeted(len))
    }
}

pub(crate) fn config(id: u8) -> PeerConfig {
    let mut config = PeerConfig::new(PeerId([id; 20]));
    config.client = Some(format!("client {id}"));
    config.listen_port = Some(6880 + u16::from(id));
    config
}

/// One end.
pub(crate) struct Side {
    pub(crate) conn: PeerConn,
    pub(crate) events: Vec<PeerEvent>,
    pub(crate) error: Option<PeerMisbehaved>,
    batch: SendBatch,
    /// Came through the pipe and was not taken yet.
    inbox: Vec<u8>,
    /// What a listener attaches when a torrent is named.
    attach: Option<Attach>,
    /// Answers every request at once.
    pub(crate) serves: bool,
    /// Answers no question of who is meant.
    pub(crate) is_deaf: bool,
    pub(crate) memory: Box<dyn Blocks>,
    /// Without it the bit of the fast extension is lost on the way.
    fast: bool,
    written: usize,
}

impl Side {
    fn new(conn: PeerConn, attach: Option<Attach>) -> Self {
        Self {
            conn,
            events: Vec::new(),
            error: None,
            batch: SendBatch::new(),
            inbox: Vec::new(),
            attach,
            serves: false,
            is_deaf: false,
            memory: Box::new(Plenty),
            fast: true,
            written: 0,
        }
    }

    /// What was reported since the last call, as text.
    pub(crate) fn take_events(&mut self) -> Vec<String> {
        self.events
            .drain(..)
            .map(|event| format!("{event:?}"))
            .collect()
    }

    /// As [`Side::take_events`], without how a connection begins and how fast it is.
    pub(crate) fn take_news(&mut self) -> Vec<String> {
        let mut events = self.take_events();
        events.retain(|event| {
            !["Ready", "Extended", "Window", "Handshake"]
                .iter()
                .any(|old| event.starts_with(old))
        });
        events
    }

    fn write(&mut self, now: Time, pipe: &mut Vec<u8>, rng: &mut Rng) -> bool {
        let mut wrote = false;
        while self.conn.poll_transmit(now, &mut self.batch) || !self.batch.is_empty() {
            let len = 1 + rng.below(self.batch.len_bytes());
            let mut bytes: Vec<u8> = self.batch.slices().flatten().copied().take(len).collect();
            // In the greeting, the last of the reserved bytes.
            if let Some(byte) = 27_usize
                .checked_sub(self.written)
                .and_then(|at| bytes.get_mut(at))
                && !self.fast
            {
                *byte &= !4;
            }
            self.written += len;
            pipe.extend_from_slice(&bytes);
            self.batch.advance(len);
            wrote = true;
        }
        wrote
    }

    fn read(&mut self, now: Time, rng: &mut Rng) -> bool {
        let mut read = false;
        while !self.inbox.is_empty() && self.error.is_none() && self.conn.wants_read() {
            let len = 1 + rng.below(self.inbox.len());
            match self
                .conn
                .handle_bytes(now, &mut self.inbox[..len], &*self.memory)
            {
                Ok(consumed) => drop(self.inbox.drain(..consumed)),
                Err(error) => self.error = Some(error),
            }
            read = true;
            self.take_in(now);
        }
        read
    }

    fn take_in(&mut self, now: Time) {
        while let Some(event) = self.conn.poll_event() {
            match &event {
                PeerEvent::KeyExchange => {
                    self.conn.handle_command(now, PeerCommand::ExchangeKeys);
                }
                PeerEvent::Veiled(name) if !self.is_deaf => {
                    let hashes = self.attach.as_ref().map(|attach| attach.hashes);
                    let mut meant = hashes.iter().flat_map(InfoHashes::wire);
                    if let Some(hash) = meant.find(|hash| veiled(*hash) == *name) {
                        self.conn.handle_command(now, PeerCommand::Unveil(hash));
                    }
                }
                PeerEvent::Handshake(_) => {
                    if let Some(attach) = self.attach.take() {
                        self.conn
                            .handle_command(now, PeerCommand::Attach(Box::new(attach)));
                    }
                }
                PeerEvent::Wants(span) if self.serves => {
                    let (span, block) = (*span, Block::unbudgeted(&content(*span)));
                    self.conn
                        .handle_command(now, PeerCommand::Serve { span, block });
                }
                _ => {}
            }
            self.events.push(event);
        }
    }
}

/// Two ends: `dialer` and `listener`.
pub(crate) struct Pair {
    pub(crate) now: Time,
    pub(crate) dialer: Side,
    pub(crate) listener: Side,
    rng: Rng,
}

impl Pair {
    pub(crate) fn new(info_hash: InfoHash, dials: Attach, listens: Attach) -> Self {
        Self::with(info_hash, (config(1), dials), (config(2), listens), 0)
    }

    /// `seed` decides where the streams are cut.
    pub(crate) fn with(
        info_hash: InfoHash,
        dials: (PeerConfig, Attach),
        listens: (PeerConfig, Attach),
        seed: u64,
    ) -> Self {
        Self::dialled(info_hash, dials, listens, seed, false)
    }

    pub(crate) fn dialled(
        info_hash: InfoHash,
        dials: (PeerConfig, Attach),
        listens: (PeerConfig, Attach),
        seed: u64,
        encrypted: bool,
    ) -> Self {
        let now = Time::from_secs(1);
        let role = Role::Dialer {
            info_hash,
            attach: Box::new(dials.1),
            encrypted,
        };
        let dialer = PeerConn::new(Arc::new(dials.0), role, seed, now);
        let listener = PeerConn::new(Arc::new(listens.0), Role::Listener, seed, now);
        Self {
            now,
            dialer: Side::new(dialer, None),
            listener: Side::new(listener, Some(listens.1)),
            rng: Rng::new(seed),
        }
    }

    /// Whether the ends know each other to have the fast extension.
    pub(crate) fn set_fast(&mut self, fast: bool) {
        (self.dialer.fast, self.listener.fast) = (fast, fast);
    }

    /// Both ends write and read once; whether anything moved.
    pub(crate) fn step(&mut self) -> bool {
        let (now, rng) = (self.now, &mut self.rng);
        let (dialer, listener) = (&mut self.dialer, &mut self.listener);
        dialer.take_in(now);
        listener.take_in(now);
        let moved = [
            dialer.write(now, &mut listener.inbox, rng),
            listener.read(now, rng),
            listener.write(now, &mut dialer.inbox, rng),
            dialer.read(now, rng),
        ];
        moved.contains(&true)
    }

    /// Until nothing moves. The clock stands.
    pub(crate) fn drive(&mut self) -> &mut Self {
        while self.step() {}
        self
    }

    /// Lets time pass, deadline by deadline.
    pub(crate) fn pass(&mut self, time: Duration) -> &mut Self {
        let end = self.now + time;
        loop {
            self.drive();
            let due = [&self.dialer, &self.listener].map(|side| side.conn.poll_timeout());
            let next = due.into_iter().flatten().min().filter(|next| *next <= end);
            self.now = next.unwrap_or(end).max(self.now);
            for side in [&mut self.dialer, &mut self.listener] {
                if let Err(error) = side.conn.handle_timeout(self.now) {
                    side.error = Some(error);
                }
            }
            if next.is_none() {
                self.drive();
                return self;
            }
        }
    }

    pub(crate) fn dialer_does(&mut self, command: PeerCommand) -> &mut Self {
        self.dialer.conn.handle_command(self.now, command);
        self.drive()
    }

    pub(crate) fn listener_does(&mut self, command: PeerCommand) -> &mut Self {
        self.listener.conn.handle_command(self.now, command);
        self.drive()
    }

    /// Drives, and forgets what was reported so far.
    pub(crate) fn settle(&mut self) -> &mut Self {
        self.drive();
        self.dialer.events.clear();
        self.listener.events.clear();
        assert_eq!((&self.dialer.error, &self.listener.error), (&None, &None));
        self
    }
}

/// Why a connection was closed for something that the peer did.
pub(crate) fn misbehaved(error: PeerMisbehaved) -> CloseReason {
    CloseReason::Misbehaved(error)
}
