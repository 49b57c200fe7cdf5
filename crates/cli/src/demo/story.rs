//! The moments that are worth a sentence.

use std::time::Duration;

use serde_json::{Value, json};

use super::account::Account;
use super::look::Look;

/// Something that happened for the first time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Milestone {
    /// A piece has left the seeder.
    FirstPiece { to: char },
    /// A peer has a piece, or a part of one, that did not come from the seeder.
    FirstExchange { from: char, to: char },
    /// Each piece has left the seeder.
    AllOut { seeder_copies: f64 },
    /// A peer has everything.
    Complete { peer: char, is_last: bool },
}

/// What was told, so that nothing is told twice.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    first_piece: bool,
    first_exchange: bool,
    all_out: bool,
    /// Whether each has everything, the seeder first.
    complete: Vec<bool>,
}

impl Story {
    pub(crate) fn new(names: &[char]) -> Self {
        Self {
            first_piece: false,
            first_exchange: names.len() <= 2,
            all_out: false,
            complete: vec![false; names.len()],
        }
    }

    /// What has happened since the last look, in the order in which it must have happened.
    pub(crate) fn follow(&mut self, look: &Look, account: &Account) -> Vec<Milestone> {
        let mut told = Vec::new();
        let first = look.receivers().iter().find(|peer| !peer.pieces.none());
        if let Some(peer) = first.filter(|_| !self.first_piece) {
            self.first_piece = true;
            told.push(Milestone::FirstPiece { to: peer.name });
        }
        if let Some((from, to)) = exchange(look, account).filter(|_| !self.first_exchange) {
            self.first_exchange = true;
            told.push(Milestone::FirstExchange { from, to });
        }
        if look.is_out() && !self.all_out {
            self.all_out = true;
            told.push(Milestone::AllOut {
                seeder_copies: account.seeder_copies(),
            });
        }
        for (peer, complete) in look.peers.iter().zip(&mut self.complete).skip(1) {
            if peer.is_complete && !*complete {
                *complete = true;
                told.push(Milestone::Complete {
                    peer: peer.name,
                    is_last: false,
                });
            }
        }
        if look.is_over()
            && let Some(Milestone::Complete { is_last, .. }) = told.last_mut()
        {
            *is_last = true;
        }
        told
    }
}

/// A peer whose verified bytes are more than the seeder gave it, and who else gave it most.
fn exchange(look: &Look, account: &Account) -> Option<(char, char)> {
    (1..).zip(look.receivers()).find_map(|(receiver, peer)| {
        let helped = peer.verified_bytes > account.given(0, receiver);
        let giver = (1..look.peers.len()).max_by_key(|giver| account.given(*giver, receiver));
        let giver = giver.filter(|giver| helped && account.given(*giver, receiver) > 0)?;
        Some((look.peers.get(giver)?.name, peer.name))
    })
}

impl Milestone {
    /// For people.
    pub(crate) fn sentence(self, at: Duration) -> String {
        let what = match self {
            Self::FirstPiece { to } => {
                format!("the first piece leaves S: {to} has it, checked it, and can give it on")
            }
            Self::FirstExchange { from, to } => {
                format!("the first piece that does not come from S: {from} gives it to {to}")
            }
            Self::AllOut { .. } => {
                "S has given every piece once: from here on they could do without S".to_owned()
            }
            Self::Complete {
                peer,
                is_last: false,
            } => format!("{peer} is complete, and is a seeder now"),
            Self::Complete {
                peer,
                is_last: true,
            } => format!("{peer} is complete, too: all are seeders now"),
        };
        format!("{:5.1} s  {what}", at.as_secs_f64())
    }

    /// For programs.
    pub(crate) fn to_json(self, at: Duration) -> Value {
        let seconds = at.as_secs_f64();
        let event = "milestone";
        match self {
            Self::FirstPiece { to } => {
                json!({ "event": event, "milestone": "first_piece", "seconds": seconds, "to": to })
            }
            Self::FirstExchange { from, to } => {
                json!({ "event": event, "milestone": "first_exchange", "seconds": seconds, "from": from, "to": to })
            }
            Self::AllOut { seeder_copies } => {
                json!({ "event": event, "milestone": "all_out", "seconds": seconds, "seeder_copies": seeder_copies })
            }
            Self::Complete { peer, .. } => {
                json!({ "event": event, "milestone": "complete", "seconds": seconds, "peer": peer })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::look::tests::look;
    use super::*;

    #[test]
    fn each_moment_is_told_once_and_in_order() {
        let names = ['S', 'A', 'B'];
        let (mut story, mut account) = (Story::new(&names), Account::new(&names, 100));
        let mut follow = |look: &Look| {
            account.note(look);
            story.follow(look, &account)
        };
        assert_eq!(follow(&look("SAB", &["111", "000", "000"])), []);
        let mut seen = look("SAB", &["111", "010", "000"]);
        seen.connect('A', 'S', 1);
        assert_eq!(follow(&seen), [Milestone::FirstPiece { to: 'A' }]);
        assert_eq!(follow(&seen), []);
        let mut seen = look("SAB", &["111", "110", "011"]);
        seen.connect('A', 'S', 2);
        seen.connect('B', 'S', 1);
        seen.connect('B', 'A', 1);
        let (from, to) = ('A', 'B');
        assert_eq!(
            follow(&seen),
            [
                Milestone::FirstExchange { from, to },
                Milestone::AllOut { seeder_copies: 0.0 }
            ]
        );
        let mut seen = look("SAB", &["111", "111", "111"]);
        seen.peers[2].is_complete = true;
        let complete = |peer, is_last| Milestone::Complete { peer, is_last };
        assert_eq!(follow(&seen), [complete('B', false)]);
        seen.peers[1].is_complete = true;
        assert_eq!(follow(&seen), [complete('A', true)]);
        assert_eq!(follow(&seen), []);
    }
}
