//! A router that is asked by PCP or NAT-PMP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use riverrun_base::Sha256Digest;
use tokio::net::UdpSocket;

use super::pcp::{self, Answer, Grant, Version, Wish};
use super::router::RouterError;
use super::{LIFETIME, Protocol};
use crate::driver::socket::Sockets;

/// How long to wait for an answer to each message, in milliseconds. The RFC begins with seconds; routers are a hop away.
const WAITS_MS: [u64; 4] = [250, 500, 1000, 2000];

/// A router, and as whom we ask it.
#[derive(Debug)]
pub(super) struct Server {
    sockets: Sockets,
    /// Our address on its side, from which it must be asked (RFC 6887 §8.1).
    client: IpAddr,
    addr: SocketAddr,
    version: Version,
    nonce: [u8; 12],
}

/// What our mappings are known by to routers: whoever does not know it cannot change them, nor ask for them again, and
/// that goes for us too. Each router has one of its own (RFC 6887 §11.2), for as long as we are there: so what was granted
/// before answers were lost, or before the network was gone for a while, is ours still.
#[derive(Clone)]
pub(super) struct Nonces([u8; 16]);

impl Nonces {
    pub(super) fn draw() -> Self {
        Self(rand::random())
    }

    /// The one for a router.
    fn of(&self, router: SocketAddr) -> [u8; 12] {
        let named = [&self.0[..], router.to_string().as_bytes()].concat();
        let Sha256Digest(digest) = riverrun_hash::sha256(&named);
        std::array::from_fn(|at| digest[at])
    }
}

impl Server {
    /// Nothing is asked yet.
    pub(super) fn new(
        sockets: Sockets,
        client: IpAddr,
        addr: SocketAddr,
        version: Version,
        nonces: &Nonces,
    ) -> Self {
        Self {
            sockets,
            client,
            addr,
            version,
            nonce: nonces.of(addr),
        }
    }

    pub(super) const fn protocol(&self) -> &'static str {
        match self.version {
            Version::Pcp => "PCP",
            Version::NatPmp => "NAT-PMP",
        }
    }

    const fn wish(&self, protocol: Protocol, port: u16, external_port: u16) -> Wish {
        Wish {
            protocol,
            port,
            external_port,
            lifetime: LIFETIME,
            client: self.client,
            nonce: self.nonce,
        }
    }

    /// Has the port forwarded, for connections and datagrams, from `external_port` if it is free.
    pub(super) async fn map(&self, port: u16, external_port: u16) -> Result<Grant, RouterError> {
        let asked = self.wish(Protocol::Tcp, port, external_port);
        let mut granted = self.ask(asked).await?;
        // One port for both, as far as the router will: peers are told one.
        let asked = self.wish(Protocol::Udp, port, granted.external_port);
        let also = self.ask(asked).await;
        let is_one = |also: &Grant| also.external_port == granted.external_port;
        if !also.as_ref().is_ok_and(is_one) {
            self.unmap(port).await;
            return also.and(Err(RouterError::TwoPorts));
        }
        if self.version == Version::NatPmp {
            granted.external_ip = self.ask_address().await;
        }
        Ok(granted)
    }

    /// Has the port not forwarded any more. Says it once: nobody waits for the answer.
    pub(super) async fn unmap(&self, port: u16) {
        for protocol in Protocol::ALL {
            let wish = Wish {
                lifetime: Duration::ZERO,
                ..self.wish(protocol, port, 0)
            };
            if let Err(error) = self.say(&wish.message(self.version)).await {
                tracing::debug!(%error, "giving the port back failed");
            }
        }
    }

    /// A socket that hears only the router.
    async fn socket(&self) -> io::Result<UdpSocket> {
        let socket = self.sockets.datagrams(SocketAddr::new(self.client, 0))?;
        socket.connect(self.addr).await?;
        Ok(socket)
    }

    async fn say(&self, message: &[u8]) -> io::Result<()> {
        self.socket().await?.send(message).await.map(drop)
    }

    /// Puts a wish, again and again, until the router answers it.
    async fn ask(&self, wish: Wish) -> Result<Grant, RouterError> {
        let understand = |message: &[u8]| wish.answer(self.version, message);
        match self
            .exchange(&wish.message(self.version), understand)
            .await?
        {
            Answer::Granted(granted) if granted.external_port == 0 => Err(RouterError::Strange),
            Answer::Granted(granted) => Ok(granted),
            Answer::OtherVersion => Err(RouterError::Strange),
            Answer::Refused(code) => Err(RouterError::Refused(code)),
        }
    }

    /// The router's own address (NAT-PMP); not worth a failure.
    async fn ask_address(&self) -> Option<IpAddr> {
        self.exchange(&pcp::ASK_ADDRESS, pcp::external_ip)
            .await
            .ok()
    }

    async fn exchange<T>(
        &self,
        message: &[u8],
        understand: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T, RouterError> {
        let socket = self.socket().await?;
        let mut buffer = [0; pcp::MESSAGE_BYTES_MAX];
        for wait in WAITS_MS.map(Duration::from_millis) {
            socket.send(message).await?;
            let answered = async {
                loop {
                    let len = socket.recv(&mut buffer).await?;
                    if let Some(answer) = understand(&buffer[..len]) {
                        return Ok::<_, io::Error>(answer);
                    }
                }
            };
            if let Ok(answer) = tokio::time::timeout(wait, answered).await {
                // A refusal by ICMP comes as an error of the socket.
                return answer.map_err(|_| RouterError::Silent);
            }
        }
        Err(RouterError::Silent)
    }
}
