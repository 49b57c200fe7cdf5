//! Where the engine is in the network: listens where it may, and tells when that is gone and when it is back.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use riverrun_base::Rng;
use riverrun_swarm::Input;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::clock::Clock;
use super::conn::ConnContext;
use super::identity::{Ports, draw_peer_id};
use super::listen;
use super::relay::RelayState;
use super::shard::ShardMessage;
use super::socket::{Changes, Listening, RelayEnd, Sockets};
use super::udp::{self, Datagrams, Received, Speakers, ToDht, UdpPort};
use super::utp::{Door, UtpPort, UtpPorts};
use crate::error::StartError;
use crate::network::NetworkState;
use crate::transports::Transports;

/// How long to wait before listening is tried again where it did not work: somebody else has the port.
const LISTEN_RETRY: Duration = Duration::from_secs(5);

/// Where the engine listens now, and whether it can be reached at all.
#[derive(Clone, Debug)]
pub(crate) struct Whereabouts {
    addrs: Arc<RwLock<Vec<SocketAddr>>>,
    state: watch::Sender<NetworkState>,
}

impl Whereabouts {
    pub(crate) fn new(state: NetworkState) -> Self {
        Self {
            addrs: Arc::default(),
            state: watch::Sender::new(state),
        }
    }

    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        let addrs = self.addrs.read().unwrap_or_else(PoisonError::into_inner);
        addrs.clone()
    }

    pub(crate) fn state(&self) -> watch::Receiver<NetworkState> {
        self.state.subscribe()
    }

    fn set_addrs(&self, new: Vec<SocketAddr>) {
        *self.addrs.write().unwrap_or_else(PoisonError::into_inner) = new;
    }
}

/// Listens, wherever the sockets' owner may be at the time.
pub(crate) struct Presence {
    sockets: Sockets,
    whereabouts: Whereabouts,
    /// Those on which nobody accepts yet.
    listeners: Vec<TcpListener>,
    /// Beside them, those that nobody serves yet.
    ports: Vec<(Arc<UdpPort>, Option<Arc<UtpPort>>)>,
    /// All of them, for whoever sends.
    datagrams: Datagrams,
    transports: Transports,
    dht: Option<mpsc::Sender<Received>>,
    utp: UtpPorts,
    clock: Clock,
    rng: Rng,
    /// Listening did not work the last time.
    failed: bool,
    relay: RelayState,
}

impl Presence {
    /// Listens for the first time. That the network is not there is no error: it may come.
    pub(crate) fn start(
        sockets: Sockets,
        transports: Transports,
        dht: Option<mpsc::Sender<Received>>,
        clock: Clock,
        rng: Rng,
    ) -> Result<Self, StartError> {
        let has_datagrams = transports.has_utp() || dht.is_some();
        let relay = if sockets.has_relay() && has_datagrams {
            RelayState::WANTED
        } else {
            RelayState::Unwanted
        };
        let mut presence = Self {
            relay,
            whereabouts: Whereabouts::new(sockets.state()),
            sockets,
            listeners: Vec::new(),
            ports: Vec::new(),
            datagrams: Datagrams::new(),
            transports,
            dht,
            utp: UtpPorts::default(),
            clock,
            rng,
            failed: false,
        };
        presence
            .open()
            .map_err(|(addr, source)| StartError::Listen { addr, source })?;
        Ok(presence)
    }

    /// Listens with TCP, and beside it on the same ports for datagrams.
    fn open(&mut self) -> Result<(), (SocketAddr, io::Error)> {
        let listening: Vec<Listening> = self.sockets.listen()?;
        let mut addrs = Vec::new();
        for listening in listening {
            self.sockets.mark_listening(&listening);
            let Listening { tcp, udp } = listening;
            let addr = tcp.local_addr().and_then(|addr| {
                if self.transports.has_utp() || self.dht.is_some() {
                    self.open_port(UdpPort::new(udp)?);
                }
                Ok(addr)
            });
            addrs.push(addr.map_err(|error| (SocketAddr::from(([0, 0, 0, 0], 0)), error))?);
            if self.transports.has_tcp() {
                self.listeners.push(tcp);
            }
        }
        let ports = self.ports.iter().map(|(port, _)| port.clone());
        self.datagrams.set(ports.collect());
        self.whereabouts.set_addrs(addrs);
        Ok(())
    }

    fn open_port(&mut self, udp: UdpPort) {
        let udp = Arc::new(udp);
        let utp = self.transports.has_utp().then(|| {
            let utp = UtpPort::new(udp.clone(), self.clock, self.rng.next_u64());
            self.utp.add(utp.clone());
            utp
        });
        self.ports.push((udp, utp));
    }

    /// The sockets for datagrams, now and later.
    pub(crate) fn datagrams(&self) -> Datagrams {
        self.datagrams.clone()
    }

    /// Where uTP goes out, now and later.
    pub(crate) fn utp(&self) -> UtpPorts {
        self.utp.clone()
    }

    pub(crate) fn whereabouts(&self) -> Whereabouts {
        self.whereabouts.clone()
    }

    /// Accepts connections, and follows the network as it goes and comes. The task is aborted with its engine.
    pub(crate) async fn run(mut self, mut changes: Changes, conns: ConnContext) {
        if self.sockets.state() != NetworkState::Online {
            tell(&conns, vec![Input::Offline]).await;
        }
        self.await_callers(&conns);
        let mut accepting = JoinSet::new();
        loop {
            self.serve(&mut accepting, &conns);
            tokio::select! {
                () = changes.next() => {
                    // Nobody accepts any more; the sockets close with their tasks.
                    accepting.shutdown().await;
                    self.move_on(&conns).await;
                }
                () = tokio::time::sleep(LISTEN_RETRY), if self.failed => self.listen(&conns).await,
                relay = self.relay.ask(&self.sockets) => self.open_relay(relay),
                _ = accepting.join_next(), if self.relay == RelayState::Open => self.close_relay(),
            }
        }
    }

    /// Datagrams go by a relay from now on, if there is one.
    fn open_relay(&mut self, relay: io::Result<RelayEnd>) {
        let opened = relay.and_then(|RelayEnd { socket, control }| {
            let port = UdpPort::relayed(socket, self.sockets.clone(), control)?;
            self.open_port(port);
            Ok(())
        });
        if let Err(error) = opened {
            tracing::info!(%error, "the proxy relays no datagrams: no uTP, no DHT");
            self.relay = self.relay.failed();
            return;
        }
        self.relay = RelayState::Open;
        let ports = self.ports.iter().map(|(port, _)| port.clone());
        self.datagrams.set(ports.collect());
    }

    /// The relay is no more.
    fn close_relay(&mut self) {
        self.utp.clear();
        self.datagrams.set(Vec::new());
        self.relay = RelayState::LOST;
    }

    /// Begins to accept connections.
    fn serve(&mut self, accepting: &mut JoinSet<()>, conns: &ConnContext) {
        for listener in self.listeners.drain(..) {
            let seed = self.rng.next_u64();
            accepting.spawn(listen::accept_all(listener, conns.clone(), seed));
        }
        for (socket, (udp, utp)) in self.ports.drain(..).enumerate() {
            let speakers = Speakers {
                utp: utp.map(|utp| (utp, Door::Peers(conns.clone()))),
                dht: self.dht.clone().map(|task| ToDht::new(socket, task)),
            };
            accepting.spawn(udp::serve(udp, speakers));
        }
    }

    /// Where we were is gone: there is nothing left there, and all begins anew where we are now, if anywhere.
    async fn move_on(&mut self, conns: &ConnContext) {
        self.whereabouts.set_addrs(Vec::new());
        self.await_callers(conns);
        if self.relay != RelayState::Unwanted {
            self.relay = RelayState::WANTED;
        }
        self.utp.clear();
        self.datagrams.set(Vec::new());
        // Peers may hold connections of before until they time out, and refuse a second one to the same id.
        let peer_id = draw_peer_id(&mut self.rng);
        conns.identity.rename(peer_id);
        tell(conns, vec![Input::Offline, Input::PeerId(peer_id)]).await;
        let state = self.sockets.state();
        if state == NetworkState::Online {
            self.listen(conns).await;
            tell(conns, vec![Input::Online]).await;
        }
        match &state {
            NetworkState::Online => tracing::info!(addrs = ?self.whereabouts.addrs(), "online"),
            NetworkState::Offline { why } => tracing::warn!(%why, "offline: nothing is sent"),
        }
        self.whereabouts.state.send_replace(state);
    }

    /// From now on it is seen whether anybody dials us where we are.
    fn await_callers(&self, conns: &ConnContext) {
        let addrs = self.whereabouts.addrs().into_iter();
        conns
            .callers
            .listen(self.clock.now(), addrs.map(|addr| addr.ip()));
    }

    /// Listens again. Where that fails peers are dialled all the same.
    async fn listen(&mut self, conns: &ConnContext) {
        match self.open() {
            Ok(()) => {
                self.failed = false;
                self.await_callers(conns);
                let ports = Ports::at(&self.whereabouts.addrs());
                conns.identity.set_ports(ports);
                if let Some(port) = ports.any() {
                    tell(conns, vec![Input::ListenPort(port)]).await;
                }
            }
            Err((addr, error)) => {
                self.failed = true;
                tracing::warn!(%addr, %error, "listening failed");
            }
        }
    }
}

async fn tell(conns: &ConnContext, inputs: Vec<Input>) {
    // The shard's task ends before this one only when the engine does.
    let _ = conns.shard.send(ShardMessage::Inputs(inputs)).await;
}
