//! Torrents without bytes: metadata whose pieces nobody hashes, and tokens for blocks.

use std::sync::Arc;

use riverrun_base::{BLOCK_LEN, Block, BlockSpan, PieceIndex, Rng, Sha1Digest, Sha256Digest};
use riverrun_hash::{sha1, sha256};
use riverrun_metainfo::{Info, PieceHashes, PieceLayer, PieceLayers, merkle};
use serde::{Deserialize, Serialize};

use crate::ids::HostId;

/// What the bytes of a block are, without the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// What the torrent says.
    Right,
    /// What this host made of it.
    Wrong(HostId),
}

impl Payload {
    /// A number for each; zero is right.
    const fn code(self) -> u32 {
        match self {
            Self::Right => 0,
            Self::Wrong(host) => host.0 + 1,
        }
    }

    const fn of_code(code: u32) -> Self {
        match code {
            0 => Self::Right,
            host => Self::Wrong(HostId(host - 1)),
        }
    }
}

/// Which hashes a torrent has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// One of each piece (BEP 3).
    #[default]
    V1,
    /// One of each block, in a tree (BEP 52).
    V2,
    /// Both, with padding between files (BEP 47).
    Hybrid,
}

/// A torrent of a world.
///
/// The decisions never look into a block, so a block is four bytes that say what it is; only the connections that
/// run byte by byte see as many bytes as the span has. Torrents whose hashes matter (v2) have real bytes.
#[derive(Clone, Debug)]
pub struct Content {
    info: Arc<Info>,
    hashes: PieceHashes,
    /// The real bytes.
    bytes: Option<Arc<Vec<u8>>>,
    /// The token of every right block; shared.
    right: Block,
    /// A whole right block, for connections that run byte by byte; shared.
    right_whole: Block,
}

impl Content {
    /// A torrent of that version of `pieces` pieces of `blocks` blocks each, or a little more: tokens if it is of v1, else
    /// real bytes that come from the seed.
    ///
    /// # Panics
    ///
    /// If no torrent can be like that.
    pub fn of(version: Version, pieces: u32, blocks: u32, seed: u64) -> Self {
        match version {
            Version::V1 => Self::tokens(pieces, blocks),
            Version::V2 => Self::v2(pieces, blocks, seed),
            Version::Hybrid => Self::hybrid(pieces, blocks, seed),
        }
    }

    /// One file of `pieces` pieces of `blocks` blocks each.
    ///
    /// # Panics
    ///
    /// If no torrent can be like that.
    pub fn tokens(pieces: u32, blocks: u32) -> Self {
        Self::dictionary(pieces, blocks, "")
    }

    /// As [`Content::tokens`], private (BEP 27).
    pub fn private(pieces: u32, blocks: u32) -> Self {
        Self::dictionary(pieces, blocks, "7:privatei1e")
    }

    /// Files of that many pieces of `blocks` blocks each.
    ///
    /// # Panics
    ///
    /// If no torrent can be like that.
    pub fn files(pieces: &[u32], blocks: u32) -> Self {
        let piece_len = blocks * BLOCK_LEN;
        let file = |(n, pieces): (usize, &u32)| {
            let len = u64::from(*pieces) * u64::from(piece_len);
            format!("d6:lengthi{len}e4:pathl1:{n}ee")
        };
        let list: String = pieces.iter().enumerate().map(file).collect();
        let count = pieces.iter().sum::<u32>() as usize * 20;
        let head =
            format!("d5:filesl{list}e4:name4:test12:piece lengthi{piece_len}e6:pieces{count}:");
        let raw = [head.as_bytes(), &vec![b'h'; count], b"e"].concat();
        Self::parse(&raw)
    }

    fn dictionary(pieces: u32, blocks: u32, rest: &str) -> Self {
        let piece_len = blocks * BLOCK_LEN;
        let len = u64::from(pieces) * u64::from(piece_len);
        let head = format!(
            "d6:lengthi{len}e4:name4:test12:piece lengthi{piece_len}e6:pieces{}:",
            pieces * 20
        );
        let hashes = vec![b'h'; pieces as usize * 20];
        let raw = [head.as_bytes(), &hashes, rest.as_bytes(), b"e"].concat();
        Self::parse(&raw)
    }

    fn parse(raw: &[u8]) -> Self {
        let info = Info::from_bytes(raw).expect("a legal dictionary");
        let hashes = PieceHashes::new(&info, &PieceLayers::new());
        Self::new(info, hashes, None)
    }

    fn new(info: Info, hashes: PieceHashes, bytes: Option<Arc<Vec<u8>>>) -> Self {
        let code = Payload::Right.code().to_le_bytes();
        Self {
            info: Arc::new(info),
            hashes,
            bytes,
            right: Block::unbudgeted(&code),
            right_whole: Block::unbudgeted(&[0; BLOCK_LEN as usize]),
        }
    }

    /// A v2 torrent of real bytes, whose last piece is not full.
    ///
    /// # Panics
    ///
    /// If no torrent can be like that.
    pub fn v2(pieces: u32, blocks: u32, seed: u64) -> Self {
        let piece_len = blocks * BLOCK_LEN;
        let len = (pieces * piece_len - BLOCK_LEN - 100) as usize;
        let mut bytes = vec![0; len];
        Rng::new(seed).fill(&mut bytes);
        let layer = layer_of(&bytes, blocks);
        Self::with_layer(layer, len as u64, piece_len, Some(Arc::new(bytes)))
    }

    fn with_layer(
        layer: PieceLayer,
        len: u64,
        piece_len: u32,
        bytes: Option<Arc<Vec<u8>>>,
    ) -> Self {
        let head = format!("d9:file treed4:testd0:d6:lengthi{len}e11:pieces root32:");
        let tail = format!("eee12:meta versioni2e4:name4:test12:piece lengthi{piece_len}ee");
        let raw = [head.as_bytes(), layer.root().as_bytes(), tail.as_bytes()].concat();
        let info = Info::from_bytes(&raw).expect("a legal dictionary");
        let layers = [(layer.root(), Arc::new(layer))].into();
        let hashes = PieceHashes::new(&info, &layers);
        Self::new(info, hashes, bytes)
    }

    /// A hybrid torrent of real bytes (BEP 52): a file of `pieces` pieces that ends within a block, the padding that v1
    /// has after it (BEP 47), of more than a block if pieces have several, and a file of a piece that is not full.
    ///
    /// # Panics
    ///
    /// If no torrent can be like that.
    pub fn hybrid(pieces: u32, blocks: u32, seed: u64) -> Self {
        let piece_len = blocks * BLOCK_LEN;
        let end = (pieces * piece_len) as usize;
        let len = end - 100 - if blocks > 1 { BLOCK_LEN as usize } else { 0 };
        let last = (blocks.min(3) * BLOCK_LEN) as usize - 100;
        let mut bytes = vec![0; end + last];
        let mut rng = Rng::new(seed);
        rng.fill(&mut bytes[..len]);
        rng.fill(&mut bytes[end..]);
        let layer = layer_of(&bytes[..len], blocks);
        let second = root_of(&bytes[end..], blocks.min(3).next_power_of_two());
        let entry = |name: &str, len: usize, root: Sha256Digest| {
            let head = format!("1:{name}d0:d6:lengthi{len}e11:pieces root32:");
            [head.as_bytes(), root.as_bytes(), b"ee"].concat()
        };
        let v1: Vec<_> = bytes.chunks(piece_len as usize).map(sha1).collect();
        let v1: Vec<u8> = v1.iter().flat_map(|digest| digest.0).collect();
        let pad = end - len;
        let files = format!(
            "e5:filesld6:lengthi{len}e4:pathl1:aeed4:attr1:p6:lengthi{pad}e4:pathl4:.pad1:0eed6:lengthi{last}e\
             4:pathl1:beee12:meta versioni2e4:name4:test12:piece lengthi{piece_len}e6:pieces{}:",
            v1.len()
        );
        let raw = [
            b"d9:file treed".as_slice(),
            &entry("a", len, layer.root()),
            &entry("b", last, second),
            files.as_bytes(),
            &v1,
            b"e",
        ];
        let info = Info::from_bytes(&raw.concat()).expect("a legal dictionary");
        let hashes = PieceHashes::new(&info, &[(layer.root(), Arc::new(layer))].into());
        Self::new(info, hashes, Some(Arc::new(bytes)))
    }

    /// A v2 torrent of one file of `pieces` pieces of `blocks` blocks each, whose blocks are tokens.
    ///
    /// # Panics
    ///
    /// If no torrent can be like that.
    pub fn v2_tokens(pieces: u32, blocks: u32) -> Self {
        let piece_len = blocks * BLOCK_LEN;
        let len = u64::from(pieces) * u64::from(piece_len);
        let leaf = sha256(&Payload::Right.code().to_le_bytes());
        let root = merkle::root_of(&vec![leaf; blocks as usize], blocks);
        let layer = PieceLayer::new(vec![root; pieces as usize].into(), piece_len);
        Self::with_layer(layer, len, piece_len, None)
    }

    /// The same torrent, as somebody has it whose torrent file lacks the piece layers (BEP 52).
    pub fn without_layers(&self) -> Self {
        let mut bare = self.clone();
        bare.hashes = PieceHashes::new(&self.info, &PieceLayers::new());
        bare
    }

    /// Its metadata.
    pub const fn info(&self) -> &Arc<Info> {
        &self.info
    }

    /// What its pieces must hash to, as a torrent file would tell.
    pub const fn hashes(&self) -> &PieceHashes {
        &self.hashes
    }

    /// How many pieces it has.
    pub fn pieces(&self) -> u32 {
        self.info.layout().piece_count()
    }

    /// How many bytes it has.
    pub fn len_bytes(&self) -> u64 {
        self.info.layout().payload_len()
    }

    /// The blocks of a piece, but for those of padding alone, which are known.
    pub(crate) fn spans(&self, piece: PieceIndex) -> impl Iterator<Item = BlockSpan> + '_ {
        let layout = self.info.layout();
        (0..layout.block_count(piece))
            .filter_map(move |block| layout.span(piece, block))
            .filter(move |span| !layout.is_padding(*span))
    }

    /// What the decisions get for a block.
    pub(crate) fn block(&self, span: BlockSpan, payload: Payload) -> Block {
        match (&self.bytes, payload) {
            (None, Payload::Right) => self.right.clone(),
            (None, Payload::Wrong(_)) => Block::unbudgeted(&payload.code().to_le_bytes()),
            (Some(bytes), _) => real(bytes, &self.info, span, payload),
        }
    }

    /// As many bytes as the span has.
    pub(crate) fn whole(&self, span: BlockSpan, payload: Payload) -> Block {
        match (&self.bytes, payload) {
            (None, Payload::Right) if span.len == BLOCK_LEN => self.right_whole.clone(),
            (None, _) => {
                let mut bytes = vec![0; span.len as usize];
                stamp(&mut bytes, payload);
                Block::unbudgeted(&bytes)
            }
            (Some(bytes), _) => real(bytes, &self.info, span, payload),
        }
    }

    /// What a block is, whole or a token.
    pub(crate) fn payload(&self, span: BlockSpan, block: &[u8]) -> Payload {
        let mut code = [0; 4];
        for (at, (code, byte)) in code.iter_mut().zip(block).enumerate() {
            let right = self
                .bytes
                .as_ref()
                .map_or(0, |bytes| bytes[place(&self.info, span) + at]);
            *code = byte ^ right;
        }
        Payload::of_code(u32::from_le_bytes(code))
    }

    /// SHA-1 of a block as the decisions see it.
    pub(crate) fn sha1(&self, span: BlockSpan, payload: Payload) -> Sha1Digest {
        sha1(&self.block(span, payload))
    }

    /// The leaf of a block as the decisions see it: padding is no part of it.
    pub(crate) fn sha256(&self, span: BlockSpan, payload: Payload) -> Sha256Digest {
        let block = self.block(span, payload);
        let payload = self.info.layout().payload_in(span) as usize;
        sha256(block.get(..payload).unwrap_or(&block))
    }

    /// What the blocks of a piece hash to.
    pub(crate) fn leaves(&self, piece: PieceIndex) -> Vec<Sha256Digest> {
        self.spans(piece)
            .map(|span| self.sha256(span, Payload::Right))
            .collect()
    }
}

/// The root over the blocks of some bytes, padded to `width` leaves.
fn root_of(bytes: &[u8], width: u32) -> Sha256Digest {
    let leaves: Vec<_> = bytes.chunks(BLOCK_LEN as usize).map(sha256).collect();
    merkle::root_of(&leaves, width)
}

/// The piece layer of a file, whose pieces have `blocks` blocks each.
fn layer_of(file: &[u8], blocks: u32) -> PieceLayer {
    let piece_len = blocks * BLOCK_LEN;
    let pieces = file.chunks(piece_len as usize);
    let roots = pieces.map(|piece| root_of(piece, blocks)).collect();
    PieceLayer::new(roots, piece_len)
}

fn place(info: &Info, span: BlockSpan) -> usize {
    let start = span.piece.as_usize() * info.layout().nominal_piece_len() as usize;
    start + span.offset as usize
}

fn real(bytes: &[u8], info: &Info, span: BlockSpan, payload: Payload) -> Block {
    let start = place(info, span);
    let mut block = bytes[start..start + span.len as usize].to_vec();
    stamp(&mut block, payload);
    Block::unbudgeted(&block)
}

/// Writes into a block what it is; a right one stays as it is.
fn stamp(block: &mut [u8], payload: Payload) {
    for (byte, code) in block.iter_mut().zip(payload.code().to_le_bytes()) {
        *byte ^= code;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_says_what_it_is() {
        for content in [
            Content::tokens(3, 2),
            Content::v2(3, 2, 1),
            Content::hybrid(3, 4, 1),
        ] {
            let span = content.spans(PieceIndex(1)).nth(1).unwrap();
            for payload in [
                Payload::Right,
                Payload::Wrong(HostId(0)),
                Payload::Wrong(HostId(700)),
            ] {
                let (token, whole) = (content.block(span, payload), content.whole(span, payload));
                assert_eq!(content.payload(span, &token), payload);
                assert_eq!(content.payload(span, &whole), payload);
                assert_eq!(whole.len(), span.len as usize);
            }
        }
    }
}
