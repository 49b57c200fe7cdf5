//! Which bytes of which files make up which piece.

use std::ops::Range;

use riverrun_base::{BLOCK_LEN, BlockSpan, FileIndex, PieceIndex};
use thiserror::Error;

use crate::File;

/// The most pieces that a torrent may have: as libtorrent has it; a bitfield of them takes 256 KiB.
pub const PIECES_MAX: u32 = 1 << 21;
/// The longest piece, in bytes: 32,767 blocks, as in libtorrent.
pub const PIECE_LEN_MAX: u32 = 32_767 * BLOCK_LEN;
/// The most bytes that a torrent may have, padding included: as in libtorrent.
pub const TOTAL_LEN_MAX: u64 = (1 << 48) - 1;

/// Files that make no torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// There are no bytes in it.
    #[error("the torrent has no bytes")]
    Empty,
    /// There are too many bytes in it.
    #[error("the torrent has more than {TOTAL_LEN_MAX} bytes")]
    TooLong,
    /// There are too many pieces in it.
    #[error("the torrent has {0} pieces, more than {PIECES_MAX}")]
    TooManyPieces(u64),
    /// Pieces have no length, or too much of it.
    #[error("the piece length {0} is not between 1 and {PIECE_LEN_MAX}")]
    PieceLength(u32),
}

/// Where files start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// Where the one before ends: v1 and hybrid torrents, which have pad files.
    Packed,
    /// On the next piece: torrents that are v2 only. Between files there is nothing.
    PieceAligned,
}

/// Files ↔ pieces ↔ blocks. Immutable; share it as `Arc<Layout>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    files: Box<[File]>,
    /// The files that are not empty, so that a million empty ones cost nothing later.
    solid: Box<[u32]>,
    spacing: Spacing,
    piece_len: u32,
    piece_count: u32,
    /// Where the last piece ends.
    end: u64,
    wire_len: u64,
    payload_len: u64,
}

/// A run of bytes of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSlice {
    /// Which file.
    pub file: FileIndex,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// How many bytes; at least one.
    pub len: u32,
}

impl Layout {
    /// Lays out `files` in order; sets their [`File::offset`].
    pub fn new(
        mut files: Vec<File>,
        piece_len: u32,
        spacing: Spacing,
    ) -> Result<Self, LayoutError> {
        if !(1..=PIECE_LEN_MAX).contains(&piece_len) {
            return Err(LayoutError::PieceLength(piece_len));
        }
        let mut at = 0_u64;
        for file in &mut files {
            file.offset = match spacing {
                Spacing::Packed => at,
                Spacing::PieceAligned => at
                    .checked_next_multiple_of(piece_len.into())
                    .ok_or(LayoutError::TooLong)?,
            };
            at = file
                .offset
                .checked_add(file.len)
                .filter(|end| *end <= TOTAL_LEN_MAX)
                .ok_or(LayoutError::TooLong)?;
        }
        if at == 0 {
            return Err(LayoutError::Empty);
        }
        let pieces = at.div_ceil(piece_len.into());
        let piece_count = u32::try_from(pieces)
            .ok()
            .filter(|count| *count <= PIECES_MAX)
            .ok_or(LayoutError::TooManyPieces(pieces))?;
        Ok(Self::measured(
            files.into(),
            piece_len,
            piece_count,
            spacing,
            at,
        ))
    }

    /// Invariant: the sum of all lengths is at most [`TOTAL_LEN_MAX`].
    fn measured(
        files: Box<[File]>,
        piece_len: u32,
        piece_count: u32,
        spacing: Spacing,
        end: u64,
    ) -> Self {
        let solid = (0..)
            .zip(&files)
            .filter(|(_, file)| file.len > 0)
            .map(|(index, _)| index)
            .collect();
        let wire_len = files.iter().map(|file| file.len).sum();
        let payload_len = files
            .iter()
            .filter(|file| !file.is_pad())
            .map(|file| file.len)
            .sum();
        Self {
            files,
            solid,
            spacing,
            piece_len,
            piece_count,
            end,
            wire_len,
            payload_len,
        }
    }

    /// The length of every piece but those at the end of a torrent, or of a v2 file, in bytes.
    pub const fn nominal_piece_len(&self) -> u32 {
        self.piece_len
    }

    /// How many pieces there are: at most [`PIECES_MAX`].
    pub const fn piece_count(&self) -> u32 {
        self.piece_count
    }

    /// How many bytes of `piece` go over the wire; 0 past the end. With v1 metadata padding counts,
    /// and only the last piece is shorter; with v2 metadata alone a piece ends where its file ends
    /// (BEP 52).
    pub fn piece_len(&self, piece: PieceIndex) -> u32 {
        let Some(start) = self.start_of(piece) else {
            return 0;
        };
        let end = match self.spacing {
            Spacing::Packed => self.end,
            Spacing::PieceAligned => self
                .solid_from(start)
                .next()
                .map_or(start, |(_, file)| file.end()),
        };
        u32::try_from(end - start).map_or(self.piece_len, |rest| rest.min(self.piece_len))
    }

    /// How many blocks `piece` has; 0 past the end.
    pub fn block_count(&self, piece: PieceIndex) -> u32 {
        self.piece_len(piece).div_ceil(BLOCK_LEN)
    }

    /// The span of block number `block` of `piece`, if it exists.
    pub fn span(&self, piece: PieceIndex, block: u32) -> Option<BlockSpan> {
        BlockSpan::of_block(piece, block, self.piece_len(piece))
    }

    /// The span of all of `piece`; empty past the end.
    pub fn piece_span(&self, piece: PieceIndex) -> BlockSpan {
        BlockSpan {
            piece,
            offset: 0,
            len: self.piece_len(piece),
        }
    }

    /// Whether `span` is not empty and within its piece: what a peer may ask for.
    pub fn contains(&self, span: BlockSpan) -> bool {
        let end = span.offset.checked_add(span.len);
        span.len > 0 && end.is_some_and(|end| end <= self.piece_len(span.piece))
    }

    /// How many bytes all pieces together have on the wire.
    pub const fn wire_len(&self) -> u64 {
        self.wire_len
    }

    /// How many bytes all files have that are not padding.
    pub const fn payload_len(&self) -> u64 {
        self.payload_len
    }

    /// Where files start.
    pub const fn spacing(&self) -> Spacing {
        self.spacing
    }

    /// All files, in the order of the metadata.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The file at `index`.
    pub fn file(&self, index: FileIndex) -> Option<&File> {
        self.files.get(index.as_usize())
    }

    /// The runs of files that make up `span`, in order; what is past the end of its piece is left
    /// out. Costs a binary search, then a step a file.
    pub fn slices(&self, span: BlockSpan) -> impl Iterator<Item = FileSlice> + '_ {
        let len = self.len_in_piece(span);
        let start = self
            .start_of(span.piece)
            .unwrap_or(self.end)
            .saturating_add(span.offset.into());
        let end = start.saturating_add(len.into());
        self.solid_from(start)
            .take_while(move |(_, file)| file.offset < end)
            .map(move |(index, file)| {
                let from = file.offset.max(start);
                // A part of a span is no longer than the span.
                let len = u32::try_from(file.end().min(end) - from).unwrap_or(len);
                FileSlice {
                    file: FileIndex(index),
                    offset: from - file.offset,
                    len,
                }
            })
    }

    /// The pieces that have bytes of `file`; none if it is empty or does not exist.
    pub fn pieces_of(&self, file: FileIndex) -> Range<u32> {
        let Some(file) = self.file(file).filter(|file| file.len > 0) else {
            return 0..0;
        };
        let piece_len = u64::from(self.piece_len);
        // No file ends after the last piece.
        let index = |piece: u64| u32::try_from(piece).unwrap_or(self.piece_count);
        index(file.offset / piece_len)..index(file.end().div_ceil(piece_len))
    }

    /// Whether `span` is padding from end to end: never to be requested, served as zeros (BEP 47).
    pub fn is_padding(&self, span: BlockSpan) -> bool {
        self.contains(span) && self.payload_in(span) == 0
    }

    /// How many bytes of `span` are not padding.
    pub fn payload_in(&self, span: BlockSpan) -> u32 {
        // Who sums up all pieces of thousands of torrents need not look for the files of each.
        if self.payload_len == self.wire_len {
            return self.len_in_piece(span);
        }
        let payload = |slice: &FileSlice| !self.files[slice.file.as_usize()].is_pad();
        self.slices(span)
            .filter(payload)
            .map(|slice| slice.len)
            .sum()
    }

    /// How much of `span` is not past the end of its piece, in bytes.
    fn len_in_piece(&self, span: BlockSpan) -> u32 {
        let left = self.piece_len(span.piece).saturating_sub(span.offset);
        left.min(span.len)
    }

    fn start_of(&self, piece: PieceIndex) -> Option<u64> {
        (piece.0 < self.piece_count).then(|| u64::from(piece.0) * u64::from(self.piece_len))
    }

    /// The files that are not empty, from the one in which `offset` lies.
    fn solid_from(&self, offset: u64) -> impl Iterator<Item = (u32, &File)> {
        let first = self
            .solid
            .partition_point(|index| self.files[*index as usize].end() <= offset);
        self.solid[first..]
            .iter()
            .map(|index| (*index, &self.files[*index as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SafePath;

    const PIECE: u32 = 2 * BLOCK_LEN;

    fn file(name: &str, len: u64) -> File {
        File::new(SafePath::from_name(name.as_bytes()).unwrap(), len)
    }

    fn pad(len: u64) -> File {
        File {
            kind: crate::FileKind::Pad,
            ..file("pad", len)
        }
    }

    fn slices(layout: &Layout, piece: u32, offset: u32, len: u32) -> Vec<(u32, u64, u32)> {
        let span = BlockSpan {
            piece: PieceIndex(piece),
            offset,
            len,
        };
        layout
            .slices(span)
            .map(|slice| (slice.file.0, slice.offset, slice.len))
            .collect()
    }

    #[test]
    fn packed_files_share_pieces() {
        let files = vec![
            file("a", 10),
            file("empty", 0),
            file("b", u64::from(PIECE)),
            file("end", 0),
        ];
        let layout = Layout::new(files, PIECE, Spacing::Packed).unwrap();
        assert_eq!(layout.piece_count(), 2);
        assert_eq!(
            (
                layout.piece_len(PieceIndex(0)),
                layout.piece_len(PieceIndex(1))
            ),
            (PIECE, 10)
        );
        assert_eq!(layout.piece_len(PieceIndex(2)), 0);
        assert_eq!(
            slices(&layout, 0, 0, PIECE),
            [(0, 0, 10), (2, 0, PIECE - 10)]
        );
        assert_eq!(slices(&layout, 0, 9, 2), [(0, 9, 1), (2, 0, 1)]);
        assert_eq!(slices(&layout, 0, 10, 1), [(2, 0, 1)]);
        assert_eq!(
            slices(&layout, 1, 0, PIECE),
            [(2, u64::from(PIECE) - 10, 10)],
            "cut at the piece's end"
        );
        assert_eq!(slices(&layout, 2, 0, 1), []);
        assert_eq!(layout.pieces_of(FileIndex(0)), 0..1);
        assert_eq!(layout.pieces_of(FileIndex(1)), 0..0);
        assert_eq!(layout.pieces_of(FileIndex(2)), 0..2);
        assert_eq!(layout.wire_len(), u64::from(PIECE) + 10);
    }

    #[test]
    fn padding_is_counted_on_the_wire_only() {
        let files = vec![file("a", 10), pad(u64::from(PIECE) - 10), file("b", 5)];
        let layout = Layout::new(files, PIECE, Spacing::Packed).unwrap();
        assert_eq!(layout.piece_len(PieceIndex(0)), PIECE);
        assert_eq!(
            (layout.wire_len(), layout.payload_len()),
            (u64::from(PIECE) + 5, 15)
        );
        let block = |block| layout.span(PieceIndex(0), block).unwrap();
        assert!(!layout.is_padding(block(0)) && layout.is_padding(block(1)));
        assert_eq!(
            (layout.payload_in(block(0)), layout.payload_in(block(1))),
            (10, 0)
        );
        assert_eq!(layout.payload_in(layout.piece_span(PieceIndex(1))), 5);
    }

    #[test]
    fn aligned_files_end_their_pieces() {
        let files = vec![
            file("a", 10),
            file("empty", 0),
            file("b", u64::from(PIECE) + 7),
            file("c", 1),
        ];
        let layout = Layout::new(files, PIECE, Spacing::PieceAligned).unwrap();
        assert_eq!(layout.piece_count(), 4);
        let lens: Vec<u32> = (0..5)
            .map(|piece| layout.piece_len(PieceIndex(piece)))
            .collect();
        assert_eq!(lens, [10, PIECE, 7, 1, 0]);
        assert_eq!(slices(&layout, 0, 0, PIECE), [(0, 0, 10)]);
        assert_eq!(slices(&layout, 2, 0, 100), [(2, u64::from(PIECE), 7)]);
        assert_eq!(slices(&layout, 0, 10, 5), []);
        assert_eq!(layout.pieces_of(FileIndex(2)), 1..3);
        assert_eq!(layout.wire_len(), u64::from(PIECE) + 18);
        assert_eq!(layout.span(PieceIndex(0), 0).unwrap().len, 10);
        assert_eq!(layout.block_count(PieceIndex(1)), 2);
    }

    #[test]
    fn only_spans_within_a_piece_are_legal() {
        let layout = Layout::new(vec![file("a", 10)], PIECE, Spacing::Packed).unwrap();
        let contains = |piece, offset, len| {
            layout.contains(BlockSpan {
                piece: PieceIndex(piece),
                offset,
                len,
            })
        };
        assert!(contains(0, 0, 10) && contains(0, 9, 1));
        assert!(!contains(0, 0, 0) && !contains(0, 0, 11) && !contains(0, 10, 1));
        assert!(
            !contains(1, 0, 1) && !contains(0, u32::MAX, u32::MAX) && !contains(0, 1, u32::MAX)
        );
    }

    #[test]
    fn what_is_no_torrent_is_refused() {
        let check = |files, piece_len, error| {
            assert_eq!(
                Layout::new(files, piece_len, Spacing::PieceAligned).unwrap_err(),
                error
            );
        };
        check(vec![], 1, LayoutError::Empty);
        check(vec![file("a", 0)], 1, LayoutError::Empty);
        check(vec![file("a", 1)], 0, LayoutError::PieceLength(0));
        check(
            vec![file("a", 1)],
            PIECE_LEN_MAX + 1,
            LayoutError::PieceLength(PIECE_LEN_MAX + 1),
        );
        check(
            vec![file("a", (1 << 21) + 1)],
            1,
            LayoutError::TooManyPieces((1 << 21) + 1),
        );
        check(
            vec![file("a", 1 << 48)],
            PIECE_LEN_MAX,
            LayoutError::TooLong,
        );
        check(
            vec![file("a", 1 << 47), file("b", u64::MAX)],
            PIECE_LEN_MAX,
            LayoutError::TooLong,
        );
        assert!(Layout::new(vec![file("a", 1 << 21)], 1, Spacing::Packed).is_ok());
    }
}
