//! What a connection sends: datagrams of one size, given to the kernel at once where it cuts them itself (GSO).
//!
//! On Linux they go by a call of our own. `quinn_udp` states the class of traffic with each of them, and so overrides the
//! mark that the user wants on the socket; and what IPv6 may take apart has to be said with the datagram itself, for the
//! socket was told otherwise. Elsewhere `quinn_udp` sends, and nothing is marked or taken apart.

use std::net::{IpAddr, SocketAddr};

/// What is sent, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parcel<'a> {
    pub(super) to: SocketAddr,
    /// From which address of ours, if that matters.
    pub(super) from: Option<IpAddr>,
    pub(super) bytes: &'a [u8],
    /// How long each datagram is, if there are several; the last may be shorter.
    pub(super) segment_len: Option<usize>,
    /// It is one that may be taken apart; see [`Fragments`](super::fragments::Fragments).
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "not done there"))]
    pub(super) may_fragment: bool,
}

#[cfg(target_os = "linux")]
pub(super) use self::linux::Sender;

#[cfg(not(target_os = "linux"))]
pub(super) use self::elsewhere::Sender;

#[cfg(target_os = "linux")]
mod linux {
    use std::io::{self, IoSlice};
    use std::net::IpAddr;
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use quinn_udp::UdpSocketState;
    use socket2::{MsgHdr, SockAddr, SockRef};

    use super::Parcel;

    /// Sends by one socket.
    #[derive(Debug)]
    pub(in super::super) struct Sender {
        segments_max: AtomicUsize,
    }

    impl Sender {
        pub(in super::super) fn new(state: &UdpSocketState) -> Self {
            Self {
                segments_max: AtomicUsize::new(state.max_gso_segments()),
            }
        }

        /// How many datagrams may be sent at once.
        pub(in super::super) fn segments_max(&self, _: &UdpSocketState) -> usize {
            self.segments_max.load(Ordering::Relaxed)
        }

        /// Sends, if the kernel has room.
        pub(in super::super) fn send(
            &self,
            _: &UdpSocketState,
            socket: &impl AsFd,
            parcel: &Parcel<'_>,
        ) -> io::Result<()> {
            let socket = SockRef::from(socket);
            let to = SockAddr::from(parcel.to);
            let sent = send(&socket, &to, parcel);
            match (parcel.segment_len, sent) {
                (Some(len), Err(error)) if is_about_segments(&error) => {
                    self.send_one_by_one(&socket, &to, (parcel, len))
                }
                (_, sent) => sent,
            }
        }

        /// The kernel does not cut these. The interface may have become narrower than they are, and then each is too large
        /// by itself as well; else its driver, or a rule on the way, does not take them together, and never will.
        fn send_one_by_one(
            &self,
            socket: &SockRef<'_>,
            to: &SockAddr,
            (parcel, len): (&Parcel<'_>, usize),
        ) -> io::Result<()> {
            let single = |bytes| Parcel {
                bytes,
                segment_len: None,
                ..*parcel
            };
            let mut datagrams = parcel.bytes.chunks(len);
            let first = datagrams.next().unwrap_or_default();
            send(socket, to, &single(first))?;
            if self.segments_max.swap(1, Ordering::Relaxed) > 1 {
                tracing::info!("datagrams cannot be sent many at once, and go one by one");
            }
            for bytes in datagrams {
                // What has no room is lost, as on any other narrow way.
                let _ = send(socket, to, &single(bytes));
            }
            Ok(())
        }
    }

    /// EINVAL: longer than the interface carries, or there is no such thing; EIO: the interface leaves checksums to us.
    fn is_about_segments(error: &io::Error) -> bool {
        matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO))
    }

    fn send(socket: &SockRef<'_>, to: &SockAddr, parcel: &Parcel<'_>) -> io::Result<()> {
        let (buffers, control) = ([IoSlice::new(parcel.bytes)], Control::of(parcel));
        let mut message = MsgHdr::new().with_addr(to).with_buffers(&buffers);
        if !control.bytes().is_empty() {
            message = message.with_control(control.bytes());
        }
        loop {
            match socket.sendmsg(&message, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return sent.map(drop),
            }
        }
    }

    /// What goes with a datagram besides its bytes: messages as in `cmsg(3)`, each a header (its length, as wide as an
    /// address; a level; a type) and a value, and both filled up to that width.
    #[derive(Debug)]
    struct Control {
        bytes: [u8; CONTROL_BYTES_MAX],
        len: usize,
    }

    const WORD: usize = size_of::<usize>();
    const HEAD_BYTES: usize = WORD + 2 * size_of::<libc::c_int>();

    /// As many as there are: an address of IPv6 with its interface, the length of segments, one flag.
    const CONTROL_BYTES_MAX: usize = 3 * HEAD_BYTES + 24 + 2 * 8;

    impl Control {
        fn of(parcel: &Parcel<'_>) -> Self {
            let mut control = Self {
                bytes: [0; CONTROL_BYTES_MAX],
                len: 0,
            };
            match parcel.from {
                // `in_pktinfo`: an interface, none; the source; and what only matters to who receives.
                Some(IpAddr::V4(ip)) => {
                    let mut value = [0; 12];
                    value[4..8].copy_from_slice(&ip.octets());
                    control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &value);
                }
                // `in6_pktinfo`: the source, and an interface, none.
                Some(IpAddr::V6(ip)) => {
                    let mut value = [0; 20];
                    value[..16].copy_from_slice(&ip.octets());
                    control.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &value);
                }
                None => {}
            }
            if let Some(len) = parcel.segment_len {
                // No datagram is longer.
                let len = u16::try_from(len).unwrap_or(u16::MAX);
                control.push(libc::SOL_UDP, libc::UDP_SEGMENT, &len.to_ne_bytes());
            }
            if parcel.may_fragment && parcel.to.is_ipv6() {
                let no: libc::c_int = 0;
                control.push(libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, &no.to_ne_bytes());
            }
            control
        }

        fn push(&mut self, level: libc::c_int, kind: libc::c_int, value: &[u8]) {
            let len = HEAD_BYTES + value.len();
            let message = &mut self.bytes[self.len..][..len];
            let (head, tail) = message.split_at_mut(HEAD_BYTES);
            head[..WORD].copy_from_slice(&len.to_ne_bytes());
            head[WORD..][..4].copy_from_slice(&level.to_ne_bytes());
            head[WORD + 4..].copy_from_slice(&kind.to_ne_bytes());
            tail.copy_from_slice(value);
            self.len += len.next_multiple_of(WORD);
        }

        fn bytes(&self) -> &[u8] {
            &self.bytes[..self.len]
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::io;

    use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
    use tokio::net::UdpSocket;

    use super::Parcel;

    /// Sends by one socket.
    #[derive(Debug)]
    pub(in super::super) struct Sender;

    #[expect(clippy::unused_self, reason = "they are the same calls everywhere")]
    impl Sender {
        pub(in super::super) const fn new(_: &UdpSocketState) -> Self {
            Self
        }

        /// How many datagrams may be sent at once.
        pub(in super::super) fn segments_max(&self, state: &UdpSocketState) -> usize {
            state.max_gso_segments()
        }

        /// Sends, if the system has room.
        pub(in super::super) fn send(
            &self,
            state: &UdpSocketState,
            socket: &UdpSocket,
            parcel: &Parcel<'_>,
        ) -> io::Result<()> {
            let transmit = Transmit {
                destination: parcel.to,
                ecn: None,
                contents: parcel.bytes,
                segment_size: parcel.segment_len,
                src_ip: parcel.from,
            };
            state.send(UdpSockRef::from(socket), &transmit)
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::Ipv4Addr;

    use quinn_udp::{UdpSockRef, UdpSocketState};
    use tokio::net::UdpSocket;

    use super::*;
    use crate::driver::socket::Sockets;
    use crate::network::NetworkOptions;

    fn socket(ip: Ipv4Addr) -> UdpSocket {
        let sockets = Sockets::new(&[], NetworkOptions::default()).unwrap();
        sockets.datagrams(SocketAddr::from((ip, 0))).unwrap()
    }

    async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 1500];
        let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
        (buffer[..len].to_vec(), from)
    }

    #[tokio::test]
    async fn datagrams_leave_from_the_address_that_is_wanted_and_cut_as_they_should_be() {
        let (receiver, socket) = (socket(Ipv4Addr::LOCALHOST), socket(Ipv4Addr::UNSPECIFIED));
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).unwrap();
        let sender = Sender::new(&state);
        let from = Ipv4Addr::new(127, 0, 0, 5);
        let parcel = Parcel {
            to: receiver.local_addr().unwrap(),
            from: Some(from.into()),
            bytes: &[7; 250],
            segment_len: Some(100),
            may_fragment: false,
        };
        sender.send(&state, &socket, &parcel).unwrap();
        for len in [100, 100, 50] {
            let (bytes, by) = receive(&receiver).await;
            assert_eq!((bytes.len(), by.ip()), (len, from.into()));
        }
    }

    #[tokio::test]
    async fn what_the_kernel_does_not_cut_goes_one_by_one_from_then_on() {
        let (receiver, socket) = (socket(Ipv4Addr::LOCALHOST), socket(Ipv4Addr::LOCALHOST));
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).unwrap();
        let sender = Sender::new(&state);
        assert!(sender.segments_max(&state) > 1);
        // More than any kernel cuts at once (`UDP_MAX_SEGMENTS`): it refuses in the words of one that cuts nothing.
        let bytes: Vec<u8> = (0..200).collect();
        let parcel = Parcel {
            to: receiver.local_addr().unwrap(),
            from: None,
            bytes: &bytes,
            segment_len: Some(1),
            may_fragment: false,
        };
        sender.send(&state, &socket, &parcel).unwrap();
        assert_eq!(sender.segments_max(&state), 1);
        for byte in bytes {
            assert_eq!(receive(&receiver).await.0, [byte]);
        }
    }
}
