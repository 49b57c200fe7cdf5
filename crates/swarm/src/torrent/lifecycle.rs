//! From taken in to removed: what a torrent is doing, and how it comes to do something else.
//!
//! ```text
//! Stopped ─start→ Metadata ──────────→ Opening ──→ Checking ──→ Running
//!    ↑            (none known)            │ (nothing to check)     ↑
//!    │                                    └────────────────────────┘
//!    └── Stopping ←─stop, remove── any of them
//! ```
//! A torrent that is checked while it is stopped goes the way to Checking, and from there to Stopping.
//! What can be [loaded](super::doze) is not always in memory: then Loading comes before Opening. Where many are opened
//! at once, Waiting comes before that.
//! A fault of storage is beside that, and goes by itself; so is a file that another program has changed, which goes by
//! a check.

use std::sync::Arc;

use riverrun_base::{Bitfield, PieceIndex};
use riverrun_peer::{CloseReason, PeerCommand};

use super::pieces::{Pieces, piece_priorities};
use super::{Cx, Meta, Torrent};
use crate::input::Priority;
use crate::outbox::{Event, StorageFault, StorageJob, TorrentState};

/// What a torrent is doing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lifecycle {
    pub(super) phase: Phase,
    pub(super) fault: Option<StorageFault>,
    /// The metadata that came is right, and cannot be used.
    pub(super) invalid: Option<String>,
    /// What was told last.
    reported: Option<TorrentState>,
    /// [`Event::Completed`] was told since the torrent runs.
    pub(super) is_completed: bool,
    /// Everything is checked as soon as it is open, whatever storage believes.
    checks_all: bool,
    /// It does not run after its check: it was stopped when that was asked for.
    stops_checked: bool,
    pub(super) waking: Waking,
}

/// Whether it has dozed, and is in its swarm while it wakes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Waking {
    #[default]
    No,
    Yes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Stopped,
    /// Others are being opened first.
    Waiting,
    /// The metadata, which is known, is being loaded.
    Loading,
    Opening,
    Metadata,
    Checking,
    Running,
    /// Storage is being closed, to doze.
    Lulling,
    /// Nothing is in memory, and nothing open.
    Dozing,
    Stopping(Next),
}

/// What comes after stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Rest,
    /// A check of everything, after which it may run.
    Check {
        runs: bool,
    },
    Start,
    Vanish,
}

impl Lifecycle {
    pub(super) const fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Whether peers are talked to.
    pub(super) const fn is_open_to_peers(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Metadata)
    }

    /// Of a torrent that dozes; whether its completion was told.
    pub(super) fn dozing(is_completed: bool) -> Self {
        Self {
            phase: Phase::Dozing,
            reported: Some(TorrentState::Seeding),
            is_completed,
            ..Self::default()
        }
    }

    /// Whether it takes part in its swarm, as far as trackers and others know that do not speak to it.
    pub(super) const fn is_in_swarm(&self) -> bool {
        self.is_open_to_peers() || self.is_resting()
    }

    /// Whether it was complete when it was seen last, and somebody who dials us has to wait until it is awake.
    pub(super) const fn is_resting(&self) -> bool {
        let wakes = !matches!(self.waking, Waking::No);
        matches!(self.phase, Phase::Lulling | Phase::Dozing) || wakes
    }

    /// Whether metadata and files are let go.
    pub(super) const fn is_dozing(&self) -> bool {
        matches!(self.phase, Phase::Dozing)
    }

    /// Whether storage has files of it open, or will have when it is through with what it was asked for.
    const fn has_storage(&self) -> bool {
        matches!(
            self.phase,
            Phase::Opening | Phase::Checking | Phase::Running
        )
    }

    /// Whether metadata is waited for that is kept.
    pub(super) const fn is_loading(&self) -> bool {
        matches!(self.phase, Phase::Loading)
    }

    /// Whether it does anything by itself.
    pub(super) const fn is_active(&self) -> bool {
        !matches!(self.phase, Phase::Stopped | Phase::Stopping(_))
    }
}

impl Torrent {
    pub(super) fn state(&self) -> TorrentState {
        if let (Some(fault), true) = (&self.life.fault, self.life.is_active()) {
            return TorrentState::Faulted(fault.clone());
        }
        if let (Some(fault), true) = (self.changes.fault(), self.life.is_running()) {
            return TorrentState::Faulted(fault);
        }
        match self.life.phase {
            Phase::Stopped => match &self.life.invalid {
                Some(why) => TorrentState::Invalid(why.clone()),
                None => TorrentState::Stopped,
            },
            Phase::Loading | Phase::Opening if self.life.is_resting() => TorrentState::Seeding,
            Phase::Waiting | Phase::Loading | Phase::Opening => TorrentState::Opening,
            Phase::Metadata => TorrentState::Metadata,
            Phase::Checking => TorrentState::Checking,
            Phase::Running if self.is_complete() => TorrentState::Seeding,
            Phase::Running if self.is_finished() => TorrentState::Finished,
            Phase::Running => TorrentState::Downloading,
            Phase::Lulling | Phase::Dozing => TorrentState::Seeding,
            Phase::Stopping(_) => TorrentState::Stopping,
        }
    }

    /// Tells the state if it has changed.
    pub(super) fn report(&mut self, cx: &mut Cx<'_>) {
        let state = self.state();
        if self.life.reported.as_ref() != Some(&state) {
            self.life.reported = Some(state.clone());
            cx.event(Event::State {
                torrent: self.key,
                state,
            });
        }
    }

    /// Whether nothing can, or may, be downloaded now.
    pub(super) fn is_faulted(&self) -> bool {
        self.life.fault.is_some() || self.changes.is_held()
    }

    /// Whether everything is there.
    pub(super) fn is_complete(&self) -> bool {
        match &self.pieces {
            Some(pieces) => pieces.have().all(),
            None => self.life.is_resting(),
        }
    }

    /// Whether there is nothing (more) to download.
    pub(super) fn is_finished(&self) -> bool {
        let done = match &self.pieces {
            Some(pieces) => pieces.left() == 0,
            None => self.life.is_resting(),
        };
        done || self.options.upload_only
    }

    /// Whether everything wanted is there, but not everything (BEP 21).
    pub(super) fn is_partial_seed(&self) -> bool {
        self.life.is_running() && self.is_finished() && !self.is_complete()
    }

    /// The torrent was taken in.
    pub(crate) fn begin(&mut self, cx: &mut Cx<'_>, start: bool) {
        if start {
            self.start(cx);
        }
        self.report(cx);
    }

    /// The limits of all torrents together have changed: fewer or more slots may fit.
    pub(crate) fn limits_changed(&mut self, cx: &mut Cx<'_>) {
        self.fill_slots(cx);
    }

    pub(super) fn start(&mut self, cx: &mut Cx<'_>) {
        match self.life.phase {
            Phase::Stopped => {}
            Phase::Stopping(Next::Rest) => {
                self.life.phase = Phase::Stopping(Next::Start);
                return;
            }
            Phase::Stopping(Next::Check { .. }) => {
                self.life.phase = Phase::Stopping(Next::Check { runs: true });
                return;
            }
            Phase::Waiting | Phase::Loading | Phase::Opening | Phase::Checking
                if self.life.stops_checked =>
            {
                self.life.stops_checked = false;
                self.rates.start_session();
                return;
            }
            _ => return,
        }
        self.rates.start_session();
        if self.meta.is_none() && self.rest.was_complete() {
            self.begin_dozing(cx);
        } else if self.knows_metadata() {
            self.open(cx);
        } else {
            self.life.phase = Phase::Metadata;
            self.start_announces(cx);
            self.start_dht(cx);
        }
    }

    /// Takes in verified metadata, and begins to use it.
    pub(super) fn set_metadata(&mut self, cx: &mut Cx<'_>, meta: Meta) {
        self.learn_metadata(cx, meta);
        self.open(cx);
    }

    /// Takes in verified metadata.
    pub(super) fn learn_metadata(&mut self, cx: &mut Cx<'_>, meta: Meta) {
        let info = meta.info.clone();
        self.hashes = info.hashes();
        self.announcer.set_hashes(cx.now, self.hashes);
        self.meta = Some(meta);
        self.drop_forbidden_peers(cx);
        for conn in self.peers.conns() {
            cx.tell(conn, PeerCommand::Metadata(info.clone()));
        }
        cx.event(Event::Metadata {
            torrent: self.key,
            info,
        });
    }

    /// Whether peers are asked for the metadata.
    pub(super) fn is_fetching_metadata(&self) -> bool {
        self.life.phase == Phase::Metadata
    }

    /// The metadata is what the info-hash names, and is no torrent that we can handle.
    pub(super) fn invalidate(&mut self, cx: &mut Cx<'_>, why: String) {
        self.life.invalid = Some(why);
        self.stop(cx);
    }

    pub(super) fn opened(&mut self, cx: &mut Cx<'_>, have: Bitfield, unchecked: Bitfield) {
        let (Phase::Opening, Some(meta)) = (self.life.phase, &self.meta) else {
            return;
        };
        // What storage says is ours to rely on: a field of another length is a bug, not a torrent's state.
        let count = meta.info.layout().piece_count();
        assert_eq!(
            [have.len(), unchecked.len()],
            [count, count],
            "storage opened another torrent"
        );
        self.life.fault = None;
        let is_intact = have.all() && unchecked.none();
        let hashes = meta.hashes.clone();
        let priorities = piece_priorities(
            meta.info.layout(),
            &self.file_priorities(meta.info.layout()),
        );
        self.pieces = Some(Pieces::new(have, priorities));
        let checks_all = std::mem::take(&mut self.life.checks_all);
        if self.life.is_resting() && is_intact && !checks_all {
            return self.go_on_awake(cx);
        }
        self.doze_no_more(cx);
        let unchecked = if checks_all {
            Bitfield::full(count)
        } else {
            unchecked
        };
        if unchecked.none() {
            self.run(cx);
        } else {
            self.life.phase = Phase::Checking;
            cx.store(
                self.key,
                StorageJob::Check {
                    pieces: unchecked,
                    hashes,
                },
            );
        }
    }

    pub(super) fn recheck(&mut self, cx: &mut Cx<'_>) {
        if self.life.is_resting() {
            self.life.checks_all = true;
            return self.wake(cx);
        }
        match self.life.phase {
            Phase::Running => self.check_again(cx),
            Phase::Waiting => self.life.checks_all = true,
            Phase::Stopped => self.check_stopped(cx),
            Phase::Stopping(next @ (Next::Rest | Next::Start)) => {
                let runs = next == Next::Start;
                self.life.phase = Phase::Stopping(Next::Check { runs });
            }
            _ => {}
        }
    }

    /// Checks everything, and stops again.
    fn check_stopped(&mut self, cx: &mut Cx<'_>) {
        if self.knows_metadata() {
            self.life.checks_all = true;
            self.life.stops_checked = true;
            self.open(cx);
        }
    }

    pub(super) fn check_again(&mut self, cx: &mut Cx<'_>) {
        self.changes.accept();
        if let Some(meta) = &self.meta {
            let pieces = Bitfield::full(meta.info.layout().piece_count());
            self.check(cx, pieces);
        }
    }

    /// Hashes pieces again, and does nothing else meanwhile.
    pub(super) fn check(&mut self, cx: &mut Cx<'_>, to_check: Bitfield) {
        let (Some(meta), Some(pieces)) = (&self.meta, &mut self.pieces) else {
            return;
        };
        let hashes = meta.hashes.clone();
        let begun: Vec<_> = pieces
            .picker_ref()
            .map_or_else(Vec::new, |picker| picker.begun().collect());
        // Claims stay in the journal until a piece is found wrong: after a crash in the middle the rest holds.
        pieces.drop_picker();
        self.relay.clear();
        self.life.phase = Phase::Checking;
        self.close_peers(cx, &CloseReason::TorrentStopped);
        for piece in begun {
            cx.store(self.key, StorageJob::Discard(piece));
        }
        cx.store(
            self.key,
            StorageJob::Check {
                pieces: to_check,
                hashes,
            },
        );
    }

    pub(super) fn checked(&mut self, cx: &mut Cx<'_>, piece: PieceIndex, ok: bool) {
        let Some(pieces) = &mut self.pieces else {
            return;
        };
        if ok {
            pieces.verified(piece);
            pieces.set_durable(piece);
            self.changes.found(piece);
        } else if pieces.lose(piece) {
            cx.store(self.key, StorageJob::Forget(piece));
            self.pieces_lost(cx, &[piece]);
        }
        cx.event(Event::Checked {
            torrent: self.key,
            piece,
            ok,
        });
    }

    /// Pieces that were there are not: found out by the way, or by a check.
    pub(super) fn pieces_lost(&mut self, cx: &mut Cx<'_>, pieces: &[PieceIndex]) {
        if pieces.is_empty() || !self.life.is_running() {
            return;
        }
        for conn in self.peers.conns() {
            for piece in pieces {
                cx.tell(conn, PeerCommand::DontHave(*piece));
            }
        }
        self.reopen_completion();
        self.wants_changed(cx);
    }

    pub(super) fn check_ended(&mut self, cx: &mut Cx<'_>) {
        match self.life.phase {
            Phase::Checking if self.life.stops_checked => self.stop(cx),
            Phase::Checking => self.go_on(cx),
            _ => {}
        }
    }

    /// Checks what was changed meanwhile, or runs.
    fn go_on(&mut self, cx: &mut Cx<'_>) {
        if !self.check_changed(cx) {
            self.run(cx);
        }
    }

    fn run(&mut self, cx: &mut Cx<'_>) {
        self.life.phase = Phase::Running;
        self.begin_use(cx);
        self.life.is_completed = false;
        self.begin_reveal();
        self.verify_padding(cx);
        self.refresh_peers(cx);
        self.start_announces(cx);
        self.start_dht(cx);
        self.request_layers(cx);
        self.complete_if_settled(cx);
    }

    /// Peers that were there before the pieces, from fetching the metadata, can be asked for pieces now.
    fn refresh_peers(&mut self, cx: &mut Cx<'_>) {
        let shown = self.pieces.iter().filter(|_| !self.reveal.is_hiding());
        let have: Vec<_> = shown.flat_map(|pieces| pieces.have().ones()).collect();
        for conn in self.peers.conns() {
            for piece in &have {
                cx.tell(conn, PeerCommand::Have(*piece));
            }
            self.count_wanted(conn);
            self.update_interest(cx, conn);
            self.fill(cx, conn);
        }
        self.fill_slots(cx);
    }

    pub(super) fn durable(&mut self, cx: &mut Cx<'_>, durable: &[PieceIndex]) {
        if let Some(pieces) = &mut self.pieces {
            for piece in durable {
                pieces.set_durable(*piece);
            }
        }
        self.complete_if_settled(cx);
    }

    /// Tells that everything wanted is safe, once.
    pub(super) fn complete_if_settled(&mut self, cx: &mut Cx<'_>) {
        let settled = self.pieces.as_ref().is_some_and(Pieces::is_settled);
        if settled && !self.life.is_completed && self.life.is_running() {
            self.life.is_completed = true;
            cx.event(Event::Completed { torrent: self.key });
        }
    }

    /// More is wanted than before.
    pub(super) fn reopen_completion(&mut self) {
        if self.pieces.as_ref().is_some_and(|pieces| pieces.left() > 0) {
            self.life.is_completed = false;
        }
    }

    pub(super) fn faulted(&mut self, cx: &mut Cx<'_>, fault: StorageFault) {
        let was_well = self.life.fault.replace(fault).is_none();
        self.refuse_callers(cx, &CloseReason::TorrentStopped);
        if was_well && self.life.is_running() {
            self.stop_requests(cx);
        }
    }

    pub(super) fn recovered(&mut self, cx: &mut Cx<'_>) {
        if self.life.fault.take().is_none() || !self.life.is_running() {
            return;
        }
        for conn in self.peers.conns() {
            self.fill(cx, conn);
        }
    }

    pub(super) fn stop(&mut self, cx: &mut Cx<'_>) {
        self.wind_down(cx, Next::Rest, &CloseReason::TorrentStopped);
    }

    pub(super) fn remove(&mut self, cx: &mut Cx<'_>) {
        self.wind_down(cx, Next::Vanish, &CloseReason::TorrentStopped);
    }

    /// The shard shuts down.
    pub(crate) fn shut_down(&mut self, cx: &mut Cx<'_>) {
        self.wind_down(cx, Next::Rest, &CloseReason::Shutdown);
        self.report(cx);
    }

    fn wind_down(&mut self, cx: &mut Cx<'_>, next: Next, why: &CloseReason) {
        match self.life.phase {
            Phase::Stopping(Next::Vanish) => return,
            Phase::Stopping(_) => {
                self.life.phase = Phase::Stopping(next);
                return;
            }
            Phase::Stopped => {
                self.life.phase = Phase::Stopping(next);
                self.rest(cx);
                return;
            }
            _ => {}
        }
        self.doze_no_more(cx);
        let has_storage = self.life.has_storage();
        let is_closing = self.life.phase == Phase::Lulling;
        self.stop_announces(cx);
        self.stop_dht();
        self.close_peers(cx, why);
        self.life.phase = Phase::Stopping(next);
        if has_storage {
            cx.store(self.key, StorageJob::Close);
        } else if !is_closing {
            self.rest(cx);
        }
    }

    pub(super) fn closed(&mut self, cx: &mut Cx<'_>) {
        match self.life.phase {
            Phase::Stopping(_) => self.rest(cx),
            Phase::Lulling => self.lulled(cx),
            _ => {}
        }
    }

    fn rest(&mut self, cx: &mut Cx<'_>) {
        let Phase::Stopping(next) = self.life.phase else {
            return;
        };
        self.pieces = None;
        self.relay.clear();
        self.changes.accept();
        self.life.fault = None;
        self.life.checks_all = false;
        self.life.stops_checked = false;
        self.life.phase = Phase::Stopped;
        self.fetch = super::MetadataFetch::default();
        self.hash_fetch = super::HashFetch::default();
        match next {
            Next::Rest => self.let_metadata_go(cx, false),
            Next::Check { runs } => {
                self.check_stopped(cx);
                if runs {
                    self.start(cx);
                }
            }
            Next::Start => self.start(cx),
            Next::Vanish => {
                self.life.reported = Some(TorrentState::Stopped);
                cx.event(Event::Removed { torrent: self.key });
                cx.shared.vanished.push(self.key);
            }
        }
    }

    /// A decision has panicked: whatever is left is closed, and nothing is decided any more until it is started.
    pub(crate) fn break_down(&mut self, cx: &mut Cx<'_>, message: String) {
        let had_storage = self.life.has_storage();
        let is_closing = self.life.phase == Phase::Lulling;
        self.refuse_callers(cx, &CloseReason::TorrentStopped);
        for conn in cx.shared.conns.of(self.key) {
            cx.tell(conn, PeerCommand::Close(CloseReason::TorrentStopped));
        }
        self.peers = super::Peers::default();
        self.pieces = None;
        self.relay.clear();
        self.changes = super::Changes::default();
        self.choker = super::Choker::default();
        self.reveal = super::Reveal::default();
        self.serving = super::Serving::default();
        self.exchanger = super::Exchanger::default();
        self.bans = super::Bans::default();
        self.candidates = super::Candidates::default();
        self.web_seeds = super::WebSeeds::default();
        self.announcer.forget();
        self.life = Lifecycle::default();
        cx.event(Event::Broken {
            torrent: self.key,
            message,
        });
        if had_storage || is_closing {
            self.life.phase = Phase::Stopping(Next::Rest);
        }
        if had_storage {
            cx.store(self.key, StorageJob::Close);
        }
        self.report(cx);
    }

    pub(super) fn set_priorities(&mut self, cx: &mut Cx<'_>, files: Vec<Priority>) {
        self.options.priorities = files;
        self.options.unlisted_priority = Priority::default();
        let (Some(meta), Some(pieces)) = (&self.meta, &mut self.pieces) else {
            if self.life.phase == Phase::Opening {
                // It was asked to open with other wishes.
                cx.store(self.key, StorageJob::Wanted(self.wanted_files()));
            }
            // So that it is known what is wanted now.
            return self.wake(cx);
        };
        let priorities = piece_priorities(meta.info.layout(), &self.options.priorities);
        let given_up = pieces.want(priorities);
        cx.store(self.key, StorageJob::Wanted(self.wanted_files()));
        self.give_up(cx, &given_up);
        self.reopen_completion();
        if self.life.is_running() {
            self.verify_padding(cx);
            self.wants_changed(cx);
        }
    }

    pub(super) fn set_upload_only(&mut self, cx: &mut Cx<'_>, upload_only: bool) {
        if self.options.upload_only == upload_only {
            return;
        }
        self.options.upload_only = upload_only;
        if !self.life.is_running() {
            return;
        }
        if upload_only {
            self.stop_requests(cx);
        }
        self.wants_changed(cx);
    }

    /// What is wanted has changed: interest with it, and whether we only upload.
    fn wants_changed(&mut self, cx: &mut Cx<'_>) {
        let finished = self.is_finished();
        for conn in self.peers.conns() {
            self.count_wanted(conn);
            self.update_interest(cx, conn);
            if !self.reveal.is_hiding() {
                cx.tell(conn, PeerCommand::UploadOnly(finished));
            }
            self.fill(cx, conn);
        }
        self.complete_if_settled(cx);
        self.fill_slots(cx);
    }

    pub(super) fn piece_hashes_changed(
        &mut self,
        change: impl FnOnce(&mut riverrun_metainfo::PieceHashes),
    ) {
        if let Some(meta) = &mut self.meta {
            change(Arc::make_mut(&mut meta.hashes));
        }
    }
}
