//! What can be chosen.

use std::net::IpAddr;
use std::time::Duration;

/// How a socket behaves. All fields have the values of the field's largest implementations to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UtpConfig {
    /// How much delay of their own making all uTP connections through one queue aim at (BEP 29: 100 ms).
    pub target_delay: Duration,
    /// By how many bytes a round trip the window grows at most once it has left slow start.
    pub gain_bytes: u32,
    /// The most unread and out-of-order bytes. A connection begins with a sixteenth, and earns the rest.
    pub receive_buffer_bytes_max: usize,
    /// The most bytes written but not acknowledged.
    pub send_buffer_bytes_max: usize,
}

impl Default for UtpConfig {
    fn default() -> Self {
        Self {
            target_delay: Duration::from_millis(100),
            gain_bytes: 3000,
            receive_buffer_bytes_max: 4 * 1024 * 1024,
            send_buffer_bytes_max: 4 * 1024 * 1024,
        }
    }
}

/// Which datagrams fit a path, by family: what certainly does, and what is the most that is worth a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DatagramLimits {
    pub(crate) floor: usize,
    pub(crate) ceiling: usize,
}

impl DatagramLimits {
    /// IPv4 guarantees 576 bytes (RFC 1122), IPv6 1280 (RFC 8200); Ethernet carries 1500, less the headers of IP
    /// and UDP.
    pub(crate) const fn of(remote: IpAddr) -> Self {
        match remote {
            IpAddr::V4(_) => Self {
                floor: 576 - 28,
                ceiling: 1500 - 28,
            },
            IpAddr::V6(_) => Self {
                floor: 1280 - 48,
                ceiling: 1500 - 48,
            },
        }
    }
}
