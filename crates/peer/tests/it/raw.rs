//! A connection whose peer is bytes by hand.

use std::sync::Arc;
use std::time::Duration;

use riverrun_base::{BlockSpan, Blocks, InfoHash, Time};
use riverrun_metainfo::Info;
use riverrun_peer::{
    Attach, HashRequest, PeerCommand, PeerConfig, PeerConn, PeerEvent, PeerMisbehaved, Role,
    SendBatch,
};

use crate::pair::{Plenty, config};

/// The reserved bits of a peer.
pub(crate) const NOTHING: [u8; 8] = [0; 8];
pub(crate) const FAST: [u8; 8] = [0, 0, 0, 0, 0, 0, 0, 4];
pub(crate) const EXTENDED: [u8; 8] = [0, 0, 0, 0, 0, 0x10, 0, 0];
pub(crate) const ALL: [u8; 8] = [0, 0, 0, 0, 0, 0x10, 0, 4];

pub(crate) fn greeting(reserved: [u8; 8], info_hash: InfoHash) -> Vec<u8> {
    let protocol = &b"\x13BitTorrent protocol"[..];
    [protocol, &reserved, info_hash.as_bytes(), &[b'p'; 20]].concat()
}

/// A message; the id first.
pub(crate) fn message(id: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len() + 1).unwrap();
    [&len.to_be_bytes()[..], &[id], payload].concat()
}

/// A message of numbers.
pub(crate) fn numbers(id: u8, numbers: &[u32]) -> Vec<u8> {
    let payload: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
    message(id, &payload)
}

/// A message about a span.
pub(crate) fn spanned(id: u8, span: BlockSpan) -> Vec<u8> {
    numbers(id, &[span.piece.0, span.offset, span.len])
}

/// A `piece` message.
pub(crate) fn piece(span: BlockSpan, bytes: &[u8]) -> Vec<u8> {
    let head = numbers(7, &[span.piece.0, span.offset]);
    message(7, &[&head[5..], bytes].concat())
}

/// An extended message.
pub(crate) fn extended(id: u8, payload: &[u8]) -> Vec<u8> {
    message(20, &[&[id], payload].concat())
}

/// A message of hashes, or of a request for them.
pub(crate) fn hashes(id: u8, request: HashRequest, hashes: usize) -> Vec<u8> {
    let HashRequest {
        base_layer,
        index,
        count,
        proof_layers,
        ..
    } = request;
    let rest = numbers(id, &[base_layer, index, count, proof_layers]);
    let root = request.pieces_root.as_bytes();
    message(id, &[&root[..], &rest[5..], &vec![9; 32 * hashes]].concat())
}

/// What a test talks to.
pub(crate) struct Victim {
    pub(crate) conn: PeerConn,
    pub(crate) now: Time,
    pub(crate) blocks: Box<dyn Blocks>,
}

impl Victim {
    /// Dialled by a peer with these bits, which has greeted and said nothing more.
    pub(crate) fn new(reserved: [u8; 8], info_hash: InfoHash, attach: Attach) -> Self {
        Self::with(config(1), reserved, info_hash, attach)
    }

    pub(crate) fn with(
        config: PeerConfig,
        reserved: [u8; 8],
        info_hash: InfoHash,
        attach: Attach,
    ) -> Self {
        let now = Time::from_secs(1);
        let conn = PeerConn::new(Arc::new(config), Role::Listener, 7, now);
        let mut victim = Self {
            conn,
            now,
            blocks: Box::new(Plenty),
        };
        victim.says(&greeting(reserved, info_hash)).unwrap();
        victim.does(PeerCommand::Attach(Box::new(attach)));
        assert!(victim.conn.is_ready());
        victim.sent();
        victim.events();
        victim
    }

    /// Dialled by a peer that has said nothing yet.
    pub(crate) fn listening(config: PeerConfig) -> Self {
        let now = Time::from_secs(1);
        Self {
            conn: PeerConn::new(Arc::new(config), Role::Listener, 7, now),
            now,
            blocks: Box::new(Plenty),
        }
    }

    /// Has dialled encrypted.
    pub(crate) fn dialling(
        config: PeerConfig,
        info_hash: InfoHash,
        attach: Attach,
        seed: u64,
    ) -> Self {
        let now = Time::from_secs(1);
        let role = Role::Dialer {
            info_hash,
            attach: Box::new(attach),
            encrypted: true,
        };
        Self {
            conn: PeerConn::new(Arc::new(config), role, seed, now),
            now,
            blocks: Box::new(Plenty),
        }
    }

    /// Of a v1 torrent, with the pieces of `attach`.
    pub(crate) fn v1(reserved: [u8; 8], info: &Arc<Info>, have: &[u32]) -> Self {
        let hash = info.hashes().primary();
        Self::new(reserved, hash, crate::torrent::attach(info, have))
    }

    /// The peer says this.
    pub(crate) fn says(&mut self, bytes: &[u8]) -> Result<(), PeerMisbehaved> {
        let mut bytes = bytes.to_vec();
        let consumed = self
            .conn
            .handle_bytes(self.now, &mut bytes, &*self.blocks)?;
        assert!(consumed == bytes.len() || !self.conn.wants_read());
        Ok(())
    }

    pub(crate) fn does(&mut self, command: PeerCommand) {
        self.conn.handle_command(self.now, command);
    }

    pub(crate) fn pass(&mut self, time: Duration) -> Result<(), PeerMisbehaved> {
        self.now += time;
        self.conn.handle_timeout(self.now)
    }

    pub(crate) fn events(&mut self) -> Vec<PeerEvent> {
        std::iter::from_fn(|| self.conn.poll_event()).collect()
    }

    /// What was reported, as text, without the window.
    pub(crate) fn news(&mut self) -> Vec<String> {
        let events = self.events().into_iter();
        let mut news: Vec<_> = events.map(|event| format!("{event:?}")).collect();
        news.retain(|event| !event.starts_with("Window"));
        news
    }

    /// The messages that were sent, ids first.
    pub(crate) fn sent(&mut self) -> Vec<Vec<u8>> {
        let bytes = self.sent_bytes();
        let mut rest = &bytes[..];
        if rest.first() == Some(&0x13) {
            rest = &rest[68..];
        }
        let mut messages = Vec::new();
        while let Some((len, tail)) = rest.split_first_chunk() {
            let len = u32::from_be_bytes(*len) as usize;
            messages.push(tail[..len].to_vec());
            rest = &tail[len..];
        }
        messages
    }

    pub(crate) fn sent_bytes(&mut self) -> Vec<u8> {
        let mut batch = SendBatch::new();
        let mut bytes = Vec::new();
        while self.conn.poll_transmit(self.now, &mut batch) {
            bytes.extend(batch.slices().flatten());
            batch.advance(batch.len_bytes());
        }
        bytes
    }

    /// The ids of the messages that were sent.
    pub(crate) fn sent_ids(&mut self) -> Vec<u8> {
        let sent = self.sent();
        sent.iter()
            .filter_map(|message| message.first().copied())
            .collect()
    }
}
