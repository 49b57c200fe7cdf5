//! The riverrun tracker: `riverrun-tracker`'s swarms behind real sockets, HTTP and UDP.
//!
//! ```no_run
//! # async fn run() -> Result<(), riverrun_trackerd::TrackerdError> {
//! use riverrun_trackerd::Trackerd;
//!
//! let tracker = Trackerd::builder()
//!     .http("0.0.0.0:6969".parse().expect("an address"))
//!     .udp("0.0.0.0:6969".parse().expect("an address"))
//!     .start()
//!     .await?;
//! println!("announce to http://{}/announce", tracker.http_addrs()[0]);
//! tracker.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! A socket task per address, a task per HTTP connection, and one table of swarms behind a lock that is held
//! for one announce at a time. All swarms are in memory: after a restart, clients fill them again within an
//! interval. TLS, access lists and WebSocket are not here.

mod builder;
mod connections;
mod http;
mod running;
mod service;
mod sockets;
mod udp;

pub use builder::Trackerd;
pub use running::Running;
pub use service::TrackerdStats;
pub use sockets::{TrackerdError, Transport};
