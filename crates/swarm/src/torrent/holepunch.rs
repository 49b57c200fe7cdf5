//! Meeting peers that cannot be dialled, through one that both are connected to (BEP 55).

use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::Nearness;
use riverrun_peer::{Holepunch, HolepunchError, PeerCommand};

use super::peers::Peer;
use super::{Cx, Torrent};
use crate::candidates::is_dialable;
use crate::input::{PeerSource, Transport};
use crate::key::ConnKey;

/// A peer that asks for meetings, or is told of them, more often than this is not heard.
const INTERVAL: Duration = Duration::from_secs(10);

impl Torrent {
    /// A peer says something about a meeting.
    pub(super) fn holepunch_came(&mut self, cx: &mut Cx<'_>, conn: ConnKey, message: Holepunch) {
        let is_welcome = PeerSource::Exchange.may_serve(self.is_private());
        let Some(peer) = self
            .peers
            .get_mut(conn)
            .filter(|peer| is_welcome && can_meet(peer))
        else {
            return;
        };
        if matches!(message, Holepunch::Error(..)) || cx.now < peer.meets_after {
            return;
        }
        peer.meets_after = cx.now + INTERVAL;
        match message {
            Holepunch::Rendezvous(target) => self.arrange_meeting(cx, conn, target),
            Holepunch::Connect(addr) => self.meet(cx, conn, addr),
            Holepunch::Error(..) => {}
        }
    }

    /// A peer wants to meet another one: both are told, if both are ours.
    fn arrange_meeting(&mut self, cx: &mut Cx<'_>, conn: ConnKey, target: SocketAddr) {
        let Some(asker) = self.peers.get(conn) else {
            return;
        };
        let refuse = |cx: &mut Cx<'_>, error| {
            let message = Holepunch::Error(target, error);
            cx.tell(conn, PeerCommand::Holepunch(message));
        };
        let own = cx.shared.own;
        if own.external_ip == Some(target.ip()) && own.listen_port == target.port() {
            return refuse(cx, HolepunchError::NoSelf);
        }
        // Who is not of our surroundings is not sent there.
        let near = Nearness::is_local(asker.addr.ip());
        if !is_dialable(target, PeerSource::Exchange, own, near) {
            return refuse(cx, HolepunchError::NoSuchPeer);
        }
        let is_meant = |peer: &&Peer| peer.conn != conn && meeting_point(peer) == Some(target);
        let Some(other) = self.peers.ready().find(is_meant) else {
            return refuse(cx, HolepunchError::NotConnected);
        };
        if !can_meet(other) {
            return refuse(cx, HolepunchError::NoSupport);
        }
        // Who cannot be found cannot be met.
        let Some(from) = meeting_point(asker) else {
            return;
        };
        let other = other.conn;
        cx.tell(other, PeerCommand::Holepunch(Holepunch::Connect(from)));
        cx.tell(conn, PeerCommand::Holepunch(Holepunch::Connect(target)));
    }

    /// A peer has arranged for us to meet another one, which dials us at this moment.
    fn meet(&mut self, cx: &mut Cx<'_>, conn: ConnKey, addr: SocketAddr) {
        let Some(relay) = self.peers.get(conn) else {
            return;
        };
        let (source, own) = (PeerSource::Exchange, cx.shared.own);
        let is_known = self.peers.iter().any(|peer| peer.addr == addr);
        let near = Nearness::is_local(relay.addr.ip());
        if is_known || !is_dialable(addr, source, own, near) || !self.may_dial(cx) {
            return;
        }
        self.candidates.add(addr, source, own, &mut self.rng);
        if self.candidates.take(cx.now, addr) {
            cx.shared.dials.take(cx.now, 1);
            self.dial_one(cx, addr, source);
        }
    }

    /// A peer could not be reached: perhaps it can be met, through whoever has named it. Tried once.
    pub(super) fn ask_for_meeting(&mut self, cx: &mut Cx<'_>, addr: SocketAddr) {
        let Some(relay) = self.exchanger.who_can_introduce(addr) else {
            return;
        };
        if self.peers.get(relay).is_some_and(can_meet) {
            let message = Holepunch::Rendezvous(addr);
            cx.tell(relay, PeerCommand::Holepunch(message));
        }
    }
}

/// Where others have to dial to meet a peer: what it came from over uTP, since what listens has the same port there;
/// else where it says that it listens.
pub(super) fn meeting_point(peer: &Peer) -> Option<SocketAddr> {
    if peer.transport == Some(Transport::Utp) {
        return Some(peer.addr);
    }
    peer.listen_addr()
}

/// Whether a peer can be met through others, and can have others meet.
pub(super) fn can_meet(peer: &Peer) -> bool {
    let hello = peer.hello.as_ref();
    hello.is_some_and(|hello| hello.features.holepunch)
}
