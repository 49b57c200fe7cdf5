//! Whole commands, run in this process through an injected `Env`; a few through the real binary.

mod binary;
mod configuration;
mod create;
mod demo;
mod edit;
mod help;
mod magnet;
mod run;
mod show;
mod simulate;
mod torrents;
