//! The router before one of our addresses of IPv6, and how it is asked to let a port through: by PCP (RFC 6887 §11), whose
//! mappings are no translation there, or UPnP (IGD:2, `WANIPv6FirewallControl:1`).

use std::net::IpAddr;
use std::time::Duration;

use super::device::Device;
use super::gateway::GlobalAddress;
use super::pcp::{Grant, Version};
use super::router::RouterError;
use super::server::{Nonces, Server};
use super::upnp::{self, Call, Sought};
use super::{LIFETIME, Protocol};
use crate::driver::socket::Sockets;

/// A router that has let a port through.
#[derive(Debug)]
pub(super) enum Guard {
    Pcp(Server),
    Upnp(Firewall),
}

impl Guard {
    /// Finds the router of an address, and has it let the port through; for how long it does.
    pub(super) async fn find(
        sockets: &Sockets,
        address: GlobalAddress,
        port: u16,
        nonces: &Nonces,
    ) -> Result<(Self, Duration), RouterError> {
        let (client, at) = (address.ip.into(), address.router.into());
        let server = Server::new(sockets.clone(), client, at, Version::Pcp, nonces);
        let mut guard = Self::Pcp(server);
        match guard.open(address, port).await {
            Ok(lifetime) => return Ok((guard, lifetime)),
            Err(error) => tracing::debug!(%error, "no hole by PCP"),
        }
        let device = Device::find(sockets, client, Sought::Guard(address)).await?;
        let mut guard = Self::Upnp(Firewall::new(device));
        let lifetime = guard.open(address, port).await?;
        Ok((guard, lifetime))
    }

    pub(super) const fn protocol(&self) -> &'static str {
        match self {
            Self::Pcp(server) => server.protocol(),
            Self::Upnp(_) => "UPnP",
        }
    }

    /// Has the port let through, or for longer, for connections and datagrams; for how long it is.
    pub(super) async fn open(
        &mut self,
        address: GlobalAddress,
        port: u16,
    ) -> Result<Duration, RouterError> {
        match self {
            Self::Pcp(server) => {
                let granted = server.map(port, port).await?;
                if is_plain(&granted, address.ip.into(), port) {
                    return Ok(granted.lifetime);
                }
                // Peers are told our own address and port.
                server.unmap(port).await;
                Err(RouterError::Translated)
            }
            Self::Upnp(firewall) => firewall.open(address, port).await,
        }
    }

    /// Has the port let through no more. Says it once: nobody waits for the answer.
    pub(super) async fn close(&mut self, port: u16) {
        match self {
            Self::Pcp(server) => server.unmap(port).await,
            Self::Upnp(firewall) => firewall.close().await,
        }
    }
}

/// Whether what a router grants is a hole: it has no other address or port for us.
fn is_plain(granted: &Grant, own: IpAddr, port: u16) -> bool {
    granted.external_port == port && granted.external_ip.is_none_or(|external| external == own)
}

/// A firewall that is asked by UPnP, and the holes that it has made for us.
#[derive(Debug)]
pub(super) struct Firewall {
    device: Device,
    /// By their names, one for each of [`Protocol::ALL`].
    holes: Vec<u16>,
}

impl Firewall {
    const fn new(device: Device) -> Self {
        let holes = Vec::new();
        Self { device, holes }
    }

    async fn open(&mut self, address: GlobalAddress, port: u16) -> Result<Duration, RouterError> {
        let mut holes = Vec::new();
        for protocol in Protocol::ALL {
            let call = Call::AddPinhole {
                protocol,
                port,
                client: address.ip,
                lifetime: LIFETIME,
            };
            let answer = self.device.call(call).await;
            match answer.map(|body| upnp::pinhole_id(&body)) {
                Ok(Some(id)) => holes.push(id),
                failed => {
                    // Nobody uses half of a hole.
                    self.holes.append(&mut holes);
                    self.close().await;
                    return Err(failed.err().unwrap_or(RouterError::Strange));
                }
            }
        }
        self.holes = holes;
        Ok(LIFETIME)
    }

    async fn close(&mut self) {
        for id in self.holes.drain(..) {
            if let Err(error) = self.device.call(Call::DeletePinhole(id)).await {
                tracing::debug!(%error, "giving the hole back failed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddr};

    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpStream;
    use tokio::sync::mpsc;
    use url::Url;

    use super::super::upnp::Service;
    use super::*;
    use crate::driver::socket::Listening;
    use crate::network::NetworkOptions;

    const OURS: Ipv6Addr = Ipv6Addr::LOCALHOST;
    const REFUSED: &str = "<Envelope><Fault><errorCode>701</errorCode></Fault></Envelope>";

    fn hole(id: u16) -> (u16, String) {
        (
            200,
            format!("<Body><R><UniqueID>{id}</UniqueID></R></Body>"),
        )
    }

    /// A router on loopback that gives these answers, and tells each thing it was asked for.
    fn firewall(answers: Vec<(u16, String)>) -> (Firewall, mpsc::UnboundedReceiver<String>) {
        let listen = [SocketAddr::from((OURS, 0))];
        let sockets = Sockets::new(&listen, NetworkOptions::default()).unwrap();
        let Listening { tcp, .. } = sockets.listen().unwrap().remove(0);
        let at = Url::parse(&format!("http://{}/", tcp.local_addr().unwrap())).unwrap();
        let description =
            b"<service><serviceType>urn:schemas-upnp-org:service:WANIPv6FirewallControl:1\
            </serviceType><controlURL>/ctl</controlURL></service>";
        let service = Service::find(description, &at, &Sought::Guard(address())).unwrap();
        let (tell, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for (status, answer) in answers {
                let (stream, _) = tcp.accept().await.unwrap();
                serve(stream, status, &answer, &tell).await;
            }
        });
        let device = Device::new(sockets, OURS.into(), service);
        (Firewall::new(device), asked)
    }

    /// Answers a caller, and tells first what he asks for: the call, and the protocol or the hole that it is about.
    async fn serve(
        stream: TcpStream,
        status: u16,
        answer: &str,
        tell: &mpsc::UnboundedSender<String>,
    ) {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            stream.read_line(&mut head).await.unwrap();
        }
        let head = head.to_ascii_lowercase();
        let after = |text: &str, mark: &str| text.split(mark).nth(1).unwrap_or("").to_owned();
        let len = after(&head, "content-length: ");
        let mut body = vec![0; len.lines().next().unwrap().parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        let body = String::from_utf8(body).unwrap();
        let about = [after(&body, "<Protocol>"), after(&body, "<UniqueID>")].concat();
        let call = after(&head, "wanipv6firewallcontrol:1#");
        let [call, about] = [(call, '"'), (about, '<')]
            .map(|(text, end)| text.split(end).next().unwrap().to_owned());
        // A test that has ended wants to hear no more.
        let _ = tell.send(format!("{call} {about}"));
        let len = answer.len();
        let answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{answer}"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    fn address() -> GlobalAddress {
        GlobalAddress {
            ip: OURS,
            router: "[::1]:5351".parse().unwrap(),
        }
    }

    fn all(mut asked: mpsc::UnboundedReceiver<String>) -> Vec<String> {
        std::iter::from_fn(|| asked.try_recv().ok()).collect()
    }

    #[tokio::test]
    async fn a_hole_is_one_for_each_protocol_and_given_back_by_the_names_of_both() {
        // The router has forgotten the second one when it is to last longer.
        let done = (200, String::new());
        let holes = [7, 8, 7, 9].map(hole);
        let answers = [&holes[..], &[done.clone(), done]].concat();
        let (mut firewall, asked) = firewall(answers);
        for _ in 0..2 {
            assert_eq!(firewall.open(address(), 7000).await.unwrap(), LIFETIME);
        }
        firewall.close().await;
        let asked = all(asked);
        assert_eq!(asked[..2], ["addpinhole 6", "addpinhole 17"]);
        assert_eq!(asked[2..4], asked[..2]);
        assert_eq!(asked[4..], ["deletepinhole 7", "deletepinhole 9"]);
        firewall.close().await;
    }

    #[tokio::test]
    async fn half_a_hole_is_given_back() {
        let answers = vec![hole(7), (500, REFUSED.to_owned()), (200, String::new())];
        let (mut firewall, asked) = firewall(answers);
        let failed = firewall.open(address(), 7000).await;
        assert!(matches!(failed, Err(RouterError::Refused(701))));
        let expected = ["addpinhole 6", "addpinhole 17", "deletepinhole 7"];
        assert_eq!(all(asked), expected);
    }

    #[tokio::test]
    async fn a_hole_without_a_name_is_none() {
        for strange in ["", "<UniqueID>70000</UniqueID>", "\u{fffd}<<"] {
            let (mut firewall, asked) = firewall(vec![(200, strange.to_owned())]);
            let failed = firewall.open(address(), 7000).await;
            assert!(matches!(failed, Err(RouterError::Strange)), "{strange}");
            assert_eq!(all(asked), ["addpinhole 6"]);
        }
    }
}
