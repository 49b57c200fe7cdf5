//! The program itself, as a process.

use std::process::{Command, Stdio};

fn riverrun() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_riverrun"));
    command.env_clear().stdin(Stdio::null());
    command
}

#[test]
fn the_process_gives_the_exit_code() {
    let output = riverrun().arg("--version").output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"riverrun "));
    assert_eq!(
        riverrun()
            .arg("--no-such-flag")
            .output()
            .unwrap()
            .status
            .code(),
        Some(2)
    );
    let missing = riverrun()
        .args(["--config", "no/such/file", "man", "x"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&missing.stderr).starts_with("error: "));
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let mut child = riverrun()
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The pipe is closed before anything is read from it.
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).as_ref()
        ),
        (Some(0), "")
    );
}
