//! Clients for HTTP, whose sockets are bound as all others are.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::ground::Place;
use super::{Family, Sockets};
use crate::driver::web::{Reach, WebError};
use crate::network::{Proxy, ProxyKind};

/// A request, with all its redirects, must have been answered within this time.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// Connecting must not take longer than this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A router must have answered within this time.
const ROUTER_TIMEOUT: Duration = Duration::from_secs(4);

/// Idle connections are kept this long: trackers are asked every half hour, and keep none open for us.
const IDLE: Duration = Duration::from_secs(20);

/// A client could not be built: no TLS roots, as a rule.
pub(crate) type ClientError = reqwest::Error;

/// A client for each family and [`Reach`], made when first needed: reading the roots of trust takes a while.
#[derive(Debug, Default)]
pub(super) struct WebClients {
    clients: Mutex<Slots>,
}

type Slots = [[Option<(Place, reqwest::Client)>; Reach::ALL.len()]; 2];

impl WebClients {
    /// The client that speaks from `place`.
    pub(super) fn client(
        &self,
        sockets: &Sockets,
        place: &Place,
        reach: Reach,
    ) -> Result<reqwest::Client, ClientError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut clients[usize::from(place.ip.is_ipv6())][reach as usize];
        if let Some((_, client)) = slot.as_ref().filter(|(held, _)| held == place) {
            return Ok(client.clone());
        }
        let client = build(sockets, place, reach)?;
        *slot = Some((place.clone(), client.clone()));
        Ok(client)
    }

    /// Lets go of all, with the connections that they keep open.
    pub(super) fn clear(&self) {
        *self.clients.lock().unwrap_or_else(PoisonError::into_inner) = Slots::default();
    }
}

fn build(sockets: &Sockets, place: &Place, reach: Reach) -> Result<reqwest::Client, ClientError> {
    let resolver = Arc::new(Unowned {
        sockets: Arc::downgrade(&sockets.inner),
        family: Family::of_ip(place.ip),
        reach,
    });
    let options = &sockets.inner.options;
    let proxy = options.proxy.as_ref().map(by).transpose()?;
    let builder = || bare(place, resolver.clone(), proxy.clone());
    let extra = || options.authorities.certificates.iter().cloned();
    // A machine without a single authority has no TLS, or only that of our user's; plain HTTP and all else work.
    builder()
        .tls_certs_merge(extra())
        .build()
        .or_else(|_| builder().tls_certs_only(extra()).build())
}

fn bare(
    place: &Place,
    resolver: Arc<Unowned>,
    proxy: Option<reqwest::Proxy>,
) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("riverrun/", env!("CARGO_PKG_VERSION")))
        .local_address(place.ip)
        .dns_resolver(resolver)
        // Never one from the environment: a BitTorrent client must not go where its user did not send it.
        .no_proxy()
        .timeout(TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE)
        .redirect(reqwest::redirect::Policy::none());
    let builder = match proxy {
        Some(proxy) => builder.proxy(proxy),
        None => builder,
    };
    bind_device(builder, place)
}

/// A client for the router, which is near and gets no second chance.
pub(super) fn client_of_router(place: &Place) -> Result<reqwest::Client, ClientError> {
    let builder = reqwest::Client::builder()
        .local_address(place.ip)
        .no_proxy()
        .timeout(ROUTER_TIMEOUT)
        // Routers have no certificates, so that no roots of trust are read.
        .tls_certs_only([])
        .redirect(reqwest::redirect::Policy::none());
    bind_device(builder, place).build()
}

/// A proxy in the client's words: everything goes by it, names too.
fn by(proxy: &Proxy) -> Result<reqwest::Proxy, ClientError> {
    let url = match proxy.kind {
        ProxyKind::Socks5 => proxy.to_string().replacen("socks5:", "socks5h:", 1),
        ProxyKind::Http => proxy.to_string(),
    };
    let by = reqwest::Proxy::all(url)?;
    Ok(match &proxy.login {
        Some(login) => by.basic_auth(&login.user, login.password.reveal()),
        None => by,
    })
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn bind_device(builder: reqwest::ClientBuilder, place: &Place) -> reqwest::ClientBuilder {
    match &place.device {
        Some(device) => builder.interface(&device.name),
        None => builder,
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn bind_device(builder: reqwest::ClientBuilder, _: &Place) -> reqwest::ClientBuilder {
    builder
}

/// The way to resolve names for a client that the sockets themselves keep: it must not keep them.
struct Unowned {
    sockets: std::sync::Weak<super::Inner>,
    family: Family,
    reach: Reach,
}

impl Resolve for Unowned {
    fn resolve(&self, name: Name) -> Resolving {
        let (inner, family, reach) = (self.sockets.upgrade(), self.family, self.reach);
        Box::pin(async move {
            let gone = || io::Error::other("the engine has stopped");
            let sockets = Sockets {
                inner: inner.ok_or_else(gone)?,
            };
            let proxy = sockets.inner.options.proxy.as_ref();
            if proxy.is_some_and(|proxy| proxy.host != name.as_str()) {
                return Err(io::Error::other("names are the proxy's to resolve").into());
            }
            // Our user may have a proxy anywhere; the rules are for what lies behind it.
            let may_reach = |ip| proxy.is_some() || reach.allows(ip);
            let mut found = sockets.resolve_openly(name.as_str(), 0).await?;
            // The client has one source address, so that the other family cannot be reached from it.
            found.retain(|addr: &SocketAddr| Family::of(addr) == family);
            if found.is_empty() {
                return Err(WebError::NoAddress.into());
            }
            let forbidden = found.iter().find(|addr| !may_reach(addr.ip())).copied();
            found.retain(|addr| may_reach(addr.ip()));
            match forbidden {
                Some(addr) if found.is_empty() => Err(reach.forbid(addr.ip()).into()),
                _ => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}
