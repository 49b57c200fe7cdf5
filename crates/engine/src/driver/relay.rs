//! Whether a proxy relays datagrams for us, and when it is asked to.

use std::io;
use std::time::Duration;

use super::socket::{RelayEnd, Sockets};

/// How long a proxy has to make ready for datagrams.
const RELAY_TIMEOUT: Duration = Duration::from_secs(10);

/// A proxy that relays no datagrams, or no more, is asked again after this; then after twice as long each time.
const RELAY_RETRY: Duration = Duration::from_secs(2);

/// It is asked this often at least: it may have been restarted.
const RELAY_RETRY_MAX: Duration = Duration::from_mins(5);

/// The way for datagrams through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelayState {
    /// There is to be none.
    Unwanted,
    /// It is to be asked for, after a while.
    Wanted(Duration),
    /// It is there.
    Open,
}

impl RelayState {
    /// To be asked for at once.
    pub(crate) const WANTED: Self = Self::Wanted(Duration::ZERO);

    /// It was there, and is no more.
    pub(crate) const LOST: Self = Self::Wanted(RELAY_RETRY);

    /// It was asked for in vain.
    pub(crate) fn failed(self) -> Self {
        let waited = match self {
            Self::Wanted(wait) => wait,
            Self::Unwanted | Self::Open => Duration::ZERO,
        };
        Self::Wanted((waited * 2).clamp(RELAY_RETRY, RELAY_RETRY_MAX))
    }

    /// Asks the proxy for a relay, when it is time to; else waits for ever.
    pub(crate) async fn ask(self, sockets: &Sockets) -> io::Result<RelayEnd> {
        let Self::Wanted(wait) = self else {
            return std::future::pending().await;
        };
        tokio::time::sleep(wait).await;
        tokio::time::timeout(RELAY_TIMEOUT, sockets.relay())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}
