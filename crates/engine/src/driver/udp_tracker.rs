//! The sockets and the clock around the UDP trackers' state machine.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::{InfoHash, Time};
use riverrun_tracker::{
    AnnounceRequest, AnnounceResponse, JobId, ScrapeResponse, TrackerFailure, TrackerUrl,
    UdpTracker, UdpTrackerConfig, UdpTrackerEvent,
};
use tokio::sync::{mpsc, oneshot};

use super::clock::Clock;
use super::listen::canonical;
use super::socket::{Datagrams, Family, Sockets};

/// Announces that wait for the task to take them.
const JOBS_WAITING: usize = 256;

/// The longest datagram that is read; a tracker's answer with 200 peers has 3,620 bytes.
const DATAGRAM_BYTES_MAX: usize = 16 * 1024;

/// How long a proxy may take to make ready for datagrams. Others wait meanwhile.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// After a failure to open a socket none is opened for this long: a proxy that does not answer would hold up each
/// announce for itself.
const OPEN_AGAIN: Duration = Duration::from_secs(30);

type Answer<T> = Result<T, TrackerFailure>;

struct Job {
    endpoint: SocketAddr,
    question: Question,
    asker: Asker,
}

enum Question {
    Announce {
        path_and_query: String,
        request: Box<AnnounceRequest>,
    },
    Scrape(Vec<InfoHash>),
}

/// Who waits for an answer. Nobody waits any more at shutdown, so that answering may fail.
enum Asker {
    Announce(oneshot::Sender<Answer<AnnounceResponse>>),
    Scrape(oneshot::Sender<Answer<ScrapeResponse>>),
}

impl Asker {
    fn fail(self, failure: TrackerFailure) {
        match self {
            Self::Announce(reply) => drop(reply.send(Err(failure))),
            Self::Scrape(reply) => drop(reply.send(Err(failure))),
        }
    }
}

/// Asks UDP trackers (BEP 15). Cheap to clone; the task ends with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct UdpTrackers {
    jobs: mpsc::Sender<Job>,
}

impl UdpTrackers {
    pub(crate) fn start(clock: Clock, seed: u64, sockets: Sockets) -> Self {
        let (jobs, inbox) = mpsc::channel(JOBS_WAITING);
        let tracker = UdpTracker::new(UdpTrackerConfig::default(), seed);
        let task = Task {
            clock,
            tracker,
            inbox,
            waiting: HashMap::new(),
            v4: None,
            v6: None,
            failed: None,
            sockets,
        };
        tokio::spawn(task.run());
        Self { jobs }
    }

    /// Announces to `endpoint`.
    pub(crate) async fn announce(
        &self,
        endpoint: SocketAddr,
        url: &TrackerUrl,
        request: AnnounceRequest,
    ) -> Option<Answer<AnnounceResponse>> {
        let (reply, answer) = oneshot::channel();
        let path_and_query = url.path_and_query().to_owned();
        let request = Box::new(request);
        let question = Question::Announce {
            path_and_query,
            request,
        };
        let job = Job {
            endpoint,
            question,
            asker: Asker::Announce(reply),
        };
        self.jobs.send(job).await.ok()?;
        answer.await.ok()
    }

    /// Asks the tracker at `endpoint`, if there is one, how many peers torrents have.
    pub(crate) async fn scrape(
        &self,
        endpoint: Option<SocketAddr>,
        info_hashes: &[InfoHash],
    ) -> Option<Answer<ScrapeResponse>> {
        let (reply, answer) = oneshot::channel();
        let question = Question::Scrape(info_hashes.to_vec());
        let job = Job {
            endpoint: endpoint?,
            question,
            asker: Asker::Scrape(reply),
        };
        self.jobs.send(job).await.ok()?;
        answer.await.ok()
    }
}

struct Task {
    clock: Clock,
    tracker: UdpTracker,
    inbox: mpsc::Receiver<Job>,
    waiting: HashMap<JobId, Asker>,
    /// Opened when first needed: most torrents' trackers use one family, or none.
    v4: Option<Datagrams>,
    v6: Option<Datagrams>,
    /// Until when no socket is opened, and why.
    failed: Option<(Time, String)>,
    sockets: Sockets,
}

impl Task {
    async fn run(mut self) {
        let mut changes = self.sockets.changes();
        let (mut from_v4, mut from_v6) = ([0; DATAGRAM_BYTES_MAX], [0; DATAGRAM_BYTES_MAX]);
        loop {
            self.transmit().await;
            let deadline = self.tracker.poll_timeout();
            let clock = self.clock;
            tokio::select! {
                job = self.inbox.recv() => match job {
                    Some(job) => self.take(job).await,
                    None => return,
                },
                received = receive(self.v4.as_ref(), &mut from_v4) => self.handle(received, &from_v4),
                received = receive(self.v6.as_ref(), &mut from_v6) => self.handle(received, &from_v6),
                () = changes.next() => (self.v4, self.v6, self.failed) = (None, None, None),
                () = clock.sleep_until(deadline) => self.tracker.handle_timeout(clock.now()),
            }
            self.answer();
        }
    }

    async fn take(&mut self, job: Job) {
        let Job {
            endpoint,
            question,
            asker,
        } = job;
        if let Err(error) = self.open(endpoint).await {
            asker.fail(TrackerFailure::Unreachable(error));
            return;
        }
        let now = self.clock.now();
        let started = match question {
            Question::Announce {
                path_and_query,
                request,
            } => self
                .tracker
                .announce(now, endpoint, *request, &path_and_query),
            Question::Scrape(info_hashes) => self.tracker.scrape(now, endpoint, &info_hashes),
        };
        match started {
            Ok(id) => drop(self.waiting.insert(id, asker)),
            Err(error) => asker.fail(TrackerFailure::Unreachable(error.to_string())),
        }
    }

    /// Opens the socket that reaches `endpoint`, unless it is open.
    async fn open(&mut self, endpoint: SocketAddr) -> Result<(), String> {
        let family = Family::of(&endpoint);
        let socket = match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        if socket.is_some() {
            return Ok(());
        }
        let failed = self.failed.take();
        if let Some((until, why)) = failed.filter(|(until, _)| *until > self.clock.now()) {
            let told = why.clone();
            self.failed = Some((until, why));
            return Err(told);
        }
        match within(self.sockets.datagrams_to(family)).await {
            Ok(opened) => *socket = Some(opened),
            Err(error) => {
                let why = error.to_string();
                self.failed = Some((self.clock.now() + OPEN_AGAIN, why.clone()));
                return Err(why);
            }
        }
        Ok(())
    }

    async fn transmit(&mut self) {
        let mut datagram = Vec::new();
        while let Some(endpoint) = self.tracker.poll_transmit(&mut datagram) {
            let socket = if endpoint.is_ipv4() {
                &self.v4
            } else {
                &self.v6
            };
            if let Some(socket) = socket {
                // A lost datagram and a failed send are one to the protocol: it sends again.
                if let Err(error) = self.sockets.send(socket, &datagram, endpoint).await {
                    tracing::debug!(%endpoint, %error, "sending to a tracker failed");
                }
            }
            datagram.clear();
        }
    }

    fn handle(&mut self, received: io::Result<(usize, SocketAddr)>, bytes: &[u8]) {
        match received {
            Ok((len, from)) => {
                let now = self.clock.now();
                // What is no answer to a question put to that address is ignored.
                for from in self.sockets.aliases(canonical(from)) {
                    self.tracker.handle_datagram(now, from, &bytes[..len]);
                }
            }
            // The proxy may have another, the next time that one is needed.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
                (self.v4, self.v6) = (None, None);
            }
            // As a rule an ICMP refusal of an earlier datagram: the time-out covers it.
            Err(error) => tracing::debug!(%error, "receiving from trackers failed"),
        }
    }

    fn answer(&mut self) {
        while let Some(event) = self.tracker.poll_event() {
            match event {
                UdpTrackerEvent::Announced { job, result } => {
                    if let Some(Asker::Announce(reply)) = self.waiting.remove(&job) {
                        drop(reply.send(result));
                    }
                }
                UdpTrackerEvent::Scraped { job, result } => {
                    if let Some(Asker::Scrape(reply)) = self.waiting.remove(&job) {
                        drop(reply.send(result));
                    }
                }
            }
        }
    }
}

async fn receive(socket: Option<&Datagrams>, out: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    match socket {
        Some(socket) => socket.receive(out).await,
        None => std::future::pending().await,
    }
}

/// A proxy is not waited for longer than a tracker would be.
async fn within<T>(opening: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(OPEN_TIMEOUT, opening)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
