//! A run in a few steps that read as a story. Each word of it comes from the recording.
//!
//! A small swarm is told round by round, where a round is the time in which the seeder could hand one piece to each
//! of the others. A large one is told by its milestones.

mod milestones;
mod mishaps;
mod rounds;

use serde::Serialize;

use super::tally::is_seed;
use super::words;
use crate::recording::Recording;

/// The most pieces that are told one by one.
const TOLD_PIECES_MAX: u32 = 12;
/// The most peers that are told one by one.
const TOLD_PEERS_MAX: usize = 8;

/// A part of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// `Round 1`.
    pub title: String,
    /// When it begins, in seconds.
    pub from: f64,
    /// When it is over.
    pub until: f64,
    /// What happened in it.
    pub caption: String,
}

/// The run in steps, in order; the first is how it begins.
pub fn steps(recording: &Recording) -> Vec<Step> {
    let mut steps = vec![beginning(recording)];
    let is_small = recording.pieces <= TOLD_PIECES_MAX && recording.peers.len() <= TOLD_PEERS_MAX;
    match rounds::length(recording).filter(|_| is_small) {
        Some(round) => steps.extend(rounds::rounds(recording, round)),
        None => steps.extend(milestones::milestones(recording)),
    }
    steps
}

/// What a round is in this run, as a sentence; `None` if it is not told in rounds.
pub(crate) fn round_sentence(recording: &Recording) -> Option<String> {
    let is_small = recording.pieces <= TOLD_PIECES_MAX && recording.peers.len() <= TOLD_PEERS_MAX;
    let round = rounds::length(recording).filter(|_| is_small)?;
    Some(format!(
        "A round is the time in which the seeder could send one piece to each of the others: {}.",
        words::seconds(round)
    ))
}

fn beginning(recording: &Recording) -> Step {
    let (seeds, others): (Vec<_>, Vec<_>) = recording
        .peers
        .iter()
        .partition(|card| is_seed(recording, card));
    let all = words::number(recording.pieces as usize);
    let caption = match (seeds.as_slice(), others.as_slice()) {
        ([], _) => format!("Nobody has all {all} pieces."),
        (_, []) => "Everybody has everything.".to_owned(),
        (seeds, others) => {
            let empty = others
                .iter()
                .all(|card| card.first_pieces(recording.pieces).is_empty());
            let what = if empty {
                "nothing yet"
            } else {
                "only some, or nothing yet"
            };
            let names = |cards: &[&crate::recording::PeerCard], verb: [&str; 2]| {
                let named: Vec<_> = cards.iter().take(TOLD_PEERS_MAX).map(|c| &c.name).collect();
                let verb = verb[usize::from(cards.len() > 1)];
                if cards.len() > named.len() {
                    return format!("{} peers {verb}", cards.len());
                }
                format!("{} {verb}", words::list(&named))
            };
            format!(
                "{} all {all} pieces. {} {what}.",
                names(seeds, ["has", "have"]),
                names(others, ["has", "have"])
            )
        }
    };
    Step {
        title: "Start".to_owned(),
        from: 0.0,
        until: 0.0,
        caption,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_worked_example_is_told_round_by_round() {
        let told: Vec<String> = steps(&sample::four_pieces())
            .into_iter()
            .map(|step| format!("{}: {}", step.title, step.caption))
            .collect();
        assert_eq!(
            told,
            [
                "Start: S has all four pieces. A, B and C have nothing yet.",
                "Round 1: S hands piece 0 to A, 1 to B and 2 to C: three different pieces, not three copies of one.",
                "Round 2: A, B and C trade among themselves: A gives piece 0 to B and C, B gives piece 1 to A and C, \
                 C gives piece 2 to A and B. S feeds in piece 3 once, to A. A has all four.",
                "Round 3: A gives piece 3 to B and C. All have 4 of 4: one seeder became four, and S may leave.",
            ]
        );
    }

    #[test]
    fn copies_of_one_piece_are_not_called_different() {
        let mut recording = sample::four_pieces();
        sample::rename_piece(&mut recording, 1, 0);
        let told = steps(&recording);
        assert!(
            told[1].caption.starts_with("S hands piece 0 to A and B"),
            "{}",
            told[1].caption
        );
        assert!(
            !told[1].caption.contains("different"),
            "{}",
            told[1].caption
        );
    }

    #[test]
    fn a_crowd_is_told_by_milestones_in_order() {
        let told = steps(&sample::crowd(50));
        assert!(told.len() >= 5, "{told:#?}");
        assert!(told.is_sorted_by(|a, b| a.until <= b.until), "{told:#?}");
        assert!(
            told[0].caption.contains("50 peers have nothing yet"),
            "{}",
            told[0].caption
        );
    }
}
