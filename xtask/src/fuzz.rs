//! The fuzz targets: whether they still compile, and where their first inputs come from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cargo;

/// What the name of a file, or of a directory above it, says of which targets it is an input for.
const SEEDS: &[(&str, &[&str])] = &[
    (".torrent", &["metainfo", "bencode"]),
    ("torrent_info", &["metainfo"]),
    ("add_torrent", &["magnet"]),
    ("peer_conn", &["peer_messages"]),
    ("ut_metadata", &["peer_messages"]),
    ("ut_pex", &["peer_messages"]),
    ("pe_conn", &["peer_handshake"]),
    ("pe_crypto_state", &["peer_handshake"]),
    ("http_tracker", &["tracker_http"]),
    ("udp_tracker", &["tracker_udp"]),
    ("dht_node", &["dht"]),
    ("utp_stream", &["utp"]),
];
/// A longer input costs more time than it is worth.
const SEED_LEN_MAX: u64 = 200_000;
/// How deep directories are searched.
const DEPTH_MAX: usize = 16;

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// Compiles the targets, as cargo-fuzz would but without what measures coverage.
pub(crate) fn check() -> Result<()> {
    let manifest = dir().join("Cargo.toml");
    let manifest = manifest.to_str().context("the path is not UTF-8")?;
    let flags = ("RUSTFLAGS", "--cfg fuzzing");
    cargo(&["check", "--bins", "--manifest-path", manifest], &[flags])
}

/// Copies inputs that are found below `from` to the targets that can use them.
pub(crate) fn seed(from: &Path) -> Result<()> {
    let (mut dirs, mut count) = (vec![(from.to_owned(), 0)], 0);
    while let Some((dir, depth)) = dirs.pop() {
        let entries = fs::read_dir(&dir).with_context(|| dir.display().to_string())?;
        for entry in entries {
            let entry = entry.with_context(|| dir.display().to_string())?;
            let (path, meta) = (entry.path(), entry.metadata()?);
            if meta.is_dir() && depth < DEPTH_MAX {
                dirs.push((path, depth + 1));
            } else if meta.is_file() && meta.len() <= SEED_LEN_MAX {
                count += copy(&path)?;
            }
        }
    }
    if count == 0 {
        bail!("{}: no file whose name says what it is", from.display());
    }
    Ok(())
}

/// Copies one input; gives to how many targets.
fn copy(path: &Path) -> Result<usize> {
    let name = path.display().to_string();
    let matching = SEEDS.iter().filter(|(part, _)| name.contains(part));
    let mut count = 0;
    for target in matching.flat_map(|(_, targets)| *targets) {
        let corpus = dir().join("corpus").join(target);
        fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
        let flat = name.replace(['/', '\\'], "_");
        let to = corpus.join(flat.trim_start_matches('_'));
        fs::copy(path, &to).with_context(|| to.display().to_string())?;
        count += 1;
    }
    Ok(count)
}
