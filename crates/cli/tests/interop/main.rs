//! Whole transfers over loopback, byte for byte: between `riverrun` and other people's clients, and of `riverrun`
//! alone when it is killed, interrupted, lied to, or given bad input and bad places.
//!
//! The clients are programs of the system: aria2, Transmission, and libtorrent through its Python package, whose
//! interpreter `RIVERRUN_TEST_PYTHON` names. Pages are looked at by Chromium. One that is missing is said and skipped,
//! except in CI, where it is a failure.

#![expect(
    clippy::print_stderr,
    reason = "the test runner shows it for what fails or is skipped"
)]

mod bad_input;
mod bad_places;
mod bad_trackers;
mod clients;
mod creation;
mod dht;
mod endings;
mod exchange;
mod firewalls;
mod hostile;
mod https;
mod kills;
mod local;
mod machine;
mod marks;
mod narrowing;
mod nats;
mod netns;
mod network;
mod networks;
mod page;
mod payload;
mod proxies;
mod recording;
mod riverrun;
mod routers;
mod scene;
mod scrape;
mod stalls;
mod tracker;
mod transfers;
mod web;
mod web_seeds;
