//! The machine that the tests run on: what it has of what they need.

use std::process::{Command, Stdio};

/// Whether the machine has it, as was found out. If not, that is said, and the test may end; in CI it is a failure.
pub(crate) fn has(what: &str, is_there: bool) -> bool {
    if !is_there {
        let in_ci = std::env::var_os("CI").is_some();
        assert!(!in_ci, "there must be {what} in CI");
        eprintln!("skipped: there is no {what}");
    }
    is_there
}

/// Whether a program can be started: many fail when they are only asked who they are.
pub(crate) fn starts(program: &str, flag: &str) -> bool {
    quietly(program, &[flag]).is_some()
}

/// Whether a program runs, and succeeds.
pub(crate) fn works(program: &str, args: &[&str]) -> bool {
    quietly(program, args).unwrap_or(false)
}

/// Whether a program succeeded; `None` if it could not be started.
fn quietly(program: &str, args: &[&str]) -> Option<bool> {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Some(command.status().ok()?.success())
}
