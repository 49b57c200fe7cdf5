//! Flags, variables, profiles and the file: who beats whom, and what is told when one is wrong.

use std::path::Path;

use crate::run::{Program, Ran};

/// Runs `man` with a configuration file; `--json` shows by its output whether it is on.
fn with_file(dir: &Path, text: &str, program: Program) -> Ran {
    let home = dir.join("config/riverrun");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join("config.toml"), text).unwrap();
    program
        .var("XDG_CONFIG_HOME", dir.join("config").to_str().unwrap())
        .run_in(dir)
}

#[test]
fn a_flag_beats_a_variable_that_a_profile_that_the_file() {
    for (file, variable, args, json) in [
        ("", None, &["man", "x"][..], false),
        ("json = true", None, &["man", "x"], true),
        (
            "json = true\n[man]\njson = false",
            None,
            &["man", "x"],
            false,
        ),
        (
            "json = true\n[profile.p]\njson = false",
            None,
            &["man", "x", "--profile", "p"],
            false,
        ),
        (
            "[profile.p]\njson = true",
            None,
            &["--profile", "p", "man", "x"],
            true,
        ),
        (
            "[profile.p]\njson = true",
            Some("no"),
            &["man", "x", "--profile", "p"],
            false,
        ),
        ("json = false", Some("1"), &["man", "x"], true),
        (
            "json = true",
            Some("1"),
            &["man", "x", "--json=false"],
            false,
        ),
        ("", Some(""), &["man", "x"], false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let program = Program::new(args);
        let program = match variable {
            Some(value) => program.var("RIVERRUN_JSON", value),
            None => program,
        };
        let ran = with_file(dir.path(), file, program);
        assert_eq!(ran.code, 0, "{file} {args:?}: {}", ran.stderr);
        assert_eq!(!ran.stdout.is_empty(), json, "{file} {variable:?} {args:?}");
    }
}

#[test]
fn a_typed_flag_silences_what_it_excludes_in_the_layers() {
    let dir = tempfile::tempdir().unwrap();
    let ran = with_file(dir.path(), "quiet = 2", Program::new(&["man", "x"]));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let ran = with_file(dir.path(), "quiet = 2", Program::new(&["man", "x", "-v"]));
    ran.stderr_has("manual pages");
    let ran = with_file(
        dir.path(),
        "quiet = 2",
        Program::new(&["man", "x"]).var("RIVERRUN_VERBOSE", "1"),
    );
    ran.stderr_has("manual pages");
}

#[test]
fn a_wrong_layer_is_exit_3_and_named() {
    for (file, variable, words) in [
        (
            "jsn = true",
            None,
            "unknown key \"jsn\"\n  hint: did you mean \"json\"?",
        ),
        (
            "json = 'maybe'",
            None,
            "config.toml: json: invalid value 'maybe' for '--json",
        ),
        (
            "json = [true, false]",
            None,
            "config.toml: json: expected one value, found 2",
        ),
        (
            "quiet = -1",
            None,
            "config.toml: quiet: expected a number from 0 to 255",
        ),
        ("json = ", None, "config.toml: TOML parse error at line 1"),
        (
            "",
            Some(("RIVERRUN_COLOR", "blue")),
            "RIVERRUN_COLOR: invalid value 'blue' for '--color <WHEN>'",
        ),
        (
            "",
            Some(("RIVERRUN_PROFILE", "p")),
            "there is no profile \"p\"",
        ),
        (
            "",
            Some(("RIVERRUN_CONFIG", "gone.toml")),
            "gone.toml: No such file",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let program = Program::new(&["man", "x"]);
        let program = match variable {
            Some((name, value)) => program.var(name, value),
            None => program,
        };
        let ran = with_file(dir.path(), file, program);
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{file}");
        assert!(ran.stderr.contains(words), "{file}: {}", ran.stderr);
    }
}

#[test]
fn help_needs_no_valid_configuration() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        with_file(dir.path(), "nonsense", Program::new(&["man", "--help"])).code,
        0
    );
}
