//! Sockets against each other, in a world of virtual time.

mod delivery;
mod hostile;
mod rates;
mod tcp;
mod world;
