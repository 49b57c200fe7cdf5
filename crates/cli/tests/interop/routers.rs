//! Routers to test against, as far as forwarding ports goes: PCP, NAT-PMP and UPnP, at the machine's gateway.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Condvar, Mutex};

use crate::netns::{GATEWAY, Land, Namespace};
use crate::riverrun::PATIENCE;

/// What a router speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Pcp,
    NatPmp,
    Upnp,
}

/// The network that is outside of the routers; each has the number there that it has in its own.
const OUTSIDE: [u8; 3] = [198, 51, 100];

/// What is added to a port to make it the router's.
const SHIFT: u16 = 1000;

/// A router, and what it was asked for: `map TCP 6881`, `unmap TCP 6881`.
#[derive(Clone)]
pub(crate) struct Router {
    addr: Ipv4Addr,
    asked: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Router {
    /// The machine's gateway.
    pub(crate) fn start(land: &Land, speaks: Speaks) -> Self {
        Self::start_at(land.world(), GATEWAY, speaks)
    }

    /// One at this address in a namespace; that of UPnP is the machine's gateway only.
    pub(crate) fn start_at(namespace: &Namespace, addr: Ipv4Addr, speaks: Speaks) -> Self {
        let router = Self {
            addr,
            asked: Arc::default(),
        };
        let serving = router.clone();
        namespace.within(move || match speaks {
            Speaks::Pcp | Speaks::NatPmp => serving.control_ports(speaks),
            Speaks::Upnp => serving.describe(),
        });
        router
    }

    /// Its address outside.
    fn outside(&self) -> Ipv4Addr {
        let ([a, b, c], [.., d]) = (OUTSIDE, self.addr.octets());
        Ipv4Addr::new(a, b, c, d)
    }

    /// Whether it has been asked for nothing.
    pub(crate) fn is_left_alone(&self) -> bool {
        self.asked.0.lock().unwrap().is_empty()
    }

    fn note(&self, what: String) {
        let (asked, changed) = &*self.asked;
        asked.lock().unwrap().push(what);
        changed.notify_all();
    }

    /// Waits until it has been asked for this.
    pub(crate) fn wait_for(&self, what: &str) {
        let (asked, changed) = &*self.asked;
        let asked = asked.lock().unwrap();
        let missing = |asked: &mut Vec<String>| !asked.iter().any(|asked| asked == what);
        let (asked, waited) = changed
            .wait_timeout_while(asked, PATIENCE, missing)
            .unwrap();
        assert!(!waited.timed_out(), "no {what:?} in {asked:?}");
    }

    /// PCP (RFC 6887 §7, §11) or NAT-PMP (RFC 6886 §3). The thread ends with the test's process.
    fn control_ports(self, speaks: Speaks) {
        let socket = UdpSocket::bind(SocketAddr::from((self.addr, 5351))).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 1100];
            while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                let answer = match (speaks, &buffer[..len]) {
                    (Speaks::Pcp, message @ [2, 1, ..]) => self.answer_pcp(message),
                    (Speaks::NatPmp, message @ [0, 1 | 2, ..]) => self.answer_nat_pmp(message),
                    (Speaks::NatPmp, [0, 0]) => {
                        [&[0, 128, 0, 0, 0, 0, 0, 9], &self.outside().octets()[..]].concat()
                    }
                    // "Unsupported version", in the words of each.
                    (Speaks::NatPmp, _) => vec![0, 128, 0, 1, 0, 0, 0, 9],
                    _ => vec![2, 0x81, 0, 1],
                };
                socket.send_to(&answer, from).unwrap();
            }
        });
    }

    fn answer_pcp(&self, message: &[u8]) -> Vec<u8> {
        let protocol = if message[36] == 6 { "TCP" } else { "UDP" };
        let port = u16::from_be_bytes([message[40], message[41]]);
        let lifetime = &message[4..8];
        self.note_map(lifetime, protocol, port);
        let mut answer = vec![2, 0x81, 0, 0];
        answer.extend(lifetime);
        answer.extend([0; 16]);
        answer.extend(&message[24..42]);
        answer.extend((port + SHIFT).to_be_bytes());
        answer.extend(self.outside().to_ipv6_mapped().octets());
        answer
    }

    fn answer_nat_pmp(&self, message: &[u8]) -> Vec<u8> {
        let protocol = if message[1] == 2 { "TCP" } else { "UDP" };
        let port = u16::from_be_bytes([message[4], message[5]]);
        let lifetime = &message[8..12];
        self.note_map(lifetime, protocol, port);
        let mut answer = vec![0, 128 + message[1], 0, 0, 0, 0, 0, 9];
        answer.extend(&message[4..6]);
        answer.extend((port + SHIFT).to_be_bytes());
        answer.extend(lifetime);
        answer
    }

    fn note_map(&self, lifetime: &[u8], protocol: &str, port: u16) {
        let what = if lifetime == [0; 4] { "unmap" } else { "map" };
        self.note(format!("{what} {protocol} {port}"));
    }

    /// UPnP: answers searches, after a stranger has, who wants to be gone to; then describes itself and is called.
    fn describe(self) {
        let listener = TcpListener::bind(SocketAddr::from((GATEWAY, 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let search = UdpSocket::bind("239.255.255.250:1900").unwrap();
        let group = Ipv4Addr::new(239, 255, 255, 250);
        search.join_multicast_v4(&group, &GATEWAY).unwrap();
        let (stranger, own) = (
            UdpSocket::bind("10.77.3.1:0").unwrap(),
            UdpSocket::bind((GATEWAY, 1900)).unwrap(),
        );
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((len, from)) = search.recv_from(&mut buffer) {
                assert!(buffer[..len].starts_with(b"M-SEARCH * HTTP/1.1\r\n"));
                let answer = |at: &str| {
                    format!(
                        "HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nLocation: http://{at}/root.xml\r\n\r\n"
                    )
                };
                let trap = answer("10.77.3.1:9");
                stranger.send_to(trap.as_bytes(), from).unwrap();
                own.send_to(trap.as_bytes(), from).unwrap();
                own.send_to(answer(&format!("{GATEWAY}:{port}")).as_bytes(), from)
                    .unwrap();
            }
        });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that breaks off is asked no more.
                let _ = self.serve(stream);
            }
        });
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let lower = head.to_ascii_lowercase();
        let len = lower
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.lines().next());
        let mut body = vec![0; len.map_or(0, |len| len.parse().unwrap())];
        reader.read_exact(&mut body)?;
        let (status, answer) = self.answer_http(&head, &String::from_utf8(body).unwrap());
        let len = answer.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{answer}"
        )
    }

    fn answer_http(&self, head: &str, body: &str) -> (&'static str, String) {
        let outside = self.outside();
        let value = |name: &str| {
            let rest = body.split(&format!("<{name}>")).nth(1).unwrap_or("");
            rest.split('<').next().unwrap_or("").to_owned()
        };
        if head.starts_with("GET /root.xml ") {
            let service = "urn:schemas-upnp-org:service:WANIPConnection:1";
            return (
                "200 OK",
                format!(
                    "<?xml version=\"1.0\"?><root><device><serviceList><service><serviceType>{service}</serviceType><controlURL>/control</controlURL></service></serviceList></device></root>"
                ),
            );
        }
        assert!(head.starts_with("POST /control "), "{head}");
        if head.contains("#GetExternalIPAddress") {
            return (
                "200 OK",
                format!(
                    "<Envelope><Body><R><NewExternalIPAddress>{outside}</NewExternalIPAddress></R></Body></Envelope>"
                ),
            );
        }
        let (protocol, external) = (value("NewProtocol"), value("NewExternalPort"));
        if head.contains("#DeletePortMapping") {
            self.note(format!("unmap {protocol} {external}"));
            return ("200 OK", String::new());
        }
        // As some routers do: for ever, or not at all.
        if value("NewLeaseDuration") != "0" {
            return (
                "500 Internal Server Error",
                "<Fault><errorCode>725</errorCode></Fault>".to_owned(),
            );
        }
        self.note(format!("map {protocol} {external}"));
        ("200 OK", String::new())
    }
}
