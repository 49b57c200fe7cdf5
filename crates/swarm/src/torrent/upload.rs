//! Giving pieces: slots, requests of peers, reads.

use std::time::Duration;

use riverrun_base::{BlockSpan, Rate};
use riverrun_peer::PeerCommand;

use super::peers::Peer;
use super::serve::READS_MAX;
use super::{Cx, Torrent};
use crate::allowed_fast::allowed_fast_set;
use crate::choker::{Applicant, Change, Policy, Rounds};
use crate::config::{Config, UnchokeSlots};
use crate::key::ConnKey;
use crate::outbox::Event;

/// Requests of one connection that wait to be read; connections say in their handshake what they accept, and
/// end those that go far beyond.
const WANTS_MAX: usize = 2048;
/// The fewest slots: two for those who give most, one for somebody new.
const SLOTS_MIN: u32 = 3;
/// The shortest round: what was given in less says little, and every change costs a round trip.
const ROUND_MIN: Duration = Duration::from_secs(1);
/// Pieces that a peer took, in torrents, from which on it is asked what became of them.
const DRAIN_TIMES: f64 = 1.5;

impl Torrent {
    pub(super) fn interested(&mut self, cx: &mut Cx<'_>, conn: ConnKey, interested: bool) {
        if self.peers.set_interested(conn, interested).is_none() {
            return;
        }
        self.fill_slots(cx);
        if interested {
            self.allow_fast(cx, conn);
        } else {
            self.tell_all_blocks(cx, conn);
            self.part_if_useless(cx, conn);
        }
    }

    /// Gives free slots to those who wait.
    pub(super) fn fill_slots(&mut self, cx: &mut Cx<'_>) {
        if !self.life.is_running() {
            return;
        }
        let (slots, policy, rounds) = (self.slots(cx), self.policy(cx), self.rounds(cx));
        let holders: Vec<_> = self.peers.unchoked().map(|p| self.applicant(p)).collect();
        let waiting = self.peers.waiting();
        if self.choker.is_settled(&holders, waiting, slots, policy) {
            self.check_settled(cx, slots, policy);
            self.choker.keep(cx.now, waiting, rounds);
            return;
        }
        let applicants = self.applicants();
        let changes = self.choker.fill(cx.now, &applicants, slots, policy, rounds);
        self.apply(cx, &changes);
    }

    /// In debug builds: that a look at every peer would have come to the same.
    fn check_settled(&self, cx: &Cx<'_>, slots: usize, policy: Policy) {
        debug_assert!(
            self.choker
                .clone()
                .fill(cx.now, &self.applicants(), slots, policy, self.rounds(cx))
                .is_empty()
        );
    }

    /// Reconsiders all slots, if that is due.
    pub(super) fn choke_round_due(&mut self, cx: &mut Cx<'_>) {
        if !self.life.is_running() || self.choker.next_round().is_none_or(|due| due > cx.now) {
            return;
        }
        let (slots, policy) = (self.slots(cx), self.policy(cx));
        let applicants = self.applicants();
        let rounds = self.rounds(cx);
        let changes = self
            .choker
            .round(cx.now, &applicants, slots, policy, rounds, &mut self.rng);
        self.apply(cx, &changes);
        for peer in self.peers.iter_mut() {
            peer.down.round_bytes = [0, peer.down.round_bytes[0]];
        }
    }

    fn apply(&mut self, cx: &mut Cx<'_>, changes: &[Change]) {
        for change in changes {
            let (conn, unchoked, why) = match *change {
                Change::Choke(conn, why) => (conn, false, why),
                Change::Unchoke(conn, why) => (conn, true, why),
            };
            if unchoked {
                self.unchoke(cx, conn);
            } else {
                self.choke(cx, conn);
            }
            if cx.config.explain {
                let torrent = self.key;
                cx.event(Event::Slot {
                    torrent,
                    conn,
                    unchoked,
                    why,
                });
            }
        }
    }

    fn choke(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        self.let_finish(cx, conn);
        let Some(peer) = self.peers.set_unchoked(conn, false) else {
            return;
        };
        // The connection refuses what waits; what is being read for it comes to nothing.
        let allowed = peer.up.allowed.clone();
        let refused = self.refuse_wanted(conn, |piece| allowed.contains(&piece));
        self.reveal.withdraw(conn, &refused);
        cx.tell(conn, PeerCommand::Choke);
        self.serve(cx);
    }

    /// A piece that only we have, and that a peer has begun, would have to leave us a second time if the peer was
    /// choked in the middle: it may be finished (BEP 6).
    fn let_finish(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        let (Some(meta), Some(pieces)) = (&self.meta, &self.pieces) else {
            return;
        };
        let (Some(picker), true) = (pieces.picker_ref(), pieces.have().all()) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(conn).filter(|peer| peer.has_fast()) else {
            return;
        };
        let sent = peer.up.reading.front().map(|(span, _)| span);
        let Some(begun) = sent.or(peer.up.wants.front()) else {
            return;
        };
        let piece = begun.piece;
        if picker.rarity().availability(piece) == 0 && peer.up.allowed.insert(piece) {
            peer.up.allowed_bytes += u64::from(meta.info.layout().piece_len(piece));
            cx.tell(conn, PeerCommand::AllowFast(piece));
        }
    }

    fn unchoke(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        let Some(peer) = self.peers.set_unchoked(conn, true) else {
            return;
        };
        peer.up.unchoked_at = Some(cx.now);
        peer.up.turn_bytes = 0;
        self.suggest(cx, conn);
        cx.tell(conn, PeerCommand::Unchoke);
        self.tell_all_blocks(cx, conn);
    }

    /// How many peers are unchoked at a time.
    fn slots(&self, cx: &Cx<'_>) -> usize {
        let slots = match cx.config.unchoke_slots {
            UnchokeSlots::Fixed(slots) => slots.max(1),
            UnchokeSlots::Auto => self.slots_for_uplink(cx),
        };
        slots as usize
    }

    fn slots_for_uplink(&self, cx: &Cx<'_>) -> u32 {
        let Some(uplink) = self.upload_limit(cx) else {
            return cx.config.tuning.slots;
        };
        let fitting = uplink.bytes_in(cx.config.tuning.hop_max) / self.nominal_piece_len().max(1);
        u32::try_from(fitting)
            .unwrap_or(u32::MAX)
            .clamp(SLOTS_MIN, cx.config.tuning.slots.max(SLOTS_MIN))
    }

    /// The limit that holds for what it sends, if there is one.
    pub(super) fn upload_limit(&self, cx: &Cx<'_>) -> Option<Rate> {
        let limits = [self.options.limits.upload, cx.shared.limits.upload];
        limits.into_iter().flatten().min()
    }

    /// How long a round lasts: until each slot has taken some pieces, of which it can be told who gives most.
    fn rounds(&self, cx: &Cx<'_>) -> Rounds {
        let (longest, optimistic) = (cx.config.rechoke_interval, cx.config.optimistic_interval);
        let [rate, _] = self.rates.rates(cx.now);
        let pieces = u64::from(cx.config.tuning.round_pieces) * self.slots(cx) as u64;
        let bytes = pieces * self.nominal_piece_len();
        let interval = if bytes == 0 || rate == 0 {
            longest
        } else {
            let takes = Duration::from_millis(bytes.saturating_mul(1000) / rate);
            takes.max(ROUND_MIN).min(longest)
        };
        // The optimistic slot changes as much more rarely as it is set to.
        let times = optimistic.as_millis() / longest.as_millis().max(1);
        Rounds {
            interval,
            optimistic_interval: interval * u32::try_from(times).unwrap_or(u32::MAX),
        }
    }

    fn nominal_piece_len(&self) -> u64 {
        self.meta
            .as_ref()
            .map_or(0, |meta| meta.info.layout().nominal_piece_len().into())
    }

    fn policy(&self, cx: &Cx<'_>) -> Policy {
        let piece_len = self.nominal_piece_len();
        if self.is_finished() {
            Policy::Rotate {
                quota_bytes: cx.config.tuning.quota_pieces * piece_len,
            }
        } else {
            Policy::Reciprocate {
                grace_bytes: cx.config.tuning.grace_pieces * piece_len,
            }
        }
    }

    fn applicants(&self) -> Vec<Applicant> {
        let peers = self
            .peers
            .ready()
            .filter(|peer| peer.up.is_interested || peer.up.is_unchoked);
        peers.map(|peer| self.applicant(peer)).collect()
    }

    fn applicant(&self, peer: &Peer) -> Applicant {
        Applicant {
            conn: peer.conn,
            is_interested: peer.up.is_interested,
            is_unchoked: peer.up.is_unchoked,
            given_bytes: peer.down.round_bytes.iter().sum(),
            taken_bytes: peer.up.turn_bytes,
            unchoked_at: peer.up.unchoked_at,
            connected_at: peer.since,
            is_empty: peer.have.none(),
            lot: peer.lot,
            is_drain: self.is_drain(peer),
        }
    }

    /// Whether a peer takes more than it could use, and claims to have got little of it.
    fn is_drain(&self, peer: &Peer) -> bool {
        let Some(meta) = &self.meta else { return false };
        let total = meta.info.layout().payload_len();
        #[expect(clippy::cast_precision_loss, reason = "a threshold, not an account")]
        let took_too_much = peer.up.total_bytes as f64 > total as f64 * DRAIN_TIMES;
        took_too_much && peer.have.count_ones() < peer.have.len() / 2
    }

    /// Lets a newcomer that finds no slot take a few pieces while choked, so that it has something to trade with
    /// (BEP 6). Not those that only we have: these should go to who passes them on.
    fn allow_fast(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        let (Some(meta), Some(pieces)) = (&self.meta, &self.pieces) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        let allowed_fast = cx.config.tuning.allowed_fast;
        let has_much = peer.have.count_ones() as usize >= allowed_fast;
        if peer.up.is_unchoked || !peer.has_fast() || has_much || !peer.up.allowed.is_empty() {
            return;
        }
        let (Some(picker), false) = (pieces.picker_ref(), self.reveal.is_hiding()) else {
            return;
        };
        let count = meta.info.layout().piece_count();
        let set = allowed_fast_set(peer.addr.ip(), self.hashes.primary(), count, allowed_fast);
        for piece in set {
            if pieces.have().has(piece) && picker.rarity().availability(piece) > 0 {
                peer.up.allowed.insert(piece);
                peer.up.allowed_bytes += u64::from(meta.info.layout().piece_len(piece));
                cx.tell(conn, PeerCommand::AllowFast(piece));
            }
        }
    }

    /// A peer asks for a block.
    pub(super) fn wants(&mut self, cx: &mut Cx<'_>, conn: ConnKey, span: BlockSpan) {
        let have = self
            .pieces
            .as_ref()
            .is_some_and(|pieces| pieces.have().has(span.piece));
        let have = have || self.relays(span);
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        let full = peer.up.wants.len() >= WANTS_MAX;
        if !have || !peer.may_take(span.piece) || full || !self.reveal.may_take(conn, span.piece) {
            cx.tell(conn, PeerCommand::Reject(span));
            return;
        }
        if !peer.up.is_unchoked {
            peer.up.allowed_bytes = peer.up.allowed_bytes.saturating_sub(span.len.into());
        }
        self.wait_in_turn(conn, span);
        self.note_taken(cx, conn, span.piece);
        self.serve(cx);
        self.want_credit(cx);
    }

    pub(super) fn unwants(&mut self, cx: &mut Cx<'_>, conn: ConnKey, span: BlockSpan) {
        if self.settle_wanted(conn, span) {
            self.serve(cx);
        }
    }

    /// A block has left.
    pub(super) fn served(&mut self, cx: &mut Cx<'_>, conn: ConnKey, span: BlockSpan) {
        self.settle_wanted(conn, span);
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        let bytes = u64::from(span.len);
        peer.up.turn_bytes += bytes;
        peer.up.total_bytes += bytes;
        peer.up.meter.add(cx.now, bytes);
        self.pay_served(cx, conn, bytes);
        self.choker.hasten(cx.now, self.rounds(cx));
        self.serve(cx);
        self.reveal_if_idle(cx);
    }

    pub(super) fn read_failed(&mut self, cx: &mut Cx<'_>, conn: ConnKey, span: BlockSpan) {
        if self.settle_wanted(conn, span) {
            cx.tell(conn, PeerCommand::Reject(span));
            if self.relays(span) {
                // It is not in memory any more: who knows that does not ask for the rest.
                self.end_relay(cx, span.piece);
            }
            self.serve(cx);
        } else {
            self.leaves_failed(cx, conn, span.piece);
        }
    }

    /// Panics if there are more slots given than there are.
    pub(super) fn check_upload(&self, config: &Config) {
        self.peers.check_counts();
        let unchoked = self.peers.iter().filter(|peer| peer.up.is_unchoked).count();
        let max = match config.unchoke_slots {
            UnchokeSlots::Auto => config.tuning.slots.max(SLOTS_MIN),
            UnchokeSlots::Fixed(slots) => slots.max(1),
        };
        assert!(
            unchoked <= max as usize,
            "{unchoked} peers are unchoked, of {max}"
        );
        for peer in self.peers.iter() {
            assert!(peer.up.wants.len() <= WANTS_MAX && peer.up.reading.len() <= READS_MAX);
            assert!(!peer.up.is_unchoked || peer.hello.is_some());
        }
        self.serving.check_invariants(&self.peers);
    }
}
