//! Many shards in one deterministic world: joined directly, command of the one to event of the other.

mod connections;
mod content;
mod determinism;
mod flash_crowd;
mod hashes;
mod limits;
mod manners;
mod metadata;
mod node;
mod offline;
mod poison;
mod private;
mod trackers;
mod wire;
mod world;

/// Shows a measured number to whoever looks.
#[expect(clippy::print_stderr, reason = "tests print what they have measured")]
fn say(line: &str) {
    eprintln!("{line}");
}
