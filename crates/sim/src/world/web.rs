//! Web servers of a world, and what hosts ask of them.

use std::collections::{BTreeMap, VecDeque};

use riverrun_base::{BLOCK_LEN, BlockSpan, Time};
use riverrun_metainfo::Info;
use riverrun_peer::{CloseReason, PeerCommand, PeerEvent, WebSeedFailure};
use riverrun_swarm::{ConnKey, Input, WebSeed};

use super::{Pending, World};
use crate::content::Payload;
use crate::ids::{ContentId, HostId};
use crate::link::Gate;
use crate::web::WebServerConfig;

/// What blocks of servers that lie are marked by; no host has such a number.
const LIARS: u32 = 1 << 30;

/// A server, and the connections that hosts have to it and to the others.
#[derive(Default)]
pub(super) struct Web {
    servers: Vec<Server>,
    conns: BTreeMap<(HostId, ConnKey), Conn>,
}

struct Server {
    config: WebServerConfig,
    up: Gate,
    requests: u32,
}

/// A connection of a host to a server.
struct Conn {
    server: usize,
    content: Option<ContentId>,
    wanted: VecDeque<BlockSpan>,
    credit: Option<i64>,
    /// What is on its way.
    sending: Option<BlockSpan>,
    /// Where the request that is being answered goes on.
    next: Option<(u32, u32)>,
}

impl Web {
    pub(super) fn new(configs: &[WebServerConfig]) -> Self {
        let server = |config: &WebServerConfig| Server {
            up: Gate::new(config.up),
            config: config.clone(),
            requests: 0,
        };
        Self {
            servers: configs.iter().map(server).collect(),
            conns: BTreeMap::new(),
        }
    }

    /// As torrents name them.
    pub(super) fn seeds(&self) -> Vec<WebSeed> {
        let seed = |at| WebSeed {
            // Invariant: a host and a slash make a URL.
            url: format!("http://web{at}.example/").parse().expect("a url"),
            is_from_user: false,
        };
        (0..self.servers.len()).map(seed).collect()
    }

    /// A host's process has ended.
    pub(super) fn forget(&mut self, host: HostId) {
        self.conns.retain(|(owner, _), _| *owner != host);
    }
}

impl World {
    /// A host begins to use a server.
    pub(super) fn open_web_seed(
        &mut self,
        host: HostId,
        conn: ConnKey,
        (seed, info): (&WebSeed, &Info),
    ) {
        let mut servers = self.web.seeds().into_iter();
        let Some(server) = servers.position(|known| known.url == seed.url) else {
            return;
        };
        let hashes = info.hashes();
        let own = self
            .host(host)
            .torrents
            .iter()
            .map(|torrent| torrent.content);
        let content = own
            .into_iter()
            .find(|content| self.content(*content).info().hashes() == hashes);
        let conn_state = Conn {
            server,
            content,
            wanted: VecDeque::new(),
            credit: None,
            sending: None,
            next: None,
        };
        self.web.conns.insert((host, conn), conn_state);
    }

    /// What a connection to a server is told to do, if it is one.
    pub(super) fn tell_web_seed(&mut self, host: HostId, conn: ConnKey, command: PeerCommand) {
        let Some(state) = self.web.conns.get_mut(&(host, conn)) else {
            return;
        };
        match command {
            PeerCommand::Request(spans) => state.wanted.extend(spans),
            PeerCommand::Cancel(span) => state.wanted.retain(|wanted| *wanted != span),
            PeerCommand::Credit(credit) => {
                let left = state.credit.unwrap_or(0);
                let granted = credit.receive_bytes.map(u64::cast_signed);
                state.credit = granted.map(|granted| left.saturating_add(granted));
            }
            PeerCommand::Close(why) => return self.end_web_seed(host, conn, why),
            _ => {}
        }
        self.serve_next(host, conn);
    }

    fn end_web_seed(&mut self, host: HostId, conn: ConnKey, why: CloseReason) {
        self.web.conns.remove(&(host, conn));
        self.input(host, Input::PeerClosed { conn, why });
    }

    /// Has the next block sent, if one is wanted and may come.
    fn serve_next(&mut self, host: HostId, conn: ConnKey) {
        let now = self.now;
        let Some(state) = self.web.conns.get_mut(&(host, conn)) else {
            return;
        };
        let may = state.sending.is_none() && state.credit.is_none_or(|credit| credit > 0);
        let Some(span) = state.wanted.front().copied().filter(|_| may) else {
            return;
        };
        let server = &mut self.web.servers[state.server];
        let block = span.offset / BLOCK_LEN;
        let goes_on = state.next.is_some_and(|(piece, next)| {
            let is_same = (piece, next) == (span.piece.0, block);
            is_same || (piece + 1, 0) == (span.piece.0, block)
        });
        server.requests += u32::from(!goes_on);
        let asked = server.config.latency * if goes_on { 0 } else { 2 };
        state.next = Some((span.piece.0, block + 1));
        state.sending = Some(span);
        let sent = server.up.pass(now + asked, span.len.into());
        let at = sent + server.config.latency;
        let incarnation = self.host(host).incarnation;
        let served = Pending::Web {
            host,
            incarnation,
            conn,
        };
        self.pend(at, served);
    }

    /// A block has come from a server, or an answer that is none.
    pub(super) fn web_seed_answers(&mut self, host: HostId, incarnation: u32, conn: ConnKey) {
        if self.host(host).incarnation != incarnation {
            return;
        }
        if let Some(until) = self.asleep(host) {
            let answered = Pending::Web {
                host,
                incarnation,
                conn,
            };
            return self.pend(until, answered);
        }
        if let Some(until) = self.asleep(host) {
            let answered = Pending::Web {
                host,
                incarnation,
                conn,
            };
            return self.pend(until, answered);
        }
        let now = self.now;
        let Some(state) = self.web.conns.get_mut(&(host, conn)) else {
            return;
        };
        let Some(span) = state.sending.take() else {
            return;
        };
        let server = &self.web.servers[state.server];
        if let Some(failure) = server.failure(now) {
            return self.end_web_seed(host, conn, CloseReason::WebSeed(failure));
        }
        let payload = if server.config.lies {
            let number = u32::try_from(state.server).unwrap_or(0);
            Payload::Wrong(HostId(LIARS + number))
        } else {
            Payload::Right
        };
        if let Some(credit) = &mut state.credit {
            *credit -= i64::from(span.len);
        }
        let before = state.wanted.len();
        state.wanted.retain(|wanted| *wanted != span);
        let is_wanted = state.wanted.len() < before;
        let Some(content) = state.content else { return };
        let event = if is_wanted {
            let block = self.content(content).block(span, payload);
            PeerEvent::Received { span, block }
        } else {
            PeerEvent::Unwanted(span)
        };
        let own = self.host_mut(host);
        own.tally.received_bytes += u64::from(span.len);
        let wait = own.down.pass(now, span.len.into()).since(now);
        self.serve_next(host, conn);
        self.input_later(host, wait, Input::Peer { conn, event });
    }
}

impl Server {
    /// Why it sends nothing now, if it does not.
    fn failure(&self, now: Time) -> Option<WebSeedFailure> {
        let failed = |message: &str| WebSeedFailure::Failed {
            message: message.to_owned(),
            retry_after: None,
        };
        let config = &self.config;
        let (gone, back) = (Time::ZERO + config.gone_at, Time::ZERO + config.back_at);
        if config.lacks_all {
            return Some(WebSeedFailure::Unfit("404 Not Found".to_owned()));
        }
        if gone <= now && now < back {
            return Some(failed("connection refused"));
        }
        let is_busy = config.busy_every > 0 && self.requests.is_multiple_of(config.busy_every);
        is_busy.then(|| failed("503 Service Unavailable"))
    }
}
