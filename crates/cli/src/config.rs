//! The configuration file: keys are flags, tables are commands and profiles, and nothing else is let through.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::env::Env;
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::spelling::nearest;

/// The table that holds the profiles.
const PROFILES: &str = "profile";

/// The flags of each command by their long names; those of all commands under the empty name.
pub(crate) type Schema = BTreeMap<String, Vec<String>>;

/// A configuration file whose keys are all known.
#[derive(Debug, Default)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    table: Table,
}

/// Values for a flag, and where they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) values: Vec<String>,
    pub(crate) origin: String,
}

impl ConfigFile {
    /// Reads the file that was asked for, or the user's own if there is one.
    pub(crate) fn load(asked: Option<&Path>, env: &Env, schema: &Schema) -> Outcome<Self> {
        let Some(path) = asked.map(Path::to_owned).or_else(|| default_path(env)) else {
            return Ok(Self::default());
        };
        let path = env.cwd.join(path);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(path, &text, schema),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && asked.is_none() => {
                Ok(Self::default())
            }
            Err(e) => Err(Failure::new(ExitCode::Config, e).about(path.display())),
        }
    }

    fn parse(path: PathBuf, text: &str, schema: &Schema) -> Outcome<Self> {
        let table: Table = text
            .parse()
            .map_err(|e: toml::de::Error| {
                Failure::say(
                    ExitCode::Config,
                    e.to_string().trim_end().replace('\n', "\n  "),
                )
            })
            .map_err(|failure| failure.about(path.display()))?;
        check_section(&table, schema, true).map_err(|failure| failure.about(path.display()))?;
        Ok(Self { path, table })
    }

    /// What the file says of a flag of a command: in the profile, if one is used, else outside of it.
    pub(crate) fn setting(
        &self,
        profile: Option<&str>,
        command: &str,
        flag: &str,
    ) -> Outcome<Option<Setting>> {
        let profile_table = profile.map(|name| self.profile(name)).transpose()?;
        let sections = [(profile_table, profile), (Some(&self.table), None)];
        for (section, profile) in sections
            .into_iter()
            .filter_map(|(table, profile)| Some((table?, profile)))
        {
            let own = section
                .get(command)
                .and_then(Value::as_table)
                .and_then(|table| table.get(flag));
            let prefix = profile.map_or(String::new(), |name| format!("{PROFILES}.{name}."));
            let (found, key) = match own {
                Some(value) => (Some(value), format!("{prefix}{command}.{flag}")),
                None => (
                    section.get(flag).filter(|value| !value.is_table()),
                    format!("{prefix}{flag}"),
                ),
            };
            if let Some(value) = found {
                let origin = format!("{}: {key}", self.path.display());
                let values = texts(value).map_err(|failure| failure.about(&origin))?;
                return Ok(Some(Setting { values, origin }));
            }
        }
        Ok(None)
    }

    /// The table of a profile; an error if there is none of that name.
    pub(crate) fn profile(&self, name: &str) -> Outcome<&Table> {
        let profiles = self.table.get(PROFILES).and_then(Value::as_table);
        profiles
            .and_then(|table| table.get(name))
            .and_then(Value::as_table)
            .ok_or_else(|| {
                let known: Vec<&str> = profiles
                    .into_iter()
                    .flat_map(Table::keys)
                    .map(String::as_str)
                    .collect();
                let failure =
                    Failure::say(ExitCode::Config, format!("there is no profile {name:?}"));
                match known[..] {
                    [] => failure.hint(format!(
                        "write a table [{PROFILES}.{name}] into the configuration file"
                    )),
                    _ => failure.hint(format!("profiles there are: {}", known.join(", "))),
                }
            })
    }
}

/// `$XDG_CONFIG_HOME/riverrun/config.toml`, or under `~/.config`.
fn default_path(env: &Env) -> Option<PathBuf> {
    let home = || env.var("HOME").map(|home| Path::new(home).join(".config"));
    let base = env
        .var("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(home)?;
    Some(base.join("riverrun").join("config.toml"))
}

/// A section is the whole file or one profile: flags, tables of commands, and in the file the profiles.
fn check_section(table: &Table, schema: &Schema, whole_file: bool) -> Outcome {
    let flags: Vec<&str> = schema.values().flatten().map(String::as_str).collect();
    let commands: Vec<&str> = schema
        .keys()
        .map(String::as_str)
        .filter(|name| !name.is_empty())
        .collect();
    for (key, value) in table {
        match value {
            Value::Table(profiles) if whole_file && key == PROFILES => {
                check_profiles(profiles, schema)?;
            }
            Value::Table(inner) => {
                let known = schema.get(key).filter(|_| !key.is_empty());
                let known = known.ok_or_else(|| unknown("table", key, commands.iter().copied()))?;
                check_command(key, inner, known)?;
            }
            _ if flags.contains(&key.as_str()) => {}
            _ => return Err(unknown("key", key, flags)),
        }
    }
    Ok(())
}

fn check_profiles(profiles: &Table, schema: &Schema) -> Outcome {
    for (name, value) in profiles {
        let Value::Table(section) = value else {
            return Err(Failure::say(
                ExitCode::Config,
                format!("{PROFILES}.{name} must be a table"),
            ));
        };
        check_section(section, schema, false)
            .map_err(|failure| failure.about(format!("{PROFILES}.{name}")))?;
    }
    Ok(())
}

fn check_command(name: &str, table: &Table, flags: &[String]) -> Outcome {
    let wrong = table.keys().find(|key| !flags.contains(key));
    wrong.map_or(Ok(()), |key| {
        Err(unknown("key", key, flags.iter().map(String::as_str)).about(format!("table {name}")))
    })
}

fn unknown<'a>(what: &str, wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Failure {
    let failure = Failure::say(ExitCode::Config, format!("unknown {what} {wrong:?}"));
    match nearest(wrong, known) {
        Some(meant) => failure.hint(format!("did you mean {meant:?}?")),
        None => failure.hint("keys are the long names of flags, without the dashes"),
    }
}

/// A value as it would be typed.
fn texts(value: &Value) -> Outcome<Vec<String>> {
    let scalar = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
            Ok(value.to_string())
        }
        Value::Array(_) | Value::Table(_) => Err(Failure::say(
            ExitCode::Config,
            "expected a text, a number, true or false, or a list of those",
        )),
    };
    match value {
        Value::Array(items) => items.iter().map(scalar).collect(),
        _ => Ok(vec![scalar(value)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        let flags = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Schema::from([
            (String::new(), flags(&["json", "color"])),
            ("get".to_owned(), flags(&["limit", "dir"])),
            ("create".to_owned(), flags(&["tracker", "private"])),
        ])
    }

    fn parse(text: &str) -> Outcome<ConfigFile> {
        ConfigFile::parse(PathBuf::from("c.toml"), text, &schema())
    }

    fn setting(
        file: &ConfigFile,
        profile: Option<&str>,
        command: &str,
        flag: &str,
    ) -> Option<(String, String)> {
        let found = file.setting(profile, command, flag).unwrap()?;
        Some((found.values.join("|"), found.origin))
    }

    #[test]
    fn a_profile_beats_the_file_and_a_command_its_section() {
        let file = parse(
            "limit = '1M'\ntracker = ['a', 'b']\n[get]\ndir = 'd'\nlimit = '2M'\n[profile.x]\nlimit = 3\n\
             [profile.y.get]\nlimit = '4M'\n",
        )
        .unwrap();
        let check = |profile, command, flag, value: &str, origin: &str| {
            let found = setting(&file, profile, command, flag).unwrap();
            assert_eq!(found, (value.to_owned(), format!("c.toml: {origin}")));
        };
        check(None, "get", "limit", "2M", "get.limit");
        check(None, "seed", "limit", "1M", "limit");
        check(None, "create", "tracker", "a|b", "tracker");
        check(Some("x"), "get", "limit", "3", "profile.x.limit");
        check(Some("x"), "get", "dir", "d", "get.dir");
        check(Some("y"), "get", "limit", "4M", "profile.y.get.limit");
        assert_eq!(setting(&file, None, "create", "private"), None);
    }

    #[test]
    fn unknown_keys_are_told_with_what_was_meant() {
        for (text, message, hint) in [
            (
                "limt = 1",
                "c.toml: unknown key \"limt\"",
                "did you mean \"limit\"?",
            ),
            (
                "[gte]\n",
                "c.toml: unknown table \"gte\"",
                "did you mean \"get\"?",
            ),
            (
                "[get]\nprivate = true",
                "c.toml: table get: unknown key \"private\"",
                "keys are the long names of flags, without the dashes",
            ),
            (
                "[profile.x]\ncolr = 1",
                "c.toml: profile.x: unknown key \"colr\"",
                "did you mean \"color\"?",
            ),
        ] {
            let failure = parse(text).unwrap_err();
            assert_eq!(
                (failure.message().as_str(), failure.hints[0].as_str()),
                (message, hint)
            );
            assert_eq!(failure.code, ExitCode::Config);
        }
    }

    #[test]
    fn a_profile_that_is_not_there_names_those_that_are() {
        let file = parse("[profile.home]\n[profile.work]\n").unwrap();
        let failure = file.setting(Some("wrk"), "get", "limit").unwrap_err();
        assert_eq!(failure.message(), "there is no profile \"wrk\"");
        assert_eq!(failure.hints, ["profiles there are: home, work"]);
    }

    #[test]
    fn a_table_is_no_value() {
        let file = parse("limit = [[1]]").unwrap();
        let failure = file.setting(None, "get", "limit").unwrap_err();
        assert!(
            failure
                .message()
                .starts_with("c.toml: limit: expected a text"),
            "{}",
            failure.message()
        );
    }
}
