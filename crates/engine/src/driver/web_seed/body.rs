//! The body of one answer, read as it comes.

use std::time::Duration;

use reqwest::Response;
use riverrun_base::FileIndex;
use tokio::time::{Instant, timeout};

use super::answer::{Answer, Part, Refusal, judge};
use crate::driver::socket::{Family, Sockets};
use crate::driver::web::{Author, ByteRange, Web, WebError};

/// For how long a server may send nothing while we wait for it. What it sends buys it more time, up to this again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many bytes buy a second: who sends less for long is as good as silent.
const BYTES_PER_SECOND_MIN: u64 = 1024;

/// What is being read of a file.
#[derive(Debug)]
pub(super) struct Body {
    response: Response,
    file: FileIndex,
    /// Where in the file the next byte lies that is read.
    at: u64,
    /// Where the file ends, as far as it is asked for.
    end: u64,
    /// The server sends all of the file.
    answer: Answer,
    /// What has come and was not read yet.
    chunk: Chunk,
    patience: Duration,
}

/// Bytes of a body, whichever type they have there.
#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    read: usize,
}

impl Chunk {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.read..]
    }
}

impl Body {
    /// Asks for a part of a file, in each address family until one answers.
    pub(super) async fn open(
        sockets: &Sockets,
        url: &str,
        author: Author,
        (file, part): (FileIndex, Part),
    ) -> Result<Self, Refusal> {
        let web = Web::new(sockets);
        let range = ByteRange {
            first: part.start,
            last: part.end - 1,
        };
        let mut failure = WebError::NoAddress;
        for family in Family::ALL {
            match web.get_range(family, url, author, range).await {
                Some(Ok(response)) => {
                    let (status, len) = (response.status(), response.content_length());
                    let answer = judge(status, response.headers(), len, part)?;
                    return Ok(Self {
                        response,
                        file,
                        at: match answer {
                            Answer::Part => part.start,
                            Answer::Whole => 0,
                        },
                        end: match answer {
                            Answer::Part => part.end,
                            Answer::Whole => part.file_len,
                        },
                        answer,
                        chunk: Chunk::default(),
                        patience: PATIENCE,
                    });
                }
                Some(Err(error)) => failure = error,
                None => {}
            }
        }
        Err(Refusal::later(failure.to_string()))
    }

    /// Whether all of the file comes, whatever was asked for.
    pub(super) fn is_whole(&self) -> bool {
        self.answer == Answer::Whole
    }

    /// Whether this byte of this file comes soon: no more than so many lie before it.
    pub(super) fn leads_to(&self, file: FileIndex, at: u64, skip_max: u64) -> bool {
        let skipped = at.checked_sub(self.at);
        self.file == file && at < self.end && skipped.is_some_and(|skipped| skipped <= skip_max)
    }

    /// Reads what comes from a byte of the file on, as much as there is now, at least one byte; 0 if the body has ended
    /// before it.
    pub(super) async fn read(&mut self, at: u64, out: &mut [u8]) -> Result<usize, String> {
        loop {
            let skipped = usize::try_from(at.saturating_sub(self.at)).unwrap_or(usize::MAX);
            let skipped = skipped.min(self.chunk.rest().len());
            self.advance(skipped);
            let rest = self.chunk.rest();
            if !rest.is_empty() {
                let len = rest.len().min(out.len());
                out[..len].copy_from_slice(&rest[..len]);
                self.advance(len);
                return Ok(len);
            }
            if self.at >= self.end || !self.fill().await? {
                return Ok(0);
            }
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.chunk.read += bytes;
        self.at += bytes as u64;
    }

    /// Waits for more; false if there is none.
    async fn fill(&mut self) -> Result<bool, String> {
        let since = Instant::now();
        let chunk = timeout(self.patience, self.response.chunk()).await;
        let chunk = chunk.map_err(|_| "it sends nothing, or next to nothing".to_owned())?;
        let chunk = chunk.map_err(|error| WebError::from(error).to_string())?;
        let Some(chunk) = chunk else { return Ok(false) };
        let earned = Duration::from_millis(chunk.len() as u64 * 1000 / BYTES_PER_SECOND_MIN);
        let left = self.patience.saturating_sub(since.elapsed());
        self.patience = (left + earned).min(PATIENCE);
        self.chunk = Chunk {
            bytes: chunk.into(),
            read: 0,
        };
        Ok(true)
    }
}
