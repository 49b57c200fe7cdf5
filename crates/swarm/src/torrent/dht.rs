//! When to look for peers in the distributed hash table, and when to be found there.
//!
//! As BEP 5 and the field do it: at the start, and every quarter of an hour, under both names of a hybrid. While peers
//! are short it is looked up more often. What may not be named there is not ([`Discovery::allowed`], BEP 27); and a
//! magnet link's torrent is looked for, but not announced before its metadata says that it may be.

use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::Time;

use super::{Cx, Torrent};
use crate::discovery::Discovery;
use crate::outbox::{DhtAnnounce, NetAction};

/// How often a torrent is announced.
const INTERVAL: Duration = Duration::from_mins(15);

/// How long after a lookup the next one comes if peers are still short: doubled each time.
const SHORT_WAIT_MIN: Duration = Duration::from_secs(20);

/// When the next lookup is due.
#[derive(Clone, Debug, Default)]
pub(super) struct DhtSchedule {
    next: Option<Time>,
    next_if_short: Option<Time>,
    short_wait: Duration,
}

impl DhtSchedule {
    /// When it is due.
    pub(super) fn next_due(&self, is_short_of_peers: bool) -> Option<Time> {
        let early = self.next_if_short.filter(|_| is_short_of_peers);
        self.next.into_iter().chain(early).min()
    }

    fn start(&mut self, now: Time) {
        *self = Self {
            next: Some(now),
            ..Self::default()
        };
    }

    fn looked_up(&mut self, now: Time) {
        self.short_wait = (self.short_wait * 2).clamp(SHORT_WAIT_MIN, INTERVAL);
        self.next_if_short = Some(now + self.short_wait);
        self.next = Some(now + INTERVAL);
    }
}

impl Torrent {
    /// The torrent talks to peers from now on, or knows more of itself than before.
    pub(super) fn start_dht(&mut self, cx: &mut Cx<'_>) {
        if cx.config.uses_dht && Discovery::Dht.allowed(self.is_private()) {
            self.dht.start(cx.now);
        } else {
            self.stop_dht();
        }
        self.dht_due(cx);
    }

    /// It talks to nobody any more. Others forget it by themselves.
    pub(super) fn stop_dht(&mut self) {
        self.dht = DhtSchedule::default();
    }

    pub(super) fn dht_due(&mut self, cx: &mut Cx<'_>) {
        let due = self.dht.next_due(self.is_short_of_peers());
        let is_allowed = Discovery::Dht.allowed(self.is_private());
        let is_due = due.is_some_and(|due| due <= cx.now) && cx.shared.is_online;
        if !is_due || !is_allowed || !self.life.is_in_swarm() {
            return;
        }
        self.dht.looked_up(cx.now);
        let port = cx.shared.own.listen_port;
        let is_announced = self.knows_metadata() && port != 0;
        let announce = is_announced.then(|| DhtAnnounce {
            port,
            is_seed: self.is_complete(),
        });
        for info_hash in self.hashes.wire() {
            cx.out.net.push(NetAction::FindPeers {
                torrent: self.key,
                info_hash,
                announce,
                no_seeds: self.is_finished(),
            });
        }
    }

    /// A peer says where its node is (BEP 5, "port").
    pub(super) fn dht_port(&self, cx: &mut Cx<'_>, peer: SocketAddr, port: u16) {
        if cx.config.uses_dht && Discovery::Dht.allowed(self.is_private()) && port != 0 {
            let addr = SocketAddr::new(peer.ip(), port);
            cx.out.net.push(NetAction::MeetNode(addr));
        }
    }
}
