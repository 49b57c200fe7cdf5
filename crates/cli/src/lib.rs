//! The `riverrun` program as a library: parse, run one command, give an exit code.
//!
//! Everything that a command may touch of the process (arguments, variables, streams, the clock) comes in
//! through [`Env`], so that tests run whole commands without a process. Data goes to stdout and talk to stderr.

mod args;
mod commands;
mod config;
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
mod values;
mod visible;

pub use env::{Env, Terminals};
pub use exit::ExitCode;

use crate::parse::{Parsed, parse};
use crate::screen::Screen;

/// Runs the program: one command, from its arguments to its exit code.
pub fn run(env: Env) -> ExitCode {
    match parse(&env) {
        Parsed::Run(cli) => {
            let (mut screen, surroundings) = Screen::new(env, &cli.global);
            let outcome = commands::run(cli.command, &surroundings, &mut screen);
            outcome.map_or_else(|failure| screen.failure(&failure), |()| ExitCode::Ok)
        }
        Parsed::Stop(stop) => stop.show(env),
    }
}
