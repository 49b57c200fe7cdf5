//! Whether all copies are what the seeder has.

use std::path::PathBuf;

use riverrun_metainfo::{Metainfo, PieceHashes};
use riverrun_storage::Watch;
use riverrun_storage::verify::verify;

use crate::failure::Outcome;
use crate::progress::{background, threads};

/// Reads every file of every copy and holds it against the hashes. Can be dropped at any time.
pub(crate) async fn verify_copies(metainfo: &Metainfo, copies: Vec<PathBuf>) -> Outcome<bool> {
    let info = metainfo.info.clone();
    let hashes = PieceHashes::new(&info, &metainfo.piece_layers);
    background(move |Watch { progress, cancel }| {
        copies.iter().all(|copy| {
            let watch = Watch { progress, cancel };
            verify(&info, &hashes, copy, threads(), watch).is_ok_and(|report| report.is_right())
        })
    })
    .await
}
