//! Torrents that nobody uses.
//!
//! A complete torrent without a connection needs neither metadata nor files: what it tells trackers, the DHT and the
//! user is known without them. After a while both are let go, and the torrent dozes. It announces as before, and wakes
//! up for a peer that dials us, for a peer that is worth dialling, and for a reader; until it is awake, callers wait.
//!
//! ```text
//! Running ─nobody for a while→ Lulling ─closed→ Dozing ─somebody→ Loading ─loaded→ Opening ─→ Running
//! ```
//! A torrent that was complete when it was seen last begins as one that dozes.

use std::net::SocketAddr;
use std::sync::Arc;

use riverrun_base::Time;
use riverrun_metainfo::{Info, PieceHashes};
use riverrun_peer::CloseReason;

use super::lifecycle::{Phase, Waking};
use super::pieces::Pieces;
use super::{Cx, Meta, Torrent};
use crate::config::Config;
use crate::input::Summary;
use crate::outbox::{Event, NetAction, StorageJob};

/// How many peers that have dialled us wait until the torrent is awake: as many as may be unchoked then.
const CALLERS_MAX: usize = 8;

/// What is said of a torrent that does not wake up.
const METADATA_LOST: &str = "what was kept of its metadata cannot be read";

/// What stands for metadata and pieces that are not in memory.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    kept: Rested,
    /// Peers that have dialled us, by the driver's names of the connections.
    callers: Vec<(u64, SocketAddr)>,
}

/// All that there is to keep of it while nobody waits.
#[derive(Clone, Debug)]
pub(super) struct Rested {
    /// As it was when they were let go.
    summary: Option<Summary>,
    /// Whether the metadata can be loaded again.
    is_kept: bool,
    /// When it was used last, while it runs.
    used_at: Time,
}

impl Rest {
    pub(super) const fn new(has_metadata: bool, summary: Option<Summary>) -> Self {
        Self::take_out(Rested {
            is_kept: has_metadata || summary.is_some(),
            summary,
            used_at: Time::ZERO,
        })
    }

    pub(super) const fn take_out(kept: Rested) -> Self {
        Self {
            kept,
            callers: Vec::new(),
        }
    }

    pub(super) fn put_away(self) -> Rested {
        self.kept
    }

    /// What is known without the metadata.
    pub(super) const fn summary(&self) -> Option<Summary> {
        self.kept.summary
    }

    /// It is in use.
    pub(super) const fn touch(&mut self, now: Time) {
        self.kept.used_at = now;
    }

    /// Whether somebody waits for it to be awake.
    pub(super) const fn has_callers(&self) -> bool {
        !self.callers.is_empty()
    }

    /// Whether all pieces were there when they were seen last.
    pub(super) fn was_complete(&self) -> bool {
        self.kept.summary.is_some_and(|summary| summary.is_complete)
    }
}

impl Torrent {
    /// Whether nothing can be read of it before it is awake.
    pub(crate) const fn is_resting(&self) -> bool {
        self.life.is_resting()
    }

    /// It was complete in an earlier run: it takes part in its swarm at once, and is looked at when somebody wants
    /// something of it.
    pub(super) fn begin_dozing(&mut self, cx: &mut Cx<'_>) {
        self.life.phase = Phase::Dozing;
        self.life.is_completed = true;
        cx.event(Event::Completed { torrent: self.key });
        self.start_announces(cx);
        self.start_dht(cx);
    }

    /// Lets files and metadata go.
    fn lull(&mut self, cx: &mut Cx<'_>) {
        self.life.phase = Phase::Lulling;
        cx.store(self.key, StorageJob::Close);
    }

    /// Somebody needs what was let go.
    pub(super) fn wake(&mut self, cx: &mut Cx<'_>) {
        match self.life.phase {
            Phase::Running => self.rest.touch(cx.now),
            Phase::Lulling => self.life.waking = Waking::Yes,
            Phase::Dozing => {
                self.life.waking = Waking::Yes;
                self.open(cx);
            }
            _ => {}
        }
    }

    /// Storage is closed: dozes, unless somebody has come meanwhile, or something was lost.
    pub(super) fn lulled(&mut self, cx: &mut Cx<'_>) {
        if self.is_complete() && self.life.waking == Waking::No {
            self.let_metadata_go(cx, true);
            self.life.phase = Phase::Dozing;
        } else {
            self.life.waking = Waking::Yes;
            self.open(cx);
        }
    }

    /// What was let go is as it was: nothing is told anybody that was told before.
    pub(super) fn go_on_awake(&mut self, cx: &mut Cx<'_>) {
        self.life.phase = Phase::Running;
        self.life.waking = Waking::No;
        self.begin_use(cx);
        self.admit_callers(cx);
    }

    /// What was let go is not as it was, or is not to be used: nobody is let in who waits for it.
    pub(super) fn doze_no_more(&mut self, cx: &mut Cx<'_>) {
        self.life.waking = Waking::No;
        self.refuse_callers(cx, &CloseReason::TorrentStopped);
    }

    /// Notes that it is in use.
    pub(super) fn note_use(&mut self, cx: &mut Cx<'_>) {
        if !self.peers.is_empty() {
            self.rest.touch(cx.now);
        }
    }

    /// Wakes it if it knows somebody to dial.
    pub(super) fn wake_to_dial(&mut self, cx: &mut Cx<'_>) {
        if self.may_dial(cx) && self.candidates.find(cx.now, true).is_some() {
            self.wake(cx);
        }
    }

    /// Since when it might doze.
    pub(crate) fn idle_since(&self, config: &Config) -> Option<Time> {
        let may_doze = config.doze_after.is_some() && self.may_doze();
        may_doze.then_some(self.rest.kept.used_at)
    }

    /// When it may doze.
    pub(super) fn next_doze(&self, cx: &Cx<'_>) -> Option<Time> {
        let after = cx.config.doze_after?;
        Some(self.idle_since(cx.config)? + after)
    }

    /// Dozes at once, if it might: too many others are idle too.
    pub(crate) fn doze_early(&mut self, cx: &mut Cx<'_>) {
        if self.idle_since(cx.config).is_some() {
            self.lull(cx);
        }
        self.settle(cx);
    }

    /// Whether it has nothing to do that needs more than is told without metadata.
    fn may_doze(&self) -> bool {
        let is_whole = self
            .meta
            .as_ref()
            .is_some_and(|meta| meta.hashes.is_complete());
        self.life.is_running()
            && self.rest.kept.is_kept
            && is_whole
            && self.is_complete()
            && self.pieces.as_ref().is_some_and(Pieces::is_settled)
            && !self.is_faulted()
            && self.changes.next_due().is_none()
            && self.peers.is_empty()
            && !self.candidates.has_next(true)
            && !self.options.super_seed
    }

    pub(super) fn doze_due(&mut self, cx: &mut Cx<'_>) {
        if self.next_doze(cx).is_some_and(|due| due <= cx.now) {
            self.lull(cx);
        }
    }

    /// Whether metadata can be loaded again.
    pub(super) fn can_let_metadata_go(&self, cx: &Cx<'_>) -> bool {
        self.rest.kept.is_kept && cx.config.doze_after.is_some()
    }

    /// Lets the metadata go, if it can be loaded again. `is_complete` says whether it is taken for complete without
    /// another look.
    pub(super) fn let_metadata_go(&mut self, cx: &mut Cx<'_>, is_complete: bool) {
        let is_in_memory = self.meta.is_some();
        if is_in_memory && !self.can_let_metadata_go(cx) {
            self.rest.kept.summary = None;
            return;
        }
        let summary = Some(self.summary()).filter(|_| self.knows_metadata());
        self.rest.kept.summary = summary.map(|summary| Summary {
            is_complete,
            ..summary
        });
        (self.meta, self.pieces) = (None, None);
        if !is_in_memory {
            return;
        }
        cx.event(Event::Dozing { torrent: self.key });
    }

    /// A peer has dialled us, and waits until the torrent is awake.
    pub(super) fn keep_waiting(&mut self, cx: &mut Cx<'_>, token: u64, addr: SocketAddr) {
        if self.rest.callers.len() < CALLERS_MAX {
            self.rest.callers.push((token, addr));
            self.wake(cx);
            self.settle(cx);
        } else {
            let why = CloseReason::Crowded;
            cx.net(NetAction::Refuse { token, why });
        }
    }

    /// The torrent is awake: whoever has dialled us is let in as if it did so now.
    fn admit_callers(&mut self, cx: &mut Cx<'_>) {
        for (token, addr) in std::mem::take(&mut self.rest.callers) {
            self.incoming(cx, token, addr);
        }
    }

    /// The torrent does not wake up.
    pub(super) fn refuse_callers(&mut self, cx: &mut Cx<'_>, why: &CloseReason) {
        for (token, _) in std::mem::take(&mut self.rest.callers) {
            let why = why.clone();
            cx.net(NetAction::Refuse { token, why });
        }
    }

    /// It is used from now on.
    pub(super) fn begin_use(&mut self, cx: &mut Cx<'_>) {
        self.rest.touch(cx.now);
        self.rest.kept.summary = None;
    }

    /// Metadata was asked for, and has come or not.
    pub(crate) fn loaded(&mut self, cx: &mut Cx<'_>, metadata: Option<(Arc<Info>, PieceHashes)>) {
        if !self.life.is_loading() {
            return;
        }
        match metadata.filter(|(info, _)| self.is_named_by(info)) {
            Some((info, hashes)) => {
                let torrent = self.key;
                self.hashes = info.hashes();
                let hashes = Arc::new(hashes);
                cx.event(Event::Loaded {
                    torrent,
                    info: info.clone(),
                });
                self.meta = Some(Meta { info, hashes });
                self.open(cx);
            }
            None => self.invalidate(cx, METADATA_LOST.to_owned()),
        }
        self.settle(cx);
    }

    fn is_named_by(&self, info: &Info) -> bool {
        self.hashes.wire().all(|hash| info.hashes().matches(hash))
    }
}
