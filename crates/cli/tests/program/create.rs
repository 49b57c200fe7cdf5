//! `create`, and `verify` of what it makes.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::run::{Program, Ran};
use crate::torrents::shown;

/// A directory `data` with three files, one of them empty.
fn data() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("data/sub")).unwrap();
    fs::write(dir.path().join("data/a.txt"), "a".repeat(40_000)).unwrap();
    fs::write(dir.path().join("data/sub/b.bin"), "b".repeat(70_000)).unwrap();
    fs::write(dir.path().join("data/sub/empty"), "").unwrap();
    dir
}

fn create(dir: &Path, args: &[&str]) -> Ran {
    Program::new(&[&["create", "data"], args].concat()).run_in(dir)
}

fn verify(dir: &Path, args: &[&str]) -> Ran {
    Program::new(&[&["verify", "data.torrent"], args].concat()).run_in(dir)
}

#[test]
fn a_directory_becomes_a_hybrid_torrent_of_its_name() {
    let dir = data();
    let ran = create(
        dir.path(),
        &[
            "-t",
            "http://a/announce,http://b/announce",
            "-t",
            "udp://c:1",
            "--comment",
            "hi",
        ],
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
    assert!(
        ran.stderr.starts_with("✔ data → data.torrent  110 kB in "),
        "{}",
        ran.stderr
    );
    let json = shown(dir.path(), "data.torrent");
    assert_eq!(
        (&json["version"], &json["total_size"], &json["comment"]),
        (&"hybrid".into(), &110_000.into(), &"hi".into())
    );
    assert_eq!(
        json["trackers"].to_string(),
        r#"[["http://a/announce","http://b/announce"],["udp://c:1"]]"#
    );
    assert_eq!(json["creation_date"], "2026-01-01T00:00:00Z");
    let ran = verify(dir.path(), &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
    assert!(
        ran.stderr.starts_with("✔ data  110 kB in "),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_same_data_gives_the_same_torrent_without_a_date() {
    let torrents = [data(), data()].map(|dir| {
        assert_eq!(create(dir.path(), &["--date", "none"]).code, 0);
        fs::read(dir.path().join("data.torrent")).unwrap()
    });
    assert_eq!(torrents[0], torrents[1]);
}

#[test]
fn options_are_in_the_torrent() {
    for (args, key, value) in [
        (&["--v1"][..], "info_hash_v2", "null"),
        (&["--v2"], "info_hash_v1", "null"),
        (&["--piece", "16KiB"], "piece_length", "16384"),
        (&["--private"], "private", "true"),
        (&["--source", "S"], "source", "\"S\""),
        (
            &["--name", "other", "-o", "data.torrent"],
            "name",
            "\"other\"",
        ),
        (
            &["--exclude", "*.bin", "--exclude", "empty"],
            "total_size",
            "40000",
        ),
        (&["--exclude", "sub"], "total_size", "40000"),
        (&["-w", "http://w/"], "web_seeds", "[\"http://w/\"]"),
        (&["--node", "n:1"], "nodes", "[\"n:1\"]"),
        (
            &["--date", "2000-01-01T00:00:00Z"],
            "creation_date",
            "\"2000-01-01T00:00:00Z\"",
        ),
        (&["--date", "none"], "creation_date", "null"),
    ] {
        let dir = data();
        let ran = create(dir.path(), args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        assert_eq!(
            shown(dir.path(), "data.torrent")[key].to_string(),
            value,
            "{args:?}"
        );
    }
}

#[test]
fn scripts_hear_of_progress_and_the_result() {
    let dir = data();
    let ran = create(dir.path(), &["--json"]);
    let events: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (done, progress) = events.split_last().unwrap();
    assert!(
        !progress.is_empty() && progress.iter().all(|event| event["event"] == "progress"),
        "{}",
        ran.stdout
    );
    assert_eq!(progress.last().unwrap()["bytes"], 110_000);
    let json = shown(dir.path(), "data.torrent");
    for (key, value) in [
        ("event", &Value::from("done")),
        ("info_hash", &json["info_hash_v1"]),
        ("info_hash_v2", &json["info_hash_v2"]),
        ("path", &"data.torrent".into()),
        ("pieces", &json["pieces"]),
        ("piece_len", &json["piece_length"]),
        ("bytes", &110_000.into()),
    ] {
        assert_eq!(&done[key], value, "{key}");
    }
    assert!(done["bytes_per_s"].as_u64() > Some(0), "{done}");
}

#[test]
fn a_torrent_in_the_way_stays() {
    let dir = data();
    fs::write(dir.path().join("data.torrent"), "mine").unwrap();
    let ran = create(dir.path(), &[]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (
            11,
            "error: data.torrent: exists already\n  hint: --force replaces it\n"
        )
    );
    assert_eq!(fs::read(dir.path().join("data.torrent")).unwrap(), b"mine");
    assert_eq!(create(dir.path(), &["--force"]).code, 0);
}

#[test]
fn a_torrent_file_is_not_in_its_own_torrent() {
    let dir = data();
    for _ in 0..2 {
        let ran = create(dir.path(), &["-o", "data/own.torrent", "--force"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(shown(dir.path(), "data/own.torrent")["total_size"], 110_000);
    }
}

#[test]
fn stdout_takes_the_torrent() {
    let dir = data();
    let ran = create(dir.path(), &["-o", "-", "--v1"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    ran.stdout_has("4:name4:data");
}

#[test]
fn what_makes_no_torrent_is_told() {
    for (args, code, words) in [
        (&["--piece", "100"][..], 2, "the piece length 100 is not"),
        (&["--piece", "9GiB"], 2, "too long"),
        (&["--v2", "--piece", "48KiB"], 2, "the piece length 49152"),
        (&["--v1", "--v2"], 2, "cannot be used with"),
        (&["--exclude", "*"], 5, "data: there are no files to share"),
        (&["-t", "nonsense"], 2, "expected an address like udp://"),
        (&["--exclude", "[", "-o", "x"], 2, "invalid value '['"),
    ] {
        let dir = data();
        let ran = create(dir.path(), args);
        assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{args:?}: {}", ran.stderr);
    }
    let ran = Program::new(&["create", "gone"]).run();
    assert_eq!(
        (ran.code, ran.stderr.starts_with("error: gone: ")),
        (5, true),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_flag_silences_the_version_in_the_configuration() {
    let dir = data();
    let program = |args: &[&str]| {
        Program::new(&[&["create", "data", "--force"], args].concat()).var("RIVERRUN_V2", "true")
    };
    assert_eq!(program(&[]).run_in(dir.path()).code, 0);
    assert_eq!(shown(dir.path(), "data.torrent")["version"], "v2");
    assert_eq!(program(&["--v1"]).run_in(dir.path()).code, 0);
    assert_eq!(shown(dir.path(), "data.torrent")["version"], "v1");
}

#[test]
fn damage_is_named_by_file_and_piece() {
    let dir = data();
    assert_eq!(create(dir.path(), &["--piece", "16KiB"]).code, 0);
    let path = dir.path().join("data/sub/b.bin");
    let mut bytes = fs::read(&path).unwrap();
    bytes[20_000] = b'x';
    fs::write(&path, &bytes).unwrap();
    let ran = verify(dir.path(), &[]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (6, "data/sub/b.bin: wrong in piece 4\n")
    );
    assert!(
        ran.stderr
            .ends_with("error: 1 of 8 pieces and 1 of 3 files do not match the torrent\n"),
        "{}",
        ran.stderr
    );

    fs::remove_file(&path).unwrap();
    fs::write(dir.path().join("data/a.txt"), "short").unwrap();
    let ran = verify(dir.path(), &["--json"]);
    assert_eq!(ran.code, 6);
    let events: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let files = events.iter().filter(|event| event["event"] == "file");
    let statuses: Vec<_> = files
        .map(|event| (event["path"].as_str(), event["status"].as_str()))
        .collect();
    assert_eq!(
        statuses,
        [
            (Some("data/a.txt"), Some("wrong_length")),
            (Some("data/sub/b.bin"), Some("missing")),
        ]
    );
    assert!(
        events
            .iter()
            .any(|event| event["event"] == "done" && event["ok"] == false),
        "{}",
        ran.stdout
    );
}

#[test]
fn data_is_found_by_itself_beside_it_and_under_another_name() {
    let dir = data();
    assert_eq!(create(dir.path(), &[]).code, 0);
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    for (path, code) in [("data", 0), (".", 0), ("elsewhere", 6), ("gone", 5)] {
        let ran = verify(dir.path(), &[path]);
        assert_eq!(ran.code, code, "{path}: {}", ran.stderr);
    }
    fs::rename(dir.path().join("data"), dir.path().join("renamed")).unwrap();
    assert_eq!(verify(dir.path(), &["renamed"]).code, 0);
    let ran = verify(dir.path(), &[]);
    assert!(
        ran.code == 6 && ran.stderr.contains("hint: no file is there"),
        "{}",
        ran.stderr
    );
}

#[test]
fn one_file_is_a_torrent_too() {
    let dir = data();
    let ran = Program::new(&["create", "data/a.txt"]).run_in(dir.path());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for path in ["data", "data/a.txt"] {
        let ran = Program::new(&["verify", "a.txt.torrent", path]).run_in(dir.path());
        assert_eq!(ran.code, 0, "{path}: {} {}", ran.stdout, ran.stderr);
    }
}

#[test]
fn files_that_are_not_of_the_torrent_are_named() {
    let dir = data();
    assert_eq!(create(dir.path(), &[]).code, 0);
    fs::write(dir.path().join("data/extra.txt"), "e").unwrap();
    let ran = verify(dir.path(), &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let warning = "warning: one file not of the torrent\n  data/extra.txt\n";
    assert!(ran.stderr.starts_with(warning), "{}", ran.stderr);
}
