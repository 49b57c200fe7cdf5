//! Whose requests are answered next.
//!
//! A peer can pass on a piece only when all of it is there. Served side by side, block by block, all that are unchoked
//! have their pieces at the same time, after slots × piece / uplink; served piece by piece the first can pass its own
//! on after piece / uplink, and the last waits no longer than before. So an uplink works on one piece until its
//! requests are through. It works on more only as far as one peer alone does not take all that it can give: there are
//! always blocks under way for a moment of its rate, and those that a peer leaves lying do not count.
//!
//! Of all that is asked for the rarest piece comes first: most wait for it, each who gets it is one more source, and
//! for the others there are sources already. Of those that give something and ask for equally rare ones, whoever has least:
//! all are to be complete at the same time.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use riverrun_base::{BLOCK_LEN, BlockSpan, PieceIndex, Rate, Time};

use super::peers::{Peer, Peers, Up};
use super::{Cx, Torrent};
use crate::key::ConnKey;
use crate::outbox::StorageJob;
use crate::picker::Picker;

/// Blocks of one connection that are read ahead of what it has sent: 2 MiB, so that on a fast line one part is read
/// while another is sent.
pub(super) const READS_MAX: usize = 128;
/// The bounds of that, in blocks: before a rate is known, and where the order does not matter any more.
const BLOCKS_MIN: usize = 2;
const BLOCKS_MAX: usize = 512;
/// The bounds of how long a block may be under way until the peer is held to be slower than the uplink. In between it
/// is twice what all blocks under way take.
const STUCK_MIN: Duration = Duration::from_millis(300);
const STUCK_MAX: Duration = Duration::from_secs(10);
/// The same while no block has left: the first may take the uplink so long.
const STUCK_AT_FIRST: Duration = Duration::from_secs(1);

/// For how long what is under way for a peer that is stuck keeps copies from others: TCP may need a second or two to send
/// again what was lost.
const HELD_MAX: Duration = Duration::from_secs(3);
/// That is so if the peer has taken nothing for as long as it needs for so many blocks in the long run. One whose own line
/// is slow keeps nothing from anybody.
const HELD_BLOCKS: u64 = 8;

/// How many requests of a peer are searched for one that comes first.
const SCAN_MAX: usize = 64;

/// For how long others with rarer pieces go before the first of those that wait: well below the minute after which
/// peers take that for silence.
const PASS_TIME: Duration = Duration::from_secs(20);

/// Whose requests wait, and for whom blocks are under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Serving {
    /// Connections with requests that wait; the first is served next.
    queue: VecDeque<ConnKey>,
    /// Connections with blocks that are being read or sent.
    busy: Vec<ConnKey>,
    /// Since when others are served before the first.
    passed_since: Option<Time>,
}

/// How far a peer has come, in pieces, if it has ever given something; else it stands behind all who have.
fn progress(peer: &Peer) -> u32 {
    if peer.down.total_bytes == 0 {
        u32::MAX
    } else {
        peer.have.count_ones()
    }
}

/// How much is to be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ahead {
    blocks: usize,
    /// A block that is under way for so long waits for its peer, not for the uplink.
    stuck_after: Duration,
}

impl Ahead {
    /// For an uplink that sends so many bytes per second at once and, as far as is known, in the long run. The first may be
    /// far too high for a moment, as blocks leave whole; to go by it would be to take a peer for slow, and to serve all
    /// side by side.
    fn of(at_once: u64, steady: u64, time: Duration) -> Self {
        let bytes = u128::from(at_once) * time.as_micros() / 1_000_000;
        let blocks = usize::try_from(bytes / u128::from(BLOCK_LEN)).unwrap_or(BLOCKS_MAX);
        let blocks = blocks.clamp(BLOCKS_MIN, BLOCKS_MAX);
        let all = blocks as u64 * u64::from(BLOCK_LEN);
        let known = if steady > 0 { steady } else { at_once };
        let twice = all.saturating_mul(2_000_000).checked_div(known);
        let twice = twice.map_or(STUCK_AT_FIRST, Duration::from_micros);
        Self {
            blocks,
            stuck_after: twice.clamp(STUCK_MIN, STUCK_MAX),
        }
    }
}

/// How many blocks are under way.
#[derive(Clone, Copy, Debug, Default)]
struct UnderWay {
    /// For peers that take what they are given.
    moving: usize,
    /// For peers that are stuck, but took more before: our own line is full, or has lost something.
    held: usize,
}

impl UnderWay {
    /// Whether one more may be: a copy only as far as nothing is held, for it would take the uplink from that.
    const fn lets(self, ahead: Ahead, is_copy: bool) -> bool {
        let waited_for = if is_copy { self.held } else { 0 };
        self.moving + waited_for < ahead.blocks
    }
}

impl Serving {
    /// A peer asks for a block of a piece. One that goes on with what it was given last comes first.
    fn enqueue(&mut self, conn: ConnKey, goes_on: bool) {
        if self.queue.contains(&conn) {
            return;
        }
        if goes_on {
            self.queue.push_front(conn);
        } else {
            self.queue.push_back(conn);
        }
    }

    /// What a connection waits for, or what is under way for it, has become less.
    fn review(&mut self, conn: ConnKey, up: &Up) {
        if up.wants.is_empty() {
            self.queue.retain(|other| *other != conn);
        }
        if up.reading.is_empty() {
            self.busy.retain(|other| *other != conn);
        }
    }

    /// A connection is gone.
    pub(super) fn forget(&mut self, conn: ConnKey) {
        self.queue.retain(|other| *other != conn);
        self.busy.retain(|other| *other != conn);
    }

    fn under_way(&self, now: Time, peers: &Peers, ahead: Ahead) -> UnderWay {
        let mut found = UnderWay::default();
        for peer in self.busy.iter().filter_map(|conn| peers.get(*conn)) {
            let count = peer.up.reading.len();
            if !is_stuck(now, &peer.up, ahead) {
                found.moving += count;
            } else if is_held(now, &peer.up) {
                found.held += count;
            }
        }
        found
    }

    /// Whose block is to be read next, and which of those that it waits for: their places. Who is in the middle of a
    /// piece comes first, and then the piece with the lowest `rank`; but nobody is passed over for ever.
    fn next(
        &self,
        now: Time,
        peers: &Peers,
        rank: impl Fn(&Peer, PieceIndex) -> (u32, u32),
    ) -> Option<(usize, usize)> {
        let ups = (0..).zip(&self.queue);
        let ups = ups.filter_map(|(place, conn)| Some((place, peers.get(*conn)?)));
        let mut open = ups.filter(|(_, peer)| peer.up.reading.len() < READS_MAX);
        let (first, peer) = open.next()?;
        let goes_on = |want: &BlockSpan| peer.up.current == Some(want.piece);
        if let Some(want) = peer.up.wants.iter().take(SCAN_MAX).position(goes_on) {
            return Some((first, want));
        }
        let is_overdue = |since: Time| now.since(since) >= PASS_TIME;
        let rest = (!self.passed_since.is_some_and(is_overdue)).then_some(open);
        let all = std::iter::once((first, peer)).chain(rest.into_iter().flatten());
        let wants = all.flat_map(|(place, peer)| {
            let wants = (0..).zip(peer.up.wants.iter().take(SCAN_MAX));
            wants.map(move |(at, want)| (peer, want.piece, (place, at)))
        });
        wants
            .min_by_key(|(peer, piece, _)| rank(peer, *piece))
            .map(|(_, _, found)| found)
    }

    /// Panics if it does not agree with what the peers wait for.
    pub(super) fn check_invariants(&self, peers: &Peers) {
        for peer in peers.iter() {
            let places = |list: &mut dyn Iterator<Item = &ConnKey>| {
                list.filter(|conn| **conn == peer.conn).count()
            };
            let waits = usize::from(!peer.up.wants.is_empty());
            assert_eq!(places(&mut self.queue.iter()), waits, "{}", peer.conn);
            let reads = usize::from(!peer.up.reading.is_empty());
            assert_eq!(places(&mut self.busy.iter()), reads, "{}", peer.conn);
        }
        let all = self.queue.iter().chain(&self.busy);
        assert!(all.into_iter().all(|conn| peers.get(*conn).is_some()));
    }
}

fn is_stuck(now: Time, up: &Up, ahead: Ahead) -> bool {
    waits_for(now, up) >= ahead.stuck_after
}

fn is_held(now: Time, up: &Up) -> bool {
    let waits = waits_for(now, up);
    let usual = (HELD_BLOCKS * u64::from(BLOCK_LEN) * 1_000_000).checked_div(up.meter.rate(now));
    waits < HELD_MAX && usual.is_some_and(|usual| waits >= Duration::from_micros(usual))
}

/// How long the block that leaves next has been under way.
fn waits_for(now: Time, up: &Up) -> Duration {
    up.reading
        .front()
        .map_or(Duration::ZERO, |(_, since)| now.since(*since))
}

impl Torrent {
    /// A peer's request is to be answered in its turn.
    pub(super) fn wait_in_turn(&mut self, conn: ConnKey, span: BlockSpan) {
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.up.wants.push_back(span);
            let goes_on = peer.up.current == Some(span.piece);
            self.serving.enqueue(conn, goes_on);
        }
    }

    /// A block has left, or will not. Whether it was waited for.
    pub(super) fn settle_wanted(&mut self, conn: ConnKey, span: BlockSpan) -> bool {
        let Some(peer) = self.peers.get_mut(conn) else {
            return false;
        };
        let settled = peer.up.settle(span);
        self.serving.review(conn, &peer.up);
        settled
    }

    /// Refuses what a peer waits for, but for these pieces; of which there was something to refuse.
    pub(super) fn refuse_wanted(
        &mut self,
        conn: ConnKey,
        keep: impl Fn(PieceIndex) -> bool,
    ) -> BTreeSet<PieceIndex> {
        let Some(peer) = self.peers.get_mut(conn) else {
            return BTreeSet::new();
        };
        let up = &mut peer.up;
        let spans = up
            .wants
            .iter()
            .chain(up.reading.iter().map(|(span, _)| span));
        let pieces = spans.map(|span| span.piece);
        let refused: BTreeSet<_> = pieces.filter(|piece| !keep(*piece)).collect();
        up.wants.retain(|span| !refused.contains(&span.piece));
        up.reading
            .retain(|(span, _)| !refused.contains(&span.piece));
        self.serving.review(conn, up);
        refused
    }

    fn ahead(&self, cx: &Cx<'_>) -> Ahead {
        let seen = self.rates.up_rate_at_once(cx.now);
        let [steady, _] = self.rates.rates(cx.now);
        // Under a limit credit comes in portions, for what is under way: to go by the rate seen so far alone would
        // hold that rate down to what it was.
        let set = self.upload_limit(cx).map_or(0, Rate::bytes_per_second);
        Ahead::of(seen.max(set), steady.max(set), cx.config.tuning.serve_ahead)
    }

    /// Has the next blocks read that peers asked for.
    pub(super) fn serve(&mut self, cx: &mut Cx<'_>) {
        if self.serving.queue.is_empty() {
            return;
        }
        let ahead = self.ahead(cx);
        let mut under_way = self.serving.under_way(cx.now, &self.peers, ahead);
        while under_way.lets(ahead, false)
            && let Some(place) = self.next_served(cx.now)
            && under_way.lets(ahead, self.is_copy(place))
        {
            self.serve_one(cx, place);
            under_way.moving += 1;
        }
    }

    /// Whether somebody else has the piece or is being given it, while there are others that nobody has.
    fn is_copy(&self, (place, want): (usize, usize)) -> bool {
        let picker = self.pieces.as_ref().and_then(|pieces| pieces.picker_ref());
        let Some(rarity) = picker.map(Picker::rarity).filter(|all| all.any_absent()) else {
            return false;
        };
        let conn = self.serving.queue.get(place);
        let Some(peer) = conn.and_then(|conn| self.peers.get(*conn)) else {
            return false;
        };
        let piece = peer.up.wants.get(want).map(|want| want.piece);
        piece.is_some_and(|piece| {
            let is_there = rarity.copies(piece) > 0;
            let goes_on = peer.up.current == Some(piece);
            !goes_on && (is_there || self.reveal.is_taken_by_another(peer.conn, piece))
        })
    }

    fn next_served(&self, now: Time) -> Option<(usize, usize)> {
        let picker = self.pieces.as_ref().and_then(|pieces| pieces.picker_ref());
        let rarity = picker.map(Picker::rarity);
        // To a seed all are alike: else whoever only says that it has nothing would go first there.
        let is_trading = !self.is_complete();
        self.serving.next(now, &self.peers, |peer, piece| {
            let there = rarity.map_or(0, |rarity| rarity.copies(piece));
            let copies = there + u32::from(self.reveal.is_taken_by_another(peer.conn, piece));
            (copies, if is_trading { progress(peer) } else { 0 })
        })
    }

    fn serve_one(&mut self, cx: &mut Cx<'_>, (place, want): (usize, usize)) {
        let Some(conn) = self.serving.queue.get(place).copied() else {
            return;
        };
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        let Some(span) = peer.up.wants.remove(want) else {
            return;
        };
        if peer.up.reading.is_empty() {
            self.serving.busy.push(conn);
        }
        peer.up.reading.push_back((span, cx.now));
        peer.up.current = Some(span.piece);
        let is_through = !peer
            .up
            .wants
            .iter()
            .take(SCAN_MAX)
            .any(|want| want.piece == span.piece);
        let is_served = peer.up.wants.is_empty();
        if place == 0 {
            self.serving.passed_since = None;
        } else {
            self.serving.passed_since.get_or_insert(cx.now);
        }
        self.serving.queue.remove(place);
        match (is_through, is_served) {
            (false, _) => self.serving.queue.push_front(conn),
            (true, false) => self.serving.queue.push_back(conn),
            (true, true) => {}
        }
        cx.out
            .storage
            .push((self.key, StorageJob::Read { conn, span }));
    }

    /// When blocks that are under way have been so for too long to be waited for, or to keep copies back.
    pub(super) fn next_serve(&self, cx: &Cx<'_>) -> Option<Time> {
        if self.serving.queue.is_empty() {
            return None;
        }
        let ahead = self.ahead(cx);
        let ups = self.serving.busy.iter();
        let ups = ups.filter_map(|conn| self.peers.get(*conn));
        ups.filter_map(|peer| peer.up.reading.front())
            .flat_map(|(_, since)| [ahead.stuck_after, HELD_MAX].map(|wait| *since + wait))
            .filter(|at| *at > cx.now)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use riverrun_base::Bitfield;

    use super::*;
    use crate::PeerSource;

    fn conn(index: u32) -> ConnKey {
        ConnKey::new(index, 0)
    }

    /// Peers that each wait for the first block of these pieces, in this order.
    fn waiting(wants: &[&[u32]]) -> (Serving, Peers) {
        let (mut serving, mut peers) = (Serving::default(), Peers::default());
        for (index, pieces) in (0..).zip(wants) {
            let addr = SocketAddr::from(([10, 0, 0, 1], 6881));
            let start = (Time::ZERO, 0);
            let mut peer = Peer::new(conn(index), addr, PeerSource::Tracker, false, start);
            peer.up.wants = pieces.iter().copied().map(first_block).collect();
            peers.insert(peer);
            serving.enqueue(conn(index), false);
        }
        (serving, peers)
    }

    const AHEAD: Ahead = Ahead {
        blocks: 22,
        stuck_after: Duration::from_millis(300),
    };

    fn first_block(piece: u32) -> BlockSpan {
        BlockSpan {
            piece: PieceIndex(piece),
            offset: 0,
            len: BLOCK_LEN,
        }
    }

    #[test]
    fn the_rarest_piece_is_served_first_and_then_the_first_in_line() {
        let (serving, mut peers) = waiting(&[&[5, 4], &[3, 7], &[3]]);
        // There are as many copies as the piece's number says.
        let copies = |_: &Peer, piece: PieceIndex| (piece.0, 0);
        let next = |serving: &Serving, peers: &Peers| serving.next(Time::ZERO, peers, copies);
        assert_eq!(next(&serving, &peers), Some((1, 0)));
        let by_peer =
            |peer: &Peer, piece: PieceIndex| (piece.0 + 3 * u32::from(peer.conn.index() == 1), 0);
        assert_eq!(serving.next(Time::ZERO, &peers, by_peer), Some((2, 0)));
        peers.get_mut(conn(0)).unwrap().up.current = Some(PieceIndex(4));
        assert_eq!(next(&serving, &peers), Some((0, 1)), "it goes on");
    }

    #[test]
    fn of_those_who_give_and_ask_for_equally_rare_pieces_whoever_has_least_goes_first() {
        let (serving, mut peers) = waiting(&[&[1], &[1], &[1]]);
        let mut has = |index, pieces: &[u32], given| {
            let peer = peers.get_mut(conn(index)).unwrap();
            peer.have = Bitfield::new(9);
            for piece in pieces {
                peer.have.set(PieceIndex(*piece));
            }
            peer.down.total_bytes = given;
        };
        has(0, &[2, 3, 4], 1);
        has(1, &[], 0);
        has(2, &[2], 1);
        let rank = |peer: &Peer, _: PieceIndex| (1, progress(peer));
        assert_eq!(serving.next(Time::ZERO, &peers, rank), Some((2, 0)));
    }

    #[test]
    fn nobody_is_passed_over_for_longer_than_a_while() {
        let (mut serving, peers) = waiting(&[&[9], &[1]]);
        serving.passed_since = Some(Time::from_secs(5));
        let copies = |_: &Peer, piece: PieceIndex| (piece.0, 0);
        let at = |second| serving.next(Time::from_secs(second), &peers, copies);
        assert_eq!(at(24), Some((1, 0)));
        assert_eq!(at(25), Some((0, 0)));
    }

    #[test]
    fn what_a_peer_leaves_lying_counts_for_a_while_if_it_took_more_before() {
        let (mut serving, mut peers) = waiting(&[&[1]]);
        let up = &mut peers.get_mut(conn(0)).unwrap().up;
        // A block in 100 ms, in the long run.
        let mut now = Time::ZERO;
        for _ in 0..200 {
            now += Duration::from_millis(100);
            up.meter.add(now, BLOCK_LEN.into());
        }
        up.reading = [7, 8, 9].map(|piece| (first_block(piece), now)).into();
        serving.busy.push(conn(0));
        let under_way = |millis| {
            let found = serving.under_way(now + Duration::from_millis(millis), &peers, AHEAD);
            (found.moving, found.held)
        };
        assert_eq!(under_way(299), (3, 0));
        assert_eq!(under_way(350), (0, 0), "it is slow itself");
        assert_eq!(under_way(1000), (0, 3));
        assert_eq!(under_way(3000), (0, 0), "it may be gone");
    }

    #[test]
    fn a_copy_waits_for_what_is_held() {
        let lets = |moving, held| {
            let under_way = UnderWay { moving, held };
            [false, true].map(|is_copy| under_way.lets(AHEAD, is_copy))
        };
        assert_eq!(lets(21, 0), [true, true]);
        assert_eq!(lets(11, 11), [true, false]);
        assert_eq!(lets(0, 21), [true, true]);
        assert_eq!(lets(22, 0), [false, false]);
    }

    #[test]
    fn a_moment_of_the_uplink_is_under_way() {
        let ahead = |rate| {
            let ahead = Ahead::of(rate, rate, Duration::from_millis(150));
            (ahead.blocks, ahead.stuck_after.as_millis())
        };
        assert_eq!(ahead(0), (2, 1000), "nothing is known");
        assert_eq!(ahead(5_000), (2, 10_000), "a block takes seconds");
        assert_eq!(ahead(50_000), (2, 1310));
        assert_eq!(ahead(2_500_000), (22, 300));
        assert_eq!(ahead(1_000_000_000), (512, 300));
    }
}
