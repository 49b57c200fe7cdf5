//! The commands, one file each.

mod completions;
mod man;

use clap::Subcommand;

use crate::failure::Outcome;
use crate::screen::{Screen, Surroundings};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the completions of a shell to stdout
    Completions(completions::Completions),
    /// Write the manual pages into a directory
    Man(man::Man),
}

/// Runs one command to its end.
pub(crate) fn run(command: Command, around: &Surroundings, screen: &mut Screen) -> Outcome {
    match command {
        Command::Completions(args) => completions::run(&args, screen),
        Command::Man(args) => man::run(&args, around, screen),
    }
}
