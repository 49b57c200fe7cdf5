//! What a run comes to: who gave how much, and how long it took whom.

use std::collections::BTreeMap;

use crate::recording::{MomentKind, PeerCard, Recording};

/// The sums of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Payload by giver and taker, in bytes.
    pub given: BTreeMap<(usize, usize), u64>,
    /// Of it, what was not what it should have been.
    pub wrong_bytes: u64,
    /// Bytes of the whole content.
    pub content_bytes: u64,
    /// What those who had everything from the start have sent, in copies of the content.
    pub seed_copies: f64,
    /// How long each took who came without everything and got it, from joining on, ascending.
    pub took: Vec<f64>,
    /// How many of those who came without everything, and are not hostile, have not got it.
    pub unfinished: usize,
}

/// Whether a peer had everything when it came.
pub(crate) fn is_seed(recording: &Recording, card: &PeerCard) -> bool {
    card.had_all(recording.pieces)
}

impl Tally {
    /// Of a whole run.
    pub fn of(recording: &Recording) -> Self {
        let mut tally = Self {
            content_bytes: u64::from(recording.pieces) * u64::from(recording.piece_len),
            ..Self::default()
        };
        for moment in &recording.moments {
            let MomentKind::Sent {
                from,
                to,
                len,
                right,
                ..
            } = moment.kind
            else {
                continue;
            };
            *tally.given.entry((from as usize, to as usize)).or_default() += u64::from(len);
            if !right {
                tally.wrong_bytes += u64::from(len);
            }
        }
        let seeds: Vec<bool> = recording
            .peers
            .iter()
            .map(|p| is_seed(recording, p))
            .collect();
        let by_seeds = tally
            .given
            .iter()
            .filter(|((from, _), _)| seeds.get(*from) == Some(&true));
        // Of a crowd there are sums instead of moments.
        let sums = recording.seconds.iter();
        let sums: u64 = sums.map(|second| second.from_seeds_bytes).sum();
        let by_seeds: u64 = by_seeds.map(|(_, bytes)| bytes).sum();
        tally.seed_copies = ratio(by_seeds + sums, tally.content_bytes);
        let wanting = recording
            .peers
            .iter()
            .zip(&seeds)
            .filter(|(_, is_seed)| !**is_seed);
        for (card, _) in wanting {
            match card.completed {
                Some(at) => tally.took.push(at - card.joined),
                None if card.role != "hostile" => tally.unfinished += 1,
                None => {}
            }
        }
        tally.took.sort_by(f64::total_cmp);
        tally
    }

    /// How long the slowest took who got everything.
    pub fn slowest(&self) -> Option<f64> {
        self.took.last().copied()
    }
}

#[expect(clippy::cast_precision_loss, reason = "shares for people")]
fn ratio(bytes: u64, of: u64) -> f64 {
    bytes as f64 / of.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Second;
    use crate::report::sample;

    #[test]
    fn the_sums_of_the_worked_example() {
        let tally = Tally::of(&sample::four_pieces());
        assert!(
            (tally.seed_copies - 1.0).abs() < 1e-9,
            "{}",
            tally.seed_copies
        );
        assert_eq!(tally.given.values().sum::<u64>(), 3 * tally.content_bytes);
        assert_eq!(
            (tally.wrong_bytes, tally.unfinished, tally.took.len()),
            (0, 0, 3)
        );
        assert_eq!(tally.took.last().copied(), tally.slowest());
    }

    #[test]
    fn without_moments_the_sums_of_the_seconds_count() {
        let mut recording = sample::four_pieces();
        recording.moments.clear();
        let second = |from_seeds_bytes| Second {
            from_seeds_bytes,
            ..Second::default()
        };
        let len = u64::from(recording.pieces) * u64::from(recording.piece_len);
        recording.seconds = vec![second(len), second(len / 2)];
        let copies = Tally::of(&recording).seed_copies;
        assert!((copies - 1.5).abs() < 1e-9, "{copies}");
    }
}
