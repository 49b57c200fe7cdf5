//! When to announce to which tracker, and what.
//!
//! Each info-hash of a hybrid is announced on its own. Of each tier one tracker is used at a time (BEP 12); a
//! private torrent uses one of all tiers together, and leaves its peers when it switches (BEP 27).

use std::time::Duration;

use riverrun_base::{InfoHash, InfoHashes, Rng, Time};
use riverrun_peer::{CloseReason, EncryptionPolicy};
use riverrun_tracker::{
    AnnounceEvent, AnnounceRequest, AnnounceResponse, AnnouncedEncryption, Backoff, INTERVAL_MAX,
    Retry, Tiers, TrackerFailure, TrackerUrl,
};

use super::stats::{TrackerStats, TrackerStatus};
use super::{Cx, Torrent};
use crate::external_ip::Witness;
use crate::input::PeerSource;
use crate::outbox::{Event, NetAction, TrackerKey};

/// How many trackers a torrent may have: torrent files with more are lists of dead ones.
const TRACKERS_MAX: usize = 100;
/// With fewer connections than this a downloading torrent announces as soon as the tracker allows.
const PEERS_FEW: usize = 8;
/// How long a failure that is final is left alone: longer than anything lives.
const NEVER: Time = Time::FAR_FUTURE;

/// The trackers of a torrent, and where each stands.
#[derive(Clone, Debug)]
pub(super) struct Announcer {
    urls: Vec<TrackerUrl>,
    /// Indices into `urls`.
    tiers: Tiers<usize>,
    hashes: Vec<InfoHash>,
    /// For each info-hash each tracker.
    entries: Vec<Entry>,
    /// The entries among which one is used at a time, in the order in which to try them.
    groups: Vec<Vec<usize>>,
    /// When the next announce is due, and when if peers are short; kept, since it is asked for after every input.
    next: Option<Time>,
    next_if_short: Option<Time>,
    is_on: bool,
    is_private: bool,
    /// The tracker of a private torrent that answered last.
    current: Option<usize>,
}

/// One tracker, for one info-hash.
#[derive(Clone, Debug)]
struct Entry {
    key: TrackerKey,
    url: usize,
    hash: InfoHash,
    /// It knows that we are there.
    is_started: bool,
    /// What was sent and received in all when it was announced to last, and when it answered last.
    asked_at: Moved,
    told_at: Moved,
    /// Where it counts from: what another peer id has reported of us already is not reported again.
    counted_from: Moved,
    /// It is still to be told that the download is complete.
    owes_completed: bool,
    in_flight: Option<AnnounceEvent>,
    /// When to announce again.
    due: Time,
    /// When to announce again at the earliest, if the user wants it.
    allowed: Time,
    /// When to announce again if peers are short.
    early: Time,
    /// How long it was from the last announce to that: doubles each time, since a small swarm stays small.
    early_wait: Duration,
    backoff: Backoff,
    tracker_id: Option<Vec<u8>>,
    last: TrackerStatus,
}

/// Bytes of payload.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    up: u64,
    down: u64,
}

/// What an announce says of the torrent.
#[derive(Clone, Copy, Debug)]
struct Say {
    is_partial_seed: bool,
    is_short_of_peers: bool,
}

impl Announcer {
    pub(super) fn new(tiers: &[Vec<String>], hashes: InfoHashes, rng: &mut Rng) -> Self {
        let mut announcer = Self {
            urls: Vec::new(),
            tiers: Tiers::new([], rng),
            hashes: hashes.wire().collect(),
            entries: Vec::new(),
            groups: Vec::new(),
            next: None,
            next_if_short: None,
            is_on: false,
            is_private: false,
            current: None,
        };
        for tier in tiers {
            announcer.add_tier(tier, Time::ZERO, rng);
        }
        announcer
    }

    /// Adds a tier; what is no URL of a tracker that we can talk to is left out.
    pub(super) fn add_tier(&mut self, tier: &[String], now: Time, rng: &mut Rng) {
        let mut indices = Vec::new();
        for url in tier
            .iter()
            .filter_map(|text| text.parse::<TrackerUrl>().ok())
        {
            let known = self.urls.contains(&url);
            if !url.is_supported() || known || self.urls.len() >= TRACKERS_MAX {
                continue;
            }
            indices.push(self.urls.len());
            self.urls.push(url);
        }
        for hash in self.hashes.clone() {
            for url in &indices {
                self.push_entry(hash, *url, now);
            }
        }
        self.tiers.push_tier(indices, rng);
        self.regroup();
    }

    fn push_entry(&mut self, hash: InfoHash, url: usize, due: Time) {
        let key = TrackerKey(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        self.entries.push(Entry {
            key,
            url,
            hash,
            is_started: false,
            asked_at: Moved::default(),
            told_at: Moved::default(),
            counted_from: Moved::default(),
            owes_completed: false,
            in_flight: None,
            due,
            allowed: due,
            early: due,
            early_wait: Duration::ZERO,
            backoff: Backoff::new(),
            tracker_id: None,
            last: TrackerStatus::Idle,
        });
    }

    /// The trackers, tier by tier.
    pub(super) fn urls(&self) -> Vec<Vec<String>> {
        let url = |at: &usize| self.urls[*at].as_str().to_owned();
        let tiers = self.tiers.tiers();
        tiers.map(|tier| tier.iter().map(url).collect()).collect()
    }

    /// The metadata has told another info-hash: it is announced from now on too.
    pub(super) fn set_hashes(&mut self, now: Time, hashes: InfoHashes) {
        for hash in hashes.wire() {
            if self.hashes.contains(&hash) {
                continue;
            }
            self.hashes.push(hash);
            for url in 0..self.urls.len() {
                self.push_entry(hash, url, now);
            }
        }
        self.regroup();
    }

    /// Takes no more room than it needs.
    pub(super) fn shrink(&mut self) {
        self.urls.shrink_to_fit();
        self.hashes.shrink_to_fit();
        self.entries.shrink_to_fit();
        self.groups.shrink_to_fit();
    }

    /// Begins; everything that was known about trackers' wishes still holds.
    fn start(&mut self, now: Time, is_private: bool) {
        self.is_private = is_private;
        if self.is_on {
            self.regroup();
            return;
        }
        self.is_on = true;
        for entry in &mut self.entries {
            entry.due = now.max(if entry.backoff.failures() > 0 {
                entry.due
            } else {
                now
            });
            entry.is_started = false;
            // What is told counts from here: the session is a new one.
            entry.asked_at = Moved::default();
            entry.told_at = Moved::default();
            entry.counted_from = Moved::default();
            entry.owes_completed = false;
            entry.in_flight = None;
            entry.early_wait = Duration::ZERO;
        }
        self.regroup();
    }

    /// Forgets what is under way.
    pub(super) fn forget(&mut self) {
        self.is_on = false;
        self.interrupt();
    }

    /// The network is gone: whatever becomes of the announces under way says nothing of the trackers.
    pub(super) fn interrupt(&mut self) {
        for entry in &mut self.entries {
            entry.in_flight = None;
        }
        self.reschedule();
    }

    /// The network is back: trackers hear at once where we are, and failures may have been our own.
    pub(super) fn renew(&mut self, now: Time) {
        for entry in self.entries.iter_mut().filter(|entry| entry.due < NEVER) {
            entry.backoff.succeed();
            entry.due = now;
        }
        self.reschedule();
    }

    /// We have another peer id: a newcomer to every tracker.
    fn rename(&mut self) {
        for entry in &mut self.entries {
            entry.is_started = false;
            entry.counted_from = entry.told_at;
        }
        self.reschedule();
    }

    /// When the next announce is due.
    pub(super) fn next_due(&self, is_short_of_peers: bool) -> Option<Time> {
        let early = self.next_if_short.filter(|_| is_short_of_peers);
        self.next.into_iter().chain(early).min()
    }

    /// Sees anew when the next announce is due, after something has changed.
    fn reschedule(&mut self) {
        let active = self.groups.iter().filter_map(|group| self.active(group));
        let idle: Vec<_> = active
            .map(|at| &self.entries[at])
            .filter(|entry| self.is_on && entry.in_flight.is_none() && entry.due < NEVER)
            .collect();
        self.next = idle.iter().map(|entry| entry.due).min();
        let known = idle.iter().filter(|entry| entry.is_started);
        self.next_if_short = known.map(|entry| entry.early).min();
    }

    /// Sees anew which trackers stand for each other, after their order has changed.
    fn regroup(&mut self) {
        let tiers: Vec<Vec<usize>> = if self.is_private {
            vec![self.tiers.iter().copied().collect()]
        } else {
            self.tiers.tiers().map(<[usize]>::to_vec).collect()
        };
        let entry = |hash: &InfoHash, url: usize| {
            self.entries
                .iter()
                .position(|entry| entry.url == url && entry.hash == *hash)
        };
        let group = |hash: &InfoHash, tier: &[usize]| -> Vec<usize> {
            tier.iter().filter_map(|url| entry(hash, *url)).collect()
        };
        let of_hash = |hash| tiers.iter().map(move |tier| group(hash, tier));
        self.groups = self.hashes.iter().flat_map(of_hash).collect();
        self.reschedule();
    }

    /// The tracker of a group that is used now: the first that works, else the first that may be tried again.
    fn active(&self, group: &[usize]) -> Option<usize> {
        let busy = group
            .iter()
            .find(|at| self.entries[**at].in_flight.is_some());
        let works = || {
            group
                .iter()
                .find(|at| self.entries[**at].backoff.failures() == 0)
        };
        let soonest = || group.iter().min_by_key(|at| self.entries[**at].due);
        busy.or_else(works).or_else(soonest).copied()
    }

    /// The announces that are due.
    fn due(&mut self, now: Time, say: Say) -> Vec<(usize, AnnounceEvent)> {
        if !self.is_on {
            return Vec::new();
        }
        let mut due = Vec::new();
        let active: Vec<_> = self
            .groups
            .iter()
            .filter_map(|group| self.active(group))
            .collect();
        for at in active {
            let entry = &mut self.entries[at];
            let early = say.is_short_of_peers && entry.is_started && entry.early <= now;
            if entry.in_flight.is_some() || (entry.due > now && !early) || entry.due == NEVER {
                continue;
            }
            let event = entry.event(say);
            entry.in_flight = Some(event);
            due.push((at, event));
        }
        self.reschedule();
        due
    }

    /// The trackers that have to be told that we go.
    fn stop(&mut self) -> Vec<(usize, AnnounceEvent)> {
        self.is_on = false;
        let mut goodbyes = Vec::new();
        for (at, entry) in self.entries.iter_mut().enumerate() {
            entry.in_flight = None;
            if std::mem::take(&mut entry.is_started) {
                entry.in_flight = Some(AnnounceEvent::Stopped);
                goodbyes.push((at, AnnounceEvent::Stopped));
            }
        }
        self.reschedule();
        goodbyes
    }

    /// The download is complete: whoever knows of it hears so.
    pub(super) fn complete(&mut self, now: Time) {
        for entry in self.entries.iter_mut().filter(|entry| entry.is_started) {
            entry.owes_completed = true;
            if entry.due < NEVER {
                entry.due = now;
            }
        }
        self.reschedule();
    }

    /// Announces as soon as trackers allow.
    pub(super) fn hasten(&mut self, now: Time) {
        for entry in self.entries.iter_mut().filter(|entry| entry.due < NEVER) {
            entry.due = entry.due.min(entry.allowed.max(now));
        }
        self.reschedule();
    }

    /// Takes a good answer. Whether a private torrent has switched trackers with it.
    fn succeeded(&mut self, now: Time, at: usize, response: &AnnounceResponse) -> bool {
        let entry = &mut self.entries[at];
        let Some(event) = entry.in_flight.take() else {
            return false;
        };
        entry.backoff.succeed();
        entry.last = TrackerStatus::Working {
            seeders: response.seeders,
            leechers: response.leechers,
            warning: response.warning.clone(),
        };
        if let Some(id) = &response.tracker_id {
            entry.tracker_id = Some(id.clone());
        }
        if event == AnnounceEvent::Stopped {
            return false;
        }
        entry.is_started = true;
        entry.told_at = entry.asked_at;
        entry.early_wait = (entry.early_wait * 2).clamp(response.wait_min(), INTERVAL_MAX);
        entry.early = now + entry.early_wait;
        entry.owes_completed &= event != AnnounceEvent::Completed;
        entry.allowed = now + response.wait_min();
        entry.due = if entry.owes_completed {
            now
        } else {
            now + response.interval.max(response.wait_min())
        };
        let url = entry.url;
        self.tiers.promote(&url);
        let switched = self.is_private && self.current.is_some_and(|current| current != url);
        self.current = Some(url);
        self.regroup();
        switched
    }

    fn failed(&mut self, now: Time, at: usize, failure: &TrackerFailure) {
        let entry = &mut self.entries[at];
        if entry.in_flight.take().is_none() {
            return;
        }
        let wait = entry.backoff.fail();
        entry.last = TrackerStatus::Failing(failure.to_string());
        let told = match failure {
            TrackerFailure::Refused {
                retry: Some(Retry::After(told)),
                ..
            } => *told,
            _ => Duration::ZERO,
        };
        entry.due = if failure.is_final() {
            NEVER
        } else {
            now + wait.max(told)
        };
        entry.allowed = entry.due;
        entry.early = entry.due;
        self.reschedule();
    }

    fn at(&self, key: TrackerKey) -> Option<usize> {
        let at = key.0 as usize;
        (at < self.entries.len()).then_some(at)
    }

    /// Whether a tracker knows of us.
    pub(super) fn stats(&self) -> Vec<TrackerStats> {
        let stats = |entry: &Entry| TrackerStats {
            url: self.urls[entry.url].clone(),
            info_hash: entry.hash,
            status: match entry.in_flight {
                Some(_) => TrackerStatus::Announcing,
                None => entry.last.clone(),
            },
            failures: entry.backoff.failures(),
            next: (self.is_on && entry.due < NEVER).then_some(entry.due),
        };
        self.entries.iter().map(stats).collect()
    }
}

impl Entry {
    fn event(&self, say: Say) -> AnnounceEvent {
        if !self.is_started {
            AnnounceEvent::Started
        } else if self.owes_completed {
            AnnounceEvent::Completed
        } else if say.is_partial_seed {
            AnnounceEvent::Paused
        } else {
            AnnounceEvent::None
        }
    }
}

/// What trackers are told of a policy.
const fn announced(policy: EncryptionPolicy) -> AnnouncedEncryption {
    match policy {
        EncryptionPolicy::Off => AnnouncedEncryption::None,
        EncryptionPolicy::Prefer => AnnouncedEncryption::Supported,
        EncryptionPolicy::Require => AnnouncedEncryption::Required,
    }
}

impl Torrent {
    pub(super) fn start_announces(&mut self, cx: &mut Cx<'_>) {
        let is_private = self.is_private();
        self.announcer.start(cx.now, is_private);
        self.announce_due(cx);
    }

    pub(super) fn stop_announces(&mut self, cx: &mut Cx<'_>) {
        let goodbyes = self.announcer.stop();
        self.send_announces(cx, goodbyes);
    }

    pub(super) fn announce_due(&mut self, cx: &mut Cx<'_>) {
        if !cx.shared.is_online {
            return;
        }
        let due = self.announcer.due(cx.now, self.say());
        self.send_announces(cx, due);
    }

    pub(super) fn announce_soon(&mut self, cx: &mut Cx<'_>) {
        self.announcer.hasten(cx.now);
        self.announce_due(cx);
        if self.life.is_in_swarm() {
            self.start_dht(cx);
        }
    }

    pub(crate) fn renamed(&mut self) {
        self.announcer.rename();
    }

    pub(super) fn add_trackers(&mut self, cx: &mut Cx<'_>, tiers: &[Vec<String>]) {
        for tier in tiers {
            self.announcer.add_tier(tier, cx.now, &mut self.rng);
        }
        self.announce_due(cx);
    }

    /// Whether more peers are wanted than are known.
    pub(super) fn is_short_of_peers(&self) -> bool {
        let finished = self.is_finished();
        let peers = self.peers.len() - self.web_seeds.open();
        let few = peers < PEERS_FEW && !self.candidates.has_next(finished);
        few && !finished && self.life.is_open_to_peers()
    }

    fn say(&self) -> Say {
        Say {
            is_partial_seed: self.is_partial_seed(),
            is_short_of_peers: self.is_short_of_peers(),
        }
    }

    fn send_announces(&mut self, cx: &mut Cx<'_>, announces: Vec<(usize, AnnounceEvent)>) {
        if announces.is_empty() {
            return;
        }
        let left = self.left_bytes();
        let moved = Moved {
            up: self.rates.session_up(),
            down: self.rates.session_down(),
        };
        for (at, event) in announces {
            let entry = &mut self.announcer.entries[at];
            entry.asked_at = moved;
            let num_want = if event == AnnounceEvent::Stopped {
                0
            } else {
                cx.config.num_want
            };
            cx.out.net.push(NetAction::Announce {
                torrent: self.key,
                tracker: entry.key,
                url: self.announcer.urls[entry.url].clone(),
                request: AnnounceRequest {
                    info_hash: entry.hash,
                    peer_id: cx.shared.peer_id,
                    // Trackers refuse port 0; nobody listens on port 1, and nobody dials it.
                    port: cx.shared.own.listen_port.max(1),
                    uploaded: moved.up.saturating_sub(entry.counted_from.up),
                    downloaded: moved.down.saturating_sub(entry.counted_from.down),
                    left,
                    event,
                    num_want: Some(num_want),
                    key: cx.config.tracker_key,
                    tracker_id: entry.tracker_id.clone(),
                    encryption: announced(cx.config.encryption),
                },
            });
        }
    }

    /// Takes a tracker's answer.
    pub(crate) fn announced(
        &mut self,
        cx: &mut Cx<'_>,
        tracker: TrackerKey,
        result: Result<AnnounceResponse, TrackerFailure>,
    ) {
        let Some(at) = self.announcer.at(tracker) else {
            return;
        };
        let url = self.announcer.urls[self.announcer.entries[at].url]
            .as_str()
            .to_owned();
        match result {
            Ok(response) => {
                let switched = self.announcer.succeeded(cx.now, at, &response);
                if switched {
                    self.leave_peers(cx);
                }
                cx.event(Event::Announced {
                    torrent: self.key,
                    url,
                    peers: response.peers.len(),
                    warning: response.warning,
                });
                // Our address as the tracker sees it (BEP 24).
                if let Some(ip) = response.external_ip {
                    let host = self.announcer.urls[self.announcer.entries[at].url].host();
                    cx.shared.vote(Witness::Tracker(host.to_string()), ip);
                }
                self.found(cx, PeerSource::Tracker, &response.peers);
            }
            Err(failure) => {
                self.announcer.failed(cx.now, at, &failure);
                cx.event(Event::TrackerFailed {
                    torrent: self.key,
                    url,
                    message: failure.to_string(),
                });
            }
        }
        self.announce_due(cx);
        self.settle(cx);
    }

    /// A private torrent uses another tracker now: its peers are not those of the last (BEP 27).
    fn leave_peers(&mut self, cx: &mut Cx<'_>) {
        self.candidates.forget_tracker();
        self.close_peers(cx, &CloseReason::TorrentStopped);
    }
}
