//! The sockets and the clock around the UDP trackers' state machine.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use riverrun_tracker::{
    AnnounceRequest, AnnounceResponse, JobId, TrackerFailure, TrackerUrl, UdpTracker,
    UdpTrackerConfig, UdpTrackerEvent,
};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};

use super::clock::Clock;
use super::listen::canonical;
use super::tracker::Families;

/// Announces that wait for the task to take them.
const JOBS_WAITING: usize = 256;

/// The longest datagram that is read; a tracker's answer with 200 peers has 3,620 bytes.
const DATAGRAM_BYTES_MAX: usize = 16 * 1024;

type Answer = Result<AnnounceResponse, TrackerFailure>;

struct Job {
    endpoint: SocketAddr,
    path_and_query: String,
    request: AnnounceRequest,
    reply: oneshot::Sender<Answer>,
}

/// Asks UDP trackers (BEP 15). Cheap to clone; the task ends with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct UdpTrackers {
    jobs: mpsc::Sender<Job>,
}

impl UdpTrackers {
    pub(crate) fn start(clock: Clock, seed: u64, families: Families) -> Self {
        let (jobs, inbox) = mpsc::channel(JOBS_WAITING);
        let tracker = UdpTracker::new(UdpTrackerConfig::default(), seed);
        let task = Task {
            clock,
            tracker,
            inbox,
            waiting: HashMap::new(),
            v4: None,
            v6: None,
            families,
        };
        tokio::spawn(task.run());
        Self { jobs }
    }

    /// Announces to `endpoint`, if there is one.
    pub(crate) async fn announce(
        &self,
        endpoint: Option<SocketAddr>,
        url: &TrackerUrl,
        request: &AnnounceRequest,
    ) -> Option<Answer> {
        let (reply, answer) = oneshot::channel();
        let path_and_query = url.path_and_query().to_owned();
        let job = Job {
            endpoint: endpoint?,
            path_and_query,
            request: request.clone(),
            reply,
        };
        self.jobs.send(job).await.ok()?;
        answer.await.ok()
    }
}

struct Task {
    clock: Clock,
    tracker: UdpTracker,
    inbox: mpsc::Receiver<Job>,
    waiting: HashMap<JobId, oneshot::Sender<Answer>>,
    /// Opened when first needed: most torrents' trackers use one family, or none.
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    families: Families,
}

impl Task {
    async fn run(mut self) {
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
                () = clock.sleep_until(deadline) => self.tracker.handle_timeout(clock.now()),
            }
            self.answer();
        }
    }

    async fn take(&mut self, job: Job) {
        if let Err(error) = self.open(job.endpoint).await {
            let _ = job
                .reply
                .send(Err(TrackerFailure::Unreachable(error.to_string())));
            return;
        }
        let now = self.clock.now();
        match self
            .tracker
            .announce(now, job.endpoint, job.request, &job.path_and_query)
        {
            Ok(id) => {
                self.waiting.insert(id, job.reply);
            }
            Err(error) => {
                let _ = job
                    .reply
                    .send(Err(TrackerFailure::Unreachable(error.to_string())));
            }
        }
    }

    /// Opens the socket that reaches `endpoint`, unless it is open or the family is not ours.
    async fn open(&mut self, endpoint: SocketAddr) -> io::Result<()> {
        let (allowed, socket, local) = match endpoint {
            SocketAddr::V4(_) => (
                self.families.v4,
                &mut self.v4,
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            ),
            SocketAddr::V6(_) => (
                self.families.v6,
                &mut self.v6,
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            ),
        };
        if !allowed {
            return Err(io::Error::other("we do not listen in its address family"));
        }
        if socket.is_none() {
            *socket = Some(UdpSocket::bind(local).await?);
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
                if let Err(error) = socket.send_to(&datagram, endpoint).await {
                    tracing::debug!(%endpoint, %error, "sending to a tracker failed");
                }
            }
            datagram.clear();
        }
    }

    fn handle(&mut self, received: io::Result<(usize, SocketAddr)>, bytes: &[u8]) {
        match received {
            Ok((len, from)) => {
                self.tracker
                    .handle_datagram(self.clock.now(), canonical(from), &bytes[..len]);
            }
            // As a rule an ICMP refusal of an earlier datagram: the time-out covers it.
            Err(error) => tracing::debug!(%error, "receiving from trackers failed"),
        }
    }

    fn answer(&mut self) {
        while let Some(event) = self.tracker.poll_event() {
            let UdpTrackerEvent::Announced { job, result } = event else {
                continue;
            };
            if let Some(reply) = self.waiting.remove(&job) {
                // Nobody waits any more at shutdown.
                let _ = reply.send(result);
            }
        }
    }
}

async fn receive(socket: Option<&UdpSocket>, out: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    match socket {
        Some(socket) => socket.recv_from(out).await,
        None => std::future::pending().await,
    }
}
