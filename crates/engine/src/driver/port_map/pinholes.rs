//! Holes in the firewalls of routers, for the addresses of IPv6 where we listen.
//!
//! Each address of ours has a hole of its own, at the router of its interface. Addresses come and go, as those that are
//! made for privacy do each day, and holes with them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::gateway::{GlobalAddress, global_addresses};
use super::guard::Guard;
use super::pcp;
use super::router::RouterError;
use super::server::Nonces;
use super::{Open, PortMapping, RETRY, renewal, unless_stopped};
use crate::driver::presence::Whereabouts;
use crate::driver::socket::{Family, Sockets};

/// How often it is looked whether we have other addresses.
const SURVEY_INTERVAL: Duration = Duration::from_mins(1);

/// Holes at most: a machine has a handful of addresses.
const HOLES_MAX: usize = 16;

/// The task that has holes made.
pub(super) struct Pinholes {
    pub(super) sockets: Sockets,
    pub(super) whereabouts: Whereabouts,
    pub(super) open: Open,
    pub(super) nonces: Nonces,
}

/// A hole, or a wish for one.
struct Hole {
    address: GlobalAddress,
    port: u16,
    /// Who has made it, while it is there.
    guard: Option<Guard>,
    /// When it is asked for again.
    due: Instant,
}

impl Pinholes {
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut network = self.whereabouts.state();
        let mut holes = BTreeMap::new();
        loop {
            let wanted = self.wanted();
            let step = self.step(&mut holes, &wanted);
            if unless_stopped(step, &stop).await.is_none() {
                break;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(SURVEY_INTERVAL) => {}
                changed = network.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    // Where we were nobody is: nothing to give back there.
                    holes.clear();
                }
            }
        }
        for hole in holes.into_values() {
            hole.close().await;
        }
    }

    /// The addresses where we listen that a router may guard, with our port.
    fn wanted(&self) -> Vec<(GlobalAddress, u16)> {
        if self.sockets.is_proxied() {
            return Vec::new();
        }
        let devices = self.sockets.devices(Family::V6);
        let mut ours = Vec::new();
        for device in &devices {
            ours.extend(global_addresses(Some(device), pcp::PORT));
        }
        if devices.is_empty() {
            ours = global_addresses(None, pcp::PORT);
        }
        guarded(&ours, &self.whereabouts.addrs())
    }

    /// Asks for what is wanted and not there, and for more of what is; gives back what is not wanted any more.
    async fn step(&self, holes: &mut BTreeMap<Ipv6Addr, Hole>, wanted: &[(GlobalAddress, u16)]) {
        let gone = holes.extract_if(.., |_, hole| !wanted.contains(&(hole.address, hole.port)));
        for (_, hole) in gone.collect::<Vec<_>>() {
            hole.close().await;
        }
        for (address, port) in wanted {
            let hole = holes
                .entry(address.ip)
                .or_insert_with(|| Hole::new(*address, *port));
            if hole.due <= Instant::now() {
                hole.open(&self.sockets, &self.nonces).await;
            }
        }
        self.tell(holes);
    }

    fn tell(&self, holes: &BTreeMap<Ipv6Addr, Hole>) {
        let open: Vec<_> = holes.values().filter_map(Hole::mapping).collect();
        if self.open.set(Family::V6, open.clone()) {
            tracing::info!(?open, "holes in firewalls");
        }
    }
}

impl Hole {
    fn new(address: GlobalAddress, port: u16) -> Self {
        Self {
            address,
            port,
            guard: None,
            due: Instant::now(),
        }
    }

    /// Asks for it, or for more of it.
    async fn open(&mut self, sockets: &Sockets, nonces: &Nonces) {
        let wait = match self.ask(sockets, nonces).await {
            Ok(lifetime) => renewal(lifetime),
            Err(error) => {
                tracing::info!(%error, ip = %self.address.ip, "no hole in a firewall");
                RETRY
            }
        };
        self.due = Instant::now() + wait;
    }

    async fn ask(&mut self, sockets: &Sockets, nonces: &Nonces) -> Result<Duration, RouterError> {
        if let Some(guard) = &mut self.guard {
            match guard.open(self.address, self.port).await {
                Ok(lifetime) => return Ok(lifetime),
                // It may speak another protocol by now.
                Err(error) => tracing::info!(%error, "a hole in a firewall is no more"),
            }
            self.guard = None;
        }
        let (guard, lifetime) = Guard::find(sockets, self.address, self.port, nonces).await?;
        self.guard = Some(guard);
        Ok(lifetime)
    }

    /// Gives it back, if it is there.
    async fn close(mut self) {
        if let Some(guard) = &mut self.guard {
            guard.close(self.port).await;
        }
    }

    fn mapping(&self) -> Option<PortMapping> {
        let ip = IpAddr::V6(self.address.ip);
        let guard = self.guard.as_ref()?;
        Some(PortMapping {
            ip,
            port: self.port,
            external_port: self.port,
            external_ip: Some(ip),
            by: guard.protocol(),
        })
    }
}

/// Those of our global addresses at which we listen, each with its port.
fn guarded(ours: &[GlobalAddress], listening: &[SocketAddr]) -> Vec<(GlobalAddress, u16)> {
    let port_at = |address: &GlobalAddress| {
        let is_at = |addr: &&SocketAddr| match addr.ip() {
            IpAddr::V6(ip) => ip.is_unspecified() || ip == address.ip,
            IpAddr::V4(_) => false,
        };
        let mut at = listening.iter().filter(is_at).map(SocketAddr::port);
        at.find(|port| *port != 0)
    };
    let guarded = ours
        .iter()
        .filter_map(|address| Some((*address, port_at(address)?)));
    guarded.take(HOLES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use tokio::sync::mpsc;

    use super::*;
    use crate::network::{NetworkOptions, NetworkState};

    /// A router on loopback that tells each thing it was asked for. It grants everything, but that of this number; and a
    /// mapping that is there is its owner's alone (RFC 6887 §11.3).
    fn router(
        shift: u16,
        refused: Option<usize>,
    ) -> (SocketAddrV6, mpsc::UnboundedReceiver<String>) {
        let local = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        let socket = pinholes().sockets.datagrams(local).unwrap();
        let SocketAddr::V6(addr) = socket.local_addr().unwrap() else {
            unreachable!("it was bound to IPv6");
        };
        let (tell, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut buffer = [0; 1100];
            let mut owners = BTreeMap::new();
            for number in 0.. {
                let Ok((len, from)) = socket.recv_from(&mut buffer).await else {
                    return;
                };
                let message = &buffer[..len];
                assert_eq!((len, &message[..2]), (60, &[2, 1][..]));
                let SocketAddr::V6(from) = from else { return };
                assert_eq!(message[8..24], from.ip().octets(), "asked by who is meant");
                let port = u16::from_be_bytes([message[40], message[41]]);
                let lifetime = u32::from_be_bytes(message[4..8].try_into().unwrap());
                // A test that has ended wants to hear no more.
                let _ = tell.send(format!("{} {port} {lifetime}", message[36]));
                let nonce = message[24..36].to_vec();
                let owner = owners.entry(message[36..42].to_vec()).or_insert(nonce);
                let code = match () {
                    () if refused == Some(number) => 8,
                    () if *owner != message[24..36] => 2,
                    () => 0,
                };
                let mut answer = vec![2, 0x81, 0, code];
                answer.extend(&message[4..8]);
                answer.extend([0; 16]);
                answer.extend(&message[24..42]);
                answer.extend((port + shift).to_be_bytes());
                answer.extend(&message[8..24]);
                let _ = socket.send_to(&answer, from).await;
            }
        });
        (addr, asked)
    }

    /// What a router is asked next.
    async fn told<const N: usize>(asked: &mut mpsc::UnboundedReceiver<String>) -> [String; N] {
        let mut all = [(); N].map(|()| String::new());
        for one in &mut all {
            *one = asked.recv().await.unwrap();
        }
        all
    }

    fn pinholes() -> Pinholes {
        let listen = [SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
        Pinholes {
            sockets: Sockets::new(&listen, NetworkOptions::default()).unwrap(),
            whereabouts: Whereabouts::new(NetworkState::Online),
            open: Open::default(),
            nonces: Nonces::draw(),
        }
    }

    fn at(router: SocketAddrV6) -> GlobalAddress {
        let ip = Ipv6Addr::LOCALHOST;
        GlobalAddress { ip, router }
    }

    #[tokio::test]
    async fn a_hole_is_made_and_follows_the_port_and_is_given_back() {
        let (router, mut asked) = router(0, None);
        let (pinholes, mut holes) = (pinholes(), BTreeMap::new());
        pinholes.step(&mut holes, &[(at(router), 7000)]).await;
        assert_eq!(told(&mut asked).await, ["6 7000 3600", "17 7000 3600"]);
        let open = pinholes.open.all();
        assert_eq!(open.len(), 1);
        assert_eq!((open[0].port, open[0].external_port), (7000, 7000));
        assert_eq!(open[0].external_ip, Some(Ipv6Addr::LOCALHOST.into()));
        // It is there, and holds for a while.
        pinholes.step(&mut holes, &[(at(router), 7000)]).await;
        pinholes.step(&mut holes, &[(at(router), 7001)]).await;
        let moved = ["6 7000 0", "17 7000 0", "6 7001 3600", "17 7001 3600"];
        assert_eq!(told(&mut asked).await, moved);
        assert_eq!(pinholes.open.all()[0].port, 7001);
        // We have the address no more.
        pinholes.step(&mut holes, &[]).await;
        assert_eq!(told(&mut asked).await, ["6 7001 0", "17 7001 0"]);
        assert!(pinholes.open.all().is_empty() && holes.is_empty());
    }

    #[tokio::test]
    async fn a_hole_that_a_router_has_made_already_is_ours_still() {
        let (router, mut asked) = router(0, Some(2));
        let (pinholes, mut holes) = (pinholes(), BTreeMap::new());
        pinholes.step(&mut holes, &[(at(router), 7000)]).await;
        for hole in holes.values_mut() {
            hole.due = Instant::now();
        }
        // What is refused once is asked for anew, as if nothing had been there.
        pinholes.step(&mut holes, &[(at(router), 7000)]).await;
        let again = ["6 7000 3600", "17 7000 3600", "6 7000 3600"];
        assert_eq!(told(&mut asked).await, again);
        assert_eq!(pinholes.open.all().len(), 1);
        // And so it is after a change of network.
        holes.clear();
        pinholes.step(&mut holes, &[(at(router), 7000)]).await;
        assert_eq!(pinholes.open.all().len(), 1);
    }

    #[tokio::test]
    async fn a_router_that_translates_makes_no_hole() {
        let (router, mut asked) = router(1, None);
        let (pinholes, mut holes) = (pinholes(), BTreeMap::new());
        pinholes.step(&mut holes, &[(at(router), 7000)]).await;
        let made_and_ended = ["6 7000 3600", "17 7000 3600", "6 7000 0", "17 7000 0"];
        assert_eq!(told(&mut asked).await, made_and_ended);
        assert!(pinholes.open.all().is_empty());
        // It is left alone for a while, and there is nothing to give back.
        pinholes.step(&mut holes, &[(at(router), 7000)]).await;
        pinholes.step(&mut holes, &[]).await;
        drop(pinholes);
        assert!(asked.try_recv().is_err());
    }

    #[test]
    fn holes_are_for_global_addresses_where_we_listen() {
        let router = "[fe80::1%2]:5351".parse().unwrap();
        let ours = ["2001:db8::5", "2001:db8::6"].map(|ip| GlobalAddress {
            ip: ip.parse().unwrap(),
            router,
        });
        let found = |listening: &[&str]| -> Vec<(String, u16)> {
            let listening: Vec<_> = listening.iter().map(|at| at.parse().unwrap()).collect();
            let found = guarded(&ours, &listening);
            found
                .iter()
                .map(|(at, port)| (at.ip.to_string(), *port))
                .collect()
        };
        let [five, six] = ["2001:db8::5", "2001:db8::6"].map(str::to_owned);
        assert_eq!(found(&["0.0.0.0:7"]), []);
        assert_eq!(
            found(&["0.0.0.0:7", "[::]:8"]),
            [(five, 8), (six.clone(), 8)]
        );
        assert_eq!(found(&["[2001:db8::6]:9", "[::1]:7"]), [(six, 9)]);
        assert_eq!(found(&["[::1]:7"]), []);
    }
}
