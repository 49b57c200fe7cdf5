//! The run as curves over time.

use serde::Serialize;

use super::holdings::Holdings;
use super::tally::is_seed;
use crate::recording::{MomentKind, Recording};

/// In how many steps the time of a run is cut.
const STEPS: usize = 240;
/// Up to so many receivers have a curve each; more are told by their quartiles.
const OWN_CURVE_MAX: usize = 8;

/// A curve with its name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Curve {
    pub(crate) label: String,
    /// `None` where it says nothing: a peer that is not there.
    pub(crate) values: Vec<Option<f64>>,
}

/// All curves of a run, over the same times.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Series {
    /// Seconds.
    pub(crate) times: Vec<f64>,
    /// Share of the pieces that receivers have, 0 to 1.
    pub(crate) completion: Vec<Curve>,
    /// Copies among those who are there: of the rarest piece, of a piece on average.
    pub(crate) availability: Vec<Curve>,
    /// Share of the uplinks that is used, 0 to 1: of all who are there, of the first seeders.
    pub(crate) uplink: Vec<Curve>,
}

/// Computes the curves.
pub(crate) fn series(recording: &Recording) -> Series {
    let times = grid(recording.end);
    let receivers: Vec<usize> = (0..recording.peers.len())
        .filter(|peer| !is_seed(recording, &recording.peers[*peer]))
        .collect();
    let mut shares: Vec<Vec<Option<f64>>> = vec![Vec::new(); receivers.len()];
    let mut rarest = Vec::new();
    let mut mean = Vec::new();
    let mut holdings = Holdings::at_start(recording);
    let mut moments = recording.moments.iter().peekable();
    for time in &times {
        while let Some(moment) = moments.next_if(|moment| moment.at <= *time) {
            holdings.follow(moment);
        }
        for (peer, shares) in receivers.iter().zip(&mut shares) {
            let share = f64::from(holdings.count(*peer)) / f64::from(recording.pieces.max(1));
            shares.push(holdings.is_present(*peer).then_some(share));
        }
        let (least, average) = holdings.copies();
        rarest.push(Some(f64::from(least)));
        mean.push(Some(average));
    }
    let curve = |label: &str, values| Curve {
        label: label.to_owned(),
        values,
    };
    Series {
        completion: completion(recording, &receivers, shares),
        availability: vec![
            curve("rarest piece", rarest),
            curve("a piece on average", mean),
        ],
        uplink: uplink(recording, &times),
        times,
    }
}

#[expect(clippy::cast_precision_loss, reason = "240 steps")]
fn grid(end: f64) -> Vec<f64> {
    let end = if end > 0.0 { end } else { 1.0 };
    (0..=STEPS)
        .map(|step| end * step as f64 / STEPS as f64)
        .collect()
}

/// A curve for each receiver, or the quartiles of all.
fn completion(
    recording: &Recording,
    receivers: &[usize],
    shares: Vec<Vec<Option<f64>>>,
) -> Vec<Curve> {
    if receivers.len() <= OWN_CURVE_MAX {
        let names = receivers
            .iter()
            .map(|peer| recording.peers[*peer].name.clone());
        return names
            .zip(shares)
            .map(|(label, values)| Curve { label, values })
            .collect();
    }
    let ranks = [
        ("slowest", 0),
        ("a quarter is below", 1),
        ("median", 2),
        ("a quarter is above", 3),
        ("fastest", 4),
    ];
    let mut curves: Vec<Curve> = ranks
        .iter()
        .map(|(label, _)| Curve {
            label: (*label).to_owned(),
            values: Vec::new(),
        })
        .collect();
    for step in 0..=STEPS {
        let mut there: Vec<f64> = shares.iter().filter_map(|values| values[step]).collect();
        there.sort_by(f64::total_cmp);
        for (curve, (_, rank)) in curves.iter_mut().zip(ranks) {
            let last = there.len().saturating_sub(1);
            curve.values.push(there.get(last * rank / 4).copied());
        }
    }
    curves
}

/// Bytes sent in each step, of what could have been.
fn uplink(recording: &Recording, times: &[f64]) -> Vec<Curve> {
    let step = times[1];
    let mut all = vec![0.0; times.len()];
    let mut by_seeds = all.clone();
    let seeds: Vec<bool> = recording
        .peers
        .iter()
        .map(|p| is_seed(recording, p))
        .collect();
    for (second, sums) in recording.seconds.iter().enumerate() {
        #[expect(
            clippy::cast_precision_loss,
            reason = "runs are far shorter than 2^52 s"
        )]
        let (at, bytes) = (second as f64, sums.received_bytes as f64);
        #[expect(clippy::cast_precision_loss, reason = "shares for people")]
        let of_seeds = sums.from_seeds_bytes as f64;
        spread(&mut all, step, (at, at + 1.0), bytes);
        spread(&mut by_seeds, step, (at, at + 1.0), of_seeds);
    }
    for moment in &recording.moments {
        if let MomentKind::Sent {
            from, len, until, ..
        } = moment.kind
        {
            spread(&mut all, step, (moment.at, until), f64::from(len));
            if seeds.get(from as usize) == Some(&true) {
                spread(&mut by_seeds, step, (moment.at, until), f64::from(len));
            }
        }
    }
    let everyone = capacity(recording, times, |_| true);
    let of_seeds = capacity(recording, times, |peer| seeds[peer]);
    let curve = |label: &str, sent: &[f64], could: &[f64]| Curve {
        label: label.to_owned(),
        values: sent
            .iter()
            .zip(could)
            .map(|(sent, could)| (*could > 0.0).then(|| (sent / (could * step)).min(1.0)))
            .collect(),
    };
    vec![
        curve("all uplinks together", &all, &everyone),
        curve("the first seeders", &by_seeds, &of_seeds),
    ]
}

/// Shares `bytes` out over the steps that lie in `span`.
fn spread(bins: &mut [f64], step: f64, span: (f64, f64), bytes: f64) {
    let (from, until) = span;
    let len = (until - from).max(step * 1e-6);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the bins"
    )]
    let first = (from / step).max(0.0) as usize;
    for (bin, start) in bins.iter_mut().enumerate().skip(first) {
        #[expect(clippy::cast_precision_loss, reason = "few bins")]
        let low = bin as f64 * step;
        if low >= until.max(from + len) {
            break;
        }
        let inside = (until.max(from + len)).min(low + step) - from.max(low);
        *start += bytes * inside.max(0.0) / len;
    }
}

/// Bytes a second that the uplinks of those who are there could carry.
fn capacity(recording: &Recording, times: &[f64], counts: impl Fn(usize) -> bool) -> Vec<f64> {
    let mut could = vec![0.0; times.len()];
    let counted = recording
        .peers
        .iter()
        .enumerate()
        .filter(|(peer, _)| counts(*peer));
    for (_, card) in counted {
        let there = |time: f64| card.joined <= time && card.left.is_none_or(|left| time < left);
        for (could, time) in could.iter_mut().zip(times) {
            #[expect(clippy::cast_precision_loss, reason = "rates for people")]
            if there(*time) {
                *could += card.up as f64;
            }
        }
    }
    could
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn all_curves_have_a_value_for_each_time() {
        let series = series(&sample::four_pieces());
        let curves = [&series.completion, &series.availability, &series.uplink];
        for curve in curves.into_iter().flatten() {
            assert_eq!(curve.values.len(), series.times.len(), "{}", curve.label);
        }
    }

    #[test]
    fn copies_grow_from_one_to_four() {
        let series = series(&sample::four_pieces());
        let rarest = &series.availability[0].values;
        assert_eq!(rarest.first(), Some(&Some(1.0)));
        assert_eq!(rarest.last(), Some(&Some(4.0)));
        assert!(
            series
                .completion
                .iter()
                .all(|curve| curve.values.last() == Some(&Some(1.0)))
        );
    }

    #[test]
    fn bytes_are_spread_over_the_time_that_they_take() {
        let mut bins = vec![0.0; 4];
        spread(&mut bins, 1.0, (0.5, 2.5), 20.0);
        assert_eq!(bins, [5.0, 10.0, 5.0, 0.0]);
        spread(&mut bins, 1.0, (3.0, 3.0), 7.0);
        assert!((bins[3] - 7.0).abs() < 1e-9, "{bins:?}");
    }

    #[test]
    fn a_crowd_is_told_by_its_quartiles() {
        let series = series(&sample::crowd(50));
        let labels: Vec<_> = series
            .completion
            .iter()
            .map(|curve| curve.label.as_str())
            .collect();
        assert_eq!(labels[0], "slowest");
        assert_eq!(labels[4], "fastest");
    }
}
