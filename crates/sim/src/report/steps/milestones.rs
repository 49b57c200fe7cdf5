//! A large swarm by what happened for the first time.

use super::Step;
use crate::recording::{MomentKind, Recording};
use crate::report::holdings::Holdings;
use crate::report::tally::is_seed;
use crate::report::words;

/// The milestones that a run reached, by time.
pub(super) fn milestones(recording: &Recording) -> Vec<Step> {
    let mut watch = Watch::new(recording);
    for moment in &recording.moments {
        watch.follow(moment.at, &moment.kind);
        watch.holdings.follow(moment);
    }
    watch.end();
    watch.steps
}

struct Watch<'a> {
    recording: &'a Recording,
    holdings: Holdings,
    seeds: Vec<bool>,
    /// Pieces that somebody else than the first seeders has had.
    out: Vec<bool>,
    left_to_go_out: u32,
    wanting: usize,
    complete: usize,
    first_trade: bool,
    first_failure: bool,
    first_ban: bool,
    steps: Vec<Step>,
}

impl<'a> Watch<'a> {
    fn new(recording: &'a Recording) -> Self {
        let seeds: Vec<bool> = recording
            .peers
            .iter()
            .map(|p| is_seed(recording, p))
            .collect();
        let honest = recording.peers.iter().filter(|card| card.role != "hostile");
        Self {
            holdings: Holdings::at_start(recording),
            out: vec![false; recording.pieces as usize],
            left_to_go_out: recording.pieces,
            wanting: honest.filter(|card| !is_seed(recording, card)).count(),
            seeds,
            recording,
            complete: 0,
            first_trade: false,
            first_failure: false,
            first_ban: false,
            steps: Vec::new(),
        }
    }

    fn name(&self, peer: usize) -> &'a str {
        self.recording.name(peer)
    }

    fn is_seed(&self, peer: usize) -> bool {
        self.seeds.get(peer) == Some(&true)
    }

    fn say(&mut self, at: f64, title: &str, caption: String) {
        self.steps.push(Step {
            title: title.to_owned(),
            from: at,
            until: at,
            caption,
        });
    }

    fn follow(&mut self, at: f64, kind: &MomentKind) {
        match *kind {
            MomentKind::Sent {
                from, to, until, ..
            } => self.sent(from as usize, to as usize, until),
            MomentKind::Have { peer, piece } => self.have(at, peer as usize, piece),
            MomentKind::Completed { peer } => self.completed(at, peer as usize),
            MomentKind::Failed { peer, piece } if !self.first_failure => {
                self.first_failure = true;
                let name = self.name(peer as usize);
                let text = format!(
                    "Piece {piece} does not match its hash: {name} throws it away and asks again."
                );
                self.say(at, "A wrong piece", text);
            }
            MomentKind::Banned { by, peer } if !self.first_ban => {
                self.first_ban = true;
                let text = format!(
                    "{} has found out that {} lies, and talks to it no more.",
                    self.name(by as usize),
                    self.name(peer as usize)
                );
                self.say(at, "A liar is found", text);
            }
            MomentKind::Left { peer } | MomentKind::Crashed { peer }
                if self.is_seed(peer as usize) =>
            {
                let out = self.recording.pieces - self.left_to_go_out;
                let text = format!(
                    "{} leaves. {out} of {} pieces are with the others.",
                    self.name(peer as usize),
                    self.recording.pieces
                );
                self.say(at, "A seeder leaves", text);
            }
            _ => {}
        }
    }

    fn sent(&mut self, from: usize, to: usize, until: f64) {
        if self.first_trade || self.is_seed(from) {
            return;
        }
        self.first_trade = true;
        let text = format!(
            "{} gives {} something that it got itself: from now on those who want also give.",
            self.name(from),
            self.name(to)
        );
        self.say(until, "The first trade", text);
    }

    fn have(&mut self, at: f64, peer: usize, piece: u32) {
        let is_new = self.out.get(piece as usize) == Some(&false) && !self.is_seed(peer);
        if !is_new {
            return;
        }
        if self.left_to_go_out == self.recording.pieces {
            let text = format!(
                "{} has piece {piece}, checked it, and can give it on.",
                self.name(peer)
            );
            self.say(at, "The first piece", text);
        }
        self.out[piece as usize] = true;
        self.left_to_go_out -= 1;
        if self.left_to_go_out == 0 {
            let text = "Every piece is with somebody else than the first seeders: the rest could do without them.";
            self.say(at, "Every piece is out", text.to_owned());
        }
    }

    fn completed(&mut self, at: f64, peer: usize) {
        if self.is_seed(peer) {
            return;
        }
        self.complete += 1;
        let (complete, wanting) = (self.complete, self.wanting);
        if complete == 1 {
            let text = format!("{} has everything, and is a seeder now.", self.name(peer));
            self.say(at, "The first is complete", text);
        }
        if complete == wanting.div_ceil(2) && wanting > 2 {
            let text = format!("{complete} of {wanting} have everything.");
            self.say(at, "Half are complete", text);
        }
        if complete == wanting && wanting > 1 {
            let bound = self
                .recording
                .bound
                .filter(|bound| *bound > 0.0)
                .map_or_else(String::new, |bound| {
                    format!(
                        " It took {:.2} times the least possible, {}.",
                        at / bound,
                        words::seconds(bound)
                    )
                });
            let text = format!(
                "All {wanting} have everything after {}.{bound}",
                words::seconds(at)
            );
            self.say(at, "All are complete", text);
        }
    }

    fn end(&mut self) {
        self.steps.sort_by(|a, b| a.until.total_cmp(&b.until));
        if self.complete < self.wanting {
            let text = format!(
                "{} of {} have everything when the run ends.",
                self.complete, self.wanting
            );
            self.say(self.recording.end, "The end", text);
        }
    }
}
