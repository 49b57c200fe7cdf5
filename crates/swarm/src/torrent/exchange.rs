//! Telling peers of each other, and hearing of others (BEP 11).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use riverrun_base::Nearness;
use riverrun_peer::{Contact, Encryption, PeerCommand, PeerExchange};

use super::holepunch::{can_meet, meeting_point};
use super::peers::Peer;
use super::{Cx, Torrent};
use crate::candidates::is_dialable;
use crate::discovery::Discovery;
use crate::input::{PeerSource, Transport};
use crate::key::ConnKey;

impl Torrent {
    /// A peer has said what it can do: perhaps it wants to hear of others.
    pub(super) fn begin_exchange(&mut self, cx: &Cx<'_>, conn: ConnKey) {
        let wants = self
            .peers
            .get(conn)
            .and_then(|peer| peer.hello.as_ref())
            .is_some_and(|hello| hello.features.exchange);
        if wants && Discovery::Exchange.allowed(self.is_private()) {
            self.exchanger.begin(cx.now, conn);
        }
    }

    /// Tells those whose turn it is.
    pub(super) fn exchange_due(&mut self, cx: &mut Cx<'_>) {
        let mut known = None;
        while let Some(conn) = self.exchanger.take_due(cx.now) {
            // Until the metadata says that it is not private nobody is told of anybody.
            if !self.knows_metadata() || !Discovery::Exchange.allowed(self.is_private()) {
                continue;
            }
            let known = known.get_or_insert_with(|| self.contacts());
            let Some(peer) = self.peers.get(conn) else {
                continue;
            };
            let itself = [peer.listen_addr(), meeting_point(peer)];
            let near = Nearness::is_local(peer.addr.ip());
            let fit = |addr: &SocketAddr| {
                !itself.contains(&Some(*addr)) && (near || !Nearness::is_local(addr.ip()))
            };
            let fit = known.iter().filter(|(addr, _)| fit(addr));
            let fit = fit.map(|(addr, contact)| (*addr, *contact)).collect();
            let news = self.exchanger.news(conn, &fit);
            if !news.is_empty() {
                cx.tell(conn, PeerCommand::Exchange(Box::new(news)));
            }
        }
    }

    /// Whom others may be told of: peers that we have dialled ourselves, so that nobody can have us vouch for an
    /// address that is not his; and those who dialled us and can be met through us, since nobody hears of them
    /// otherwise. Their address is from where they came, but for the port.
    fn contacts(&self) -> BTreeMap<SocketAddr, Contact> {
        let known = self.peers.ready();
        let known = known.filter(|peer| peer.is_outgoing || can_meet(peer));
        let known = known.filter_map(contact);
        known.map(|contact| (contact.addr, contact)).collect()
    }

    /// A peer tells of others.
    pub(super) fn exchange_came(&mut self, cx: &Cx<'_>, conn: ConnKey, heard: PeerExchange) {
        let source = PeerSource::Exchange;
        if !source.may_serve(self.is_private()) {
            return;
        }
        let Some(teller) = self.peers.get(conn).map(|peer| peer.addr.ip()) else {
            return;
        };
        for contact in self.exchanger.hear(conn, heard) {
            // Only one of our surroundings knows others there.
            if is_dialable(
                contact.addr,
                source,
                cx.shared.own,
                Nearness::is_local(teller),
            ) && self
                .candidates
                .add(contact.addr, source, cx.shared.own, &mut self.rng)
            {
                self.candidates.set_seed(contact.addr, contact.is_seed);
            }
        }
    }
}

fn contact(peer: &Peer) -> Option<Contact> {
    let hello = peer.hello.as_ref();
    Some(Contact {
        prefers_encryption: hello
            .is_some_and(|hello| hello.prefers_encryption || hello.encryption != Encryption::None),
        is_seed: peer.is_upload_only(),
        has_utp: peer.transport == Some(Transport::Utp),
        has_holepunch: can_meet(peer),
        is_reachable: peer.is_outgoing,
        ..Contact::new(meeting_point(peer)?)
    })
}
