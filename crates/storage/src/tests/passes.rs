//! Making torrents of real files, and holding files against torrents.

use std::cell::Cell;
use std::fs;
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use riverrun_base::FileIndex;
use riverrun_metainfo::create::{CreateOptions, Plan};
use riverrun_metainfo::{MetaVersion, PieceHashes};
use tempfile::TempDir;

use super::fixture::Fixture;
use crate::create::{HashError, WalkError, WalkOptions, hash, walk};
use crate::verify::PieceStatus::{Missing, Right, Wrong};
use crate::verify::{Cancelled, FileStatus, PieceStatus, verify};
use crate::{Progress, Watch};

const KIB: usize = 1024;
const THREADS: NonZero<usize> = NonZero::new(3).unwrap();
const VERSIONS: [MetaVersion; 3] = [MetaVersion::V1, MetaVersion::V2, MetaVersion::Hybrid];
const ALL: WalkOptions<'_> = WalkOptions {
    hidden: true,
    exclude: &|_| false,
};

fn fixture(version: MetaVersion) -> Fixture {
    Fixture::new(
        version,
        32 * 1024,
        &[("a/one", 70 * KIB + 3), ("b", 0), ("c", 32 * KIB), ("d", 5)],
    )
}

fn put(fixture: &Fixture) -> TempDir {
    let root = TempDir::new().unwrap();
    for (path, content) in fixture.files() {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    root
}

fn unwatched(run: impl FnOnce(Watch<'_>)) {
    run(Watch {
        progress: &|_| {},
        cancel: &AtomicBool::new(false),
    });
}

fn plan(path: &Path, version: MetaVersion) -> Plan {
    let mut options = CreateOptions::new(b"t".to_vec(), version);
    options.piece_len = Some(32 * 1024);
    Plan::new(walk(path, ALL).unwrap().sources, options).unwrap()
}

#[test]
fn a_torrent_of_files_is_the_one_they_came_from() {
    for version in VERSIONS {
        let fixture = fixture(version);
        let root = put(&fixture);
        let path = root.path().join("t");
        let total = AtomicU64::new(0);
        let progress = |progress: Progress| {
            total.fetch_max(progress.done_bytes, Ordering::Relaxed);
        };
        let watch = Watch {
            progress: &progress,
            cancel: &AtomicBool::new(false),
        };
        let made = hash(&path, &plan(&path, version), THREADS, watch).unwrap();
        assert_eq!(made.info.hashes(), fixture.info.hashes(), "{version:?}");
        assert_eq!(total.into_inner(), fixture.layout().payload_len());
        let hashes = PieceHashes::new(&made.info, &made.piece_layers);
        unwatched(|watch| {
            let report = verify(&made.info, &hashes, root.path(), THREADS, watch).unwrap();
            assert!(report.is_right(), "{report:?}");
            assert!(report.extra.is_empty());
        });
    }
}

#[test]
fn a_single_file_is_a_torrent_too() {
    let fixture = Fixture::single(MetaVersion::Hybrid, 32 * 1024, 100 * KIB);
    let root = put(&fixture);
    let path = root.path().join("t");
    unwatched(|watch| {
        let made = hash(&path, &plan(&path, MetaVersion::Hybrid), THREADS, watch).unwrap();
        assert_eq!(made.info.hashes(), fixture.info.hashes());
    });
}

#[test]
fn verification_says_what_is_wrong_with_each_file() {
    let fixture = fixture(MetaVersion::Hybrid);
    let check = |change: &dyn Fn(&Path), file: u32, status: FileStatus, pieces: &[PieceStatus]| {
        let root = put(&fixture);
        change(&root.path().join("t"));
        unwatched(|watch| {
            let report =
                verify(&fixture.info, &fixture.hashes, root.path(), THREADS, watch).unwrap();
            assert!(!report.is_right());
            let of_file = report
                .files
                .iter()
                .find(|(index, _)| *index == FileIndex(file))
                .unwrap();
            assert_eq!(of_file.1, status);
            let range = fixture.layout().pieces_of(FileIndex(file));
            assert_eq!(
                report.pieces[range.start as usize..range.end as usize],
                *pieces
            );
        });
    };
    let mut wrong = fixture.contents[0].clone();
    wrong[40 * KIB] ^= 1;
    let wrong_one = |dir: &Path| fs::write(dir.join("a/one"), &wrong).unwrap();
    check(
        &wrong_one,
        0,
        FileStatus::WrongPieces(1),
        &[Right, Wrong, Right],
    );
    let shorten =
        |dir: &Path| fs::write(dir.join("a/one"), &fixture.contents[0][..40 * KIB]).unwrap();
    let short = FileStatus::WrongLen { actual: 40 * 1024 };
    check(&shorten, 0, short, &[Right, Missing, Missing]);
    check(
        &|dir| fs::remove_file(dir.join("b")).unwrap(),
        2,
        FileStatus::Missing,
        &[],
    );
    let replace = |dir: &Path| {
        fs::remove_file(dir.join("c")).unwrap();
        symlink(dir.join("d"), dir.join("c")).unwrap();
    };
    check(
        &replace,
        3,
        FileStatus::NoFile("a symbolic link"),
        &[Missing],
    );
}

/// More pieces than a group has, each longer than what is read of it at a time.
fn long_pieces(version: MetaVersion) -> Fixture {
    let files = [("a", 9000 * KIB + 5), ("b", 100 * KIB), ("c", 4000 * KIB)];
    Fixture::new(version, 256 * 1024, &files)
}

#[test]
fn pieces_longer_than_what_is_read_at_a_time_are_hashed_whole() {
    for version in VERSIONS {
        let fixture = long_pieces(version);
        let root = put(&fixture);
        let path = root.path().join("t");
        let mut options = CreateOptions::new(b"t".to_vec(), version);
        options.piece_len = Some(256 * 1024);
        let plan = Plan::new(walk(&path, ALL).unwrap().sources, options).unwrap();
        unwatched(|watch| {
            let made = hash(&path, &plan, THREADS, watch).unwrap();
            assert_eq!(made.info.hashes(), fixture.info.hashes(), "{version:?}");
        });
    }
}

#[test]
fn a_piece_that_cannot_be_read_does_not_touch_its_neighbours() {
    for version in VERSIONS {
        let fixture = long_pieces(version);
        let root = put(&fixture);
        // In the middle of the fifth piece, behind its first chunk.
        let a = fs::File::options()
            .write(true)
            .open(root.path().join("t/a"))
            .unwrap();
        a.set_len(4 * 256 * 1024 + 200 * 1024).unwrap();
        let (layout, total) = (fixture.layout(), AtomicU64::new(0));
        let watch = Watch {
            progress: &|progress| {
                total.fetch_max(progress.done_bytes, Ordering::Relaxed);
            },
            cancel: &AtomicBool::new(false),
        };
        let report = verify(&fixture.info, &fixture.hashes, root.path(), THREADS, watch).unwrap();
        let gone = 4..layout.pieces_of(FileIndex(0)).end;
        for (piece, status) in (0..).zip(&report.pieces) {
            let expect = if gone.contains(&piece) {
                Missing
            } else {
                Right
            };
            assert_eq!(*status, expect, "{piece} of {version:?}");
        }
        assert_eq!(total.into_inner(), layout.payload_len());
    }
}

#[test]
fn files_of_others_are_listed() {
    let fixture = fixture(MetaVersion::V1);
    let root = put(&fixture);
    fs::create_dir(root.path().join("t/x")).unwrap();
    fs::write(root.path().join("t/x/y"), b"").unwrap();
    fs::write(root.path().join("beside"), b"").unwrap();
    unwatched(|watch| {
        let report = verify(&fixture.info, &fixture.hashes, root.path(), THREADS, watch).unwrap();
        assert!(report.is_right());
        assert_eq!(report.extra, [PathBuf::from("t/x/y")]);
    });
}

#[test]
fn a_pass_can_be_cancelled() {
    let fixture = fixture(MetaVersion::V2);
    let root = put(&fixture);
    let watch = Watch {
        progress: &|_| {},
        cancel: &AtomicBool::new(true),
    };
    assert_eq!(
        verify(&fixture.info, &fixture.hashes, root.path(), THREADS, watch),
        Err(Cancelled)
    );
    let path = root.path().join("t");
    let made = hash(&path, &plan(&path, MetaVersion::V2), THREADS, watch);
    assert!(matches!(made, Err(HashError::Cancelled)));
}

#[test]
fn a_file_that_changes_during_the_pass_is_told() {
    let fixture = fixture(MetaVersion::V1);
    let root = put(&fixture);
    let path = root.path().join("t");
    let plan = plan(&path, MetaVersion::V1);
    let touch = |_: Progress| fs::write(path.join("a/one"), b"shorter").unwrap();
    let watch = Watch {
        progress: &touch,
        cancel: &AtomicBool::new(false),
    };
    let made = hash(&path, &plan, NonZero::<usize>::MIN, watch);
    assert!(
        matches!(&made, Err(HashError::Changed(changed)) if changed.ends_with("a/one")),
        "{made:?}"
    );
    // Before the pass as well.
    unwatched(|watch| {
        let made = hash(&path, &plan, THREADS, watch);
        assert!(matches!(made, Err(HashError::Changed(_))));
    });
}

#[test]
fn the_walk_takes_what_is_asked_for() {
    let root = TempDir::new().unwrap();
    let dir = root.path().join("dir");
    fs::create_dir_all(dir.join("sub")).unwrap();
    for name in ["a", ".hidden", "sub/b", "sub/c.tmp"] {
        fs::write(dir.join(name), name).unwrap();
    }
    symlink(dir.join("a"), dir.join("link")).unwrap();
    let names = |options| {
        let sources = walk(&dir, options).unwrap().sources;
        let mut names: Vec<String> = sources
            .iter()
            .map(|source| String::from_utf8(source.path.join(&b'/')).unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(ALL), [".hidden", "a", "link", "sub/b", "sub/c.tmp"]);
    let asked = Cell::new(0);
    let exclude = |path: &Path| {
        asked.set(asked.get() + 1);
        path.extension().is_some_and(|extension| extension == "tmp")
    };
    assert_eq!(
        names(WalkOptions {
            hidden: false,
            exclude: &exclude
        }),
        ["a", "link", "sub/b"]
    );
    assert_eq!(asked.get(), 5, "what is hidden is not even asked for");
    assert_eq!(
        names(WalkOptions {
            hidden: true,
            exclude: &|path| path == Path::new("sub")
        }),
        [".hidden", "a", "link"]
    );
}

#[test]
fn the_walk_refuses_what_makes_no_torrent() {
    let root = TempDir::new().unwrap();
    symlink(root.path(), root.path().join("back")).unwrap();
    assert!(matches!(walk(root.path(), ALL), Err(WalkError::Loop(path)) if path.ends_with("back")));
    fs::remove_file(root.path().join("back")).unwrap();
    fs::write(
        root.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9")),
        b"",
    )
    .unwrap();
    let error = walk(root.path(), ALL).unwrap_err();
    assert!(error.to_string().contains("caf\\xe9"), "{error}");
    assert!(matches!(
        walk(&root.path().join("no"), ALL),
        Err(WalkError::Io { .. })
    ));
}
