//! The tracker on loopback, asked over real sockets.

mod clients;
mod http;
mod udp;
