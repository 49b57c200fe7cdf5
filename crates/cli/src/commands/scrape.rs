//! `riverrun show --scrape`: what trackers say of a torrent's swarm.

use riverrun_base::InfoHashes;
use riverrun_engine::{InfoHash, NetworkOptions, ScrapeCounts, TrackerClient, TrackerUrl};
use serde_json::json;

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::progress::threads;
use crate::screen::Screen;
use crate::signals::{Interrupts, runtime};

/// Asks each tracker about each of the torrent's names. A failure if none answers.
pub(crate) fn run(
    hashes: InfoHashes,
    trackers: &[String],
    network: NetworkOptions,
    screen: &mut Screen,
) -> Outcome {
    if trackers.is_empty() {
        let none = Failure::say(ExitCode::NotFound, "there is no tracker to ask");
        return Err(none.hint("the torrent names none"));
    }
    let runtime = runtime(threads().get())?;
    let outcome = runtime.block_on(async {
        let mut interrupts = Interrupts::listen()?;
        tokio::select! {
            biased;
            interrupt = interrupts.next() => Err(interrupt.into_failure()),
            outcome = ask_all(hashes, trackers, network, screen) => outcome,
        }
    });
    // A name that is being resolved is not waited for.
    runtime.shutdown_background();
    outcome
}

async fn ask_all(
    hashes: InfoHashes,
    trackers: &[String],
    network: NetworkOptions,
    screen: &mut Screen,
) -> Outcome {
    let client = TrackerClient::new(network).map_err(|e| Failure::new(ExitCode::Network, e))?;
    let mut answered = false;
    for tracker in trackers {
        for info_hash in hashes.wire() {
            match ask(&client, tracker, info_hash).await {
                Ok(counts) => {
                    answered = true;
                    tell(tracker, info_hash, counts, screen)?;
                }
                Err(message) => tell_failure(tracker, info_hash, &message, screen)?,
            }
        }
    }
    if answered {
        return Ok(());
    }
    Err(Failure::say(ExitCode::Network, "no tracker has answered"))
}

async fn ask(
    client: &TrackerClient,
    tracker: &str,
    info_hash: InfoHash,
) -> Result<ScrapeCounts, String> {
    let url = TrackerUrl::parse(tracker).map_err(|error| error.to_string())?;
    let counts = client
        .scrape(&url, info_hash)
        .await
        .map_err(|error| error.to_string())?;
    counts.ok_or_else(|| "it does not know the torrent".to_owned())
}

fn tell(tracker: &str, info_hash: InfoHash, counts: ScrapeCounts, screen: &mut Screen) -> Outcome {
    let ScrapeCounts {
        seeders,
        leechers,
        downloaded,
        ..
    } = counts;
    if screen.is_json() {
        return screen.event(&json!({
            "event": "scrape", "tracker": tracker, "info_hash": info_hash.to_string(),
            "seeders": seeders, "leechers": leechers, "downloaded": downloaded,
        }));
    }
    let number = |count: Option<u32>| count.map_or_else(|| "?".to_owned(), |n| n.to_string());
    screen.line(&format!(
        "swarm         {} seeding, {} downloading, {} downloads so far, says {tracker} of {info_hash}",
        number(seeders),
        number(leechers),
        number(downloaded),
    ))
}

fn tell_failure(tracker: &str, info_hash: InfoHash, message: &str, screen: &mut Screen) -> Outcome {
    screen.event(&json!({
        "event": "scrape_failed", "tracker": tracker, "info_hash": info_hash.to_string(),
        "message": message,
    }))?;
    screen.warn(format!("{tracker}: {message}"));
    Ok(())
}
