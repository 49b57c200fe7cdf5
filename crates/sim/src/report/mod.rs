//! A run as a page for people: one file that needs nothing else, neither network nor program.
//!
//! The arithmetic is done here and tested here; the page only draws what it is given. It knows nothing of the world
//! that ran, only of [`Recording`](crate::recording::Recording)s.

mod flights;
mod holdings;
mod page;
mod run;
mod series;
mod steps;
mod tally;
mod words;

#[cfg(test)]
pub(crate) mod sample;

pub use page::{Chart, Report, Table, page};
pub use run::Labelled;
pub use steps::{Step, steps};
pub use tally::Tally;
