//! One router, and how it is asked.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use thiserror::Error;

use super::device::Device;
use super::forwarding::Path;
use super::pcp::{self, Grant, Version};
use super::server::{Nonces, Server};
use super::upnp::{self, Call, Sought};
use super::{LIFETIME, Protocol, gateway};
use crate::driver::socket::{ClientError, Family, Sockets};

/// Other ports that are tried when the one that we want is taken.
const PORTS_TRIED: usize = 4;

/// An address to which the way is that to everybody (RFC 5737): nothing is sent there.
const ANYWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A router that forwards ports.
#[derive(Debug)]
pub(super) struct Router {
    /// Our address on its side.
    client: Ipv4Addr,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Pcp(Server),
    Upnp(Device),
}

/// Why no port is forwarded.
#[derive(Debug, Error)]
pub(super) enum RouterError {
    #[error("there is no router")]
    None,
    #[error("it would forward to {0}, where we do not listen")]
    Elsewhere(Ipv4Addr),
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
        path: &Path,
        nonces: &Nonces,
    ) -> Result<(Self, Grant), RouterError> {
        if sockets.is_proxied() {
            return Err(RouterError::Proxied);
        }
        let addr = gateway::default_gateway(path.device.as_deref()).ok_or(RouterError::None)?;
        let client = client_before(sockets, addr, path.own()).await?;
        let port = path.listening.port();
        for version in [Version::Pcp, Version::NatPmp] {
            let at = SocketAddr::from((addr, pcp::PORT));
            let server = Server::new(sockets.clone(), client.into(), at, version, nonces);
            let router = Self {
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
        let device = Device::find(sockets, client.into(), Sought::Forwarder(addr)).await?;
        let router = Self {
            client,
            way: Way::Upnp(device),
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
            Way::Upnp(device) => self.map_by_upnp(device, port, external_port).await,
        }
    }

    /// Has the port not forwarded any more. Says it once: nobody waits for the answer.
    pub(super) async fn unmap(&self, port: u16, external_port: u16) {
        match &self.way {
            Way::Pcp(server) => server.unmap(port).await,
            Way::Upnp(device) => {
                for protocol in Protocol::ALL {
                    delete(device, protocol, external_port).await;
                }
            }
        }
    }

    async fn map_by_upnp(
        &self,
        device: &Device,
        port: u16,
        external_port: u16,
    ) -> Result<Grant, RouterError> {
        let mut lifetime = LIFETIME;
        let mut wanted = external_port;
        for _ in 0..PORTS_TRIED {
            match self.add_both(device, port, wanted, lifetime).await {
                Ok(()) => {
                    let body = device.call(Call::ExternalIp).await;
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
        device: &Device,
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
            if let Err(error) = device.call(call).await {
                take_back(device, protocol, external_port).await;
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Gives back what was granted before `failed` was refused: nobody uses half of a mapping.
async fn take_back(device: &Device, failed: Protocol, external_port: u16) {
    for protocol in Protocol::ALL {
        if protocol == failed {
            return;
        }
        delete(device, protocol, external_port).await;
    }
}

async fn delete(device: &Device, protocol: Protocol, external_port: u16) {
    let call = Call::Delete {
        protocol,
        external_port,
    };
    if let Err(error) = device.call(call).await {
        tracing::debug!(%error, "giving the port back failed");
    }
}

/// Our address on the side of a router, if it stands on our way to everybody, and before `own`, if we listen only there.
async fn client_before(
    sockets: &Sockets,
    router: Ipv4Addr,
    own: Option<Ipv4Addr>,
) -> Result<Ipv4Addr, RouterError> {
    let Some(own) = own.filter(|_| sockets.is_bound()) else {
        // Routes that are more special than the default one, as those of a VPN, may lead another way. If they do, no router
        // that we know of is on it.
        let default = gateway::default_gateway(None).ok_or(RouterError::None)?;
        let leaves = client_of(sockets, Family::V4.any_port(), default).await?;
        let by_default = client_of(sockets, Family::V4.any_port(), ANYWHERE).await;
        if by_default.ok() != Some(leaves) {
            return Err(RouterError::None);
        }
        let client = client_of(sockets, Family::V4.any_port(), router).await?;
        return match own {
            // Nobody listens where the router would forward to.
            Some(own) if own != client => Err(RouterError::Elsewhere(client)),
            _ => Ok(client),
        };
    };
    // What we are bound to has ways of its own.
    let from = SocketAddr::from((own, 0));
    client_of(sockets, from, ANYWHERE).await?;
    Ok(client_of(sockets, from, router).await?)
}

/// Our address on the way from one of ours to somewhere.
async fn client_of(sockets: &Sockets, from: SocketAddr, to: Ipv4Addr) -> io::Result<Ipv4Addr> {
    let socket = sockets.datagrams(from)?;
    // Sends nothing: only asks the system from where it would.
    socket.connect((to, pcp::PORT)).await?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}
