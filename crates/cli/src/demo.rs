//! What `riverrun demo` shows: a swarm of whole engines in one process, and the words for what happens in it.
//!
//! [`Swarm`] has the engines and takes a [`Look`] at all of them; the other parts know only looks: [`Account`]
//! remembers who gave what to whom, [`Story`] notices what is worth a sentence, [`Picture`] draws.

mod account;
mod bound;
mod copies;
pub(crate) mod folder;
mod look;
mod picture;
mod place;
mod story;
mod swarm;

pub(crate) use account::Account;
pub(crate) use bound::Bound;
pub(crate) use copies::verify_copies;
pub(crate) use look::Look;
pub(crate) use picture::Picture;
pub(crate) use place::Place;
pub(crate) use story::Story;
pub(crate) use swarm::Swarm;
