//! Asks the router to forward our port, for as long as we are there: by PCP (RFC 6887), NAT-PMP (RFC 6886), or UPnP; and
//! for IPv6, where nothing has to be forwarded, to let it through, by PCP or UPnP.
//!
//! A mapping is renewed at half its life, asked for anew when we listen elsewhere, and given back at the end. Only the
//! gateway of the way by which we go is asked, and only it is believed.

mod device;
mod gateway;
mod guard;
mod pcp;
mod pinholes;
mod router;
mod server;
mod upnp;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use riverrun_swarm::{Input, Witness};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::pcp::Grant;
use self::pinholes::Pinholes;
use self::router::Router;
use self::server::Nonces;
use super::identity::{Identity, Ports};
use super::presence::Whereabouts;
use super::shard::ShardMessage;
use super::socket::{Family, Sockets};

/// How long a mapping is asked for: long enough that renewing costs nothing, short enough that a router forgets one
/// whose owner crashed.
const LIFETIME: Duration = Duration::from_hours(1);

/// A router that grants less than this is renewed no more often.
const LIFETIME_MIN: Duration = Duration::from_mins(2);

/// After a failure the router is left alone this long: it has no such service, as a rule.
const RETRY: Duration = Duration::from_mins(15);

/// While we listen nowhere: until we are back.
const ABSENCE: Duration = Duration::from_secs(10);

/// Giving back is not waited for longer than this.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(600);

/// What is forwarded: our one port, for connections and for datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// Its number at IANA.
    const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// A port that a router forwards to us, or lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortMapping {
    /// Our own address.
    pub ip: IpAddr,
    /// Our own port.
    pub port: u16,
    /// The router's port.
    pub external_port: u16,
    /// The router's address, if it told.
    pub external_ip: Option<IpAddr>,
    /// The protocol in which it was asked: `PCP`, `NAT-PMP` or `UPnP`.
    pub by: &'static str,
}

/// What routers forward to us and let through now.
#[derive(Clone, Debug)]
struct Open(Arc<watch::Sender<Vec<PortMapping>>>);

impl Default for Open {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }
}

impl Open {
    /// These are there in this family, and no others; whether that is news.
    fn set(&self, family: Family, mappings: Vec<PortMapping>) -> bool {
        let (mut old, mut is_new) = (Vec::new(), false);
        self.0.send_if_modified(|all| {
            (old, *all) = all
                .drain(..)
                .partition(|mapping| Family::of_ip(mapping.ip) == family);
            is_new = old != mappings;
            all.extend(mappings);
            is_new
        });
        is_new
    }

    #[cfg(test)]
    fn all(&self) -> Vec<PortMapping> {
        self.0.borrow().clone()
    }
}

/// The tasks, and their end.
#[derive(Debug)]
pub(crate) struct PortMapper {
    open: Open,
    stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl PortMapper {
    pub(crate) fn start(
        sockets: Sockets,
        whereabouts: Whereabouts,
        identity: Identity,
        shard: mpsc::Sender<ShardMessage>,
    ) -> Self {
        let (open, stop) = (Open::default(), CancellationToken::new());
        let nonces = Nonces::draw();
        let pinholes = Pinholes {
            sockets: sockets.clone(),
            whereabouts: whereabouts.clone(),
            open: open.clone(),
            nonces: nonces.clone(),
        };
        let task = Task {
            sockets,
            whereabouts,
            identity,
            shard,
            open: open.clone(),
            nonces,
        };
        let tasks = vec![
            tokio::spawn(task.run(stop.clone())),
            tokio::spawn(pinholes.run(stop.clone())),
        ];
        Self {
            open,
            stop,
            tasks: Mutex::new(tasks),
        }
    }

    pub(crate) fn mappings(&self) -> watch::Receiver<Vec<PortMapping>> {
        let mut mappings = self.open.0.subscribe();
        // What is there already is news to whoever begins to listen.
        mappings.mark_changed();
        mappings
    }

    /// Gives the port back. Returns soon, whether the router answers or not.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async {
            for task in tasks {
                let _ = task.await;
            }
        };
        // A router that does not answer forgets the mapping by itself.
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, all).await;
    }
}

impl Drop for PortMapper {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Task {
    sockets: Sockets,
    whereabouts: Whereabouts,
    identity: Identity,
    shard: mpsc::Sender<ShardMessage>,
    open: Open,
    nonces: Nonces,
}

/// Something that is forwarded now.
struct Held {
    router: Router,
    mapping: PortMapping,
}

impl Task {
    async fn run(self, stop: CancellationToken) {
        let mut network = self.whereabouts.state();
        let mut held: Option<Held> = None;
        loop {
            let Some(wait) = unless_stopped(self.step(&mut held), &stop).await else {
                break;
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
                changed = network.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    // Where we were nobody is: nothing to give back there, and nothing that holds here.
                    held = None;
                    self.open.set(Family::V4, Vec::new());
                }
            }
        }
        if let Some(held) = held {
            held.router
                .unmap(held.mapping.port, held.mapping.external_port)
                .await;
        }
    }

    /// Asks for a mapping, or for more of the one that there is; how long that holds.
    async fn step(&self, held: &mut Option<Held>) -> Duration {
        let Some(listening) = self.whereabouts.addrs().into_iter().find_map(forwardable) else {
            return ABSENCE;
        };
        if let Some(old) = held {
            let (router, port) = (&old.router, old.mapping.external_port);
            match router.map(listening.port(), port).await {
                Ok(granted) => {
                    old.mapping = mapping(listening.port(), router, &granted);
                    self.tell(old.mapping).await;
                    return renewal(granted.lifetime);
                }
                // There may be another router by now, or the same one with another protocol.
                Err(error) => tracing::info!(%error, "our port is forwarded no more"),
            }
        }
        match Router::find(&self.sockets, listening, &self.nonces).await {
            Ok((router, granted)) => {
                let mapping = mapping(listening.port(), &router, &granted);
                *held = Some(Held { router, mapping });
                self.tell(mapping).await;
                renewal(granted.lifetime)
            }
            Err(error) => {
                tracing::info!(%error, "no router forwards our port");
                *held = None;
                self.open.set(Family::V4, Vec::new());
                self.tell_port(listening.port(), Vec::new()).await;
                RETRY
            }
        }
    }

    async fn tell(&self, mapping: PortMapping) {
        if !self.open.set(Family::V4, vec![mapping]) {
            return;
        }
        tracing::info!(?mapping, "the router forwards our port");
        let says = Witness::Router;
        let seen = mapping.external_ip.map(|ip| Input::ExternalIp { ip, says });
        self.tell_port(mapping.external_port, seen.into_iter().collect())
            .await;
    }

    /// Peers and trackers are told the port at which we are reached.
    async fn tell_port(&self, port: u16, mut inputs: Vec<Input>) {
        let ports = self.identity.ports();
        if ports.v4 != Some(port) {
            let v4 = Some(port);
            self.identity.set_ports(Ports { v4, ..ports });
            inputs.push(Input::ListenPort(port));
        }
        let _ = self.shard.send(ShardMessage::Inputs(inputs)).await;
    }
}

/// What a step comes to; `None` if we are to stop. Then it has a moment to end: what a router is granting has to be
/// known to be given back.
async fn unless_stopped<T>(step: impl Future<Output = T>, stop: &CancellationToken) -> Option<T> {
    let mut step = pin!(step);
    tokio::select! {
        () = stop.cancelled() => {}
        done = &mut step => return Some(done),
    }
    let _ = tokio::time::timeout(GOODBYE_TIMEOUT / 2, step).await;
    None
}

fn mapping(port: u16, router: &Router, granted: &Grant) -> PortMapping {
    PortMapping {
        ip: router.client().into(),
        port,
        external_port: granted.external_port,
        external_ip: granted.external_ip,
        by: router.protocol(),
    }
}

/// How long to wait before a mapping is asked for again.
fn renewal(lifetime: Duration) -> Duration {
    lifetime.clamp(LIFETIME_MIN, LIFETIME) / 2
}

/// An address where we listen that a router may stand before: of IPv4, and not of this machine alone.
fn forwardable(addr: SocketAddr) -> Option<SocketAddr> {
    let IpAddr::V4(ip) = addr.ip() else {
        return None;
    };
    (!ip.is_loopback() && addr.port() != 0).then_some(addr)
}
