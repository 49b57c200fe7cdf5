//! Peers of the local network, found by multicast (BEP 14).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use riverrun_base::{InfoHash, Rate, Time, TokenBucket};
use riverrun_swarm::{Input, LocalSearch, PeerSource};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::conn::ConnContext;
use super::identity::Ports;
use super::presence::Whereabouts;
use super::shard::ShardMessage;
use super::socket::{Changes, Family, Sockets, Stand};

/// Announces on their way from the shard. One that finds no place comes again in five minutes.
const WAITING_ANNOUNCES: usize = 256;

/// No more than one packet a minute on each interface (BEP 14).
const PACKET_INTERVAL: Duration = Duration::from_mins(1);

/// Torrents that are started together go into one packet.
const GATHER: Duration = Duration::from_millis(300);

/// How many torrents wait for their packet; as many as five minutes of packets carry, and what began at once with
/// them. More are left out of this round.
const QUEUE_MAX: usize = 8 * LocalSearch::INFO_HASHES_MAX;

/// How many packets a second are read on an interface; more are passed over.
const HEARD_PER_SECOND: u64 = 50;

/// Longer than any announce.
const PACKET_LEN_MAX: usize = 2048;

/// How long to wait after receiving failed.
const RETRY: Duration = Duration::from_secs(5);

/// Where no interface is up yet, they are looked at again after this; then after twice as long each time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// They are looked at this often at least while something waits to be announced.
const LOOK_AGAIN_MAX: Duration = Duration::from_mins(1);

/// A group, and the sockets for it.
#[derive(Debug)]
struct Group {
    addr: SocketAddr,
    stands: Vec<Stand>,
    mouths: Vec<UdpSocket>,
    ears: JoinSet<()>,
}

/// Announces torrents, and hears of others'.
pub(crate) struct LocalDiscovery {
    sockets: Sockets,
    whereabouts: Whereabouts,
    conns: ConnContext,
    cookie: Arc<str>,
    queue: VecDeque<InfoHash>,
    last: Option<Instant>,
    /// How long nobody was there to be spoken to.
    silence: Duration,
}

impl LocalDiscovery {
    pub(crate) fn new(sockets: Sockets, whereabouts: Whereabouts, conns: ConnContext) -> Self {
        Self {
            sockets,
            whereabouts,
            conns,
            cookie: Arc::default(),
            queue: VecDeque::new(),
            last: None,
            silence: Duration::ZERO,
        }
    }

    /// Starts as one of an engine's tasks; gives where it is told what to announce. By `cookie` it will know its own
    /// announces.
    pub(crate) fn start(
        mut self,
        cookie: u64,
        tasks: &mut Vec<AbortHandle>,
    ) -> mpsc::Sender<Vec<InfoHash>> {
        self.cookie = format!("{cookie:016x}").into();
        let (announces, inbox) = mpsc::channel(WAITING_ANNOUNCES);
        let changes = self.sockets.changes();
        tasks.push(tokio::spawn(self.run(inbox, changes)).abort_handle());
        announces
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Vec<InfoHash>>, mut changes: Changes) {
        let mut groups = [LocalSearch::GROUP_V4, LocalSearch::GROUP_V6].map(|addr| Group {
            addr,
            stands: Vec::new(),
            mouths: Vec::new(),
            ears: JoinSet::new(),
        });
        let mut due = Instant::now();
        loop {
            tokio::select! {
                announced = inbox.recv() => {
                    let Some(info_hashes) = announced else { return };
                    if self.queue.is_empty() {
                        due = self.next_packet();
                    }
                    self.enqueue(&info_hashes);
                }
                () = sleep_until(due), if !self.queue.is_empty() => {
                    due = self.announce(&mut groups).await;
                }
                () = changes.next() => groups.iter_mut().for_each(|group| self.look(group)),
            }
        }
    }

    fn next_packet(&self) -> Instant {
        let gathered = Instant::now() + GATHER;
        self.last
            .map_or(gathered, |last| gathered.max(last + PACKET_INTERVAL))
    }

    fn enqueue(&mut self, info_hashes: &[InfoHash]) {
        for info_hash in info_hashes {
            if self.queue.len() < QUEUE_MAX && !self.queue.contains(info_hash) {
                self.queue.push_back(*info_hash);
            }
        }
    }

    /// Announces what waits, as far as it goes into one packet; when the next one may follow.
    async fn announce(&mut self, groups: &mut [Group]) -> Instant {
        for group in groups.iter_mut() {
            self.look(group);
        }
        let is_mute = groups.iter().all(|group| group.mouths.is_empty());
        let addrs = self.whereabouts.addrs();
        if is_mute || addrs.is_empty() {
            // Interfaces may come up after us, as when a machine starts.
            self.silence = (self.silence * 2).clamp(LOOK_AGAIN, LOOK_AGAIN_MAX);
            return Instant::now() + self.silence;
        }
        self.silence = Duration::ZERO;
        self.last = Some(Instant::now());
        let count = self.queue.len().min(LocalSearch::INFO_HASHES_MAX);
        // In the local network no router stands before us.
        let ports = Ports::at(&addrs);
        let info_hashes: Vec<_> = self.queue.drain(..count).collect();
        for group in groups {
            let Some(port) = ports.of(Family::of(&group.addr)) else {
                continue;
            };
            let search = LocalSearch {
                port,
                info_hashes: info_hashes.clone(),
                cookie: self.cookie.to_string(),
            };
            let text = search.encode(group.addr);
            for mouth in &group.mouths {
                if let Err(error) = mouth.send_to(text.as_bytes(), group.addr).await {
                    tracing::debug!(%error, "announcing in the local network failed");
                }
            }
        }
        self.next_packet()
    }

    /// Follows the interfaces as they come and go.
    fn look(&self, group: &mut Group) {
        let stands = self.sockets.stands(Family::of(&group.addr));
        if stands == group.stands {
            return;
        }
        // Those who hear end with their sockets.
        group.ears = JoinSet::new();
        group.mouths.clear();
        for stand in &stands {
            match stand.open(group.addr) {
                Ok(pair) => {
                    group.mouths.push(pair.speaks);
                    let (cookie, conns) = (self.cookie.clone(), self.conns.clone());
                    group.ears.spawn(hear(pair.hears, cookie, conns));
                }
                Err(error) => tracing::debug!(?stand, %error, "no multicast"),
            }
        }
        group.stands = stands;
    }
}

/// Hears what others announce, and tells the shard of those who have torrents of ours.
async fn hear(socket: UdpSocket, cookie: Arc<str>, conns: ConnContext) {
    let rate = Rate::from_bytes_per_second(HEARD_PER_SECOND);
    let mut budget = TokenBucket::new(rate, HEARD_PER_SECOND, Time::ZERO);
    let mut packet = vec![0; PACKET_LEN_MAX];
    loop {
        let (len, from) = match socket.recv_from(&mut packet).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "hearing the local network failed");
                sleep(RETRY).await;
                continue;
            }
        };
        let now = conns.clock.now();
        if budget.available(now) == 0 {
            continue;
        }
        budget.take(now, 1);
        let heard = LocalSearch::parse(&packet[..len]).filter(|heard| *heard.cookie != *cookie);
        let inputs = heard.map_or_else(Vec::new, |heard| found(&heard, from, &conns));
        if !inputs.is_empty() {
            // The shard's task ends before this one only when the engine does.
            let _ = conns.shard.send(ShardMessage::Inputs(inputs)).await;
        }
    }
}

fn found(heard: &LocalSearch, from: SocketAddr, conns: &ConnContext) -> Vec<Input> {
    let peer = SocketAddr::new(from.ip(), heard.port);
    let ours = heard.info_hashes.iter();
    let ours = ours.filter_map(|info_hash| conns.directory.find(*info_hash));
    ours.map(|torrent| Input::Found {
        torrent,
        source: PeerSource::Local,
        peers: vec![peer],
    })
    .collect()
}
