//! What is done for many at once comes out as if it were done for each.

use riverrun_base::{Block, BlockSpan};
use riverrun_metainfo::MetaVersion;
use riverrun_swarm::{StorageDone, StorageJob};

use super::fixture::Fixture;
use super::memory::MemoryDisk;
use super::rig::{CONN, Rig, TORRENT};
use crate::abreast::Slab;
use crate::disk::Completion;

const KIB: usize = 1024;
const VERSIONS: [MetaVersion; 3] = [MetaVersion::V1, MetaVersion::V2, MetaVersion::Hybrid];

/// Files of all sorts in pieces of four blocks.
fn fixture(version: MetaVersion) -> Fixture {
    let files = [
        ("a", 900 * KIB + 3),
        ("b/c", 5),
        ("b/d", 200 * KIB),
        ("e", 70 * KIB),
    ];
    Fixture::new(version, 64 * 1024, &files)
}

#[test]
fn pieces_that_are_hashed_together_are_judged_by_themselves() {
    for version in VERSIONS {
        let fixture = fixture(version);
        let mut rig = Rig::new(&MemoryDisk::default(), 1);
        rig.open(&fixture).unwrap();
        let is_wrong = |index: u32| index % 5 == 3;
        for piece in fixture.pieces() {
            for (span, block) in fixture.blocks(piece) {
                let mut bytes = block.to_vec();
                if is_wrong(piece.0) && span.offset == 0 {
                    bytes[1] ^= 1;
                }
                let block = Block::unbudgeted(&bytes);
                rig.submit(StorageJob::Store { span, block });
            }
            rig.verify(&fixture, piece);
        }
        let mut tasks = 0;
        while let Some(task) = rig.shared.hashing.try_pop(rig.now) {
            rig.shared.hash(task, &mut Slab::default());
            tasks += 1;
        }
        let pieces = fixture.layout().piece_count();
        if version == MetaVersion::V1 {
            assert!(tasks < pieces, "{tasks} tasks for {pieces} pieces");
        }
        let mut seen = 0;
        for done in rig.run_done() {
            let (piece, right) = match done {
                StorageDone::Verified(piece) => (piece, true),
                StorageDone::Failed { piece, .. } => (piece, false),
                _ => continue,
            };
            assert_eq!(right, !is_wrong(piece.0), "{piece:?} of {version:?}");
            seen += 1;
        }
        assert_eq!(seen, pieces);
    }
}

#[test]
fn blocks_that_are_read_in_a_row_are_each_served() {
    for version in VERSIONS {
        let fixture = fixture(version);
        let mut rig = Rig::new(&MemoryDisk::default(), 1);
        rig.open(&fixture).unwrap();
        for piece in fixture.pieces() {
            rig.download(&fixture, piece);
            rig.run();
        }
        assert!(rig.is_complete(&fixture));
        let all: Vec<BlockSpan> = fixture
            .pieces()
            .flat_map(|piece| fixture.blocks(piece))
            .map(|(span, _)| span)
            .collect();
        let read = |span| (TORRENT, StorageJob::Read { conn: CONN, span });
        rig.shared
            .submit(&mut all.iter().copied().map(read).collect());
        let mut tasks = 0;
        while let Some(task) = rig.shared.reading.try_pop(rig.now) {
            rig.shared.read_row(&task);
            tasks += 1;
        }
        assert!(
            tasks < all.len() / 2,
            "{tasks} tasks for {} blocks",
            all.len()
        );
        let served = rig.run().into_iter().filter_map(|it| match it {
            Completion::Serve { conn, span, block } if conn == CONN => Some((span, block)),
            _ => None,
        });
        let mut served: Vec<(BlockSpan, Block)> = served.collect();
        served.sort_by_key(|(span, _)| (span.piece, span.offset));
        assert_eq!(served.len(), all.len());
        for ((span, block), asked) in served.iter().zip(&all) {
            assert_eq!(span, asked);
            assert_eq!(**block, *fixture.bytes(*span), "{span:?} of {version:?}");
        }
    }
}
