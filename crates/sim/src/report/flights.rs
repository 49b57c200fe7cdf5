//! Blocks of one piece under way between the same two, drawn as one thing that moves.

use std::collections::BTreeMap;

use crate::recording::{MomentKind, Recording};

/// A pause longer than this many of its last block's time ends a flight.
const PAUSE_BLOCKS: f64 = 8.0;
/// A pause longer than this share of the run ends a flight.
const PAUSE_OF_RUN: f64 = 0.03;

/// Blocks of a piece that followed each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Flight {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) piece: u32,
    pub(crate) bytes: u64,
    pub(crate) at: f64,
    pub(crate) until: f64,
    /// Whether all of it is what it should be.
    pub(crate) right: bool,
}

/// All flights of a run, by their beginnings.
pub(crate) fn flights(recording: &Recording) -> Vec<Flight> {
    let mut open: BTreeMap<(usize, usize, u32), Flight> = BTreeMap::new();
    let mut done = Vec::new();
    for moment in &recording.moments {
        let MomentKind::Sent {
            from,
            to,
            piece,
            len,
            until,
            right,
            ..
        } = moment.kind
        else {
            continue;
        };
        let (from, to) = (from as usize, to as usize);
        let block = Flight {
            from,
            to,
            piece,
            bytes: u64::from(len),
            at: moment.at,
            until,
            right,
        };
        let pause_max = (PAUSE_BLOCKS * (until - moment.at)).max(PAUSE_OF_RUN * recording.end);
        let flight = open
            .entry((from, to, piece))
            .or_insert(Flight { bytes: 0, ..block });
        if flight.bytes > 0 && moment.at - flight.until > pause_max {
            done.push(std::mem::replace(flight, Flight { bytes: 0, ..block }));
        }
        flight.bytes += block.bytes;
        flight.right &= block.right;
        flight.until = flight.until.max(until);
    }
    done.extend(open.into_values());
    done.sort_by(|a, b| a.at.total_cmp(&b.at));
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn blocks_that_follow_each_other_fly_as_one_piece() {
        let recording = sample::four_pieces();
        let found = flights(&recording);
        assert_eq!(found.len(), 12, "{found:#?}");
        assert!(
            found
                .iter()
                .all(|flight| flight.bytes == u64::from(recording.piece_len))
        );
        assert!(found.is_sorted_by(|a, b| a.at <= b.at));
    }

    #[test]
    fn a_long_pause_makes_two_flights() {
        let mut recording = sample::four_pieces();
        let again = recording
            .moments
            .iter()
            .find(|m| matches!(m.kind, MomentKind::Sent { .. }));
        let mut again = again.cloned().expect("something was sent");
        again.at = recording.end;
        if let MomentKind::Sent { until, .. } = &mut again.kind {
            *until = recording.end + 0.01;
        }
        recording.moments.push(again);
        assert_eq!(flights(&recording).len(), 13);
    }
}
