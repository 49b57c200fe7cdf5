//! One connection, whose peer sends what the input says.

use std::sync::Arc;
use std::time::Duration;

use riverrun_base::{Block, BlockPool, BlockSpan, PeerId, PieceIndex, Time};
use riverrun_metainfo::Info;
use riverrun_peer::{
    Credit, EncryptionPolicy, PeerCommand, PeerConfig, PeerConn, PeerEvent, Role, SendBatch,
};

use crate::{Input, torrents};

/// More than this waits in no connection, whatever its peer does: the longest message, the answers to the most
/// requests that are kept, and as much again.
const QUEUED_BYTES_MAX: usize = 64 << 20;
/// Memory for blocks that come.
const BLOCKS_BYTES: usize = 256 * 1024;

/// A connection, and what has come for it and was not taken yet.
pub struct Connection {
    conn: PeerConn,
    info: Arc<Info>,
    is_known: bool,
    now: Time,
    pending: Vec<u8>,
    blocks: BlockPool,
    batch: SendBatch,
    wanted: Vec<BlockSpan>,
}

fn config(encryption: EncryptionPolicy) -> Arc<PeerConfig> {
    let mut config = PeerConfig::new(PeerId([7; 20]));
    config.encryption = encryption;
    Arc::new(config)
}

impl Connection {
    /// We are dialled.
    pub fn listening(input: &mut Input<'_>) -> Self {
        let policies = [
            EncryptionPolicy::Prefer,
            EncryptionPolicy::Off,
            EncryptionPolicy::Require,
        ];
        let kind = input.byte();
        let config = config(policies[usize::from(kind % 3)]);
        Self::new(config, Role::Listener, kind)
    }

    /// We dial, and the peer greets as it should; what its extension bits are is for the input to say.
    pub fn greeted(input: &mut Input<'_>) -> Self {
        let kind = input.byte();
        let info = torrents::info(kind);
        let role = Role::Dialer {
            info_hash: info.hashes().primary(),
            attach: torrents::attach(&info, kind & 4 == 0),
            encrypted: false,
        };
        let mut this = Self::new(config(EncryptionPolicy::Off), role, kind);
        let mut greeting = b"\x13BitTorrent protocol".to_vec();
        let mut reserved = [0; 8];
        for (bit, byte) in reserved.iter_mut().zip(input.bytes(8)) {
            *bit = *byte;
        }
        greeting.extend_from_slice(&reserved);
        greeting.extend_from_slice(info.hashes().primary().as_bytes());
        greeting.extend_from_slice(&[9; 20]);
        this.take(&greeting);
        this
    }

    fn new(config: Arc<PeerConfig>, role: Role, kind: u8) -> Self {
        Self {
            conn: PeerConn::new(config, role, u64::from(kind), Time::ZERO),
            info: torrents::info(kind),
            is_known: kind & 4 == 0,
            now: Time::ZERO,
            pending: Vec::new(),
            blocks: BlockPool::new(BLOCKS_BYTES, || {}),
            batch: SendBatch::new(),
            wanted: Vec::new(),
        }
    }

    /// Does what the input says, to its end.
    pub fn run(&mut self, mut input: Input<'_>) {
        while !input.is_empty() && self.conn.close_requested().is_none() {
            match input.byte() % 16 {
                0 | 1 => self.take(input.counted()),
                2..=7 => {
                    let body = input.counted();
                    self.message(body);
                }
                8 => {
                    // An extension message (BEP 10).
                    let body = input.counted();
                    self.message(&[&[20], body].concat());
                }
                9 => {
                    self.now += Duration::from_millis(u64::from(input.short()) * 4);
                    if self.conn.handle_timeout(self.now).is_err() {
                        return;
                    }
                }
                10 => self.serve(),
                _ => self.command(&mut input),
            }
            self.settle();
        }
    }

    /// A message of the peer's, with the length that it has.
    fn message(&mut self, body: &[u8]) {
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        self.take(&[&len.to_be_bytes(), body].concat());
    }

    fn take(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        self.push();
    }

    fn push(&mut self) {
        if !self.conn.wants_read() {
            return;
        }
        let taken = self
            .conn
            .handle_bytes(self.now, &mut self.pending, &self.blocks);
        match taken {
            Ok(count) => drop(self.pending.drain(..count)),
            Err(_) => self.pending.clear(),
        }
    }

    fn serve(&mut self) {
        if let Some(span) = self.wanted.pop() {
            let block = Block::unbudgeted(&vec![3; span.len as usize]);
            self.conn
                .handle_command(self.now, PeerCommand::Serve { span, block });
        }
    }

    fn command(&mut self, input: &mut Input<'_>) {
        let layout = self.info.layout();
        let piece = PieceIndex(u32::from(input.byte()) % layout.piece_count());
        let span = layout.span(piece, u32::from(input.byte() & 1));
        let command = match input.byte() % 12 {
            0 => PeerCommand::Unchoke,
            1 => PeerCommand::Choke,
            2 => PeerCommand::Interested,
            3 | 4 => PeerCommand::Request(span.into_iter().collect()),
            5 => match span {
                Some(span) => PeerCommand::Cancel(span),
                None => return,
            },
            6 if self.is_known => PeerCommand::Have(piece),
            7 => PeerCommand::RequestMetadata(piece.0 % 2),
            8 => PeerCommand::UploadOnly(true),
            9 => PeerCommand::Credit(Credit {
                send_bytes: Some(input.short().into()),
                receive_bytes: Some(input.short().into()),
            }),
            10 if !self.is_known => {
                self.is_known = true;
                PeerCommand::Metadata(self.info.clone())
            }
            _ => return,
        };
        self.conn.handle_command(self.now, command);
    }

    /// Answers what only the decisions can answer, and sends what is to be sent.
    fn settle(&mut self) {
        for _ in 0..4 {
            while let Some(event) = self.conn.poll_event() {
                self.hear(event);
            }
            self.push();
            while self.conn.poll_transmit(self.now, &mut self.batch) {
                self.batch.clear();
            }
            self.batch.clear();
        }
        let queued = self.conn.queued_bytes();
        assert!(queued <= QUEUED_BYTES_MAX, "{queued} bytes wait");
        let _ = self.conn.poll_timeout();
    }

    fn hear(&mut self, event: PeerEvent) {
        let command = match event {
            PeerEvent::KeyExchange => PeerCommand::ExchangeKeys,
            PeerEvent::Veiled(_) => PeerCommand::Unveil(self.info.hashes().primary()),
            PeerEvent::Handshake(_) => {
                PeerCommand::Attach(torrents::attach(&self.info, self.is_known))
            }
            PeerEvent::Wants(span) => {
                let layout = self.info.layout();
                assert!(layout.contains(span), "{span} is none of the torrent's");
                if self.wanted.len() < 1024 {
                    self.wanted.push(span);
                }
                return;
            }
            PeerEvent::Received { span, block } => {
                assert_eq!(span.len as usize, block.len());
                return;
            }
            _ => return,
        };
        self.conn.handle_command(self.now, command);
    }
}
