//! Connections against each other, against bytes by hand, and against chance.

mod corpus;
mod encryption;
mod flow;
mod handshake;
mod hostile;
mod messages;
mod metadata;
mod pair;
mod properties;
mod raw;
mod requests;
mod timing;
mod torrent;
