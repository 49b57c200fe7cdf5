//! Real files, all threads.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use riverrun_base::{Bitfield, Blocks as _, PieceIndex};
use riverrun_metainfo::MetaVersion;
use riverrun_swarm::{StorageDone, StorageFault, StorageJob, TorrentKey};
use rustix::fs::{CWD, FileType, Mode};
use tempfile::TempDir;

use super::fixture::Fixture;
use super::rig::{CONN, TORRENT};
use crate::disk::CACHE_BYTES_MIN;
use crate::{Completion, Disk, Preallocation, StorageConfig, StorageOptions};

const KIB: usize = 1024;

/// Puts something at a path.
type Put<'a> = &'a dyn Fn(&Path);

/// Far longer than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// A disk, and what it says.
struct Real {
    disk: Disk,
    said: Receiver<Completion>,
    room: Receiver<()>,
}

fn start(state: &Path, set: impl Fn(&mut StorageConfig)) -> Real {
    let mut config = StorageConfig::new(state.join("journal"));
    config.retry_interval = Duration::from_millis(10);
    config.sync_interval = PATIENCE;
    set(&mut config);
    let ((say, said), (make_room, room)) = (channel(), channel());
    let completions = move |new: Vec<Completion>| new.into_iter().for_each(|it| drop(say.send(it)));
    let on_room = move || {
        // A test that is over does not listen any more.
        let _ = make_room.send(());
    };
    let disk = Disk::start(config, completions, on_room).unwrap();
    Real { disk, said, room }
}

impl Real {
    fn submit(&self, job: StorageJob) {
        self.disk.submit(&mut vec![(TORRENT, job)]);
    }

    fn attach(&self, root: &Path) {
        self.disk
            .attach(TORRENT, root.to_owned(), StorageOptions::default());
    }

    fn next(&self) -> StorageDone {
        loop {
            match self.said.recv_timeout(PATIENCE).expect("storage answers") {
                Completion::Done { done, .. } => return done,
                Completion::Serve { .. } => {}
            }
        }
    }

    /// What is said up to the first for which `last` holds.
    fn until(&self, last: impl Fn(&StorageDone) -> bool) -> StorageDone {
        loop {
            let done = self.next();
            if last(&done) {
                return done;
            }
        }
    }

    fn fault(&self) -> StorageFault {
        let StorageDone::Fault(fault) = self.until(|done| matches!(done, StorageDone::Fault(_)))
        else {
            unreachable!()
        };
        fault
    }

    fn open(&self, fixture: &Fixture) -> (Bitfield, Bitfield) {
        self.ask_open(fixture);
        self.opened()
    }

    fn ask_open(&self, fixture: &Fixture) {
        let wanted = vec![true; fixture.layout().files().len()];
        self.submit(StorageJob::Open {
            info: fixture.info.clone(),
            wanted,
        });
    }

    fn opened(&self) -> (Bitfield, Bitfield) {
        match self.until(|done| matches!(done, StorageDone::Opened { .. })) {
            StorageDone::Opened { have, unchecked } => (have, unchecked),
            _ => unreachable!(),
        }
    }

    fn store(&self, fixture: &Fixture, piece: PieceIndex) {
        let blocks = self.disk.blocks();
        for (span, block) in fixture.blocks(piece) {
            let mut charged = loop {
                match blocks.allocate(block.len()) {
                    Some(charged) => break charged,
                    None => self.room.recv_timeout(PATIENCE).expect("memory is freed"),
                }
            };
            charged.copy_from_slice(&block);
            self.submit(StorageJob::Store {
                span,
                block: charged.freeze(),
            });
        }
    }

    fn verify(&self, fixture: &Fixture, piece: PieceIndex) {
        self.submit(StorageJob::Verify {
            piece,
            expected: fixture.hashes.get(piece).unwrap(),
        });
    }

    fn download(&self, fixture: &Fixture, pieces: impl Iterator<Item = PieceIndex>) {
        for piece in pieces {
            self.store(fixture, piece);
            self.verify(fixture, piece);
        }
        self.submit(StorageJob::Sync);
        self.until(|done| matches!(done, StorageDone::Synced));
    }
}

fn assert_complete(root: &Path, fixture: &Fixture) {
    for (path, content) in fixture.files() {
        assert!(fs::read(root.join(path)).unwrap() == content, "{path}");
    }
}

fn dirs() -> (TempDir, TempDir) {
    (TempDir::new().unwrap(), TempDir::new().unwrap())
}

fn fixture() -> Fixture {
    Fixture::new(
        MetaVersion::Hybrid,
        64 * 1024,
        &[("a/one", 300 * KIB + 1), ("b", 0), ("c", 100 * KIB)],
    )
}

#[test]
fn a_download_is_believed_after_a_clean_stop() {
    let ((state, root), fixture) = (dirs(), fixture());
    // The directory is made with the first file.
    let root = root.path().join("not/there");
    let real = start(state.path(), |_| {});
    real.attach(&root);
    let (have, unchecked) = real.open(&fixture);
    assert!(have.none() && unchecked.none() && !root.exists());
    real.download(&fixture, fixture.pieces());
    real.disk.shutdown();
    assert_complete(&root, &fixture);

    let real = start(state.path(), |_| {});
    real.attach(&root);
    let (have, unchecked) = real.open(&fixture);
    assert!(have.all() && unchecked.none());
    real.disk.shutdown();

    fs::write(root.join("t/c"), vec![1; 100 * KIB]).unwrap();
    let real = start(state.path(), |_| {});
    real.attach(&root);
    let (have, unchecked) = real.open(&fixture);
    assert_eq!((have.count_ones(), unchecked.count_ones()), (5, 2));
}

#[test]
fn what_was_durable_is_believed_after_a_kill() {
    let ((state, root), fixture) = (dirs(), fixture());
    let real = start(state.path(), |_| {});
    real.attach(root.path());
    real.open(&fixture);
    real.download(&fixture, [PieceIndex(0), PieceIndex(5)].into_iter());
    real.store(&fixture, PieceIndex(2));
    real.verify(&fixture, PieceIndex(2));
    real.until(|done| matches!(done, StorageDone::Verified(PieceIndex(2))));
    drop(real);

    let real = start(state.path(), |_| {});
    real.attach(root.path());
    let (have, unchecked) = real.open(&fixture);
    assert_eq!(
        have.ones().collect::<Vec<_>>(),
        [PieceIndex(0), PieceIndex(5)]
    );
    assert!(
        unchecked.ones().all(|piece| piece == PieceIndex(2)),
        "only what was not synced: {unchecked:?}"
    );
    let rest: Vec<PieceIndex> = have.zeros().collect();
    real.download(&fixture, rest.into_iter());
    assert_complete(root.path(), &fixture);
}

#[test]
fn many_large_pieces_at_once_fit_the_smallest_memory() {
    let fixture = Fixture::single(MetaVersion::V2, 1 << 20, 4 << 20);
    let (state, root) = dirs();
    let real = start(state.path(), |config| config.cache_bytes = CACHE_BYTES_MIN);
    real.attach(root.path());
    real.open(&fixture);
    let blocks = real.disk.blocks();
    // One block of each piece in turn: all are unfinished until the end.
    let pieces: Vec<_> = fixture
        .pieces()
        .map(|piece| fixture.blocks(piece))
        .collect();
    for n in 0..pieces[0].len() {
        for piece in &pieces {
            let (span, block) = &piece[n];
            let mut charged = loop {
                match blocks.allocate(block.len()) {
                    Some(charged) => break charged,
                    None => real.room.recv_timeout(PATIENCE).expect("memory is freed"),
                }
            };
            charged.copy_from_slice(block);
            real.submit(StorageJob::Store {
                span: *span,
                block: charged.freeze(),
            });
        }
    }
    fixture
        .pieces()
        .for_each(|piece| real.verify(&fixture, piece));
    real.disk.shutdown();
    assert_complete(root.path(), &fixture);
    assert_eq!(blocks.used_bytes(), 0);
}

#[test]
fn another_process_is_told_to_wait() {
    let ((state, root), fixture) = (dirs(), fixture());
    let first = start(state.path(), |_| {});
    first.attach(root.path());
    first.open(&fixture);
    let second = start(state.path(), |_| {});
    second.attach(root.path());
    second.ask_open(&fixture);
    assert!(matches!(second.fault(), StorageFault::Locked { .. }));
    first.disk.shutdown();
    second.opened();
}

#[test]
fn a_process_with_journals_elsewhere_does_not_write_to_our_files() {
    let ((state, root), fixture) = (dirs(), fixture());
    let elsewhere = TempDir::new().unwrap();
    let first = start(state.path(), |_| {});
    first.attach(root.path());
    first.open(&fixture);
    first.download(&fixture, [PieceIndex(0)].into_iter());
    let second = start(elsewhere.path(), |_| {});
    second.attach(root.path());
    let (_, pieces) = second.open(&fixture);
    second.submit(StorageJob::Check {
        pieces,
        hashes: fixture.hashes.clone(),
    });
    second.until(|done| matches!(done, StorageDone::CheckEnded));
    second.store(&fixture, PieceIndex(1));
    second.verify(&fixture, PieceIndex(1));
    assert!(matches!(second.fault(), StorageFault::Locked { .. }));
}

#[test]
fn what_is_no_file_is_a_conflict_and_nothing_leads_outside() {
    let fixture = fixture();
    let outside = TempDir::new().unwrap();
    let in_the_way: [(&str, Put<'_>); 5] = [
        ("t/c", &|path| fs::create_dir_all(path).unwrap()),
        ("t/c", &|path| {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap();
        }),
        ("t/c", &|path| {
            symlink(outside.path().join("c"), path).unwrap();
        }),
        ("t/a", &|path| symlink(outside.path(), path).unwrap()),
        ("t/a", &|path| fs::write(path, b"a file").unwrap()),
    ];
    for (at, put) in in_the_way {
        let (state, root) = dirs();
        fs::create_dir_all(root.path().join("t")).unwrap();
        put(&root.path().join(at));
        let real = start(state.path(), |_| {});
        real.attach(root.path());
        real.ask_open(&fixture);
        let fault = real.fault();
        assert!(
            matches!(&fault, StorageFault::Conflict { path, .. } if path.contains(at)),
            "{fault:?}"
        );
        // Taken away, the torrent goes on by itself.
        let path = root.path().join(at);
        fs::remove_dir(&path)
            .or_else(|_| fs::remove_file(&path))
            .unwrap();
        real.opened();
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_link_made_later_is_not_followed_either() {
    let ((state, root), fixture) = (dirs(), fixture());
    let outside = TempDir::new().unwrap();
    let real = start(state.path(), |_| {});
    real.attach(root.path());
    real.open(&fixture);
    symlink(outside.path(), root.path().join("t")).unwrap();
    real.store(&fixture, PieceIndex(0));
    real.verify(&fixture, PieceIndex(0));
    assert!(matches!(real.fault(), StorageFault::Conflict { .. }));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_directory_that_cannot_be_made_is_a_fault() {
    let ((state, root), fixture) = (dirs(), fixture());
    fs::write(root.path().join("file"), b"").unwrap();
    let real = start(state.path(), |_| {});
    real.attach(&root.path().join("file/below"));
    real.ask_open(&fixture);
    let fault = real.fault();
    assert!(matches!(fault, StorageFault::Io { .. }), "{fault:?}");
    real.disk.shutdown();
}

#[test]
fn other_names_of_a_file_keep_their_bytes() {
    let fixture = Fixture::single(MetaVersion::V1, 64 * 1024, 200 * KIB);
    let (state, root) = dirs();
    let mut content = fixture.contents[0].clone();
    content[0] ^= 1;
    fs::write(root.path().join("other"), &content).unwrap();
    fs::hard_link(root.path().join("other"), root.path().join("t")).unwrap();
    let real = start(state.path(), |_| {});
    real.attach(root.path());
    let (_, unchecked) = real.open(&fixture);
    real.submit(StorageJob::Check {
        pieces: unchecked,
        hashes: fixture.hashes.clone(),
    });
    real.until(|done| matches!(done, StorageDone::CheckEnded));
    real.download(&fixture, [PieceIndex(0)].into_iter());
    real.disk.shutdown();
    assert_complete(root.path(), &fixture);
    assert!(fs::read(root.path().join("other")).unwrap() == content);
    assert_eq!(fs::metadata(root.path().join("t")).unwrap().nlink(), 1);
    assert_eq!(
        fs::read_dir(root.path()).unwrap().count(),
        2,
        "no copy is left over"
    );

    let real = start(state.path(), |_| {});
    real.attach(root.path());
    assert!(real.open(&fixture).0.all());
}

#[test]
fn holes_are_not_checked_and_full_files_have_none() {
    let fixture = Fixture::single(MetaVersion::V1, 64 * 1024, 1 << 20);
    let (state, root) = dirs();
    let file = fs::File::create(root.path().join("t")).unwrap();
    file.set_len(1 << 20).unwrap();
    let real = start(state.path(), |_| {});
    real.attach(root.path());
    let (have, unchecked) = real.open(&fixture);
    assert!(have.none() && unchecked.none(), "{unchecked:?}");
    drop((real, file));

    let (state, root) = dirs();
    let real = start(state.path(), |_| {});
    let options = StorageOptions {
        preallocation: Preallocation::Full,
        ..StorageOptions::default()
    };
    real.disk.attach(TORRENT, root.path().to_owned(), options);
    real.open(&fixture);
    real.download(&fixture, [PieceIndex(3)].into_iter());
    assert!(fs::metadata(root.path().join("t")).unwrap().blocks() * 512 >= 1 << 20);
}

#[test]
fn reads_of_many_torrents_go_through_few_files() {
    let state = TempDir::new().unwrap();
    let fixtures: Vec<Fixture> = (1..20)
        .map(|n| Fixture::new(MetaVersion::V1, 16 * 1024, &[("a", n * 5000), ("b", 9000)]))
        .collect();
    let real = start(state.path(), |config| config.open_files_max = 2);
    let roots: Vec<TempDir> = fixtures.iter().map(|_| TempDir::new().unwrap()).collect();
    let key = |n: usize| TorrentKey::new(u32::try_from(n).unwrap(), 0);
    for (n, (fixture, root)) in fixtures.iter().zip(&roots).enumerate() {
        for (path, content) in fixture.files() {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        real.disk
            .attach(key(n), root.path().to_owned(), StorageOptions::default());
        let open = StorageJob::Open {
            info: fixture.info.clone(),
            wanted: vec![true; 2],
        };
        real.disk.submit(&mut vec![(key(n), open)]);
        real.opened();
        let pieces = Bitfield::full(fixture.layout().piece_count());
        real.disk.submit(&mut vec![(
            key(n),
            StorageJob::Check {
                pieces,
                hashes: fixture.hashes.clone(),
            },
        )]);
        real.until(|done| matches!(done, StorageDone::CheckEnded));
    }
    for _ in 0..3 {
        let spans = fixtures
            .iter()
            .map(|fixture| fixture.layout().piece_span(PieceIndex(0)));
        let mut jobs = spans
            .enumerate()
            .map(|(n, span)| (key(n), StorageJob::Read { conn: CONN, span }))
            .collect();
        real.disk.submit(&mut jobs);
        for _ in 0..fixtures.len() {
            let served = real.said.recv_timeout(PATIENCE).unwrap();
            let Completion::Serve { span, block, .. } = served else {
                panic!("{served:?}")
            };
            assert!(fixtures.iter().any(|fixture| fixture.bytes(span) == *block));
        }
    }
}

#[test]
fn threads_end_when_the_last_clone_is_dropped() {
    let (state, root) = dirs();
    let fixture = Arc::new(fixture());
    let real = start(state.path(), |_| {});
    real.attach(root.path());
    real.open(&fixture);
    drop(real.disk.clone());
    real.submit(StorageJob::Sync);
    real.until(|done| matches!(done, StorageDone::Synced));
    let Real { disk, said, .. } = real;
    drop(disk);
    assert!(
        said.recv_timeout(PATIENCE)
            .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Disconnected)
    );
}
