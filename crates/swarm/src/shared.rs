//! What all torrents of a shard share: connections, dials, our own address, the limits of all together.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use riverrun_base::{PeerId, Rate, Time, TokenBucket};
use riverrun_peer::DialFailure;

use crate::candidates::OwnAddress;
use crate::config::Config;
use crate::external_ip::{ExternalIps, Witness};
use crate::input::Limits;
use crate::key::{ConnKey, TorrentKey};
use crate::limits::Throttle;
use crate::torrent::Servers;
use crate::turns::Turns;

/// How long a proxy that fails is left alone: a moment for whoever waits, and not much for the proxy.
const PROXY_RETRY: Duration = Duration::from_secs(10);

/// What all torrents of a shard share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) conns: Conns,
    /// What is connected to servers of web seeds.
    pub(crate) servers: Servers,
    pub(crate) own: OwnAddress,
    external_ips: ExternalIps,
    /// Our address is another than torrents have ranked their candidates by.
    pub(crate) has_moved: bool,
    /// Our id, by which new connections know us.
    pub(crate) peer_id: PeerId,
    /// Whether there is a network.
    pub(crate) is_online: bool,
    /// The proxy by which everything goes connects us to nobody.
    pub(crate) proxy_failure: Option<ProxyFailure>,
    /// One token a dial.
    pub(crate) dials: TokenBucket,
    pub(crate) up: Throttle,
    pub(crate) down: Throttle,
    pub(crate) limits: Limits,
    /// Torrents with connections that may want credit.
    pub(crate) wanting: BTreeSet<TorrentKey>,
    /// Torrents that were removed, and are to be forgotten once their input is handled.
    pub(crate) vanished: Vec<TorrentKey>,
    pub(crate) turns: Turns,
}

impl Shared {
    pub(crate) fn new(config: &Config) -> Self {
        let rate = Rate::from_bytes_per_second(config.dials_per_second.into());
        let mut shared = Self {
            conns: Conns::default(),
            servers: Servers::default(),
            external_ips: ExternalIps::default(),
            has_moved: false,
            own: OwnAddress {
                external_ip: None,
                listen_port: config.listen_port,
            },
            peer_id: config.peer_id,
            is_online: true,
            proxy_failure: None,
            dials: TokenBucket::new(rate, config.dial_burst.into(), Time::ZERO),
            up: Throttle::default(),
            down: Throttle::default(),
            limits: Limits::default(),
            wanting: BTreeSet::new(),
            vanished: Vec::new(),
            turns: Turns::default(),
        };
        shared.set_limits(Time::ZERO, config.limits);
        shared
    }

    /// Somebody says what our address is.
    pub(crate) fn vote(&mut self, says: Witness, ip: IpAddr) {
        if self.external_ips.vote(says, ip) {
            let winner = self.external_ips.winner();
            // After the network was gone the first vote may name the address that we had.
            self.has_moved |= winner != self.own.external_ip;
            self.own.external_ip = winner;
        }
    }

    /// The network is another: nobody there has seen us yet.
    pub(crate) fn forget_votes(&mut self) {
        self.external_ips.clear();
    }

    /// A dial has failed. If not for the proxy, that one works.
    pub(crate) fn dial_failed(&mut self, now: Time, failure: &DialFailure) {
        self.proxy_failure = match failure {
            DialFailure::Proxy(message) => Some(ProxyFailure {
                message: message.clone(),
                retry_at: now + PROXY_RETRY,
            }),
            _ => None,
        };
    }

    /// When a dial may be worth it, as far as the proxy goes: one that fails is tried with one dial at a time.
    pub(crate) fn proxy_ready(&self) -> Option<Time> {
        match &self.proxy_failure {
            None => Some(Time::ZERO),
            Some(failure) => (self.conns.half_open() == 0).then_some(failure.retry_at),
        }
    }

    pub(crate) fn set_limits(&mut self, now: Time, limits: Limits) {
        if limits.upload != self.limits.upload {
            self.up.set(now, limits.upload);
        }
        if limits.download != self.limits.download {
            self.down.set(now, limits.download);
        }
        self.limits = limits;
    }
}

/// What came of the last dial by a proxy, instead of an answer to it.
#[derive(Clone, Debug)]
pub(crate) struct ProxyFailure {
    pub(crate) message: String,
    /// Nobody is dialled before.
    retry_at: Time,
}

/// A connection as all torrents see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conn {
    pub(crate) torrent: TorrentKey,
    /// Dialled, not yet up.
    pub(crate) is_half_open: bool,
}

/// The connections of a shard by their keys, from the decision to dial or accept until their end is reported.
#[derive(Debug, Default)]
pub(crate) struct Conns {
    slots: Vec<(u32, Option<Conn>)>,
    free: Vec<u32>,
    open: u32,
    half_open: u32,
}

impl Conns {
    /// Those whose end was not reported.
    pub(crate) const fn open(&self) -> u32 {
        self.open
    }

    /// Those that were dialled and are not up.
    pub(crate) const fn half_open(&self) -> u32 {
        self.half_open
    }

    pub(crate) fn insert(&mut self, conn: Conn) -> ConnKey {
        self.open += 1;
        self.half_open += u32::from(conn.is_half_open);
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            // Invariant: connections are bounded far below 2^32.
            u32::try_from(self.slots.len() - 1).expect("connections are counted in 32 bits")
        });
        let slot = &mut self.slots[index as usize];
        slot.1 = Some(conn);
        ConnKey::new(index, slot.0)
    }

    pub(crate) fn get(&self, key: ConnKey) -> Option<&Conn> {
        let (generation, conn) = self.slots.get(key.index() as usize)?;
        conn.as_ref().filter(|_| *generation == key.generation())
    }

    /// A dialled connection has come up.
    pub(crate) fn set_up(&mut self, key: ConnKey) {
        let Some((generation, Some(conn))) = self.slots.get_mut(key.index() as usize) else {
            return;
        };
        if *generation == key.generation() && conn.is_half_open {
            conn.is_half_open = false;
            self.half_open -= 1;
        }
    }

    /// The end of a connection was reported.
    pub(crate) fn remove(&mut self, key: ConnKey) -> Option<Conn> {
        self.get(key)?;
        let slot = &mut self.slots[key.index() as usize];
        let conn = slot.1.take()?;
        slot.0 = slot.0.wrapping_add(1);
        self.free.push(key.index());
        self.open -= 1;
        self.half_open -= u32::from(conn.is_half_open);
        Some(conn)
    }

    /// The connections of a torrent.
    pub(crate) fn of(&self, torrent: TorrentKey) -> Vec<ConnKey> {
        let keys = (0..)
            .zip(&self.slots)
            .filter_map(|(index, (generation, conn))| {
                conn.as_ref()
                    .filter(|conn| conn.torrent == torrent)
                    .map(|_| ConnKey::new(index, *generation))
            });
        keys.collect()
    }
}
