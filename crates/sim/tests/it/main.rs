//! Worlds at work: how riverrun's decisions fare in them, and that the worlds are what they should be.

mod arena;
mod chaos;
mod connections;
mod datagrams;
mod determinism;
mod doze;
mod exchange;
mod faults;
mod flash_crowd;
mod hashes;
mod holepunch;
mod levels;
mod limits;
mod manners;
mod metadata;
mod offline;
mod poison;
mod private;
mod recording;
mod science;
mod trackers;
mod transfers;
mod why;

/// Shows a measured number to whoever looks.
#[expect(clippy::print_stderr, reason = "tests print what they have measured")]
fn say(line: &str) {
    eprintln!("{line}");
}
