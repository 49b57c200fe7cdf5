//! Which files of a torrent are wanted.

use std::path::Path;

use riverrun_engine::{Info, Priority};

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::values::PathGlob;

/// A priority for each file; an error if none is selected.
pub(crate) fn priorities(info: &Info, select: &[PathGlob]) -> Outcome<Vec<Priority>> {
    if select.is_empty() {
        return Ok(Vec::new());
    }
    let files = info.layout().files();
    let is_meant = |path: &Path| select.iter().any(|glob| glob.matches_in_torrent(path));
    let priority = |wanted: bool| {
        if wanted {
            Priority::Normal
        } else {
            Priority::Skip
        }
    };
    let chosen: Vec<_> = files
        .iter()
        .map(|file| priority(!file.is_pad() && is_meant(&file.path.to_path_buf())))
        .collect();
    if chosen.contains(&Priority::Normal) {
        return Ok(chosen);
    }
    let message = format!("no file of {} matches the selection", info.name());
    Err(Failure::say(ExitCode::Usage, message).hint("`riverrun show --files` lists the files"))
}
