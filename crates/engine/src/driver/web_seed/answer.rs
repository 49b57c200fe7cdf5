//! What a server's answer to a request for a part of a file is worth (RFC 9110, 14).

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, HeaderMap, RETRY_AFTER};

/// A part of a file that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Where it begins, in bytes.
    pub(super) start: u64,
    /// Where it ends; behind its beginning.
    pub(super) end: u64,
    /// How long the file must be.
    pub(super) file_len: u64,
}

/// What follows in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// What was asked for, or the first of it.
    Part,
    /// The whole file: the server knows no ranges.
    Whole,
}

/// Why nothing does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The file is not there, or is another.
    Lacks(String),
    /// Not now, or not so.
    Later {
        message: String,
        retry_after: Option<Duration>,
    },
}

impl Refusal {
    pub(super) fn later(message: impl Into<String>) -> Self {
        Self::Later {
            message: message.into(),
            retry_after: None,
        }
    }
}

/// Judges an answer by its head. `body_len` is how long the body says that it is.
pub(super) fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    body_len: Option<u64>,
    part: Part,
) -> Result<Answer, Refusal> {
    let range = headers
        .get(CONTENT_RANGE)
        .and_then(|range| content_range(range.to_str().ok()?));
    let is_other = |len: u64| len != part.file_len;
    match status {
        StatusCode::PARTIAL_CONTENT => match range {
            Some((_, Some(len))) if is_other(len) => Err(lacks(len, part.file_len)),
            Some((Some((start, end)), _)) if start == part.start && end >= start => {
                Ok(Answer::Part)
            }
            _ => Err(Refusal::later("it sends another range than was asked for")),
        },
        StatusCode::OK => match body_len.filter(|len| is_other(*len)) {
            Some(len) => Err(lacks(len, part.file_len)),
            None => Ok(Answer::Whole),
        },
        StatusCode::RANGE_NOT_SATISFIABLE => match range {
            Some((_, Some(len))) if is_other(len) => Err(lacks(len, part.file_len)),
            _ => Err(Refusal::later(status.to_string())),
        },
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(Refusal::Lacks(status.to_string())),
        _ => Err(Refusal::Later {
            message: status.to_string(),
            retry_after: retry_after(headers),
        }),
    }
}

fn lacks(len: u64, expected: u64) -> Refusal {
    Refusal::Lacks(format!(
        "its file has {len} bytes where {expected} are expected"
    ))
}

/// The first and the last byte, and the length of the whole, as far as they are said.
type ContentRange = (Option<(u64, u64)>, Option<u64>);

fn content_range(text: &str) -> Option<ContentRange> {
    let rest = text.trim().strip_prefix("bytes")?.trim_start();
    let (range, len) = rest.split_once('/')?;
    let bytes = match range.trim() {
        "*" => None,
        range => {
            let (first, last) = range.split_once('-')?;
            Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
        }
    };
    let len = match len.trim() {
        "*" => None,
        len => Some(len.parse().ok()?),
    };
    Some((bytes, len))
}

/// How long the server wants to be left alone: seconds, or until a date, which is held against the server's own clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = headers.get(reqwest::header::DATE)?.to_str().ok()?;
    let seconds = seconds_of(text)?.saturating_sub(seconds_of(now.trim())?);
    Some(Duration::from_secs(seconds))
}

/// A date as HTTP has it (`Sun, 06 Nov 1994 08:49:37 GMT`), in seconds since the year 0.
fn seconds_of(date: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = date.split_once(", ")?.1.split([' ', ':']);
    let mut number = |max: u64| {
        let number: u64 = words.next()?.parse().ok()?;
        (number <= max).then_some(number)
    };
    let day = number(31)?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64;
    let mut number = |max: u64| {
        let number: u64 = words.next()?.parse().ok()?;
        (number <= max).then_some(number)
    };
    let [year, hour, minute, second] = [number(9999)?, number(23)?, number(59)?, number(60)?];
    // Years begin in March, so that the leap day is the last of one.
    let (year, month) = match month {
        0 | 1 => (year.checked_sub(1)?, month + 10),
        _ => (year, month - 2),
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: Part = Part {
        start: 100,
        end: 200,
        file_len: 1000,
    };

    fn answer(
        status: u16,
        headers: &[(&'static str, &str)],
        body_len: Option<u64>,
    ) -> Result<Answer, Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        judge(StatusCode::from_u16(status).unwrap(), &map, body_len, PART)
    }

    fn is_later(status: u16, headers: &[(&'static str, &str)], expect: Option<u64>) -> bool {
        let expect = expect.map(Duration::from_secs);
        let answer = answer(status, headers, None);
        matches!(answer, Err(Refusal::Later { retry_after, .. }) if retry_after == expect)
    }

    fn is_lacking(status: u16, headers: &[(&'static str, &str)], body_len: Option<u64>) -> bool {
        matches!(answer(status, headers, body_len), Err(Refusal::Lacks(_)))
    }

    #[test]
    fn a_part_must_be_the_one_that_was_asked_for() {
        let range = |range| answer(206, &[("content-range", range)], None);
        assert_eq!(range("bytes 100-199/1000"), Ok(Answer::Part));
        assert_eq!(
            range("bytes 100-149/*"),
            Ok(Answer::Part),
            "a server may send less"
        );
        for wrong in [
            "bytes 0-99/1000",
            "bytes 101-199/1000",
            "bytes 100-99/1000",
            "bytes */1000",
            "items 100-199/1000",
            "bytes 100-x/1000",
            "",
        ] {
            assert!(is_later(206, &[("content-range", wrong)], None), "{wrong}");
        }
        assert!(is_later(206, &[], None));
    }

    #[test]
    fn a_file_of_another_length_is_another_file() {
        assert!(is_lacking(
            206,
            &[("content-range", "bytes 100-199/1001")],
            None
        ));
        assert!(is_lacking(416, &[("content-range", "bytes */50")], None));
        assert!(is_lacking(200, &[], Some(999)));
        assert!(is_lacking(404, &[], None) && is_lacking(410, &[], None));
        assert_eq!(answer(200, &[], Some(1000)), Ok(Answer::Whole));
        assert_eq!(answer(200, &[], None), Ok(Answer::Whole));
    }

    #[test]
    fn whoever_is_busy_says_for_how_long() {
        assert!(is_later(503, &[("retry-after", "120")], Some(120)));
        assert!(is_later(429, &[("retry-after", " 7 ")], Some(7)));
        assert!(is_later(503, &[("retry-after", "soon")], None));
        assert!(is_later(500, &[], None) && is_later(403, &[], None));
        let until = ("retry-after", "Fri, 01 Mar 2024 00:00:10 GMT");
        let now = ("date", "Thu, 29 Feb 2024 23:59:50 GMT");
        assert!(is_later(503, &[until, now], Some(20)));
        assert!(is_later(503, &[now, ("retry-after", now.1)], Some(0)));
        assert!(is_later(503, &[until], None));
    }
}
