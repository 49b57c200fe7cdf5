//! How fast it can be done.

use std::num::NonZero;

/// The least time in which a file can be brought to all peers, if only uplinks are narrow (Kumar and Ross 2006):
/// the seeder has to send each byte once, and all uplinks together have to send it once to each peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    payload_bytes: u64,
    /// The uplink of each, the seeder too, in bytes per second.
    up: NonZero<u64>,
    peers: u32,
}

#[expect(clippy::cast_precision_loss, reason = "times for people")]
impl Bound {
    pub(crate) const fn new(payload_bytes: u64, up: NonZero<u64>, peers: u32) -> Self {
        Self {
            payload_bytes,
            up,
            peers,
        }
    }

    pub(crate) const fn payload_bytes(self) -> u64 {
        self.payload_bytes
    }

    /// `max(F / u_seeder, N·F / (u_seeder + Σ u_peer))`.
    pub(crate) fn seconds(self) -> f64 {
        let (all, up) = (self.payload_bytes as f64, self.up.get() as f64);
        let peers = f64::from(self.peers);
        (all / up).max(peers * all / (up * (peers + 1.0)))
    }

    /// How long the seeder would take to send a copy to each, with no help.
    pub(crate) fn alone_seconds(self) -> f64 {
        f64::from(self.peers) * self.payload_bytes as f64 / self.up.get() as f64
    }

    /// How many times the bound a time is.
    pub(crate) fn ratio(self, seconds: f64) -> f64 {
        seconds / self.seconds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeder_has_to_send_each_byte_once() {
        let bound = Bound::new(16_000_000, NonZero::new(4_000_000).unwrap(), 4);
        assert!((bound.seconds() - 4.0).abs() < 1e-9);
        assert!((bound.alone_seconds() - 16.0).abs() < 1e-9);
        assert!((bound.ratio(5.0) - 1.25).abs() < 1e-9);
    }
}
