//! `riverrun completions`: completions from the same declaration as the parser.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::Outcome;
use crate::screen::Screen;

/// The arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell to print them for
    shell: Shell,
}

pub(crate) fn run(args: &Completions, screen: &mut Screen) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "riverrun", &mut script);
    screen.raw(false, &script)
}
