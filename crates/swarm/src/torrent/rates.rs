//! What has moved, and how much more may.

use riverrun_base::{BLOCK_LEN, Time};
use riverrun_peer::{Credit, PeerCommand};

use super::peers::Peer;
use super::{Cx, Torrent};
use crate::input::Limits;
use crate::key::ConnKey;
use crate::limits::{Throttle, share};
use crate::meter::Meter;

/// How much credit a connection is given ahead, in bytes: what it leaves unused is lost to others.
const CREDIT_MAX: u64 = 4 * BLOCK_LEN as u64;
/// The same as a part of what there is, for rates at which a connection moves more than that in one quantum.
const CREDIT_SHARE: u64 = 2;

/// Counters and limits of one torrent.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    up: Throttle,
    down: Throttle,
    up_meter: Meter,
    down_meter: Meter,
    totals: Totals,
    /// With whom the next round of credit begins.
    turn: usize,
}

/// What was moved in all, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    up_bytes: u64,
    down_bytes: u64,
    wasted_bytes: u64,
    failed_bytes: u64,
    /// Where `up_bytes` and `down_bytes` stood when the torrent was started.
    session: [u64; 2],
}

impl Rates {
    /// Of a torrent that has moved this much, and nothing lately.
    pub(super) fn of(now: Time, totals: Totals, limits: Limits) -> Self {
        let mut rates = Self {
            totals,
            ..Self::default()
        };
        rates.set_limits(now, limits);
        rates
    }

    /// What was moved in all.
    pub(super) const fn all(&self) -> Totals {
        self.totals
    }

    pub(super) fn set_limits(&mut self, now: Time, limits: Limits) {
        self.up.set(now, limits.upload);
        self.down.set(now, limits.download);
    }

    /// What was moved in earlier runs.
    pub(super) const fn set_totals(&mut self, up_bytes: u64, down_bytes: u64) {
        (self.totals.up_bytes, self.totals.down_bytes) = (up_bytes, down_bytes);
    }

    pub(super) const fn start_session(&mut self) {
        self.totals.session = [self.totals.up_bytes, self.totals.down_bytes];
    }

    pub(super) const fn session_up(&self) -> u64 {
        self.totals.up_bytes - self.totals.session[0]
    }

    pub(super) const fn session_down(&self) -> u64 {
        self.totals.down_bytes - self.totals.session[1]
    }

    /// Bytes came that were not needed.
    pub(super) const fn wasted(&mut self, bytes: u64) {
        self.totals.wasted_bytes += bytes;
    }

    /// Bytes came that were wrong.
    pub(super) const fn failed(&mut self, bytes: u64) {
        self.totals.failed_bytes += bytes;
    }

    pub(super) const fn totals(&self) -> [u64; 4] {
        [
            self.totals.up_bytes,
            self.totals.down_bytes,
            self.totals.wasted_bytes,
            self.totals.failed_bytes,
        ]
    }

    /// All that has come, in bytes.
    pub(super) const fn received(&self) -> u64 {
        self.totals.down_bytes
    }

    /// What comes, in bytes per second, from the first bytes on.
    pub(super) fn rate_at_once(&self, now: Time) -> u64 {
        self.down_meter.rate_at_once(now)
    }

    /// What leaves, in bytes per second, from the first bytes on.
    pub(super) fn up_rate_at_once(&self, now: Time) -> u64 {
        self.up_meter.rate_at_once(now)
    }

    /// Up and down, in bytes per second, to be told to people: zero when nothing moves any more.
    pub(super) fn rates_shown(&self, now: Time) -> [u64; 2] {
        [self.up_meter, self.down_meter].map(|meter| meter.rate_shown(now))
    }

    /// Up and down, in bytes per second.
    pub(super) fn rates(&self, now: Time) -> [u64; 2] {
        [self.up_meter.rate(now), self.down_meter.rate(now)]
    }
}

/// In which direction bytes move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl Torrent {
    /// A block has left.
    pub(super) fn pay_served(&mut self, cx: &mut Cx<'_>, conn: ConnKey, bytes: u64) {
        self.rates.totals.up_bytes += bytes;
        self.rates.up_meter.add(cx.now, bytes);
        self.use_credit(cx, conn, bytes, Direction::Up);
    }

    /// A block has come.
    pub(super) fn pay_received(&mut self, cx: &mut Cx<'_>, conn: ConnKey, bytes: u64) {
        self.rates.totals.down_bytes += bytes;
        self.rates.down_meter.add(cx.now, bytes);
        self.use_credit(cx, conn, bytes, Direction::Down);
    }

    /// Takes bytes off a connection's credit. A block that goes beyond it is paid by the next grant, as the
    /// connection has it too.
    fn use_credit(&mut self, cx: &mut Cx<'_>, conn: ConnKey, bytes: u64, direction: Direction) {
        if !self.is_limited(cx, direction) {
            return;
        }
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        let credit = match direction {
            Direction::Up => &mut peer.up.credit_bytes,
            Direction::Down => &mut peer.down.credit_bytes,
        };
        *credit = credit.saturating_sub_unsigned(bytes);
        self.want_credit(cx);
    }

    fn pay(&mut self, cx: &mut Cx<'_>, bytes: u64, direction: Direction) {
        let (own, all) = match direction {
            Direction::Up => (&mut self.rates.up, &mut cx.shared.up),
            Direction::Down => (&mut self.rates.down, &mut cx.shared.down),
        };
        own.pay(cx.now, bytes);
        all.pay(cx.now, bytes);
    }

    fn is_limited(&self, cx: &Cx<'_>, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.rates.up.is_limited() || cx.shared.up.is_limited(),
            Direction::Down => self.rates.down.is_limited() || cx.shared.down.is_limited(),
        }
    }

    /// Somebody may want credit: it is handed out with the next quantum, if there is a limit at all.
    pub(super) fn want_credit(&self, cx: &mut Cx<'_>) {
        if self.is_limited(cx, Direction::Up) || self.is_limited(cx, Direction::Down) {
            cx.shared.wanting.insert(self.key);
        }
    }

    /// Limits were set or lifted: every connection has to know.
    pub(crate) fn limit_peers(&mut self, cx: &mut Cx<'_>) {
        for conn in self.peers.conns() {
            self.limit_peer(cx, conn);
        }
        self.want_credit(cx);
    }

    /// Tells a connection whether it is limited.
    pub(super) fn limit_peer(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        let limited = [Direction::Up, Direction::Down].map(|way| self.is_limited(cx, way));
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        if !peer.is_up() || peer.limited == limited {
            return;
        }
        let before = std::mem::replace(&mut peer.limited, limited);
        // Whoever becomes limited begins with nothing.
        if !before[0] {
            peer.up.credit_bytes = 0;
        }
        if !before[1] {
            peer.down.credit_bytes = 0;
        }
        cx.tell(conn, PeerCommand::Credit(credit(limited, [0, 0])));
    }

    /// Hands out credit. Whether somebody still wants some.
    pub(crate) fn lend(&mut self, cx: &mut Cx<'_>) -> bool {
        let limited = [Direction::Up, Direction::Down].map(|way| self.is_limited(cx, way));
        let conns = self.peers.conns();
        let up = self.shares(cx, &conns, Direction::Up);
        let down = self.shares(cx, &conns, Direction::Down);
        self.rates.turn = self.rates.turn.wrapping_add(1);
        let mut wanted = false;
        for (at, conn) in conns.into_iter().enumerate() {
            let Some(peer) = self.peers.get_mut(conn) else {
                continue;
            };
            wanted |= (limited[0] && peer.up.is_waiting())
                || (limited[1] && !peer.down.requests.is_empty());
            if up[at] > 0 || down[at] > 0 {
                peer.up.credit_bytes = peer.up.credit_bytes.saturating_add_unsigned(up[at]);
                peer.down.credit_bytes = peer.down.credit_bytes.saturating_add_unsigned(down[at]);
                cx.tell(
                    conn,
                    PeerCommand::Credit(credit(limited, [up[at], down[at]])),
                );
            }
        }
        wanted
    }

    /// How much credit each connection gets in one direction, paid for already.
    fn shares(&mut self, cx: &mut Cx<'_>, conns: &[ConnKey], way: Direction) -> Vec<u64> {
        if !self.is_limited(cx, way) {
            return vec![0; conns.len()];
        }
        let room = match way {
            Direction::Up => self.rates.up.room(cx.now).min(cx.shared.up.room(cx.now)),
            Direction::Down => self
                .rates
                .down
                .room(cx.now)
                .min(cx.shared.down.room(cx.now)),
        };
        let max = CREDIT_MAX.max(room / CREDIT_SHARE);
        let wants: Vec<u64> = conns
            .iter()
            .filter_map(|conn| self.peers.get(*conn))
            .map(|peer| wanted_credit(peer, way, max))
            .collect();
        let shares = share(room, &wants, self.rates.turn);
        self.pay(cx, shares.iter().sum(), way);
        shares
    }
}

/// How much credit a connection could use now.
fn wanted_credit(peer: &Peer, way: Direction, max: u64) -> u64 {
    let (due, credit): (u64, i64) = match way {
        Direction::Up => {
            // What waits for its turn needs none yet.
            let blocks = peer.up.reading.iter();
            (
                blocks.map(|(span, _)| u64::from(span.len)).sum(),
                peer.up.credit_bytes,
            )
        }
        Direction::Down => {
            let blocks = peer.down.requests.iter();
            (
                blocks.map(|span| u64::from(span.len)).sum(),
                peer.down.credit_bytes,
            )
        }
    };
    let missing = i64::try_from(due.min(max))
        .unwrap_or(i64::MAX)
        .saturating_sub(credit);
    u64::try_from(missing).unwrap_or(0)
}

const fn credit(limited: [bool; 2], bytes: [u64; 2]) -> Credit {
    let [send, receive] = limited;
    Credit {
        send_bytes: if send { Some(bytes[0]) } else { None },
        receive_bytes: if receive { Some(bytes[1]) } else { None },
    }
}
