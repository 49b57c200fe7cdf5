//! What a link stands for, fetched from peers.

use std::sync::Arc;
use std::time::Instant;

use riverrun_engine::{AddTorrent, Engine, Info, Magnet};
use riverrun_metainfo::{Metainfo, PieceLayers};

use super::Show;
use crate::commands::get::{cannot_add, in_time};
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::screen::{Screen, Surroundings};
use crate::signals::{Interrupt, Interrupts};
use crate::summary::count;
use crate::torrent::{self, Torrent};
use crate::transfer::{self, Ending, Feed, Progress, Watched};

/// The torrent that the argument stands for. One that is a file already needs nobody.
pub(super) fn fetch(args: &Show, around: &Surroundings, screen: &mut Screen) -> Outcome<Torrent> {
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
    let sources = link.as_ref().map_or_else(Sources::default, |link| Sources {
        trackers: link.trackers.len(),
        dht: false,
        peers: link.peers.len(),
    });
    let info = transfer::block_on(fetch_info(args, sources, add, around, screen))?;
    let mut metainfo = Metainfo::new(info, PieceLayers::default());
    if let Some(link) = link {
        metainfo.trackers = link.trackers.into_iter().map(|url| vec![url]).collect();
        metainfo.web_seeds = link.web_seeds;
        metainfo.nodes = link.nodes;
    }
    Ok(Torrent::File(Box::new(metainfo)))
}

async fn fetch_info(
    args: &Show,
    sources: Sources,
    add: AddTorrent,
    around: &Surroundings,
    screen: &mut Screen,
) -> Outcome<Arc<Info>> {
    let mut interrupts = Interrupts::listen()?;
    let engine = transfer::start(&args.network, around).await?;
    let mut progress = Progress::without_events(screen);
    let fetched = info_of(args, sources, add, &engine, &mut interrupts, &mut progress).await;
    let second = interrupts.finish(engine.shutdown()).await;
    second.map_err(Interrupt::into_failure)?;
    fetched
}

async fn info_of(
    args: &Show,
    mut sources: Sources,
    add: AddTorrent,
    engine: &Engine,
    interrupts: &mut Interrupts,
    progress: &mut Progress<'_>,
) -> Outcome<Arc<Info>> {
    let (begun, feed) = (Instant::now(), Feed::of(engine));
    let adding = async {
        let peers = args.network.resolve_peers(engine).await?;
        sources.peers += peers.len();
        let added = engine.add(add.peers(peers).skip_all_files()).await;
        added.map_err(cannot_add)
    };
    let torrent = tokio::select! {
        biased;
        interrupt = interrupts.next() => return Err(interrupt.into_failure()),
        torrent = in_time(Some(args.timeout), &args.torrent, adding) => torrent?,
    };
    sources.dht = engine.dht().is_some();
    if let Some(sources) = sources.named() {
        progress.say(format!("{}: asking {sources}", torrent.name()));
    }
    let ending = Ending {
        timeout: None,
        metadata_timeout: args.timeout.0.saturating_sub(begun.elapsed()),
        seed: None,
        metadata_only: true,
    };
    let watched = vec![Watched::new(torrent.clone(), progress)];
    let ended = transfer::watch(feed, watched, ending, interrupts, progress).await?;
    if let Some(interrupt) = ended {
        return Err(interrupt.into_failure());
    }
    let info = torrent.wait_info().await;
    info.map_err(|e| Failure::new(ExitCode::Other, e))
}

/// Who may know peers.
#[derive(Clone, Copy, Debug, Default)]
struct Sources {
    trackers: usize,
    dht: bool,
    peers: usize,
}

impl Sources {
    /// All of them in words, if there are any.
    fn named(self) -> Option<String> {
        let named = |number, noun| (number > 0).then(|| count(number, noun));
        let dht = self.dht.then(|| "the DHT".to_owned());
        let all = [
            named(self.trackers, "tracker"),
            dht,
            named(self.peers, "peer"),
        ];
        let all: Vec<_> = all.into_iter().flatten().collect();
        match all.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            [most @ .., last] => Some(format!("{} and {last}", most.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_asked_is_named_in_a_sentence() {
        let check = |trackers, dht, peers, text: Option<&str>| {
            let sources = Sources {
                trackers,
                dht,
                peers,
            };
            assert_eq!(sources.named().as_deref(), text);
        };
        check(0, false, 0, None);
        check(1, false, 0, Some("one tracker"));
        check(0, true, 1, Some("the DHT and one peer"));
        check(2, true, 3, Some("2 trackers, the DHT and 3 peers"));
    }
}
