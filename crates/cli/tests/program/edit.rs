//! `edit`: what changes, what stays, and what is said about it.

use crate::run::{NOW, Program};
use crate::torrents::{shown, tracked, write};

#[test]
fn trackers_and_comment_change_and_the_torrent_stays_the_same() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.torrent", &tracked());
    let before = shown(dir.path(), "a.torrent");
    let ran = Program::new(&[
        "edit",
        "a.torrent",
        "--add-tracker",
        "udp://c:1,udp://d:1",
        "--remove-tracker",
        "udp://b:1",
        "--set-comment",
        "",
        "--set-date",
        "now",
        "--add-web-seed",
        "http://w/",
    ])
    .run_in(dir.path());
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (0, "✔ a.torrent written\n")
    );
    let after = shown(dir.path(), "a.torrent");
    assert_eq!(after["info_hash_v1"], before["info_hash_v1"]);
    assert_eq!(
        after["trackers"].to_string(),
        "[[\"http://a/announce\"],[\"udp://c:1\",\"udp://d:1\"]]"
    );
    assert_eq!(after["web_seeds"].to_string(), "[\"http://w/\"]");
    assert_eq!(
        (&after["comment"], after["creation_date"].as_str()),
        (&serde_json::Value::Null, Some("2026-01-01T00:00:00Z"))
    );
    assert_eq!(NOW, 1_767_225_600);
}

#[test]
fn a_change_of_the_info_hash_is_said() {
    for args in [
        &["--set-source", "S"][..],
        &["--set-private", "true"],
        &["--set-name", "other"],
    ] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a.torrent", &tracked());
        let before = shown(dir.path(), "a.torrent")["info_hash_v1"].clone();
        let ran = Program::new(&[&["edit", "a.torrent"], args].concat()).run_in(dir.path());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let after = shown(dir.path(), "a.torrent")["info_hash_v1"].clone();
        assert_ne!(before, after);
        for (word, hash) in [("old", &before), ("new", &after)] {
            let line = format!("  {word} {}\n", hash.as_str().unwrap());
            assert!(ran.stderr.contains(&line), "{line} in {}", ran.stderr);
        }
        assert!(
            ran.stderr.starts_with("warning: the info-hash changes"),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn another_file_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.torrent", &tracked());
    write(dir.path(), "b.torrent", b"mine");
    let args = ["edit", "a.torrent", "--set-comment", "x", "-o", "b.torrent"];
    let ran = Program::new(&args).run_in(dir.path());
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (
            11,
            "error: b.torrent: exists already\n  hint: --force replaces it\n"
        )
    );
    assert_eq!(
        std::fs::read(dir.path().join("b.torrent")).unwrap(),
        b"mine"
    );
    let ran = Program::new(&[&args[..], &["--force"]].concat()).run_in(dir.path());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(shown(dir.path(), "b.torrent")["comment"], "x");
    assert_eq!(shown(dir.path(), "a.torrent")["comment"], "hi");
}

#[test]
fn a_torrent_goes_through_a_pipe() {
    let program = |args: &[&str]| {
        Program::new(&[&["edit", "-", "--set-comment", "x"], args].concat()).stdin(&tracked())
    };
    let ran = program(&[]).run();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout_has("7:comment1:x");
    assert_eq!(
        program(&[]).on_terminal().run().code,
        2,
        "not to a terminal"
    );
    assert_eq!(program(&["--json"]).run().code, 2, "not among events");
}

#[test]
fn what_cannot_be_changed_is_told() {
    for (args, code, words) in [
        (&["a.torrent"][..], 2, "nothing to change"),
        (
            &["a.torrent", "--remove-tracker", "udp://x:1"],
            5,
            "the torrent has no tracker udp://x:1",
        ),
        (
            &["a.torrent", "--remove-web-seed", "http://x/"],
            5,
            "the torrent has no web seed http://x/",
        ),
        (
            &["a.torrent", "--add-tracker", "x"],
            2,
            "expected an address like udp://",
        ),
        (
            &["magnet:?xt=urn:btih:0"],
            4,
            "expected a torrent file, found a magnet link",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a.torrent", &tracked());
        let ran = Program::new(&[&["edit"], args].concat()).run_in(dir.path());
        assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{args:?}: {}", ran.stderr);
    }
}
