//! One connection, as its two tasks share it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use riverrun_base::Time;
use riverrun_utp::{ConnectionIds, Packet, UtpSocket};
use tokio::sync::Notify;

use super::port::UtpPort;
use crate::driver::udp::Sent;

/// Sends in one go: more comes with the next acknowledgement.
const SENDS_MAX: usize = 64;

/// A connection, its way out, and who waits for it.
#[derive(Debug)]
pub(crate) struct UtpLink {
    pub(crate) port: Arc<UtpPort>,
    pub(crate) peer: SocketAddr,
    pub(crate) ids: ConnectionIds,
    /// The address of ours that the peer dialled.
    from: Option<IpAddr>,
    state: Mutex<LinkState>,
    /// Told when there is something to do for the connection's task.
    changed: Notify,
}

#[derive(Debug)]
pub(crate) struct LinkState {
    pub(crate) socket: UtpSocket,
    waits: Waits,
    /// It is in the port's list of those that wait for room in the kernel.
    is_blocked: bool,
    /// It is in the port's list of those for which something has come.
    is_touched: bool,
    /// It is connected, and its task does not know yet.
    is_new: bool,
}

/// What the connection's task waits for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waits {
    /// To read.
    pub(crate) read: bool,
    /// To write.
    pub(crate) write: bool,
    /// The time at which it will look by itself.
    pub(crate) until: Option<Time>,
}

impl UtpLink {
    pub(crate) fn new(
        port: Arc<UtpPort>,
        peer: SocketAddr,
        from: Option<IpAddr>,
        socket: UtpSocket,
    ) -> Self {
        Self {
            port,
            peer,
            ids: socket.ids(),
            from,
            state: Mutex::new(LinkState {
                socket,
                waits: Waits::default(),
                is_blocked: false,
                is_touched: false,
                is_new: false,
            }),
            changed: Notify::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, LinkState> {
        // A panic elsewhere ends that connection's task; what is here stays whole enough to be closed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what the time has come for, then sleeps until it comes again, or the other task sees something that is
    /// waited for.
    pub(crate) async fn turn(self: &Arc<Self>, waits: Waits) {
        let clock = self.port.clock;
        let deadline = {
            let mut state = self.lock();
            state.socket.handle_timeout(clock.now());
            self.flush(&mut state);
            if state.socket.end().is_some() {
                return;
            }
            // What is due waits for room in the kernel too: until there is some, the time calls for nothing.
            let until = state.socket.poll_timeout().filter(|_| !state.is_blocked);
            state.waits = Waits { until, ..waits };
            until
        };
        tokio::select! {
            () = self.changed.notified() => {}
            () = clock.sleep_until(deadline) => {}
        }
    }

    /// Ends it at once.
    pub(crate) fn abort(self: &Arc<Self>) {
        let mut state = self.lock();
        state.socket.abort();
        self.flush(&mut state);
        drop(state);
        self.changed.notify_one();
    }

    /// Takes in packets. What they lead to is done when all that has come together was taken in, by [`Self::settle`];
    /// whether that is now to be called.
    pub(crate) fn handle_packets<'a>(&self, packets: impl Iterator<Item = Packet<'a>>) -> bool {
        let now = self.port.clock.now();
        let mut state = self.lock();
        let before = state.socket.is_connected();
        for packet in packets {
            state.socket.handle_packet(now, &packet);
        }
        state.is_new |= before != state.socket.is_connected();
        !std::mem::replace(&mut state.is_touched, true)
    }

    /// Sends what packets have set free, acknowledges them, and wakes the connection's task if it has something to do
    /// now.
    pub(crate) fn settle(self: &Arc<Self>) {
        let mut state = self.lock();
        state.is_touched = false;
        self.flush(&mut state);
        if std::mem::take(&mut state.is_new) || state.wakes() {
            drop(state);
            self.changed.notify_one();
        }
    }

    /// There is room in the kernel again.
    pub(crate) fn unblocked(self: &Arc<Self>) {
        let mut state = self.lock();
        state.is_blocked = false;
        self.flush(&mut state);
        if state.wakes() {
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Sends what may be sent now.
    pub(crate) fn flush(self: &Arc<Self>, state: &mut LinkState) {
        if state.is_blocked {
            return;
        }
        let segments_max = self.port.udp.segments_max();
        for _ in 0..SENDS_MAX {
            // Each send takes some microseconds, and its time goes on the wire.
            let now = self.port.clock.now();
            let Some(transmit) = state.socket.poll_transmit(now, segments_max) else {
                return;
            };
            match self.port.udp.try_send(self.peer, self.from, transmit) {
                Sent::Gone => state.socket.handle_transmitted(now),
                Sent::Later => {
                    state.is_blocked = true;
                    self.port.block(self.clone());
                    return;
                }
            }
        }
    }
}

impl LinkState {
    pub(crate) fn can_read(&self) -> bool {
        self.socket.readable_len() > 0 || self.socket.is_at_end() || self.socket.end().is_some()
    }

    pub(crate) fn can_write(&self) -> bool {
        self.socket.is_writable() || self.socket.end().is_some()
    }

    /// Whether the connection's task has something to do, as far as it waits at all.
    fn wakes(&self) -> bool {
        let Waits { read, write, until } = self.waits;
        let due = self.socket.poll_timeout().filter(|_| !self.is_blocked);
        let sooner = due.is_some_and(|at| until.is_none_or(|until| at < until));
        (read && self.can_read())
            || (write && self.can_write())
            || sooner
            || self.socket.end().is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use riverrun_utp::{ConnectionIds, UtpConfig};
    use tokio::io::Interest;
    use tokio::time::timeout;

    use super::*;
    use crate::driver::clock::Clock;
    use crate::driver::socket::Sockets;
    use crate::driver::udp::UdpPort;
    use crate::network::NetworkOptions;

    /// A connection that is about to dial.
    fn link() -> Arc<UtpLink> {
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let sockets = Sockets::new(&[here], NetworkOptions::default()).unwrap();
        let udp = Arc::new(UdpPort::new(sockets.datagrams(here).unwrap()).unwrap());
        let peer = udp.local_addr();
        let port = UtpPort::new(udp, Clock::start(), 1);
        let ids = ConnectionIds::dialling(1);
        let socket = UtpSocket::connect(port.clock.now(), UtpConfig::default(), peer, ids, 1);
        Arc::new(UtpLink::new(port, peer, None, socket))
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_kernel_is_full_what_is_due_is_waited_for_without_looking_again() {
        let link = link();
        link.port.udp.ready(Interest::WRITABLE).await.unwrap();
        link.lock().is_blocked = true;
        let minute = Duration::from_mins(1);
        let turn = timeout(minute, link.turn(Waits::default())).await;
        assert!(turn.is_err(), "its first packet is due, and cannot leave");
        link.unblocked();
        let turn = timeout(minute, link.turn(Waits::default())).await;
        assert!(turn.is_ok(), "its timers go on");
    }
}
