//! What carries a connection, TCP or uTP, with one face.

use std::io::{self, IoSlice};

use riverrun_swarm::Transport;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::utp::UtpStream;

/// How much is read from a socket at once: four blocks, so that a fast peer costs few system calls.
const READ_BYTES: usize = 64 * 1024;

/// Which of both can be done now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamReady {
    /// To read, be it the end.
    pub(crate) read: bool,
    /// To write, be it to learn that nobody listens.
    pub(crate) write: bool,
}

/// A stream of bytes to a peer.
#[derive(Debug)]
pub(crate) enum PeerStream {
    Tcp(TcpStream),
    Utp(UtpStream),
}

impl PeerStream {
    pub(crate) const fn transport(&self) -> Transport {
        match self {
            Self::Tcp(_) => Transport::Tcp,
            Self::Utp(_) => Transport::Utp,
        }
    }

    /// Small messages must not wait for an acknowledgement of the last.
    pub(crate) fn set_nodelay(&self) {
        if let Self::Tcp(stream) = self {
            // Failure only costs time.
            let _ = stream.set_nodelay(true);
        }
    }

    /// Lets about so many bytes wait in the kernel for their turn on the line, where it can be told so: what is there can be
    /// neither taken back nor overtaken.
    pub(crate) fn set_waiting_max(&self, bytes: usize) {
        #[cfg(target_os = "linux")]
        if let Self::Tcp(stream) = self {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            // Failure only costs time.
            let _ = SockRef::from(stream).set_tcp_notsent_lowat(bytes);
        }
    }

    /// Waits until it can be read or written, whichever is wanted; for ever if neither is.
    pub(crate) async fn ready(&self, interest: Option<Interest>) -> io::Result<StreamReady> {
        match (self, interest) {
            (Self::Tcp(stream), Some(interest)) => {
                let ready = stream.ready(interest).await?;
                Ok(StreamReady {
                    read: ready.is_readable() || ready.is_read_closed(),
                    write: ready.is_writable() || ready.is_write_closed(),
                })
            }
            (Self::Tcp(_), None) => std::future::pending().await,
            (Self::Utp(stream), interest) => Ok(stream.ready(interest).await),
        }
    }

    /// Reads what there is into a buffer that is empty, and keeps its memory in use.
    pub(crate) fn try_read(&self, empty: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => {
                empty.reserve_exact(READ_BYTES);
                let mut read = Err(io::ErrorKind::WouldBlock.into());
                // What does not fill the buffer was all there is: said to tokio as if it had been asked for more, so
                // that nobody asks. The next bytes are told by the kernel anew.
                let _ = stream.try_io(Interest::READABLE, || {
                    read = stream.try_read_buf(empty);
                    match &read {
                        Ok(count) if (1..READ_BYTES).contains(count) => {
                            Err(io::Error::from(io::ErrorKind::WouldBlock))
                        }
                        _ => Ok(()),
                    }
                });
                read
            }
            Self::Utp(stream) => stream.try_read(empty),
        }
    }

    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(slices),
            Self::Utp(stream) => stream.try_write_vectored(slices),
        }
    }
}
