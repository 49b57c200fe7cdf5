//! `riverrun magnet`: the link to a torrent.

use std::ops::RangeInclusive;

use riverrun_metainfo::{HostPort, Layout};
use serde_json::json;

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::screen::{Screen, Surroundings};
use crate::summary::hash_texts;
use crate::torrent;
use crate::values::PathGlob;

/// The arguments of `magnet`.
#[derive(Debug, clap::Args)]
pub(crate) struct MagnetLink {
    /// A torrent file, or - for stdin
    #[arg(value_name = "TORRENT")]
    torrent: String,
    /// Name only the files that match, as those to fetch
    #[arg(short, long, value_name = "GLOB")]
    select: Vec<PathGlob>,
    /// Name a peer, HOST:PORT, to ask first
    #[arg(long, value_name = "HOST:PORT")]
    peer: Vec<HostPort>,
    /// Leave out trackers and web seeds
    #[arg(long)]
    bare: bool,
}

pub(crate) fn run(args: &MagnetLink, around: &Surroundings, screen: &mut Screen) -> Outcome {
    let metainfo = torrent::read_file(&args.torrent, around)?;
    let mut link = metainfo.magnet();
    link.peers.clone_from(&args.peer);
    link.nodes.clone_from(&metainfo.nodes);
    if args.bare {
        link.trackers.clear();
        link.web_seeds.clear();
        link.nodes.clear();
    }
    if !args.select.is_empty() {
        link.select = Some(selection(metainfo.info.layout(), &args.select)?);
    }
    let (v1, v2) = hash_texts(&link.hashes);
    if screen.is_json() {
        return screen
            .event(&json!({ "magnet": link.to_string(), "info_hash_v1": v1, "info_hash_v2": v2 }));
    }
    screen.line(&link.to_string())
}

/// The numbers of the files that match, padding not counted (BEP 53).
fn selection(layout: &Layout, globs: &[PathGlob]) -> Outcome<Vec<RangeInclusive<u32>>> {
    let mut ranges: Vec<RangeInclusive<u32>> = Vec::new();
    let files = layout.files().iter().filter(|file| !file.is_pad());
    for (number, file) in (0_u32..).zip(files) {
        let path = file.path.to_path_buf();
        if !globs.iter().any(|glob| glob.matches_in_torrent(&path)) {
            continue;
        }
        match ranges.last_mut().filter(|last| last.end() + 1 == number) {
            Some(last) => *last = *last.start()..=number,
            None => ranges.push(number..=number),
        }
    }
    if ranges.is_empty() {
        return Err(
            Failure::say(ExitCode::Usage, "no file of the torrent matches")
                .hint("`riverrun show --files` lists them"),
        );
    }
    Ok(ranges)
}
