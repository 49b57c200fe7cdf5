//! The decisions of one shard worked out a second time, slowly and in another way (S13).
//!
//! A model stands between a shard and its world. It hears what the shard is given and sees what the shard wants done,
//! and knows nothing else but which pieces are verified. What it keeps it keeps plainly, and whatever it needs to know it
//! counts from the beginning: who has a piece, what is on its way, who gave most. It does not say what is to be done, where
//! chance or taste decide, but what may not be: see [`Picks`], [`Slots`], [`Credits`].
//!
//! Only shards with one torrent have one. The journal of claims, which is a part of S13 too, is no part of a world: disks
//! here keep their own; it has its model in `storage`.

mod credits;
mod picks;
mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use riverrun_base::{Bitfield, BlockSpan, PieceIndex, Time};
use riverrun_metainfo::Info;
use riverrun_peer::{PeerCommand, PeerEvent};
use riverrun_swarm::{
    Config, ConnKey, Event, Input, NetAction, Outbox, StorageDone, TorrentCommand, TorrentOptions,
    TorrentState,
};

use self::credits::Credits;
use self::picks::Picks;
use self::slots::Slots;

/// Disagreements beyond this many are not kept: the first ones tell.
const FOUND_MAX: usize = 10;

/// What is known of a shard and its torrent, as seen from outside.
#[derive(Debug)]
pub(crate) struct Model {
    config: Config,
    peers: Peers,
    info: Option<Arc<Info>>,
    state: Option<TorrentState>,
    options: TorrentOptions,
    /// There is a second torrent: what is said of peers cannot be told apart without more.
    is_over: bool,
    picks: Picks,
    slots: Slots,
    credits: Credits,
    found: Vec<(Time, String)>,
}

/// Those that the shard is connected to, or is about to be.
type Peers = BTreeMap<ConnKey, Peer>;

/// One connection.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says something else of the peer"
)]
struct Peer {
    /// Both handshakes are through.
    is_ready: bool,
    /// It is asked for what lies together, however rare that is.
    is_web_seed: bool,
    /// What it has told of its pieces.
    have: Option<Bitfield>,
    /// The blocks that it has told of, of pieces that it has not whole.
    parts: BTreeMap<PieceIndex, BTreeSet<u32>>,
    is_choking: bool,
    /// It has been silent for long, and nothing has come since.
    is_snubbed: bool,
    allowed: BTreeSet<PieceIndex>,
    /// What it owes.
    asked: BTreeSet<BlockSpan>,
    is_interested: bool,
    is_unchoked: bool,
    unchoked_at: Option<Time>,
    /// What it gave in this round and in the one before, in bytes.
    given_bytes: [u64; 2],
    /// What it took, in bytes: in all, and since it was unchoked.
    taken_bytes: u64,
    turn_bytes: u64,
}

impl Model {
    /// Of a shard that has this configuration and nothing yet.
    pub(crate) fn new(config: Config) -> Self {
        Self {
            credits: Credits::new(config.limits),
            config,
            peers: Peers::new(),
            info: None,
            state: None,
            options: TorrentOptions::default(),
            is_over: false,
            picks: Picks::default(),
            slots: Slots::default(),
            found: Vec::new(),
        }
    }

    /// What the shard did that it may not do, each with the world's time.
    pub(crate) fn found(&self) -> &[(Time, String)] {
        &self.found
    }

    /// The shard is given this.
    pub(crate) fn hear(&mut self, now: Time, input: &Input) {
        self.slots.is_due = false;
        match input {
            Input::Add(add) => {
                self.options = add.options.clone();
                self.info = add.metadata.as_ref().map(|(info, _)| info.clone());
                self.credits.limit_torrent(now, add.options.limits);
            }
            Input::Loaded {
                metadata: Some((info, _)),
                ..
            } => {
                self.info = Some(info.clone());
                self.slots.forget_uplink();
            }
            Input::Limits(limits) => self.credits.limit_all(now, *limits),
            Input::Torrent { command, .. } => self.hear_command(now, command),
            Input::PeerClosed { conn, .. } => {
                self.peers.remove(conn);
            }
            Input::Peer { conn, event } => {
                if let PeerEvent::Served(span) = event
                    && self.peers.contains_key(conn)
                {
                    let rules = self.rules();
                    self.slots.sent(now, span.len.into(), &rules);
                }
                self.hear_peer(*conn, event);
            }
            Input::Storage {
                done: StorageDone::Verified(piece),
                ..
            } => self.picks.let_go(*piece),
            _ => {}
        }
    }

    /// The shard is to do what is due.
    pub(crate) fn hear_timeout(&mut self, now: Time) {
        let runs = self.is_running();
        self.slots.is_due = runs && self.slots.next_round.is_some_and(|due| due <= now);
    }

    fn hear_command(&mut self, now: Time, command: &TorrentCommand) {
        match command {
            TorrentCommand::Sequential(sequential) => self.options.sequential = *sequential,
            TorrentCommand::UploadOnly(only) => self.options.upload_only = *only,
            TorrentCommand::Limits(limits) => {
                self.options.limits = *limits;
                self.credits.limit_torrent(now, *limits);
            }
            // What a reader waits for, and which files are wanted, comes before all that is judged here.
            TorrentCommand::Deadline { .. } | TorrentCommand::Priorities(_) => self.picks.end(),
            _ => {}
        }
    }

    fn hear_peer(&mut self, conn: ConnKey, event: &PeerEvent) {
        let pieces = self.info.as_ref().map(|info| info.layout().piece_count());
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        match event {
            PeerEvent::Ready(_) => peer.is_ready = true,
            PeerEvent::HasPieces(have) if Some(have.len()) == pieces => {
                peer.have = Some(have.clone());
                peer.parts.retain(|piece, _| !have.has(*piece));
            }
            PeerEvent::Has(piece) => {
                peer.have.as_mut().map(|have| have.set(*piece));
                peer.parts.remove(piece);
            }
            PeerEvent::HasBlocks(run) if peer.have.is_some() && !peer.has(run.piece) => {
                peer.parts
                    .entry(run.piece)
                    .or_default()
                    .extend(run.blocks());
                if run.count == 0 {
                    peer.parts.remove(&run.piece);
                }
            }
            PeerEvent::LostPiece(piece) => {
                peer.have.as_mut().map(|have| have.clear(*piece));
            }
            PeerEvent::Choked => peer.is_choking = true,
            PeerEvent::Unchoked => peer.is_choking = false,
            PeerEvent::AllowedFast(piece) => {
                peer.allowed.insert(*piece);
            }
            PeerEvent::Received { span, .. } => {
                self.picks.came_from(conn);
                peer.asked.remove(span);
                peer.gives(*span);
            }
            PeerEvent::Unwanted(span) => peer.gives(*span),
            PeerEvent::Rejected(span) => {
                peer.asked.remove(span);
            }
            PeerEvent::Snubbed => peer.is_snubbed = true,
            PeerEvent::Interested => peer.is_interested = true,
            PeerEvent::NotInterested => peer.is_interested = false,
            PeerEvent::Served(span) => {
                peer.taken_bytes += u64::from(span.len);
                peer.turn_bytes += u64::from(span.len);
            }
            _ => {}
        }
    }

    /// The shard wants this done, by its own clock and the world's. `have` is what it says is verified.
    pub(crate) fn see(&mut self, (now, at): (Time, Time), out: &Outbox, have: Option<&Bitfield>) {
        if self.is_over {
            return;
        }
        for action in &out.net {
            if let NetAction::Dial { conn, .. } | NetAction::Accept { conn, .. } = action {
                let peer = Peer {
                    is_choking: true,
                    ..Peer::default()
                };
                self.peers.insert(*conn, peer);
            }
        }
        self.see_web_seeds(out);
        for event in &out.events {
            self.see_event(event);
        }
        let mut found = Vec::new();
        self.credits.see(now, out, &mut found);
        let changed = self.see_slots(now, out);
        self.picks.see_storage(out);
        for (conn, command) in &out.peers {
            self.see_command(*conn, command, have, &mut found);
        }
        self.judge_slots(now, &changed, &mut found);
        let room = FOUND_MAX.saturating_sub(self.found.len());
        self.found
            .extend(found.into_iter().map(|what| (at, what)).take(room));
    }

    /// Web seeds have everything and give at once, without a word (BEP 19).
    fn see_web_seeds(&mut self, out: &Outbox) {
        for action in &out.net {
            if let NetAction::OpenWebSeed { conn, info, .. } = action {
                let peer = Peer {
                    is_web_seed: true,
                    have: Some(Bitfield::full(info.layout().piece_count())),
                    ..Peer::default()
                };
                self.peers.insert(*conn, peer);
            }
        }
    }

    fn see_event(&mut self, event: &Event) {
        match event {
            Event::Added { torrent, .. } => self.is_over = torrent.index() > 0,
            Event::Metadata { info, .. } => self.info = Some(info.clone()),
            Event::State { state, .. } => {
                self.state = Some(state.clone());
                if !self.is_running() {
                    self.picks.forget();
                }
            }
            Event::PieceFailed { piece, .. } => self.picks.failed(*piece),
            _ => {}
        }
    }

    /// Who gets a slot and who loses it, in order.
    fn see_slots(&mut self, now: Time, out: &Outbox) -> slots::Changes {
        let mut changed = slots::Changes::before(&self.peers);
        for (conn, command) in &out.peers {
            let Some(peer) = self.peers.get_mut(conn) else {
                continue;
            };
            match command {
                PeerCommand::Choke => changed.choked(*conn, peer),
                PeerCommand::Unchoke => changed.unchoked(*conn, now, peer),
                _ => {}
            }
        }
        changed
    }

    fn see_command(
        &mut self,
        conn: ConnKey,
        command: &PeerCommand,
        have: Option<&Bitfield>,
        found: &mut Vec<String>,
    ) {
        match command {
            PeerCommand::Request(spans) => {
                let (Some(info), Some(have)) = (&self.info, have) else {
                    return;
                };
                let may_rank = self.config.picking == riverrun_swarm::Picking::RarestFirst
                    && !self.options.sequential
                    && have.count_ones() >= self.config.tuning.random_first;
                let world = picks::Known {
                    layout: info.layout(),
                    have,
                    may_rank,
                };
                for span in spans {
                    self.picks.ask(&mut self.peers, conn, *span, &world, found);
                }
            }
            PeerCommand::Cancel(span) => {
                if let Some(peer) = self.peers.get_mut(&conn) {
                    peer.asked.remove(span);
                }
            }
            PeerCommand::Close(why) => {
                if let (Some(info), riverrun_peer::CloseReason::Banned) = (&self.info, why) {
                    self.picks.distrust(conn, info.layout());
                }
                self.peers.remove(&conn);
            }
            _ => {}
        }
    }

    fn rules(&self) -> slots::Rules {
        let layout = self.info.as_ref().map(|info| info.layout());
        let piece_len = layout.map_or(1, |layout| layout.nominal_piece_len());
        let limit = self.credits.upload_limit();
        let count = slots::count(&self.config, limit, piece_len);
        let round_pieces = u64::from(self.config.tuning.round_pieces) * count as u64;
        slots::Rules {
            slots: count,
            policy: slots::Policy::of(self.state.as_ref(), &self.config, piece_len),
            content_len: layout.map_or(u64::MAX, |layout| layout.payload_len()),
            interval: self.config.rechoke_interval,
            round_bytes: layout.map_or(0, |_| round_pieces * u64::from(piece_len)),
        }
    }

    fn judge_slots(&mut self, now: Time, changed: &slots::Changes, found: &mut Vec<String>) {
        if !self.is_running() {
            return;
        }
        let rules = self.rules();
        self.slots
            .judge(now, &mut self.peers, changed, &rules, found);
    }

    /// Whether pieces are given and taken, as far as the shard has told.
    const fn is_running(&self) -> bool {
        matches!(
            self.state,
            Some(
                TorrentState::Downloading
                    | TorrentState::Seeding
                    | TorrentState::Finished
                    | TorrentState::Faulted(_)
            )
        )
    }
}

impl Peer {
    fn gives(&mut self, span: BlockSpan) {
        self.is_snubbed = false;
        self.given_bytes[0] += u64::from(span.len);
    }

    fn has(&self, piece: PieceIndex) -> bool {
        self.have.as_ref().is_some_and(|have| have.has(piece))
    }

    fn has_block(&self, piece: PieceIndex, block: u32) -> bool {
        let part = self.parts.get(&piece);
        self.has(piece) || part.is_some_and(|blocks| blocks.contains(&block))
    }

    /// Whether it has something of a piece.
    fn has_some(&self, piece: PieceIndex) -> bool {
        self.has(piece) || self.parts.contains_key(&piece)
    }
}
