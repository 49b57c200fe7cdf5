//! Incoming connections: the sockets that listen, and the directory of what may be asked for.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use riverrun_base::InfoHash;
use riverrun_swarm::TorrentKey;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::conn::{ConnContext, ConnTask};

/// How many incoming connections may be between `accept` and a torrent. More wait in the kernel's queue.
const HALF_OPEN_MAX: usize = 256;

/// The kernel's queue of connections not yet accepted.
const BACKLOG: i32 = 256;

/// How long to wait after `accept` failed, for want of file descriptors as a rule.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The ports that are tried in turn if the user named none (BEP 3: "downloaders will try … 6881 … to 6889").
const DEFAULT_PORTS: std::ops::RangeInclusive<u16> = 6881..=6889;

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

/// Binds what the user named; or, if nothing, the usual ports on all addresses of both families.
pub(crate) fn bind(addrs: &[SocketAddr]) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    if !addrs.is_empty() {
        return addrs
            .iter()
            .map(|addr| listen(*addr).map_err(|error| (*addr, error)))
            .collect();
    }
    let mut last = None;
    // After the usual ports, any: a second client on a machine must work without being told.
    for port in DEFAULT_PORTS.chain([0]) {
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        match listen(v4) {
            Ok(listener) => return Ok(with_v6(listener)),
            Err(error) => last = Some((v4, error)),
        }
    }
    // Invariant: the loop ran at least once, and ends here only after an error.
    Err(last.expect("at least one port was tried"))
}

/// The IPv6 twin on the same port, if the machine has IPv6 and the port is free.
fn with_v6(v4: TcpListener) -> Vec<TcpListener> {
    let port = v4.local_addr().map_or(0, |addr| addr.port());
    let v6 = listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    std::iter::once(v4).chain(v6).collect()
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        // One socket a family, so that each can be told apart and bound on its own.
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for connections of the last run to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
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
