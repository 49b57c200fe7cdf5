//! One BitTorrent peer connection, without any I/O: bytes in and out on one side, decisions on the other.
//!
//! A [`PeerConn`] knows its own peer and nobody else. A driver feeds it bytes and the time; the swarm's
//! decisions reach it as [`PeerCommand`]s and it reports as [`PeerEvent`]s. It checks all that the peer
//! says against the protocol and against what was asked, so that whoever consumes its events may rely on
//! them: an index is in range, a block was requested, a bitfield fits.
//!
//! It does not know which pieces we want, whom we unchoke, sockets, files or clocks.

mod blocks;
mod codec;
mod command;
mod config;
mod conn;
mod credit;
mod error;
mod event;
mod exchange;
mod handshake;
mod hash_exchange;
mod hashes;
mod holepunch;
mod metadata;
mod mse;
mod pace;
mod patience;
mod pending;
mod serve;
mod session;
mod their_pieces;
mod timers;
mod transmit;
mod window;

pub use blocks::BlockRun;
pub use command::{Attach, CloseReason, Credit, DialFailure, PeerCommand, WebSeedFailure};
pub use config::PeerConfig;
pub use conn::{PeerConn, Role, Totals};
pub use error::PeerMisbehaved;
pub use event::{Features, PeerEvent, PeerHello};
pub use exchange::{Contact, EXCHANGE_MAX, PeerExchange};
pub use hashes::{HashRequest, Hashes};
pub use holepunch::{Holepunch, HolepunchError};
pub use mse::{Encryption, EncryptionPolicy, InvalidEncryptionPolicy, veiled};
pub use transmit::SendBatch;
pub use window::{Arrival, Window};
