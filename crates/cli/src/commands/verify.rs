//! `riverrun verify`: holds files against a torrent, and changes nothing.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use riverrun_base::ByteSize;
use riverrun_metainfo::{Info, InfoEdit, Metainfo, PieceHashes};
use riverrun_storage::verify::{FileStatus, PieceStatus, Report, verify};
use serde_json::json;

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::progress::{threads, watched};
use crate::screen::{Screen, Surroundings};
use crate::summary::count;
use crate::torrent;

/// Pieces that are named one by one; of more, only how many.
const PIECES_NAMED_MAX: usize = 20;
/// Extra files that are named.
const EXTRA_NAMED_MAX: usize = 20;

/// The arguments of `verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// A torrent file, or - for stdin
    #[arg(value_name = "TORRENT")]
    torrent: String,
    /// The data, or the directory that it is in
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
}

pub(crate) fn run(args: &Verify, around: &Surroundings, screen: &mut Screen) -> Outcome {
    let metainfo = torrent::read_file(&args.torrent, around)?;
    let (root, info) = place(&metainfo, &args.path, around)?;
    let hashes = PieceHashes::new(&info, &metainfo.piece_layers);
    let (report, rate) = watched(screen, "verifying", info.layout().payload_len(), |watch| {
        verify(&info, &hashes, &root, threads(), watch)
    })?;
    let report = report.map_err(|e| Failure::new(ExitCode::Other, e))?;
    tell(&info, &report, rate, screen)
}

/// Where the torrent's name lies, and the torrent under the name that its data has.
fn place(metainfo: &Metainfo, path: &Path, around: &Surroundings) -> Outcome<(PathBuf, Arc<Info>)> {
    let info = &metainfo.info;
    let full = around
        .path(path)
        .canonicalize()
        .map_err(|e| Failure::io(path, e))?;
    let inside = full.join(info.name());
    let is_kind = |path: &Path| {
        if info.is_single_file() {
            path.is_file()
        } else {
            path.is_dir()
        }
    };
    let (parent, name) = (
        full.parent(),
        full.file_name().and_then(|name| name.to_str()),
    );
    match (parent, name) {
        (Some(parent), Some(name))
            if name == info.name() && is_kind(&full) && !has_first_file(info, &full) =>
        {
            Ok((parent.to_owned(), info.clone()))
        }
        (Some(parent), Some(name))
            if !is_kind(&inside) && is_kind(&full) && path != Path::new(".") =>
        {
            renamed(info, name).map(|info| (parent.to_owned(), info))
        }
        _ => Ok((full, info.clone())),
    }
}

/// Whether the directory has the torrent's name in it, and in that its first file.
fn has_first_file(info: &Info, dir: &Path) -> bool {
    let mut files = info.layout().files().iter().filter(|file| !file.is_pad());
    files
        .next()
        .is_some_and(|file| dir.join(file.path.to_path_buf()).exists())
}

/// The torrent as if it had this name. Its hashes stay what they are.
fn renamed(info: &Info, name: &str) -> Outcome<Arc<Info>> {
    let edit = InfoEdit {
        name: Some(name.to_owned()),
        ..InfoEdit::default()
    };
    info.edited(&edit)
        .map(Arc::new)
        .map_err(|e| Failure::new(ExitCode::BadTorrent, e))
}

fn tell(info: &Info, report: &Report, bytes_per_second: u64, screen: &mut Screen) -> Outcome {
    let layout = info.layout();
    for (index, status) in report
        .files
        .iter()
        .filter(|(_, status)| *status != FileStatus::Right)
    {
        let path = layout.file(*index).map_or("", |file| file.path.as_str());
        let pieces = wrong_pieces(report, layout.pieces_of(*index));
        screen.event(
            &json!({ "event": "file", "path": path, "status": name(status), "pieces": pieces }),
        )?;
        screen.finding(&format!("{path}: {}", sentence(status, &pieces)))?;
    }
    for path in &report.extra {
        screen.event(&json!({ "event": "extra", "path": path }))?;
    }
    tell_extra(&report.extra, screen);
    let wrong = report
        .pieces
        .iter()
        .filter(|status| **status != PieceStatus::Right)
        .count();
    let bad_files = report
        .files
        .iter()
        .filter(|(_, status)| *status != FileStatus::Right)
        .count();
    screen.event(&json!({
        "event": "done", "ok": report.is_right(), "pieces": report.pieces.len(), "pieces_wrong": wrong,
        "files": report.files.len(), "files_wrong": bad_files, "files_extra": report.extra.len(),
        "bytes": layout.payload_len(), "bytes_per_s": bytes_per_second,
    }))?;
    if !report.is_right() {
        return Err(mismatch(report, wrong, bad_files));
    }
    screen.done(format!(
        "{}  {} in {} verified, {}/s",
        info.name(),
        ByteSize(layout.payload_len()),
        count(report.pieces.len(), "piece"),
        ByteSize(bytes_per_second),
    ));
    Ok(())
}

/// The pieces among these that are not right.
fn wrong_pieces(report: &Report, pieces: std::ops::Range<u32>) -> Vec<u32> {
    let wrong = |piece: &u32| report.pieces.get(*piece as usize) != Some(&PieceStatus::Right);
    pieces.filter(wrong).collect()
}

const fn name(status: &FileStatus) -> &'static str {
    match status {
        FileStatus::Right => "right",
        FileStatus::Missing => "missing",
        FileStatus::WrongLen { .. } => "wrong_length",
        FileStatus::WrongPieces(_) => "wrong_pieces",
        FileStatus::NoFile(_) => "no_file",
        FileStatus::Unreadable(_) => "unreadable",
        FileStatus::Unknown => "unknown",
    }
}

fn sentence(status: &FileStatus, pieces: &[u32]) -> String {
    match status {
        FileStatus::Right => "right".to_owned(),
        FileStatus::Missing => "missing".to_owned(),
        FileStatus::WrongLen { actual } => format!("has {actual} bytes, which is the wrong length"),
        FileStatus::WrongPieces(_) => format!("wrong in {}", named(pieces)),
        FileStatus::NoFile(what) => format!("is {what}"),
        FileStatus::Unreadable(why) => format!("cannot be read: {why}"),
        FileStatus::Unknown => {
            "cannot be told: the torrent lacks the hashes of its pieces".to_owned()
        }
    }
}

/// `piece 7`, `pieces 7 8 9`, and of many the first.
fn named(pieces: &[u32]) -> String {
    let mut text = if pieces.len() == 1 {
        "piece".to_owned()
    } else {
        "pieces".to_owned()
    };
    for piece in pieces.iter().take(PIECES_NAMED_MAX) {
        // Writing to a string cannot fail.
        let _ = write!(text, " {piece}");
    }
    if pieces.len() > PIECES_NAMED_MAX {
        let _ = write!(text, " and {} more", pieces.len() - PIECES_NAMED_MAX);
    }
    text
}

fn tell_extra(extra: &[PathBuf], screen: &mut Screen) {
    if extra.is_empty() {
        return;
    }
    screen.warn(format!("{} not of the torrent", count(extra.len(), "file")));
    for path in extra.iter().take(EXTRA_NAMED_MAX) {
        screen.item(path.display());
    }
    if extra.len() > EXTRA_NAMED_MAX {
        screen.item(format!("and {} more", extra.len() - EXTRA_NAMED_MAX));
    }
}

fn mismatch(report: &Report, wrong: usize, bad_files: usize) -> Failure {
    let failure = Failure::say(
        ExitCode::Mismatch,
        format!(
            "{} of {} and {} of {} do not match the torrent",
            wrong,
            count(report.pieces.len(), "piece"),
            bad_files,
            count(report.files.len(), "file"),
        ),
    );
    let all_missing = report
        .files
        .iter()
        .all(|(_, status)| *status == FileStatus::Missing);
    if all_missing {
        failure.hint("no file is there: name the directory that has the data")
    } else {
        failure
    }
}
