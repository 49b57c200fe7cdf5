//! A node of the DHT, and the searches of its host's torrent.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use riverrun_base::{Rng, Time};
use riverrun_dht::{
    Announce, Config, Dht, Event, Finding, LookupId, Outbox, PeersQuestion, Question, SavedState,
};
use riverrun_swarm::{DhtAnnounce, TorrentKey};

use crate::socket::{Datagrams, Socket};

/// riverrun's own node.
pub(crate) struct Node {
    dht: Dht,
    out: Outbox,
    searches: BTreeMap<LookupId, Search>,
    news: Vec<NodeNews>,
}

/// A search for the peers of a torrent.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    pub(crate) torrent: TorrentKey,
    pub(crate) question: PeersQuestion,
    pub(crate) began: Time,
    pub(crate) found: Vec<SocketAddr>,
    /// How many nodes have answered.
    pub(crate) answers: usize,
}

impl Search {
    pub(crate) fn new(
        now: Time,
        torrent: TorrentKey,
        question: PeersQuestion,
        announce: Option<DhtAnnounce>,
    ) -> Self {
        let announce = announce.map(|announce| Announce::at(announce.port, announce.is_seed));
        Self {
            torrent,
            question: PeersQuestion {
                announce,
                ..question
            },
            began: now,
            found: Vec::new(),
            answers: 0,
        }
    }
}

/// What a node has to tell its host.
#[derive(Debug)]
pub(crate) enum NodeNews {
    /// Peers of a torrent.
    Found(TorrentKey, Vec<SocketAddr>),
    /// A search is over.
    Ended(Search),
    /// Others agree on the host's address.
    OwnAddress(IpAddr),
}

impl Node {
    /// A node with an empty table, which begins from `routers`.
    pub(crate) fn new(now: Time, addr: SocketAddr, routers: &[SocketAddr], seed: u64) -> Self {
        let mut secret = [0; 32];
        Rng::new(seed).fill(&mut secret);
        let saved = SavedState::default();
        let mut dht = Dht::new(now, Config::new(secret), &[addr], &saved, seed);
        dht.add_routers(now, routers);
        Self {
            dht,
            out: Outbox::default(),
            searches: BTreeMap::new(),
            news: Vec::new(),
        }
    }

    /// Begins a search, if there is room for one.
    pub(crate) fn search(&mut self, now: Time, search: Search, out: &mut Datagrams) {
        let question = Question::Peers(search.question);
        if let Some(name) = self.dht.search(now, &question, &mut self.out) {
            self.searches.insert(name, search);
        }
        self.flush(out);
    }

    /// What there is to tell.
    pub(crate) fn take_news(&mut self) -> Vec<NodeNews> {
        std::mem::take(&mut self.news)
    }

    fn flush(&mut self, out: &mut Datagrams) {
        for datagram in self.out.datagrams.drain(..) {
            out.send(datagram.to, datagram.bytes);
        }
        for event in self.out.events.drain(..) {
            match event {
                Event::Found {
                    lookup,
                    finding: Finding::Peers(peers),
                } => {
                    if let Some(search) = self.searches.get_mut(&lookup) {
                        search.found.extend(&peers);
                        self.news.push(NodeNews::Found(search.torrent, peers));
                    }
                }
                Event::Ended { lookup, report } => {
                    if let Some(mut search) = self.searches.remove(&lookup) {
                        search.answers = report.answers;
                        self.news.push(NodeNews::Ended(search));
                    }
                }
                Event::OwnAddress(ip) => self.news.push(NodeNews::OwnAddress(ip)),
                _ => {}
            }
        }
    }
}

impl Socket for Node {
    fn handle_datagram(&mut self, now: Time, from: SocketAddr, bytes: &[u8], out: &mut Datagrams) {
        self.dht.handle_datagram(now, 0, from, bytes, &mut self.out);
        self.flush(out);
    }

    fn handle_timeout(&mut self, now: Time, out: &mut Datagrams) {
        self.dht.handle_timeout(now, &mut self.out);
        self.flush(out);
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.dht.poll_timeout()
    }
}
