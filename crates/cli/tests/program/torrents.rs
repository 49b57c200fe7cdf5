//! Small torrent files, written by hand.

use std::path::{Path, PathBuf};

use crate::run::Program;

/// Bencodes a byte string.
pub(crate) fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [format!("{}:", bytes.len()).as_bytes(), bytes].concat()
}

/// A v1 torrent of the files (path, length), of one piece, with whatever keys stand around its info dictionary:
/// `before` those that sort before `info`.
pub(crate) fn v1_torrent(name: &str, files: &[(&str, u64)], before: &[u8]) -> Vec<u8> {
    let mut list = Vec::new();
    for (path, len) in files {
        let path: Vec<u8> = path.split('/').flat_map(string).collect();
        list.extend([format!("d6:lengthi{len}e4:pathl").as_bytes(), &path, b"ee"].concat());
    }
    let parts = [
        &b"d"[..],
        before,
        b"4:infod5:filesl",
        &list,
        b"e4:name",
        &string(name),
        b"12:piece lengthi16384e6:pieces",
        &string([7; 20]),
        b"ee",
    ];
    parts.concat()
}

/// A torrent of two files with two trackers in tiers of their own and a comment.
pub(crate) fn tracked() -> Vec<u8> {
    let before = b"8:announce17:http://a/announce13:announce-listll17:http://a/announceel9:udp://b:1ee7:comment2:hi";
    v1_torrent("dir", &[("one.txt", 5), ("sub/two.md", 7)], before)
}

/// Writes the bytes as `name` into `dir`.
pub(crate) fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).expect("the file is written");
    path
}

/// What `show --json` says of a torrent file.
pub(crate) fn shown(dir: &Path, name: &str) -> serde_json::Value {
    let ran = Program::new(&["show", name, "--json"]).run_in(dir);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{name}");
    serde_json::from_str(&ran.stdout).expect("one JSON object")
}
