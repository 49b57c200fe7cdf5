//! Getting the first copy out: which piece an initial seed gives to whom.
//!
//! Nobody can be complete before every piece has left the seed once (Cohen 2003), so each piece that it sends twice
//! before that is time lost for all. Super-seeding (BEP 16) hides the pieces and reveals them one by one. Without
//! it the seed suggests (BEP 6) to each peer a piece that it has given to nobody yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use riverrun_base::{Bitfield, PieceIndex, Rng, Time};
use riverrun_peer::PeerCommand;

use super::{Cx, Torrent};
use crate::key::ConnKey;
use crate::picker::Picker;

use super::peers::Peer;

/// A peer that has not told what it has, this long after its handshake, has nothing: without the fast extension, or
/// without metadata, it need not say so (BEP 3).
const TELL_TIME: Duration = Duration::from_secs(5);

/// What an initial seed has revealed, suggested and sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Reveal {
    is_hiding: bool,
    /// Pieces that nobody was offered yet.
    fresh: VecDeque<PieceIndex>,
    /// Whether `fresh` was filled.
    is_begun: bool,
    /// Pieces that nobody had when somebody asked for them, and who was the first.
    taken: BTreeMap<PieceIndex, ConnKey>,
    offers: BTreeMap<ConnKey, Offers>,
}

/// What one peer was offered.
#[derive(Clone, Debug, Default)]
struct Offers {
    /// All that it knows of.
    revealed: Vec<PieceIndex>,
    /// Suggestions that it has not taken up.
    open: Vec<PieceIndex>,
}

impl Reveal {
    /// Whether peers are told of single pieces only.
    pub(super) const fn is_hiding(&self) -> bool {
        self.is_hiding
    }

    /// Whether a peer may have a piece: one that is hidden from it, it cannot know of.
    pub(super) fn may_take(&self, conn: ConnKey, piece: PieceIndex) -> bool {
        !self.is_hiding
            || self
                .offers
                .get(&conn)
                .is_some_and(|offers| offers.revealed.contains(&piece))
    }

    /// A peer has gone: what only it was offered is offered again.
    pub(super) fn gone(&mut self, conn: ConnKey) {
        self.untake(conn, |_| true);
        let Some(offers) = self.offers.remove(&conn) else {
            return;
        };
        let last = if self.is_hiding {
            offers.revealed.last()
        } else {
            None
        };
        self.fresh.extend(last.into_iter().chain(&offers.open));
    }

    /// A peer is choked before it got all of these pieces. What it was to bring among the others, somebody else may.
    pub(super) fn withdraw(&mut self, conn: ConnKey, refused: &BTreeSet<PieceIndex>) {
        if let Some(offers) = self.offers.get_mut(&conn) {
            self.fresh.extend(offers.open.drain(..));
        }
        self.untake(conn, |piece| refused.contains(&piece));
    }

    fn untake(&mut self, conn: ConnKey, test: impl Fn(PieceIndex) -> bool) {
        let given_up = self
            .taken
            .extract_if(.., |piece, by| *by == conn && test(*piece));
        self.fresh.extend(given_up.map(|(piece, _)| piece));
    }

    /// Whether somebody else has asked for a piece first, and is to bring it among the others.
    pub(super) fn is_taken_by_another(&self, conn: ConnKey, piece: PieceIndex) -> bool {
        self.taken.get(&piece).is_some_and(|by| *by != conn)
    }

    /// A piece that nobody was offered and that `conn` lacks; one that nobody has if all were offered.
    fn next(
        &mut self,
        conn: ConnKey,
        have: &Bitfield,
        picker: &Picker,
        rng: &mut Rng,
    ) -> Option<PieceIndex> {
        // Not as many as `have` says: a peer that keeps silent has told of none.
        let count = picker.rarity().piece_count();
        if !self.is_begun {
            self.is_begun = true;
            let mut all: Vec<_> = (0..count).map(PieceIndex).collect();
            rng.shuffle(&mut all);
            self.fresh = all.into();
        }
        let rarity = picker.rarity();
        while let Some(piece) = self.fresh.pop_front() {
            if rarity.availability(piece) == 0 {
                return Some(piece);
            }
        }
        // All were offered: what is still nowhere is offered again, the rarest first after that.
        let offered = |piece: PieceIndex| {
            self.offers
                .values()
                .filter(|offers| offers.knows(piece))
                .count()
        };
        let known = self.offers.get(&conn);
        let fits = |piece: &PieceIndex| {
            !have.has(*piece) && known.is_none_or(|offers| !offers.knows(*piece))
        };
        let mut pieces: Vec<_> = (0..count).map(PieceIndex).filter(fits).collect();
        rng.shuffle(&mut pieces);
        pieces
            .into_iter()
            .min_by_key(|piece| (rarity.availability(*piece), offered(*piece)))
    }
}

impl Offers {
    fn knows(&self, piece: PieceIndex) -> bool {
        self.revealed.contains(&piece) || self.open.contains(&piece)
    }
}

impl Torrent {
    /// Whether this torrent hides its pieces from now on: asked when it begins to give.
    pub(super) fn begin_reveal(&mut self) {
        self.reveal = Reveal {
            is_hiding: self.options.super_seed && self.is_complete(),
            ..Reveal::default()
        };
    }

    /// A peer has told what it has, or one piece more: others' offers may be through.
    pub(super) fn reveal_news(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnKey,
        piece: Option<PieceIndex>,
    ) {
        if !self.reveal.is_hiding || !self.life.is_running() {
            return;
        }
        if self.reveal_all_if_out(cx) {
            return;
        }
        let Some(piece) = piece else {
            self.reveal_next(cx, conn);
            return;
        };
        let through =
            self.reveal.offers.iter().filter(|(other, offers)| {
                **other != conn && offers.revealed.last() == Some(&piece)
            });
        for other in through.map(|(other, _)| *other).collect::<Vec<_>>() {
            self.reveal_next(cx, other);
        }
        self.reveal_if_idle(cx);
    }

    /// From now on a peer's silence counts, if there is something to reveal to it.
    pub(super) fn await_word(&mut self, cx: &Cx<'_>, conn: ConnKey) {
        if self.reveal.is_hiding {
            self.peers.waits.insert((cx.now + TELL_TIME, conn));
        }
    }

    /// Reveals a piece to a peer that keeps silent: with nothing on offer it has no reason to speak.
    pub(super) fn reveal_to_silent(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        let is_silent = self.peers.get(conn).is_some_and(|peer| !peer.has_told);
        if is_silent && self.reveal.is_hiding && !self.reveal.offers.contains_key(&conn) {
            self.reveal_next(cx, conn);
        }
    }

    /// Rather than be idle a seed reveals more to whoever has got what was revealed to it.
    pub(super) fn reveal_if_idle(&mut self, cx: &mut Cx<'_>) {
        if !self.reveal.is_hiding || self.peers.iter().any(|peer| peer.up.is_waiting()) {
            return;
        }
        let through = self.peers.iter().filter(|peer| {
            let last = self
                .reveal
                .offers
                .get(&peer.conn)
                .and_then(|offers| offers.revealed.last());
            last.is_some_and(|piece| peer.have.has(*piece))
        });
        for conn in through.map(|peer| peer.conn).collect::<Vec<_>>() {
            self.reveal_next(cx, conn);
        }
    }

    /// Reveals one more piece to a peer.
    fn reveal_next(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        let order = self.order(cx);
        let Some(pieces) = &mut self.pieces else {
            return;
        };
        let picker = pieces.picker(&self.peers, order);
        let Some(peer) = self
            .peers
            .get(conn)
            .filter(|peer| may_be_shown(peer, cx.now))
        else {
            return;
        };
        if let Some(piece) = self.reveal.next(conn, &peer.have, picker, &mut self.rng) {
            self.reveal
                .offers
                .entry(conn)
                .or_default()
                .revealed
                .push(piece);
            cx.tell(conn, PeerCommand::Have(piece));
        }
    }

    /// Once the others together have everything there is nothing to gain by hiding. Whether that is so.
    fn reveal_all_if_out(&mut self, cx: &mut Cx<'_>) -> bool {
        let order = self.order(cx);
        let Some(pieces) = &mut self.pieces else {
            return false;
        };
        let have = pieces.have().clone();
        let picker = pieces.picker(&self.peers, order);
        if picker.rarity().any_absent() {
            return false;
        }
        self.reveal.is_hiding = false;
        for conn in self.peers.conns() {
            for piece in have.ones() {
                if !self
                    .reveal
                    .offers
                    .get(&conn)
                    .is_some_and(|offers| offers.knows(piece))
                {
                    cx.tell(conn, PeerCommand::Have(piece));
                }
            }
            cx.tell(conn, PeerCommand::UploadOnly(true));
        }
        self.reveal.offers.clear();
        true
    }

    /// Suggests pieces to a peer that nobody has asked for yet.
    pub(super) fn suggest(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        if self.reveal.is_hiding || !self.is_complete() {
            return;
        }
        let order = self.order(cx);
        let Some(pieces) = &mut self.pieces else {
            return;
        };
        pieces.picker(&self.peers, order);
        let (Some(picker), Some(peer)) = (pieces.picker_ref(), self.peers.get(conn)) else {
            return;
        };
        if !peer.has_fast() || !peer.has_told || !picker.rarity().any_absent() {
            return;
        }
        while self.reveal.offers.entry(conn).or_default().open.len()
            < cx.config.tuning.suggested_max
        {
            let Some(piece) = self.reveal.next(conn, &peer.have, picker, &mut self.rng) else {
                return;
            };
            if self.reveal.taken.contains_key(&piece) || picker.rarity().availability(piece) > 0 {
                return;
            }
            self.reveal.offers.entry(conn).or_default().open.push(piece);
            cx.tell(conn, PeerCommand::Suggest(piece));
        }
    }

    /// A peer has asked for a part of a piece.
    pub(super) fn note_taken(&mut self, cx: &mut Cx<'_>, conn: ConnKey, piece: PieceIndex) {
        if self.reveal.is_hiding || !self.is_complete() {
            return;
        }
        let picker = self.pieces.as_ref().and_then(|pieces| pieces.picker_ref());
        let Some(rarity) = picker.map(Picker::rarity).filter(|all| all.any_absent()) else {
            self.reveal.taken.clear();
            return;
        };
        if rarity.availability(piece) > 0 {
            self.reveal.taken.remove(&piece);
            return;
        }
        if self.reveal.taken.contains_key(&piece) {
            return;
        }
        self.reveal.taken.insert(piece, conn);
        self.reveal.fresh.retain(|other| *other != piece);
        for offers in self.reveal.offers.values_mut() {
            offers.open.retain(|other| *other != piece);
        }
        self.suggest(cx, conn);
    }
}

/// Whether it is known what a peer lacks.
fn may_be_shown(peer: &Peer, now: Time) -> bool {
    peer.has_told || peer.hello.is_some() && peer.since + TELL_TIME <= now
}
