//! Names, asked for through the sockets that the user allows.
//!
//! The system's resolver asks where the routes point, so it is used only while sockets may go anywhere. Else this
//! one asks: a stub (RFC 1034 §5.3.1) that trusts its server, over datagrams, and over TCP what does not fit one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Family, Sockets};

/// How long a server has for an answer, before the next one is asked.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How often all servers are asked in turn: a lost datagram is asked for again.
const ROUNDS: usize = 2;

/// The longest datagram: what a server sends to a client without EDNS (RFC 1035 §4.2.1).
const DATAGRAM_BYTES_MAX: usize = 512;

/// Datagrams that answer something else are skipped, so many at most: they may be forged.
const STRAY_MAX: usize = 16;

/// Addresses of one name that are taken.
const ADDRS_MAX: usize = 32;

/// Name servers that are taken from the system, as its own resolver does (`MAXNS`).
const SERVERS_MAX: usize = 3;

const PORT: u16 = 53;

/// Resolves names through some sockets.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    sockets: Sockets,
    servers: Vec<SocketAddr>,
}

impl Resolver {
    /// Asks `servers`; if there are none, those of the system.
    pub(super) fn new(sockets: Sockets, servers: &[SocketAddr]) -> Self {
        let servers = if servers.is_empty() {
            system_servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
        } else {
            servers.to_vec()
        };
        Self { sockets, servers }
    }

    /// The addresses of a host in the families that are used, in the order of [`Family::ALL`].
    pub(super) async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut name = Name::from_str(host).map_err(io::Error::other)?;
        // Hosts of URLs are whole: no search list, no local suffix. Only so does the question equal its echo.
        name.set_fqdn(true);
        let [v4, v6] = Family::ALL.map(|family| self.ask(&name, family));
        let (v4, v6) = tokio::join!(v4, v6);
        match (v4, v6) {
            (Err(error), Err(_)) => Err(error),
            (v4, v6) => {
                let found: Vec<_> = v4.into_iter().chain(v6).flatten().take(ADDRS_MAX).collect();
                if found.is_empty() {
                    return Err(io::Error::other("no such name"));
                }
                Ok(found)
            }
        }
    }

    /// Asks one server after the other for the addresses of one family.
    async fn ask(&self, name: &Name, family: Family) -> io::Result<Vec<IpAddr>> {
        if !self.sockets.has_place(family) {
            return Err(self.sockets.no_place(family));
        }
        let mut failure = io::Error::other("no name server is known: name one with --dns");
        for server in self
            .servers
            .iter()
            .cycle()
            .take(ROUNDS * self.servers.len())
        {
            let asked =
                tokio::time::timeout(ANSWER_TIMEOUT, self.ask_server(*server, name, family));
            match asked
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            {
                Ok(found) => return Ok(found),
                Err(error) => {
                    let message = format!("name server {}: {error}", server.ip());
                    failure = io::Error::new(error.kind(), message);
                }
            }
        }
        Err(failure)
    }

    async fn ask_server(
        &self,
        server: SocketAddr,
        name: &Name,
        family: Family,
    ) -> io::Result<Vec<IpAddr>> {
        let kind = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        let mut question = Message::query();
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(name.clone(), kind));
        let bytes = question.to_vec().map_err(io::Error::other)?;
        let mut answer = self.ask_by_datagram(server, &question, &bytes).await?;
        if answer.metadata.truncation {
            answer = self.ask_by_stream(server, &question, &bytes).await?;
        }
        match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => Ok(addrs(&answer)),
            code => Err(io::Error::other(format!("it says {code}"))),
        }
    }

    async fn ask_by_datagram(
        &self,
        server: SocketAddr,
        question: &Message,
        bytes: &[u8],
    ) -> io::Result<Message> {
        // A socket a question: its random port, the random id and the question itself are what a forger must guess.
        let socket = self
            .sockets
            .bind_datagrams(Family::of(&server).any_port())?;
        socket.connect(server).await?;
        socket.send(bytes).await?;
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        for _ in 0..STRAY_MAX {
            let len = socket.recv(&mut buffer).await?;
            match Message::from_vec(&buffer[..len]) {
                Ok(answer) if answers(&answer, question) => return Ok(answer),
                _ => {}
            }
        }
        Err(io::Error::other("its answers are to something else"))
    }

    async fn ask_by_stream(
        &self,
        server: SocketAddr,
        question: &Message,
        bytes: &[u8],
    ) -> io::Result<Message> {
        let mut stream = self.sockets.connect(server).await?;
        let len = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        stream
            .write_all(&[&len.to_be_bytes(), bytes].concat())
            .await?;
        let len = stream.read_u16().await?;
        // At most 64 KiB, and no more is kept than has come.
        let mut buffer = Vec::new();
        stream.take(len.into()).read_to_end(&mut buffer).await?;
        let answer = Message::from_vec(&buffer).map_err(io::Error::other)?;
        if answers(&answer, question) {
            return Ok(answer);
        }
        Err(io::Error::other("its answer is to something else"))
    }
}

/// Whether a message answers the question.
fn answers(answer: &Message, question: &Message) -> bool {
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == hickory_proto::op::MessageType::Response
        && answer.queries == question.queries
}

/// The addresses in an answer. They may stand under another name, to which aliases lead (RFC 1034 §3.6.2).
fn addrs(answer: &Message) -> Vec<IpAddr> {
    let addr = |data: &RData| match data {
        RData::A(ip) => Some(IpAddr::V4(ip.0)),
        RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
        _ => None,
    };
    let found = answer
        .answers
        .iter()
        .filter_map(|record| addr(&record.data));
    found.take(ADDRS_MAX).collect()
}

/// The name servers in a `resolv.conf`.
fn system_servers(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let ip = words
            .next()
            .filter(|word| *word == "nameserver")
            .and(words.next())?;
        Some(SocketAddr::new(ip.parse().ok()?, PORT))
    };
    text.lines().filter_map(server).take(SERVERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_system_reads_them() {
        let text = "# 1\nsearch example.org\nnameserver 192.0.2.1\nnameserver   2001:db8::1 # 2\noptions rotate\n\
                    nameserver fe80::1%eth0\nnameserver\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let expected = ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"];
        assert_eq!(
            system_servers(text),
            expected.map(|addr| addr.parse().unwrap())
        );
    }
}
