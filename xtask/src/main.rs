//! Chores of the workspace: `cargo xtask ci` runs all that must pass before a change lands, `cargo xtask bench`
//! measures the program beside others (see `bench/run`), `cargo xtask fuzz-check` compiles the fuzz targets, and
//! `cargo xtask fuzz-seeds` gives them their first inputs.
//!
//! The rules themselves are ordinary tests in `tests/tidy`, so that `cargo test --workspace` knows them too.

mod fuzz;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

const USAGE: &str = "usage: cargo xtask ci | bench [FLAGS] | fuzz-check | fuzz-seeds DIR";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["ci"] => ci(),
        ["bench", ref flags @ ..] => bench(flags),
        ["fuzz-check"] => fuzz::check(),
        ["fuzz-seeds", from] => fuzz::seed(Path::new(from)),
        _ => bail!("{USAGE}"),
    }
}

/// Formatting, lints, documentation, then every test. The tests come last, so that their summary is the last
/// line of the log.
fn ci() -> Result<()> {
    cargo(&["fmt", "--all", "--", "--check"], &[])?;
    let deny = ("RUSTDOCFLAGS", "-D warnings");
    cargo(
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
        &[],
    )?;
    fuzz::check()?;
    cargo(&["doc", "--workspace", "--no-deps"], &[deny])?;
    cargo(&["build", "--workspace"], &[])?;
    if !has_nextest() {
        return cargo(&["test", "--workspace"], &[]);
    }
    cargo(&["test", "--workspace", "--doc"], &[])?;
    cargo(&["nextest", "run", "--workspace"], &[])
}

/// Measures the program beside others, and writes `docs/bench.md`.
fn bench(flags: &[&str]) -> Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/run");
    let status = Command::new("python3")
        .arg(script)
        .args(flags)
        .status()
        .context("cannot run python3")?;
    if !status.success() {
        bail!("bench/run: {status}");
    }
    Ok(())
}

fn has_nextest() -> bool {
    Command::new(cargo_program())
        .args(["nextest", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn cargo(args: &[&str], vars: &[(&str, &str)]) -> Result<()> {
    let line = args.join(" ");
    announce(&line);
    let status = Command::new(cargo_program())
        .args(args)
        .envs(vars.iter().copied())
        .status()
        .with_context(|| format!("cannot run cargo {line}"))?;
    if !status.success() {
        bail!("cargo {line}: {status}");
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a chore tells what it runs")]
fn announce(line: &str) {
    eprintln!("+ cargo {line}");
}

/// The cargo that runs this chore.
fn cargo_program() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}
