//! What the user names as a torrent: a file, stdin, or a magnet link.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use riverrun_base::InfoHashes;
use riverrun_metainfo::{Magnet, MagnetError, Metainfo, PublisherLink};

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::screen::Surroundings;

/// The largest torrent file that is read, in bytes: the limit of the parser.
const FILE_LEN_MAX: u64 = 100_000_000;

/// What an argument names.
#[derive(Debug)]
pub(crate) enum Torrent {
    File(Box<Metainfo>),
    Link(Box<Magnet>),
}

/// Reads the argument: a magnet link, `-` for stdin, or the path of a torrent file.
pub(crate) fn read(argument: &str, around: &Surroundings) -> Outcome<Torrent> {
    if !is_link(argument) {
        return read_file(argument, around).map(|metainfo| Torrent::File(Box::new(metainfo)));
    }
    let link = argument.parse::<Magnet>();
    link.map(|link| Torrent::Link(Box::new(link)))
        .map_err(|e| Failure::new(ExitCode::BadTorrent, e).about("the magnet link"))
}

/// Reads the argument if it is a link to a publisher, which names no torrent itself (BEP 46).
pub(crate) fn read_publisher(argument: &str) -> Option<Outcome<PublisherLink>> {
    if !is_link(argument) || argument.contains("xt=") {
        return None;
    }
    match argument.parse::<PublisherLink>() {
        Err(MagnetError::NoKey) => None,
        link => {
            Some(link.map_err(|e| Failure::new(ExitCode::BadTorrent, e).about("the magnet link")))
        }
    }
}

/// The info-hash that the argument is, in any of the forms that magnet links take. A file that happens to be named like
/// one is meant as the file.
pub(crate) fn parse_hashes(argument: &str, around: &Surroundings) -> Option<InfoHashes> {
    let is_file = around.path(Path::new(argument)).exists();
    (!is_file).then(|| hashes_of(argument)).flatten()
}

/// An info-hash in any of the forms that magnet links take.
fn hashes_of(text: &str) -> Option<InfoHashes> {
    let is_digest =
        [32, 40, 64].contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let urn = if text.len() == 64 {
        "urn:btmh:1220"
    } else {
        "urn:btih:"
    };
    let link = is_digest.then(|| format!("magnet:?xt={urn}{text}"))?;
    link.parse::<Magnet>().ok().map(|magnet| magnet.hashes)
}

/// Reads a torrent file, or stdin for `-`.
pub(crate) fn read_file(argument: &str, around: &Surroundings) -> Outcome<Metainfo> {
    if is_link(argument) {
        return Err(Failure::say(
            ExitCode::BadTorrent,
            "expected a torrent file, found a magnet link",
        )
        .hint("a magnet link has no metadata: `riverrun get` fetches it from peers"));
    }
    let (name, bytes) = if argument == "-" {
        let bytes = around.read_stdin(FILE_LEN_MAX);
        (
            "stdin",
            bytes.map_err(|e| Failure::io(Path::new("stdin"), e))?,
        )
    } else {
        let path = around.path(Path::new(argument));
        (
            argument,
            read_path(&path).map_err(|e| unreadable(Path::new(argument), &path, e))?,
        )
    };
    let invalid = |e: anyhow::Error| Failure::new(ExitCode::BadTorrent, e).about(name);
    if bytes.len() as u64 > FILE_LEN_MAX {
        return Err(invalid(anyhow::anyhow!(
            "more than {FILE_LEN_MAX} bytes are no torrent file"
        )));
    }
    Metainfo::from_bytes(&bytes).map_err(|e| with_hint(invalid(e.into()), &bytes))
}

fn is_link(argument: &str) -> bool {
    argument
        .get(..7)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("magnet:"))
}

fn read_path(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_LEN_MAX + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(name: &Path, path: &Path, error: io::Error) -> Failure {
    let failure = Failure::io(name, error);
    if path.is_dir() {
        return failure.hint("`riverrun create` makes a torrent of a directory");
    }
    failure
}

/// What the file seems to be instead.
fn with_hint(failure: Failure, bytes: &[u8]) -> Failure {
    let start = bytes.get(..64).unwrap_or(bytes).trim_ascii_start();
    let starts = |with: &[u8]| {
        start
            .get(..with.len())
            .is_some_and(|s| s.eq_ignore_ascii_case(with))
    };
    match () {
        () if starts(b"<!doctype") || starts(b"<html") => {
            failure.hint("this is a web page, saved instead of the torrent")
        }
        () if starts(b"magnet:") => failure.hint("this is a magnet link: give the link itself"),
        () if start.is_empty() => failure.hint("the file is empty"),
        () => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_info_hash_is_known_in_each_of_its_forms() {
        let v1 = "0efbab84cc74084b9716206db42fc1ad5cf2b889";
        let v2 = "caf1e1c30e81cb361b9ee167c4aa64228a7fa4fa9f6105232b28ad099f3a302e";
        assert_eq!(hashes_of(v1).unwrap().v1().unwrap().to_string(), v1);
        assert_eq!(hashes_of(v2).unwrap().v2().unwrap().to_string(), v2);
        assert!(hashes_of("D353VBGMOQEEXFYWEBW3IL6BVVOPFOEJ").is_some());
        assert!(hashes_of("debian.torrent").is_none());
        assert!(hashes_of(&v1[1..]).is_none());
    }
}
