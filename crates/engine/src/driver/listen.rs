//! Incoming connections: who accepts them, and the directory of what may be asked for.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use riverrun_base::InfoHash;
use riverrun_swarm::TorrentKey;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::conn::{ConnContext, ConnTask};

/// How many incoming connections may be between `accept` and a torrent. More wait in the kernel's queue.
const HALF_OPEN_MAX: usize = 256;

/// How long to wait after `accept` failed, for want of file descriptors as a rule.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Which torrents an incoming peer may ask for, by the name it greets with.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    torrents: RwLock<HashMap<InfoHash, TorrentKey>>,
}

impl Directory {
    pub(crate) fn find(&self, info_hash: InfoHash) -> Option<TorrentKey> {
        let torrents = self.torrents.read().unwrap_or_else(PoisonError::into_inner);
        torrents.get(&info_hash).copied()
    }

    pub(crate) fn insert(&self, info_hash: InfoHash, torrent: TorrentKey) {
        let mut torrents = self
            .torrents
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        torrents.insert(info_hash, torrent);
    }

    pub(crate) fn remove(&self, torrent: TorrentKey) {
        let mut torrents = self
            .torrents
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        torrents.retain(|_, found| *found != torrent);
    }
}

/// Accepts for ever. The task is aborted with its engine.
pub(crate) async fn accept_all(listener: TcpListener, context: ConnContext, seed: u64) {
    let half_open = Arc::new(Semaphore::new(HALF_OPEN_MAX));
    let mut count = 0_u64;
    loop {
        // The semaphore is never closed.
        let Ok(permit) = half_open.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, addr)) => {
                count += 1;
                let addr = canonical(addr);
                let task = ConnTask::accepted(context.clone(), seed ^ count, stream, addr, permit);
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
