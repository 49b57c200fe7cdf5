//! Cut off at any operation, in any of the ways: claims are true, and a second start ends in the right bytes.

use std::sync::OnceLock;
use std::time::Duration;

use proptest::prelude::*;
use riverrun_base::{Bitfield, Block, PieceIndex, Rng};
use riverrun_metainfo::MetaVersion;
use riverrun_swarm::{StorageDone, StorageJob};

use super::fixture::Fixture;
use super::memory::{Crash, Faults, MemoryDisk};
use super::rig::{ROOT, Rig, durable};
use crate::config::StorageOptions;
use crate::disk::CACHE_BYTES_MIN;

const KIB: usize = 1024;

/// Torrents of each kind, with pieces across files, padding, files without bytes and short ends.
fn fixture(kind: u64) -> &'static Fixture {
    static FIXTURES: [OnceLock<Fixture>; 4] = [const { OnceLock::new() }; 4];
    FIXTURES[usize::try_from(kind % 4).unwrap()].get_or_init(|| make_fixture(kind))
}

fn make_fixture(kind: u64) -> Fixture {
    let files = [
        ("a/one", 50 * KIB + 5),
        ("a/two", 3),
        ("b", 0),
        ("c/d/three", 100 * KIB),
        ("e", 64 * KIB),
    ];
    match kind % 4 {
        0 => Fixture::new(MetaVersion::V1, 48 * 1024, &files),
        1 => Fixture::new(MetaVersion::V2, 64 * 1024, &files),
        2 => Fixture::new(MetaVersion::Hybrid, 32 * 1024, &files),
        // The pieces that are fetched at a time take more than the memory.
        _ => Fixture::single(MetaVersion::V1, 128 * 1024, 600 * KIB),
    }
}

/// What a download was told before it was cut off.
struct Told {
    durable: Bitfield,
}

/// Downloads in a random way until all is there or the machine is off.
fn download(rig: &mut Rig, fixture: &Fixture, mut missing: Vec<PieceIndex>, rng: &mut Rng) -> Told {
    let mut told = Told {
        durable: Bitfield::new(fixture.layout().piece_count()),
    };
    rng.shuffle(&mut missing);
    let mut hear = |done: Vec<StorageDone>| {
        for piece in durable(&done) {
            told.durable.set(piece);
        }
        for done in done {
            if let StorageDone::Checked { piece, ok: false } = done {
                told.durable.clear(piece);
            }
        }
    };
    for group in missing.chunks(1 + rng.below(4)) {
        for piece in group {
            store(rig, fixture, *piece, rng);
        }
        for piece in group {
            rig.verify(fixture, *piece);
            if rng.below(2) == 0 {
                hear(rig.run_done());
            }
        }
        match rng.below(6) {
            0 => rig.submit(StorageJob::Sync),
            1 => hear(rig.wait(Duration::from_secs(6))),
            _ => {}
        }
    }
    hear(rig.run_done());
    told
}

/// Stores the blocks of a piece, in any order, some of them wrong at first.
fn store(rig: &mut Rig, fixture: &Fixture, piece: PieceIndex, rng: &mut Rng) {
    let mut blocks = fixture.blocks(piece);
    rng.shuffle(&mut blocks);
    if rng.below(5) == 0 {
        let (span, block) = &blocks[0];
        let mut wrong = block.to_vec();
        wrong[0] ^= 1;
        rig.submit(StorageJob::Store {
            span: *span,
            block: Block::unbudgeted(&wrong),
        });
        rig.run();
    }
    for (span, block) in blocks {
        let Some(mut charged) = rig.find_memory(block.len()) else {
            return;
        };
        charged.copy_from_slice(&block);
        rig.submit(StorageJob::Store {
            span,
            block: charged.freeze(),
        });
        if rng.below(8) == 0 {
            rig.step();
        }
    }
}

/// Starts again on what is left, holds what is claimed against the truth, and ends the download.
fn start_again(disk: &MemoryDisk, fixture: &Fixture, seed: u64) -> Bitfield {
    let mut rig = Rig::new(disk, seed);
    let (have, unchecked) = rig.open(fixture).expect("what a crash left can be opened");
    for piece in have.ones() {
        assert!(
            is_on_disk(&rig, fixture, piece),
            "piece {piece} is claimed and is not there"
        );
        assert!(!unchecked.has(piece));
    }
    let right = rig.check(fixture, unchecked.clone());
    for piece in unchecked.ones() {
        assert_eq!(
            right.has(piece),
            is_on_disk(&rig, fixture, piece),
            "piece {piece}"
        );
    }
    let missing = fixture
        .pieces()
        .filter(|piece| !have.has(*piece) && !right.has(*piece))
        .collect();
    download(&mut rig, fixture, missing, &mut Rng::new(seed));
    rig.submit(StorageJob::Close);
    let done = rig.run_done();
    assert!(matches!(done.last(), Some(StorageDone::Closed)), "{done:?}");
    assert!(
        !done
            .iter()
            .any(|done| matches!(done, StorageDone::Fault(_))),
        "{done:?}"
    );
    assert!(
        rig.is_complete(fixture),
        "the files are not what they must be"
    );
    let (all, unchecked) = rig.open(fixture).expect("opens again");
    assert!(
        all.all() && unchecked.none(),
        "after a clean stop all is believed: {all:?} {unchecked:?}"
    );
    have
}

fn is_on_disk(rig: &Rig, fixture: &Fixture, piece: PieceIndex) -> bool {
    let layout = fixture.layout();
    let mut slices = layout.slices(layout.piece_span(piece));
    slices.all(|slice| {
        let file = &layout.files()[slice.file.as_usize()];
        let start = usize::try_from(slice.offset).unwrap();
        let range = start..start + slice.len as usize;
        let truth = &fixture.contents[slice.file.as_usize()][range.clone()];
        file.is_pad()
            || rig
                .file(file.path.as_str())
                .is_some_and(|bytes| bytes.get(range) == Some(truth))
    })
}

/// Downloads with the machine going off at the given operation, then starts again.
fn check(seed: u64, off_at: u64, crash: Crash) {
    let fixture = fixture(seed);
    let disk = MemoryDisk::default();
    let mut rng = Rng::new(seed);
    let set = |config: &mut crate::StorageConfig| config.cache_bytes = CACHE_BYTES_MIN;
    let mut rig = Rig::with(&disk, seed, StorageOptions::default(), set);
    disk.set_faults(Faults {
        off_at: Some(off_at),
        ..Faults::default()
    });
    let mut told = Told {
        durable: Bitfield::new(fixture.layout().piece_count()),
    };
    if rig.open(fixture).is_some() {
        told = download(&mut rig, fixture, fixture.pieces().collect(), &mut rng);
    }
    drop(rig);
    let have = start_again(&disk.after(crash, &mut rng), fixture, seed);
    for piece in told.durable.ones() {
        assert!(have.has(piece), "piece {piece} was said to be durable");
    }
}

/// How many operations the whole download takes.
fn operations(seed: u64) -> u64 {
    let fixture = fixture(seed);
    let disk = MemoryDisk::default();
    start_again(&disk, fixture, seed);
    disk.operations()
}

#[test]
fn a_kill_at_any_operation_costs_no_truth() {
    for seed in 0..4 {
        (0..operations(seed)).for_each(|off_at| check(seed, off_at, Crash::Kill));
    }
}

#[test]
fn a_power_cut_at_any_operation_costs_no_truth() {
    for seed in 0..4 {
        (0..operations(seed)).for_each(|off_at| check(seed, off_at, Crash::Power));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_download_survives_any_crash(seed in 4_u64..1 << 40, off_at in 0_u64..200, power: bool) {
        check(seed, off_at, if power { Crash::Power } else { Crash::Kill });
    }

    /// A few bytes of a journal are changed, or its end is lost: claims get fewer, not wrong.
    #[test]
    fn a_damaged_journal_claims_nothing_wrong(seed: u64, at: u64, flip in 0_u8.., cut: bool) {
        let fixture = fixture(seed);
        let disk = MemoryDisk::default();
        start_again(&disk, fixture, seed);
        disk.damage_journal(at, if cut { None } else { Some(flip) });
        start_again(&disk, fixture, seed);
    }
}

#[test]
fn a_second_crash_does_not_forget_what_is_still_to_be_checked() {
    let fixture = Fixture::single(MetaVersion::V1, 32 * 1024, 300 * KIB);
    let disk = MemoryDisk::default();
    disk.put(&std::path::Path::new(ROOT).join("t"), &fixture.contents[0]);
    let mut rig = Rig::new(&disk, 0);
    let (_, unchecked) = rig.open(&fixture).unwrap();
    assert!(unchecked.all());
    let mut half = Bitfield::new(unchecked.len());
    for piece in unchecked.ones().take(4) {
        half.set(piece);
    }
    assert_eq!(rig.check(&fixture, half.clone()), half);
    rig.submit(StorageJob::Sync);
    rig.run();
    drop(rig);
    let mut rig = Rig::new(&disk.after(Crash::Kill, &mut Rng::new(0)), 0);
    let (have, unchecked) = rig.open(&fixture).unwrap();
    assert_eq!(have, half);
    assert_eq!(unchecked.count_ones(), unchecked.len() - 4);
}

#[test]
fn a_forgotten_piece_is_not_claimed_again_after_a_power_cut() {
    let fixture = Fixture::single(MetaVersion::V1, 512 * 1024, 1024 * KIB);
    let piece = PieceIndex(0);
    for seed in 0..20 {
        let disk = MemoryDisk::default();
        let set = |config: &mut crate::StorageConfig| config.cache_bytes = CACHE_BYTES_MIN;
        let mut rig = Rig::with(&disk, seed, StorageOptions::default(), set);
        rig.open(&fixture).unwrap();
        rig.download(&fixture, piece);
        rig.submit(StorageJob::Sync);
        assert_eq!(durable(&rig.run_done()), [piece]);
        rig.submit(StorageJob::Forget(piece));
        // Wrong blocks come, and are written early.
        for (span, block) in fixture.blocks(piece) {
            let wrong = rig.find_memory(block.len()).unwrap();
            rig.submit(StorageJob::Store {
                span,
                block: wrong.freeze(),
            });
        }
        rig.run();
        drop(rig);
        let mut rig = Rig::new(&disk.after(Crash::Power, &mut Rng::new(seed)), seed);
        let (have, _) = rig.open(&fixture).unwrap();
        assert!(have.ones().all(|piece| is_on_disk(&rig, &fixture, piece)));
    }
}

#[test]
fn what_was_written_before_a_kill_is_hashed_and_not_fetched_again() {
    let fixture = Fixture::single(MetaVersion::V2, 64 * 1024, 300 * KIB);
    let disk = MemoryDisk::default();
    let mut rig = Rig::new(&disk, 0);
    rig.open(&fixture).unwrap();
    rig.download(&fixture, PieceIndex(3));
    rig.run();
    drop(rig);
    let mut rig = Rig::new(&disk.after(Crash::Kill, &mut Rng::new(0)), 0);
    let (have, unchecked) = rig.open(&fixture).unwrap();
    assert!(have.none());
    assert_eq!(unchecked.ones().collect::<Vec<_>>(), [PieceIndex(3)]);
    assert!(rig.check(&fixture, unchecked).has(PieceIndex(3)));
}
