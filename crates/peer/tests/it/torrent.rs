//! Small torrents to talk about.

use std::sync::Arc;

use riverrun_base::{BLOCK_LEN, Bitfield, BlockSpan, InfoHash, PieceIndex};
use riverrun_bencode::Writer;
use riverrun_metainfo::Info;
use riverrun_peer::{Attach, HashRequest};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    V1,
    V2,
    Hybrid,
}

/// A file of `pieces` times 32 KiB, less one byte.
pub(crate) fn torrent(kind: Kind, pieces: u32) -> Arc<Info> {
    torrent_of(kind, pieces, 2 * BLOCK_LEN)
}

pub(crate) fn torrent_of(kind: Kind, pieces: u32, piece_len: u32) -> Arc<Info> {
    let length = u64::from(pieces) * u64::from(piece_len) - 1;
    let mut writer = Writer::new();
    writer.dict();
    if kind != Kind::V1 {
        writer.key(b"file tree").dict().key(b"name").dict();
        writer.key(b"").dict().key(b"length").uint(length);
        writer.key(b"pieces root").bytes(&[7; 32]).end();
        writer.end().end();
    }
    if kind != Kind::V2 {
        writer.key(b"length").uint(length);
    }
    if kind != Kind::V1 {
        writer.key(b"meta version").int(2);
    }
    writer.key(b"name").bytes(b"name");
    writer.key(b"piece length").uint(piece_len.into());
    if kind != Kind::V2 {
        writer.key(b"pieces").bytes(&vec![1; 20 * pieces as usize]);
    }
    writer.end();
    Arc::new(Info::from_bytes(&writer.finish()).unwrap())
}

/// Attaches with these pieces.
pub(crate) fn attach(info: &Arc<Info>, have: &[u32]) -> Attach {
    let mut field = Bitfield::new(info.layout().piece_count());
    for piece in have {
        assert!(field.set(PieceIndex(*piece)));
    }
    Attach {
        hashes: info.hashes(),
        info: Some(info.clone()),
        have: field,
        hide_pieces: false,
        upload_only: false,
        private: false,
        your_ip: None,
    }
}

/// Attaches without metadata.
pub(crate) fn attach_magnet(info: &Arc<Info>) -> Attach {
    Attach {
        info: None,
        have: Bitfield::new(0),
        ..attach(info, &[])
    }
}

/// The first block of a piece.
pub(crate) fn span(piece: u32) -> BlockSpan {
    span_at(piece, 0)
}

pub(crate) fn span_at(piece: u32, block: u32) -> BlockSpan {
    BlockSpan {
        piece: PieceIndex(piece),
        offset: block * BLOCK_LEN,
        len: BLOCK_LEN,
    }
}

/// What a block of our torrents has in it.
pub(crate) fn content(span: BlockSpan) -> Vec<u8> {
    let mark = span
        .piece
        .0
        .wrapping_mul(31)
        .wrapping_add(span.offset / BLOCK_LEN);
    vec![mark.to_le_bytes()[0]; span.len as usize]
}

pub(crate) fn v1_hash(info: &Info) -> InfoHash {
    info.hashes().v1().unwrap().into()
}

pub(crate) fn v2_hash(info: &Info) -> InfoHash {
    info.hashes().wire_v2().unwrap()
}

pub(crate) const HASH_REQUEST: HashRequest = HashRequest {
    pieces_root: riverrun_base::Sha256Digest([7; 32]),
    base_layer: 0,
    index: 2,
    count: 2,
    proof_layers: 3,
};
