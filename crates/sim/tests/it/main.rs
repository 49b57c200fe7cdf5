//! Worlds at work.

mod determinism;
mod levels;
