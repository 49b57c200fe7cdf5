//! Hashes of v2 torrents (BEP 52): fetching piece layers that the torrent came without, and the hashes of the
//! blocks of a wrong piece; giving both to peers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use riverrun_base::{FileIndex, PieceIndex, Sha256Digest, Time};
use riverrun_metainfo::MissingLayer;
use riverrun_metainfo::merkle::{self, HASHES_MAX, NodeRange};
use riverrun_peer::{HashRequest, Hashes, PeerCommand};

use super::{Cx, Torrent};
use crate::key::ConnKey;
use crate::outbox::StorageJob;

/// Piece hashes in one request: "SHOULD NOT be greater than 512" (BEP 52).
const CHUNK: u32 = 512;
/// Requests under way at once.
const REQUESTS_MAX: usize = 16;
/// How long a peer may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Refusals after which a peer is asked for no more hashes.
const REFUSALS_MAX: usize = 32;
/// Hash requests of one peer that storage works on at once.
const JOBS_MAX: usize = 4;

/// Hashes that are being fetched.
#[derive(Clone, Debug, Default)]
pub(super) struct HashFetch {
    under_way: BTreeMap<HashRequest, UnderWay>,
    /// Parts of layers that have come, by the file's root and the first hash.
    chunks: BTreeMap<(Sha256Digest, u32), Vec<Sha256Digest>>,
    /// Pieces that failed, and what their blocks hash to; their real hashes are being fetched.
    failed: BTreeMap<PieceIndex, Vec<Sha256Digest>>,
    /// Who has no hashes for whom.
    refused: BTreeSet<(ConnKey, HashRequest)>,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    conn: ConnKey,
    until: Time,
    what: Wanted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// A part of a piece layer.
    Chunk(MissingLayer),
    /// The blocks of a piece.
    Leaves(PieceIndex),
}

impl HashFetch {
    /// When somebody will have taken too long.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.under_way
            .values()
            .map(|under_way| under_way.until)
            .min()
    }

    fn refusals(&self, conn: ConnKey) -> usize {
        self.refused
            .iter()
            .filter(|(refused, _)| *refused == conn)
            .count()
    }
}

fn range_of(request: &HashRequest) -> NodeRange {
    NodeRange {
        base_layer: request.base_layer,
        index: request.index,
        count: request.count,
        proof_layers: request.proof_layers,
    }
}

fn request_for(pieces_root: Sha256Digest, range: NodeRange) -> HashRequest {
    HashRequest {
        pieces_root,
        base_layer: range.base_layer,
        index: range.index,
        count: range.count,
        proof_layers: range.proof_layers,
    }
}

/// The requests that together give a layer.
fn chunks_of(layer: &MissingLayer) -> impl Iterator<Item = HashRequest> + use<> {
    let layer = *layer;
    (0..layer.pieces.div_ceil(CHUNK)).map(move |chunk| {
        let rest = layer.pieces - chunk * CHUNK;
        let count = if chunk == 0 {
            rest.next_power_of_two().clamp(2, CHUNK)
        } else {
            CHUNK
        };
        let range =
            NodeRange::with_full_proof(layer.base_layer, chunk * CHUNK, count, layer.height);
        request_for(layer.root, range)
    })
}

impl Torrent {
    /// Asks for parts of piece layers that are missing.
    pub(super) fn request_layers(&mut self, cx: &mut Cx<'_>) {
        let Some(meta) = &self.meta else { return };
        if !self.life.is_running() || meta.hashes.is_complete() {
            return;
        }
        let layers: Vec<_> = meta.hashes.missing_layers().collect();
        for layer in layers {
            let pieces = self.pieces_of_file(layer.file);
            for request in chunks_of(&layer) {
                if self.hash_fetch.under_way.len() >= REQUESTS_MAX {
                    return;
                }
                let is_known = self
                    .hash_fetch
                    .chunks
                    .contains_key(&(layer.root, request.index));
                if is_known || self.hash_fetch.under_way.contains_key(&request) {
                    continue;
                }
                self.request_hashes(cx, request, Wanted::Chunk(layer), pieces.clone());
            }
        }
    }

    fn pieces_of_file(&self, file: FileIndex) -> std::ops::Range<u32> {
        self.meta
            .as_ref()
            .map_or(0..0, |meta| meta.info.layout().pieces_of(file))
    }

    /// Asks for the hashes of the blocks of a failed piece, which came as these. False if there is nobody to ask.
    pub(super) fn compare_leaves(
        &mut self,
        cx: &mut Cx<'_>,
        piece: PieceIndex,
        came: Vec<Sha256Digest>,
    ) -> bool {
        let asked = self.request_leaves(cx, piece);
        if asked {
            self.hash_fetch.failed.insert(piece, came);
        }
        asked
    }

    /// Asks for the hashes of the blocks of a piece. False if there is nobody to ask.
    pub(super) fn request_leaves(&mut self, cx: &mut Cx<'_>, piece: PieceIndex) -> bool {
        self.leaves_request(piece).is_some_and(|request| {
            self.hash_fetch.under_way.contains_key(&request)
                || self.request_hashes(cx, request, Wanted::Leaves(piece), piece.0..piece.0 + 1)
        })
    }

    /// The request for the hashes of all blocks of a piece; `None` for pieces of one block, and without v2.
    fn leaves_request(&self, piece: PieceIndex) -> Option<HashRequest> {
        let meta = self.meta.as_ref()?;
        let layout = meta.info.layout();
        let count = meta.hashes.get(piece)?.v2?.leaves;
        let slice = layout.slices(layout.piece_span(piece)).next()?;
        let file = layout.file(slice.file)?;
        let first = layout.pieces_of(slice.file).start;
        let height = merkle::width_of(file.len).ilog2();
        let index = (piece.0 - first).checked_mul(count)?;
        let range = NodeRange::with_full_proof(0, index, count, height);
        (2..=HASHES_MAX)
            .contains(&count)
            .then_some(request_for(file.pieces_root?, range))
    }

    /// Asks some peer that should have the hashes because it has one of the pieces. Whether there is one.
    fn request_hashes(
        &mut self,
        cx: &mut Cx<'_>,
        request: HashRequest,
        what: Wanted,
        pieces: std::ops::Range<u32>,
    ) -> bool {
        let fetch = &self.hash_fetch;
        let busy = |conn| {
            fetch
                .under_way
                .values()
                .filter(|under_way| under_way.conn == conn)
                .count()
        };
        let able = self.peers.ready().filter(|peer| {
            peer.has_v2()
                && !fetch.refused.contains(&(peer.conn, request))
                && fetch.refusals(peer.conn) < REFUSALS_MAX
                && pieces
                    .clone()
                    .map(PieceIndex)
                    .any(|piece| peer.knows_leaves(piece))
        });
        // Suspects last: it may be about them.
        let chosen = able.min_by_key(|peer| {
            (
                self.bans.is_suspect(peer.culprit()),
                busy(peer.conn),
                // Who passes the piece on has them at hand, and others have to read it.
                pieces.len() > 1 || !peer.parts.contains_key(&PieceIndex(pieces.start)),
                peer.conn,
            )
        });
        let Some(conn) = chosen.map(|peer| peer.conn) else {
            return false;
        };
        let under_way = UnderWay {
            conn,
            until: cx.now + ANSWER_TIME,
            what,
        };
        self.hash_fetch.under_way.insert(request, under_way);
        cx.tell(conn, PeerCommand::RequestHashes(request));
        true
    }

    /// Hashes have come.
    pub(super) fn hashes_came(&mut self, cx: &mut Cx<'_>, conn: ConnKey, hashes: &Hashes) {
        let request = hashes.request;
        let expected = self
            .hash_fetch
            .under_way
            .get(&request)
            .filter(|way| way.conn == conn);
        let Some(what) = expected.map(|under_way| under_way.what) else {
            return;
        };
        self.hash_fetch.under_way.remove(&request);
        let right = match what {
            Wanted::Chunk(layer) => self.take_chunk(cx, layer, hashes),
            Wanted::Leaves(piece) => self.take_leaves(cx, piece, hashes),
        };
        if !right {
            self.hash_fetch.refused.insert((conn, request));
            self.ask_another(cx, what);
        }
        self.request_layers(cx);
    }

    /// Takes a part of a piece layer, if it is right.
    fn take_chunk(&mut self, cx: &mut Cx<'_>, layer: MissingLayer, hashes: &Hashes) -> bool {
        let range = range_of(&hashes.request);
        if !merkle::verify_proof(&layer.root, layer.height, range, &hashes.hashes) {
            return false;
        }
        let nodes = hashes.hashes[..range.count as usize].to_vec();
        self.hash_fetch
            .chunks
            .insert((layer.root, range.index), nodes);
        let keys: Vec<_> = chunks_of(&layer)
            .map(|request| (layer.root, request.index))
            .collect();
        if keys
            .iter()
            .all(|key| self.hash_fetch.chunks.contains_key(key))
        {
            let parts = keys
                .iter()
                .filter_map(|key| self.hash_fetch.chunks.remove(key));
            let mut all: Vec<_> = parts.flatten().collect();
            all.truncate(layer.pieces as usize);
            // Each part was verified, so the whole is right.
            self.piece_hashes_changed(|hashes| {
                let _ = hashes.add_layer(layer.root, all);
            });
            self.verify_waiting(cx);
        }
        true
    }

    /// Has the pieces hashed whose blocks came before their hash was known.
    pub(super) fn verify_waiting(&mut self, cx: &mut Cx<'_>) {
        let picker = self.pieces.as_ref().and_then(|pieces| pieces.picker_ref());
        let complete: Vec<_> = picker.map_or_else(Vec::new, |picker| picker.complete().collect());
        for piece in complete {
            self.verify(cx, piece);
        }
    }

    /// Holds the real hashes of a failed piece's blocks against what came, if they are real.
    fn take_leaves(&mut self, cx: &mut Cx<'_>, piece: PieceIndex, hashes: &Hashes) -> bool {
        let root = self
            .meta
            .as_ref()
            .and_then(|meta| meta.hashes.get(piece))
            .and_then(|hash| hash.v2);
        let count = hashes.request.count as usize;
        let (Some(root), Some(real)) = (root, hashes.hashes.get(..count)) else {
            return false;
        };
        if merkle::root_of(real, root.leaves) != root.root {
            return false;
        }
        self.relay_leaves(cx, piece, real);
        let Some(came) = self.hash_fetch.failed.remove(&piece) else {
            return true;
        };
        let differ = (0_u32..)
            .zip(came.iter().zip(real))
            .filter(|(_, (came, real))| came != real);
        let bad: Vec<u32> = differ.map(|(block, _)| block).collect();
        if bad.is_empty() {
            self.fetch_again(cx, piece);
        } else {
            self.fetch_blocks_again(cx, piece, &bad);
        }
        true
    }

    pub(super) fn hashes_rejected(&mut self, cx: &mut Cx<'_>, conn: ConnKey, request: HashRequest) {
        let expected = self
            .hash_fetch
            .under_way
            .get(&request)
            .filter(|way| way.conn == conn);
        let Some(what) = expected.map(|under_way| under_way.what) else {
            return;
        };
        self.hash_fetch.under_way.remove(&request);
        self.hash_fetch.refused.insert((conn, request));
        self.ask_another(cx, what);
    }

    /// Somebody did not give hashes: somebody else is asked, or it goes without.
    fn ask_another(&mut self, cx: &mut Cx<'_>, what: Wanted) {
        match what {
            Wanted::Chunk(_) => self.request_layers(cx),
            Wanted::Leaves(piece) => {
                let Some(leaves) = self.hash_fetch.failed.remove(&piece) else {
                    if self.relay.awaits_leaves(piece) && !self.request_leaves(cx, piece) {
                        self.end_relay(cx, piece);
                    }
                    return;
                };
                if !self.compare_leaves(cx, piece, leaves) {
                    self.fetch_again(cx, piece);
                }
            }
        }
    }

    pub(super) fn hashes_due(&mut self, cx: &mut Cx<'_>) {
        let late = self
            .hash_fetch
            .under_way
            .iter()
            .filter(|(_, under_way)| under_way.until <= cx.now);
        for (request, under_way) in late.map(|(r, u)| (*r, *u)).collect::<Vec<_>>() {
            self.hashes_rejected(cx, under_way.conn, request);
        }
    }

    pub(super) fn hashes_peer_gone(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        let owed = self
            .hash_fetch
            .under_way
            .iter()
            .filter(|(_, under_way)| under_way.conn == conn);
        for request in owed.map(|(request, _)| *request).collect::<Vec<_>>() {
            self.hashes_rejected(cx, conn, request);
        }
        self.hash_fetch
            .refused
            .retain(|(refused, _)| *refused != conn);
    }

    /// A peer asks for hashes.
    pub(super) fn wants_hashes(&mut self, cx: &mut Cx<'_>, conn: ConnKey, request: HashRequest) {
        let range = range_of(&request);
        let Some(meta) = self.meta.as_ref().filter(|_| request.count <= HASHES_MAX) else {
            cx.tell(conn, PeerCommand::RejectHashes(request));
            return;
        };
        if let Some(hashes) = meta.hashes.answer(request.pieces_root, range) {
            cx.tell(conn, PeerCommand::SendHashes(Hashes { request, hashes }));
            return;
        }
        let piece = meta.hashes.piece_above(request.pieces_root, range);
        if let Some(leaves) = piece.and_then(|piece| self.relay.leaves(piece)) {
            let hashes = meta.hashes.answer_below(request.pieces_root, range, leaves);
            if let Some(hashes) = hashes {
                cx.tell(conn, PeerCommand::SendHashes(Hashes { request, hashes }));
                return;
            }
        }
        // What is below the piece layer has to be hashed from what is on disk.
        let have = |piece: &PieceIndex| self.pieces.as_ref().is_some_and(|p| p.have().has(*piece));
        let peer = self
            .peers
            .get_mut(conn)
            .filter(|peer| peer.up.hash_jobs.len() < JOBS_MAX);
        match (piece.filter(have), peer) {
            (Some(piece), Some(peer)) => {
                peer.up.hash_jobs.push((piece, request));
                cx.store(
                    self.key,
                    StorageJob::HashLeaves {
                        conn,
                        piece,
                        request,
                    },
                );
            }
            _ => cx.tell(conn, PeerCommand::RejectHashes(request)),
        }
    }

    /// Storage could not hash the blocks of a piece.
    pub(super) fn leaves_failed(&mut self, cx: &mut Cx<'_>, conn: ConnKey, piece: PieceIndex) {
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        let (failed, left) = std::mem::take(&mut peer.up.hash_jobs)
            .into_iter()
            .partition(|(of, _)| *of == piece);
        peer.up.hash_jobs = left;
        let failed: Vec<(PieceIndex, HashRequest)> = failed;
        for (_, request) in failed {
            cx.tell(conn, PeerCommand::RejectHashes(request));
        }
    }

    /// Storage has hashed the blocks of a piece.
    pub(super) fn leaves(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnKey,
        request: HashRequest,
        leaves: &[Sha256Digest],
    ) {
        let (Some(peer), Some(meta)) = (self.peers.get_mut(conn), &self.meta) else {
            return;
        };
        peer.up.hash_jobs.retain(|(_, job)| *job != request);
        let answer = meta
            .hashes
            .answer_below(request.pieces_root, range_of(&request), leaves);
        cx.tell(
            conn,
            match answer {
                Some(hashes) => PeerCommand::SendHashes(Hashes { request, hashes }),
                None => PeerCommand::RejectHashes(request),
            },
        );
    }
}
