//! A small swarm round by round.

use std::collections::BTreeMap;

use super::Step;
use super::mishaps::mishaps;
use crate::recording::{MomentKind, Recording};
use crate::report::flights::{Flight, flights};
use crate::report::holdings::Holdings;
use crate::report::tally::is_seed;
use crate::report::words;

/// A round's end is not awaited longer than this many rounds: what comes later is one last step.
const ROUNDS_MAX: usize = 12;

/// The time in which the fastest seeder could hand one piece to each of the others, in seconds.
#[expect(clippy::cast_precision_loss, reason = "times for people")]
pub(super) fn length(recording: &Recording) -> Option<f64> {
    let seeds = recording
        .peers
        .iter()
        .filter(|card| is_seed(recording, card));
    let up = seeds.map(|card| card.up).max().filter(|up| *up > 0)?;
    let wanting = recording
        .peers
        .iter()
        .filter(|card| !is_seed(recording, card))
        .count();
    let round = wanting as f64 * f64::from(recording.piece_len) / up as f64;
    (round > 0.0).then_some(round)
}

/// A whole piece that came to someone.
#[derive(Clone, Copy, Debug)]
struct Handover {
    /// Who gave most of it.
    from: usize,
    to: usize,
    piece: u32,
    /// When half of the time was over that it took.
    middle: f64,
    /// When it was there and right.
    at: f64,
}

fn handovers(recording: &Recording) -> Vec<Handover> {
    let flights = flights(recording);
    let mut holdings = Holdings::at_start(recording);
    let mut found = Vec::new();
    for moment in &recording.moments {
        let is_news = holdings.follow(moment);
        if let MomentKind::Have { peer, piece } = moment.kind
            && let peer = peer as usize
            && is_news
            && let Some((from, began)) = giver(&flights, peer, piece, moment.at)
        {
            let middle = f64::midpoint(began, moment.at);
            found.push(Handover {
                from,
                to: peer,
                piece,
                middle,
                at: moment.at,
            });
        }
    }
    found
}

/// Who gave most of a piece, and when that began.
fn giver(flights: &[Flight], to: usize, piece: u32, by: f64) -> Option<(usize, f64)> {
    let of_it = flights
        .iter()
        .filter(|f| f.to == to && f.piece == piece && f.right && f.at <= by);
    let most = of_it.max_by_key(|flight| flight.bytes)?;
    Some((most.from, most.at))
}

/// One step for each round in which something happened.
pub(super) fn rounds(recording: &Recording, round: f64) -> Vec<Step> {
    let handovers = handovers(recording);
    let is_sent = |kind: &MomentKind| matches!(kind, MomentKind::Sent { .. });
    let Some(began) = recording
        .moments
        .iter()
        .find(|m| is_sent(&m.kind))
        .map(|m| m.at)
    else {
        return Vec::new();
    };
    let mut by_round: BTreeMap<usize, Vec<Handover>> = BTreeMap::new();
    // In which round a peer has got a piece: it gives it on in a later one.
    let mut got: BTreeMap<(usize, u32), usize> = BTreeMap::new();
    for handover in handovers {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small positive number"
        )]
        let number = ((handover.middle - began) / round).max(0.0) as usize;
        let giver = got.get(&(handover.from, handover.piece));
        let number = giver
            .map_or(number, |round| number.max(round + 1))
            .min(ROUNDS_MAX);
        got.insert((handover.to, handover.piece), number);
        by_round.entry(number).or_default().push(handover);
    }
    let mut teller = Teller::new(recording);
    let last = by_round.keys().last().copied();
    let mut from = 0.0;
    let mut steps = Vec::new();
    for (number, handovers) in by_round {
        let until = handovers.iter().fold(from, |until, h| h.at.max(until));
        let mut sentences = vec![teller.tell(&handovers)];
        sentences.extend(mishaps(recording, from, until));
        let mut caption = sentences.join(" ");
        if Some(number) == last {
            caption.push_str(&teller.ending(until));
        }
        let title = format!("Round {}", steps.len() + 1);
        steps.push(Step {
            title,
            from,
            until,
            caption,
        });
        from = until;
    }
    steps
}

struct Teller<'a> {
    recording: &'a Recording,
    /// Pieces that somebody has who did not have everything from the start.
    out: Vec<bool>,
    /// Pieces that each peer has.
    counts: Vec<u32>,
}

impl<'a> Teller<'a> {
    fn new(recording: &'a Recording) -> Self {
        let holdings = Holdings::at_start(recording);
        let peers = 0..recording.peers.len();
        let not_seed = |peer: &usize| !is_seed(recording, &recording.peers[*peer]);
        let with = |piece| {
            peers
                .clone()
                .filter(not_seed)
                .any(|peer| holdings.has(peer, piece))
        };
        Self {
            recording,
            out: (0..recording.pieces).map(with).collect(),
            counts: peers.clone().map(|peer| holdings.count(peer)).collect(),
        }
    }

    fn name(&self, peer: usize) -> &'a str {
        self.recording.name(peer)
    }

    fn is_seed(&self, peer: usize) -> bool {
        self.recording
            .peers
            .get(peer)
            .is_some_and(|card| is_seed(self.recording, card))
    }

    /// What was handed over in one round.
    fn tell(&mut self, handovers: &[Handover]) -> String {
        let mut gifts: BTreeMap<usize, BTreeMap<u32, Vec<usize>>> = BTreeMap::new();
        for handover in handovers {
            let pieces = gifts.entry(handover.from).or_default();
            pieces.entry(handover.piece).or_default().push(handover.to);
        }
        let (seeds, others): (Vec<_>, Vec<_>) =
            gifts.into_iter().partition(|(from, _)| self.is_seed(*from));
        let traded = self.trades(&others);
        let is_trade = traded.is_some();
        let mut sentences: Vec<String> = traded.into_iter().collect();
        let fed = seeds
            .iter()
            .map(|(from, pieces)| self.seed_sentence(*from, pieces, is_trade));
        sentences.extend(fed);
        let done = self.count(handovers);
        sentences.extend(done);
        sentences.join(" ")
    }

    /// `A, B and C trade among themselves: A gives piece 0 to B and C.`
    fn trades(&self, others: &[(usize, BTreeMap<u32, Vec<usize>>)]) -> Option<String> {
        let clauses: Vec<String> = others
            .iter()
            .map(|(from, pieces)| format!("{} gives {}", self.name(*from), self.gifts(pieces)))
            .collect();
        match clauses.as_slice() {
            [] => None,
            [one] => Some(format!("{one}.")),
            _ => {
                let names: Vec<_> = others.iter().map(|(from, _)| self.name(*from)).collect();
                let names = words::list(&names);
                Some(format!(
                    "{names} trade among themselves: {}.",
                    clauses.join(", ")
                ))
            }
        }
    }

    fn seed_sentence(
        &self,
        from: usize,
        pieces: &BTreeMap<u32, Vec<usize>>,
        is_trade: bool,
    ) -> String {
        let name = self.name(from);
        let each_once = pieces.values().all(|takers| takers.len() == 1);
        if is_trade && each_once && pieces.keys().all(|piece| !self.out[*piece as usize]) {
            let gifts: Vec<String> = pieces
                .iter()
                .map(|(piece, takers)| format!("piece {piece} once, to {}", self.name(takers[0])))
                .collect();
            return format!("{name} feeds in {}.", words::list(&gifts));
        }
        let mut text = format!("{name} hands {}", self.gifts(pieces));
        if each_once && pieces.len() > 1 {
            let n = words::number(pieces.len());
            text = format!("{text}: {n} different pieces, not {n} copies of one");
        }
        text.push('.');
        text
    }

    /// `piece 0 to A, 1 to B and 2 to C`.
    fn gifts(&self, pieces: &BTreeMap<u32, Vec<usize>>) -> String {
        let gift = |(piece, takers): (&u32, &Vec<usize>)| {
            let mut takers = takers.clone();
            takers.sort_unstable();
            let takers: Vec<_> = takers.iter().map(|taker| self.name(*taker)).collect();
            format!("{piece} to {}", words::list(&takers))
        };
        let gifts: Vec<String> = pieces.iter().map(gift).collect();
        format!("piece {}", words::list(&gifts))
    }

    /// Counts what was handed over, and names who has everything now, unless all have.
    fn count(&mut self, handovers: &[Handover]) -> Option<String> {
        for handover in handovers {
            self.out[handover.piece as usize] |= !self.is_seed(handover.to);
            self.counts[handover.to] += 1;
        }
        let mut done: Vec<usize> = handovers.iter().map(|h| h.to).collect();
        done.sort_unstable();
        done.dedup();
        done.retain(|peer| self.counts[*peer] == self.recording.pieces);
        if done.is_empty() || self.are_all_done() {
            return None;
        }
        let names: Vec<_> = done.iter().map(|peer| self.name(*peer)).collect();
        let verb = if done.len() == 1 { "has" } else { "have" };
        let all = words::number(self.recording.pieces as usize);
        Some(format!("{} {verb} all {all}.", words::list(&names)))
    }

    fn are_all_done(&self) -> bool {
        self.counts
            .iter()
            .all(|count| *count == self.recording.pieces)
    }

    /// What came of it all.
    fn ending(&self, until: f64) -> String {
        let pieces = self.recording.pieces;
        if !self.are_all_done() {
            let short = self.counts.iter().filter(|count| **count < pieces).count();
            return format!(
                " {} of {} do not have everything.",
                short,
                self.counts.len()
            );
        }
        let cards = &self.recording.peers;
        let seeds: Vec<_> = cards
            .iter()
            .filter(|card| is_seed(self.recording, card))
            .collect();
        let gone =
            |card: &&&crate::recording::PeerCard| card.left.is_some_and(|left| left <= until);
        let all = format!(" All have {pieces} of {pieces}");
        let became = words::number(cards.len());
        match seeds.as_slice() {
            [seed] if !gone(&seed) => {
                format!(
                    "{all}: one seeder became {became}, and {} may leave.",
                    seed.name
                )
            }
            [seed] => format!("{all}, though {} has left.", seed.name),
            _ => format!("{all}: {became} seeders now."),
        }
    }
}
