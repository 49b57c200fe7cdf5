//! The task around the DHT's nodes: datagrams, the clock, what others ask of it, its state on disk.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use riverrun_base::{InfoHash, Time};
use riverrun_dht::{
    Announce, Dht, Event, Finding, LookupId, NodeStats, Outbox, PeersQuestion, Question, SavedState,
};
use riverrun_swarm::{Input, PeerSource, TorrentKey, Witness};
use tokio::sync::{mpsc, oneshot};

use super::clock::Clock;
use super::identity::Ports;
use super::shard::ShardMessage;
use super::socket::Family;
use super::udp::{DatagramSockets, Datagrams, Received};
use crate::dht::SearchNews;

/// How many messages wait for the task.
pub(crate) const DHT_INBOX_MESSAGES: usize = 256;

/// How many messages, and batches of datagrams, are taken at once.
const PER_TURN: usize = 64;
const BATCHES_PER_TURN: usize = 4;

/// How many searches of torrents wait for those under way: with more torrents than this the oldest wish is dropped,
/// and comes again with the torrent's next interval.
const SEARCHES_WAITING: usize = 4096;

/// How many searches run at once: a program with a thousand torrents must not begin them all together.
const SEARCHES_AT_ONCE: usize = 16;

/// How often the state is written.
const SAVE_INTERVAL: Duration = Duration::from_mins(5);

/// What the task is told.
pub(crate) enum DhtMessage {
    /// Search, and tell whoever asked.
    Search {
        question: Question,
        news: mpsc::UnboundedSender<SearchNews>,
    },
    /// Look for a torrent's peers.
    FindPeers {
        torrent: TorrentKey,
        info_hash: InfoHash,
        /// What to tell of ourselves: where we listen, and whether we have everything.
        announce: Option<(Ports, bool)>,
        no_seeds: bool,
    },
    /// There is a node.
    Meet(SocketAddr),
    /// There are nodes to begin from.
    Routers(Vec<SocketAddr>),
    /// How the nodes are.
    Stats(oneshot::Sender<Vec<NodeStats>>),
    /// Write the state, and say when it is done.
    Save(oneshot::Sender<()>),
}

/// Who wants to know what a search finds.
enum Asker {
    Torrent(TorrentKey),
    /// What is found waits without a bound of its own: a search finds a bounded number of things.
    Outside(mpsc::UnboundedSender<SearchNews>),
}

/// The task.
pub(crate) struct DhtTask {
    pub(crate) clock: Clock,
    pub(crate) dht: Dht,
    pub(crate) datagrams: Datagrams,
    /// To which of our addresses nodes belong.
    pub(crate) sockets: DatagramSockets,
    pub(crate) received: mpsc::Receiver<Received>,
    pub(crate) inbox: mpsc::Receiver<DhtMessage>,
    /// Where torrents are, if there are any.
    pub(crate) shard: Option<mpsc::Sender<ShardMessage>>,
    /// Where the state is kept, if it is.
    pub(crate) state: Option<PathBuf>,
    /// Peers are taken by uTP where the nodes are.
    pub(crate) takes_utp: bool,
    pub(crate) searches: Searches,
}

/// The searches under way, and those that wait.
#[derive(Default)]
pub(crate) struct Searches {
    askers: BTreeMap<LookupId, Asker>,
    waiting: VecDeque<(Question, Asker)>,
}

impl DhtTask {
    /// Runs until the task is aborted, or nobody can ask anything any more.
    pub(crate) async fn run(mut self) {
        let clock = self.clock;
        let mut out = Outbox::default();
        let mut batches = Vec::with_capacity(BATCHES_PER_TURN);
        let mut messages = Vec::with_capacity(PER_TURN);
        let mut save_at = clock.now() + SAVE_INTERVAL;
        loop {
            let deadline = self
                .dht
                .poll_timeout()
                .map_or(save_at, |due| due.min(save_at));
            tokio::select! {
                count = self.inbox.recv_many(&mut messages, PER_TURN) => if count == 0 { return },
                count = self.received.recv_many(&mut batches, BATCHES_PER_TURN) => if count == 0 { return },
                () = self.sockets.changed() => {
                    self.dht.set_sockets(clock.now(), &self.sockets.addrs(), &mut out);
                }
                () = clock.sleep_until(Some(deadline)) => {}
            }
            let now = clock.now();
            for batch in batches.drain(..) {
                for (from, bytes) in batch.datagrams() {
                    self.dht
                        .handle_datagram(now, batch.socket, from, bytes, &mut out);
                }
            }
            for message in messages.drain(..) {
                self.handle(now, message, &mut out);
            }
            self.dht.handle_timeout(now, &mut out);
            self.flush(now, &mut out).await;
            if save_at <= now {
                save_at = now + SAVE_INTERVAL;
                self.save(now, None);
            }
        }
    }

    fn handle(&mut self, now: Time, message: DhtMessage, out: &mut Outbox) {
        match message {
            DhtMessage::Search { question, news } => {
                self.searches.push(question, Asker::Outside(news));
            }
            DhtMessage::FindPeers {
                torrent,
                info_hash,
                announce,
                no_seeds,
            } => {
                let announce = announce.map(|(ports, is_seed)| Announce {
                    v4: self.explicit_port(Family::V4, ports),
                    v6: self.explicit_port(Family::V6, ports),
                    is_seed,
                });
                let question = PeersQuestion {
                    announce,
                    no_seeds,
                    ..PeersQuestion::new(info_hash)
                };
                self.searches
                    .push(Question::Peers(question), Asker::Torrent(torrent));
            }
            DhtMessage::Meet(addr) => self.dht.ping(now, addr, out),
            DhtMessage::Routers(addrs) => self.dht.add_routers(now, &addrs),
            // Whoever asked may be gone.
            DhtMessage::Stats(reply) => drop(reply.send(self.dht.stats())),
            DhtMessage::Save(done) => self.save(now, Some(done)),
        }
    }

    /// The port to announce; `None` for the one from which we are heard. Behind a NAT that is another than ours, and
    /// where uTP dials. But a port that a router forwards to ours is no other, whatever the rest of our traffic has.
    fn explicit_port(&self, family: Family, ports: Ports) -> Option<u16> {
        let own = Ports::at(&self.datagrams.sockets().addrs());
        let is_ours = self.takes_utp && own.of(family) == ports.of(family);
        ports.of(family).filter(|_| !is_ours)
    }

    async fn flush(&mut self, now: Time, out: &mut Outbox) {
        self.searches.begin(now, &mut self.dht, out);
        // What is told may free a place for a search that waits, which sends something.
        while !out.events.is_empty() {
            let events = std::mem::take(&mut out.events);
            for event in events {
                self.tell(event).await;
            }
            self.searches.begin(now, &mut self.dht, out);
        }
        self.datagrams.send(&out.datagrams);
        out.datagrams.clear();
    }

    async fn tell(&mut self, event: Event) {
        match event {
            Event::Found { lookup, finding } => {
                let heard = match (self.searches.askers.get(&lookup), finding) {
                    (Some(Asker::Outside(news)), finding) => {
                        news.send(SearchNews::Found(finding)).is_ok()
                    }
                    (Some(Asker::Torrent(torrent)), Finding::Peers(peers)) => {
                        let source = PeerSource::Dht;
                        let torrent = *torrent;
                        let found = Input::Found {
                            torrent,
                            source,
                            peers,
                        };
                        self.tell_shard(found).await;
                        true
                    }
                    _ => true,
                };
                if !heard {
                    self.dht.cancel(lookup);
                    self.searches.askers.remove(&lookup);
                }
            }
            Event::Ended { lookup, report } => {
                if let Some(Asker::Outside(news)) = self.searches.askers.remove(&lookup) {
                    // Nobody may be listening any more.
                    let _ = news.send(SearchNews::Ended(report));
                }
            }
            Event::OwnAddress(ip) => {
                let says = Witness::Dht;
                self.tell_shard(Input::ExternalIp { ip, says }).await;
            }
            _ => {}
        }
    }

    async fn tell_shard(&self, input: Input) {
        if let Some(shard) = &self.shard {
            // The shard's task ends with the engine, and this one too.
            let _ = shard.send(ShardMessage::Inputs(vec![input])).await;
        }
    }

    /// Writes the state in the background; failure costs a slower start.
    fn save(&self, now: Time, done: Option<oneshot::Sender<()>>) {
        let Some(path) = self.state.clone() else {
            return;
        };
        let saved = self.dht.save(now);
        if saved.nodes.is_empty() {
            // What an earlier run has left is worth more than nothing.
            return;
        }
        tokio::task::spawn_blocking(move || {
            if let Err(error) = write(&path, &saved) {
                tracing::warn!(%error, path = %path.display(), "the state of the DHT was not kept");
            }
            drop(done);
        });
    }
}

impl Searches {
    fn push(&mut self, question: Question, asker: Asker) {
        if self.waiting.len() >= SEARCHES_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((question, asker));
    }

    /// Begins as many searches as may run.
    fn begin(&mut self, now: Time, dht: &mut Dht, out: &mut Outbox) {
        while self.askers.len() < SEARCHES_AT_ONCE
            && dht.has_room()
            && let Some((question, asker)) = self.waiting.pop_front()
        {
            if let Some(lookup) = dht.search(now, &question, out) {
                self.askers.insert(lookup, asker);
            }
        }
    }
}

fn write(path: &std::path::Path, saved: &SavedState) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    // A name of its own for each writer, then a rename: a torn file never has the final name.
    let partial = path.with_extension(format!("partial-{}", std::process::id()));
    std::fs::write(&partial, saved.to_bytes())?;
    std::fs::rename(&partial, path)
}

/// The state that an earlier run has left. Blocks on the file system.
pub(crate) fn read(path: &std::path::Path) -> SavedState {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return SavedState::default(),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "the state of the DHT cannot be read");
            return SavedState::default();
        }
    };
    SavedState::from_bytes(&bytes).unwrap_or_else(|error| {
        // It is rebuilt from others, a little slower.
        tracing::warn!(%error, path = %path.display(), "the state of the DHT is not used");
        SavedState::default()
    })
}
