//! The messages of the DHT (BEP 5, "KRPC Protocol"), both ways. What is read borrows from the datagram.

mod query;
mod read;
mod reply;

pub(crate) use query::{Ask, Asker, Padding, Put, PutSigned, Want, write_query};
pub(crate) use read::{Answer, Body, Message, read};
pub(crate) use reply::{ItemPart, Reply, Samples, write_error, write_reply};

/// The name and version of the program, as messages tell it (BEP 20).
pub(crate) const CLIENT: &[u8; 4] = b"RR\x01\x00";

/// Error codes (BEP 5, BEP 44).
pub(crate) mod code {
    pub(crate) const PROTOCOL: i64 = 203;
    pub(crate) const METHOD_UNKNOWN: i64 = 204;
    pub(crate) const VALUE_TOO_BIG: i64 = 205;
    pub(crate) const INVALID_SIGNATURE: i64 = 206;
    pub(crate) const SALT_TOO_BIG: i64 = 207;
    pub(crate) const CAS_MISMATCH: i64 = 301;
    pub(crate) const SEQ_TOO_LOW: i64 = 302;
}
