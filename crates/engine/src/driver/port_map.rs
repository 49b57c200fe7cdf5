//! Asks the router to forward our port, for as long as we are there: by PCP (RFC 6887), NAT-PMP (RFC 6886), or UPnP; and
//! for IPv6, where nothing has to be forwarded, to let it through, by PCP or UPnP.
//!
//! A mapping is renewed at half its life, asked for anew when we listen elsewhere, and given back at the end. Only the
//! gateways of the ways by which we go are asked, and only they are believed.

mod device;
mod forwarding;
mod gateway;
mod guard;
mod pcp;
mod pinholes;
mod router;
mod server;
mod upnp;

use std::fmt;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::forwarding::{Forwarding, Hearers, Path, paths};
use self::pinholes::Pinholes;
use self::server::Nonces;
use super::identity::Identity;
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

/// How often it is looked whether we listen elsewhere, without a change of the network: where it failed it is tried again.
const SURVEY_INTERVAL: Duration = Duration::from_secs(10);

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

    /// One is there instead of another; whether that is news.
    fn replace(&self, old: Option<PortMapping>, new: Option<PortMapping>) -> bool {
        self.0.send_if_modified(|all| {
            all.retain(|mapping| Some(*mapping) != old);
            all.extend(new);
            old != new
        })
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
        let forwarder = Forwarder {
            sockets,
            whereabouts,
            hearers: Hearers { identity, shard },
            open: open.clone(),
            nonces,
        };
        let tasks = vec![
            tokio::spawn(forwarder.run(stop.clone())),
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

/// The task that has our port forwarded, by each router before us.
struct Forwarder {
    sockets: Sockets,
    whereabouts: Whereabouts,
    hearers: Hearers,
    open: Open,
    nonces: Nonces,
}

/// A path whose router is being asked.
struct Asked {
    path: Path,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Forwarder {
    async fn run(self, stop: CancellationToken) {
        let mut network = self.whereabouts.state();
        let mut asked = Vec::new();
        loop {
            let paths = paths(&self.sockets, &self.whereabouts.addrs());
            if !asked.iter().map(|asked: &Asked| &asked.path).eq(&paths) {
                end(std::mem::take(&mut asked)).await;
                let paths = paths.into_iter().enumerate();
                asked.extend(paths.map(|(number, path)| self.ask(path, number == 0, &stop)));
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(SURVEY_INTERVAL) => {}
                changed = network.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    // Where we were nobody is: nothing to give back there, and nothing that holds here.
                    for Asked { task, .. } in asked.drain(..) {
                        task.abort();
                        let _ = task.await;
                    }
                    self.open.set(Family::V4, Vec::new());
                }
            }
        }
        end(asked).await;
    }

    /// Begins to ask the router on a path. Of the first of them peers and trackers are told.
    fn ask(&self, path: Path, is_first: bool, stop: &CancellationToken) -> Asked {
        let stop = stop.child_token();
        let forwarding = Forwarding {
            sockets: self.sockets.clone(),
            path: path.clone(),
            nonces: self.nonces.clone(),
            open: self.open.clone(),
            hearers: is_first.then(|| self.hearers.clone()),
        };
        let task = tokio::spawn(forwarding.run(stop.clone()));
        Asked { path, stop, task }
    }
}

/// Has all routers give back what they forward, at once.
async fn end(asked: Vec<Asked>) {
    for Asked { stop, .. } in &asked {
        stop.cancel();
    }
    for Asked { task, .. } in asked {
        let _ = task.await;
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

/// How long to wait before a mapping is asked for again.
fn renewal(lifetime: Duration) -> Duration {
    lifetime.clamp(LIFETIME_MIN, LIFETIME) / 2
}
