//! One router, and how it is asked.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use socket2::SockRef;
use thiserror::Error;

use super::pcp::{self, Grant, Version};
use super::server::Server;
use super::upnp::{self, Call, Service};
use super::{LIFETIME, Protocol, gateway};
use crate::driver::socket::{ClientError, Family, Sockets};
use crate::driver::web::read_body;

/// How long routers may take to answer a search: what it asks for (`MX`), and some more.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(3);

/// Answers to a search that are looked at: others in the network may answer too.
const ANSWERS_MAX: usize = 64;

/// Other ports that are tried when the one that we want is taken.
const PORTS_TRIED: usize = 4;

/// The hops of a search: it must not leave the local network (UPnP Device Architecture 1.1 §1.3.2).
const SEARCH_HOPS: u32 = 2;

/// An address to which the way is that to everybody (RFC 5737): nothing is sent there.
const ANYWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A router that forwards ports.
#[derive(Debug)]
pub(super) struct Router {
    sockets: Sockets,
    /// Our address on its side.
    client: Ipv4Addr,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Pcp(Server),
    Upnp(Service),
}

/// Why no port is forwarded.
#[derive(Debug, Error)]
pub(super) enum RouterError {
    #[error("there is no router")]
    None,
    #[error("everything goes by a proxy")]
    Proxied,
    #[error("the router does not answer")]
    Silent,
    #[error("the router refuses, with code {0}")]
    Refused(u16),
    #[error("the router is not understood")]
    Strange,
    #[error("the router forwards two ports for one")]
    TwoPorts,
    #[error("the router has another address or port for us")]
    Translated,
    #[error("the router cannot be asked")]
    Io(#[from] io::Error),
    #[error("the router cannot be asked")]
    Http(#[from] ClientError),
}

impl Router {
    /// Finds the router before the address where we listen, and has it forward the port.
    pub(super) async fn find(
        sockets: &Sockets,
        listening: SocketAddr,
    ) -> Result<(Self, Grant), RouterError> {
        if sockets.is_proxied() {
            return Err(RouterError::Proxied);
        }
        let devices = sockets.devices(Family::V4);
        let device = devices.first().map(String::as_str);
        let addr = gateway::default_gateway(device).ok_or(RouterError::None)?;
        let client = client_of(sockets, addr).await?;
        // Routes that are more special than the default one, as those of a VPN, may lead another way.
        if client_of(sockets, ANYWHERE).await.ok() != Some(client) {
            return Err(RouterError::None);
        }
        let port = listening.port();
        let nonce = rand::random();
        for version in [Version::Pcp, Version::NatPmp] {
            let at = SocketAddr::from((addr, pcp::PORT));
            let server = Server::new(sockets.clone(), client.into(), at, version, nonce);
            let router = Self {
                sockets: sockets.clone(),
                client,
                way: Way::Pcp(server),
            };
            match router.map(port, port).await {
                Ok(granted) => return Ok((router, granted)),
                // One that does not speak the newer may speak the older; one that is silent speaks neither.
                Err(RouterError::Strange) => {}
                Err(error) => {
                    tracing::debug!(%error, ?version, "the router does not forward");
                    break;
                }
            }
        }
        let service = search(sockets, client, addr).await?;
        let router = Self {
            sockets: sockets.clone(),
            client,
            way: Way::Upnp(service),
        };
        let granted = router.map(port, port).await?;
        Ok((router, granted))
    }

    /// Our address on its side.
    pub(super) const fn client(&self) -> Ipv4Addr {
        self.client
    }

    pub(super) const fn protocol(&self) -> &'static str {
        match &self.way {
            Way::Pcp(server) => server.protocol(),
            Way::Upnp(_) => "UPnP",
        }
    }

    /// Has the port forwarded, for connections and datagrams, from `external_port` if it is free.
    pub(super) async fn map(&self, port: u16, external_port: u16) -> Result<Grant, RouterError> {
        match &self.way {
            Way::Pcp(server) => server.map(port, external_port).await,
            Way::Upnp(service) => self.map_by_upnp(service, port, external_port).await,
        }
    }

    /// Has the port not forwarded any more. Says it once: nobody waits for the answer.
    pub(super) async fn unmap(&self, port: u16, external_port: u16) {
        match &self.way {
            Way::Pcp(server) => server.unmap(port).await,
            Way::Upnp(service) => {
                for protocol in Protocol::ALL {
                    self.delete(service, protocol, external_port).await;
                }
            }
        }
    }

    async fn map_by_upnp(
        &self,
        service: &Service,
        port: u16,
        external_port: u16,
    ) -> Result<Grant, RouterError> {
        let mut lifetime = LIFETIME;
        let mut wanted = external_port;
        for _ in 0..PORTS_TRIED {
            match self.add_both(service, port, wanted, lifetime).await {
                Ok(()) => {
                    let body = self.call(service, Call::ExternalIp).await;
                    return Ok(Grant {
                        external_port: wanted,
                        external_ip: body.ok().and_then(|body| upnp::external_ip(&body)),
                        lifetime: LIFETIME,
                    });
                }
                Err(RouterError::Refused(upnp::ONLY_PERMANENT)) => lifetime = Duration::ZERO,
                Err(RouterError::Refused(upnp::CONFLICT)) => {
                    wanted = rand::random_range(1024..=u16::MAX);
                }
                Err(error) => return Err(error),
            }
        }
        Err(RouterError::Refused(upnp::CONFLICT))
    }

    async fn add_both(
        &self,
        service: &Service,
        port: u16,
        external_port: u16,
        lifetime: Duration,
    ) -> Result<(), RouterError> {
        for protocol in Protocol::ALL {
            let call = Call::Add {
                protocol,
                port,
                external_port,
                client: self.client,
                lifetime,
            };
            if let Err(error) = self.call(service, call).await {
                self.take_back(service, protocol, external_port).await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Gives back what was granted before `failed` was refused: nobody uses half of a mapping.
    async fn take_back(&self, service: &Service, failed: Protocol, external_port: u16) {
        for protocol in Protocol::ALL {
            if protocol == failed {
                return;
            }
            self.delete(service, protocol, external_port).await;
        }
    }

    async fn delete(&self, service: &Service, protocol: Protocol, external_port: u16) {
        let call = Call::Delete {
            protocol,
            external_port,
        };
        if let Err(error) = self.call(service, call).await {
            tracing::debug!(%error, "giving the port back failed");
        }
    }

    async fn call(&self, service: &Service, call: Call) -> Result<Vec<u8>, RouterError> {
        let client = self.sockets.web_of_router()?.ok_or(RouterError::None)?;
        let response = client
            .post(service.control.clone())
            .header(CONTENT_TYPE, "text/xml; charset=\"utf-8\"")
            .header("SOAPAction", service.action(&call))
            .body(service.body(&call))
            .send()
            .await?;
        let is_success = response.status().is_success();
        let body = read_body(response, upnp::BODY_BYTES_MAX).await;
        let body = body.map_err(|_| RouterError::Strange)?;
        if is_success {
            return Ok(body);
        }
        Err(upnp::error_code(&body).map_or(RouterError::Strange, RouterError::Refused))
    }
}

/// Our address on the side of a router.
async fn client_of(sockets: &Sockets, router: Ipv4Addr) -> io::Result<Ipv4Addr> {
    let socket = sockets.datagrams(Family::V4.any_port())?;
    // Sends nothing: only asks the system from where it would.
    socket.connect((router, pcp::PORT)).await?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

/// Searches for the router's service.
async fn search(
    sockets: &Sockets,
    client: Ipv4Addr,
    router: Ipv4Addr,
) -> Result<Service, RouterError> {
    let socket = sockets.datagrams(Family::V4.any_port())?;
    let options = SockRef::from(&socket);
    options.set_multicast_if_v4(&client)?;
    options.set_multicast_ttl_v4(SEARCH_HOPS)?;
    socket
        .send_to(upnp::search().as_bytes(), upnp::SEARCH)
        .await?;
    let answered = async {
        let mut buffer = [0; 2048];
        for _ in 0..ANSWERS_MAX {
            let (len, from) = socket.recv_from(&mut buffer).await?;
            if from.ip() == router
                && let Some(location) = upnp::location(&buffer[..len], router)
            {
                return Ok(location);
            }
        }
        Err(RouterError::Silent)
    };
    let location = tokio::time::timeout(SEARCH_TIMEOUT, answered).await;
    let location = location.map_err(|_| RouterError::Silent)??;
    let client = sockets.web_of_router()?.ok_or(RouterError::None)?;
    let response = client.get(location.clone()).send().await?;
    let body = read_body(response, upnp::BODY_BYTES_MAX).await;
    let body = body.map_err(|_| RouterError::Strange)?;
    Service::find(&body, &location, router).ok_or(RouterError::Strange)
}
