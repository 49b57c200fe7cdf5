//! The UDP tracker protocol (BEP 15) with its URL options (BEP 41): packets of both sides, and the client.

mod client;
mod exchange;
pub(crate) mod packet;

pub use client::{UdpTracker, UdpTrackerConfig};
pub use exchange::{JobId, TooManyJobs, UdpTrackerEvent};
