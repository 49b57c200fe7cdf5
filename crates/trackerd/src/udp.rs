//! One UDP socket.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::service::Service;

/// The longest datagram that is read in full; an announce with the longest URL has 1,132 bytes, a scrape of
/// as many torrents as may be 1,496.
const DATAGRAM_LEN_MAX: usize = 2048;
/// How long to wait after an error of the socket itself, so that one that stays does not take a processor.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Answers datagrams until the tracker stops.
pub(crate) async fn serve(
    socket: UdpSocket,
    service: Arc<Service>,
    mut stopping: watch::Receiver<()>,
) {
    let (mut datagram, mut answer) = ([0; DATAGRAM_LEN_MAX], Vec::new());
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut datagram) => received,
            _ = stopping.changed() => return,
        };
        match received {
            Ok((len, from)) => {
                service.datagram(from, &datagram[..len], &mut answer);
                // If there is no room to send, the answer is lost, as any datagram may be.
                if !answer.is_empty()
                    && let Err(error) = socket.try_send_to(&answer, from)
                {
                    tracing::debug!(%from, %error, "an answer could not be sent");
                }
            }
            Err(error) => {
                // Some systems report here that an earlier answer did not arrive.
                tracing::debug!(%error, "receiving from a udp socket");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
}
