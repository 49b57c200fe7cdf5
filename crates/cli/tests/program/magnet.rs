//! `magnet`: the link to a torrent.

use crate::run::Program;
use crate::torrents::{tracked, write};

fn link(args: &[&str]) -> (u8, String, String) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.torrent", &tracked());
    let ran = Program::new(&[&["magnet", "a.torrent"], args].concat()).run_in(dir.path());
    (ran.code, ran.stdout, ran.stderr)
}

#[test]
fn a_link_has_hash_name_and_trackers() {
    let (code, link, _) = link(&[]);
    assert_eq!(code, 0);
    assert!(link.starts_with("magnet:?xt=urn:btih:"), "{link}");
    for part in [
        "&dn=dir",
        "&tr=http%3A%2F%2Fa%2Fannounce",
        "&tr=udp%3A%2F%2Fb%3A1",
    ] {
        assert!(link.contains(part), "{part} in {link}");
    }
}

#[test]
fn files_are_selected_by_number() {
    for (args, expected) in [
        (&["-s", "*.md"][..], "&so=1"),
        (&["-s", "sub/*"], "&so=1"),
        (&["-s", "*.md", "-s", "one.*"], "&so=0-1"),
        (&["--peer", "[::1]:6881"], "&x.pe="),
    ] {
        let (code, link, stderr) = link(args);
        assert_eq!(code, 0, "{stderr}");
        assert!(link.contains(expected), "{expected} in {link}");
    }
    let (code, _, stderr) = link(&["-s", "*.iso"]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("no file of the torrent matches\n  hint: "),
        "{stderr}"
    );
}

#[test]
fn a_bare_link_names_no_servers() {
    let (_, link, _) = link(&["--bare"]);
    assert!(!link.contains("&tr=") && link.contains("&dn=dir"), "{link}");
}
