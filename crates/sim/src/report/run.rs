//! A recording as the page wants it: small, in order, and with the arithmetic done.

use std::collections::BTreeMap;

use serde::Serialize;

use super::flights::flights;
use super::series::{Series, series};
use super::steps::{Step, round_sentence, steps};
use super::tally::Tally;
use super::words;
use crate::recording::{Moment, MomentKind, PeerCard, Recording};

/// Up to so many peers are drawn one by one with what moves between them; more are drawn as a crowd.
pub(crate) const DRAWN_PEERS_MAX: usize = 40;
/// The most flights that a page carries; about 1 MB.
const FLIGHTS_MAX: usize = 20_000;
/// The most pieces' arrivals that a page carries; about 4 MB.
const HAVES_MAX: usize = 300_000;
/// The most connections' beginnings and ends, chokes and requests that a page carries, of each.
const TALK_MAX: usize = 30_000;
/// The most lines of the log.
const LOG_MAX: usize = 500;
/// The longest name, title or reason, in characters: any could come from a stranger.
const TEXT_CHARS_MAX: usize = 300;

/// A run under the name that tells it from others on the same page.
#[derive(Clone, Debug)]
pub struct Labelled<'a> {
    /// `rarest first`.
    pub label: String,
    /// What happened.
    pub recording: &'a Recording,
}

/// What the page gets of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) label: String,
    pub(crate) seed: u64,
    pub(crate) end: f64,
    pub(crate) bound: Option<f64>,
    pub(crate) pieces: u32,
    pub(crate) piece_len: u32,
    pub(crate) peers: Vec<Peer>,
    pub(crate) steps: Vec<Step>,
    pub(crate) round: Option<String>,
    pub(crate) series: Series,
    pub(crate) facts: Vec<(String, String)>,
    /// From, to, bytes.
    pub(crate) given: Vec<(usize, usize, u64)>,
    /// From, to, piece, at, until, bytes, whether it is right.
    flights: Vec<(usize, usize, u32, f64, f64, u64, u8)>,
    /// At, peer, piece.
    haves: Vec<(f64, u32, u32)>,
    /// At, peer, piece.
    fails: Vec<(f64, u32, u32)>,
    /// At, one end, the other, whether they are connected from then on.
    links: Vec<(f64, u32, u32, u8)>,
    /// At, by whom, whom, whether choked, which reason.
    chokes: Vec<(f64, u32, u32, u8, Option<usize>)>,
    /// At, by whom, of whom, piece, which reason.
    requests: Vec<(f64, u32, u32, u32, Option<usize>)>,
    reasons: Vec<String>,
    /// At, words.
    pub(crate) log: Vec<(f64, String)>,
    /// What was too much for a page, in words.
    omitted: Vec<String>,
}

/// What the page gets of a peer.
#[derive(Debug, Serialize)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) up: u64,
    down: u64,
    pub(crate) joined: f64,
    left: Option<f64>,
    pub(crate) completed: Option<f64>,
    /// Pieces at the start, as ranges with both ends.
    start: Vec<(u32, u32)>,
}

/// No longer than a page can bear.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// To a tenth of a millisecond: more digits would only make the page larger.
fn fine(seconds: f64) -> f64 {
    (seconds * 1e4).round() / 1e4
}

fn ranges(pieces: &[u32]) -> Vec<(u32, u32)> {
    let mut sorted = pieces.to_vec();
    sorted.sort_unstable();
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for piece in sorted {
        match ranges.last_mut() {
            Some((_, last)) if piece <= last.saturating_add(1) => *last = piece,
            _ => ranges.push((piece, piece)),
        }
    }
    ranges
}

impl Peer {
    fn of(card: &PeerCard, pieces: u32) -> Self {
        Self {
            name: cut(&card.name),
            role: cut(card.role),
            up: card.up,
            down: card.down,
            joined: fine(card.joined),
            left: card.left.map(fine),
            completed: card.completed.map(fine),
            start: ranges(&card.first_pieces(pieces)),
        }
    }
}

impl Run {
    pub(crate) fn of(run: &Labelled<'_>) -> Self {
        let recording = run.recording;
        let tally = Tally::of(recording);
        let mut talk = Talk::default();
        if recording.peers.len() <= DRAWN_PEERS_MAX {
            recording
                .moments
                .iter()
                .for_each(|moment| talk.follow(moment));
        }
        let mut omitted = talk.omitted();
        Self {
            label: cut(&run.label),
            seed: recording.seed,
            end: recording.end,
            bound: recording.bound,
            pieces: recording.pieces,
            piece_len: recording.piece_len,
            peers: recording
                .peers
                .iter()
                .map(|card| Peer::of(card, recording.pieces))
                .collect(),
            steps: steps(recording),
            round: round_sentence(recording),
            series: series(recording),
            facts: facts(recording, &tally),
            given: tally
                .given
                .iter()
                .map(|((from, to), bytes)| (*from, *to, *bytes))
                .collect(),
            flights: drawn_flights(recording, &mut omitted),
            haves: haves(recording, &mut omitted),
            fails: fails(recording),
            links: talk.links,
            chokes: talk.chokes,
            requests: talk.requests,
            reasons: talk.reasons.texts,
            log: log(recording, &mut omitted),
            omitted,
        }
    }
}

/// What a run comes to, in a few figures.
fn facts(recording: &Recording, tally: &Tally) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut fact = |label: &str, value: String| facts.push((label.to_owned(), value));
    if let Some(slowest) = tally.slowest().filter(|_| tally.unfinished == 0) {
        fact("All complete after", words::seconds(slowest));
    }
    if tally.unfinished > 0 {
        fact("Never complete", words::count(tally.unfinished, "peer"));
    }
    if let Some(bound) = recording.bound {
        fact("Least possible", words::seconds(bound));
        if let Some(slowest) = tally
            .slowest()
            .filter(|_| bound > 0.0 && tally.unfinished == 0)
        {
            fact(
                "Times the least possible",
                format!("{:.2}", slowest / bound),
            );
        }
    }
    fact(
        "Copies the seeder sent",
        format!("{:.2}", tally.seed_copies),
    );
    if tally.wrong_bytes > 0 {
        fact("Wrong data sent", words::size(tally.wrong_bytes));
    }
    facts
}

fn drawn_flights(
    recording: &Recording,
    omitted: &mut Vec<String>,
) -> Vec<(usize, usize, u32, f64, f64, u64, u8)> {
    if recording.peers.len() > DRAWN_PEERS_MAX {
        return Vec::new();
    }
    let mut flights = flights(recording);
    limit(&mut flights, FLIGHTS_MAX, "pieces under way", omitted);
    let row = |f: &super::flights::Flight| {
        (
            f.from,
            f.to,
            f.piece,
            fine(f.at),
            fine(f.until),
            f.bytes,
            u8::from(f.right),
        )
    };
    flights.iter().map(row).collect()
}

fn haves(recording: &Recording, omitted: &mut Vec<String>) -> Vec<(f64, u32, u32)> {
    let mut found: Vec<_> = recording
        .moments
        .iter()
        .filter_map(|moment| match moment.kind {
            MomentKind::Have { peer, piece } => Some((fine(moment.at), peer, piece)),
            _ => None,
        })
        .collect();
    limit(&mut found, HAVES_MAX, "arrivals of pieces", omitted);
    found
}

fn fails(recording: &Recording) -> Vec<(f64, u32, u32)> {
    let failed = |moment: &Moment| match moment.kind {
        MomentKind::Failed { peer, piece } => Some((fine(moment.at), peer, piece)),
        _ => None,
    };
    recording
        .moments
        .iter()
        .filter_map(failed)
        .take(TALK_MAX)
        .collect()
}

/// Keeps the first `max`, and says so.
fn limit<T>(list: &mut Vec<T>, max: usize, what: &str, omitted: &mut Vec<String>) {
    if list.len() > max {
        omitted.push(format!(
            "The picture has the first {max} of {} {what}.",
            list.len()
        ));
        list.truncate(max);
    }
}

/// What peers said to each other.
#[derive(Debug, Default)]
struct Talk {
    links: Vec<(f64, u32, u32, u8)>,
    chokes: Vec<(f64, u32, u32, u8, Option<usize>)>,
    requests: Vec<(f64, u32, u32, u32, Option<usize>)>,
    reasons: Reasons,
    /// The last piece asked for, by asker and asked: blocks of one piece are one line.
    asked: BTreeMap<(u32, u32), u32>,
    left_out: usize,
}

/// Each reason once.
#[derive(Debug, Default)]
struct Reasons {
    texts: Vec<String>,
    places: BTreeMap<String, usize>,
}

impl Reasons {
    fn place(&mut self, why: Option<&String>) -> Option<usize> {
        let why = cut(why?);
        let next = self.texts.len();
        let place = *self.places.entry(why.clone()).or_insert(next);
        if place == next {
            self.texts.push(why);
        }
        Some(place)
    }
}

impl Talk {
    fn follow(&mut self, moment: &Moment) {
        let at = fine(moment.at);
        let is_full = [self.links.len(), self.chokes.len(), self.requests.len()]
            .into_iter()
            .any(|len| len >= TALK_MAX);
        match &moment.kind {
            MomentKind::Connected { .. }
            | MomentKind::Disconnected { .. }
            | MomentKind::Choke { .. }
            | MomentKind::Request { .. }
                if is_full =>
            {
                self.left_out += 1;
            }
            MomentKind::Connected { a, b } => self.links.push((at, *a, *b, 1)),
            MomentKind::Disconnected { a, b } => self.links.push((at, *a, *b, 0)),
            MomentKind::Choke {
                by,
                to,
                choked,
                why,
            } => {
                let why = self.reasons.place(why.as_ref());
                self.chokes.push((at, *by, *to, u8::from(*choked), why));
            }
            MomentKind::Request { by, to, piece, why }
                if self.asked.insert((*by, *to), *piece) != Some(*piece) =>
            {
                let why = self.reasons.place(why.as_ref());
                self.requests.push((at, *by, *to, *piece, why));
            }
            _ => {}
        }
    }

    fn omitted(&self) -> Vec<String> {
        let text = || {
            format!(
                "{} chokes, requests and connections are left out.",
                self.left_out
            )
        };
        (self.left_out > 0).then(text).into_iter().collect()
    }
}

/// What is worth a line.
fn log(recording: &Recording, omitted: &mut Vec<String>) -> Vec<(f64, String)> {
    let name = |peer: u32| {
        recording
            .peers
            .get(peer as usize)
            .map_or("?", |card| card.name.as_str())
    };
    let are_few = recording.peers.len() <= DRAWN_PEERS_MAX;
    let is_small = are_few && recording.pieces <= 16;
    let mut lines: Vec<_> = recording
        .moments
        .iter()
        .filter_map(|moment| {
            let text = match &moment.kind {
                MomentKind::Have { peer, piece } if is_small => {
                    format!("{} has piece {piece}: it matches its hash", name(*peer))
                }
                MomentKind::Failed { peer, piece } => {
                    format!(
                        "{}: piece {piece} does not match its hash, and is thrown away",
                        name(*peer)
                    )
                }
                MomentKind::Joined { peer } if moment.at > 0.0 => format!("{} comes", name(*peer)),
                MomentKind::Left { peer } => format!("{} leaves", name(*peer)),
                MomentKind::Completed { peer } if are_few => format!("{} is complete", name(*peer)),
                MomentKind::Banned { by, peer } => {
                    format!(
                        "{} talks to {} no more: it sent wrong data",
                        name(*by),
                        name(*peer)
                    )
                }
                MomentKind::Crashed { peer } => format!("{} crashes", name(*peer)),
                MomentKind::Restarted { peer } => format!("{} starts again", name(*peer)),
                MomentKind::Tracker { peer, event } if is_small => {
                    format!("{} announces to the tracker: {event}", name(*peer))
                }
                MomentKind::Note { text } => text.clone(),
                _ => return None,
            };
            Some((fine(moment.at), cut(&text)))
        })
        .collect();
    limit(&mut lines, LOG_MAX, "lines of the log", omitted);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_run_that_is_too_much_is_cut_and_says_so() {
        let mut recording = sample::four_pieces();
        let note = MomentKind::Note {
            text: "n".repeat(400),
        };
        recording.moments.extend((0..600).map(|_| Moment {
            at: 2.7,
            kind: note.clone(),
        }));
        let run = Run::of(&Labelled {
            label: "x".to_owned(),
            recording: &recording,
        });
        assert_eq!(run.log.len(), LOG_MAX);
        assert!(
            run.omitted[0].contains("lines of the log"),
            "{:?}",
            run.omitted
        );
        assert!(
            run.log
                .iter()
                .all(|(_, text)| text.chars().count() <= TEXT_CHARS_MAX + 1)
        );
    }

    #[test]
    fn a_crowd_has_no_flights_but_arrivals() {
        let recording = sample::crowd(60);
        let run = Run::of(&Labelled {
            label: String::new(),
            recording: &recording,
        });
        assert!(run.flights.is_empty());
        assert_eq!(run.haves.len(), 60 * 32);
    }

    #[test]
    fn pieces_at_the_start_are_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 6]), [(0, 2), (5, 7)]);
        assert_eq!(ranges(&[]), []);
    }
}
