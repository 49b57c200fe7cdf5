//! A tracker's own side: its table of swarms, and how requests over HTTP and UDP are read and answered.
//!
//! What a client says reaches [`Swarms`] as an [`Announce`]; [`http`] and [`UdpServer`] translate. No sockets:
//! a server and a simulator drive the same code.

mod announce;
mod connection_id;
pub mod http;
mod peers;
mod swarms;
mod torrent;
mod trusted;
mod udp;

pub use announce::{Announce, AnnounceReply, Families, SwarmCounts};
pub use connection_id::ConnectionIds;
pub use swarms::{Swarms, SwarmsConfig, SwarmsFull, SwarmsStats};
pub use trusted::TrustedSources;
pub use udp::{UdpHandled, UdpServer};
