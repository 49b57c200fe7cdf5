//! Incoming connections: who accepts them, and the directory of what may be asked for.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use riverrun_base::{InfoHash, Rate, Sha1Digest, Time, TokenBucket};
use riverrun_peer::veiled;
use riverrun_swarm::TorrentKey;
use tokio::net::TcpListener;

use super::conn::{ConnContext, ConnTask};
use super::doorstep::Doorstep;
use super::stream::PeerStream;

/// How many exchanges of keys may begin in a second.
const KEY_EXCHANGES_PER_SECOND: u64 = 500;

/// How long to wait after `accept` failed, for want of file descriptors as a rule.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Which torrents an incoming peer may ask for, by the name it greets with.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    names: RwLock<Names>,
}

#[derive(Debug, Default)]
struct Names {
    torrents: HashMap<InfoHash, TorrentKey>,
    /// By the names under which encrypted connections ask. Made once a torrent, so that looking one up among ten
    /// thousand costs as much as among ten.
    veiled: HashMap<Sha1Digest, InfoHash>,
}

impl Directory {
    pub(crate) fn find(&self, info_hash: InfoHash) -> Option<TorrentKey> {
        self.read().torrents.get(&info_hash).copied()
    }

    /// The info-hash behind the name under which an encrypted connection asks.
    pub(crate) fn unveil(&self, name: Sha1Digest) -> Option<InfoHash> {
        self.read().veiled.get(&name).copied()
    }

    pub(crate) fn insert(&self, info_hash: InfoHash, torrent: TorrentKey) {
        let mut names = self.write();
        names.torrents.insert(info_hash, torrent);
        names.veiled.insert(veiled(info_hash), info_hash);
    }

    pub(crate) fn remove(&self, torrent: TorrentKey) {
        let mut names = self.write();
        let Names { torrents, veiled } = &mut *names;
        torrents.retain(|_, found| *found != torrent);
        veiled.retain(|_, info_hash| torrents.contains_key(info_hash));
    }

    fn read(&self) -> RwLockReadGuard<'_, Names> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Names> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many exchanges of keys with peers that dialled us may begin. One costs a tenth of a millisecond of arithmetic,
/// so that whoever floods us gets a twentieth of a core; peers in the clear are let in all the while.
#[derive(Debug)]
pub(crate) struct KeyExchanges {
    budget: Mutex<TokenBucket>,
}

impl KeyExchanges {
    pub(crate) fn new(now: Time) -> Self {
        let rate = Rate::from_bytes_per_second(KEY_EXCHANGES_PER_SECOND);
        Self {
            budget: Mutex::new(TokenBucket::new(rate, KEY_EXCHANGES_PER_SECOND, now)),
        }
    }

    /// Whether one more may begin now.
    pub(crate) fn admit(&self, now: Time) -> bool {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = budget.available(now) >= 1;
        if admitted {
            budget.take(now, 1);
        }
        admitted
    }
}

/// Accepts for ever. The task is aborted with its engine.
pub(crate) async fn accept_all(listener: TcpListener, context: ConnContext, seed: u64) {
    let doorstep = Doorstep::new();
    let mut count = 0_u64;
    loop {
        // Until there is some they wait in the kernel's queue.
        doorstep.room().await;
        match listener.accept().await {
            Ok((stream, addr)) => {
                let addr = canonical(addr);
                // Who has too many already is hung up on.
                let Some(place) = doorstep.place(addr.ip()) else {
                    continue;
                };
                count += 1;
                let stream = PeerStream::Tcp(stream);
                let task = ConnTask::accepted(context.clone(), seed ^ count, stream, addr, place);
                tokio::spawn(task.run());
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// An IPv4 address that came in IPv6 clothes, as IPv4.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    let ip: IpAddr = addr.ip().to_canonical();
    SocketAddr::new(ip, addr.port())
}
