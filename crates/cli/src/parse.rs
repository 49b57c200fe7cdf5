//! From arguments to a command: the command line first, to know which layers there are, then all together.

use std::path::{Path, PathBuf};

use clap::{ColorChoice, CommandFactory, FromArgMatches};

use crate::args::Cli;
use crate::config::ConfigFile;
use crate::env::Env;
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::layers::{Layers, schema, with_switch_values};
use crate::screen::{Screen, is_coloured};

/// What the arguments ask for.
pub(crate) enum Parsed {
    Run(Box<Cli>),
    Stop(Stop),
}

/// Nothing is to be run.
pub(crate) enum Stop {
    /// Help, the version, or a wrong command line, in the parser's words.
    Clap(clap::Error),
    /// A layer is wrong.
    Failure(Failure),
}

impl From<clap::Error> for Stop {
    fn from(error: clap::Error) -> Self {
        Self::Clap(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Stop {
    /// Tells the user, and gives the exit code.
    pub(crate) fn show(self, env: Env) -> ExitCode {
        match self {
            Self::Failure(failure) => Screen::plain(env).failure(&failure),
            Self::Clap(error) => {
                let to_stderr = error.use_stderr();
                let terminal = if to_stderr {
                    env.terminals.stderr
                } else {
                    env.terminals.stdout
                };
                let text = error.render();
                let coloured = is_coloured(ColorChoice::Auto, &env, terminal);
                let text = if coloured {
                    text.ansi().to_string()
                } else {
                    text.to_string()
                };
                let mut screen = Screen::plain(env);
                match (to_stderr, screen.raw(to_stderr, text.as_bytes())) {
                    (_, Err(failure)) => screen.failure(&failure),
                    (true, Ok(())) => ExitCode::Usage,
                    (false, Ok(())) => ExitCode::Ok,
                }
            }
        }
    }
}

/// Reads the command line and the layers under it.
pub(crate) fn parse(env: &Env) -> Parsed {
    match try_parse(env) {
        Ok(cli) => Parsed::Run(Box::new(cli)),
        Err(Stop::Clap(error)) if !error.use_stderr() => {
            Parsed::Stop(Stop::Clap(plain_help(env, error)))
        }
        Err(stop) => Parsed::Stop(stop),
    }
}

fn try_parse(env: &Env) -> Result<Cli, Stop> {
    let root = with_switch_values(Cli::command());
    let typed = root
        .clone()
        .ignore_errors(true)
        .try_get_matches_from(&env.args)?;
    let global = typed.subcommand().map_or(&typed, |(_, leaf)| leaf);
    let chosen = |flag: &str| -> Option<String> {
        env.var(&crate::layers::variable(flag)).map(str::to_owned)
    };
    let path = global
        .get_one::<PathBuf>("config")
        .cloned()
        .or_else(|| chosen("config").map(PathBuf::from));
    let profile = global
        .get_one::<String>("profile")
        .cloned()
        .or_else(|| chosen("profile"));
    let layers = load(env, path.as_deref(), profile, &root)?;
    let matches = layers
        .apply(root, &typed)?
        .try_get_matches_from(&env.args)?;
    Ok(Cli::from_arg_matches(&matches)?)
}

fn load<'a>(
    env: &'a Env,
    path: Option<&Path>,
    profile: Option<String>,
    root: &clap::Command,
) -> Outcome<Layers<'a>> {
    let file = ConfigFile::load(path, env, &schema(root))?;
    Ok(Layers { env, file, profile })
}

/// The help of the commands as declared, without the values that switches take only to be turned off.
fn plain_help(env: &Env, error: clap::Error) -> clap::Error {
    match Cli::command().try_get_matches_from(&env.args) {
        Err(plain) if !plain.use_stderr() => plain,
        _ => error,
    }
}
