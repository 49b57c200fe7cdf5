//! Where the engine is in the network: listens where it may, and tells when that is gone and when it is back.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use riverrun_base::Rng;
use riverrun_swarm::Input;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::conn::ConnContext;
use super::listen;
use super::shard::ShardMessage;
use super::socket::{Changes, Sockets};
use crate::error::StartError;
use crate::network::NetworkState;

/// How long to wait before listening is tried again where it did not work: somebody else has the port.
const LISTEN_RETRY: Duration = Duration::from_secs(5);

/// Where the engine listens now, and whether it can be reached at all.
#[derive(Clone, Debug)]
pub(crate) struct Whereabouts {
    addrs: Arc<RwLock<Vec<SocketAddr>>>,
    state: watch::Sender<NetworkState>,
}

impl Whereabouts {
    fn new(state: NetworkState) -> Self {
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
    /// Listening did not work the last time.
    failed: bool,
}

impl Presence {
    /// Listens for the first time. That the network is not there is no error: it may come.
    pub(crate) fn start(sockets: Sockets) -> Result<Self, StartError> {
        let whereabouts = Whereabouts::new(sockets.state());
        let listeners = sockets
            .listen()
            .map_err(|(addr, source)| StartError::Listen { addr, source })?;
        whereabouts.set_addrs(addrs_of(&listeners));
        Ok(Self {
            sockets,
            whereabouts,
            listeners,
            failed: false,
        })
    }

    pub(crate) fn whereabouts(&self) -> Whereabouts {
        self.whereabouts.clone()
    }

    /// Accepts connections, and follows the network as it goes and comes. The task is aborted with its engine.
    pub(crate) async fn run(mut self, mut changes: Changes, conns: ConnContext, mut rng: Rng) {
        if self.sockets.state() != NetworkState::Online {
            tell(&conns, vec![Input::Offline]).await;
        }
        let mut accepting = JoinSet::new();
        loop {
            for listener in self.listeners.drain(..) {
                let seed = rng.next_u64();
                accepting.spawn(listen::accept_all(listener, conns.clone(), seed));
            }
            tokio::select! {
                () = changes.next() => {
                    // Nobody accepts any more; the sockets close with their tasks.
                    accepting.shutdown().await;
                    self.move_on(&conns).await;
                }
                () = tokio::time::sleep(LISTEN_RETRY), if self.failed => self.listen(&conns).await,
            }
        }
    }

    /// Where we were is gone: there is nothing left there, and all begins anew where we are now, if anywhere.
    async fn move_on(&mut self, conns: &ConnContext) {
        self.whereabouts.set_addrs(Vec::new());
        tell(conns, vec![Input::Offline]).await;
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

    /// Listens again. Where that fails peers are dialled all the same.
    async fn listen(&mut self, conns: &ConnContext) {
        match self.sockets.listen() {
            Ok(listeners) => {
                self.failed = false;
                let addrs = addrs_of(&listeners);
                if let Some(first) = addrs.first() {
                    tell(conns, vec![Input::ListenPort(first.port())]).await;
                }
                self.whereabouts.set_addrs(addrs);
                self.listeners = listeners;
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

fn addrs_of(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    let addrs = listeners.iter().flat_map(TcpListener::local_addr);
    addrs.collect()
}
