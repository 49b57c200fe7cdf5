//! Behaviour of the whole: against a simulated disk, step by step, and against real files with all threads.

mod changed;
mod crash;
mod faults;
pub(crate) mod fixture;
pub(crate) mod memory;
mod passes;
mod real;
mod rig;
mod together;
