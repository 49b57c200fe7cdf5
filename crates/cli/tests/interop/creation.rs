//! A torrent of the same files, order and settings has the same info-hash whoever makes it.

use std::fs;
use std::path::Path;
use std::process::Command;

use riverrun_base::Rng;
use serde_json::Value;
use tempfile::TempDir;

use crate::clients::{Client, libtorrent_script, python};
use crate::riverrun::run;

/// How many random trees are compared, in each mode.
const TREES: u64 = 50;

/// Writes a random tree: names that sort differently by byte and by case, nested and empty files, sizes around
/// block and piece boundaries.
fn write_tree(root: &Path, rng: &mut Rng) {
    const NAMES: [&str; 12] = [
        "a", "B", "c.txt", "a b", "a.b", "a-b", "ab", "A", "ö", "名", "0", "_",
    ];
    const SIZES: [usize; 9] = [0, 1, 100, 16_383, 16_384, 16_385, 32_768, 65_536, 200_001];
    let count = 1 + rng.below(12);
    for number in 0..count {
        let depth = rng.below(3);
        let mut path = root.to_owned();
        for level in 0..depth {
            path.push(format!("{}{level}d", NAMES[rng.below(NAMES.len())]));
        }
        fs::create_dir_all(&path).unwrap();
        path.push(format!("{}{number}", NAMES[rng.below(NAMES.len())]));
        let mut bytes = vec![0; SIZES[rng.below(SIZES.len())]];
        rng.fill(&mut bytes);
        fs::write(path, bytes).unwrap();
    }
    // A torrent of nothing but empty files is none.
    fs::write(root.join("content"), b"content").unwrap();
}

fn ours(home: &Path, tree: &Path, version: &str, piece_len: u32) -> (Value, Value) {
    let output = home.join(format!("{version}.torrent"));
    let (tree, output) = (tree.to_str().unwrap(), output.to_str().unwrap());
    let (flag, piece) = (format!("--{version}"), piece_len.to_string());
    run(
        home,
        &[
            "create", tree, "-o", output, &flag, "--piece", &piece, "--force", "-q",
        ],
    );
    let shown: Value = serde_json::from_str(&run(home, &["--json", "show", output])).unwrap();
    (shown["info_hash_v1"].clone(), shown["info_hash_v2"].clone())
}

fn theirs(tree: &Path, version: &str, piece_len: u32) -> (Value, Value) {
    let output = Command::new(python().unwrap())
        .arg(libtorrent_script())
        .args(["create", version])
        .arg(tree)
        .arg(piece_len.to_string())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let mut hashes = text.split_whitespace().map(|hash| match hash {
        "-" => Value::Null,
        hash => Value::from(hash),
    });
    (hashes.next().unwrap(), hashes.next().unwrap())
}

fn check(version: &str) {
    if !Client::Libtorrent.is_here() {
        return;
    }
    let mut rng = Rng::new(52);
    for number in 0..TREES {
        let home = TempDir::new().unwrap();
        let tree = home.path().join(format!("tree {number}"));
        fs::create_dir(&tree).unwrap();
        write_tree(&tree, &mut rng);
        let piece_len = 16_384 << rng.below(4);
        assert_eq!(
            ours(home.path(), &tree, version, piece_len),
            theirs(&tree, version, piece_len),
            "tree {number}, pieces of {piece_len}"
        );
    }
}

#[test]
fn v1_info_hashes_equal_libtorrents() {
    check("v1");
}

#[test]
fn v2_info_hashes_equal_libtorrents() {
    check("v2");
}

#[test]
fn hybrid_info_hashes_equal_libtorrents() {
    check("hybrid");
}
