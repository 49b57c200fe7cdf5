//! Files that another program changes: nothing false of them is given to anybody, and what is right is found again.

use std::path::Path;
use std::time::Duration;

use riverrun_base::{BLOCK_LEN, Bitfield, BlockSpan, FileIndex, PieceIndex};
use riverrun_metainfo::MetaVersion;
use riverrun_peer::HashRequest;
use riverrun_swarm::{StorageDone, StorageFault, StorageJob};

use super::fixture::Fixture;
use super::memory::{Crash, MemoryDisk};
use super::rig::{CONN, ROOT, Rig, durable};
use crate::disk::Completion;

const KIB: usize = 1024;
const PIECE: u32 = 2 * BLOCK_LEN;
const FILE: FileIndex = FileIndex(0);

/// Two files; each piece is of one of them.
fn fixture() -> Fixture {
    Fixture::new(MetaVersion::V2, PIECE, &[("a", 100 * KIB), ("b", 70 * KIB)])
}

fn path() -> std::path::PathBuf {
    Path::new(ROOT).join("t/a")
}

/// A torrent that is complete, durable and open.
fn seeding(fixture: &Fixture, disk: &MemoryDisk) -> Rig {
    let mut rig = Rig::new(disk, 1);
    rig.open(fixture).unwrap();
    rig.download_all(fixture);
    rig.submit(StorageJob::Sync);
    rig.run();
    rig
}

/// All blocks that are given to a peer which asks for all there are, and what is said about it.
fn serve_all(rig: &mut Rig, fixture: &Fixture) -> (Vec<BlockSpan>, Vec<StorageDone>) {
    let (mut served, mut said) = (Vec::new(), Vec::new());
    for piece in fixture.pieces() {
        for (span, _) in fixture.blocks(piece) {
            rig.submit(StorageJob::Read { conn: CONN, span });
        }
        for completion in rig.run() {
            match completion {
                Completion::Serve { span, block, .. } => {
                    assert_eq!(
                        *block,
                        *fixture.bytes(span),
                        "false bytes of {span} were given"
                    );
                    served.push(span);
                }
                Completion::Done { done, .. } => said.push(done),
            }
        }
    }
    (served, said)
}

fn changed(done: &[StorageDone]) -> Vec<FileIndex> {
    let changed = done.iter().filter_map(|done| match done {
        StorageDone::Changed { file, path } => {
            assert!(path.ends_with("/t/a"), "{path}");
            Some(*file)
        }
        _ => None,
    });
    changed.collect()
}

fn pieces_of(fixture: &Fixture, file: FileIndex) -> Bitfield {
    let mut pieces = Bitfield::new(fixture.layout().piece_count());
    for piece in fixture.layout().pieces_of(file) {
        pieces.set(PieceIndex(piece));
    }
    pieces
}

/// A way of changing the file `a`, and how many of its four pieces are right afterwards.
type Change = (&'static str, fn(&MemoryDisk, &Fixture), u32);

const CHANGES: [Change; 6] = [
    (
        "a byte",
        |disk, _| disk.edit(&path(), |it| it[0] ^= 1, false),
        3,
    ),
    (
        "a byte, the time set back",
        |disk, _| disk.edit(&path(), |it| it[0] ^= 1, true),
        3,
    ),
    (
        "longer",
        |disk, _| disk.edit(&path(), |it| it.push(7), false),
        4,
    ),
    (
        "shorter",
        |disk, _| disk.edit(&path(), |it| it.truncate(PIECE as usize), false),
        1,
    ),
    ("touched", |disk, _| disk.edit(&path(), |_| {}, false), 4),
    (
        "another in its place",
        |disk, fixture| {
            let mut other = fixture.contents[0].clone();
            other[0] ^= 1;
            disk.put(&path(), &other);
        },
        3,
    ),
];

#[test]
fn nothing_of_a_changed_file_is_served_until_it_is_checked() {
    let fixture = fixture();
    for (what, change, right) in CHANGES {
        for was_read in [false, true] {
            let disk = MemoryDisk::default();
            let mut rig = seeding(&fixture, &disk);
            if was_read {
                // Its file is open then.
                assert!(serve_all(&mut rig, &fixture).1.is_empty());
            } else {
                rig.shared.ground.readers.forget_all(|_| true);
            }
            change(&disk, &fixture);
            let (served, said) = serve_all(&mut rig, &fixture);
            let of_a = pieces_of(&fixture, FILE);
            assert!(served.iter().all(|span| !of_a.has(span.piece)), "{what}");
            assert!(
                served.iter().any(|span| !of_a.has(span.piece)),
                "{what}: the other file"
            );
            assert_eq!(changed(&said), [FILE], "{what}: told once");

            let found = rig.check(&fixture, of_a.clone());
            assert_eq!(found.count_ones(), right, "{what}");
            let (served, said) = serve_all(&mut rig, &fixture);
            assert!(changed(&said).is_empty(), "{what}");
            let again = served.iter().filter(|span| of_a.has(span.piece));
            assert!(again.clone().all(|span| found.has(span.piece)), "{what}");
            assert!(again.count() > 0, "{what}: what is right is given");
        }
    }
}

#[test]
fn what_was_put_right_is_taken_back_by_a_check() {
    let fixture = fixture();
    let disk = MemoryDisk::default();
    let mut rig = seeding(&fixture, &disk);
    disk.edit(&path(), |it| it.fill(0), false);
    serve_all(&mut rig, &fixture);
    let all = Bitfield::full(fixture.layout().piece_count());
    assert!(!rig.check(&fixture, all.clone()).all());
    disk.put(&path(), &fixture.contents[0]);
    assert!(rig.check(&fixture, all).all());
    let (served, said) = serve_all(&mut rig, &fixture);
    assert!(said.is_empty(), "{said:?}");
    let blocks = fixture.pieces().map(|piece| fixture.blocks(piece).len());
    assert_eq!(served.len(), blocks.sum::<usize>());
    rig.submit(StorageJob::Close);
    rig.run();
    let (have, unchecked) = rig.open(&fixture).unwrap();
    assert!(have.all() && unchecked.none(), "without hashing anything");
}

#[test]
fn a_check_sees_what_is_there_and_not_what_is_open() {
    let fixture = fixture();
    let disk = MemoryDisk::default();
    let mut rig = seeding(&fixture, &disk);
    serve_all(&mut rig, &fixture);
    disk.put(&path(), &vec![1; 100 * KIB]);
    let right = rig.check(&fixture, Bitfield::full(fixture.layout().piece_count()));
    let of_a = pieces_of(&fixture, FILE);
    assert!(of_a.ones().all(|piece| !right.has(piece)));
}

#[test]
fn a_file_that_is_given_another_name_is_served_all_the_same() {
    let fixture = fixture();
    let disk = MemoryDisk::default();
    let mut rig = seeding(&fixture, &disk);
    disk.link(&path(), Path::new("/library/film"));
    let (_, said) = serve_all(&mut rig, &fixture);
    assert!(said.is_empty(), "{said:?}");
    disk.delete(Path::new("/library/film"));
    let (_, said) = serve_all(&mut rig, &fixture);
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn a_changed_file_stays_unclaimed_after_a_crash() {
    let fixture = fixture();
    for (what, change, _) in CHANGES {
        for crash in [Crash::Kill, Crash::Power] {
            let disk = MemoryDisk::default();
            let mut rig = seeding(&fixture, &disk);
            change(&disk, &fixture);
            serve_all(&mut rig, &fixture);
            drop(rig);
            let disk = disk.after(crash, &mut riverrun_base::Rng::new(3));
            let mut rig = Rig::new(&disk, 1);
            let (have, unchecked) = rig.open(&fixture).unwrap();
            let of_a = pieces_of(&fixture, FILE);
            assert!(of_a.ones().all(|piece| !have.has(piece)), "{what}");
            let right = rig.check(&fixture, unchecked);
            assert_eq!(
                right.has(PieceIndex(0)),
                matches!(what, "longer" | "shorter" | "touched")
            );
        }
    }
}

#[test]
fn a_change_while_we_are_away_is_found_whatever_its_times_say() {
    let fixture = fixture();
    for (what, change, right) in CHANGES {
        let disk = MemoryDisk::default();
        let mut rig = seeding(&fixture, &disk);
        rig.submit(StorageJob::Close);
        rig.run();
        change(&disk, &fixture);
        let (have, unchecked) = rig.open(&fixture).unwrap();
        assert!(!have.has(PieceIndex(0)), "{what}");
        assert_eq!(rig.check(&fixture, unchecked).count_ones(), right, "{what}");
    }
}

#[test]
fn a_file_that_changes_while_it_is_downloaded_is_not_claimed() {
    let fixture = fixture();
    let (mut rig, disk) = Rig::fresh(&fixture);
    rig.download(&fixture, PieceIndex(0));
    rig.download(&fixture, PieceIndex(1));
    assert!(
        changed(&rig.run_done()).is_empty(),
        "our own writes are no change"
    );
    disk.edit(&path(), |it| it[0] ^= 1, false);
    let done = rig.wait(Duration::from_mins(1));
    assert!(durable(&done).is_empty(), "{done:?}");
    assert_eq!(changed(&done), [FILE]);

    rig.download(&fixture, PieceIndex(2));
    let done = rig.run_done();
    let lost = |done: &StorageDone| {
        matches!(
            done,
            StorageDone::Checked {
                piece: PieceIndex(2),
                ok: false
            }
        )
    };
    assert!(done.iter().any(lost), "it can be written nowhere: {done:?}");
    let foreign = rig.file("t/a").unwrap();
    assert_eq!(foreign[0], fixture.contents[0][0] ^ 1);

    let found = rig.check(&fixture, pieces_of(&fixture, FILE));
    assert_eq!(found.ones().collect::<Vec<_>>(), [PieceIndex(1)]);
    let done = rig.download_all(&fixture);
    assert!(changed(&done).is_empty(), "{done:?}");
    rig.submit(StorageJob::Close);
    rig.run();
    assert!(rig.is_complete(&fixture));
    assert!(rig.open(&fixture).unwrap().0.all());
}

#[test]
fn a_file_that_changes_after_it_was_closed_to_make_room_is_not_claimed() {
    let names: Vec<String> = (0..70).map(|n| format!("{n:02}")).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (&name[..], KIB)).collect();
    let fixture = Fixture::new(MetaVersion::V2, PIECE, &files);
    let (mut rig, disk) = Rig::fresh(&fixture);
    for piece in fixture.pieces() {
        rig.download(&fixture, piece);
    }
    rig.run();
    let first = Path::new(ROOT).join("t/00");
    disk.edit(&first, |it| it[0] ^= 1, false);
    rig.submit(StorageJob::Sync);
    let durable = durable(&rig.run_done());
    assert_eq!(durable.len(), 69);
    assert!(!durable.contains(&PieceIndex(0)));
}

#[test]
fn a_piece_is_not_written_over_a_change() {
    let fixture = fixture();
    let (mut rig, disk) = Rig::fresh(&fixture);
    rig.download(&fixture, PieceIndex(0));
    rig.run();
    let foreign = vec![9; 100 * KIB];
    disk.edit(&path(), |it| it.clone_from(&foreign), false);
    rig.download(&fixture, PieceIndex(1));
    let done = rig.run_done();
    assert_eq!(changed(&done), [FILE]);
    assert_eq!(rig.file("t/a").unwrap(), foreign);
    // Nothing of it is ours any more: after a check it is as any other file in the way.
    assert!(rig.check(&fixture, pieces_of(&fixture, FILE)).none());
    rig.download(&fixture, PieceIndex(1));
    let done = rig.run_done();
    let conflict =
        |done: &StorageDone| matches!(done, StorageDone::Fault(StorageFault::Conflict { .. }));
    assert!(done.iter().any(conflict), "{done:?}");
    assert_eq!(rig.file("t/a").unwrap(), foreign);
}

#[test]
fn nobody_is_blamed_for_blocks_that_were_changed_on_the_disk() {
    let fixture = Fixture::single(MetaVersion::V1, 512 * 1024, 1024 * KIB);
    for at in [10, 400 * KIB] {
        let (mut rig, disk) = Rig::cramped(&fixture);
        let piece = PieceIndex(0);
        for (n, (span, block)) in fixture.blocks(piece).iter().enumerate() {
            rig.store_block(*span, block);
            if n == 28 {
                rig.run();
                let file = Path::new(ROOT).join("t");
                disk.edit(&file, |it| it[at] ^= 1, false);
            }
        }
        rig.verify(&fixture, piece);
        let done = rig.run_done();
        let failed = done.iter().find_map(|done| match done {
            StorageDone::Failed { blocks, .. } => Some(blocks),
            _ => None,
        });
        let blamed = riverrun_swarm::BlockDigests::V1(Vec::new());
        assert!(failed.is_none_or(|blocks| *blocks == blamed), "{done:?}");
    }
}

#[test]
fn no_hashes_of_a_changed_file_are_given() {
    let fixture = fixture();
    let disk = MemoryDisk::default();
    let mut rig = seeding(&fixture, &disk);
    disk.edit(&path(), |it| it[0] ^= 1, false);
    let request = HashRequest {
        pieces_root: fixture.layout().files()[0].pieces_root.unwrap(),
        base_layer: 0,
        index: 0,
        count: 2,
        proof_layers: 0,
    };
    rig.submit(StorageJob::HashLeaves {
        conn: CONN,
        piece: PieceIndex(0),
        request,
    });
    let done = rig.run_done();
    assert_eq!(changed(&done), [FILE]);
    let given = |done: &StorageDone| matches!(done, StorageDone::Leaves { .. });
    assert!(!done.iter().any(given), "{done:?}");
}
