//! Variables, profiles and the configuration file as the defaults of flags.
//!
//! There is one mechanism for all flags: before the command line is parsed, what the layers say of a flag becomes
//! its default value. The parser then treats it as it treats any default: it is validated, and a flag that is
//! typed replaces it, lists too. No flag needs code of its own.

use clap::builder::{BoolishValueParser, Resettable};
use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource};

use crate::config::{ConfigFile, Schema, Setting};
use crate::env::Env;
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};

/// Flags that choose the layers, or the help, and so cannot come from one.
const OUTSIDE: [&str; 4] = ["config", "profile", "help", "version"];

/// Lets every switch take `=false`, so that what a layer turned on can be turned off.
pub(crate) fn with_switch_values(command: Command) -> Command {
    let switch = |arg: Arg| match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .value_name("BOOL")
            .hide_possible_values(true)
            .default_missing_value("true")
            .default_value("false")
            .value_parser(BoolishValueParser::new()),
        _ => arg,
    };
    command
        .mut_args(switch)
        .mut_subcommands(|sub| sub.mut_args(switch))
}

/// The flags that a layer may set: those of all commands under the empty name, and with them those of each.
pub(crate) fn schema(root: &Command) -> Schema {
    let flags = |command: &Command| -> Vec<String> {
        command
            .get_arguments()
            .filter_map(flag_name)
            .map(str::to_owned)
            .collect()
    };
    let global = flags(root);
    let own = |sub: &Command| {
        (
            sub.get_name().to_owned(),
            [flags(sub), global.clone()].concat(),
        )
    };
    let commands: Schema = root.get_subcommands().map(own).collect();
    commands
        .into_iter()
        .chain([(String::new(), global)])
        .collect()
}

fn flag_name(arg: &Arg) -> Option<&str> {
    arg.get_long().filter(|name| !OUTSIDE.contains(name))
}

/// `--limit-up` → `RIVERRUN_LIMIT_UP`.
pub(crate) fn variable(flag: &str) -> String {
    format!("RIVERRUN_{}", flag.replace('-', "_").to_ascii_uppercase())
}

/// The layers under the command line, uppermost first: variables, profile, file.
pub(crate) struct Layers<'a> {
    pub(crate) env: &'a Env,
    pub(crate) file: ConfigFile,
    pub(crate) profile: Option<String>,
}

/// What a layer says of one flag, and how near to the command line the layer is.
struct Layered<'a> {
    arg: &'a Arg,
    setting: Setting,
    is_variable: bool,
}

impl Layers<'_> {
    /// Gives the flags of the command that will run their defaults. `typed` is what the command line says.
    pub(crate) fn apply(&self, root: Command, typed: &ArgMatches) -> Outcome<Command> {
        if let Some(name) = &self.profile {
            self.file.profile(name)?;
        }
        let Some((name, leaf)) = typed.subcommand() else {
            return Ok(root);
        };
        let root = self.apply_to(root, name, typed)?;
        let Some(sub) = root.find_subcommand(name).cloned() else {
            return Ok(root);
        };
        let sub = self.apply_to(sub, name, leaf)?;
        Ok(root.mut_subcommand(name, |_| sub))
    }

    fn apply_to(&self, command: Command, name: &str, typed: &ArgMatches) -> Outcome<Command> {
        let mut found = Vec::new();
        for arg in command.get_arguments() {
            if let Some(layered) = self.layered(name, arg)? {
                found.push(layered);
            }
        }
        found.retain(|layered| !is_excluded(&command, layered, &found_ids(&command, typed)));
        let variables: Vec<_> = found
            .iter()
            .filter(|l| l.is_variable)
            .map(|l| l.arg.get_id().clone())
            .collect();
        found.retain(|layered| layered.is_variable || !is_excluded(&command, layered, &variables));
        let defaults: Vec<_> = found
            .iter()
            .map(|layered| (layered.arg.get_id().clone(), layered.setting.values.clone()))
            .collect();
        Ok(defaults.into_iter().fold(command, |command, (id, values)| {
            command.mut_arg(id, |arg| arg.default_values(values))
        }))
    }

    /// What the uppermost layer that knows the flag says of it, if that is valid.
    fn layered<'a>(&self, command: &str, arg: &'a Arg) -> Outcome<Option<Layered<'a>>> {
        let Some(flag) = flag_name(arg) else {
            return Ok(None);
        };
        let variable = variable(flag);
        let (setting, is_variable) = match self.env.var(&variable) {
            Some(text) => (
                Some(Setting {
                    values: split(arg, text),
                    origin: variable,
                }),
                true,
            ),
            None => (
                self.file.setting(self.profile.as_deref(), command, flag)?,
                false,
            ),
        };
        let Some(setting) = setting else {
            return Ok(None);
        };
        validate(arg, flag, &setting.values).map_err(|failure| failure.about(&setting.origin))?;
        Ok(Some(Layered {
            arg,
            setting,
            is_variable,
        }))
    }
}

/// A variable holds one value; for a flag that may be repeated, several between spaces.
fn split(arg: &Arg, text: &str) -> Vec<String> {
    match arg.get_action() {
        ArgAction::Append => text.split_whitespace().map(str::to_owned).collect(),
        _ => vec![text.to_owned()],
    }
}

/// The flags that were typed.
fn found_ids(command: &Command, typed: &ArgMatches) -> Vec<clap::Id> {
    let typed = |arg: &&Arg| {
        let id = arg.get_id().as_str();
        typed.try_contains_id(id).is_ok()
            && typed.value_source(id) == Some(ValueSource::CommandLine)
    };
    command
        .get_arguments()
        .filter(typed)
        .map(|arg| arg.get_id().clone())
        .collect()
}

/// Whether a flag of an upper layer excludes this one: `--v1` on the command line silences `v2 = true` in the file.
fn is_excluded(command: &Command, layered: &Layered<'_>, upper: &[clap::Id]) -> bool {
    let excludes = |a: &Arg, b: &Arg| {
        command
            .get_arg_conflicts_with(a)
            .iter()
            .any(|c| c.get_id() == b.get_id())
    };
    command
        .get_arguments()
        .filter(|arg| upper.contains(arg.get_id()))
        .any(|arg| excludes(arg, layered.arg) || excludes(layered.arg, arg))
}

/// Parses the values as if they had been typed, so that a wrong one is told with its origin.
fn validate(arg: &Arg, flag: &str, values: &[String]) -> Outcome {
    let bad = |message: String| Err(Failure::say(ExitCode::Config, message));
    match arg.get_action() {
        ArgAction::Count => match values {
            [one] if one.parse::<u8>().is_ok() => Ok(()),
            _ => bad(format!(
                "expected a number from 0 to 255, found {:?}",
                values.join(" ")
            )),
        },
        ArgAction::Append => parse_alone(arg, flag, values),
        _ if values.len() == 1 => parse_alone(arg, flag, values),
        _ => bad(format!("expected one value, found {}", values.len())),
    }
}

fn parse_alone(arg: &Arg, flag: &str, values: &[String]) -> Outcome {
    // Its relations to other flags mean nothing here.
    let alone = arg
        .clone()
        .conflicts_with(Resettable::Reset)
        .requires(Resettable::Reset)
        .group(Resettable::Reset)
        .required(false);
    let parsed = Command::new("layer")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(alone)
        .try_get_matches_from(values.iter().map(|value| format!("--{flag}={value}")));
    parsed.map(|_| ()).map_err(|e| {
        let text = e.render().to_string();
        let message = text
            .split("\n\n")
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ");
        let lines: Vec<&str> = message.lines().map(str::trim).collect();
        Failure::say(ExitCode::Config, lines.join(" "))
    })
}
