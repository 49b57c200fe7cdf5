//! Where payload is kept: files, the memory in front of them, and the journal that says what can be believed.
//!
//! [`Disk`] takes the [`StorageJob`](riverrun_swarm::StorageJob)s of any number of torrents and gives back
//! [`Completion`]s. It writes a piece only after it was found right, claims it only after it is durable, and never
//! harms a file that is not the torrent's. Blocking work is done by its own threads.
//!
//! What happens to a piece: its blocks are held in memory; when all are there they are hashed from memory and, if
//! right, written at once and served from then on; some seconds later the files are synced, and the journal claims
//! the piece. Under pressure blocks are written early, and read back to be hashed.
//!
//! Beside that, [`create`] makes torrents of files, and [`verify`] holds files against torrents.

mod abreast;
mod backend;
mod cache;
mod config;
pub mod create;
mod disk;
mod fault;
mod file_pool;
mod files;
mod gather;
mod ground;
mod hashing;
mod journal;
mod judge;
mod known;
mod lane;
mod os;
mod owners;
mod pass;
mod reading;
mod recent;
mod rounds;
mod span;
mod stock;
mod survey;
#[cfg(test)]
mod tests;
mod torrent;
pub mod verify;
mod work;

pub use config::{Preallocation, StorageConfig, StorageOptions};
pub use disk::{CACHE_BYTES_MIN, Completion, Disk, StartError};
#[cfg(fuzzing)]
pub use journal::fuzzing;
pub use pass::{Progress, Watch};
