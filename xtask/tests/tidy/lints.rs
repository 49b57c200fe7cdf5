//! The lints that cargo cannot require of a crate: that it takes the workspace's, and that core and pure crates
//! forbid clocks, locks, sockets and files in a `clippy.toml` of their own.

use std::path::Path;

use crate::workspace::{assert_none, cargo, crates, files, read, root, string};

/// The crates that must not touch the outside.
const INNER: &[&str] = &[
    "base", "bencode", "hash", "metainfo", "peer", "sim", "swarm", "tracker",
];

/// The only crate that may say `unsafe`, with its own lint table.
const UNSAFE: &str = "hash";

#[test]
fn core_and_pure_crates_carry_one_clippy_file() {
    let model = read(&root().join("crates/base/clippy.toml"));
    assert!(
        model.contains("std::time::Instant::now"),
        "the model forbids clocks"
    );
    let differs = |name: &&&str| {
        let path = root().join("crates").join(name).join("clippy.toml");
        std::fs::read_to_string(path).ok().as_deref() != Some(&model)
    };
    let findings: Vec<_> = INNER
        .iter()
        .filter(differs)
        .map(|name| format!("crates/{name}"))
        .collect();
    assert_none("clippy.toml must be the same as in crates/base", &findings);
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let takes = |text: &str| text.contains("[lints]\nworkspace = true");
    let manifest = |package| read(Path::new(string(package, "manifest_path")));
    let findings: Vec<_> = crates()
        .into_iter()
        .filter(|(name, package)| *name != UNSAFE && !takes(&manifest(package)))
        .map(|(name, _)| format!("crates/{name}/Cargo.toml"))
        .collect();
    assert_none("[lints] workspace = true", &findings);
}

#[test]
fn only_one_crate_may_say_unsafe() {
    let own = format!("crates/{UNSAFE}/");
    let findings: Vec<_> = files(&["toml"])
        .iter()
        .filter(|file| file.path.ends_with("Cargo.toml") && !file.path.starts_with(&own))
        .filter(|file| {
            file.text.contains("unsafe_code") && !file.text.contains("unsafe_code = \"forbid\"")
        })
        .map(|file| file.path.clone())
        .collect();
    assert_none(
        "`unsafe_code` is forbidden outside of crates/hash",
        &findings,
    );
}

#[test]
fn the_sources_are_formatted() {
    let output = cargo()
        .args(["fmt", "--all", "--", "--check"])
        .output()
        .expect("cargo runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let findings: Vec<_> = stdout
        .lines()
        .filter(|line| line.starts_with("Diff in "))
        .map(str::to_owned)
        .collect();
    assert_none("run `cargo fmt --all`", &findings);
    assert!(
        output.status.success(),
        "cargo fmt: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
