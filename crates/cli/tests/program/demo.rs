//! `demo`: a whole swarm in this process.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use crate::run::{Program, Ran};

fn events(ran: &Ran) -> Vec<Value> {
    ran.stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The files below a directory, with what is in them and when they were written.
fn contents(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut contents(&path));
        } else {
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            found.insert(path.clone(), (fs::read(&path).unwrap(), modified));
        }
    }
    found
}

/// A swarm that is through in a moment.
fn small(args: &[&str]) -> Program {
    let args = [&["demo", "--peers", "2", "--up", "50M"], args].concat();
    Program::new(&args)
}

#[test]
fn a_small_swarm_ends_with_verified_copies() {
    let ran = small(&["--size", "1MiB", "--json"]).run();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let events = events(&ran);
    let (started, done) = (&events[0], events.last().unwrap());
    assert_eq!(
        (&started["event"], &started["bytes"], &started["peers"]),
        (
            &"started".into(),
            &1_048_576.into(),
            &serde_json::json!(["S", "A", "B"])
        )
    );
    assert_eq!(
        (&done["event"], &done["verified"]),
        (&"done".into(), &true.into())
    );
    assert!(done["seeder_copies"].as_f64() >= Some(1.0), "{done}");
    assert!(done["ratio"].as_f64() >= Some(1.0), "{done}");
    let received = |peer: usize| -> u64 {
        let rows = done["matrix"].as_array().unwrap();
        rows.iter().map(|row| row[peer].as_u64().unwrap()).sum()
    };
    assert!(
        received(1) >= 1_048_576 && received(2) >= 1_048_576,
        "{done}"
    );
    let milestones: Vec<_> = events
        .iter()
        .filter_map(|event| event["milestone"].as_str())
        .collect();
    assert!(milestones.starts_with(&["first_piece"]), "{milestones:?}");
    assert!(milestones.ends_with(&["complete"]), "{milestones:?}");
    assert!(milestones.contains(&"all_out"), "{milestones:?}");
}

#[test]
fn without_a_terminal_the_story_is_plain_lines() {
    let ran = small(&["--size", "100kB"]).run();
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
    assert!(
        !ran.stderr.contains('\u{1b}') && !ran.stderr.contains('\r'),
        "{}",
        ran.stderr
    );
    for words in [
        "the first piece leaves S",
        "is complete, too: all are seeders now",
        "✔ one seeder became 3 in ",
        "S could leave now",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
}

#[test]
fn a_given_folder_is_only_read() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir_all(data.join("sub")).unwrap();
    fs::write(data.join("a.txt"), "a".repeat(100_000)).unwrap();
    fs::write(data.join("sub/b.bin"), "b".repeat(50_000)).unwrap();
    fs::write(data.join("sub/empty"), "").unwrap();
    let before = contents(dir.path());
    let ran = small(&["data"]).run_in(dir.path());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn copies_are_kept_where_they_are_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let ran = small(&["--size", "50kB", "--keep=kept"]).run_in(dir.path());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let kept = dir.path().join("kept");
    assert!(
        ran.stderr.contains(kept.to_str().unwrap()),
        "{}",
        ran.stderr
    );
    let read = |of: &str| fs::read(kept.join(of).join("riverrun-demo/film.bin")).unwrap();
    assert!(!read("seeder").is_empty());
    assert_eq!(read("seeder"), read("peer-A"));
    assert_eq!(read("seeder"), read("peer-B"));
    let ran = small(&["--keep=kept"]).run_in(dir.path());
    assert_eq!(ran.code, 11, "{}", ran.stderr);
}

#[test]
fn what_cannot_be_shown_is_told() {
    for (args, code, words) in [
        (&["--peers", "0"][..], 2, "0 is not in 1..=16"),
        (&["--peers", "17"], 2, "17 is not in 1..=16"),
        (&["--up", "0"], 2, "nothing would ever move"),
        (&["--size", "0"], 2, "nothing to share"),
        (&["--size", "x"], 2, "expected a number"),
        (&["--piece", "100"], 2, "the piece length 100 is not"),
        (&[".", "--size", "1M"], 2, "cannot be used with"),
        (&["gone"], 5, "gone: "),
    ] {
        let ran = Program::new(&[&["demo"], args].concat()).run();
        assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{args:?}: {}", ran.stderr);
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_it_and_leaves_nothing() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let temp = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_riverrun"))
        .env_clear()
        .env("TMPDIR", temp.path())
        .args(["demo", "--up", "100kB", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("\"progress\"")));
    assert!(fs::read_dir(temp.path()).unwrap().next().is_some());
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(fs::read_dir(temp.path()).unwrap().next().is_none());
}
