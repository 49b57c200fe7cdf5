//! Who is unchoked.

use std::collections::BTreeSet;
use std::time::Duration;

use riverrun_base::{Rate, Time};
use riverrun_swarm::{Config, ConnKey, TorrentState, UnchokeSlots};

use super::{Peer, Peers};

/// The fewest slots under an upload limit.
const SLOTS_MIN: u32 = 3;
/// The shortest time between two rounds.
const ROUND_MIN: Duration = Duration::from_secs(1);
/// Over how long it is measured what the uplink gives.
const WINDOW: Duration = Duration::from_secs(2);
/// The shortest turn with a seed's slot.
const TURN_MIN: Duration = Duration::from_secs(20);

/// As many of those who want something are unchoked as there are slots, at any time; who gives most keeps its slot, but for
/// one that is somebody's by chance; and at a seed turns are not cut short, and come to who has waited longest.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// When slots are reconsidered; none while nobody waits.
    pub(super) next_round: Option<Time>,
    /// They are now.
    pub(super) is_due: bool,
    /// How many there were.
    before: Option<usize>,
    uplink: Uplink,
}

/// What was sent in the time that is being measured, and what came of the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Uplink {
    since: Time,
    bytes: u64,
    /// In bytes per second.
    before: u64,
}

/// What slots are given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// For what peers give; one that gives nothing has its chance until it has taken so much.
    Trade {
        /// In bytes.
        grace_bytes: u64,
    },
    /// To everyone in turn.
    Turns,
    /// That cannot be told.
    Unknown,
}

/// What holds at the time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) slots: usize,
    pub(super) policy: Policy,
    /// How long the torrent is, in bytes.
    pub(super) content_len: u64,
    /// The longest time between two rounds.
    pub(super) interval: Duration,
    /// How much is given between two rounds, in bytes; zero if that does not matter.
    pub(super) round_bytes: u64,
}

/// Whose slots have changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Who was unchoked before.
    held: BTreeSet<ConnKey>,
    lost: Vec<Change>,
    won: Vec<Change>,
}

/// What there was to say of a peer when its slot changed.
#[derive(Debug)]
struct Change {
    conn: ConnKey,
    unchoked_at: Option<Time>,
    turn_bytes: u64,
}

impl Policy {
    pub(super) fn of(state: Option<&TorrentState>, config: &Config, piece_len: u32) -> Self {
        match state {
            Some(TorrentState::Downloading) => Self::Trade {
                grace_bytes: config.tuning.grace_pieces * u64::from(piece_len),
            },
            Some(TorrentState::Seeding | TorrentState::Finished) => Self::Turns,
            _ => Self::Unknown,
        }
    }
}

/// How many slots there are.
pub(super) fn count(config: &Config, limit: Option<Rate>, piece_len: u32) -> usize {
    let most = config.tuning.slots;
    let slots = match (config.unchoke_slots, limit) {
        (UnchokeSlots::Fixed(slots), _) => slots.max(1),
        (UnchokeSlots::Auto, None) => most,
        (UnchokeSlots::Auto, Some(limit)) => {
            // Beginning with the most, as long as a piece for each takes too long.
            let moved = u128::from(limit.bytes_per_second()) * config.tuning.hop_max.as_micros();
            let fits =
                |slots: &u32| u128::from(*slots) * u128::from(piece_len) * 1_000_000 <= moved;
            let most = most.max(SLOTS_MIN);
            (SLOTS_MIN..=most).rev().find(fits).unwrap_or(SLOTS_MIN)
        }
    };
    slots as usize
}

impl Changes {
    pub(super) fn before(peers: &Peers) -> Self {
        let held = peers.iter().filter(|(_, peer)| peer.is_unchoked);
        Self {
            held: held.map(|(conn, _)| *conn).collect(),
            ..Self::default()
        }
    }

    pub(super) fn choked(&mut self, conn: ConnKey, peer: &mut Peer) {
        peer.is_unchoked = false;
        self.lost.push(Change::of(conn, peer));
    }

    pub(super) fn unchoked(&mut self, conn: ConnKey, now: Time, peer: &mut Peer) {
        self.won.push(Change::of(conn, peer));
        peer.is_unchoked = true;
        peer.unchoked_at = Some(now);
        peer.turn_bytes = 0;
    }
}

impl Change {
    const fn of(conn: ConnKey, peer: &Peer) -> Self {
        Self {
            conn,
            unchoked_at: peer.unchoked_at,
            turn_bytes: peer.turn_bytes,
        }
    }
}

impl Uplink {
    fn count(&mut self, now: Time, bytes: u64) {
        if now.since(self.since) >= WINDOW {
            *self = Self {
                since: now,
                bytes: 0,
                before: self.rate(now),
            };
        }
        self.bytes += bytes;
    }

    /// In bytes per second, of the last whole window.
    fn rate(&self, now: Time) -> u64 {
        let passed = now.since(self.since);
        if passed < WINDOW {
            return self.before;
        }
        let rate = u128::from(self.bytes) * 1_000_000 / passed.as_micros();
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

impl Slots {
    /// A block has left: the next round may have come nearer.
    pub(super) fn sent(&mut self, now: Time, bytes: u64, rules: &Rules) {
        self.uplink.count(now, bytes);
        let latest = now + self.interval(now, rules);
        self.next_round = self.next_round.map(|due| due.min(latest));
    }

    /// Nothing is known of the uplink any more.
    pub(super) fn forget_uplink(&mut self) {
        self.uplink = Uplink::default();
    }

    /// How long a round that begins now lasts.
    fn interval(&self, now: Time, rules: &Rules) -> Duration {
        let rate = self.uplink.rate(now);
        if rate == 0 || rules.round_bytes == 0 {
            return rules.interval;
        }
        let takes = Duration::from_millis(rules.round_bytes * 1000 / rate);
        takes.max(ROUND_MIN).min(rules.interval)
    }

    /// Looks at who has slots now.
    pub(super) fn judge(
        &mut self,
        now: Time,
        peers: &mut Peers,
        changes: &Changes,
        rules: &Rules,
        found: &mut Vec<String>,
    ) {
        let ready = peers.values().filter(|peer| peer.is_ready);
        let interested = ready.filter(|peer| peer.is_interested).count();
        let served = peers
            .values()
            .filter(|peer| peer.is_interested && peer.is_unchoked);
        let served = served.count();
        if served != interested.min(rules.slots) {
            let slots = rules.slots;
            found.push(format!(
                "has unchoked {served} of {interested} who want something, and has {slots} slots"
            ));
        }
        let unchoked = peers.values().filter(|peer| peer.is_unchoked).count();
        if unchoked > rules.slots {
            found.push(format!(
                "has unchoked {unchoked} peers, and has {} slots",
                rules.slots
            ));
        }
        let shrunk = self
            .before
            .replace(rules.slots)
            .is_some_and(|old| old > rules.slots);
        if !shrunk {
            let what = match rules.policy {
                Policy::Trade { grace_bytes } => self.trade(peers, changes, rules, grace_bytes),
                Policy::Turns => self.turns(now, peers, changes, rules),
                Policy::Unknown => None,
            };
            found.extend(what);
        }
        if std::mem::take(&mut self.is_due) {
            self.next_round = None;
            for peer in peers.values_mut() {
                peer.given_bytes = [0, peer.given_bytes[0]];
            }
        }
        let due = self.next_round;
        self.next_round = (interested > rules.slots)
            .then(|| due.unwrap_or_else(|| now + self.interval(now, rules)));
    }

    /// Whether those who give are those who get.
    fn trade(
        &self,
        peers: &Peers,
        changes: &Changes,
        rules: &Rules,
        grace_bytes: u64,
    ) -> Option<String> {
        let given = |peer: &Peer| peer.given_bytes.iter().sum::<u64>();
        let best = waiting(peers, rules).map(|(_, peer)| given(peer)).max();
        if self.is_due {
            let best = best?;
            let served = peers
                .values()
                .filter(|peer| peer.is_interested && peer.is_unchoked);
            let worse = served.filter(|peer| given(peer) < best).count();
            // One slot is somebody's by chance, unless it is the only one.
            return (worse > usize::from(rules.slots > 1)).then(|| {
                format!("serves {worse} who gave less than one who waits, which gave {best} bytes")
            });
        }
        for lost in &changes.lost {
            let Some(peer) = peers.get(&lost.conn).filter(|peer| peer.is_interested) else {
                continue;
            };
            let gave = given(peer);
            if gave > 0 || lost.turn_bytes < grace_bytes {
                let conn = lost.conn;
                return Some(format!("takes the slot of {conn}, which gave {gave} bytes"));
            }
        }
        let worst = changes.won.iter().filter_map(|won| peers.get(&won.conn));
        let worst = worst
            .filter(|peer| !is_drain(peer, rules))
            .map(given)
            .min()?;
        (worst < best?).then(|| {
            format!("gives a slot to who gave {worst} bytes, while one waits who gave more")
        })
    }

    /// Whether turns are kept.
    fn turns(&self, now: Time, peers: &Peers, changes: &Changes, rules: &Rules) -> Option<String> {
        for lost in &changes.lost {
            let peer = peers.get(&lost.conn).filter(|peer| peer.is_interested);
            let held = lost.unchoked_at.map_or(Duration::ZERO, |at| now.since(at));
            let is_early = |peer| held < TURN_MIN && !is_drain(peer, rules);
            if peer.is_some_and(|peer| !self.is_due || is_early(peer)) {
                let conn = lost.conn;
                return Some(format!("takes the slot of {conn} after {held:?}"));
            }
        }
        // Whoever has had its turn just now stands behind.
        let waited = waiting(peers, rules).filter(|(conn, _)| !changes.held.contains(conn));
        let waited = waited.map(|(_, peer)| peer.unchoked_at).min()?;
        let sooner = changes.won.iter().find(|won| won.unchoked_at > waited)?;
        let conn = sooner.conn;
        Some(format!(
            "gives {conn} a turn, while another waits for longer"
        ))
    }
}

/// Those who want something and are choked.
fn waiting<'a>(peers: &'a Peers, rules: &'a Rules) -> impl Iterator<Item = (ConnKey, &'a Peer)> {
    let waits = |peer: &Peer| peer.is_ready && peer.is_interested && !peer.is_unchoked;
    peers
        .iter()
        .filter(move |(_, peer)| waits(peer) && !is_drain(peer, rules))
        .map(|(conn, peer)| (*conn, peer))
}

/// Whether a peer takes far more than there is, and says that it has little: others come first, whatever it gives.
fn is_drain(peer: &Peer, rules: &Rules) -> bool {
    let has_little = peer
        .have
        .as_ref()
        .is_some_and(|have| have.count_ones() < have.len() / 2);
    has_little && u128::from(peer.taken_bytes) * 2 > u128::from(rules.content_len) * 3
}
