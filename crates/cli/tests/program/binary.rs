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

/// A tracker on free ports, and the addresses that it prints.
#[cfg(unix)]
fn start_tracker() -> (std::process::Child, Vec<String>) {
    use std::io::{BufRead, BufReader};
    let mut child = riverrun()
        .args(["tracker", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let urls = lines.take(2).collect::<Result<_, _>>().unwrap();
    (child, urls)
}

#[cfg(unix)]
#[test]
fn a_tracker_prints_where_it_listens_answers_and_leaves_when_told() {
    use std::io::{Read, Write};
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let (child, urls) = start_tracker();
        let addr = urls[0]
            .strip_prefix("http://")
            .and_then(|url| url.strip_suffix("/announce"))
            .unwrap();
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        let query = format!(
            "info_hash={}&peer_id={}&port=6881&uploaded=0&downloaded=0&left=0",
            "a".repeat(20),
            "b".repeat(20)
        );
        write!(stream, "GET /announce?{query} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("8:intervali"), "{answer}");
        assert!(urls[1].starts_with("udp://127.0.0.1:"), "{urls:?}");
        let sent = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "tracking; Ctrl-C ends it\n"
        );
    }
}
