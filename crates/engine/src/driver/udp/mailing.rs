//! Datagrams to many that leave together.

use std::net::SocketAddr;

use tokio::net::UdpSocket;

/// Sends each of them now or not at all.
#[cfg(target_os = "linux")]
pub(super) fn send(socket: &UdpSocket, datagrams: &[(SocketAddr, &[u8])]) {
    use std::io::ErrorKind;

    use tokio::io::Interest;

    let mut rest = datagrams;
    while !rest.is_empty() {
        match socket.try_io(Interest::WRITABLE, || in_one_call(socket, rest)) {
            Ok(count) => rest = &rest[count.max(1)..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // It was about the first of them: others may be sent.
            Err(_) => rest = &rest[1..],
        }
    }
}

/// How many the kernel is given at once.
#[cfg(target_os = "linux")]
const PER_CALL: usize = 32;

/// Sends the first of them, and says how many.
#[cfg(target_os = "linux")]
fn in_one_call(socket: &UdpSocket, datagrams: &[(SocketAddr, &[u8])]) -> std::io::Result<usize> {
    use std::io::IoSlice;
    use std::iter;

    use rustix::net::addr::SocketAddrArg as _;
    use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

    let datagrams = &datagrams[..datagrams.len().min(PER_CALL)];
    let receivers: Vec<_> = datagrams.iter().map(|(to, _)| to.as_any()).collect();
    let slices: Vec<_> = datagrams
        .iter()
        .map(|(_, bytes)| [IoSlice::new(bytes)])
        .collect();
    let mut controls: Vec<_> = iter::repeat_with(SendAncillaryBuffer::default)
        .take(datagrams.len())
        .collect();
    let mut messages: Vec<_> = receivers
        .iter()
        .zip(&slices)
        .zip(&mut controls)
        .map(|((to, slice), control)| MMsgHdr::new_with_addr(to, slice, control))
        .collect();
    Ok(sendmmsg(socket, &mut messages, SendFlags::empty())?)
}

/// Sends each of them now or not at all.
#[cfg(not(target_os = "linux"))]
pub(super) fn send(socket: &UdpSocket, datagrams: &[(SocketAddr, &[u8])]) {
    for (to, bytes) in datagrams {
        // To who waits for an answer, one that the kernel has no room for is a lost one like any other.
        let _ = socket.try_send_to(bytes, *to);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::driver::socket::Sockets;
    use crate::network::NetworkOptions;

    #[tokio::test]
    async fn one_that_cannot_be_sent_holds_up_no_other() {
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let sockets = Sockets::new(&[here], NetworkOptions::default()).unwrap();
        let sender = sockets.datagrams(here).unwrap();
        let receivers = [here, here].map(|addr| sockets.datagrams(addr).unwrap());
        // More than one call takes; nobody can be reached at port 0.
        let letters: Vec<[u8; 1]> = (0..100).map(|number| [number]).collect();
        let to = |at: usize| match at % 5 {
            4 => here,
            turn => receivers[turn % 2].local_addr().unwrap(),
        };
        let datagrams: Vec<_> = letters
            .iter()
            .enumerate()
            .map(|(at, bytes)| (to(at), &bytes[..]))
            .collect();
        sender.writable().await.unwrap();
        send(&sender, &datagrams);
        let mut arrived = BTreeSet::new();
        for (receiver, count) in receivers.iter().zip([40, 40]) {
            for _ in 0..count {
                let mut bytes = [0; 2];
                assert_eq!(receiver.recv(&mut bytes).await.unwrap(), 1);
                arrived.insert(bytes[0]);
            }
        }
        let expected = (0..100).filter(|number| number % 5 != 4);
        assert_eq!(arrived, expected.collect());
    }
}
