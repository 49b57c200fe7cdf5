//! What the UDP client is asked to do, and what came of it; one request under way and its timer.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use riverrun_base::{InfoHash, Time};
use thiserror::Error;

use super::packet::{ConnectionId, TransactionId, announce_request, scrape_request};
use crate::announce::{AnnounceRequest, AnnounceResponse};
use crate::failure::TrackerFailure;
use crate::scrape::ScrapeResponse;

/// The first wait for an answer; each further one is twice as long (BEP 15, "Time outs").
const ANSWER_WAIT: Duration = Duration::from_secs(15);
/// The last wait is the first times 2 to the power of this.
pub(super) const RETRIES_MAX: u32 = 8;

/// The name of an announce or scrape under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub(super) u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// There is no room for another announce or scrape until one under way has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{limit} announces and scrapes are under way, which is the limit")]
pub struct TooManyJobs {
    /// The limit.
    pub limit: usize,
}

/// What came of a job. Each job that is not cancelled ends with one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UdpTrackerEvent {
    /// An announce has ended.
    Announced {
        /// Which.
        job: JobId,
        /// The answer.
        result: Result<AnnounceResponse, TrackerFailure>,
    },
    /// A scrape has ended.
    Scraped {
        /// Which.
        job: JobId,
        /// The answer.
        result: Result<ScrapeResponse, TrackerFailure>,
    },
}

/// What a job asks for.
#[derive(Debug)]
pub(super) enum Query {
    Announce {
        request: Box<AnnounceRequest>,
        path_and_query: Box<str>,
    },
    Scrape {
        info_hashes: Box<[InfoHash]>,
    },
}

impl Query {
    pub(super) fn packet(&self, connection: ConnectionId, transaction: TransactionId) -> Vec<u8> {
        match self {
            Self::Announce {
                request,
                path_and_query,
            } => announce_request(connection, transaction, request, path_and_query),
            Self::Scrape { info_hashes } => scrape_request(connection, transaction, info_hashes),
        }
    }

    pub(super) fn failed(&self, job: JobId, failure: TrackerFailure) -> UdpTrackerEvent {
        match self {
            Self::Announce { .. } => UdpTrackerEvent::Announced {
                job,
                result: Err(failure),
            },
            Self::Scrape { .. } => UdpTrackerEvent::Scraped {
                job,
                result: Err(failure),
            },
        }
    }
}

/// An announce or scrape under way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) endpoint: SocketAddr,
    pub(super) query: Query,
    pub(super) transaction: TransactionId,
    /// How often it was repeated.
    pub(super) retries: u32,
    /// When to repeat it; `None` while it waits for a connection id.
    pub(super) deadline: Option<Time>,
}

/// What we have of a tracker's endpoint.
#[derive(Debug)]
pub(super) enum Connection {
    /// Nothing yet: we asked for a connection id.
    Connecting {
        transaction: TransactionId,
        retries: u32,
        deadline: Time,
        /// What to send then.
        waiting: Vec<JobId>,
    },
    /// A connection id that may be used before `until`.
    Connected { id: ConnectionId, until: Time },
}

/// A request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Exchange {
    /// For a connection id.
    Connect(SocketAddr),
    /// For the answer to a job.
    Job(JobId),
}

/// When to give up waiting for the answer to a request sent now, which was repeated `retries` times.
pub(super) fn answer_deadline(now: Time, retries: u32) -> Time {
    now + ANSWER_WAIT * 2_u32.pow(retries.min(RETRIES_MAX))
}
