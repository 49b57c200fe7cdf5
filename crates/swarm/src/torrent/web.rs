//! Web seeds of a torrent (BEP 19) in use: opened as connections, and let go.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use riverrun_base::{Bitfield, Rate, Time};
use riverrun_peer::{CloseReason, WebSeedFailure};
use riverrun_tracker::TrackerUrl;

use super::download::blocks_in;
use super::peers::Peer;
use super::{Cx, Torrent};
use crate::input::{PeerSource, WebSeed};
use crate::key::ConnKey;
use crate::outbox::{Event, NetAction};
use crate::shared::Conn;
use crate::web_seeds::{Entry, WebSeedIndex};

/// How long to wait for a place at a server that others are asking.
const PLACE_WAIT: Duration = Duration::from_secs(5);
/// How many connections all torrents have to one server together.
const SERVER_MAX: usize = 4;
/// For how long a web seed is asked ahead at its rate: each request stands in the server's log, and costs a round trip.
const AHEAD: Duration = Duration::from_secs(4);
/// The bounds of that, in blocks: 1 MiB and 32 MiB.
const AHEAD_MIN: usize = 64;
const AHEAD_MAX: u32 = 2048;
/// Where a web seed is, as far as addresses of peers go: nowhere, since its driver may use any address of its server.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A web seed in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebSeedStats {
    /// Where.
    pub url: TrackerUrl,
    /// How it does.
    pub status: WebSeedStatus,
    /// Failures in a row.
    pub failures: u32,
    /// Blocks that it owes.
    pub requests: u32,
    /// Payload received from it.
    pub downloaded_bytes: u64,
    /// Payload received from it, lately.
    pub download_rate: Rate,
}

/// How a web seed does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebSeedStatus {
    /// Not in use: nothing is missing, or others are used.
    Idle,
    /// In use.
    Active,
    /// It has failed.
    Failing {
        /// What went wrong.
        message: String,
        /// When it may be used again.
        next: Time,
    },
    /// It is not used any more, for this reason.
    Off(String),
}

/// How many blocks a web seed is asked for now, where all together may owe `shared` more: none until it has sent half of
/// what it was asked for, so that it is asked seldom and for much at once.
fn room_in_runs(peer: &Peer, now: Time, shared: usize) -> usize {
    let rate = peer.down.meter.rate_at_once(now);
    let ahead = blocks_in(AHEAD, rate).clamp(AHEAD_MIN, AHEAD_MAX as usize);
    let owed = peer.down.requests.len();
    if owed > ahead / 2 {
        return 0;
    }
    (ahead - owed).min(shared.max(AHEAD_MIN.saturating_sub(owed)))
}

/// How many blocks a peer is asked for now, where all together may owe `shared` more.
pub(super) fn room(peer: &Peer, now: Time, shared: usize) -> usize {
    if peer.web_seed.is_some() {
        return room_in_runs(peer, now, shared);
    }
    let own = usize::from(peer.down.requests.is_empty());
    peer.down.room().min(shared.max(own))
}

impl Torrent {
    /// Takes in web seeds that it does not know.
    pub(super) fn add_web_seeds(&mut self, seeds: impl IntoIterator<Item = WebSeed>) {
        for seed in seeds {
            self.web_seeds.add(seed);
        }
    }

    fn wants_web_seeds(&self, cx: &Cx<'_>) -> bool {
        !self.web_seeds.is_empty()
            && cx.config.uses_web_seeds
            && cx.shared.is_online
            && self.life.is_running()
            && !self.is_finished()
            && !self.is_faulted()
            && cx.shared.conns.open() < cx.config.connections_max
    }

    /// Begins to use as many as are wanted and allowed.
    pub(super) fn open_web_seeds(&mut self, cx: &mut Cx<'_>) {
        while self.wants_web_seeds(cx) {
            let is_free = |url: &TrackerUrl| cx.shared.servers.of(url) < SERVER_MAX;
            let Some(next) = self.web_seeds.next(cx.now, is_free, &mut self.rng) else {
                return;
            };
            self.open_web_seed(cx, next);
        }
    }

    fn open_web_seed(&mut self, cx: &mut Cx<'_>, at: WebSeedIndex) {
        let (Some(meta), Some(entry)) = (&self.meta, self.web_seeds.get(at)) else {
            return;
        };
        let (info, seed) = (meta.info.clone(), entry.seed.clone());
        let conn = cx.shared.conns.insert(Conn {
            torrent: self.key,
            is_half_open: false,
        });
        cx.shared.servers.open(conn, seed.url.clone());
        self.web_seeds.open_with(at, conn);
        let lot = self.rng.next_u32();
        let peer = Peer::new(conn, NOWHERE, PeerSource::User, false, (cx.now, lot));
        self.peers.insert(peer.of_web_seed(at));
        let have = Bitfield::full(info.layout().piece_count());
        cx.net(NetAction::OpenWebSeed { conn, seed, info });
        self.limit_peer(cx, conn);
        self.has_pieces(cx, conn, have);
    }

    /// When one more may be used.
    pub(super) fn next_web_seed(&self, cx: &Cx<'_>) -> Option<Time> {
        let ready = self
            .web_seeds
            .next_ready()
            .filter(|_| self.wants_web_seeds(cx))?;
        // One that is ready and not in use waits for its server.
        Some(if ready <= cx.now {
            cx.now + PLACE_WAIT
        } else {
            ready
        })
    }

    /// A web seed is in use no longer, and has given so much.
    pub(super) fn web_seed_parted(
        &mut self,
        cx: &mut Cx<'_>,
        at: WebSeedIndex,
        received_bytes: u64,
        why: &CloseReason,
    ) {
        self.web_seeds.close(at, received_bytes);
        let CloseReason::WebSeed(failure) = why else {
            return;
        };
        let (message, retry) = match failure {
            WebSeedFailure::Failed {
                message,
                retry_after,
            } => {
                let wait =
                    self.web_seeds
                        .fail(cx.now, at, message.clone(), *retry_after, &mut self.rng);
                (message, Some(wait))
            }
            WebSeedFailure::Unfit(message) => {
                self.web_seeds.turn_off(at, message.clone());
                (message, None)
            }
        };
        self.tell_web_seed(cx, at, message.clone(), retry);
    }

    fn tell_web_seed(
        &self,
        cx: &mut Cx<'_>,
        at: WebSeedIndex,
        message: String,
        retry: Option<Duration>,
    ) {
        if let Some(entry) = self.web_seeds.get(at) {
            cx.event(Event::WebSeedFailed {
                torrent: self.key,
                url: entry.seed.url.clone(),
                message,
                retry,
            });
        }
    }

    /// Ends all that there is with a web seed that gave wrong data.
    pub(super) fn ban_web_seed(&mut self, cx: &mut Cx<'_>, at: WebSeedIndex) {
        let message = "it gave wrong data".to_owned();
        self.web_seeds.turn_off(at, message.clone());
        self.tell_web_seed(cx, at, message, None);
        if let Some(conn) = self.web_seeds.get(at).and_then(|entry| entry.conn) {
            if let Some(picker) = self.pieces.as_mut().and_then(|pieces| pieces.picker_mut()) {
                picker.distrust(conn);
            }
            self.close(cx, conn, &CloseReason::Banned);
        }
    }

    /// How its web seeds do.
    pub(crate) fn web_seed_stats(&self, now: Time) -> Vec<WebSeedStats> {
        let stats = |entry: &Entry| {
            let peer = entry.conn.and_then(|conn| self.peers.get(conn));
            let down = peer.map(|peer| &peer.down);
            let status = match &entry.failure {
                Some(message) if entry.is_off => WebSeedStatus::Off(message.clone()),
                _ if entry.conn.is_some() => WebSeedStatus::Active,
                Some(message) => WebSeedStatus::Failing {
                    message: message.clone(),
                    next: entry.ready_at,
                },
                None => WebSeedStatus::Idle,
            };
            WebSeedStats {
                url: entry.seed.url.clone(),
                status,
                failures: entry.failures,
                requests: down.map_or(0, |down| {
                    u32::try_from(down.requests.len()).unwrap_or(u32::MAX)
                }),
                downloaded_bytes: entry.received_bytes + down.map_or(0, |down| down.total_bytes),
                download_rate: Rate::from_bytes_per_second(
                    down.map_or(0, |down| down.meter.rate_shown(now)),
                ),
            }
        };
        self.web_seeds.all().map(stats).collect()
    }
}

/// The connections to servers of web seeds, of all torrents together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Servers {
    open: Vec<(ConnKey, TrackerUrl)>,
}

impl Servers {
    fn open(&mut self, conn: ConnKey, url: TrackerUrl) {
        self.open.push((conn, url));
    }

    /// The end of a connection was reported.
    pub(crate) fn close(&mut self, conn: ConnKey) {
        self.open.retain(|(open, _)| *open != conn);
    }

    /// How many the server of this URL has.
    fn of(&self, url: &TrackerUrl) -> usize {
        let same = |(_, open): &&(ConnKey, TrackerUrl)| crate::web_seeds::is_same_server(open, url);
        self.open.iter().filter(same).count()
    }
}

impl Peer {
    /// The same as the connection of a web seed: up from the beginning, and without anything to say.
    fn of_web_seed(mut self, at: WebSeedIndex) -> Self {
        self.web_seed = Some(at);
        self.down.is_choking = false;
        self.down.window = AHEAD_MAX;
        self
    }
}

#[cfg(test)]
mod tests;
