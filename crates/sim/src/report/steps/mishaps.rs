//! What went wrong in a part of a run, in a sentence or two.

use std::collections::{BTreeMap, BTreeSet};

use crate::recording::{MomentKind, Recording};
use crate::report::words;

/// What went wrong after `from`, up to `until`.
pub(super) fn mishaps(recording: &Recording, from: f64, until: f64) -> Vec<String> {
    let mut failed: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    let mut banned: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    let within = recording
        .moments
        .iter()
        .filter(|moment| moment.at > from && moment.at <= until);
    for moment in within {
        match moment.kind {
            MomentKind::Failed { peer, piece } => {
                failed.entry(peer).or_default().insert(piece);
            }
            MomentKind::Banned { by, peer } => {
                banned.entry(peer).or_default().insert(by);
            }
            _ => {}
        }
    }
    let name = |peer: &u32| {
        recording
            .peers
            .get(*peer as usize)
            .map_or("?", |card| card.name.as_str())
    };
    let mut told = Vec::new();
    if !failed.is_empty() {
        let clauses: Vec<String> = failed
            .iter()
            .map(|(peer, pieces)| {
                format!(
                    "{} {}",
                    name(peer),
                    words::list(&pieces.iter().collect::<Vec<_>>())
                )
            })
            .collect();
        let pieces: usize = failed.values().map(BTreeSet::len).sum();
        let what = if pieces == 1 {
            "A piece does"
        } else {
            "Pieces do"
        };
        let them = if pieces == 1 { "is" } else { "are" };
        told.push(format!(
            "{what} not match {} and {them} thrown away: {}.",
            if pieces == 1 {
                "its hash"
            } else {
                "their hashes"
            },
            words::list(&clauses)
        ));
    }
    for (peer, by) in &banned {
        let by: Vec<&str> = by.iter().map(name).collect();
        let verb = if by.len() == 1 { "talks" } else { "talk" };
        told.push(format!(
            "{} {verb} to {} no more, since it sent wrong data.",
            words::list(&by),
            name(peer)
        ));
    }
    told
}
