//! A connection as its task sees it: a stream of bytes.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use riverrun_utp::UtpEnd;
use tokio::io::Interest;

use super::link::{UtpLink, Waits};
use crate::driver::stream::StreamReady;

/// How long a connection that was let go may take to deliver what was written and to take its leave.
const LINGER: Duration = Duration::from_secs(10);

/// A connection. To let it go closes it: what was written is still delivered.
#[derive(Debug)]
pub(crate) struct UtpStream {
    link: Arc<UtpLink>,
}

impl UtpStream {
    pub(super) const fn new(link: Arc<UtpLink>) -> Self {
        Self { link }
    }

    /// Who is at the other end.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.link.peer
    }

    /// Waits until the peer has answered, or proved to hear us.
    pub(super) async fn connected(&self) -> io::Result<()> {
        loop {
            {
                let state = self.link.lock();
                if let Some(end) = state.socket.end() {
                    return Err(to_error(end));
                }
                if state.socket.is_connected() {
                    return Ok(());
                }
            }
            self.link.turn(Waits::default()).await;
        }
    }

    /// Waits until it can be read or written, whichever is wanted; for ever if neither is, with its timers going.
    pub(crate) async fn ready(&self, interest: Option<Interest>) -> StreamReady {
        let waits = Waits {
            read: interest.is_some_and(Interest::is_readable),
            write: interest.is_some_and(Interest::is_writable),
            until: None,
        };
        loop {
            {
                let state = self.link.lock();
                let ready = StreamReady {
                    read: waits.read && state.can_read(),
                    write: waits.write && state.can_write(),
                };
                if ready.read || ready.write {
                    return ready;
                }
            }
            self.link.turn(waits).await;
        }
    }

    /// Reads what there is, or some of it, into a buffer that is empty.
    pub(crate) fn try_read(&self, empty: &mut Vec<u8>) -> io::Result<usize> {
        let mut state = self.link.lock();
        *empty = state.socket.take_readable(std::mem::take(empty));
        if !empty.is_empty() {
            // The window may have opened again.
            self.link.flush(&mut state);
            return Ok(empty.len());
        }
        if state.socket.is_at_end() {
            return Ok(0);
        }
        match state.socket.end() {
            Some(UtpEnd::Finished) => Ok(0),
            Some(end) => Err(to_error(end)),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes what there is room for, and sends what may leave.
    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.link.lock();
        if let Some(end) = state.socket.end() {
            return Err(to_error(end));
        }
        if !state.socket.is_writable() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let now = self.link.port.clock.now();
        let mut written = 0;
        for slice in slices {
            let count = state.socket.write(now, slice);
            written += count;
            if count < slice.len() {
                break;
            }
        }
        self.link.flush(&mut state);
        Ok(written)
    }
}

impl Drop for UtpStream {
    fn drop(&mut self) {
        let is_over = {
            let mut state = self.link.lock();
            let now = self.link.port.clock.now();
            state.socket.close(now);
            self.link.flush(&mut state);
            state.socket.end().is_some()
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !is_over => {
                runtime.spawn(linger(self.link.clone()));
            }
            _ => leave(&self.link),
        }
    }
}

/// Stays until the peer has everything, or for a while.
async fn linger(link: Arc<UtpLink>) {
    let everything = Waits {
        read: true,
        ..Waits::default()
    };
    let delivered = async {
        loop {
            {
                let mut state = link.lock();
                if state.socket.end().is_some() {
                    return;
                }
                // Nobody reads any more; the peer must not wait for it.
                let unread = state.socket.readable().len();
                state.socket.consume(unread);
            }
            link.turn(everything).await;
        }
    };
    tokio::select! {
        () = delivered => {}
        () = tokio::time::sleep(LINGER) => {}
        () = link.port.stopped() => {}
    }
    leave(&link);
}

/// Ends a connection, at once if it has not ended yet.
fn leave(link: &Arc<UtpLink>) {
    link.abort();
    link.port.forget(link);
}

fn to_error(end: UtpEnd) -> io::Error {
    let kind = match end {
        UtpEnd::TimedOut => io::ErrorKind::TimedOut,
        UtpEnd::Reset => io::ErrorKind::ConnectionReset,
        UtpEnd::AckOfUnsent => io::ErrorKind::InvalidData,
        _ => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, end)
}
