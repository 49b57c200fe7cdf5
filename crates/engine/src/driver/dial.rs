//! Dialling: TCP, uTP, or both against each other.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use riverrun_peer::DialFailure;
use riverrun_swarm::Transport;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::socket::{ProxyFailure, Sockets};
use super::stream::PeerStream;
use super::utp::UtpPorts;
use crate::transports::Transports;

/// How long a dial may take. Live peers answer within a second or three; dead ones never.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// What the first has before the second begins: most of the round trips in the world.
const HEAD_START: Duration = Duration::from_millis(150);

/// A uTP dial in a race takes no longer than three `SYN`s need, of which each is answered by whoever is there.
const UTP_RACE_TIMEOUT: Duration = Duration::from_secs(4);

/// What dials.
#[derive(Clone, Debug)]
pub(crate) struct Dialler {
    pub(crate) sockets: Sockets,
    pub(crate) utp: UtpPorts,
    /// What is used if a torrent does not say otherwise, and the most that is.
    pub(crate) transports: Transports,
}

impl Dialler {
    /// Connects to a peer. In a race the loser is dropped before a word was said.
    pub(crate) async fn dial(
        &self,
        addr: SocketAddr,
        wanted: Option<Transports>,
    ) -> io::Result<PeerStream> {
        let transports = self.transports(addr, wanted);
        let dial = async {
            match transports {
                Transports::TcpOnly => self.tcp(addr).await,
                Transports::UtpOnly => self.utp(addr).await,
                Transports::TcpFirst => race(self.tcp(addr), self.utp_in_race(addr)).await,
                Transports::UtpFirst => race(self.utp_in_race(addr), self.tcp(addr)).await,
            }
        };
        timeout(DIAL_TIMEOUT, dial).await.unwrap_or_else(late)
    }

    fn transports(&self, addr: SocketAddr, wanted: Option<Transports>) -> Transports {
        let transports = wanted.unwrap_or(self.transports);
        transports.within(self.transports, self.utp.reach(addr))
    }

    /// What is left to try with a peer that took a connection over `used`, and did not say a word.
    pub(crate) fn other_way(
        &self,
        addr: SocketAddr,
        wanted: Option<Transports>,
        used: Transport,
    ) -> Option<OtherWay> {
        let transports = self.transports(addr, wanted);
        if !(transports.has_tcp() && transports.has_utp()) {
            return None;
        }
        Some(OtherWay {
            dialler: self.clone(),
            addr,
            transport: match used {
                Transport::Tcp => Transport::Utp,
                Transport::Utp => Transport::Tcp,
            },
        })
    }

    async fn tcp(&self, addr: SocketAddr) -> io::Result<PeerStream> {
        self.sockets.dial(addr).await.map(PeerStream::Tcp)
    }

    async fn utp(&self, addr: SocketAddr) -> io::Result<PeerStream> {
        self.utp.dial(addr).await.map(PeerStream::Utp)
    }

    async fn utp_in_race(&self, addr: SocketAddr) -> io::Result<PeerStream> {
        let dial = timeout(UTP_RACE_TIMEOUT, self.utp(addr));
        dial.await.unwrap_or_else(late)
    }
}

/// The transport that lost the race, or was not needed: somebody may be reached by it although whoever answers over the
/// other one says nothing, such as a router that takes all connections for those behind it.
#[derive(Clone, Debug)]
pub(crate) struct OtherWay {
    dialler: Dialler,
    addr: SocketAddr,
    transport: Transport,
}

impl OtherWay {
    pub(crate) async fn dial(self) -> io::Result<PeerStream> {
        match self.transport {
            Transport::Tcp => {
                let dial = timeout(DIAL_TIMEOUT, self.dialler.tcp(self.addr));
                dial.await.unwrap_or_else(late)
            }
            Transport::Utp => self.dialler.utp_in_race(self.addr).await,
        }
    }
}

/// A failed dial in the words of decisions.
pub(crate) fn failure(error: &io::Error) -> DialFailure {
    use io::ErrorKind as Kind;
    if error
        .get_ref()
        .is_some_and(<dyn Error + Send + Sync>::is::<ProxyFailure>)
    {
        return DialFailure::Proxy(error.to_string());
    }
    match error.kind() {
        Kind::ConnectionRefused | Kind::ConnectionReset => DialFailure::Refused,
        Kind::TimedOut => DialFailure::NoAnswer,
        Kind::NetworkUnreachable | Kind::HostUnreachable | Kind::AddrNotAvailable => {
            DialFailure::NoWay
        }
        _ => DialFailure::Other(error.to_string()),
    }
}

/// Which of two reasons says more: silence says least.
fn telling(first: io::Error, second: io::Error) -> io::Error {
    match first.kind() {
        io::ErrorKind::TimedOut => second,
        _ => first,
    }
}

fn late(_: Elapsed) -> io::Result<PeerStream> {
    Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"))
}

/// The first to succeed. The second begins after the head start, or when the first has failed. If both fail, the
/// error is the first's, unless that is silence.
async fn race<T>(
    first: impl Future<Output = io::Result<T>>,
    second: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let mut first = pin!(first);
    tokio::select! {
        biased;
        result = &mut first => {
            return match result {
                Ok(stream) => Ok(stream),
                Err(error) => second.await.map_err(|other| telling(error, other)),
            };
        }
        () = tokio::time::sleep(HEAD_START) => {}
    }
    let mut second = pin!(second);
    tokio::select! {
        biased;
        result = &mut first => match result {
            Ok(stream) => Ok(stream),
            Err(error) => second.await.map_err(|other| telling(error, other)),
        },
        result = &mut second => match result {
            Ok(stream) => Ok(stream),
            Err(other) => first.await.map_err(|error| telling(error, other)),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn failure(text: &str) -> io::Result<u8> {
        Err(io::Error::other(text))
    }

    async fn after(millis: u64, result: io::Result<u8>) -> io::Result<u8> {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        result
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_to_succeed_wins_and_the_second_starts_late() {
        let start = tokio::time::Instant::now();
        let took = || start.elapsed().as_millis();
        assert_eq!(race(after(100, Ok(1)), ready(Ok(2))).await.unwrap(), 1);
        assert_eq!(took(), 100);
        assert_eq!(race(pending(), after(20, Ok(2))).await.unwrap(), 2);
        assert_eq!(took(), 270);
        assert_eq!(race(after(160, Ok(1)), after(20, Ok(2))).await.unwrap(), 1);
        // One that fails leaves the race to the other, at once.
        assert_eq!(
            race(after(5, failure("a")), after(5, Ok(2))).await.unwrap(),
            2
        );
        assert_eq!(took(), 440);
        assert_eq!(
            race(after(200, Ok(1)), ready(failure("b"))).await.unwrap(),
            1
        );
        let both = race(after(200, failure("a")), ready(failure("b"))).await;
        assert_eq!(both.unwrap_err().to_string(), "a");
    }

    #[tokio::test(start_paused = true)]
    async fn the_failure_of_both_is_the_one_that_says_more() {
        let silence = || io::Error::from(io::ErrorKind::TimedOut);
        let check = async |first: (u64, io::Error), second: (u64, io::Error), expect| {
            let (first, second) = (after(first.0, Err(first.1)), after(second.0, Err(second.1)));
            let failed = race(first, second).await.unwrap_err();
            assert_eq!(super::failure(&failed), expect);
        };
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        for wait in [5, 200, 500] {
            check((wait, silence()), (200, refused()), DialFailure::Refused).await;
            check((wait, refused()), (200, silence()), DialFailure::Refused).await;
            check((wait, silence()), (200, silence()), DialFailure::NoAnswer).await;
        }
    }
}
