//! Help, version, completions, manual, and what a wrong command line gets.

use crate::run::Program;

#[test]
fn help_documents_every_exit_code_and_the_layers() {
    let ran = Program::new(&["--help"]).run();
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    for code in riverrun_cli::ExitCode::ALL {
        let line = format!("  {:>3}  {}\n", code.number(), code.meaning());
        assert!(ran.stdout.contains(&line), "{line:?} in {}", ran.stdout);
    }
    ran.stdout_has("RIVERRUN_LIMIT_UP");
}

#[test]
fn help_shows_switches_as_switches() {
    let ran = Program::new(&["man", "--help"]).run();
    assert!(
        ran.stdout.contains("--json\n") || ran.stdout.contains("--json  "),
        "{}",
        ran.stdout
    );
    assert!(!ran.stdout.contains("BOOL"), "{}", ran.stdout);
}

#[test]
fn the_version_is_data() {
    let ran = Program::new(&["--version"]).run();
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, concat!("riverrun ", env!("CARGO_PKG_VERSION"), "\n"))
    );
}

#[test]
fn a_wrong_command_line_is_exit_2_and_says_what_was_meant() {
    for (args, words) in [
        (vec!["completion"], "completions"),
        (vec!["completions", "bsh"], "'bash'"),
        (vec!["man"], "<DIR>"),
        (vec!["man", "x", "--jsn"], "'--json'"),
        (vec!["-q", "-v", "man", "x"], "cannot be used with"),
        (vec![], "Usage:"),
    ] {
        let ran = Program::new(&args).run();
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?}");
        assert!(ran.stderr.contains(words), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = Program::new(&["completions", shell]).run();
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert!(ran.stdout.contains("completions"), "{shell}");
    }
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let dir = tempfile::tempdir().unwrap();
    let ran = Program::new(&["man", "pages", "--json"]).run_in(dir.path());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let page = |name: &str| std::fs::read_to_string(dir.path().join("pages").join(name)).unwrap();
    assert!(page("riverrun.1").contains("Exit codes"));
    assert!(page("riverrun-man.1").contains("Write the manual pages"));
    assert!(
        ran.stdout.starts_with("{\"event\":\"done\","),
        "{}",
        ran.stdout
    );
}

#[test]
fn colours_are_for_people_who_want_them() {
    let coloured = |program: Program| program.run().stderr.contains('\u{1b}');
    let wrong = || Program::new(&["--profile", "none", "man", "x"]);
    assert!(coloured(wrong().on_terminal()));
    assert!(!coloured(wrong()));
    assert!(!coloured(wrong().on_terminal().var("NO_COLOR", "1")));
    assert!(!coloured(wrong().on_terminal().var("TERM", "dumb")));
}
