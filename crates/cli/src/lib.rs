//! The `riverrun` program as a library: parse, run one command, give an exit code.
//!
//! Everything that a command may touch of the process (arguments, variables, streams, the clock) comes in
//! through [`Env`], so that tests run whole commands without a process. Data goes to stdout and talk to stderr.

mod args;
mod commands;
mod config;
mod demo;
mod env;
mod exit;
mod failure;
mod layers;
mod parse;
mod progress;
mod replace;
mod screen;
mod signals;
mod spelling;
mod summary;
mod torrent;
mod transfer;
mod values;
mod visible;

pub use env::{Env, Terminals};
pub use exit::ExitCode;

use tracing_subscriber::filter::LevelFilter;

use crate::parse::{Parsed, parse};
use crate::screen::Screen;

/// Runs the program: one command, from its arguments to its exit code.
pub fn run(env: Env) -> ExitCode {
    match parse(&env) {
        Parsed::Run(cli) => {
            trace(cli.global.verbose);
            let (mut screen, surroundings) = Screen::new(env, &cli.global);
            let outcome = commands::run(cli.command, &surroundings, &mut screen);
            outcome.map_or_else(|failure| screen.failure(&failure), |()| ExitCode::Ok)
        }
        Parsed::Stop(stop) => stop.show(env),
    }
}

/// With `-vv` the parts tell what they do, with `-vvv` each step of it, on the process's stderr.
fn trace(verbose: u8) {
    let level = match verbose {
        0 | 1 => return,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr);
    // In a test, an earlier run of this process may have set it.
    let _ = subscriber.try_init();
}

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
