//! A client of UDP trackers, as many of them as there are: a state machine without a socket.
//!
//! ```text
//!  announce, scrape ──> waiting for a connection id ──> sent ──> event
//!                                 ^                      │ no answer: 15 s, 30 s, 60 s, …
//!                                 └── id older than 60 s ┴── id still good: sent again
//! ```
//!
//! Invariants: an answer counts only from the address that was asked and with the transaction id of the
//! request; one connect request is under way per endpoint, however many jobs wait for it; a request keeps its
//! transaction id when it is repeated, so that a late answer counts.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use riverrun_base::{InfoHash, Rng, Time};

use super::exchange::{
    Connection, Exchange, Job, JobId, Query, RETRIES_MAX, TooManyJobs, UdpTrackerEvent,
    answer_deadline,
};
use super::packet::{
    ConnectionId, Response, SCRAPE_HASHES_MAX, TransactionId, announce_response, connect_request,
    scrape_response,
};
use crate::announce::AnnounceRequest;
use crate::failure::TrackerFailure;

/// How long a client may use a connection id (BEP 15).
const CONNECTION_LIFETIME: Duration = Duration::from_mins(1);

/// How a client of UDP trackers behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpTrackerConfig {
    /// How often a request without an answer is repeated, at most 8 times. The protocol's own 8 mean more
    /// than two hours, in which another tracker could have been asked.
    pub retries_max: u32,
    /// How many announces and scrapes may be under way; also how many endpoints are remembered.
    pub jobs_max: usize,
}

impl Default for UdpTrackerConfig {
    /// Gives up after 15 + 30 + 60 seconds.
    fn default() -> Self {
        Self {
            retries_max: 2,
            jobs_max: 4096,
        }
    }
}

/// The client's side of BEP 15, for any number of trackers.
///
/// Trackers bind connection ids to the address that asks: a driver that sends from several local addresses
/// needs one of these for each, though one serves both address families.
#[derive(Debug)]
pub struct UdpTracker {
    config: UdpTrackerConfig,
    rng: Rng,
    jobs: BTreeMap<JobId, Job>,
    last_job: JobId,
    connections: BTreeMap<SocketAddr, Connection>,
    transactions: BTreeMap<TransactionId, Exchange>,
    timers: BTreeSet<(Time, Exchange)>,
    transmits: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<UdpTrackerEvent>,
}

impl UdpTracker {
    /// A client with nothing to do. `seed` decides the transaction ids; off the simulator it must be random,
    /// for they are what keeps strangers from answering.
    pub fn new(config: UdpTrackerConfig, seed: u64) -> Self {
        Self {
            config: UdpTrackerConfig {
                retries_max: config.retries_max.min(RETRIES_MAX),
                ..config
            },
            rng: Rng::new(seed),
            jobs: BTreeMap::new(),
            last_job: JobId(0),
            connections: BTreeMap::new(),
            transactions: BTreeMap::new(),
            timers: BTreeSet::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Announces to the tracker at `endpoint`; `path_and_query` is what BEP 41 tells it of its URL (see
    /// [`TrackerUrl::path_and_query`](crate::TrackerUrl::path_and_query)).
    pub fn announce(
        &mut self,
        now: Time,
        endpoint: SocketAddr,
        request: AnnounceRequest,
        path_and_query: &str,
    ) -> Result<JobId, TooManyJobs> {
        let request = Box::new(request);
        self.start(
            now,
            endpoint,
            Query::Announce {
                request,
                path_and_query: path_and_query.into(),
            },
        )
    }

    /// Asks the tracker at `endpoint` about the first 74 of `info_hashes`.
    pub fn scrape(
        &mut self,
        now: Time,
        endpoint: SocketAddr,
        info_hashes: &[InfoHash],
    ) -> Result<JobId, TooManyJobs> {
        let asked = &info_hashes[..info_hashes.len().min(SCRAPE_HASHES_MAX)];
        self.start(
            now,
            endpoint,
            Query::Scrape {
                info_hashes: asked.into(),
            },
        )
    }

    /// Forgets a job; no event will tell of it.
    pub fn cancel(&mut self, job: JobId) {
        let Some(ended) = self.end(job) else { return };
        let Some(Connection::Connecting { waiting, .. }) =
            self.connections.get_mut(&ended.endpoint)
        else {
            return;
        };
        waiting.retain(|waits| *waits != job);
        if waiting.is_empty() {
            self.disconnect(ended.endpoint);
        }
    }

    /// Takes a datagram. What answers no request of ours is ignored.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        let from = canonical(from);
        let Some((transaction, response)) = Response::parse(datagram) else {
            return;
        };
        match self.transactions.get(&transaction) {
            Some(Exchange::Connect(endpoint)) if *endpoint == from => {
                self.handle_connect_response(now, from, response);
            }
            Some(Exchange::Job(job)) if self.jobs[job].endpoint == from => {
                self.handle_job_response(*job, response);
            }
            _ => {}
        }
    }

    /// Repeats, or gives up, what was not answered in time.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some((deadline, exchange)) = self.timers.first().copied() {
            if deadline > now {
                return;
            }
            self.timers.pop_first();
            match exchange {
                Exchange::Connect(endpoint) => self.handle_connect_timeout(now, endpoint),
                Exchange::Job(job) => self.handle_job_timeout(now, job),
            }
        }
    }

    /// Replaces the content of `out` by the next datagram to send; gives where to.
    #[must_use]
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> Option<SocketAddr> {
        let (endpoint, packet) = self.transmits.pop_front()?;
        *out = packet;
        Some(endpoint)
    }

    /// The next thing that happened.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<UdpTrackerEvent> {
        self.events.pop_front()
    }

    /// When to call [`UdpTracker::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.first().map(|(deadline, _)| *deadline)
    }

    /// How many announces and scrapes are under way.
    pub fn jobs_active(&self) -> usize {
        self.jobs.len()
    }

    fn start(
        &mut self,
        now: Time,
        endpoint: SocketAddr,
        query: Query,
    ) -> Result<JobId, TooManyJobs> {
        if self.jobs.len() >= self.config.jobs_max {
            return Err(TooManyJobs {
                limit: self.config.jobs_max,
            });
        }
        self.last_job.0 += 1;
        let id = self.last_job;
        let transaction = self.new_transaction(Exchange::Job(id));
        let endpoint = canonical(endpoint);
        self.jobs.insert(
            id,
            Job {
                endpoint,
                query,
                transaction,
                retries: 0,
                deadline: None,
            },
        );
        self.advance(now, id);
        Ok(id)
    }

    /// Sends a job, or sees to it that a connection id will come.
    fn advance(&mut self, now: Time, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        match self.connections.get_mut(&job.endpoint) {
            Some(Connection::Connected {
                id: connection,
                until,
            }) if now < *until => {
                let deadline = answer_deadline(now, job.retries);
                job.deadline = Some(deadline);
                self.timers.insert((deadline, Exchange::Job(id)));
                let packet = job.query.packet(*connection, job.transaction);
                self.transmits.push_back((job.endpoint, packet));
            }
            Some(Connection::Connecting { waiting, .. }) => waiting.push(id),
            _ => {
                let (endpoint, retries) = (job.endpoint, job.retries);
                self.connect(now, endpoint, retries, id);
            }
        }
    }

    fn connect(&mut self, now: Time, endpoint: SocketAddr, retries: u32, waits: JobId) {
        self.forget_connections(now);
        let exchange = Exchange::Connect(endpoint);
        let transaction = self.new_transaction(exchange);
        let deadline = answer_deadline(now, retries);
        let waiting = vec![waits];
        let connecting = Connection::Connecting {
            transaction,
            retries,
            deadline,
            waiting,
        };
        self.connections.insert(endpoint, connecting);
        self.timers.insert((deadline, exchange));
        self.transmits
            .push_back((endpoint, connect_request(transaction)));
    }

    /// Makes room among the connection ids: each job has at most one connect request, so what is over the
    /// limit are ids, which can be had again.
    fn forget_connections(&mut self, now: Time) {
        let limit = self.config.jobs_max;
        if self.connections.len() < limit {
            return;
        }
        let good = |connection: &Connection| match connection {
            Connection::Connected { until, .. } => now < *until,
            Connection::Connecting { .. } => true,
        };
        self.connections.retain(|_, connection| good(connection));
        if self.connections.len() >= limit {
            self.connections
                .retain(|_, own| matches!(own, Connection::Connecting { .. }));
        }
    }

    fn handle_connect_response(&mut self, now: Time, from: SocketAddr, response: Response<'_>) {
        match response {
            Response::Connect(id) => self.handle_connected(now, from, id),
            Response::Error(reason) => {
                self.fail_waiting(from, &TrackerFailure::refused(reason, None));
            }
            Response::Announce(_) | Response::Scrape(_) => {}
        }
    }

    fn handle_connected(&mut self, now: Time, from: SocketAddr, id: ConnectionId) {
        let waiting = self.disconnect(from);
        let until = now + CONNECTION_LIFETIME;
        self.connections
            .insert(from, Connection::Connected { id, until });
        for job in waiting {
            self.advance(now, job);
        }
    }

    fn handle_job_response(&mut self, id: JobId, response: Response<'_>) {
        let job = &self.jobs[&id];
        let (endpoint, refused) = (job.endpoint, matches!(response, Response::Error(_)));
        let Some(event) = answered(id, job, response) else {
            return;
        };
        // A late answer can come while the job waits for a new connection id.
        self.cancel(id);
        if refused {
            self.forget_connection(endpoint);
        }
        self.events.push_back(event);
    }

    fn handle_connect_timeout(&mut self, now: Time, endpoint: SocketAddr) {
        let Some(Connection::Connecting {
            transaction,
            retries,
            deadline,
            ..
        }) = self.connections.get_mut(&endpoint)
        else {
            return;
        };
        if *retries >= self.config.retries_max {
            self.fail_waiting(endpoint, &TrackerFailure::TimedOut);
            return;
        }
        *retries += 1;
        *deadline = answer_deadline(now, *retries);
        self.timers.insert((*deadline, Exchange::Connect(endpoint)));
        self.transmits
            .push_back((endpoint, connect_request(*transaction)));
    }

    fn handle_job_timeout(&mut self, now: Time, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.deadline = None;
        if job.retries >= self.config.retries_max {
            self.fail(id, TrackerFailure::TimedOut);
        } else {
            job.retries += 1;
            self.advance(now, id);
        }
    }

    /// Fails what waits for the connection id of an endpoint.
    fn fail_waiting(&mut self, endpoint: SocketAddr, failure: &TrackerFailure) {
        for job in self.disconnect(endpoint) {
            self.fail(job, failure.clone());
        }
    }

    fn fail(&mut self, id: JobId, failure: TrackerFailure) {
        if let Some(job) = self.end(id) {
            self.events.push_back(job.query.failed(id, failure));
        }
    }

    /// Takes a job out, with its timer and its transaction.
    fn end(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        self.transactions.remove(&job.transaction);
        if let Some(deadline) = job.deadline {
            self.timers.remove(&(deadline, Exchange::Job(id)));
        }
        Some(job)
    }

    /// Takes a connection out, with its timer and its transaction; gives the jobs that waited for it.
    fn disconnect(&mut self, endpoint: SocketAddr) -> Vec<JobId> {
        let Some(Connection::Connecting {
            transaction,
            deadline,
            waiting,
            ..
        }) = self.connections.remove(&endpoint)
        else {
            return Vec::new();
        };
        self.transactions.remove(&transaction);
        self.timers.remove(&(deadline, Exchange::Connect(endpoint)));
        waiting
    }

    /// Drops an endpoint's connection id: some trackers answer with an error when they do not know it any
    /// more, and the next attempt must not fail for the same reason.
    fn forget_connection(&mut self, endpoint: SocketAddr) {
        if let Some(Connection::Connected { .. }) = self.connections.get(&endpoint) {
            self.connections.remove(&endpoint);
        }
    }

    fn new_transaction(&mut self, exchange: Exchange) -> TransactionId {
        loop {
            let transaction = TransactionId(self.rng.next_u32());
            if let Entry::Vacant(free) = self.transactions.entry(transaction) {
                free.insert(exchange);
                return transaction;
            }
        }
    }

    /// Panics if the parts contradict each other.
    #[cfg(test)]
    fn check_invariants(&self) {
        let connecting = self
            .connections
            .values()
            .filter_map(|connection| match connection {
                Connection::Connecting { waiting, .. } => Some(waiting),
                Connection::Connected { .. } => None,
            });
        let waiting: Vec<JobId> = connecting.clone().flatten().copied().collect();
        assert!(connecting.clone().all(|waiting| !waiting.is_empty()));
        for (id, job) in &self.jobs {
            let waits = waiting.iter().filter(|waits| *waits == id).count();
            assert_eq!(
                waits + usize::from(job.deadline.is_some()),
                1,
                "{id}: sent, or waits once"
            );
            assert_eq!(
                self.transactions.get(&job.transaction),
                Some(&Exchange::Job(*id))
            );
        }
        assert_eq!(
            self.transactions.len(),
            self.jobs.len() + connecting.clone().count()
        );
        assert_eq!(
            self.timers.len() + waiting.len(),
            self.jobs.len() + connecting.count()
        );
    }
}

/// What an answer makes of a job; `None` if it answers something else, or is cut off: then the request will be
/// repeated.
fn answered(id: JobId, job: &Job, response: Response<'_>) -> Option<UdpTrackerEvent> {
    match (&job.query, response) {
        (Query::Announce { .. }, Response::Announce(body)) => {
            let response = announce_response(body, job.endpoint)?;
            Some(UdpTrackerEvent::Announced {
                job: id,
                result: Ok(response),
            })
        }
        (Query::Scrape { info_hashes }, Response::Scrape(body)) => {
            let response = scrape_response(body, info_hashes);
            Some(UdpTrackerEvent::Scraped {
                job: id,
                result: Ok(response),
            })
        }
        (query, Response::Error(reason)) => {
            Some(query.failed(id, TrackerFailure::refused(reason, None)))
        }
        _ => None,
    }
}

/// One endpoint, one form: IPv4 as such, without the flow label and scope that a socket may report.
fn canonical(addr: SocketAddr) -> SocketAddr {
    let ip: IpAddr = addr.ip().to_canonical();
    SocketAddr::new(ip, addr.port())
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
