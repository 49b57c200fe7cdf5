//! What does not work, what is in the way, and what goes on all the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use riverrun_base::{BLOCK_LEN, Bitfield, Block, BlockSpan, PieceIndex};
use riverrun_hash::{sha1, sha256};
use riverrun_metainfo::MetaVersion;
use riverrun_peer::HashRequest;
use riverrun_swarm::{BlockDigests, StorageDone, StorageFault, StorageJob, TorrentKey};

use super::fixture::Fixture;
use super::memory::{Faults, MemoryDisk};
use super::rig::{CONN, ROOT, Rig, durable, opened};
use crate::abreast::Slab;
use crate::config::{Preallocation, StorageOptions};

const KIB: usize = 1024;
const PIECE: u32 = 2 * BLOCK_LEN;

fn path(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

fn one_file() -> Fixture {
    Fixture::single(MetaVersion::V1, PIECE, 200 * KIB)
}

fn faults(done: &[StorageDone]) -> Vec<&StorageFault> {
    let faults = done.iter().filter_map(|done| match done {
        StorageDone::Fault(fault) => Some(fault),
        _ => None,
    });
    faults.collect()
}

fn has_recovered(done: &[StorageDone]) -> bool {
    done.iter()
        .any(|done| matches!(done, StorageDone::Recovered))
}

fn wrong(done: &[StorageDone]) -> Vec<PieceIndex> {
    let wrong = done.iter().filter_map(|done| match done {
        StorageDone::Checked { piece, ok: false } => Some(*piece),
        _ => None,
    });
    wrong.collect()
}

/// A disk on which the torrent is complete, and was closed.
fn complete(fixture: &Fixture) -> MemoryDisk {
    let (mut rig, disk) = Rig::fresh(fixture);
    rig.download_all(fixture);
    rig.submit(StorageJob::Close);
    rig.run();
    disk
}

#[test]
fn a_full_disk_is_told_once_and_ends_by_itself() {
    let fixture = one_file();
    let (mut rig, disk) = Rig::fresh(&fixture);
    disk.set_faults(Faults {
        capacity: Some(100 * 1024),
        ..Faults::default()
    });
    let done = rig.download_all(&fixture);
    let [StorageFault::NoSpace { path, needed_bytes }] = faults(&done)[..] else {
        panic!("{done:?}")
    };
    assert!(path.ends_with("/data/t") && *needed_bytes > 0);
    assert!(
        rig.read(fixture.layout().span(PieceIndex(0), 1).unwrap())
            .is_some(),
        "reads go on"
    );

    assert!(
        faults(&rig.wait(Duration::from_mins(1))).is_empty(),
        "not told again"
    );
    disk.set_faults(Faults::default());
    let done = rig.wait(Duration::from_mins(1));
    assert!(has_recovered(&done), "{done:?}");
    rig.wait(Duration::from_mins(1));
    assert!(rig.is_complete(&fixture));
}

#[test]
fn a_torrent_on_a_full_disk_can_be_closed() {
    let fixture = one_file();
    let (mut rig, disk) = Rig::fresh(&fixture);
    disk.set_faults(Faults {
        capacity: Some(100 * 1024),
        ..Faults::default()
    });
    rig.download_all(&fixture);
    rig.submit(StorageJob::Close);
    let done = rig.run_done();
    assert!(matches!(done.last(), Some(StorageDone::Closed)), "{done:?}");
    let (have, _) = Rig::new(&disk, 3).open(&fixture).unwrap();
    assert_eq!(
        have.ones().collect::<Vec<_>>(),
        durable(&done),
        "what was written before is kept"
    );
}

#[test]
fn room_is_taken_before_the_first_piece_if_asked_for() {
    let fixture = Fixture::new(
        MetaVersion::V2,
        PIECE,
        &[("a", 100 * KIB), ("b", 100 * KIB)],
    );
    let disk = MemoryDisk::default();
    let options = StorageOptions {
        preallocation: Preallocation::Full,
        ..StorageOptions::default()
    };
    let mut rig = Rig::with(&disk, 1, options, |_| {});
    rig.open(&fixture).unwrap();
    disk.set_faults(Faults {
        capacity: Some(150 * 1024),
        ..Faults::default()
    });
    rig.download(&fixture, PieceIndex(0));
    assert!(matches!(
        faults(&rig.run_done())[..],
        [StorageFault::NoSpace { .. }]
    ));
    disk.set_faults(Faults::default());
    assert!(has_recovered(&rig.wait(Duration::from_mins(1))));
    assert_eq!(rig.file("t/b").unwrap().len(), 100 * KIB);
}

#[test]
fn a_write_that_failed_is_tried_again() {
    let fixture = one_file();
    let (mut rig, disk) = Rig::fresh(&fixture);
    disk.set_faults(Faults {
        failing_writes: 2,
        ..Faults::default()
    });
    let done = rig.download_all(&fixture);
    assert!(
        matches!(faults(&done)[..], [StorageFault::Io { .. }]),
        "{done:?}"
    );
    let mut told = rig.wait(Duration::from_secs(6));
    told.extend(rig.wait(Duration::from_secs(6)));
    assert!(has_recovered(&told));
    assert!(rig.is_complete(&fixture));
}

#[test]
fn what_a_failed_sync_has_lost_is_not_claimed() {
    let fixture = one_file();
    let (mut rig, disk) = Rig::fresh(&fixture);
    rig.download(&fixture, PieceIndex(0));
    rig.submit(StorageJob::Sync);
    assert_eq!(durable(&rig.run_done()), [PieceIndex(0)]);

    rig.download(&fixture, PieceIndex(1));
    rig.run();
    disk.set_faults(Faults {
        failing_syncs: 1,
        ..Faults::default()
    });
    let done = rig.wait(Duration::from_mins(1));
    assert!(matches!(faults(&done)[..], [StorageFault::Io { .. }]));
    assert_eq!(wrong(&done), [PieceIndex(1)], "read back, and not there");
    let done = rig.wait(Duration::from_mins(1));
    assert!(
        has_recovered(&done) && durable(&done).is_empty(),
        "{done:?}"
    );

    rig.download_all(&fixture);
    rig.submit(StorageJob::Close);
    rig.run();
    assert!(rig.is_complete(&fixture));
}

#[test]
fn blocks_that_were_written_early_are_lost_with_a_failed_sync() {
    let fixture = Fixture::single(MetaVersion::V1, 512 * 1024, 1024 * KIB);
    let (mut rig, disk) = Rig::cramped(&fixture);
    let piece = PieceIndex(0);
    rig.store(&fixture, piece);
    rig.run();
    disk.set_faults(Faults {
        failing_syncs: 1,
        ..Faults::default()
    });
    rig.wait(Duration::from_mins(1));
    rig.verify(&fixture, piece);
    let done = rig.run_done();
    assert!(
        done.iter()
            .any(|done| matches!(done, StorageDone::Failed { .. })),
        "{done:?}"
    );
}

#[test]
fn a_piece_that_cannot_be_read_is_not_claimed_any_more() {
    let fixture = one_file();
    let disk = complete(&fixture);
    let mut rig = Rig::new(&disk, 1);
    assert!(rig.open(&fixture).unwrap().0.all());
    disk.set_faults(Faults {
        unreadable: [path("t")].into(),
        ..Faults::default()
    });
    let span = fixture.layout().span(PieceIndex(3), 0).unwrap();
    rig.submit(StorageJob::Read { conn: CONN, span });
    let done = rig.run_done();
    assert!(
        done.iter()
            .any(|done| matches!(done, StorageDone::ReadFailed { conn: CONN, .. })),
        "{done:?}"
    );
    assert_eq!(wrong(&done), [PieceIndex(3)]);
    drop(rig);
    disk.set_faults(Faults::default());
    let (have, _) = Rig::new(&disk, 1).open(&fixture).unwrap();
    assert_eq!(have.zeros().collect::<Vec<_>>(), [PieceIndex(3)]);
}

#[test]
fn a_foreign_file_is_left_alone() {
    let fixture = one_file();
    for foreign in [vec![7; 200 * KIB], vec![7; 200 * KIB + 1], vec![7; 10]] {
        let disk = MemoryDisk::default();
        disk.put(&path("t"), &foreign);
        let mut rig = Rig::new(&disk, 1);
        rig.submit(StorageJob::Open {
            info: fixture.info.clone(),
            wanted: vec![true],
        });
        let mut done = rig.run_done();
        if let Some((have, unchecked)) = opened(&done) {
            assert!(have.none());
            assert!(rig.check(&fixture, unchecked).none());
            done = rig.download_all(&fixture);
        }
        assert!(
            matches!(faults(&done)[..], [StorageFault::Conflict { .. }]),
            "{done:?}"
        );
        assert_eq!(rig.file("t").unwrap(), foreign);
    }
}

#[test]
fn a_foreign_file_is_written_over_if_asked_for() {
    let fixture = one_file();
    let disk = MemoryDisk::default();
    disk.put(&path("t"), &vec![7; 300 * KIB]);
    let options = StorageOptions {
        overwrite: true,
        ..StorageOptions::default()
    };
    let mut rig = Rig::with(&disk, 1, options, |_| {});
    let (_, unchecked) = rig.open(&fixture).unwrap();
    rig.check(&fixture, unchecked);
    let done = rig.download_all(&fixture);
    assert!(faults(&done).is_empty(), "{done:?}");
    assert!(rig.is_complete(&fixture));
}

#[test]
fn a_file_in_place_is_adopted_as_far_as_it_is_right() {
    let fixture = one_file();
    let disk = MemoryDisk::default();
    let mut content = fixture.contents[0].clone();
    content[3 * PIECE as usize] ^= 1;
    disk.put(&path("t"), &content);
    let mut rig = Rig::new(&disk, 1);
    let (have, unchecked) = rig.open(&fixture).unwrap();
    assert!(have.none() && unchecked.all());
    let right = rig.check(&fixture, unchecked);
    assert_eq!(right.zeros().collect::<Vec<_>>(), [PieceIndex(3)]);
    rig.download(&fixture, PieceIndex(3));
    assert!(
        faults(&rig.run_done()).is_empty(),
        "it is known to be the torrent's"
    );
    rig.submit(StorageJob::Close);
    assert_eq!(durable(&rig.run_done()).len(), fixture.pieces().count());
    assert!(rig.is_complete(&fixture));
    assert!(rig.open(&fixture).unwrap().0.all());
}

#[test]
fn a_blank_file_and_one_that_is_right_already_are_no_conflict() {
    // One piece, of three files: none of them can be found right by itself.
    let fixture = Fixture::new(
        MetaVersion::V1,
        PIECE,
        &[("a", 5 * KIB), ("b", 6 * KIB), ("c", 7 * KIB)],
    );
    let disk = MemoryDisk::default();
    disk.put(&path("t/a"), &fixture.contents[0]);
    disk.put(&path("t/b"), &vec![0; 6 * KIB]);
    let mut rig = Rig::new(&disk, 1);
    let (_, unchecked) = rig.open(&fixture).unwrap();
    assert!(unchecked.none(), "the piece cannot be whole");
    let done = rig.download_all(&fixture);
    assert!(faults(&done).is_empty(), "{done:?}");
    assert!(rig.is_complete(&fixture));
}

#[test]
fn a_changed_file_is_hashed_again() {
    let fixture = Fixture::new(MetaVersion::V2, PIECE, &[("a", 100 * KIB), ("b", 70 * KIB)]);
    let disk = complete(&fixture);
    let mut content = fixture.contents[1].clone();
    content[0] ^= 1;
    disk.put(&path("t/b"), &content);
    let mut rig = Rig::new(&disk, 1);
    let (have, unchecked) = rig.open(&fixture).unwrap();
    let of_b: Vec<PieceIndex> = fixture
        .layout()
        .pieces_of(riverrun_base::FileIndex(1))
        .map(PieceIndex)
        .collect();
    assert_eq!(unchecked.ones().collect::<Vec<_>>(), of_b);
    assert_eq!(have.count_ones() + unchecked.count_ones(), have.len());
    let right = rig.check(&fixture, unchecked);
    assert_eq!(right.count_ones() as usize, of_b.len() - 1);
}

#[test]
fn a_file_that_is_gone_is_fetched_again() {
    let fixture = Fixture::new(
        MetaVersion::Hybrid,
        PIECE,
        &[("a", 100 * KIB), ("b", 70 * KIB)],
    );
    let disk = complete(&fixture);
    disk.delete(&path("t/a"));
    let mut rig = Rig::new(&disk, 1);
    let (have, unchecked) = rig.open(&fixture).unwrap();
    assert!(unchecked.none());
    let of_b = fixture.layout().pieces_of(riverrun_base::FileIndex(2));
    assert_eq!(
        have.ones().map(|piece| piece.0).collect::<Vec<_>>(),
        of_b.collect::<Vec<_>>()
    );
    for piece in have.zeros() {
        rig.download(&fixture, piece);
    }
    assert!(faults(&rig.run_done()).is_empty());
    assert!(rig.is_complete(&fixture));
}

#[test]
fn a_volume_that_is_away_is_waited_for() {
    let fixture = one_file();
    let disk = complete(&fixture);
    let away = disk.unmount(Path::new(ROOT));
    let mut rig = Rig::new(&disk, 1);
    rig.submit(StorageJob::Open {
        info: fixture.info.clone(),
        wanted: vec![true],
    });
    let done = rig.run_done();
    assert!(
        matches!(faults(&done)[..], [StorageFault::VolumeMissing { .. }]),
        "{done:?}"
    );
    assert!(rig.file("t").is_none(), "nothing is made");

    disk.remount(&away);
    let done = rig.wait(Duration::from_mins(1));
    assert!(has_recovered(&done));
    let (have, unchecked) = opened(&done).unwrap();
    assert!(have.all() && unchecked.none(), "without hashing anything");
}

#[test]
fn a_volume_that_goes_away_costs_no_claim() {
    let fixture = one_file();
    let disk = complete(&fixture);
    let mut rig = Rig::new(&disk, 1);
    rig.open(&fixture).unwrap();
    let away = disk.unmount(Path::new(ROOT));
    rig.submit(StorageJob::Read {
        conn: CONN,
        span: fixture.layout().span(PieceIndex(0), 0).unwrap(),
    });
    let done = rig.run_done();
    let [
        StorageDone::ReadFailed {
            fault: StorageFault::VolumeMissing { .. },
            ..
        },
    ] = &done[..]
    else {
        panic!("{done:?}");
    };
    disk.remount(&away);
    assert!(
        rig.read(fixture.layout().span(PieceIndex(0), 0).unwrap())
            .is_some()
    );
}

#[test]
fn two_torrents_do_not_write_to_one_file() {
    let mine = one_file();
    let other = Fixture::single(MetaVersion::V2, PIECE, 200 * KIB);
    let disk = MemoryDisk::default();
    let mut rig = Rig::new(&disk, 1);
    let second = TorrentKey::new(1, 0);
    rig.shared
        .attach(second, PathBuf::from(ROOT), StorageOptions::default());
    rig.open(&mine).unwrap();
    rig.submit_to(
        second,
        StorageJob::Open {
            info: other.info.clone(),
            wanted: vec![true],
        },
    );
    rig.run();
    rig.download(&mine, PieceIndex(0));
    rig.run();
    for (span, block) in other.blocks(PieceIndex(1)) {
        rig.submit_to(second, StorageJob::Store { span, block });
    }
    let expected = other.hashes.get(PieceIndex(1)).unwrap();
    rig.submit_to(
        second,
        StorageJob::Verify {
            piece: PieceIndex(1),
            expected,
        },
    );
    let done = rig.run_done();
    assert!(
        matches!(faults(&done)[..], [StorageFault::Conflict { .. }]),
        "{done:?}"
    );
    assert!(
        rig.file("t").unwrap()[PIECE as usize..]
            .iter()
            .all(|byte| *byte == 0)
    );
}

#[test]
fn blocks_are_read_wherever_they_are() {
    let fixture = Fixture::new(
        MetaVersion::Hybrid,
        PIECE,
        &[("a", 30 * KIB), ("b", 40 * KIB)],
    );
    let disk = MemoryDisk::default();
    for seed in 0..20 {
        let mut rig = Rig::new(&disk, seed);
        rig.open(&fixture).unwrap();
        let spans = [
            (0, BLOCK_LEN),
            (BLOCK_LEN, BLOCK_LEN),
            (5, 100),
            (BLOCK_LEN - 1, 2),
            (29 * 1024, 3000),
        ];
        let spans = spans.map(|(offset, len)| BlockSpan {
            piece: PieceIndex(0),
            offset,
            len,
        });
        assert!(rig.read(spans[0]).is_none() || seed > 0, "not there");
        rig.download(&fixture, PieceIndex(0));
        // As soon as it is verified, wherever its blocks are on their way to the disk.
        while rig.shared_state().verified.none() {
            assert!(rig.step());
        }
        for span in spans {
            assert_eq!(
                rig.read(span).as_deref(),
                Some(fixture.bytes(span).as_slice()),
                "{span}"
            );
        }
        let past = BlockSpan {
            piece: PieceIndex(0),
            offset: PIECE,
            len: 1,
        };
        assert!(rig.read(past).is_none());
        rig.submit(StorageJob::Close);
        rig.run();
    }
}

#[test]
fn a_block_that_is_held_can_be_given_before_its_piece_is_verified() {
    let fixture = Fixture::single(MetaVersion::V2, PIECE, PIECE as usize);
    let (mut rig, _) = Rig::fresh(&fixture);
    let blocks = fixture.blocks(PieceIndex(0));
    let (span, block) = &blocks[1];
    let block = Block::unbudgeted(block);
    rig.submit(StorageJob::Store { span: *span, block });
    assert_eq!(rig.read(*span).as_deref(), Some(&*fixture.bytes(*span)));
    let part = BlockSpan { len: 5, ..*span };
    assert!(rig.read(part).is_none(), "only whole");
    assert!(rig.read(blocks[0].0).is_none(), "it has not come");
    rig.submit(StorageJob::Discard(PieceIndex(0)));
    assert!(rig.read(*span).is_none(), "it was let go");
}

#[test]
fn a_wrong_piece_says_what_its_blocks_hash_to_and_can_be_mended() {
    for version in [MetaVersion::V1, MetaVersion::V2, MetaVersion::Hybrid] {
        let fixture = Fixture::single(version, PIECE, 5 * KIB + PIECE as usize);
        let (mut rig, _) = Rig::fresh(&fixture);
        let piece = PieceIndex(0);
        let mut bytes: Vec<Vec<u8>> = fixture
            .blocks(piece)
            .iter()
            .map(|(_, block)| block.to_vec())
            .collect();
        bytes[1][9] ^= 4;
        for ((span, _), bytes) in fixture.blocks(piece).iter().zip(&bytes) {
            rig.submit(StorageJob::Store {
                span: *span,
                block: Block::unbudgeted(bytes),
            });
        }
        rig.verify(&fixture, piece);
        let done = rig.run_done();
        let [StorageDone::Failed { blocks, .. }] = &done[..] else {
            panic!("{done:?}")
        };
        let expected = match version {
            MetaVersion::V1 => BlockDigests::V1(bytes.iter().map(|block| sha1(block)).collect()),
            _ => BlockDigests::V2(bytes.iter().map(|block| sha256(block)).collect()),
        };
        assert_eq!(*blocks, expected);
        let (span, block) = fixture.blocks(piece).remove(1);
        rig.submit(StorageJob::Store { span, block });
        rig.verify(&fixture, piece);
        let done = rig.run_done();
        assert!(matches!(done[..], [StorageDone::Verified(_)]), "{done:?}");
    }
}

#[test]
fn an_incomplete_piece_is_wrong() {
    let fixture = one_file();
    let (mut rig, _) = Rig::fresh(&fixture);
    rig.verify(&fixture, PieceIndex(0));
    assert!(matches!(rig.run_done()[..], [StorageDone::Failed { .. }]));
    rig.submit(StorageJob::Discard(PieceIndex(0)));
    rig.download(&fixture, PieceIndex(0));
    assert!(matches!(rig.run_done()[..], [StorageDone::Verified(_)]));
}

#[test]
fn leaves_are_those_of_the_files_blocks() {
    let fixture = Fixture::new(
        MetaVersion::Hybrid,
        PIECE,
        &[("a", 20 * KIB), ("b", 64 * KIB)],
    );
    let disk = complete(&fixture);
    let mut rig = Rig::new(&disk, 1);
    rig.open(&fixture).unwrap();
    let piece = PieceIndex(0);
    let pieces_root = fixture.layout().files()[0].pieces_root.unwrap();
    let request = HashRequest {
        pieces_root,
        base_layer: 0,
        index: 0,
        count: 2,
        proof_layers: 0,
    };
    rig.submit(StorageJob::HashLeaves {
        conn: CONN,
        piece,
        request,
    });
    let done = rig.run_done();
    let [StorageDone::Leaves { leaves, .. }] = &done[..] else {
        panic!("{done:?}")
    };
    let expected: Vec<_> = fixture.contents[0]
        .chunks(BLOCK_LEN as usize)
        .map(sha256)
        .collect();
    assert_eq!(*leaves, expected);
}

#[test]
fn opening_makes_nothing_and_unwanted_files_are_not_made() {
    let fixture = Fixture::new(
        MetaVersion::V2,
        PIECE,
        &[("a", 40 * KIB), ("empty", 0), ("nothing", 0)],
    );
    let mut rig = Rig::new(&MemoryDisk::default(), 1);
    rig.submit(StorageJob::Open {
        info: fixture.info.clone(),
        wanted: vec![true, true, false],
    });
    rig.run();
    assert!(rig.file("t/a").is_none() && rig.file("t/empty").is_none());
    rig.download(&fixture, PieceIndex(0));
    rig.run();
    assert_eq!(rig.file("t/a").unwrap().len(), 40 * KIB);
    assert_eq!(rig.file("t/empty"), Some(Vec::new()));
    assert_eq!(rig.file("t/nothing"), None);
}

#[test]
fn pieces_become_durable_after_a_while_or_when_asked() {
    let fixture = one_file();
    let (mut rig, _) = Rig::fresh(&fixture);
    rig.download(&fixture, PieceIndex(0));
    assert!(durable(&rig.run_done()).is_empty());
    assert_eq!(durable(&rig.wait(Duration::from_secs(5))), [PieceIndex(0)]);
    rig.download(&fixture, PieceIndex(1));
    rig.submit(StorageJob::Sync);
    let done = rig.run_done();
    let [
        StorageDone::Verified(_),
        StorageDone::Durable(pieces),
        StorageDone::Synced,
    ] = &done[..]
    else {
        panic!("{done:?}");
    };
    assert_eq!(pieces[..], [PieceIndex(1)]);
}

#[test]
fn a_forgotten_piece_is_neither_served_nor_claimed() {
    let fixture = one_file();
    let disk = complete(&fixture);
    let mut rig = Rig::new(&disk, 1);
    rig.open(&fixture).unwrap();
    rig.submit(StorageJob::Forget(PieceIndex(2)));
    rig.run();
    assert!(
        rig.read(fixture.layout().span(PieceIndex(2), 0).unwrap())
            .is_none()
    );
    drop(rig);
    let mut rig = Rig::new(&disk, 1);
    let (have, unchecked) = rig.open(&fixture).unwrap();
    assert!(!have.has(PieceIndex(2)) && unchecked.none());
    rig.download(&fixture, PieceIndex(2));
    rig.submit(StorageJob::Sync);
    assert_eq!(durable(&rig.run_done()), [PieceIndex(2)]);
}

#[test]
fn a_check_of_nothing_ends_at_once_and_a_check_can_be_cut_short() {
    let fixture = one_file();
    let disk = complete(&fixture);
    let mut rig = Rig::new(&disk, 1);
    let (have, none) = rig.open(&fixture).unwrap();
    rig.submit(StorageJob::Check {
        pieces: none,
        hashes: fixture.hashes.clone(),
    });
    assert!(matches!(rig.run_done()[..], [StorageDone::CheckEnded]));
    rig.submit(StorageJob::Check {
        pieces: have.clone(),
        hashes: fixture.hashes.clone(),
    });
    rig.step();
    rig.step();
    rig.submit(StorageJob::Close);
    assert!(matches!(rig.run_done().last(), Some(StorageDone::Closed)));
    let (again, unchecked): (Bitfield, Bitfield) = rig.open(&fixture).unwrap();
    assert!(again == have && unchecked.none());
}

#[test]
fn a_block_that_comes_after_the_verdict_is_asked_for_is_let_go() {
    let fixture = one_file();
    let (mut rig, _) = Rig::fresh(&fixture);
    let piece = PieceIndex(0);
    rig.download(&fixture, piece);
    let span = fixture.layout().span(piece, 1).unwrap();
    let wrong = Block::unbudgeted(&vec![1; span.len as usize]);
    rig.submit(StorageJob::Store { span, block: wrong });
    while rig.shared_state().verified.none() {
        assert!(rig.step());
    }
    assert_eq!(
        rig.read(span).as_deref(),
        Some(fixture.bytes(span).as_slice())
    );
}

#[test]
fn a_sync_that_fails_between_verdict_and_write_costs_the_piece() {
    let fixture = Fixture::single(MetaVersion::V1, 512 * 1024, 1024 * KIB);
    let (mut rig, disk) = Rig::cramped(&fixture);
    let piece = PieceIndex(0);
    rig.store(&fixture, piece);
    rig.run();
    // The sync comes first, and the piece is found right before it.
    rig.submit(StorageJob::Sync);
    rig.verify(&fixture, piece);
    while let Some(task) = rig.shared.hashing.try_pop(rig.now) {
        rig.shared.hash(task, &mut Slab::default());
    }
    disk.set_faults(Faults {
        failing_syncs: 1,
        ..Faults::default()
    });
    let mut done = rig.run_done();
    assert!(matches!(done[0], StorageDone::Verified(_)), "{done:?}");
    done.extend(rig.wait(Duration::from_mins(1)));
    done.extend(rig.wait(Duration::from_mins(1)));
    assert_eq!(wrong(&done), [piece]);
    assert!(durable(&done).is_empty(), "{done:?}");
}
