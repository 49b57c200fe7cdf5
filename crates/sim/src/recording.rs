//! A run as it can be shown: who was there, and what they did when.

use riverrun_base::{BLOCK_LEN, Bitfield, PieceIndex, Time};
use serde::Serialize;

use crate::config::{HostConfig, Start};
use crate::content::Payload;
use crate::ids::HostId;
use crate::observe::{Happening, Observer};
use crate::seconds;
use crate::world::World;

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Recording {
    /// What it shows.
    pub title: String,
    /// The seed that gives it again.
    pub seed: u64,
    /// How long a piece is, in bytes; the last may be shorter.
    pub piece_len: u32,
    /// How long a block is, in bytes.
    pub block_len: u32,
    /// How many pieces there are.
    pub pieces: u32,
    /// When it ended, in seconds.
    pub end: f64,
    /// How soon the last could have been complete at all, in seconds, if that is known.
    pub bound: Option<f64>,
    /// Who was there; moments name them by their place here.
    pub peers: Vec<PeerCard>,
    /// What happened, in order of time.
    pub moments: Vec<Moment>,
    /// What happened in each second, if that was asked for.
    pub seconds: Vec<Second>,
}

impl Recording {
    /// A peer's name.
    pub(crate) fn name(&self, peer: usize) -> &str {
        self.peers.get(peer).map_or("?", |card| &card.name)
    }
}

/// Somebody who was there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerCard {
    /// What it is called.
    pub name: String,
    /// `seeder`, `leecher` or `hostile`.
    pub role: &'static str,
    /// Its uplink in bytes per second; 0 is without limit.
    pub up: u64,
    /// Its downlink in bytes per second; 0 is without limit.
    pub down: u64,
    /// When it came, in seconds.
    pub joined: f64,
    /// When it went, in seconds.
    pub left: Option<f64>,
    /// When it had everything, in seconds.
    pub completed: Option<f64>,
    /// What it had at first.
    pub have_at_start: HaveAtStart,
}

/// What somebody had at first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum HaveAtStart {
    /// These pieces.
    Pieces(Vec<u32>),
    /// All pieces: the word `all`.
    All(&'static str),
}

impl PeerCard {
    /// The pieces that it had at first, of so many.
    pub fn first_pieces(&self, pieces: u32) -> Vec<u32> {
        match &self.have_at_start {
            HaveAtStart::All(_) => (0..pieces).collect(),
            HaveAtStart::Pieces(list) => list
                .iter()
                .copied()
                .filter(|piece| *piece < pieces)
                .collect(),
        }
    }

    /// Whether it had all of so many pieces at first.
    pub fn had_all(&self, pieces: u32) -> bool {
        match &self.have_at_start {
            HaveAtStart::All(_) => true,
            HaveAtStart::Pieces(list) => list.len() >= pieces as usize,
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moment {
    /// When, in seconds.
    pub at: f64,
    /// What.
    #[serde(flatten)]
    pub kind: MomentKind,
}

/// What happened. Peers are named by their place in [`Recording::peers`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the fields of a record, named by what they are"
)]
pub enum MomentKind {
    /// A block is under way until `until`, in seconds.
    Sent {
        from: u32,
        to: u32,
        piece: u32,
        offset: u32,
        len: u32,
        until: f64,
        right: bool,
    },
    /// A piece is there, and right.
    Have { peer: u32, piece: u32 },
    /// A piece is there, and wrong.
    Failed { peer: u32, piece: u32 },
    /// Two are connected; `a` has dialled.
    Connected { a: u32, b: u32 },
    /// They are no longer.
    Disconnected { a: u32, b: u32 },
    /// Somebody chokes somebody, or unchokes.
    Choke {
        by: u32,
        to: u32,
        choked: bool,
        why: Option<String>,
    },
    /// Somebody asks somebody for blocks of a piece.
    Request {
        by: u32,
        to: u32,
        piece: u32,
        why: Option<String>,
    },
    /// Somebody comes.
    Joined { peer: u32 },
    /// Somebody goes.
    Left { peer: u32 },
    /// Somebody has everything.
    Completed { peer: u32 },
    /// Somebody will have nothing to do with somebody any more.
    Banned { by: u32, peer: u32 },
    /// Somebody ends without a word.
    Crashed { peer: u32 },
    /// Somebody comes again after a crash.
    Restarted { peer: u32 },
    /// Somebody announces itself to the tracker.
    Tracker { peer: u32, event: &'static str },
    /// Somebody remarks something.
    Note { text: String },
}

/// What happened in one second, summed up.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Second {
    /// How much payload arrived in it, in bytes.
    pub received_bytes: u64,
    /// How much of that the seeds of the beginning sent, in bytes.
    pub from_seeds_bytes: u64,
    /// How many pieces became right in it.
    pub verified: u32,
    /// How many hosts have got everything by its end; those that had it from the start do not count.
    pub complete: u32,
    /// How many hosts are there at its end.
    pub present: u32,
    /// How many hosts have the rarest piece at its end, of those present.
    pub rarest_copies: u32,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Every moment.
    #[default]
    Moments,
    /// Who comes, goes, is complete, and has which piece; the rest as sums per second.
    Pieces,
    /// Who comes, goes and is complete; the rest as sums per second.
    Seconds,
}

/// Keeps what there is to show of a run.
pub struct Recorder {
    recording: Recording,
    detail: Detail,
    have: Vec<Bitfield>,
    copies: Vec<u32>,
    present: Vec<bool>,
    complete: u32,
}

impl Recorder {
    /// One that keeps so much, under this title.
    pub fn new(title: &str, detail: Detail) -> Self {
        let recording = Recording {
            title: title.to_owned(),
            block_len: BLOCK_LEN,
            ..Recording::default()
        };
        Self {
            recording,
            detail,
            have: Vec::new(),
            copies: Vec::new(),
            present: Vec::new(),
            complete: 0,
        }
    }

    /// The record, once the run is over. `bound` is when the last could have been complete at all, in seconds.
    pub fn finish(mut self, world: &World, bound: Option<f64>) -> Recording {
        self.meet(world);
        self.end_second();
        let recording = &mut self.recording;
        recording.seed = world.config().seed;
        recording.end = seconds::of(world.now());
        recording.bound = bound;
        for (card, (_, host)) in recording.peers.iter_mut().zip(world.hosts()) {
            let tally = host.tally();
            card.joined = tally.joined_at.map_or(0.0, seconds::of);
            card.left = tally.left_at.map(seconds::of);
            card.completed = tally.completed_at.map(seconds::of);
        }
        recording.moments.sort_by(|a, b| a.at.total_cmp(&b.at));
        self.recording
    }

    /// Takes note of hosts that are new.
    fn meet(&mut self, world: &World) {
        let known = self.recording.peers.len();
        for (_, host) in world.hosts().skip(known) {
            let Some((content, _)) = host.contents().next() else {
                self.recording.peers.push(card(&host.config));
                self.have.push(Bitfield::new(self.recording.pieces));
                self.present.push(false);
                continue;
            };
            let layout = world.content(content).info().layout();
            self.recording.pieces = layout.piece_count();
            self.recording.piece_len = layout.nominal_piece_len();
            self.copies.resize(layout.piece_count() as usize, 0);
            self.recording.peers.push(card(&host.config));
            self.have
                .push(host.config.start.pieces(layout.piece_count()));
            self.present.push(false);
        }
    }

    fn second(&mut self, at: Time) -> &mut Second {
        let index = usize::try_from(at.as_micros() / 1_000_000).unwrap_or(0);
        while self.recording.seconds.len() <= index {
            self.end_second();
            self.recording.seconds.push(Second::default());
        }
        &mut self.recording.seconds[index]
    }

    /// What is so at the end of the last second.
    fn end_second(&mut self) {
        let present = self.present.iter().filter(|present| **present).count();
        if let Some(last) = self.recording.seconds.last_mut() {
            last.complete = self.complete;
            last.present = u32::try_from(present).unwrap_or(u32::MAX);
            last.rarest_copies = self.copies.iter().copied().min().unwrap_or(0);
        }
    }

    /// Somebody who is present has a piece more, or fewer.
    fn count(&mut self, host: HostId, come: bool) {
        self.present[host.as_usize()] = come;
        for piece in self.have[host.as_usize()].ones() {
            let copies = &mut self.copies[piece.as_usize()];
            *copies = if come {
                *copies + 1
            } else {
                copies.saturating_sub(1)
            };
        }
    }

    fn verified(&mut self, host: HostId, piece: PieceIndex) {
        let (at, have) = (host.as_usize(), &mut self.have[host.as_usize()]);
        if have.set(piece) && self.present[at] {
            self.copies[piece.as_usize()] += 1;
        }
    }

    /// What moves the sums.
    fn sum(&mut self, world: &World, happening: &Happening) {
        let now = world.now();
        self.second(now);
        match happening {
            Happening::Joined { host } | Happening::Restarted { host } => self.count(*host, true),
            Happening::Left { host } | Happening::Crashed { host, .. }
                if self.present[host.as_usize()] =>
            {
                self.count(*host, false);
            }
            Happening::Verified { host, piece } => {
                self.verified(*host, *piece);
                self.second(now).verified += 1;
            }
            Happening::Completed { .. } => self.complete += 1,
            Happening::Received { from, span, .. } => {
                let from_seed = world.host(*from).config.start == Start::Full;
                let second = self.second(now);
                second.received_bytes += u64::from(span.len);
                second.from_seeds_bytes += if from_seed { u64::from(span.len) } else { 0 };
            }
            _ => {}
        }
    }
}

impl Observer for Recorder {
    fn wants_reasons(&self) -> bool {
        self.detail == Detail::Moments
    }

    fn observe(&mut self, world: &World, happenings: &[Happening]) {
        if happenings.is_empty() {
            return;
        }
        self.meet(world);
        for happening in happenings {
            if self.detail != Detail::Moments {
                self.sum(world, happening);
                let is_piece = self.detail == Detail::Pieces && is_of_pieces(happening);
                if !is_piece && !is_of_life(happening) {
                    continue;
                }
            }
            if let Some((at, kind)) = moment(world.now(), happening) {
                let at = seconds::of(at);
                self.recording.moments.push(Moment { at, kind });
            }
        }
    }
}

/// Whether a happening is kept even where moments are not.
const fn is_of_life(happening: &Happening) -> bool {
    matches!(
        happening,
        Happening::Joined { .. }
            | Happening::Left { .. }
            | Happening::Crashed { .. }
            | Happening::Restarted { .. }
            | Happening::Completed { .. }
            | Happening::Banned { .. }
            | Happening::Note { .. }
    )
}

/// Whether a happening tells of a whole piece.
const fn is_of_pieces(happening: &Happening) -> bool {
    matches!(
        happening,
        Happening::Verified { .. } | Happening::Failed { .. }
    )
}

fn moment(now: Time, happening: &Happening) -> Option<(Time, MomentKind)> {
    let kind = match happening {
        Happening::Received {
            from,
            to,
            span,
            payload,
            began,
            ..
        } => {
            let sent = MomentKind::Sent {
                from: from.0,
                to: to.0,
                piece: span.piece.0,
                offset: span.offset,
                len: span.len,
                until: seconds::of(now),
                right: *payload == Payload::Right,
            };
            return Some((*began, sent));
        }
        Happening::Connected { from, to } => MomentKind::Connected { a: from.0, b: to.0 },
        Happening::Disconnected { from, to } => MomentKind::Disconnected { a: from.0, b: to.0 },
        Happening::Choked {
            by,
            to,
            choked,
            why,
            ..
        } => MomentKind::Choke {
            by: by.0,
            to: to.0,
            choked: *choked,
            why: why.map(|why| why.to_string()),
        },
        Happening::Requested { by, to, piece, why } => MomentKind::Request {
            by: by.0,
            to: to.0,
            piece: piece.0,
            why: why.map(|why| why.to_string()),
        },
        other => of_one(other)?,
    };
    Some((now, kind))
}

/// What happens to one alone.
fn of_one(happening: &Happening) -> Option<MomentKind> {
    Some(match happening {
        Happening::Verified { host, piece } => MomentKind::Have {
            peer: host.0,
            piece: piece.0,
        },
        Happening::Failed { host, piece } => MomentKind::Failed {
            peer: host.0,
            piece: piece.0,
        },
        Happening::Joined { host } => MomentKind::Joined { peer: host.0 },
        Happening::Left { host } => MomentKind::Left { peer: host.0 },
        Happening::Completed { host } => MomentKind::Completed { peer: host.0 },
        Happening::Banned { by, host } => MomentKind::Banned {
            by: by.0,
            peer: (*host)?.0,
        },
        Happening::Crashed { host, .. } => MomentKind::Crashed { peer: host.0 },
        Happening::Restarted { host } => MomentKind::Restarted { peer: host.0 },
        Happening::Announced { host, event, .. } => MomentKind::Tracker {
            peer: host.0,
            event: event.as_str().unwrap_or("again"),
        },
        Happening::Spoiled { host, piece } => note(&format!("{piece} rots on the disk of {host}")),
        Happening::Split { is_split: true } => note("the network is split"),
        Happening::Split { is_split: false } => note("the network is whole"),
        Happening::Note { text } => note(text),
        _ => return None,
    })
}

fn note(text: &str) -> MomentKind {
    MomentKind::Note {
        text: text.to_owned(),
    }
}

fn card(config: &HostConfig) -> PeerCard {
    let role = match &config.start {
        _ if !config.manners.is_honest() => "hostile",
        Start::Full => "seeder",
        _ => "leecher",
    };
    let have_at_start = match &config.start {
        Start::Full => HaveAtStart::All("all"),
        Start::Pieces(pieces) => HaveAtStart::Pieces(pieces.clone()),
        Start::Empty | Start::Magnet => HaveAtStart::Pieces(Vec::new()),
    };
    PeerCard {
        name: config.name.clone(),
        role,
        up: config.up.unwrap_or(0),
        down: config.down.unwrap_or(0),
        joined: 0.0,
        left: None,
        completed: None,
        have_at_start,
    }
}
