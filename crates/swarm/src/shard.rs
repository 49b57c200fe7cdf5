//! All torrents of one event loop: takes inputs apart, and hands each to its torrent.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use riverrun_base::{Bitfield, BlockSpan, InfoHash, InfoHashes, Rate, Rng, Time};

use crate::config::Config;
use crate::input::{AddTorrent, Input, TorrentCommand};
use crate::key::{ConnKey, TorrentKey};
use crate::limits::QUANTUM;
use crate::outbox::{Event, Existed, NetAction, Outbox};
use crate::recency::{Recency, Revision};
use crate::shared::Shared;
use crate::torrent::{Cx, PeerStats, Stub, Torrent, TorrentStats, WebSeedStats, Why};
use crate::turns::Idle;
use crate::wheel::{Alarm, Wheel};

/// Torrents, and what they share. Everything that happens comes in by [`Shard::handle`]; everything it wants done goes
/// out by an [`Outbox`].
pub struct Shard {
    config: Arc<Config>,
    shared: Shared,
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_hash: BTreeMap<InfoHash, TorrentKey>,
    wheel: Wheel,
    recency: Recency,
    /// When credit is handed out the next time, while there is a limit and somebody wants some.
    next_credit: Option<Time>,
    rng: Rng,
}

/// What is different from what it was.
#[derive(Clone, Debug)]
pub struct Changes {
    /// Where to go on from the next time.
    pub revision: Revision,
    /// Everything is listed, and what is not listed is not there: who asks has missed too much.
    pub is_whole: bool,
    /// The torrents that are new or have changed, as they are now; the one that changed last is first.
    pub torrents: Vec<(TorrentKey, TorrentStats)>,
    /// The torrents that are not there any more; empty if everything is listed.
    pub removed: Vec<TorrentKey>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    torrent: Option<Kept>,
    alarm: Alarm,
    idle: Idle,
}

/// A torrent, in the form in which it takes the least room.
enum Kept {
    Whole(Box<Torrent>),
    PutAway(Box<Stub>),
}

impl Kept {
    fn new(torrent: Box<Torrent>) -> Self {
        if torrent.can_be_put_away() {
            Self::PutAway(Box::new(torrent.put_away()))
        } else {
            Self::Whole(torrent)
        }
    }

    fn hashes(&self) -> InfoHashes {
        match self {
            Self::Whole(torrent) => torrent.hashes(),
            Self::PutAway(stub) => stub.hashes(),
        }
    }

    fn into_torrent(self, now: Time) -> Box<Torrent> {
        match self {
            Self::Whole(torrent) => torrent,
            Self::PutAway(stub) => Box::new(stub.take_out(now)),
        }
    }
}

impl Shard {
    /// A shard without torrents. Two with the same seed, and the same inputs at the same times, do the same.
    pub fn new(config: Arc<Config>, seed: u64) -> Self {
        Self {
            shared: Shared::new(&config),
            config,
            slots: Vec::new(),
            free: Vec::new(),
            by_hash: BTreeMap::new(),
            wheel: Wheel::default(),
            recency: Recency::default(),
            next_credit: None,
            rng: Rng::new(seed),
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox) {
        self.take(now, input, out);
        self.make_room(now, out);
    }

    /// Gives turns to those that wait for one, and has those doze that are one too many.
    fn make_room(&mut self, now: Time, out: &mut Outbox) {
        while let Some(next) = self.shared.turns.next(now) {
            self.with(now, next, out, Torrent::take_turn);
        }
        while let Some(idle) = self.shared.turns.longest_idle() {
            self.with(now, idle, out, Torrent::doze_early);
        }
    }

    fn take(&mut self, now: Time, input: Input, out: &mut Outbox) {
        match input {
            Input::Add(add) => self.add(now, *add, out),
            Input::BatchBegins => self.shared.turns.begin_batch(),
            Input::BatchEnds => self.shared.turns.end_batch(),
            Input::Torrent { torrent, command } => self.command(now, torrent, command, out),
            Input::Incoming {
                token,
                torrent,
                addr,
            } => {
                let known = self.with(now, torrent, out, |torrent, cx| {
                    torrent.incoming(cx, token, addr);
                });
                if !known {
                    let why = riverrun_peer::CloseReason::TorrentStopped;
                    out.net.push(NetAction::Refuse { token, why });
                }
            }
            Input::Connected { conn, transport } => {
                self.with_conn(now, conn, out, |torrent, cx| {
                    cx.shared.proxy_failure = None;
                    torrent.connected(conn, transport);
                });
            }
            Input::Peer { conn, event } => self.with_conn(now, conn, out, |torrent, cx| {
                torrent.peer_event(cx, conn, event);
            }),
            Input::PeerClosed { conn, why } => self.peer_closed(now, conn, &why, out),
            Input::Storage { torrent, done } => {
                self.with(now, torrent, out, |torrent, cx| torrent.storage(cx, done));
            }
            Input::Loaded { torrent, metadata } => {
                self.with(now, torrent, out, |torrent, cx| {
                    torrent.loaded(cx, metadata);
                });
            }
            Input::Announced {
                torrent,
                tracker,
                result,
            } => {
                self.with(now, torrent, out, |torrent, cx| {
                    torrent.announced(cx, tracker, result);
                });
            }
            Input::Found {
                torrent,
                source,
                peers,
            } => {
                self.with(now, torrent, out, |torrent, cx| {
                    torrent.found_and_dial(cx, source, &peers);
                });
            }
            Input::Limits(limits) => {
                self.shared.set_limits(now, limits);
                self.with_all(now, out, |torrent, cx| {
                    torrent.limit_peers(cx);
                    torrent.limits_changed(cx);
                });
            }
            input @ (Input::ListenPort(_)
            | Input::ExternalIp { .. }
            | Input::PeerId(_)
            | Input::Offline
            | Input::Online) => self.network(now, input, out),
            Input::Shutdown => self.with_all(now, out, Torrent::shut_down),
        }
    }

    /// Takes what concerns us in the network, whichever torrents there are.
    fn network(&mut self, now: Time, input: Input, out: &mut Outbox) {
        match input {
            Input::ListenPort(port) => self.shared.own.listen_port = port,
            Input::ExternalIp { ip, says } => {
                self.shared.vote(says, ip);
                self.tell_address(now, out);
            }
            Input::PeerId(peer_id) => {
                self.shared.peer_id = peer_id;
                self.with_all(now, out, |torrent, _| torrent.renamed());
            }
            Input::Offline => {
                self.shared.is_online = false;
                self.shared.forget_votes();
                self.with_all(now, out, Torrent::network_gone);
            }
            Input::Online => {
                self.shared.is_online = true;
                self.with_all(now, out, Torrent::network_back);
            }
            _ => {}
        }
    }

    /// Does what is due. To be called at [`Shard::poll_timeout`], and harmless at any other time.
    pub fn handle_timeout(&mut self, now: Time, out: &mut Outbox) {
        if self.next_credit.is_some_and(|due| due <= now) {
            self.lend(now, out);
        }
        // A torrent that is due again at once is due the next time.
        let mut due = Vec::new();
        while let Some(key) = self.wheel.pop(now) {
            if let Some(slot) = self.slot_mut(key) {
                slot.alarm.silence();
                due.push(key);
            }
        }
        for key in due {
            self.with(now, key, out, Torrent::timeout);
        }
        self.make_room(now, out);
    }

    /// When [`Shard::handle_timeout`] is to be called, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let turn = self.shared.turns.next_due();
        [self.wheel.next(), self.next_credit, turn]
            .into_iter()
            .flatten()
            .min()
    }

    /// The torrents, in the order of their keys.
    pub fn torrents(&self) -> impl Iterator<Item = TorrentKey> + '_ {
        (0..).zip(&self.slots).filter_map(|(index, slot)| {
            slot.torrent
                .as_ref()
                .map(|_| TorrentKey::new(index, slot.generation))
        })
    }

    /// The torrent with an info-hash, in either of its forms.
    pub fn find(&self, hash: InfoHash) -> Option<TorrentKey> {
        self.by_hash.get(&hash).copied()
    }

    /// A torrent in numbers.
    pub fn stats(&self, now: Time, torrent: TorrentKey) -> Option<TorrentStats> {
        self.look(torrent, now, |torrent| torrent.stats(now))
    }

    /// Why a torrent does not download, or does no faster; `None` if it does, or has nothing to download.
    pub fn why(&self, now: Time, torrent: TorrentKey) -> Option<Why> {
        self.torrent(torrent)?.why(now, &self.config, &self.shared)
    }

    /// What has changed since a revision that was told before, or since [`Revision::START`]. Costs what is listed,
    /// not what is there. A torrent whose rates are not zero changes all the time.
    pub fn changes(&mut self, now: Time, since: Revision) -> Changes {
        let is_whole = self.recency.is_lost(since);
        let since = if is_whole { Revision::START } else { since };
        let keys = self.recency.changed_since(since);
        let torrents: Vec<_> = keys
            .filter_map(|key| Some((key, self.stats(now, key)?)))
            .collect();
        let removed = self.recency.removed_since(since).filter(|_| !is_whole);
        let changes = Changes {
            revision: self.recency.revision(),
            is_whole,
            removed: removed.collect(),
            torrents,
        };
        for (key, stats) in &changes.torrents {
            // Rates fall without anything happening.
            if stats.upload_rate > Rate::ZERO || stats.download_rate > Rate::ZERO {
                self.recency.touch(*key);
            }
        }
        changes
    }

    /// A torrent's connections to peers.
    pub fn peers(&self, now: Time, torrent: TorrentKey) -> Vec<PeerStats> {
        self.torrent(torrent)
            .map_or_else(Vec::new, |torrent| torrent.peer_stats(now))
    }

    /// A torrent's web seeds, in use or not.
    pub fn web_seeds(&self, now: Time, torrent: TorrentKey) -> Vec<WebSeedStats> {
        self.look(torrent, now, |torrent| torrent.web_seed_stats(now))
            .unwrap_or_default()
    }

    /// The pieces of a torrent that are verified; `None` before its storage is open.
    pub fn pieces(&self, torrent: TorrentKey) -> Option<&Bitfield> {
        self.torrent(torrent)?.have()
    }

    /// Whether a block is given although its piece is not verified, as it is right by its own hash (v2).
    pub fn passes_on(&self, torrent: TorrentKey, span: BlockSpan) -> bool {
        self.torrent(torrent)
            .is_some_and(|torrent| torrent.relays(span))
    }

    /// Whether nothing can be read of a torrent before it was [woken](TorrentCommand::Wake) and is awake.
    pub fn is_resting(&self, torrent: TorrentKey) -> bool {
        match self.kept(torrent) {
            Some(Kept::Whole(torrent)) => torrent.is_resting(),
            Some(Kept::PutAway(_)) => true,
            None => false,
        }
    }

    /// How many connected peers have each piece; `None` without peers.
    pub fn availability(&self, torrent: TorrentKey) -> Option<Vec<u32>> {
        self.torrent(torrent)?.availability()
    }

    /// For tests and simulators, after each input.
    ///
    /// # Panics
    ///
    /// If something in a torrent does not agree with something else.
    pub fn check_invariants(&self) {
        for slot in &self.slots {
            if let Some(Kept::Whole(torrent)) = &slot.torrent {
                torrent.check_invariants(&self.config);
            }
        }
        assert!(self.shared.conns.half_open() <= self.shared.conns.open());
    }

    fn kept(&self, key: TorrentKey) -> Option<&Kept> {
        let slot = self.slots.get(key.index() as usize)?;
        slot.torrent
            .as_ref()
            .filter(|_| slot.generation == key.generation())
    }

    /// A torrent that is not put away: one that is has neither peers nor pieces, and lacks nothing.
    fn torrent(&self, key: TorrentKey) -> Option<&Torrent> {
        match self.kept(key)? {
            Kept::Whole(torrent) => Some(torrent),
            Kept::PutAway(_) => None,
        }
    }

    fn look<T>(&self, key: TorrentKey, now: Time, look: impl FnOnce(&Torrent) -> T) -> Option<T> {
        Some(match self.kept(key)? {
            Kept::Whole(torrent) => look(torrent),
            Kept::PutAway(stub) => look(&stub.clone().take_out(now)),
        })
    }

    fn slot_mut(&mut self, key: TorrentKey) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(key.index() as usize)?;
        (slot.generation == key.generation()).then_some(slot)
    }

    fn add(&mut self, now: Time, add: AddTorrent, out: &mut Outbox) {
        let request = add.request;
        let hashes = add
            .metadata
            .as_ref()
            .map_or(add.hashes, |(info, _)| info.hashes());
        if let Some(torrent) = hashes.wire().find_map(|hash| self.find(hash)) {
            return self.add_again(now, torrent, add, out);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            // Invariant: torrents fit into memory, so their number fits 32 bits.
            u32::try_from(self.slots.len() - 1).expect("torrents are counted in 32 bits")
        });
        let torrent = TorrentKey::new(index, self.slots[index as usize].generation);
        out.events.push(Event::Added {
            request,
            torrent,
            existed: Existed::No,
        });
        let start = add.options.start;
        let rng = self.rng.fork();
        let mut cx = Cx {
            now,
            config: &self.config,
            shared: &mut self.shared,
            out,
        };
        let made = Torrent::new(&mut cx, torrent, add, rng);
        self.slots[index as usize].torrent = Some(Kept::Whole(Box::new(made)));
        hashes.wire().for_each(|hash| {
            self.by_hash.insert(hash, torrent);
        });
        self.with(now, torrent, out, |torrent, cx| torrent.begin(cx, start));
    }

    /// Gives what is said of a torrent that is there to that torrent.
    fn add_again(&mut self, now: Time, torrent: TorrentKey, add: AddTorrent, out: &mut Outbox) {
        let request = add.request;
        let mut existed = Existed::Merged { metadata: false };
        self.with(now, torrent, out, |torrent, cx| {
            existed = torrent.merge(cx, add);
        });
        out.events.push(Event::Added {
            request,
            torrent,
            existed,
        });
    }

    fn command(&mut self, now: Time, key: TorrentKey, command: TorrentCommand, out: &mut Outbox) {
        if matches!(command, TorrentCommand::Remove) {
            // From here on the same torrent can be added anew.
            if let Some(hashes) = self.kept(key).map(Kept::hashes) {
                self.unname(key, hashes);
            }
        }
        self.with(now, key, out, |torrent, cx| torrent.command(cx, command));
    }

    fn peer_closed(
        &mut self,
        now: Time,
        key: ConnKey,
        why: &riverrun_peer::CloseReason,
        out: &mut Outbox,
    ) {
        let Some(conn) = self.shared.conns.remove(key) else {
            return;
        };
        self.shared.servers.close(key);
        self.with(now, conn.torrent, out, |torrent, cx| {
            torrent.peer_closed(cx, key, why);
        });
    }

    fn with_all(
        &mut self,
        now: Time,
        out: &mut Outbox,
        mut handle: impl FnMut(&mut Torrent, &mut Cx<'_>),
    ) {
        for key in self.torrents().collect::<Vec<_>>() {
            self.with(now, key, out, &mut handle);
        }
    }

    /// The same with the torrent of a connection, if both are still there.
    fn with_conn(
        &mut self,
        now: Time,
        conn: ConnKey,
        out: &mut Outbox,
        handle: impl FnOnce(&mut Torrent, &mut Cx<'_>),
    ) {
        if let Some(torrent) = self.shared.conns.get(conn).map(|conn| conn.torrent) {
            self.with(now, torrent, out, handle);
        }
    }

    /// Lets a torrent handle something; whether there is such a torrent. Whatever it decides wrongly, down to a
    /// panic, stays its own.
    fn with(
        &mut self,
        now: Time,
        key: TorrentKey,
        out: &mut Outbox,
        handle: impl FnOnce(&mut Torrent, &mut Cx<'_>),
    ) -> bool {
        let Some(slot) = self.slots.get_mut(key.index() as usize) else {
            return false;
        };
        let Some(kept) = slot
            .torrent
            .take_if(|_| slot.generation == key.generation())
        else {
            return false;
        };
        let before = kept.hashes();
        let mut torrent = kept.into_torrent(now);
        let mut cx = Cx {
            now,
            config: &self.config,
            shared: &mut self.shared,
            out,
        };
        if self.config.contain_panics {
            let caught = catch_unwind(AssertUnwindSafe(|| handle(&mut torrent, &mut cx)));
            if let Err(panic) = caught {
                torrent.break_down(&mut cx, message_of(panic.as_ref()));
            }
        } else {
            handle(&mut torrent, &mut cx);
        }
        let next = torrent.next_timeout(&mut cx);
        let after = torrent.hashes();
        let idle_since = torrent.idle_since(&self.config);
        let turns = &mut self.shared.turns;
        turns.note_busy(key, torrent.is_busy());
        turns.note_idle(key, &mut slot.idle, idle_since);
        slot.torrent = Some(Kept::new(torrent));
        self.wheel.set(key, &mut slot.alarm, next);
        self.recency.touch(key);
        if after != before {
            // The metadata of a hybrid has told its other name.
            for hash in after.wire() {
                self.name(now, hash, key, out);
            }
        }
        if !self.shared.wanting.is_empty() && self.next_credit.is_none() {
            self.next_credit = Some(now + QUANTUM);
        }
        self.forget_vanished();
        self.tell_address(now, out);
        true
    }

    /// Has every torrent rank its candidates anew if our address is another.
    fn tell_address(&mut self, now: Time, out: &mut Outbox) {
        if std::mem::take(&mut self.shared.has_moved) {
            self.with_all(now, out, Torrent::address_changed);
        }
    }

    fn forget_vanished(&mut self) {
        for key in std::mem::take(&mut self.shared.vanished) {
            self.shared.wanting.remove(&key);
            let Some(slot) = self.slots.get_mut(key.index() as usize) else {
                continue;
            };
            self.wheel.clear(key, &mut slot.alarm);
            self.shared.turns.forget(key, &mut slot.idle);
            self.recency.remove(key);
            let gone = slot.torrent.take();
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(key.index());
            if let Some(gone) = gone {
                self.unname(key, gone.hashes());
            }
        }
    }

    /// A torrent is found by this info-hash from now on; if another one is, that is the same, and both become one.
    fn name(&mut self, now: Time, hash: InfoHash, key: TorrentKey, out: &mut Outbox) {
        let Some(twin) = self.by_hash.insert(hash, key).filter(|twin| *twin != key) else {
            return;
        };
        let mut legacy = None;
        self.with(now, twin, out, |torrent, cx| {
            legacy = Some(torrent.leave_to(cx, key));
        });
        if let Some(legacy) = legacy {
            self.with(now, key, out, |torrent, cx| torrent.inherit(cx, legacy));
        }
    }

    /// A torrent is not found by its info-hashes any more.
    fn unname(&mut self, key: TorrentKey, hashes: InfoHashes) {
        for hash in hashes.wire() {
            if self.find(hash) == Some(key) {
                self.by_hash.remove(&hash);
            }
        }
    }

    /// Hands out credit to the connections of all torrents that want some. Whoever was first is last the next time.
    fn lend(&mut self, now: Time, out: &mut Outbox) {
        self.next_credit = None;
        let mut wanting: Vec<_> = std::mem::take(&mut self.shared.wanting)
            .into_iter()
            .collect();
        let first = self.rng.below(wanting.len());
        wanting.rotate_left(first);
        for key in wanting {
            let mut wants = false;
            self.with(now, key, out, |torrent, cx| wants = torrent.lend(cx));
            if wants {
                self.shared.wanting.insert(key);
            }
        }
        if !self.shared.wanting.is_empty() {
            self.next_credit = Some(now + QUANTUM);
        }
    }
}

/// What a panic said.
fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use riverrun_base::{PeerId, Sha1Digest};

    use super::*;
    use crate::input::TorrentOptions;

    fn add(n: u32) -> Input {
        let mut hash = [0; 20];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        let options = TorrentOptions {
            start: false,
            ..TorrentOptions::default()
        };
        Input::Add(Box::new(AddTorrent {
            request: n.into(),
            hashes: InfoHashes::v1_only(Sha1Digest(hash)),
            metadata: None,
            summary: None,
            trackers: Vec::new(),
            peers: Vec::new(),
            web_seeds: Vec::new(),
            options,
            uploaded_bytes: 0,
            downloaded_bytes: 0,
        }))
    }

    #[test]
    fn of_a_thousand_torrents_those_that_changed_are_listed_and_no_others() {
        let mut shard = Shard::new(Arc::new(Config::new(PeerId([1; 20]), 1)), 1);
        let (mut out, now) = (Outbox::default(), Time::from_secs(1));
        for n in 0..1000 {
            shard.handle(now, add(n), &mut out);
        }
        let whole = shard.changes(now, Revision::START);
        assert!(whole.is_whole);
        assert_eq!(whole.torrents.len(), 1000);
        let keys: Vec<_> = shard.torrents().collect();
        for (torrent, command) in [
            (keys[3], TorrentCommand::Start),
            (keys[700], TorrentCommand::Sequential(true)),
            (keys[9], TorrentCommand::Remove),
        ] {
            shard.handle(now, Input::Torrent { torrent, command }, &mut out);
        }
        let some = shard.changes(now, whole.revision);
        let listed: Vec<_> = some.torrents.iter().map(|(key, _)| *key).collect();
        assert_eq!((some.is_whole, listed), (false, vec![keys[700], keys[3]]));
        assert_eq!(some.removed, [keys[9]]);
        let none = shard.changes(now, some.revision);
        assert_eq!((none.torrents.len(), none.removed.len()), (0, 0));
    }
}
