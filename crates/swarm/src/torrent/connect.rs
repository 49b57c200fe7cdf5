//! Whom to dial, whom to let in, and whom to let go.

use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::{Bitfield, InfoHash, Nearness, Time};
use riverrun_peer::{
    Attach, CloseReason, DialFailure, EncryptionPolicy, PeerCommand, PeerHello, PeerMisbehaved,
};

use super::peers::Peer;
use super::{Cx, Torrent};
use crate::bans::Culprit;
use crate::candidates::{DialEnd, Miss, is_dialable};
use crate::external_ip::Witness;
use crate::input::{PeerSource, Transport};
use crate::key::ConnKey;
use crate::outbox::{Event, NetAction};
use crate::shared::Conn;

/// How many addresses of one list are taken: as many as a tracker may send.
const FOUND_MAX: usize = 1000;
/// A connection on which nothing is wanted may be replaced after this long.
const IDLE_MIN: Duration = Duration::from_secs(30);
/// How long to wait if all torrents together have too many dials under way.
const DIAL_WAIT: Duration = Duration::from_secs(1);

impl Torrent {
    /// Takes in addresses of peers.
    pub(crate) fn found(&mut self, cx: &mut Cx<'_>, source: PeerSource, addrs: &[SocketAddr]) {
        if !source.may_serve(self.is_private()) {
            return;
        }
        // Anybody may have made a link to a torrent that is known to be private (BEP 27).
        if source == PeerSource::Link && self.is_private() {
            return;
        }
        let near = cx.config.is_local_network
            || self
                .peers
                .ready()
                .any(|peer| Nearness::is_local(peer.addr.ip()));
        for addr in addrs.iter().take(FOUND_MAX) {
            if is_dialable(*addr, source, cx.shared.own, near) {
                self.candidates
                    .add(*addr, source, cx.shared.own, &mut self.rng);
            }
        }
    }

    /// Takes in addresses, and dials.
    pub(crate) fn found_and_dial(
        &mut self,
        cx: &mut Cx<'_>,
        source: PeerSource,
        addrs: &[SocketAddr],
    ) {
        self.found(cx, source, addrs);
        self.settle(cx);
    }

    /// Our own address has changed.
    pub(crate) fn address_changed(&mut self, cx: &mut Cx<'_>) {
        self.candidates.rank_again(cx.shared.own, &mut self.rng);
    }

    /// There is no network any more.
    pub(crate) fn network_gone(&mut self, cx: &mut Cx<'_>) {
        self.refuse_callers(cx, &CloseReason::Offline);
        self.close_peers(cx, &CloseReason::Offline);
        self.announcer.interrupt();
    }

    /// There is a network again.
    pub(crate) fn network_back(&mut self, cx: &mut Cx<'_>) {
        self.candidates.forgive();
        self.web_seeds.forgive();
        self.announcer.renew(cx.now);
        self.announce_due(cx);
        self.settle(cx);
    }

    fn wants_peers(&self, cx: &Cx<'_>) -> bool {
        let all = u64::from(self.options.connections_max);
        let own = (all * u64::from(cx.config.tuning.dialled_percent)).div_ceil(100);
        let max = usize::try_from(own).unwrap_or(usize::MAX);
        cx.shared.is_online
            && (self.life.is_open_to_peers() || self.life.is_dozing())
            && self.peers.len() < max
            && cx.shared.conns.open() < cx.config.connections_max
            && self.peers.half_open() < self.half_open_max(cx)
    }

    /// The first list of peers is dialled in one burst: most addresses are dead, and nothing else is to do.
    fn half_open_max(&self, cx: &Cx<'_>) -> u32 {
        let usual = cx.config.half_open_per_torrent_max;
        if self.peers.none_ready() {
            usual.max(cx.config.dial_burst)
        } else {
            usual
        }
    }

    /// Whether one more may be dialled now.
    pub(super) fn may_dial(&self, cx: &mut Cx<'_>) -> bool {
        self.wants_peers(cx)
            && cx.shared.conns.half_open() < cx.config.half_open_max
            && cx.shared.proxy_ready().is_some_and(|ready| ready <= cx.now)
            && cx.shared.dials.available(cx.now) >= 1
    }

    /// Dials as many peers as are wanted and allowed.
    pub(super) fn dial(&mut self, cx: &mut Cx<'_>) {
        if self.life.is_dozing() {
            // Whoever is worth dialling wakes it first.
            return self.wake_to_dial(cx);
        }
        while self.may_dial(cx) {
            let Some((addr, source)) = self.candidates.next(cx.now, self.is_finished()) else {
                return;
            };
            cx.shared.dials.take(cx.now, 1);
            self.dial_one(cx, addr, source);
        }
    }

    pub(super) fn dial_one(&mut self, cx: &mut Cx<'_>, addr: SocketAddr, source: PeerSource) {
        let conn = cx.shared.conns.insert(Conn {
            torrent: self.key,
            is_half_open: true,
        });
        let lot = self.rng.next_u32();
        self.peers
            .insert(Peer::new(conn, addr, source, true, (cx.now, lot)));
        let info_hash = self.greeting(addr);
        let attach = Box::new(self.attach(addr));
        let encrypted = match cx.config.encryption {
            EncryptionPolicy::Off => false,
            EncryptionPolicy::Prefer => !self.candidates.is_plain(addr),
            EncryptionPolicy::Require => true,
        };
        cx.net(NetAction::Dial {
            torrent: self.key,
            conn,
            addr,
            info_hash,
            attach,
            encrypted,
        });
    }

    /// The name to greet with: the v1 hash, which a peer that knows both answers with v2 (BEP 52); the v2 hash in
    /// turn if that was of no use.
    fn greeting(&self, addr: SocketAddr) -> InfoHash {
        let odd = self.candidates.failures(addr) % 2 == 1;
        self.hashes
            .wire_v2()
            .filter(|_| odd)
            .unwrap_or_else(|| self.hashes.primary())
    }

    /// When to dial again, if not everything depends on something else that is reported anyway.
    pub(super) fn next_dial(&self, cx: &mut Cx<'_>) -> Option<Time> {
        if !self.wants_peers(cx) {
            return None;
        }
        let ready = if self.candidates.has_next(self.is_finished()) {
            cx.now
        } else {
            self.candidates.next_ready()?
        };
        // While no more may be dialled it is of no use to look again at once.
        let later = cx.now + DIAL_WAIT;
        let allowed = if cx.shared.conns.half_open() >= cx.config.half_open_max {
            later
        } else {
            cx.shared.dials.ready_at(cx.now, 1)?
        };
        let by_proxy = cx.shared.proxy_ready().unwrap_or(later);
        Some(ready.max(allowed).max(by_proxy))
    }

    fn attach(&self, addr: SocketAddr) -> Attach {
        let have = self
            .pieces
            .as_ref()
            .map_or_else(|| Bitfield::new(0), |p| p.have().clone());
        Attach {
            hashes: self.hashes,
            info: self.meta.as_ref().map(|meta| meta.info.clone()),
            have,
            hide_pieces: self.reveal.is_hiding(),
            // Whoever reveals its pieces one by one does not tell that it has all.
            upload_only: self.life.is_running() && self.is_finished() && !self.reveal.is_hiding(),
            private: self.is_private(),
            your_ip: Some(addr.ip()),
        }
    }

    /// A peer has dialled us.
    pub(crate) fn incoming(&mut self, cx: &mut Cx<'_>, token: u64, addr: SocketAddr) {
        if self.life.is_resting() && cx.shared.is_online {
            return self.keep_waiting(cx, token, addr);
        }
        if let Err(why) = self.admit(cx, addr) {
            cx.net(NetAction::Refuse { token, why });
            return;
        }
        let conn = cx.shared.conns.insert(Conn {
            torrent: self.key,
            is_half_open: false,
        });
        let (source, lot) = (PeerSource::Incoming, self.rng.next_u32());
        self.peers
            .insert(Peer::new(conn, addr, source, false, (cx.now, lot)));
        let attach = Box::new(self.attach(addr));
        cx.net(NetAction::Accept {
            token,
            conn,
            attach,
        });
        self.settle(cx);
    }

    /// A connection is up, carried by this.
    pub(crate) fn connected(&mut self, conn: ConnKey, transport: Transport) {
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.transport = Some(transport);
        }
    }

    /// Whether there is room for a peer that has dialled us; makes some if it can.
    fn admit(&mut self, cx: &mut Cx<'_>, addr: SocketAddr) -> Result<(), CloseReason> {
        if !cx.shared.is_online {
            return Err(CloseReason::Offline);
        }
        if !self.life.is_open_to_peers() {
            return Err(CloseReason::TorrentStopped);
        }
        if self.bans.is_banned(Culprit::new(addr.ip(), None)) {
            return Err(CloseReason::Banned);
        }
        let of_ip = self.peers.of_ip(addr.ip());
        if !Nearness::is_local(addr.ip()) && of_ip >= cx.config.connections_per_ip_max as usize {
            return Err(CloseReason::Duplicate);
        }
        let full = self.peers.len() >= self.options.connections_max as usize
            || cx.shared.conns.open() >= cx.config.connections_max;
        if full && !self.replace_idle(cx) {
            return Err(CloseReason::Crowded);
        }
        Ok(())
    }

    /// Closes the connection that is missed least, if there is one on which nothing is wanted.
    fn replace_idle(&mut self, cx: &mut Cx<'_>) -> bool {
        let idle = |peer: &&Peer| peer.is_idle() && cx.now.since(peer.since) >= IDLE_MIN;
        let worst = self.peers.ready().filter(idle).min_by_key(|peer| {
            (
                !peer.is_upload_only(),
                peer.down.total_bytes + peer.up.total_bytes,
                peer.conn,
            )
        });
        let worst = worst.map(|peer| peer.conn);
        worst
            .inspect(|conn| self.close(cx, *conn, &CloseReason::Crowded))
            .is_some()
    }

    /// Both handshakes are through.
    pub(super) fn ready(&mut self, cx: &mut Cx<'_>, conn: ConnKey, hello: Box<PeerHello>) {
        let Some(peer) = self.peers.get(conn) else {
            return;
        };
        let addr = peer.addr;
        cx.shared.conns.set_up(conn);
        let unwelcome = self.unwelcome(cx, conn, &hello);
        self.peers.set_ready(conn, hello);
        if let Some((loser, why)) = unwelcome {
            self.close(cx, loser, &why);
            if loser == conn {
                return;
            }
        }
        cx.event(Event::PeerConnected {
            torrent: self.key,
            conn,
            addr,
        });
        self.learn_listen_addr(cx, conn);
        self.begin_exchange(cx, conn);
        self.limit_peer(cx, conn);
        self.part_if_useless(cx, conn);
        self.request_metadata(cx, conn);
        self.request_layers(cx);
        self.await_word(cx, conn);
    }

    /// Which connection has to go because of who is at the end of this one.
    fn unwelcome(
        &self,
        cx: &Cx<'_>,
        conn: ConnKey,
        hello: &PeerHello,
    ) -> Option<(ConnKey, CloseReason)> {
        let peer = self.peers.get(conn)?;
        if hello.peer_id == cx.shared.peer_id {
            return Some((conn, CloseReason::Ourselves));
        }
        if self
            .bans
            .is_banned(Culprit::new(peer.addr.ip(), Some(hello.peer_id)))
        {
            return Some((conn, CloseReason::Banned));
        }
        let same = |other: &&Peer| {
            other.conn != conn
                && other
                    .hello
                    .as_ref()
                    .is_some_and(|h| h.peer_id == hello.peer_id)
        };
        let other = self.peers.ready().find(same)?;
        // Both sides have to let go of the same one: the peer with the greater id is the one that dials, as the
        // field's largest client has it. From different addresses nobody proves to be the same, so the first stays.
        let we_dial = cx.shared.peer_id > hello.peer_id;
        let replaces = other.addr.ip() == peer.addr.ip()
            && other.is_outgoing != peer.is_outgoing
            && peer.is_outgoing == we_dial;
        Some((
            if replaces { other.conn } else { conn },
            CloseReason::Duplicate,
        ))
    }

    /// A peer that dialled us tells where it listens: it is known by that address from now on.
    fn learn_listen_addr(&mut self, cx: &Cx<'_>, conn: ConnKey) {
        let Some(peer) = self.peers.get(conn).filter(|peer| !peer.is_outgoing) else {
            return;
        };
        let Some(addr) = peer.listen_addr() else {
            return;
        };
        if is_dialable(addr, PeerSource::Incoming, cx.shared.own, true) {
            self.candidates
                .adopt(addr, PeerSource::Incoming, cx.shared.own, &mut self.rng);
        }
    }

    /// The extended handshake has come.
    pub(super) fn extended(&mut self, cx: &mut Cx<'_>, conn: ConnKey, hello: Box<PeerHello>) {
        let Some(peer) = self.peers.get_mut(conn) else {
            return;
        };
        let (from, our_ip) = (peer.addr.ip(), hello.our_ip);
        peer.hello = Some(hello);
        // Who is near sees the address that we have there.
        if let Some(ip) = our_ip.filter(|_| !Nearness::is_local(from)) {
            cx.shared.vote(Witness::Host(from), ip);
        }
        self.learn_listen_addr(cx, conn);
        self.begin_exchange(cx, conn);
        self.tell_all_blocks(cx, conn);
        self.part_if_useless(cx, conn);
        self.request_metadata(cx, conn);
    }

    /// Closes a connection on which neither side will ever want anything.
    pub(super) fn part_if_useless(&mut self, cx: &mut Cx<'_>, conn: ConnKey) {
        let Some(peer) = self.peers.get(conn).filter(|peer| peer.is_up()) else {
            return;
        };
        let done = self.life.is_running() && self.is_finished();
        if done && peer.is_upload_only() && !peer.up.is_interested {
            if let Some(addr) = peer.listen_addr() {
                self.candidates.set_seed(addr, true);
            }
            self.close(cx, conn, &CloseReason::BothSeeds);
        }
    }

    /// Closes a connection. Its key is used no more, except to report its end.
    pub(super) fn close(&mut self, cx: &mut Cx<'_>, conn: ConnKey, why: &CloseReason) {
        if self.peers.get(conn).is_none() {
            return;
        }
        cx.tell(conn, PeerCommand::Close(why.clone()));
        self.part(cx, conn, why);
    }

    pub(super) fn close_peers(&mut self, cx: &mut Cx<'_>, why: &CloseReason) {
        for conn in self.peers.conns() {
            self.close(cx, conn, why);
        }
    }

    /// The end of a connection was reported.
    pub(crate) fn peer_closed(&mut self, cx: &mut Cx<'_>, conn: ConnKey, why: &CloseReason) {
        self.part(cx, conn, why);
        self.settle(cx);
    }

    /// Forgets a connection, and everything that was under way on it. What it reports from now on counts nowhere, so
    /// this is when its figures are final.
    fn part(&mut self, cx: &mut Cx<'_>, conn: ConnKey, why: &CloseReason) {
        let Some(peer) = self.peers.get(conn) else {
            return;
        };
        let was_up = peer.is_up();
        let addr = peer.listen_addr().filter(|_| peer.is_outgoing || was_up);
        // A second connection to the same peer may be left.
        let is_last = |addr: &SocketAddr| {
            let mut same_ip = self.peers.iter().filter(|p| p.addr.ip() == addr.ip());
            !same_ip.any(|other| other.conn != conn && other.listen_addr() == Some(*addr))
        };
        if let Some(addr) = addr.filter(is_last) {
            let end = match why {
                CloseReason::Ourselves | CloseReason::Banned => DialEnd::Unwelcome,
                CloseReason::TorrentStopped | CloseReason::Shutdown | CloseReason::Offline => {
                    DialEnd::Ended
                }
                _ if was_up && peer.was_of_use(cx.now) => DialEnd::Ended,
                _ if was_up => DialEnd::Useless,
                CloseReason::Unreachable(DialFailure::Proxy(_)) => DialEnd::NotTried,
                CloseReason::PeerClosed
                | CloseReason::Transport(_)
                | CloseReason::Misbehaved(_)
                    if cx.config.encryption == EncryptionPolicy::Prefer =>
                {
                    DialEnd::Refused(miss(why))
                }
                _ => DialEnd::Failed(miss(why)),
            };
            self.candidates.closed(cx.now, addr, end);
            if let CloseReason::Unreachable(failure) = why {
                cx.shared.dial_failed(cx.now, failure);
                if end != DialEnd::NotTried {
                    self.ask_for_meeting(cx, addr);
                }
            }
        }
        self.drop_requests(cx, conn);
        self.metadata_peer_gone(cx, conn);
        self.hashes_peer_gone(cx, conn);
        self.exchanger.gone(conn);
        self.serving.forget(conn);
        let Some(peer) = self.peers.remove(conn) else {
            return;
        };
        self.tell_parted(cx, &peer, why);
        if let Some(pieces) = &mut self.pieces {
            if let Some(picker) = pieces.picker_mut().filter(|_| peer.has_told) {
                picker.forget_peer(&peer.have, peer.parts.keys());
            }
            if self.peers.is_empty() && pieces.left() == 0 {
                pieces.drop_picker();
            }
        }
        if was_up {
            self.bans.depart(conn, peer.culprit());
            self.reveal.gone(conn);
            self.discard_unreachable(cx);
            self.fill_slots(cx);
        }
    }

    fn tell_parted(&mut self, cx: &mut Cx<'_>, peer: &Peer, why: &CloseReason) {
        if let Some(at) = peer.web_seed {
            return self.web_seed_parted(cx, at, peer.down.total_bytes, why);
        }
        cx.event(Event::PeerDisconnected {
            torrent: self.key,
            conn: peer.conn,
            addr: peer.addr,
            peer_id: peer.hello.as_ref().map(|hello| hello.peer_id),
            uploaded_bytes: peer.up.total_bytes,
            downloaded_bytes: peer.down.total_bytes,
            why: why.clone(),
        });
    }

    /// The metadata has come: peers whose way of being found it forbids have to go (BEP 27).
    pub(super) fn drop_forbidden_peers(&mut self, cx: &mut Cx<'_>) {
        let is_private = self.is_private();
        self.candidates.forget_forbidden(is_private);
        let forbidden = |peer: &&Peer| !peer.source.may_serve(is_private);
        let conns = self.peers.iter().filter(forbidden).map(|peer| peer.conn);
        for conn in conns.collect::<Vec<_>>() {
            self.close(cx, conn, &CloseReason::TorrentStopped);
        }
    }
}

/// Why a dial was in vain that ended so.
fn miss(why: &CloseReason) -> Miss {
    match why {
        CloseReason::Unreachable(failure) => match failure {
            DialFailure::Refused => Miss::Refused,
            DialFailure::NoAnswer => Miss::NoAnswer,
            DialFailure::NoWay => Miss::NoWay,
            _ => Miss::Other,
        },
        CloseReason::PeerClosed
        | CloseReason::Transport(_)
        | CloseReason::Misbehaved(PeerMisbehaved::HandshakeTimeout) => Miss::HungUp,
        CloseReason::Misbehaved(_) => Miss::Unfit,
        _ => Miss::Other,
    }
}
