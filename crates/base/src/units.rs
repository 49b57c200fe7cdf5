//! Sizes and rates, as people write and read them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A text that is no size or rate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseUnitError {
    /// There is no number at the start.
    #[error("expected a number, as in 20M or 1.5MiB, found {0:?}")]
    Number(String),
    /// The unit is unknown.
    #[error("unknown unit {0:?}: expected B, kB, MB, GB, TB, KiB, MiB, GiB or TiB")]
    Unit(String),
    /// It does not fit 64 bits.
    #[error("{0:?} is too large")]
    TooLarge(String),
}

/// A number of bytes.
///
/// Written with decimal units (kB, MB, GB, TB; `k`, `M`, `G`, `T` alone are the same) or binary ones (KiB,
/// MiB, GiB, TiB); shown with decimal ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// A number of bytes per second.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Rate(u64);

impl Rate {
    /// Nothing moves.
    pub const ZERO: Self = Self(0);

    /// From bytes per second.
    pub const fn from_bytes_per_second(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes per second.
    pub const fn bytes_per_second(self) -> u64 {
        self.0
    }

    /// How many bytes move in a time, to the microsecond; what is less than a byte is left out. `u64::MAX` if it is more
    /// than that.
    pub fn bytes_in(self, time: Duration) -> u64 {
        let bytes = u128::from(self.0).saturating_mul(time.as_micros()) / 1_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

const UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("b", 1),
    ("k", 1_000),
    ("kb", 1_000),
    ("kib", 1 << 10),
    ("m", 1_000_000),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("g", 1_000_000_000),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("t", 1_000_000_000_000),
    ("tb", 1_000_000_000_000),
    ("tib", 1 << 40),
];

fn parse(text: &str) -> Result<u64, ParseUnitError> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') {
        return Err(ParseUnitError::Number(text.to_owned()));
    }
    let wanted = unit.trim().to_ascii_lowercase();
    let scale = UNITS
        .iter()
        .find_map(|(name, scale)| (*name == wanted).then_some(*scale))
        .ok_or_else(|| ParseUnitError::Unit(unit.trim().to_owned()))?;
    let too_large = || ParseUnitError::TooLarge(text.to_owned());
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let bytes = whole.checked_mul(scale).ok_or_else(too_large)?;
    bytes
        .checked_add(fraction_of(fraction, scale))
        .ok_or_else(too_large)
}

/// `0.<digits>` of `scale`, rounded down; digits past the ninth do not count.
fn fraction_of(digits: &str, scale: u64) -> u64 {
    let (value, divisor) = digits
        .bytes()
        .take(9)
        .fold((0_u128, 1_u128), |(value, divisor), digit| {
            (value * 10 + u128::from(digit - b'0'), divisor * 10)
        });
    u64::try_from(value * u128::from(scale) / divisor).unwrap_or(0)
}

impl FromStr for ByteSize {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, ParseUnitError> {
        parse(text).map(Self)
    }
}

impl FromStr for Rate {
    type Err = ParseUnitError;

    /// As a size, with or without `/s` at the end.
    fn from_str(text: &str) -> Result<Self, ParseUnitError> {
        parse(text.trim().trim_end_matches("/s")).map(Self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const STEPS: [(u64, &str); 4] = [
            (1_000_000_000_000, "TB"),
            (1_000_000_000, "GB"),
            (1_000_000, "MB"),
            (1_000, "kB"),
        ];
        let shown = match STEPS.iter().find(|(scale, _)| self.0 >= *scale) {
            None => format!("{} B", self.0),
            Some((scale, unit)) => {
                let hundredths = u128::from(self.0) * 100 / u128::from(*scale);
                let (whole, rest) = (hundredths / 100, hundredths % 100);
                match whole {
                    0..10 => format!("{whole}.{rest:02} {unit}"),
                    10..100 => format!("{whole}.{} {unit}", rest / 10),
                    _ => format!("{whole} {unit}"),
                }
            }
        };
        f.pad(&shown)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/s", ByteSize(self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("16384", 16_384),
            ("20M", 20_000_000),
            ("1MiB", 1 << 20),
            ("1.5 KiB", 1536),
            ("0.25gb", 250_000_000),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        assert_eq!("2M/s".parse(), Ok(Rate::from_bytes_per_second(2_000_000)));
    }

    #[test]
    fn a_rate_counts_parts_of_seconds() {
        let bytes = |rate, time| Rate::from_bytes_per_second(rate).bytes_in(time);
        assert_eq!(bytes(3_001, Duration::from_millis(1_500)), 4_501);
        assert_eq!(bytes(1, Duration::from_millis(999)), 0);
        assert_eq!(bytes(5, Duration::ZERO), 0);
        assert_eq!(bytes(u64::MAX, Duration::from_secs(2)), u64::MAX);
    }

    #[test]
    fn what_is_no_size_says_why() {
        let check = |text: &str| text.parse::<ByteSize>().unwrap_err();
        assert_eq!(check("x"), ParseUnitError::Number("x".into()));
        assert_eq!(check("1.2.3"), ParseUnitError::Number("1.2.3".into()));
        assert_eq!(check("-1"), ParseUnitError::Number("-1".into()));
        assert_eq!(check("5 parsec"), ParseUnitError::Unit("parsec".into()));
        assert_eq!(
            check("99999999999TiB"),
            ParseUnitError::TooLarge("99999999999TiB".into())
        );
    }

    #[test]
    fn sizes_are_shown_with_three_digits() {
        let show = |bytes| ByteSize(bytes).to_string();
        assert_eq!(show(0), "0 B");
        assert_eq!(show(999), "999 B");
        assert_eq!(show(1_950_000_000), "1.95 GB");
        assert_eq!(show(34_560_000), "34.5 MB");
        assert_eq!(show(u64::MAX), "18446744 TB");
        assert_eq!(
            Rate::from_bytes_per_second(112_000_000).to_string(),
            "112 MB/s"
        );
    }
}
