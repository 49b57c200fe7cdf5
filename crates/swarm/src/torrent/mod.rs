//! One torrent: what it consists of, and who handles what happens to it.
//!
//! The files beside this one each hold one side of its behaviour; what they decide with (picker, choker, address
//! book, bans) knows nothing of the torrent.

mod announce;
mod blame;
mod changes;
mod connect;
mod dht;
mod download;
mod doze;
mod exchange;
mod hashes;
mod holepunch;
mod lifecycle;
mod merge;
mod metadata;
mod open;
mod peers;
mod pieces;
mod rates;
mod relay;
mod reveal;
mod serve;
mod stats;
mod stub;
mod upload;
mod web;
mod why;

use std::sync::Arc;

use riverrun_base::{InfoHashes, Rng, Time};
use riverrun_metainfo::{Info, PieceHashes};
use riverrun_peer::{PeerCommand, PeerEvent};

use self::announce::Announcer;
use self::changes::Changes;
use self::dht::DhtSchedule;
use self::doze::Rest;
use self::hashes::HashFetch;
use self::lifecycle::Lifecycle;
use self::metadata::MetadataFetch;
use self::peers::Peers;
use self::pieces::Pieces;
use self::rates::Rates;
use self::relay::Relay;
use self::reveal::Reveal;
use self::serve::Serving;
use crate::bans::Bans;
use crate::candidates::Candidates;
use crate::choker::Choker;
use crate::config::Config;
use crate::discovery::Discovery;
use crate::exchange::Exchanger;
use crate::input::{AddTorrent, TorrentCommand, TorrentOptions};
use crate::key::{ConnKey, TorrentKey};
use crate::local::LocalAnnouncer;
use crate::outbox::{Event, NetAction, Outbox, StorageDone, StorageJob};
use crate::shared::Shared;
use crate::web_seeds::WebSeeds;

pub(crate) use self::stub::Stub;

pub use self::stats::{PeerStats, TorrentStats, TrackerStats, TrackerStatus};
pub(crate) use self::web::Servers;
pub use self::web::{WebSeedStats, WebSeedStatus};
pub use self::why::Why;

/// What a torrent needs of its surroundings while it handles one input.
pub(crate) struct Cx<'a> {
    pub(crate) now: Time,
    pub(crate) config: &'a Config,
    pub(crate) shared: &'a mut Shared,
    pub(crate) out: &'a mut Outbox,
}

impl Cx<'_> {
    fn tell(&mut self, conn: ConnKey, command: PeerCommand) {
        self.out.peers.push((conn, command));
    }

    fn store(&mut self, torrent: TorrentKey, job: StorageJob) {
        self.out.storage.push((torrent, job));
    }

    fn net(&mut self, action: NetAction) {
        self.out.net.push(action);
    }

    fn event(&mut self, event: Event) {
        self.out.events.push(event);
    }
}

/// One torrent.
pub(crate) struct Torrent {
    key: TorrentKey,
    hashes: InfoHashes,
    options: TorrentOptions,
    life: Lifecycle,
    /// Once it is known, while it is in memory.
    meta: Option<Meta>,
    /// What stands for it otherwise.
    rest: Rest,
    /// While it is not.
    fetch: MetadataFetch,
    /// Once storage is open.
    pieces: Option<Pieces>,
    changes: Changes,
    hash_fetch: HashFetch,
    relay: Relay,
    peers: Peers,
    candidates: Candidates,
    choker: Choker,
    reveal: Reveal,
    serving: Serving,
    announcer: Announcer,
    dht: DhtSchedule,
    exchanger: Exchanger,
    local: LocalAnnouncer,
    web_seeds: WebSeeds,
    bans: Bans,
    rates: Rates,
    rng: Rng,
}

/// The metadata, and what pieces must hash to.
struct Meta {
    info: Arc<Info>,
    hashes: Arc<PieceHashes>,
}

impl Torrent {
    pub(crate) fn new(cx: &mut Cx<'_>, key: TorrentKey, add: AddTorrent, mut rng: Rng) -> Self {
        let meta = add.metadata.map(|(info, hashes)| Meta {
            info,
            hashes: Arc::new(hashes),
        });
        let hashes = meta.as_ref().map_or(add.hashes, |meta| meta.info.hashes());
        let mut torrent = Self {
            key,
            hashes,
            life: Lifecycle::default(),
            rest: Rest::new(meta.is_some(), add.summary),
            meta,
            fetch: MetadataFetch::default(),
            pieces: None,
            changes: Changes::default(),
            hash_fetch: HashFetch::default(),
            relay: Relay::default(),
            peers: Peers::default(),
            candidates: Candidates::default(),
            choker: Choker::default(),
            reveal: Reveal::default(),
            serving: Serving::default(),
            announcer: Announcer::new(&add.trackers, hashes, &mut rng),
            dht: DhtSchedule::default(),
            exchanger: Exchanger::default(),
            local: LocalAnnouncer::default(),
            web_seeds: WebSeeds::default(),
            bans: Bans::default(),
            rates: Rates::default(),
            rng,
            options: add.options,
        };
        torrent.rates.set_limits(cx.now, torrent.options.limits);
        torrent
            .rates
            .set_totals(add.uploaded_bytes, add.downloaded_bytes);
        torrent.found(cx, crate::PeerSource::User, &add.peers);
        torrent.add_web_seeds(add.web_seeds);
        torrent
    }

    pub(crate) const fn hashes(&self) -> InfoHashes {
        self.hashes
    }

    /// Handles a command of the user.
    pub(crate) fn command(&mut self, cx: &mut Cx<'_>, command: TorrentCommand) {
        match command {
            TorrentCommand::Start => {
                self.options.start = true;
                self.start(cx);
            }
            TorrentCommand::Stop => {
                self.options.start = false;
                self.stop(cx);
            }
            TorrentCommand::Remove => self.remove(cx),
            TorrentCommand::Recheck => self.recheck(cx),
            TorrentCommand::Priorities(priorities) => self.set_priorities(cx, priorities),
            TorrentCommand::Sequential(sequential) => self.set_sequential(cx, sequential),
            TorrentCommand::Deadline { piece, at } => self.set_deadline(cx, piece, at),
            TorrentCommand::ClearDeadlines => self.clear_deadlines(),
            TorrentCommand::Limits(limits) => {
                self.options.limits = limits;
                self.rates.set_limits(cx.now, limits);
                self.limit_peers(cx);
                self.fill_slots(cx);
            }
            TorrentCommand::Wake => self.wake(cx),
            TorrentCommand::AddTrackers(urls) => {
                let tiers: Vec<_> = urls.into_iter().map(|url| vec![url]).collect();
                self.add_trackers(cx, &tiers);
            }
            TorrentCommand::Announce => self.announce_soon(cx),
            TorrentCommand::UploadOnly(upload_only) => self.set_upload_only(cx, upload_only),
        }
        self.settle(cx);
    }

    /// Handles what a connection reports.
    pub(crate) fn peer_event(&mut self, cx: &mut Cx<'_>, conn: ConnKey, event: PeerEvent) {
        let Some(addr) = self.peers.get(conn).map(|peer| peer.addr) else {
            // We have closed it; its end is yet to be reported.
            return;
        };
        match event {
            // The driver finds the torrent for an incoming connection itself.
            PeerEvent::KeyExchange | PeerEvent::Veiled(_) | PeerEvent::Handshake(_) => {}
            PeerEvent::DhtPort(port) => self.dht_port(cx, addr, port),
            PeerEvent::Ready(hello) => self.ready(cx, conn, hello),
            PeerEvent::Extended(hello) => self.extended(cx, conn, hello),
            PeerEvent::Choked => self.choked(cx, conn),
            PeerEvent::Unchoked => self.unchoked(cx, conn),
            PeerEvent::Interested => self.interested(cx, conn, true),
            PeerEvent::NotInterested => self.interested(cx, conn, false),
            PeerEvent::Has(piece) => self.has(cx, conn, piece),
            PeerEvent::HasPieces(pieces) => self.has_pieces(cx, conn, pieces),
            PeerEvent::HasBlocks(run) => self.has_blocks(cx, conn, run),
            PeerEvent::LostPiece(piece) => self.lost_piece(cx, conn, piece),
            PeerEvent::Wants(span) => self.wants(cx, conn, span),
            PeerEvent::Unwants(span) => self.unwants(cx, conn, span),
            PeerEvent::Received { span, block } => self.received(cx, conn, span, block),
            PeerEvent::Unwanted(span) => self.unwanted(cx, conn, span),
            PeerEvent::Rejected(span) => self.rejected(cx, conn, span),
            PeerEvent::Served(span) => self.served(cx, conn, span),
            PeerEvent::Window(window) => self.window(cx, conn, window),
            PeerEvent::Snubbed => self.snubbed(cx, conn),
            PeerEvent::AllowedFast(piece) => self.allowed_fast(cx, conn, piece),
            PeerEvent::Suggested(piece) => self.suggested(conn, piece),
            PeerEvent::Hashes(hashes) => self.hashes_came(cx, conn, &hashes),
            PeerEvent::HashesRejected(request) => self.hashes_rejected(cx, conn, request),
            PeerEvent::WantsHashes(request) => self.wants_hashes(cx, conn, request),
            PeerEvent::Metadata {
                piece,
                total_len,
                bytes,
            } => {
                self.metadata_came(cx, conn, piece, total_len, bytes);
            }
            PeerEvent::MetadataRejected(piece) => self.metadata_rejected(cx, conn, piece),
            PeerEvent::Holepunch(message) => self.holepunch_came(cx, conn, message),
            PeerEvent::Exchange(heard) => self.exchange_came(cx, conn, *heard),
        }
        self.settle(cx);
    }

    /// Handles what storage reports.
    pub(crate) fn storage(&mut self, cx: &mut Cx<'_>, done: StorageDone) {
        match done {
            StorageDone::Opened { have, unchecked } => self.opened(cx, have, unchecked),
            StorageDone::Checked { piece, ok } => self.checked(cx, piece, ok),
            StorageDone::Changed { file, path } => self.file_changed(cx, file, path),
            StorageDone::CheckEnded => self.check_ended(cx),
            StorageDone::Verified(piece) => self.verified(cx, piece),
            StorageDone::Failed { piece, blocks } => self.failed(cx, piece, blocks),
            StorageDone::Durable(pieces) => self.durable(cx, &pieces),
            StorageDone::ReadFailed { conn, span, .. } => self.read_failed(cx, conn, span),
            StorageDone::Leaves {
                conn,
                request,
                leaves,
                ..
            } => {
                self.leaves(cx, conn, request, &leaves);
            }
            StorageDone::Fault(fault) => self.faulted(cx, fault),
            StorageDone::Recovered => self.recovered(cx),
            StorageDone::Synced => {}
            StorageDone::Closed => self.closed(cx),
        }
        self.settle(cx);
    }

    /// Does what is due.
    pub(crate) fn timeout(&mut self, cx: &mut Cx<'_>) {
        self.announce_due(cx);
        self.dht_due(cx);
        self.choke_round_due(cx);
        self.waits_over(cx);
        self.serve(cx);
        self.metadata_due(cx);
        self.hashes_due(cx);
        self.exchange_due(cx);
        self.local_due(cx);
        self.changes_due(cx);
        self.doze_due(cx);
        self.settle(cx);
    }

    /// Whether the local network is asked for peers.
    fn is_shown_locally(&self, cx: &Cx<'_>) -> bool {
        let is_shown = self.life.is_in_swarm() && cx.shared.is_online;
        cx.config.local_discovery && is_shown && Discovery::Local.allowed(self.is_private())
    }

    fn local_due(&mut self, cx: &mut Cx<'_>) {
        if self.is_shown_locally(cx) && self.local.take_due(cx.now) {
            let info_hashes = self.hashes.wire().collect();
            cx.net(NetAction::AnnounceLocal { info_hashes });
        }
    }

    /// When something will be due.
    pub(crate) fn next_timeout(&self, cx: &mut Cx<'_>) -> Option<Time> {
        if !self.life.is_active() {
            return None;
        }
        let waits = self.peers.waits.first().map(|(until, _)| *until);
        [
            self.announcer
                .next_due(self.is_short_of_peers())
                .filter(|_| cx.shared.is_online),
            self.dht
                .next_due(self.is_short_of_peers())
                .filter(|_| cx.shared.is_online),
            self.choker.next_round().filter(|_| self.life.is_running()),
            waits,
            self.next_serve(cx),
            self.next_dial(cx),
            self.next_web_seed(cx),
            self.fetch.next_due(),
            self.hash_fetch.next_due(),
            self.exchanger.next_due(),
            self.is_shown_locally(cx).then(|| self.local.next_due()),
            self.changes.next_due().filter(|_| self.life.is_running()),
            self.next_doze(cx),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What follows from an input once it is handled: peers that had nothing to do look again, and free places
    /// are dialled for.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        self.feed_hungry(cx);
        self.open_web_seeds(cx);
        self.dial(cx);
        self.note_use(cx);
        self.report(cx);
    }

    fn is_private(&self) -> bool {
        match &self.meta {
            Some(meta) => meta.info.is_private(),
            None => self.rest.summary().is_some_and(|said| said.is_private),
        }
    }

    /// Whether the metadata is known, in memory or not.
    fn knows_metadata(&self) -> bool {
        self.meta.is_some() || self.rest.summary().is_some()
    }

    /// Panics if something does not agree with something else.
    pub(crate) fn check_invariants(&self, config: &Config) {
        self.candidates.check_invariants();
        self.check_download();
        self.check_upload(config);
    }
}
