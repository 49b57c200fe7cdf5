//! From spans of pieces to bytes of files and blocks.

use std::io;
use std::sync::Arc;

use riverrun_base::{BLOCK_LEN, BlockSpan, FileIndex, PieceIndex};
use riverrun_metainfo::{FileSlice, Layout};

use crate::abreast::Source;
use crate::backend::RawFile;
use crate::cache::{Blocks, Slot};

/// The parts of a piece that are stored: all but padding.
pub(crate) fn stored_slices(layout: &Layout, piece: PieceIndex) -> impl Iterator<Item = FileSlice> {
    layout
        .slices(layout.piece_span(piece))
        .filter(|slice| !layout.files()[slice.file.as_usize()].is_pad())
}

/// The parts of `slice`, a slice of `piece`, that are in memory, with where they belong in the file.
pub(crate) fn parts_in_memory<'a>(
    layout: &Layout,
    piece: PieceIndex,
    slice: FileSlice,
    blocks: &'a Blocks,
) -> impl Iterator<Item = (u64, &'a [u8])> {
    let start = start_in_piece(layout, piece, slice);
    let end = start + slice.len as usize;
    let block_len = BLOCK_LEN as usize;
    (start / block_len..end.div_ceil(block_len)).filter_map(move |index| {
        let Some(Slot::Memory(block)) = blocks.get(index) else {
            return None;
        };
        let block_start = index * block_len;
        let from = start.max(block_start);
        let to = end.min(block_start + block.len());
        Some((
            slice.offset + (from - start) as u64,
            &block[from - block_start..to - block_start],
        ))
    })
}

/// Where in its piece a slice starts, in bytes.
fn start_in_piece(layout: &Layout, piece: PieceIndex, slice: FileSlice) -> usize {
    let file = &layout.files()[slice.file.as_usize()];
    let piece_start = u64::from(piece.0) * u64::from(layout.nominal_piece_len());
    // Invariant: a slice lies in its piece, whose length is a `u32`.
    usize::try_from(file.offset + slice.offset - piece_start).expect("a slice is within its piece")
}

/// Why a span was not read: the file, and what the operating system says.
pub(crate) type ReadError = (FileIndex, io::Error);

/// Reads `span` into `out`, which is as long; padding is zeros.
pub(crate) fn read_span(
    layout: &Layout,
    span: BlockSpan,
    out: &mut [u8],
    open: &mut dyn FnMut(FileIndex) -> io::Result<Arc<dyn RawFile>>,
) -> Result<(), ReadError> {
    let mut rest = out;
    for slice in layout.slices(span) {
        let (part, after) = std::mem::take(&mut rest).split_at_mut(slice.len as usize);
        rest = after;
        if layout.files()[slice.file.as_usize()].is_pad() {
            part.fill(0);
            continue;
        }
        let read = open(slice.file).and_then(|file| file.read_at(part, slice.offset));
        match read {
            Ok(count) if count == part.len() => {}
            Ok(_) => return Err((slice.file, io::ErrorKind::UnexpectedEof.into())),
            Err(error) => return Err((slice.file, error)),
        }
    }
    Ok(())
}

/// The bytes of pieces as they are stored.
pub(crate) struct Stored<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) open: &'a mut dyn FnMut(FileIndex) -> io::Result<Arc<dyn RawFile>>,
}

impl Source for Stored<'_> {
    type Error = ReadError;

    fn read(&mut self, span: BlockSpan, out: &mut [u8]) -> Result<(), ReadError> {
        read_span(self.layout, span, out, self.open)
    }

    fn expect(&mut self, span: BlockSpan) {
        for slice in long_slices(self.layout, span) {
            if let Ok(file) = (self.open)(slice.file) {
                file.expect(slice.offset, slice.len.into());
            }
        }
    }
}

/// The parts of a span of which a disk is told in advance: for short ones that costs more than it gains.
pub(crate) fn long_slices(layout: &Layout, span: BlockSpan) -> impl Iterator<Item = FileSlice> {
    const LEN_MIN: u32 = 64 << 10;
    let is_worth_it =
        |slice: &FileSlice| slice.len >= LEN_MIN && !layout.files()[slice.file.as_usize()].is_pad();
    layout.slices(span).filter(is_worth_it)
}
