//! Whom to unchoke.
//!
//! While downloading, slots go to those who give most, and one to somebody new (Cohen 2003). While seeding they
//! go round: a turn ends after a quota of bytes, and newcomers come first. Free slots are filled at once; rounds
//! are only for taking slots away, and there are none while nobody waits.

use std::time::Duration;

use riverrun_base::{Rng, Time};

use crate::key::ConnKey;
use crate::reason::SlotReason;

/// A seed's peer keeps its slot for at least this long: a shorter turn ends before a piece is through.
const TURN_MIN: Duration = Duration::from_secs(20);
/// A seed's peer loses its slot after this long if others wait, however slow it is: nobody starves.
const TURN_MAX: Duration = Duration::from_mins(1);
/// A peer that connected this recently is three times as likely to get the optimistic slot (BEP 3).
const NEWCOMER: Duration = Duration::from_mins(3);

/// What the choker has to know of a peer that is interested in us, or unchoked.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says something else of the peer"
)]
pub(crate) struct Applicant {
    pub(crate) conn: ConnKey,
    pub(crate) is_interested: bool,
    pub(crate) is_unchoked: bool,
    /// What it gave us lately, in bytes: in this round and the one before.
    pub(crate) given_bytes: u64,
    /// What it took since it was unchoked, in bytes.
    pub(crate) taken_bytes: u64,
    /// When it was unchoked the last time; `None` if never.
    pub(crate) unchoked_at: Option<Time>,
    pub(crate) connected_at: Time,
    /// It has no piece yet.
    pub(crate) is_empty: bool,
    /// Decides between those that are alike: else all would choose the same ones, who came first.
    pub(crate) lot: u32,
    /// It takes more than it could use and claims to have little: it gets what nobody else wants.
    pub(crate) is_drain: bool,
}

/// What slots are given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// For what peers give.
    Reciprocate {
        /// How many bytes a peer that gives nothing takes before it may lose its slot to one that gives.
        grace_bytes: u64,
    },
    /// To everyone in turn, with this many bytes for each.
    Rotate {
        /// How many bytes a turn has.
        quota_bytes: u64,
    },
}

/// How often slots are reconsidered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    pub(crate) interval: Duration,
    pub(crate) optimistic_interval: Duration,
}

/// A peer whose slot is given, or taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Choke(ConnKey, SlotReason),
    Unchoke(ConnKey, SlotReason),
}

/// Who has the optimistic slot, and when the next round is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choker {
    next_round: Option<Time>,
    optimistic: Option<ConnKey>,
    optimistic_until: Time,
}

impl Choker {
    /// When the next round is due; `None` while nobody waits for a slot.
    pub(crate) const fn next_round(&self) -> Option<Time> {
        self.next_round
    }

    /// Gives free slots, at once. To be called when interest, slots or peers have changed.
    pub(crate) fn fill(
        &mut self,
        now: Time,
        applicants: &[Applicant],
        slots: usize,
        policy: Policy,
        rounds: Rounds,
    ) -> Vec<Change> {
        let mut ranked = holding(applicants);
        rank(now, &mut ranked, policy);
        let mut waiting = waiting(applicants);
        waiting.sort_by_key(|peer| queue_key(peer, policy));
        let held = ranked.len().min(slots);
        let free = (slots - held).min(waiting.len());
        let displaced = match policy {
            Policy::Reciprocate { grace_bytes } => {
                displaced(&ranked[..held], &waiting[free..], |peer| {
                    self.may_lose(peer, grace_bytes)
                })
            }
            Policy::Rotate { .. } => Vec::new(),
        };
        let given_up = ranked[held..].iter().map(|peer| peer.conn);
        let given_up = given_up.map(|conn| Change::Choke(conn, SlotReason::FewerSlots));
        let losers = displaced.iter().map(|(loser, _)| *loser);
        let losers = losers.map(|conn| Change::Choke(conn, SlotReason::GivesNothing));
        let mut changes: Vec<_> = given_up.chain(losers).collect();
        // Who has lost interest keeps its slot until somebody wants it: interest often comes back soon.
        let idle = applicants
            .iter()
            .filter(|peer| peer.is_unchoked && !peer.is_interested);
        changes.extend(
            idle.skip(slots - held - free)
                .map(|peer| Change::Choke(peer.conn, SlotReason::NotInterested)),
        );
        let won = waiting[..free].iter().map(|peer| peer.conn);
        changes.extend(won.map(|conn| Change::Unchoke(conn, SlotReason::Free)));
        let winners = displaced.iter().map(|(_, winner)| *winner);
        changes.extend(winners.map(|conn| Change::Unchoke(conn, SlotReason::GivesMost)));
        self.schedule(now, waiting.len() > free || ranked.len() > slots, rounds);
        changes
    }

    /// Whether [`Choker::fill`] would change no slot, of which only those who hold one have to be looked at: that is so
    /// for nearly every input of a busy torrent. `waiting` is how many others are interested.
    pub(crate) fn is_settled(
        &self,
        holders: &[Applicant],
        waiting: usize,
        slots: usize,
        policy: Policy,
    ) -> bool {
        if waiting == 0 {
            return holders.len() <= slots;
        }
        let all_in_use = holders.len() == slots && holders.iter().all(|peer| peer.is_interested);
        let is_safe = |peer: &Applicant| match policy {
            Policy::Reciprocate { grace_bytes } => !self.may_lose(peer, grace_bytes),
            Policy::Rotate { .. } => true,
        };
        all_in_use && holders.iter().all(is_safe)
    }

    /// What is left to do of [`Choker::fill`] if all is settled.
    pub(crate) fn keep(&mut self, now: Time, waiting: usize, rounds: Rounds) {
        self.schedule(now, waiting > 0, rounds);
    }

    /// Rounds may have become shorter: the next one comes no later than that.
    pub(crate) fn hasten(&mut self, now: Time, rounds: Rounds) {
        self.next_round = self.next_round.map(|due| due.min(now + rounds.interval));
    }

    /// Whether a peer has had its chance to give, and gave nothing.
    fn may_lose(&self, peer: &Applicant, grace_bytes: u64) -> bool {
        let had_chance = peer.taken_bytes >= grace_bytes && Some(peer.conn) != self.optimistic;
        peer.given_bytes == 0 && had_chance
    }

    /// Takes slots away from some and gives them to others. To be called when a round is due.
    pub(crate) fn round(
        &mut self,
        now: Time,
        applicants: &[Applicant],
        slots: usize,
        policy: Policy,
        rounds: Rounds,
        rng: &mut Rng,
    ) -> Vec<Change> {
        let mut ranked: Vec<_> = applicants
            .iter()
            .filter(|peer| peer.is_interested)
            .copied()
            .collect();
        rank(now, &mut ranked, policy);
        let mut chosen: Vec<ConnKey> = ranked.iter().take(slots).map(|peer| peer.conn).collect();
        self.optimistic = match policy {
            Policy::Reciprocate { .. } if ranked.len() > slots && slots > 1 => {
                self.optimist(now, &ranked, slots - 1, rounds, rng)
            }
            _ => None,
        };
        if let (Some(optimist), Some(last)) = (self.optimistic, chosen.last_mut()) {
            *last = optimist;
        }
        self.next_round = None;
        self.schedule(now, ranked.len() > slots, rounds);
        let spare = slots.saturating_sub(chosen.len());
        let idle = applicants
            .iter()
            .filter(|peer| peer.is_unchoked && !peer.is_interested);
        chosen.extend(idle.take(spare).map(|peer| peer.conn));
        let earned = match policy {
            Policy::Reciprocate { .. } => SlotReason::GivesMost,
            Policy::Rotate { .. } => SlotReason::Rotation,
        };
        changes(applicants, &chosen, |conn| match self.optimistic {
            Some(optimist) if optimist == conn => SlotReason::Optimistic,
            _ => earned,
        })
    }

    /// Who has the optimistic slot now: a peer that has earned none of the `earned` first.
    fn optimist(
        &mut self,
        now: Time,
        ranked: &[Applicant],
        earned: usize,
        rounds: Rounds,
        rng: &mut Rng,
    ) -> Option<ConnKey> {
        let rest = &ranked[earned..];
        let stays = now < self.optimistic_until;
        let current = self
            .optimistic
            .filter(|old| rest.iter().any(|peer| peer.conn == *old));
        if stays && current.is_some() {
            return current;
        }
        self.optimistic_until = now + rounds.optimistic_interval;
        let tickets = rest
            .iter()
            .filter(|peer| Some(peer.conn) != current && !peer.is_drain);
        let tickets: Vec<_> = tickets
            .flat_map(|peer| {
                let new = now.since(peer.connected_at) < NEWCOMER && peer.unchoked_at.is_none();
                std::iter::repeat_n(peer.conn, if new { 3 } else { 1 })
            })
            .collect();
        rng.choose(&tickets).copied().or(current)
    }

    fn schedule(&mut self, now: Time, is_contended: bool, rounds: Rounds) {
        self.next_round = match self.next_round {
            _ if !is_contended => None,
            Some(due) => Some(due),
            None => Some(now + rounds.interval),
        };
    }
}

fn holding(applicants: &[Applicant]) -> Vec<Applicant> {
    applicants
        .iter()
        .filter(|peer| peer.is_unchoked && peer.is_interested)
        .copied()
        .collect()
}

fn waiting(applicants: &[Applicant]) -> Vec<Applicant> {
    applicants
        .iter()
        .filter(|peer| !peer.is_unchoked && peer.is_interested)
        .copied()
        .collect()
}

/// Who loses its slot to whom at once: somebody who gives does not wait for a round while others hold slots who had their
/// chance and give nothing. So those get only what is left over.
fn displaced(
    holding: &[Applicant],
    waiting: &[Applicant],
    may_lose: impl Fn(&Applicant) -> bool,
) -> Vec<(ConnKey, ConnKey)> {
    let losers = holding.iter().rev().filter(|peer| may_lose(peer));
    let winners = waiting
        .iter()
        .filter(|peer| peer.given_bytes > 0 && !peer.is_drain);
    losers
        .zip(winners)
        .map(|(loser, winner)| (loser.conn, winner.conn))
        .collect()
}

/// In which order those who wait get free slots.
fn queue_key(peer: &Applicant, policy: Policy) -> impl Ord + use<> {
    let by_turn = (peer.unchoked_at, peer.connected_at);
    let place = match policy {
        // Whoever gives comes before newcomers, and these before those who had their chance and gave nothing. Who has
        // no piece comes first among newcomers: with one more uplink at work all go faster.
        Policy::Reciprocate { .. } => {
            let given = std::cmp::Reverse(peer.given_bytes);
            (given, (peer.unchoked_at, Time::ZERO), !peer.is_empty)
        }
        Policy::Rotate { .. } => (std::cmp::Reverse(0), by_turn, false),
    };
    (peer.is_drain, place, peer.lot, peer.conn)
}

/// Sorts by who should have a slot, the first most.
fn rank(now: Time, peers: &mut [Applicant], policy: Policy) {
    match policy {
        Policy::Reciprocate { .. } => peers.sort_by_key(|peer| {
            // Among equals whoever has a slot keeps it: every change costs a round trip.
            (
                peer.is_drain,
                std::cmp::Reverse(peer.given_bytes),
                !peer.is_unchoked,
                peer.conn,
            )
        }),
        Policy::Rotate { quota_bytes } => peers.sort_by_key(|peer| {
            let turn = Turn::of(now, peer, quota_bytes);
            (
                peer.is_drain,
                turn,
                peer.unchoked_at,
                peer.connected_at,
                peer.conn,
            )
        }),
    }
}

/// Where a peer stands in a seed's rotation. The order of the variants is that of their rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// Its turn is not over.
    Running,
    /// It has no slot.
    Waiting,
    /// It has had its turn.
    Over,
}

impl Turn {
    fn of(now: Time, peer: &Applicant, quota_bytes: u64) -> Self {
        if !peer.is_unchoked {
            return Self::Waiting;
        }
        let held = peer
            .unchoked_at
            .map_or(Duration::ZERO, |since| now.since(since));
        let over = held >= TURN_MAX || (held >= TURN_MIN && peer.taken_bytes >= quota_bytes);
        if over { Self::Over } else { Self::Running }
    }
}

fn changes(
    applicants: &[Applicant],
    chosen: &[ConnKey],
    won_by: impl Fn(ConnKey) -> SlotReason,
) -> Vec<Change> {
    let lost = applicants
        .iter()
        .filter(|peer| peer.is_unchoked && !chosen.contains(&peer.conn));
    let won = applicants
        .iter()
        .filter(|peer| !peer.is_unchoked && chosen.contains(&peer.conn));
    let lost_by = |peer: &Applicant| {
        if peer.is_interested {
            SlotReason::Outranked
        } else {
            SlotReason::NotInterested
        }
    };
    lost.map(|peer| Change::Choke(peer.conn, lost_by(peer)))
        .chain(won.map(|peer| Change::Unchoke(peer.conn, won_by(peer.conn))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUNDS: Rounds = Rounds {
        interval: Duration::from_secs(10),
        optimistic_interval: Duration::from_secs(30),
    };

    const GIVE: Policy = Policy::Reciprocate { grace_bytes: 1000 };

    fn applicant(index: u32, given_bytes: u64) -> Applicant {
        Applicant {
            conn: ConnKey::new(index, 0),
            is_interested: true,
            is_unchoked: false,
            given_bytes,
            taken_bytes: 0,
            unchoked_at: None,
            connected_at: Time::ZERO,
            is_empty: false,
            lot: 0,
            is_drain: false,
        }
    }

    fn apply(now: Time, peers: &mut [Applicant], changes: &[Change]) {
        for change in changes {
            let (Change::Choke(conn, _) | Change::Unchoke(conn, _)) = change;
            let peer = peers.iter_mut().find(|peer| peer.conn == *conn).unwrap();
            peer.is_unchoked = matches!(change, Change::Unchoke(..));
            if peer.is_unchoked {
                peer.unchoked_at = Some(now);
                peer.taken_bytes = 0;
            }
        }
    }

    fn unchoked(peers: &[Applicant]) -> Vec<u32> {
        peers
            .iter()
            .filter(|p| p.is_unchoked)
            .map(|p| p.conn.index())
            .collect()
    }

    #[test]
    fn free_slots_are_filled_at_once_and_without_contention_no_round_comes() {
        let mut choker = Choker::default();
        let mut peers: Vec<_> = (0..3).map(|n| applicant(n, 0)).collect();
        let changes = choker.fill(Time::ZERO, &peers, 4, GIVE, ROUNDS);
        apply(Time::ZERO, &mut peers, &changes);
        assert_eq!(unchoked(&peers), [0, 1, 2]);
        assert_eq!(choker.next_round(), None);
        let changes = choker.fill(Time::ZERO, &peers, 2, GIVE, ROUNDS);
        apply(Time::ZERO, &mut peers, &changes);
        assert_eq!(unchoked(&peers), [0, 1]);
        assert_eq!(choker.next_round(), Some(Time::from_secs(10)));
    }

    #[test]
    fn a_peer_without_interest_loses_its_slot_to_one_that_waits() {
        let mut choker = Choker::default();
        let mut peers: Vec<_> = (0..2).map(|n| applicant(n, 0)).collect();
        let changes = choker.fill(Time::ZERO, &peers, 1, GIVE, ROUNDS);
        apply(Time::ZERO, &mut peers, &changes);
        peers[0].is_interested = false;
        let changes = choker.fill(Time::ZERO, &peers, 1, GIVE, ROUNDS);
        let (lost, won) = (ConnKey::new(0, 0), ConnKey::new(1, 0));
        let expected = [
            Change::Choke(lost, SlotReason::NotInterested),
            Change::Unchoke(won, SlotReason::Free),
        ];
        assert_eq!(changes, expected);
        apply(Time::ZERO, &mut peers, &changes);
        peers[1].is_interested = false;
        let changes = choker.fill(Time::ZERO, &peers, 1, GIVE, ROUNDS);
        assert_eq!(changes, [], "nobody else wants the slot");
    }

    #[test]
    fn those_who_give_most_are_unchoked_and_one_more() {
        let mut choker = Choker::default();
        let mut peers: Vec<_> = (0..10).map(|n| applicant(n, u64::from(n) * 1000)).collect();
        let mut rng = Rng::new(1);
        let mut optimists = std::collections::BTreeSet::new();
        for round in 1..=40 {
            let now = Time::from_secs(round * 10);
            let changes = choker.round(now, &peers, 4, GIVE, ROUNDS, &mut rng);
            apply(now, &mut peers, &changes);
            let unchoked = unchoked(&peers);
            assert_eq!(unchoked.len(), 4);
            assert_eq!(unchoked[1..], [7, 8, 9]);
            optimists.insert(unchoked[0]);
        }
        assert!(
            optimists.len() >= 4,
            "the optimistic slot goes round: {optimists:?}"
        );
    }

    #[test]
    fn who_gives_takes_the_slot_of_who_does_not_without_waiting() {
        let mut choker = Choker::default();
        let mut peers: Vec<_> = (0..3).map(|n| applicant(n, 0)).collect();
        let mut fill = |second: u64, peers: &mut [Applicant]| {
            let now = Time::from_secs(second);
            let changes = choker.fill(now, peers, 2, GIVE, ROUNDS);
            apply(now, peers, &changes);
            unchoked(peers)
        };
        assert_eq!(fill(0, &mut peers), [0, 1]);
        peers[0].given_bytes = 5;
        peers[2].given_bytes = 1;
        assert_eq!(fill(5, &mut peers), [0, 1], "it has not had its chance yet");
        peers[1].taken_bytes = 1000;
        assert_eq!(fill(12, &mut peers), [0, 2]);
        assert_eq!(fill(30, &mut peers), [0, 2]);
    }

    #[test]
    fn a_seed_serves_everybody_in_turn() {
        let policy = Policy::Rotate { quota_bytes: 1000 };
        let mut choker = Choker::default();
        let mut rng = Rng::new(1);
        let mut peers: Vec<_> = (0..20).map(|n| applicant(n, 0)).collect();
        let mut served = [0; 20];
        for second in 0..1800 {
            let now = Time::from_secs(second);
            let mut changes = choker.fill(now, &peers, 1, policy, ROUNDS);
            if choker.next_round().is_some_and(|due| due <= now) {
                changes.extend(choker.round(now, &peers, 1, policy, ROUNDS, &mut rng));
            }
            apply(now, &mut peers, &changes);
            for peer in unchoked(&peers) {
                served[peer as usize] += 1;
            }
        }
        assert!(
            served.iter().all(|seconds| (60..=130).contains(seconds)),
            "{served:?}"
        );
    }

    #[test]
    fn a_drain_gets_only_what_nobody_else_wants() {
        let mut drain = applicant(0, 1_000_000);
        drain.is_drain = true;
        for policy in [GIVE, Policy::Rotate { quota_bytes: 1 }] {
            let mut peers = vec![drain, applicant(1, 0)];
            let changes = Choker::default().fill(Time::ZERO, &peers, 1, policy, ROUNDS);
            apply(Time::ZERO, &mut peers, &changes);
            assert_eq!(unchoked(&peers), [1]);
            let changes = Choker::default().fill(Time::ZERO, &peers, 2, policy, ROUNDS);
            apply(Time::ZERO, &mut peers, &changes);
            assert_eq!(unchoked(&peers), [0, 1]);
        }
    }

    proptest::proptest! {
        #[test]
        fn slots_are_neither_exceeded_nor_left_empty(
            given in proptest::collection::vec((0_u64..5, proptest::bool::ANY), 0..20),
            slots in 1_usize..8,
            seed in 0_u64..100,
            rotate in proptest::bool::ANY,
        ) {
            let policy = if rotate { Policy::Rotate { quota_bytes: 3 } } else { GIVE };
            let mut choker = Choker::default();
            let mut rng = Rng::new(seed);
            let mut peers: Vec<_> = (0..).zip(&given).map(|(n, (given, _))| applicant(n, *given)).collect();
            for (step, toggles) in given.iter().enumerate() {
                let now = Time::from_secs(step as u64 * 7);
                let at = rng.below(peers.len());
                peers[at].is_interested = toggles.1;
                let holders: Vec<_> = peers.iter().filter(|peer| peer.is_unchoked).copied().collect();
                let waiting = waiting(&peers).len();
                let mut kept = choker.clone();
                let changes = choker.fill(now, &peers, slots, policy, ROUNDS);
                if kept.is_settled(&holders, waiting, slots, policy) {
                    kept.keep(now, waiting, ROUNDS);
                    proptest::prop_assert!(changes.is_empty());
                    proptest::prop_assert_eq!(kept.next_round(), choker.next_round());
                }
                apply(now, &mut peers, &changes);
                if choker.next_round().is_some_and(|due| due <= now) {
                    let changes = choker.round(now, &peers, slots, policy, ROUNDS, &mut rng);
                    apply(now, &mut peers, &changes);
                }
                let interested = peers.iter().filter(|peer| peer.is_interested).count();
                let served = peers.iter().filter(|peer| peer.is_unchoked && peer.is_interested);
                proptest::prop_assert_eq!(served.count(), interested.min(slots));
                proptest::prop_assert!(unchoked(&peers).len() <= slots);
                proptest::prop_assert_eq!(choker.next_round().is_some(), interested > slots);
            }
        }
    }
}
