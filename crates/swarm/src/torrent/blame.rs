//! What follows when a piece is wrong: finding out who sent it.

use std::collections::BTreeSet;

use riverrun_base::{BLOCK_LEN, Block, BlockDigest, PieceIndex, Sha256Digest};
use riverrun_peer::CloseReason;

use super::{Cx, Torrent};
use crate::bans::{Culprit, DigestKind, Verdict};
use crate::outbox::{BlockDigests, Event};
use crate::picker::BlockIndex;

/// Blocks of a piece, each with who sent it, if that can still be told.
pub(super) type Senders = Vec<(u32, Option<Culprit>)>;

impl Torrent {
    /// Who sent the blocks of a piece that is not verified.
    pub(super) fn senders(&self, piece: PieceIndex) -> Senders {
        let picker = self.pieces.as_ref().and_then(|pieces| pieces.picker_ref());
        let senders = picker.map_or_else(Vec::new, |picker| picker.senders(piece));
        let culprit = |conn| match self.peers.get(conn) {
            Some(peer) => Some(peer.culprit()),
            None => self.bans.departed(conn),
        };
        senders
            .into_iter()
            .map(|(block, conn)| (block, culprit(conn)))
            .collect()
    }

    /// A piece is wrong.
    pub(super) fn failed(&mut self, cx: &mut Cx<'_>, piece: PieceIndex, digests: BlockDigests) {
        let Some(pieces) = &mut self.pieces else {
            return;
        };
        pieces.end_verify(piece);
        cx.event(Event::PieceFailed {
            torrent: self.key,
            piece,
        });
        let senders = self.senders(piece);
        if senders.is_empty() {
            // Padding that does not hash to what it must: nobody could send it better.
            return;
        }
        self.rates.failed(self.piece_len(piece));
        let leaves = match &digests {
            BlockDigests::V2(leaves) => Some(leaves.clone()),
            BlockDigests::V1(_) => None,
        };
        match self.bans.failed(piece, &senders, digests) {
            Verdict::Liar(liar) => {
                self.ban(cx, liar);
                self.fetch_again(cx, piece);
            }
            Verdict::Unclear => {
                // With v2 the hash of each block can be had; with v1 only another try tells.
                let asked = leaves.is_some_and(|leaves| self.compare_leaves(cx, piece, leaves));
                if !asked {
                    self.fetch_again(cx, piece);
                }
            }
        }
    }

    /// Gets all of a piece again, from one peer alone.
    pub(super) fn fetch_again(&mut self, cx: &mut Cx<'_>, piece: PieceIndex) {
        self.bans.restart(piece);
        if let Some(picker) = self.pieces.as_mut().and_then(|pieces| pieces.picker_mut()) {
            picker.restart_alone(piece);
        }
        self.discard(cx, piece);
    }

    /// Gets only these blocks of a piece again; the others are right.
    pub(super) fn fetch_blocks_again(
        &mut self,
        cx: &mut Cx<'_>,
        piece: PieceIndex,
        blocks: &[u32],
    ) {
        let bad = self
            .senders(piece)
            .into_iter()
            .filter(|(block, _)| blocks.contains(block));
        let liars: BTreeSet<_> = bad.filter_map(|(_, sender)| sender).collect();
        if let Some(picker) = self.pieces.as_mut().and_then(|pieces| pieces.picker_mut()) {
            picker.reject_blocks(piece, blocks);
        }
        self.bans.cleared(piece);
        for liar in liars {
            self.ban(cx, liar);
        }
        // Who has told of just those blocks is of interest again.
        self.review_parts(cx, piece);
    }

    /// A piece is right: whoever sent other blocks of it before has lied.
    pub(super) fn clear_up(&mut self, cx: &mut Cx<'_>, piece: PieceIndex, senders: &Senders) {
        for liar in self.bans.verified(piece, senders) {
            self.ban(cx, liar);
        }
    }

    /// Ends all that there is with a peer that sent wrong data.
    pub(super) fn ban(&mut self, cx: &mut Cx<'_>, liar: Culprit) {
        if !self.bans.ban(liar) {
            return;
        }
        let (ip, peer_id) = match liar {
            Culprit::Peer { ip, peer_id } => (ip, peer_id),
            Culprit::WebSeed(at) => return self.ban_web_seed(cx, at),
        };
        cx.event(Event::PeerBanned {
            torrent: self.key,
            ip,
        });
        if peer_id.is_none() {
            self.candidates.bar_ip(ip);
        }
        for conn in self.peers.conns() {
            let Some(peer) = self.peers.get(conn).filter(|peer| peer.culprit() == liar) else {
                continue;
            };
            if let Some(addr) = peer.listen_addr() {
                self.candidates.bar(addr);
            }
            if let Some(picker) = self.pieces.as_mut().and_then(|pieces| pieces.picker_mut()) {
                picker.distrust(conn);
            }
            self.close(cx, conn, &CloseReason::Banned);
        }
    }

    /// What a block hashes to by itself.
    pub(super) fn digest(&self, at: BlockIndex, block: &Block, kind: DigestKind) -> BlockDigest {
        let len = || {
            let root = self.meta.as_ref()?.hashes.get(at.piece)?.v2?;
            let before = at.block.saturating_mul(BLOCK_LEN);
            Some(root.len.saturating_sub(before))
        };
        block.digest(|bytes| match kind {
            DigestKind::V1 => BlockDigest::V1(riverrun_hash::sha1(bytes)),
            DigestKind::V2 => BlockDigest::V2(leaf(bytes, len())),
        })
    }

    pub(super) fn piece_len(&self, piece: PieceIndex) -> u64 {
        let len = self
            .meta
            .as_ref()
            .map_or(0, |meta| meta.info.layout().piece_len(piece));
        len.into()
    }
}

/// The leaf of a block (BEP 52) of whose bytes no more than `len` are of its file. The rest is padding and no part of the
/// leaf, but must be zeros (BEP 47): a block whose padding is something else hashes to what no leaf is.
fn leaf(bytes: &[u8], len: Option<u32>) -> Sha256Digest {
    let len = len.map_or(bytes.len(), |len| bytes.len().min(len as usize));
    let (payload, padding) = bytes.split_at(len);
    let is_padded = padding.iter().all(|byte| *byte == 0);
    riverrun_hash::sha256(if is_padded { payload } else { bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leaf_of_a_block_is_without_padding_that_is_zeros() {
        let hash = riverrun_hash::sha256;
        assert_eq!(leaf(b"abc\0\0", Some(3)), hash(b"abc"));
        assert_eq!(leaf(b"abc\0x", Some(3)), hash(b"abc\0x"));
        assert_eq!(leaf(b"abc\0\0", Some(5)), hash(b"abc\0\0"));
        assert_eq!(leaf(b"abc", Some(70_000)), hash(b"abc"));
        assert_eq!(leaf(b"abc", None), hash(b"abc"));
    }
}
