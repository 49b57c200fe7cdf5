//! Clients for HTTP, whose sockets are bound as all others are.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::ground::Place;
use super::{Family, Sockets};

/// A request must have been answered within this time.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Connecting must not take longer than this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Redirects that are followed; more is a loop.
const REDIRECTS_MAX: usize = 5;

/// Idle connections are kept this long: trackers are asked every half hour, and keep none open for us.
const IDLE: Duration = Duration::from_secs(20);

/// A client could not be built: no TLS roots, as a rule.
pub(crate) type ClientError = reqwest::Error;

/// A client a family, made when first needed: reading the roots of trust takes a while.
#[derive(Debug, Default)]
pub(super) struct WebClients {
    clients: Mutex<[Option<(Place, reqwest::Client)>; 2]>,
}

impl WebClients {
    /// The client that speaks from `place`.
    pub(super) fn client(
        &self,
        sockets: &Sockets,
        place: &Place,
    ) -> Result<reqwest::Client, ClientError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut clients[usize::from(place.ip.is_ipv6())];
        if let Some((_, client)) = slot.as_ref().filter(|(held, _)| held == place) {
            return Ok(client.clone());
        }
        let client = build(sockets, place)?;
        *slot = Some((place.clone(), client.clone()));
        Ok(client)
    }

    /// Lets go of all, with the connections that they keep open.
    pub(super) fn clear(&self) {
        *self.clients.lock().unwrap_or_else(PoisonError::into_inner) = [None, None];
    }
}

fn build(sockets: &Sockets, place: &Place) -> Result<reqwest::Client, ClientError> {
    let family = Family::of_ip(place.ip);
    let sockets = Unowned(Arc::downgrade(&sockets.inner), family);
    let builder = reqwest::Client::builder()
        .user_agent(concat!("riverrun/", env!("CARGO_PKG_VERSION")))
        .local_address(place.ip)
        .dns_resolver(Arc::new(sockets))
        // Never one from the environment: a BitTorrent client must not go where its user did not send it.
        .no_proxy()
        .timeout(TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE)
        .redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX));
    bind_device(builder, place).build()
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
struct Unowned(std::sync::Weak<super::Inner>, Family);

impl Resolve for Unowned {
    fn resolve(&self, name: Name) -> Resolving {
        let (inner, family) = (self.0.upgrade(), self.1);
        Box::pin(async move {
            let gone = || io::Error::other("the engine has stopped");
            let sockets = Sockets {
                inner: inner.ok_or_else(gone)?,
            };
            let mut found = sockets.resolve(name.as_str(), 0).await?;
            // The client has one source address, so that the other family cannot be reached from it.
            found.retain(|addr: &SocketAddr| Family::of(addr) == family);
            if found.is_empty() {
                return Err(io::Error::other("no address in a family that we use").into());
            }
            let found: Addrs = Box::new(found.into_iter());
            Ok(found)
        })
    }
}
