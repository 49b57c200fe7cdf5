//! uTP (BEP 29): a reliable stream over UDP that yields to other traffic, without any I/O.
//!
//! [`UtpSocket`] is one connection: datagrams and a time go in, datagrams and bytes in order come out.
//! [`Demux`] finds the connection that a datagram belongs to. Neither knows a socket or a clock; whoever drives
//! them sends what [`UtpSocket::poll_transmit`] gives and calls back at [`UtpSocket::poll_timeout`].
//!
//! What a stranger can make us do is bounded: see [`UtpConfig`] and the constants of each module. Before a peer
//! has shown that it receives what we send, it gets one packet of 20 bytes for each `SYN` of its own, and nobody
//! gets an answer to a packet of an unknown connection, so that there is nothing to reflect (Adamsky et al.,
//! WOOT 2015).

mod config;
mod congestion;
mod delay;
mod demux;
mod ledbat;
mod mtu;
mod packet;
mod recv;
mod rtt;
mod send;
mod seq;
mod socket;
mod timer;

pub use config::UtpConfig;
pub use demux::{ConnectionIds, Demux, Route};
pub use packet::{InvalidPacket, Packet, PacketKind, is_utp};
pub use socket::{Transmit, UtpEnd, UtpSocket};
