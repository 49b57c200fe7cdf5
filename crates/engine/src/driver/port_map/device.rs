//! A router that is asked by UPnP: found by a search, its service called over HTTP.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::time::Instant;
use url::Url;

use super::router::RouterError;
use super::upnp::{self, Call, Service, Sought};
use crate::driver::socket::Sockets;
use crate::driver::web::read_body;

/// How long routers may take to answer a search: what it asks for (`MX`), and some more.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(3);

/// Answers to a search that are looked at: others in the network may answer too.
const ANSWERS_MAX: usize = 64;

/// Descriptions that are read for one search.
const DESCRIPTIONS_MAX: usize = 4;

/// The hops of a search: it must not leave the local network (UPnP Device Architecture 1.1 §1.3.2).
const SEARCH_HOPS: u32 = 2;

/// A router with the service that was sought, and as whom we ask it.
#[derive(Debug)]
pub(super) struct Device {
    sockets: Sockets,
    /// Our address on its side.
    client: IpAddr,
    service: Service,
}

impl Device {
    pub(super) const fn new(sockets: Sockets, client: IpAddr, service: Service) -> Self {
        Self {
            sockets,
            client,
            service,
        }
    }

    /// Searches for it from our address on its side.
    pub(super) async fn find(
        sockets: &Sockets,
        client: IpAddr,
        sought: Sought,
    ) -> Result<Self, RouterError> {
        let mut answers = Answers::search(sockets, client, sought).await?;
        let mut found = Err(RouterError::Silent);
        while let Some(location) = answers.next().await {
            match describe(sockets, client, &location).await {
                Ok(description) => match Service::find(&description, &location, &sought) {
                    Some(service) => return Ok(Self::new(sockets.clone(), client, service)),
                    None => found = Err(RouterError::Strange),
                },
                Err(error) => found = Err(error),
            }
        }
        found
    }

    /// Calls the service; the body of its answer.
    pub(super) async fn call(&self, call: Call) -> Result<Vec<u8>, RouterError> {
        let client = self.sockets.web_of_router(self.client)?;
        let response = client
            .ok_or(RouterError::None)?
            .post(self.service.control.clone())
            .header(CONTENT_TYPE, "text/xml; charset=\"utf-8\"")
            .header("SOAPAction", self.service.action(&call))
            .body(self.service.body(&call))
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

/// Answers to a search, as they come.
struct Answers {
    socket: UdpSocket,
    sought: Sought,
    end: Instant,
    left: usize,
    seen: Vec<Url>,
}

impl Answers {
    async fn search(
        sockets: &Sockets,
        client: IpAddr,
        sought: Sought,
    ) -> Result<Self, RouterError> {
        let socket = sockets.datagrams(SocketAddr::new(client, 0))?;
        let options = SockRef::from(&socket);
        match (client, sought) {
            (IpAddr::V4(client), _) => {
                options.set_multicast_if_v4(&client)?;
                options.set_multicast_ttl_v4(SEARCH_HOPS)?;
            }
            (IpAddr::V6(_), Sought::Guard(address)) => {
                options.set_multicast_if_v6(address.router.scope_id())?;
                options.set_multicast_hops_v6(SEARCH_HOPS)?;
            }
            (IpAddr::V6(_), Sought::Forwarder(_)) => return Err(RouterError::None),
        }
        for group in sought.groups() {
            let search = sought.search(group);
            socket.send_to(search.as_bytes(), group).await?;
        }
        Ok(Self {
            socket,
            sought,
            end: Instant::now() + SEARCH_TIMEOUT,
            left: ANSWERS_MAX,
            seen: Vec::new(),
        })
    }

    /// Another place where the router may describe itself; `None` when it has been waited for long enough, or too many
    /// have answered.
    async fn next(&mut self) -> Option<Url> {
        let mut buffer = [0; 2048];
        while self.left > 0 && self.seen.len() < DESCRIPTIONS_MAX {
            self.left -= 1;
            let received = self.socket.recv_from(&mut buffer);
            let received = tokio::time::timeout_at(self.end, received).await;
            let (len, from) = received.ok()?.ok()?;
            if self.sought.may_be_at(from.ip())
                && let Some(location) = self.sought.location(&buffer[..len])
                && !self.seen.contains(&location)
            {
                self.seen.push(location.clone());
                return Some(location);
            }
        }
        None
    }
}

async fn describe(
    sockets: &Sockets,
    client: IpAddr,
    location: &Url,
) -> Result<Vec<u8>, RouterError> {
    let client = sockets.web_of_router(client)?.ok_or(RouterError::None)?;
    let response = client.get(location.clone()).send().await?;
    let body = read_body(response, upnp::BODY_BYTES_MAX).await;
    body.map_err(|_| RouterError::Strange)
}
