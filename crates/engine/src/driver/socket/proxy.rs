//! Connections by way of a proxy: SOCKS5 (RFC 1928, RFC 1929) and HTTP's CONNECT (RFC 9110 §9.3.6).
//!
//! A proxy is told names as they are: nothing is resolved here. What it answers is read byte by byte to its end and no
//! further, since what follows is the peer's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use data_encoding::BASE64;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::network::{Login, Proxy, ProxyKind};

/// The longest head of an answer to CONNECT. Proxies send some hundred bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// How long a proxy may take to accept us, and then to agree on how to talk: both together are less than a dial may
/// take, so that it is known for whom it was in vain.
const STEP_TIMEOUT: Duration = Duration::from_secs(4);

const VERSION: u8 = 5;
const LOGIN_VERSION: u8 = 1;
const NO_LOGIN: u8 = 0;
const WITH_LOGIN: u8 = 2;

/// A place behind a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Addr(SocketAddr),
    /// To be resolved by the proxy; at most 255 bytes.
    Name(String, u16),
}

/// Why a proxy has not connected us, if that says nothing of whoever is behind it.
#[derive(Debug, Error)]
#[error("the proxy {proxy} {what}")]
pub(crate) struct ProxyFailure {
    proxy: String,
    what: String,
}

/// Why something that a proxy was asked for has not come about.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It does not do that for us. What it does, or is, follows its name in a sentence.
    Proxy(String),
    /// It has tried, and the target is not to be reached from there.
    Target(io::Error),
}

impl Refusal {
    /// As an error of the socket by which all this was to be.
    pub(super) fn of(self, proxy: &Proxy) -> io::Error {
        match self {
            Self::Proxy(what) => io::Error::other(ProxyFailure {
                proxy: proxy.to_string(),
                what,
            }),
            Self::Target(error) => error,
        }
    }

    fn says(what: &str) -> Self {
        Self::Proxy(format!("says: {what}"))
    }
}

/// The stream to the proxy has failed.
impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Proxy(match error.kind() {
            io::ErrorKind::UnexpectedEof => "has hung up".to_owned(),
            _ => format!("fails: {error}"),
        })
    }
}

/// What a SOCKS5 server is asked for.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Connect = 1,
    Associate = 3,
}

impl Target {
    /// In the form of SOCKS5 (RFC 1928 §5): kind, address, port.
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        let port = match self {
            Self::Addr(addr) => {
                match addr.ip() {
                    IpAddr::V4(ip) => {
                        out.push(1);
                        out.extend(ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        out.push(4);
                        out.extend(ip.octets());
                    }
                }
                addr.port()
            }
            Self::Name(name, port) => {
                // Invariant: a name has at most 255 bytes.
                let len = u8::try_from(name.len()).expect("names are short");
                out.push(3);
                out.push(len);
                out.extend(name.as_bytes());
                *port
            }
        };
        out.extend(port.to_be_bytes());
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Addr(addr) => addr.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Waits for one step of a proxy, and no longer than it may take.
pub(super) async fn in_time<T, E: Into<Refusal>>(
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, Refusal> {
    let late = |_| Refusal::Proxy("does not answer".to_owned());
    timeout(STEP_TIMEOUT, step)
        .await
        .map_err(late)?
        .map_err(Into::into)
}

/// Has a proxy connect a stream, which leads to it, to a target.
pub(super) async fn connect(
    stream: &mut TcpStream,
    proxy: &Proxy,
    target: &Target,
) -> Result<(), Refusal> {
    match proxy.kind {
        ProxyKind::Socks5 => {
            in_time(greet(stream, proxy.login.as_ref())).await?;
            ask(stream, Ask::Connect, target).await.map(drop)
        }
        ProxyKind::Http => connect_by_http(stream, proxy.login.as_ref(), target).await,
    }
}

/// Has a SOCKS5 proxy relay datagrams for as long as the stream is open; the port where it does.
pub(super) async fn associate(stream: &mut TcpStream, proxy: &Proxy) -> Result<u16, Refusal> {
    if proxy.kind == ProxyKind::Http {
        return Err(Refusal::Target(no_datagrams()));
    }
    greet(stream, proxy.login.as_ref()).await?;
    // The port from which we shall send is not known to a proxy beyond a NAT: zero leaves it open (RFC 1928 §7).
    let any = Target::Addr(SocketAddr::from(([0, 0, 0, 0], 0)));
    ask(stream, Ask::Associate, &any).await
}

pub(super) fn no_datagrams() -> io::Error {
    let message = "the proxy carries no datagrams";
    io::Error::new(io::ErrorKind::Unsupported, message)
}

/// Agrees on a method of SOCKS5, and logs in.
async fn greet(stream: &mut TcpStream, login: Option<&Login>) -> Result<(), Refusal> {
    let method = if login.is_some() {
        WITH_LOGIN
    } else {
        NO_LOGIN
    };
    // Both are offered: a proxy that asks for no login may not know the other.
    let greeting: &[u8] = match login {
        Some(_) => &[VERSION, 2, NO_LOGIN, WITH_LOGIN],
        None => &[VERSION, 1, NO_LOGIN],
    };
    stream.write_all(greeting).await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    match (answer, login) {
        ([VERSION, NO_LOGIN], _) => Ok(()),
        ([VERSION, WITH_LOGIN], Some(login)) if method == WITH_LOGIN => log_in(stream, login).await,
        ([VERSION, _], Some(_)) => Err(Refusal::Proxy("wants another way to log in".to_owned())),
        ([VERSION, _], None) => Err(Refusal::Proxy("wants a login".to_owned())),
        _ => Err(Refusal::Proxy("does not speak SOCKS5".to_owned())),
    }
}

async fn log_in(stream: &mut TcpStream, login: &Login) -> Result<(), Refusal> {
    let mut message = vec![LOGIN_VERSION];
    for text in [login.user.as_str(), login.password.reveal()] {
        let len = u8::try_from(text.len())
            .map_err(|_| Refusal::Proxy("takes no login as long as this".to_owned()))?;
        message.push(len);
        message.extend(text.as_bytes());
    }
    stream.write_all(&message).await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    if answer[1] == 0 {
        return Ok(());
    }
    Err(Refusal::says("wrong user or password"))
}

/// Asks a SOCKS5 server for something. The port that it names in its answer.
async fn ask(stream: &mut TcpStream, what: Ask, target: &Target) -> Result<u16, Refusal> {
    let mut message = vec![VERSION, what as u8, 0];
    target.write_to(&mut message);
    stream.write_all(&message).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [version, reply, _, kind] = head;
    if version != VERSION {
        return Err(Refusal::Proxy("does not speak SOCKS5".to_owned()));
    }
    if reply != 0 {
        return Err(failure(reply));
    }
    let len = match kind {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await?),
        _ => return Err(Refusal::Proxy("does not speak SOCKS5".to_owned())),
    };
    let mut addr = [0; 255];
    stream.read_exact(&mut addr[..len]).await?;
    Ok(stream.read_u16().await?)
}

/// What a reply other than success says (RFC 1928 §6).
fn failure(reply: u8) -> Refusal {
    use io::ErrorKind as Kind;
    let (kind, text) = match reply {
        2 => return Refusal::says("not allowed by the rules"),
        3 => (Kind::NetworkUnreachable, "network unreachable"),
        4 => (Kind::HostUnreachable, "host unreachable"),
        5 => (Kind::ConnectionRefused, "connection refused"),
        6 => (Kind::TimedOut, "time to live expired"),
        7 => (Kind::Unsupported, "it does not support this"),
        8 => (
            Kind::NetworkUnreachable,
            "it does not support this kind of address",
        ),
        _ => (Kind::Other, "it failed"),
    };
    Refusal::Target(io::Error::new(kind, format!("proxy: {text}")))
}

async fn connect_by_http(
    stream: &mut TcpStream,
    login: Option<&Login>,
    target: &Target,
) -> Result<(), Refusal> {
    let login = login.map(|login| {
        let pair = format!("{}:{}", login.user, login.password.reveal());
        let pair = BASE64.encode(pair.as_bytes());
        format!("Proxy-Authorization: Basic {pair}\r\n")
    });
    let login = login.unwrap_or_default();
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_BYTES_MAX {
            return Err(Refusal::Proxy("does not end its answer".to_owned()));
        }
        head.push(stream.read_u8().await?);
    }
    match status(&head) {
        Some(200..=299) => Ok(()),
        Some(407) => Err(Refusal::Proxy("wants a login".to_owned())),
        // It has tried (RFC 9110 §15.6): the other end is not there, or does not answer.
        Some(status @ (502..=504)) => {
            let message = format!("proxy: HTTP status {status}");
            Err(Refusal::Target(io::Error::other(message)))
        }
        Some(status) => Err(Refusal::says(&format!("HTTP status {status}"))),
        None => Err(Refusal::Proxy("does not speak HTTP".to_owned())),
    }
}

/// The status in the head of an answer.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.strip_prefix(b"HTTP/1.")?;
    let digits = line.get(2..5)?;
    let digits = std::str::from_utf8(digits).ok()?;
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(target: &Target) -> Vec<u8> {
        let mut out = Vec::new();
        target.write_to(&mut out);
        out
    }

    #[test]
    fn targets_are_written_as_in_rfc_1928() {
        let addr = |text: &str| Target::Addr(text.parse().unwrap());
        assert_eq!(
            written(&addr("192.0.2.1:6881")),
            [1, 192, 0, 2, 1, 0x1a, 0xe1]
        );
        let v6 = written(&addr("[2001:db8::1]:80"));
        assert_eq!(
            (v6.len(), v6[0], &v6[1..5]),
            (19, 4, &[0x20, 1, 0x0d, 0xb8][..])
        );
        let name = Target::Name("t.example".to_owned(), 80);
        assert_eq!(written(&name), b"\x03\x09t.example\x00\x50");
    }

    #[test]
    fn only_success_is_success() {
        let check = |head: &[u8], expected| assert_eq!(status(head), expected);
        check(b"HTTP/1.1 200 Connection established\r\n\r\n", Some(200));
        check(
            b"HTTP/1.0 407 Proxy Authentication Required\r\n\r\n",
            Some(407),
        );
        check(b"HTTP/2 200\r\n\r\n", None);
        check(b"HTTP/1.1 +20\r\n\r\n", None);
        check(b"SSH-2.0\r\n\r\n", None);
        check(b"", None);
    }
}
