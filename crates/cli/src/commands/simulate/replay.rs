//! `riverrun simulate replay`: the decisions of a recording, made again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use riverrun_engine::{
    ByteSize, Given, InfoHash, Input, Outbox, Recording, RecordingError, Step, Time, TorrentKey,
};
use serde::Serialize;
use serde_json::json;

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::screen::{Screen, Surroundings};
use crate::summary::count;

/// The name by which it is asked for.
pub(super) const NAME: &str = "replay";

/// What a replay has come to.
#[derive(Default)]
struct Progress {
    steps: usize,
    end: Time,
    /// What the torrents are called.
    names: BTreeMap<TorrentKey, InfoHash>,
    /// The first step that was another, in words.
    parting: Option<String>,
}

impl Progress {
    fn take(&mut self, step: &Step<'_>) {
        self.steps += 1;
        self.end = self.end.max(step.at);
        if let (Given::Input(Input::Add(add)), Some(added)) = (&step.given, step.did.events.first())
        {
            self.names.insert(added.torrent(), add.hashes.primary());
        }
        if !step.agrees {
            self.parting = Some(format!("at {} it was given {}", step.at, text(&step.given)));
        }
    }
}

/// Replays a recording.
pub(super) fn run(file: &Path, around: &Surroundings, screen: &mut Screen) -> Outcome {
    let opened = File::open(around.path(file)).map_err(|e| Failure::io(file, e))?;
    let mut recording = Recording::open(BufReader::new(opened)).map_err(|e| refused(file, e))?;
    let mut progress = Progress::default();
    let stopped = play(&mut recording, &mut progress, screen)?;
    let cut = match stopped {
        Some(error @ RecordingError::Read(_)) => return Err(refused(file, error)),
        Some(error) => {
            screen.warn(format!("{}: {error}", file.display()));
            Some(error.to_string())
        }
        None => None,
    };
    tell_torrents(&recording, &progress, screen)?;
    screen.event(&json!({
        "event": "done", "steps": progress.steps, "end": progress.end.as_micros(), "agrees": progress.parting.is_none(),
        "whole": cut.is_none(), "recorded_by": recording.program(),
    }))?;
    let steps = count(progress.steps, "step");
    let Some(parting) = progress.parting else {
        return screen.finding(&format!("{steps} in {}: decided as recorded", progress.end));
    };
    let text = format!(
        "decides otherwise than recorded, first in step {steps}",
        steps = progress.steps
    );
    Err(Failure::say(ExitCode::Other, text)
        .about(file.display())
        .hint(parting)
        .hint(format!("recorded by {}", recording.program())))
}

fn refused(file: &Path, error: RecordingError) -> Failure {
    let code = match error {
        RecordingError::Read(_) => ExitCode::Io,
        _ => ExitCode::Config,
    };
    Failure::new(code, error).about(file.display())
}

/// Goes through a recording up to its end, to where it cannot be read, or to the first step that is another.
fn play<R: Read>(
    recording: &mut Recording<R>,
    progress: &mut Progress,
    screen: &mut Screen,
) -> Outcome<Option<RecordingError>> {
    loop {
        let step = match recording.step() {
            Ok(Some(step)) => step,
            Ok(None) => return Ok(None),
            Err(error) => return Ok(Some(error)),
        };
        progress.take(&step);
        tell(&step, progress.steps, screen)?;
        if !step.agrees {
            return Ok(None);
        }
    }
}

fn tell(step: &Step<'_>, number: usize, screen: &mut Screen) -> Outcome {
    let Step {
        at,
        given,
        did,
        agrees,
    } = step;
    if screen.is_json() {
        return screen.event(&json!({
            "event": "step", "step": number, "at": at.as_micros(), "given": given, "did": did, "agrees": agrees,
        }));
    }
    if screen.has_details() {
        screen.detail(format!("{at} {}", text(given)));
        let Outbox {
            peers,
            storage,
            net,
            loads,
            events,
        } = did;
        let loads: Vec<_> = loads
            .iter()
            .map(|torrent| json!({ "Load": torrent }))
            .collect();
        let all = [
            lines(peers),
            lines(storage),
            lines(net),
            lines(&loads),
            lines(events),
        ];
        for action in all.iter().flatten() {
            screen.detail(format!("    {action}"));
        }
    }
    Ok(())
}

fn lines(actions: &[impl Serialize]) -> Vec<String> {
    actions.iter().map(text).collect()
}

fn text(thing: &impl Serialize) -> String {
    // Invariant: maps have strings for keys.
    serde_json::to_string(thing).expect("inputs and actions are plain data")
}

/// The torrents as the replay has left them.
fn tell_torrents<R: Read>(
    recording: &Recording<R>,
    progress: &Progress,
    screen: &mut Screen,
) -> Outcome {
    let shard = recording.shard();
    for torrent in shard.torrents() {
        let (Some(stats), Some(name)) = (
            shard.stats(progress.end, torrent),
            progress.names.get(&torrent),
        ) else {
            continue;
        };
        let (state, received, sent) = (
            &stats.state,
            ByteSize(stats.downloaded_bytes),
            ByteSize(stats.uploaded_bytes),
        );
        screen.event(&json!({
            "event": "torrent", "info_hash": name, "state": state, "verified": stats.verified,
            "downloaded_bytes": received.0, "uploaded_bytes": sent.0,
        }))?;
        screen.finding(&format!(
            "{name}: {state:?}, {received} received, {sent} sent"
        ))?;
    }
    Ok(())
}
