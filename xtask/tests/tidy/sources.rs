//! What must not be in any source: unfinished work, bare `allow`s, paths of one machine, hosts of registries.

use crate::workspace::{File, assert_none, files};

/// The longest a file may be, in lines; about 600 is the aim.
const FILE_LINES_MAX: usize = 1000;

/// This directory spells out what it forbids.
const RULES: &str = "xtask/tests/tidy/";

fn rust_files() -> Vec<File> {
    let mut found = files(&["rs"]);
    found.retain(|file| !file.path.starts_with(RULES));
    found
}

/// `path:line: text` of each line for which `bad` holds.
fn lines_where(files: &[File], bad: impl Fn(&str) -> bool) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files {
        let lines = file.text.lines().enumerate().filter(|(_, line)| bad(line));
        findings.extend(lines.map(|(n, line)| format!("{}:{}: {}", file.path, n + 1, line.trim())));
    }
    findings
}

#[test]
fn a_file_is_one_concept() {
    let long = rust_files()
        .into_iter()
        .filter(|file| file.text.lines().count() > FILE_LINES_MAX);
    let findings: Vec<_> = long.map(|file| file.path).collect();
    assert_none("files over 1000 lines", &findings);
}

#[test]
fn nothing_is_unfinished_by_its_own_words() {
    let words = ["todo!", "unimplemented!", "#[ignore", "FIXME", "XXX"];
    let findings = lines_where(&rust_files(), |line| {
        words.iter().any(|word| line.contains(word))
    });
    assert_none("finish it, or leave it out", &findings);
}

#[test]
fn lints_are_expected_with_a_reason_and_never_allowed() {
    let bare = |line: &str| line.contains("#[allow(") || line.contains("#![allow(");
    let without_reason = |file: &File| {
        let expectations = file
            .text
            .match_indices("#[expect(")
            .map(|(at, _)| &file.text[at..]);
        let bad =
            expectations.filter(|rest| !rest.split(']').next().unwrap_or("").contains("reason ="));
        bad.map(|rest| format!("{}: {}", file.path, rest.lines().next().unwrap_or("")))
            .collect::<Vec<_>>()
    };
    let files = rust_files();
    let mut findings = lines_where(&files, bare);
    findings.extend(files.iter().flat_map(without_reason));
    assert_none("#[expect(…, reason = \"…\")] instead", &findings);
}

#[test]
fn one_file_makes_the_sockets_of_the_engine() {
    let factory = "crates/engine/src/driver/socket";
    let faces = ["crates/engine/src/", "crates/cli/src/"];
    let means = [
        "TcpSocket::",
        "TcpStream::connect",
        "TcpListener::bind",
        "UdpSocket::bind",
        "Socket::new",
        "lookup_host",
        "to_socket_addrs",
        "reqwest::Client::builder",
        "reqwest::Client::new",
        "ClientBuilder::",
        "reqwest::get",
    ];
    let mut files = rust_files();
    files.retain(|file| {
        faces.iter().any(|face| file.path.starts_with(face)) && !file.path.starts_with(factory)
    });
    assert!(!files.is_empty(), "the engine has sources");
    let findings = lines_where(&files, |line| {
        means.iter().any(|means| line.contains(means))
    });
    assert_none(
        "a socket made elsewhere would go where the user did not send it: use driver::socket",
        &findings,
    );
}

#[test]
fn no_source_names_a_machine_or_a_registry() {
    let roots = ["home", "Users", "root", "work", "workspace"].map(|dir| format!("/{dir}/"));
    let hosts = [
        ("crates", "io"),
        ("docs", "rs"),
        ("pypi", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
    ]
    .map(|(name, top)| format!("{name}.{top}"));
    let mut found = files(&[
        "rs", "md", "toml", "sh", "yml", "yaml", "json", "html", "ts", "svelte",
    ]);
    found.retain(|file| !file.path.starts_with(RULES));
    found.extend(files_of_ci());
    let findings = lines_where(&found, |line| {
        names_path(line, &roots) || hosts.iter().any(|host| names_host(line, host))
    });
    assert_none("the sources must hold on any machine", &findings);
}

/// `.ci/run` has no extension.
fn files_of_ci() -> Option<File> {
    let path = ".ci/run";
    let text = std::fs::read_to_string(crate::workspace::root().join(path)).ok()?;
    Some(File {
        path: path.to_owned(),
        text,
    })
}

/// Whether an absolute path starts at one of these roots; `example.org/home/` and `../home/` are none.
fn names_path(line: &str, roots: &[String]) -> bool {
    roots.iter().any(|root| {
        line.match_indices(root.as_str()).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            before.is_none_or(|c| !c.is_alphanumeric() && !"._-/~}>".contains(c))
        })
    })
}

fn names_host(line: &str, host: &str) -> bool {
    line.match_indices(host).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + host.len()..].chars().next();
        [before, after]
            .into_iter()
            .flatten()
            .all(|c| !c.is_ascii_lowercase())
    })
}

#[test]
fn paths_and_hosts_are_told_from_their_likes() {
    let roots = ["/home/".to_owned()];
    assert!(names_path("let dir = \"/home/ann/x\";", &roots));
    assert!(!names_path(
        "http://a.example/home/x and ../home/x and $X/a/home/",
        &roots
    ));
    assert!(names_host("see https://a.example", "a.example"));
    assert!(!names_host("a.examples", "a.example"));
}
