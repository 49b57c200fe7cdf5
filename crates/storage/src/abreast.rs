//! Pieces that are read and hashed side by side, so that all lanes of a wide kernel have work.
//!
//! A chunk of each piece is read, then all are hashed while they are in the cache of the core. The disk hears well
//! before which bytes will be wanted, in long runs, so that it has a full queue however short the reads are.

use riverrun_base::{BLOCK_LEN, BlockSpan, PieceIndex};
use riverrun_hash::{Algorithm, Kernel};
use riverrun_metainfo::{Layout, Spacing};

use crate::judge::{Hashed, PieceHasher};

/// Where the bytes of pieces come from.
pub(crate) trait Source {
    type Error;

    /// Reads `span` into `out`, which is as long; padding is zeros.
    fn read(&mut self, span: BlockSpan, out: &mut [u8]) -> Result<(), Self::Error>;

    /// This will be read soon: the disk may begin.
    fn expect(&mut self, span: BlockSpan);
}

/// Some pieces, each with what hashes it.
pub(crate) type Group = Vec<(PieceIndex, PieceHasher)>;

/// How many bytes are read before they are hashed. Fewer would mean more calls, more would leave the cache: between
/// 0.5 and 2 MiB it makes no difference on a core that has half a mebibyte of its own.
const SLAB_LEN: u32 = 1 << 20;

/// How many bytes the disk is told of in advance: some milliseconds' work for the fastest there are, a quarter of a
/// second's for a spinning one.
const AHEAD_LEN: u32 = 32 << 20;

/// The most pieces in a group.
const GROUP_MAX: u32 = 64;

/// How many pieces make a group that gives all lanes work.
pub(crate) fn group_len(layout: &Layout) -> u32 {
    let lanes = match layout.spacing() {
        Spacing::Packed => Kernel::best(Algorithm::Sha1).lanes(),
        // The blocks of a v2 piece are messages of their own, of which one chunk has enough.
        Spacing::PieceAligned => 1,
    };
    let chunks = SLAB_LEN / layout.nominal_piece_len().max(BLOCK_LEN);
    u32::try_from(lanes)
        .unwrap_or(GROUP_MAX)
        .clamp(1, GROUP_MAX)
        .max(chunks)
}

/// How many pieces the disk is told of beyond those that are being read, in groups of `group_len`.
pub(crate) fn pieces_ahead(layout: &Layout, group_len: u32) -> u32 {
    let piece_len = layout.nominal_piece_len().max(BLOCK_LEN);
    AHEAD_LEN / window_len(group_len as usize).min(piece_len)
}

/// How much of each piece of a group is read at a time: whole blocks.
fn chunk_len(pieces: usize) -> u32 {
    share(SLAB_LEN, pieces, BLOCK_LEN)
}

/// Of how much of a piece the disk is told at a time: whole chunks.
fn window_len(pieces: usize) -> u32 {
    share(AHEAD_LEN, pieces, chunk_len(pieces))
}

/// The part of `total` that each of so many gets, in units, at least one.
fn share(total: u32, count: usize, unit: u32) -> u32 {
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    (total / count / unit).max(1) * unit
}

/// Memory for what is read, which begins on a page.
///
/// The kernel's copy out of its cache takes four times as long on some processors (AMD Zen 3, measured) if the
/// target begins a few bytes further into its page than the source, which is just where an allocator puts large
/// blocks.
#[derive(Default)]
pub(crate) struct Slab(Vec<u8>);

impl Slab {
    fn bytes(&mut self, len: usize) -> &mut [u8] {
        let Self(memory) = self;
        memory.resize(memory.len().max(len + PAGE_LEN), 0);
        let start = memory.as_ptr().align_offset(PAGE_LEN);
        &mut memory[start..][..len]
    }
}

/// The size of a page on most machines; elsewhere a multiple or a part of it.
const PAGE_LEN: usize = 4096;

/// A piece on its way: what hashes it, or why it was not read.
struct Row<E> {
    piece: PieceIndex,
    hasher: Result<PieceHasher, E>,
}

/// Reads and hashes the pieces of a group, by way of `slab`, which can be used again; a piece that cannot be read is
/// left there. `ahead` are pieces that will be read after these.
pub(crate) fn hash<S: Source>(
    layout: &Layout,
    group: Group,
    ahead: &[PieceIndex],
    (source, slab): (&mut S, &mut Slab),
) -> Vec<(PieceIndex, Result<Hashed, S::Error>)> {
    let (chunk, window) = (chunk_len(group.len()), window_len(group.len()));
    for piece in ahead {
        source.expect(part_of(layout, *piece, 0, window));
    }
    let lens = group.iter().map(|(piece, _)| layout.piece_len(*piece));
    let longest = lens.max().unwrap_or(0);
    let slab = slab.bytes(group.len() * chunk as usize);
    let row = |(piece, hasher)| Row {
        piece,
        hasher: Ok(hasher),
    };
    let mut rows: Vec<Row<S::Error>> = group.into_iter().map(row).collect();
    for offset in (0..longest).step_by(chunk as usize) {
        if offset.is_multiple_of(window) {
            for row in rows.iter().filter(|row| row.hasher.is_ok()) {
                source.expect(part_of(
                    layout,
                    row.piece,
                    offset.saturating_add(window),
                    window,
                ));
            }
        }
        hash_chunks(layout, &mut rows, (offset, chunk), source, slab);
    }
    let finish = |row: Row<S::Error>| (row.piece, row.hasher.map(PieceHasher::finish));
    rows.into_iter().map(finish).collect()
}

/// Reads and hashes what each piece has from `offset` on, at most a chunk of it.
fn hash_chunks<S: Source>(
    layout: &Layout,
    rows: &mut [Row<S::Error>],
    (offset, chunk): (u32, u32),
    source: &mut S,
    slab: &mut [u8],
) {
    let (mut hashers, mut chunks) = (Vec::new(), Vec::new());
    for (row, part) in rows.iter_mut().zip(slab.chunks_mut(chunk as usize)) {
        let span = part_of(layout, row.piece, offset, chunk);
        let part = &mut part[..span.len as usize];
        if part.is_empty() || row.hasher.is_err() {
            continue;
        }
        if let Err(error) = source.read(span, part) {
            row.hasher = Err(error);
        } else if let Ok(hasher) = &mut row.hasher {
            hashers.push(hasher);
            chunks.push(part.chunks(BLOCK_LEN as usize).collect::<Vec<_>>());
        }
    }
    let blocks: Vec<&[&[u8]]> = chunks.iter().map(Vec::as_slice).collect();
    PieceHasher::update_many(&mut hashers, &blocks);
}

/// The bytes of a piece from `offset` on, at most `len`; none past its end.
fn part_of(layout: &Layout, piece: PieceIndex, offset: u32, len: u32) -> BlockSpan {
    let rest = layout.piece_len(piece).saturating_sub(offset);
    BlockSpan {
        piece,
        offset,
        len: rest.min(len),
    }
}
