//! Times in scenarios: seconds, as a number with a fraction.

use std::time::Duration;

use riverrun_base::Time;
use serde::{Deserialize, Deserializer, Serializer};

/// A time in seconds since the world began.
#[expect(
    clippy::cast_precision_loss,
    reason = "runs are far shorter than 2^52 µs"
)]
pub(crate) const fn of(time: Time) -> f64 {
    time.as_micros() as f64 / 1e6
}

pub(crate) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
}
