//! What is done for many at once comes out as if it were done for each.

use std::path::Path;

use riverrun_base::{Bitfield, Block, BlockSpan, Rng};
use riverrun_metainfo::MetaVersion;
use riverrun_swarm::{StorageDone, StorageJob, TorrentKey};

use super::fixture::Fixture;
use super::memory::{Crash, MemoryDisk};
use super::rig::{CONN, ROOT, Rig, TORRENT, opened};
use crate::abreast::Slab;
use crate::config::StorageOptions;
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

/// Opens torrents with the same contents below directories of their own; gives what each is found to have.
fn open_many(rig: &mut Rig, fixture: &Fixture, count: u32) -> Vec<(Bitfield, Bitfield)> {
    let mut found = Vec::new();
    for n in 1..=count {
        let key = TorrentKey::new(n, 0);
        let root = Path::new(ROOT).join(n.to_string());
        rig.shared.attach(key, root, StorageOptions::default());
        let info = fixture.info.clone();
        let wanted = vec![true; fixture.layout().files().len()];
        rig.submit_to(key, StorageJob::Open { info, wanted });
        found.push(opened(&rig.run_done()).unwrap());
    }
    found
}

#[test]
fn what_many_torrents_have_in_place_costs_few_syncs() {
    let names: Vec<String> = (0..12).map(|n| format!("{n}")).collect();
    let files: Vec<_> = names.iter().map(|name| (&**name, 70 * KIB)).collect();
    let fixture = Fixture::new(MetaVersion::V1, 64 * 1024, &files);
    let (disk, count) = (MemoryDisk::default(), 20);
    for n in 1..=count {
        for (path, content) in fixture.files() {
            disk.put(&Path::new(ROOT).join(n.to_string()).join(path), content);
        }
    }
    let mut rig = Rig::new(&disk, 1);
    for (n, (_, pieces)) in (1..).zip(open_many(&mut rig, &fixture, count)) {
        let hashes = fixture.hashes.clone();
        let check = StorageJob::Check { pieces, hashes };
        rig.submit_to(TorrentKey::new(n, 0), check);
    }
    rig.run();
    assert_eq!(
        disk.syncs(),
        0,
        "nothing was written but that nothing is known"
    );
    for n in 1..=count {
        rig.submit_to(TorrentKey::new(n, 0), StorageJob::Close);
    }
    let closed = rig.run_done();
    assert!(disk.syncs() <= 2, "{} syncs", disk.syncs());
    let count_of = |wanted: fn(&StorageDone) -> bool| closed.iter().filter(|it| wanted(it)).count();
    let closed = count_of(|done| matches!(done, StorageDone::Closed));
    assert_eq!(closed, count as usize);
    let disk = disk.after(Crash::Kill, &mut Rng::new(1));
    let found = open_many(&mut Rig::new(&disk, 2), &fixture, count);
    assert!(found.iter().all(|(have, _)| have.all()));
}
