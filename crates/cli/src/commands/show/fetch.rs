//! What a link stands for, fetched from peers.

use std::sync::Arc;

use riverrun_engine::{AddTorrent, Engine, Info, Magnet};
use riverrun_metainfo::{Metainfo, PieceLayers};

use super::Show;
use crate::commands::get::{cannot_add, in_time};
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::screen::Surroundings;
use crate::signals::{Interrupt, Interrupts};
use crate::torrent::{self, Torrent};
use crate::transfer;

/// The torrent that the argument stands for. One that is a file already needs nobody.
pub(super) fn fetch(args: &Show, around: &Surroundings) -> Outcome<Torrent> {
    let (add, link) = if let Some(hashes) = torrent::parse_hashes(&args.torrent, around) {
        let link = Magnet::new(hashes);
        (AddTorrent::from_magnet(link.clone()), Some(link))
    } else if let Some(link) = torrent::read_publisher(&args.torrent) {
        (AddTorrent::from_publisher(link?), None)
    } else {
        match torrent::read(&args.torrent, around)? {
            Torrent::Link(link) => (AddTorrent::from_magnet((*link).clone()), Some(*link)),
            file @ Torrent::File(_) => return Ok(file),
        }
    };
    let info = transfer::block_on(fetch_info(args, add, around))?;
    let mut metainfo = Metainfo::new(info, PieceLayers::default());
    if let Some(link) = link {
        metainfo.trackers = link.trackers.into_iter().map(|url| vec![url]).collect();
        metainfo.web_seeds = link.web_seeds;
        metainfo.nodes = link.nodes;
    }
    Ok(Torrent::File(Box::new(metainfo)))
}

async fn fetch_info(args: &Show, add: AddTorrent, around: &Surroundings) -> Outcome<Arc<Info>> {
    let mut interrupts = Interrupts::listen()?;
    let engine = transfer::start(&args.network, around).await?;
    let fetched = tokio::select! {
        biased;
        interrupt = interrupts.next() => Err(interrupt.into_failure()),
        info = info_of(args, add, &engine) => info,
    };
    let second = interrupts.finish(engine.shutdown()).await;
    second.map_err(Interrupt::into_failure)?;
    fetched
}

async fn info_of(args: &Show, add: AddTorrent, engine: &Engine) -> Outcome<Arc<Info>> {
    let peers = args.network.resolve_peers(engine).await?;
    let fetching = async {
        let torrent = engine.add(add.peers(peers).skip_all_files()).await;
        let torrent = torrent.map_err(cannot_add)?;
        let info = torrent.wait_info().await;
        info.map_err(|e| Failure::new(ExitCode::Other, e))
    };
    in_time(Some(args.timeout), &args.torrent, fetching).await
}
