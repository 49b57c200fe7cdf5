//! `show`: every torrent and link that there is, for people and for scripts.

use std::path::{Path, PathBuf};

use crate::run::Program;
use crate::torrents::{shown, tracked, v1_torrent, write};

#[test]
fn people_read_fields() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.torrent", &tracked());
    let ran = Program::new(&["show", "a.torrent"]).run_in(dir.path());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let expected = "\
name          dir
size          12 B (12 bytes) in 2 files
pieces        1 × 16 KiB
comment       hi
tracker       http://a/announce
tracker       udp://b:1
";
    let without_hash = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("info-hash"));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(without_hash(&ran.stdout), without_hash(expected));
}

#[test]
fn scripts_read_one_object() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.torrent", &tracked());
    let json = shown(dir.path(), "a.torrent");
    for (key, value) in [
        ("name", "\"dir\""),
        ("info_hash_v2", "null"),
        ("piece_length", "16384"),
        ("pieces", "1"),
        ("total_size", "12"),
        ("private", "false"),
        ("trackers", "[[\"http://a/announce\"],[\"udp://b:1\"]]"),
        ("web_seeds", "[]"),
    ] {
        assert_eq!(json[key].to_string(), value, "{key}");
    }
    assert_eq!(json["info_hash_v1"].as_str().map(str::len), Some(40));
    let file = &json["files"][1];
    assert_eq!(
        (file["path"].as_str(), file["length"].as_u64()),
        (Some("dir/sub/two.md"), Some(7))
    );
    assert_eq!(file["pad"], false);
}

#[test]
fn files_are_a_list_or_a_tree() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.torrent", &tracked());
    let shown = |flag| {
        Program::new(&["show", "a.torrent", flag])
            .run_in(dir.path())
            .stdout
    };
    assert_eq!(
        shown("--files"),
        "     5 B  dir/one.txt\n     7 B  dir/sub/two.md\n"
    );
    assert_eq!(
        shown("--tree"),
        "dir/  12 B\n  one.txt  5 B\n  sub/  7 B\n    two.md  7 B\n"
    );
}

#[test]
fn stdin_is_a_torrent_too() {
    let ran = Program::new(&["show", "-", "--json"])
        .stdin(&tracked())
        .run();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout_has("\"name\":\"dir\"");
}

#[test]
fn a_link_shows_what_it_says() {
    let hash = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
    let link =
        format!("magnet:?xt=urn:btih:{hash}&dn=a+b&tr=udp%3A%2F%2Fb%3A1&x.pe=[::1]:6881&so=0,2-4");
    let ran = Program::new(&["show", &link]).run();
    let expected = format!(
        "name          a b\ninfo-hash v1  {hash}\ntracker       udp://b:1\npeer          [::1]:6881\nfiles         0,2-4\n"
    );
    assert_eq!((ran.code, ran.stdout), (0, expected));
    let ran = Program::new(&["show", &link, "--json"]).run();
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (json["info_hash_v1"].as_str(), json["peers"][0].as_str()),
        (Some(hash), Some("[::1]:6881"))
    );
}

#[test]
fn what_is_no_torrent_says_what_it_seems_to_be() {
    let dir = tempfile::tempdir().unwrap();
    for (bytes, hint) in [
        (&b"<!DOCTYPE html><html>"[..], "hint: this is a web page"),
        (b"", "hint: the file is empty"),
        (b"magnet:?xt=urn:btih:00", "hint: this is a magnet link"),
        (b"d4:infoe", "error: a.torrent: "),
        (b"de", "the info dictionary is missing"),
    ] {
        write(dir.path(), "a.torrent", bytes);
        let ran = Program::new(&["show", "a.torrent"]).run_in(dir.path());
        assert_eq!((ran.code, ran.stdout.as_str()), (4, ""));
        assert!(
            ran.stderr.starts_with("error: a.torrent: ") && ran.stderr.contains(hint),
            "{}",
            ran.stderr
        );
    }
    let ran = Program::new(&["show", "magnet:?dn=x"]).run();
    assert_eq!(ran.code, 4);
    ran.stderr_has("the magnet link: the link has no info-hash");
}

#[test]
fn what_is_not_there_is_exit_5() {
    let ran = Program::new(&["show", "gone.torrent", "--json"]).run();
    assert_eq!(ran.code, 5);
    assert!(
        ran.stderr.starts_with("error: gone.torrent: No such file"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stdout.starts_with("{\"code\":5,\"event\":\"error\""),
        "{}",
        ran.stdout
    );
}

#[test]
fn names_from_strangers_cannot_steer_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let before = b"7:comment10:\x1b]0;x\x07\xc2\x9bmy";
    write(
        dir.path(),
        "a.torrent",
        &v1_torrent("n", &[("a\u{1b}[2Jb", 1)], before),
    );
    for args in [
        &["show", "a.torrent"][..],
        &["show", "a.torrent", "--tree"],
        &["show", "a.torrent", "--json"],
    ] {
        let ran = Program::new(args).on_terminal().run_in(dir.path());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(
            ran.stdout.chars().all(|c| c == '\n' || !c.is_control()),
            "{:?}",
            ran.stdout
        );
    }
    let ran = Program::new(&["show", "a.torrent"]).run_in(dir.path());
    assert!(
        ran.stdout
            .contains("comment       \\u{1b}]0;x\\u{7}\\u{9b}m"),
        "{:?}",
        ran.stdout
    );
}

/// The torrents of other clients' test suites, if they lie beside the checkout.
fn corpus() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    dir.join("expected.tsv").is_file().then_some(dir)
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn the_corpus_has_the_info_hashes_that_other_clients_give_it() {
    let Some(dir) = corpus() else {
        eprintln!("skipped: there is no corpus of torrents");
        return;
    };
    let table = std::fs::read_to_string(dir.join("expected.tsv")).unwrap();
    let mut rows = table
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>());
    let header = rows.next().unwrap();
    let column = |name: &str| header.iter().position(|title| *title == name).unwrap();
    let (file, valid) = (column("file"), column("valid"));
    let mut seen = 0;
    for row in
        rows.filter(|row| row[file].ends_with(".torrent") && matches!(row[valid], "yes" | "no"))
    {
        let ran = Program::new(&["show", "--json", row[file]]).run_in(&dir);
        assert_eq!(
            ran.code,
            if row[valid] == "yes" { 0 } else { 4 },
            "{}: {}",
            row[file],
            ran.stderr
        );
        seen += 1;
        if ran.code != 0 {
            continue;
        }
        let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        for key in ["v1_hash", "v2_hash"] {
            let shown = json[format!("info_hash_{}", &key[..2])]
                .as_str()
                .unwrap_or("");
            assert_eq!(shown, row[column(key)], "{}", row[file]);
        }
    }
    assert!(seen > 70, "{seen} torrents");
}
