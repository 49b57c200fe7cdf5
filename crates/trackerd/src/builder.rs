//! What a tracker is to be.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use riverrun_tracker::server::{SwarmsConfig, TrustedSources};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::connections::{ConnectionLimits, Connections};
use crate::running::Running;
use crate::service::{Secrets, Service, expire_for_ever};
use crate::sockets::{self, TrackerdError, Transport};
use crate::{http, udp};

/// A tracker to be started.
#[derive(Clone, Debug)]
pub struct Trackerd {
    http: Vec<SocketAddr>,
    udp: Vec<SocketAddr>,
    swarms: SwarmsConfig,
    trusted: Vec<IpAddr>,
    connections: ConnectionLimits,
}

impl Trackerd {
    /// A tracker with defaults that suit the open internet, which listens nowhere yet.
    pub fn builder() -> Self {
        Self {
            http: Vec::new(),
            udp: Vec::new(),
            swarms: SwarmsConfig::default(),
            trusted: Vec::new(),
            connections: ConnectionLimits::default(),
        }
    }

    /// Listens for HTTP, too. An IPv6 address, `[::]` included, means IPv6 only on every system: add
    /// `0.0.0.0` for IPv4. With port 0 the system chooses one; see [`Running::http_addrs`].
    pub fn http(mut self, addr: SocketAddr) -> Self {
        self.http.push(addr);
        self
    }

    /// Listens for UDP, too; addresses as for [`Trackerd::http`].
    pub fn udp(mut self, addr: SocketAddr) -> Self {
        self.udp.push(addr);
        self
    }

    /// How often clients are to announce; up to an eighth is added at random. Half an hour by default.
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.swarms.interval = interval;
        self
    }

    /// How long at least clients are to wait between announces. Five minutes by default.
    pub const fn interval_min(mut self, interval: Duration) -> Self {
        self.swarms.interval_min = interval;
        self
    }

    /// All that concerns the swarms: intervals, sizes of replies, and how much is taken on.
    pub const fn swarms(mut self, config: SwarmsConfig) -> Self {
        self.swarms = config;
        self
    }

    /// Believes this sender when it announces another address than its own (`ip=`), as the tracker's own host
    /// is believed.
    pub fn trust(mut self, source: IpAddr) -> Self {
        self.trusted.push(source);
        self
    }

    /// How many HTTP connections may be open: in all, 1024 by default, and from one IPv4 address or IPv6 /64,
    /// 64 by default; at least one. A further one closes the one that has been idle for longest.
    pub fn connections_max(mut self, total: usize, per_source: usize) -> Self {
        let (total, per_source) = (total.max(1), per_source.max(1));
        self.connections = ConnectionLimits { total, per_source };
        self
    }

    /// Binds all addresses and begins to answer, on the current tokio runtime.
    #[expect(
        clippy::unused_async,
        reason = "sockets need a runtime: async makes that hard to miss"
    )]
    pub async fn start(self) -> Result<Running, TrackerdError> {
        if self.http.is_empty() && self.udp.is_empty() {
            return Err(TrackerdError::NowhereToListen);
        }
        let (shutdown, stopping) = watch::channel(());
        let trusted = TrustedSources::new(self.trusted);
        let service = Arc::new(Service::new(self.swarms, trusted, &Secrets::random()));
        let connections = Arc::new(Connections::new(self.connections));
        let (mut tasks, mut http_addrs, mut udp_addrs) = (JoinSet::new(), Vec::new(), Vec::new());
        for addr in self.http {
            let listener = sockets::listen(addr)?;
            http_addrs.push(sockets::local_addr(
                listener.local_addr(),
                Transport::Http,
                addr,
            )?);
            let (service, connections) = (Arc::clone(&service), Arc::clone(&connections));
            tasks.spawn(http::serve(
                listener,
                service,
                connections,
                stopping.clone(),
            ));
        }
        for addr in self.udp {
            let socket = sockets::bind(addr)?;
            udp_addrs.push(sockets::local_addr(
                socket.local_addr(),
                Transport::Udp,
                addr,
            )?);
            tasks.spawn(udp::serve(socket, Arc::clone(&service), stopping.clone()));
        }
        tasks.spawn(expire_for_ever(Arc::clone(&service), stopping));
        Ok(Running::new(
            http_addrs, udp_addrs, service, shutdown, tasks,
        ))
    }
}
