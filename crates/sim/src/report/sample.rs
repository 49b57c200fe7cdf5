//! Recordings made by hand, for tests of what is made of recordings.

use crate::recording::{HaveAtStart, Moment, MomentKind, PeerCard, Recording};

const PIECE_LEN: u32 = 262_144;
const BLOCK_LEN: u32 = 16_384;

fn card(name: &str, role: &'static str, have: HaveAtStart) -> PeerCard {
    PeerCard {
        name: name.to_owned(),
        role,
        up: 3 * u64::from(PIECE_LEN),
        down: 12 * u64::from(PIECE_LEN),
        joined: 0.0,
        left: None,
        completed: None,
        have_at_start: have,
    }
}

/// Sends a whole piece, block by block.
fn send(moments: &mut Vec<Moment>, ends: (u32, u32), piece: u32, time: (f64, f64)) {
    let blocks = PIECE_LEN / BLOCK_LEN;
    let each = (time.1 - time.0) / f64::from(blocks);
    for block in 0..blocks {
        let at = time.0 + each * f64::from(block);
        let kind = MomentKind::Sent {
            from: ends.0,
            to: ends.1,
            piece,
            offset: block * BLOCK_LEN,
            len: BLOCK_LEN,
            until: at + each,
            right: true,
        };
        moments.push(Moment { at, kind });
    }
    let at = time.1 + 0.01;
    moments.push(Moment {
        at,
        kind: MomentKind::Have {
            peer: ends.1,
            piece,
        },
    });
}

fn finish(mut recording: Recording) -> Recording {
    recording.moments.sort_by(|a, b| a.at.total_cmp(&b.at));
    let mut counts: Vec<u32> = vec![0; recording.peers.len()];
    let mut completed = Vec::new();
    for moment in &recording.moments {
        if let MomentKind::Have { peer, .. } = moment.kind {
            let place = peer as usize;
            counts[place] += 1;
            if counts[place] == recording.pieces {
                recording.peers[place].completed = Some(moment.at);
                completed.push(Moment {
                    at: moment.at,
                    kind: MomentKind::Completed { peer },
                });
            }
        }
    }
    recording.moments.extend(completed);
    recording.moments.sort_by(|a, b| a.at.total_cmp(&b.at));
    recording
}

/// The worked example as it would be without any latency.
pub(crate) fn four_pieces() -> Recording {
    let mut moments = Vec::new();
    let at = |at, kind| Moment { at, kind };
    let peers = 0..4_u32;
    for a in peers.clone() {
        moments.push(at(0.0, MomentKind::Joined { peer: a }));
        moments.extend(
            peers
                .clone()
                .skip(a as usize + 1)
                .map(|b| at(0.02, MomentKind::Connected { a, b })),
        );
    }
    let choke = |by, to, why: &str| MomentKind::Choke {
        by,
        to,
        choked: false,
        why: Some(why.to_owned()),
    };
    let request = |to, by, piece, why: &str| MomentKind::Request {
        by,
        to,
        piece,
        why: Some(why.to_owned()),
    };
    for to in 1..4 {
        moments.push(at(0.04, choke(0, to, "a slot is free")));
        let piece = to - 1;
        moments.push(at(
            0.05,
            request(0, to, piece, "the rarest that S has: one copy"),
        ));
        send(&mut moments, (0, to), piece, (0.06, 1.06));
    }
    for from in 1..4 {
        for to in (1..4).filter(|to| *to != from) {
            let piece = from - 1;
            moments.push(at(1.08, choke(from, to, "it gives to us")));
            moments.push(at(
                1.09,
                request(from, to, piece, "two copies, and we lack it"),
            ));
            send(&mut moments, (from, to), piece, (1.1, 1.8));
        }
    }
    send(&mut moments, (0, 1), 3, (1.1, 1.43));
    for to in 2..4 {
        send(&mut moments, (1, to), 3, (1.95, 2.6));
    }
    finish(Recording {
        title: "How four pieces become four copies".to_owned(),
        seed: 1,
        piece_len: PIECE_LEN,
        block_len: BLOCK_LEN,
        pieces: 4,
        end: 2.8,
        bound: Some(4.0 / 3.0),
        peers: vec![
            card("S", "seeder", HaveAtStart::All("all")),
            card("A", "leecher", HaveAtStart::Pieces(Vec::new())),
            card("B", "leecher", HaveAtStart::Pieces(Vec::new())),
            card("C", "leecher", HaveAtStart::Pieces(Vec::new())),
        ],
        moments,
        seconds: Vec::new(),
    })
}

/// Everywhere one piece for another.
pub(crate) fn rename_piece(recording: &mut Recording, from: u32, to: u32) {
    for moment in &mut recording.moments {
        match &mut moment.kind {
            MomentKind::Sent { piece, .. } | MomentKind::Have { piece, .. } if *piece == from => {
                *piece = to;
            }
            _ => {}
        }
    }
}

/// A seeder and `n` who get 32 pieces from those before them, in turn.
pub(crate) fn crowd(n: u32) -> Recording {
    let pieces = 32;
    let mut moments = Vec::new();
    for to in 1..=n {
        for piece in 0..pieces {
            let at = f64::from(piece) + f64::from(to) * 0.3;
            let from = to.saturating_sub(4);
            send(&mut moments, (from, to), piece, (at, at + 0.9));
        }
    }
    let mut peers = vec![card("S", "seeder", HaveAtStart::All("all"))];
    peers.extend(
        (1..=n).map(|n| card(&format!("p{n}"), "leecher", HaveAtStart::Pieces(Vec::new()))),
    );
    let end = moments
        .iter()
        .fold(0.0, |end: f64, moment| end.max(moment.at))
        + 1.0;
    finish(Recording {
        title: format!("{n} peers"),
        seed: 7,
        piece_len: PIECE_LEN,
        block_len: BLOCK_LEN,
        pieces,
        end,
        bound: Some(32.0 / 3.0),
        peers,
        moments,
        seconds: Vec::new(),
    })
}
