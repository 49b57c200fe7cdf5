//! Why an announce or a scrape failed.

use std::time::Duration;

use riverrun_bencode::ParseError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::text::one_line;

/// The longest time that a tracker may tell us to stay away (BEP 31), short of "never".
const RETRY_MAX: Duration = Duration::from_hours(24);

/// When a tracker that failed may be asked again (BEP 31, "retry in").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Retry {
    /// After this time, at most a day.
    After(Duration),
    /// Never: it is no tracker, or no longer one.
    Never,
}

impl Retry {
    /// From a number of minutes.
    pub(crate) fn after_minutes(minutes: u64) -> Self {
        let asked = Duration::from_secs(minutes.saturating_mul(60));
        Self::After(asked.min(RETRY_MAX))
    }
}

/// Why an announce or a scrape failed.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TrackerFailure {
    /// The tracker refused.
    #[error("the tracker refused: {reason}")]
    Refused {
        /// Its `failure reason`, in one line of at most 256 characters.
        reason: String,
        /// When to ask again, if it said so.
        retry: Option<Retry>,
    },
    /// It answered over HTTP with neither success nor bencode.
    #[error("the tracker answered with HTTP status {0}")]
    HttpStatus(u16),
    /// Its answer cannot be read.
    #[error("the tracker's answer is invalid: {0}")]
    InvalidReply(#[from] InvalidReply),
    /// It did not answer in time.
    #[error("the tracker did not answer")]
    TimedOut,
    /// It could not be reached: no such name, no connection.
    #[error("the tracker could not be reached: {0}")]
    Unreachable(String),
    /// It does not prove who it is: its certificate is not right.
    #[error("the tracker is not trusted: {0}")]
    Untrusted(String),
    /// Its URL is of a kind that we do not speak, or may not be asked for this.
    #[error("the tracker cannot be used: {0}")]
    Unsupported(String),
}

impl TrackerFailure {
    /// A refusal with the tracker's own words.
    pub(crate) fn refused(reason: &[u8], retry: Option<Retry>) -> Self {
        Self::Refused {
            reason: one_line(reason),
            retry,
        }
    }

    /// Whether asking again would be of no use, ever.
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                retry: Some(Retry::Never),
                ..
            } | Self::Unsupported(_)
        )
    }
}

/// Why the answer of a tracker cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum InvalidReply {
    /// The body is too long.
    #[error("{actual} bytes where at most {limit} are accepted")]
    TooLong {
        /// Its length.
        actual: usize,
        /// The limit.
        limit: usize,
    },
    /// It is not bencode.
    #[error("no bencode: {0}")]
    Bencode(#[from] ParseError),
    /// It is bencode, but no dictionary.
    #[error("no dictionary")]
    NotADictionary,
    /// A compact list of peers (BEP 23, BEP 7) is cut off.
    #[error("{actual} bytes of compact peers, which is no multiple of {stride}")]
    CompactPeers {
        /// How many bytes it has.
        actual: usize,
        /// How many bytes each peer has.
        stride: usize,
    },
    /// A scrape has no `files`.
    #[error("a scrape without files")]
    NoFiles,
}
