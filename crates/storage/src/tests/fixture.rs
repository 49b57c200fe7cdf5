//! Torrents with their contents.

use std::sync::Arc;

use riverrun_base::{BLOCK_LEN, Block, BlockSpan, PieceIndex, Rng};
use riverrun_hash::sha1;
use riverrun_metainfo::create::{CreateOptions, Plan, SourceFile};
use riverrun_metainfo::{Info, Layout, MetaVersion, PieceHashes, merkle};

use crate::judge::PieceHasher;

/// A torrent, and the bytes of its files.
pub(crate) struct Fixture {
    pub(crate) info: Arc<Info>,
    pub(crate) hashes: Arc<PieceHashes>,
    /// By index in the layout; padding is zeros.
    pub(crate) contents: Vec<Vec<u8>>,
}

impl Fixture {
    /// Files of these names and lengths in a directory `t`, with random contents.
    pub(crate) fn new(version: MetaVersion, piece_len: u32, files: &[(&str, usize)]) -> Self {
        let source = |(name, len): &(&str, usize)| {
            let path = name
                .split('/')
                .map(|element| element.as_bytes().to_vec())
                .collect();
            SourceFile::new(path, *len as u64)
        };
        Self::of_sources(version, piece_len, files.iter().map(source).collect())
    }

    /// One file `t`.
    pub(crate) fn single(version: MetaVersion, piece_len: u32, len: usize) -> Self {
        Self::of_sources(
            version,
            piece_len,
            vec![SourceFile::new(Vec::new(), len as u64)],
        )
    }

    fn of_sources(version: MetaVersion, piece_len: u32, sources: Vec<SourceFile>) -> Self {
        let mut options = CreateOptions::new(b"t".to_vec(), version);
        options.piece_len = Some(piece_len);
        let plan = Plan::new(sources, options).unwrap();
        let mut rng = Rng::new(u64::from(piece_len));
        let content = |file: &riverrun_metainfo::File| {
            let mut bytes = vec![0; usize::try_from(file.len).unwrap()];
            if !file.is_pad() {
                rng.fill(&mut bytes);
            }
            bytes
        };
        let contents: Vec<Vec<u8>> = plan.layout().files().iter().map(content).collect();
        let (mut v1, mut v2) = (Vec::new(), vec![Vec::new(); contents.len()]);
        for piece in (0..plan.layout().piece_count()).map(PieceIndex) {
            let bytes = bytes_of(plan.layout(), &contents, plan.layout().piece_span(piece));
            let wanted = plan.piece(piece).unwrap();
            if wanted.v1 {
                v1.push(sha1(&bytes));
            }
            if let Some(tree) = wanted.v2 {
                let mut hasher = PieceHasher::new(false, tree.len);
                hasher.update(&bytes.chunks(BLOCK_LEN as usize).collect::<Vec<_>>());
                v2[tree.file.as_usize()].push(merkle::root_of(&hasher.finish().1, tree.leaves));
            }
        }
        let v2 = if version == MetaVersion::V1 {
            Vec::new()
        } else {
            v2
        };
        let metainfo = plan.finish(&v1, v2).unwrap();
        let hashes = PieceHashes::new(&metainfo.info, &metainfo.piece_layers);
        Self {
            info: metainfo.info,
            hashes: Arc::new(hashes),
            contents,
        }
    }

    pub(crate) fn layout(&self) -> &Arc<Layout> {
        self.info.layout()
    }

    pub(crate) fn pieces(&self) -> impl Iterator<Item = PieceIndex> + use<> {
        (0..self.layout().piece_count()).map(PieceIndex)
    }

    /// The true bytes of a span.
    pub(crate) fn bytes(&self, span: BlockSpan) -> Vec<u8> {
        bytes_of(self.layout(), &self.contents, span)
    }

    /// The blocks of a piece as peers send them: none that is only padding.
    pub(crate) fn blocks(&self, piece: PieceIndex) -> Vec<(BlockSpan, Block)> {
        let spans =
            (0..self.layout().block_count(piece)).map(|n| self.layout().span(piece, n).unwrap());
        let spans = spans.filter(|span| !self.layout().is_padding(*span));
        spans
            .map(|span| (span, Block::unbudgeted(&self.bytes(span))))
            .collect()
    }

    /// The files that are stored, with their true contents, by path below the root.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let files = self.layout().files().iter().zip(&self.contents);
        files
            .filter(|(file, _)| !file.is_pad())
            .map(|(file, content)| (file.path.as_str(), content.as_slice()))
    }
}

fn bytes_of(layout: &Layout, contents: &[Vec<u8>], span: BlockSpan) -> Vec<u8> {
    let part = |slice: riverrun_metainfo::FileSlice| {
        let start = usize::try_from(slice.offset).unwrap();
        contents[slice.file.as_usize()][start..start + slice.len as usize].to_vec()
    };
    layout.slices(span).flat_map(part).collect()
}
