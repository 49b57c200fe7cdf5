//! Values that people type and that are no plain number or text.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use riverrun_base::ByteSize;
use thiserror::Error;

/// A pattern for the paths of files: `*.txt` is any file of that name, `docs/*` one directory, `**` any number.
#[derive(Clone, Debug)]
pub(crate) struct PathGlob(GlobMatcher);

impl PathGlob {
    /// Whether the path, relative to the root of the torrent, or its last element is meant.
    pub(crate) fn matches(&self, path: &Path) -> bool {
        self.0.is_match(path) || path.file_name().is_some_and(|name| self.0.is_match(name))
    }
}

impl PathGlob {
    /// The same for a path that starts with the torrent's name, which the pattern may leave out.
    pub(crate) fn matches_in_torrent(&self, path: &Path) -> bool {
        let mut inner = path.components();
        inner.next();
        self.matches(path) || self.0.is_match(inner.as_path())
    }
}

impl FromStr for PathGlob {
    type Err = globset::Error;

    fn from_str(text: &str) -> Result<Self, globset::Error> {
        let glob = GlobBuilder::new(text.trim_end_matches('/'))
            .literal_separator(true)
            .build()?;
        Ok(Self(glob.compile_matcher()))
    }
}

/// How long the pieces of a new torrent are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PieceSize {
    /// By the size of the data.
    Auto,
    /// In bytes.
    Bytes(u64),
}

impl FromStr for PieceSize {
    type Err = riverrun_base::ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(|ByteSize(bytes)| Self::Bytes(bytes)),
        }
    }
}

impl fmt::Display for PieceSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

/// The creation date of a new torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CreationDate {
    /// The time of the run.
    Now,
    /// No date: the same data gives the same torrent file.
    None,
    /// Seconds since 1970.
    At(i64),
}

impl CreationDate {
    /// Seconds since 1970, if there is to be a date.
    pub(crate) const fn unix(self, now: i64) -> Option<i64> {
        match self {
            Self::Now => Some(now),
            Self::None => None,
            Self::At(unix) => Some(unix),
        }
    }
}

/// A text that is no date.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected now, none, seconds since 1970 or a date like 2026-11-21T08:30:00Z, found {0:?}")]
pub(crate) struct InvalidDate(String);

impl FromStr for CreationDate {
    type Err = InvalidDate;

    fn from_str(text: &str) -> Result<Self, InvalidDate> {
        let invalid = || InvalidDate(text.to_owned());
        match text {
            "now" => Ok(Self::Now),
            "none" => Ok(Self::None),
            _ => match text.parse() {
                Ok(seconds) => Ok(Self::At(seconds)),
                Err(_) => unix_seconds(text).map(Self::At).ok_or_else(invalid),
            },
        }
    }
}

/// Seconds since 1970 of an RFC 3339 date with time and offset.
fn unix_seconds(text: &str) -> Option<i64> {
    let parsed: toml::value::Datetime = text.parse().ok()?;
    let (date, time) = (parsed.date?, parsed.time?);
    let offset_minutes = match parsed.offset? {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_since_1970(
        i64::from(date.year),
        i64::from(date.month),
        i64::from(date.day),
    );
    let minutes = (days * 24 + i64::from(time.hour)) * 60 + i64::from(time.minute) - offset_minutes;
    Some(minutes * 60 + i64::from(time.second.unwrap_or(0)))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years start in March, so that the leap day is last.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

/// A date as RFC 3339 in UTC.
pub(crate) fn rfc3339(unix: i64) -> String {
    let (days, seconds) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    // Howard Hinnant's inverse of `days_since_1970`, by eras of 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A text that is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected a time like 90s, 5m, 2h or 1d, found {0:?}")]
pub(crate) struct InvalidDuration(String);

/// A length of time: a number of seconds, or one with `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let split = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let scale: u64 = match unit.trim() {
            "" | "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(InvalidDuration(text.to_owned())),
        };
        let seconds = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(scale));
        seconds
            .map(|seconds| Self(Duration::from_secs(seconds)))
            .ok_or_else(|| InvalidDuration(text.to_owned()))
    }
}

/// An address that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected an address like {0}, found {1:?}")]
pub(crate) struct InvalidUrl(&'static str, String);

/// Whether it has one of the schemes and a host, and nothing in it could end a line of a request.
fn is_url(text: &str, schemes: &[&str]) -> bool {
    let clean = text.chars().all(|c| !c.is_whitespace() && !c.is_control());
    let parts = text.split_once("://").filter(|_| clean);
    parts.is_some_and(|(scheme, rest)| {
        let known = schemes
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known));
        known && !rest.is_empty() && !rest.starts_with(['/', ':', '?', '#'])
    })
}

/// Trackers that are asked in place of each other (BEP 12), separated by commas; may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrackerTier(pub(crate) Vec<String>);

impl FromStr for TrackerTier {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let urls = text.split(',').map(str::trim).filter(|url| !url.is_empty());
        let checked = urls.map(|url| {
            let invalid =
                || InvalidUrl("udp://host:port or http(s)://host/announce", url.to_owned());
            is_url(url, &["udp", "http", "https", "ws", "wss"])
                .then(|| url.to_owned())
                .ok_or_else(invalid)
        });
        checked.collect::<Result<_, _>>().map(Self)
    }
}

/// The address of a web server that has the files (BEP 19); may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WebSeed(String);

impl WebSeed {
    /// The address, if there is one.
    pub(crate) fn url(&self) -> Option<String> {
        Some(self.0.clone()).filter(|url| !url.is_empty())
    }
}

impl FromStr for WebSeed {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let valid = text.is_empty() || is_url(text, &["http", "https", "ftp"]);
        valid
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| InvalidUrl("http(s)://host/path", text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_unix_seconds_or_rfc_3339() {
        for (text, unix) in [
            ("0", 0),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-11-21T08:30:00+02:00", 1_795_242_600),
            ("1969-12-31T23:59:59Z", -1),
        ] {
            assert_eq!(text.parse(), Ok(CreationDate::At(unix)), "{text}");
        }
        assert_eq!("none".parse(), Ok(CreationDate::None));
        for bad in [
            "",
            "yesterday",
            "2026-11-21",
            "2026-02-30T00:00:00Z",
            "2026-11-21T08:30:00",
        ] {
            assert!(bad.parse::<CreationDate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn dates_are_shown_as_they_are_read() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2000-02-29T12:00:00Z",
            "1999-12-31T23:59:59Z",
            "2026-03-01T00:00:01Z",
        ] {
            let Ok(CreationDate::At(unix)) = text.parse() else {
                panic!("{text} is a date")
            };
            assert_eq!(rfc3339(unix), text);
        }
    }

    #[test]
    fn times_take_a_unit() {
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("5m", 300),
            ("2h", 7200),
            ("1d", 86_400),
        ] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_secs(seconds))));
        }
        for bad in [
            "",
            "m",
            "5x",
            "-1",
            "99999999999999999999",
            "99999999999999999d",
        ] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn globs_match_names_and_paths() {
        let matches =
            |glob: &str, path: &str| glob.parse::<PathGlob>().unwrap().matches(Path::new(path));
        for (glob, path, expected) in [
            ("*.txt", "a/b.txt", true),
            ("a/*.txt", "a/b.txt", true),
            ("a/*.txt", "a/c/b.txt", false),
            ("a/**/*.txt", "a/c/b.txt", true),
            (".git", "a/.git", true),
            (".git/", ".git", true),
            ("*.md", "a/b.txt", false),
        ] {
            assert_eq!(matches(glob, path), expected, "{glob} {path}");
        }
    }

    #[test]
    fn a_glob_may_leave_out_the_name_of_the_torrent() {
        let matches = |glob: &str| {
            glob.parse::<PathGlob>()
                .unwrap()
                .matches_in_torrent(Path::new("t/a/b.txt"))
        };
        assert!(matches("a/*.txt") && matches("t/a/*.txt") && matches("b.txt"));
        assert!(!matches("t/*.txt") && !matches("*.md"));
    }

    #[test]
    fn trackers_are_tiers_of_addresses() {
        let tier = |text: &str| {
            text.parse::<TrackerTier>()
                .map(|tier| tier.0.join(" "))
                .ok()
        };
        for (text, expected) in [
            ("http://a/announce", Some("http://a/announce")),
            ("udp://a:1, UDP://[::1]:2", Some("udp://a:1 UDP://[::1]:2")),
            ("", Some("")),
            ("a.example:80", None),
            ("ftp://a", None),
            ("http://", None),
            ("http:///x", None),
            ("http://a b", None),
            ("http://a\r\nHost: b", None),
        ] {
            assert_eq!(tier(text).as_deref(), expected, "{text:?}");
        }
        assert!(
            "http://a/f/".parse::<WebSeed>().is_ok() && "udp://a:1".parse::<WebSeed>().is_err()
        );
    }
}
