//! The command line: the flags that all commands share, and the commands.

use std::path::PathBuf;

use clap::{ArgAction, Args, ColorChoice, Parser};

use crate::commands::Command;
use crate::exit::ExitCode;

/// BitTorrent in one program: publish, download, seed and track.
#[derive(Debug, Parser)]
#[command(
    name = "riverrun",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(after_long_help = after_help(), after_help = "Exit codes and configuration: riverrun --help")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Write events as JSON to stdout, one a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say less: -q only warnings, -qq only errors
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "verbose")]
    pub(crate) quiet: u8,
    /// Say more: -v details, -vv what the parts do
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Colour the output; `NO_COLOR` turns `auto` off
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
    /// Read this configuration file, not `$XDG_CONFIG_HOME/riverrun/config.toml`
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Use [profile.NAME] of the configuration file
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
}

fn after_help() -> String {
    format!(
        "\
Configuration:
  Every flag is also a variable and a key: --limit-up is RIVERRUN_LIMIT_UP in the environment and `limit-up`
  in the configuration file, at the top, in a table of one command ([get]), or in a profile ([profile.NAME],
  [profile.NAME.get]). A flag beats a variable, that a profile, that the rest of the file. A list is an array
  in the file and separated by spaces in a variable. --FLAG=false turns off a switch that is on there.

Exit codes:
{}",
        ExitCode::table()
    )
}
