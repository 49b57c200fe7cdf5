//! `riverrun edit`: changes what a torrent file says, in place or as a new file.

use std::path::{Path, PathBuf};

use riverrun_metainfo::{InfoEdit, Metainfo};
use serde_json::json;

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::replace::{IfExists, write_file};
use crate::screen::{Screen, Surroundings};
use crate::summary::{hash_texts, hashes_on_one_line};
use crate::torrent;
use crate::values::{CreationDate, TrackerTier, WebSeed};

/// The arguments of `edit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Edit {
    /// The torrent file, or - for stdin
    #[arg(value_name = "TORRENT")]
    torrent: String,
    /// Write here (- is stdout) and leave TORRENT as it is
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace FILE if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    outside: Outside,
    #[command(flatten)]
    inside: Inside,
}

/// What may be changed and leaves the torrent the same.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Changes")]
struct Outside {
    /// Trackers instead of those there are: each is a tier, commas separate the trackers of one; "" is none
    #[arg(long, value_name = "URL[,URL…]")]
    set_tracker: Vec<TrackerTier>,
    /// A tracker, or a tier of them, after those there are
    #[arg(long, value_name = "URL[,URL…]")]
    add_tracker: Vec<TrackerTier>,
    /// Remove a tracker
    #[arg(long, value_name = "URL")]
    remove_tracker: Vec<String>,
    /// Web seeds instead of those there are; "" is none
    #[arg(long, value_name = "URL")]
    set_web_seed: Vec<WebSeed>,
    /// A web seed after those there are
    #[arg(long, value_name = "URL")]
    add_web_seed: Vec<WebSeed>,
    /// Remove a web seed
    #[arg(long, value_name = "URL")]
    remove_web_seed: Vec<String>,
    /// The comment; "" removes it
    #[arg(long, value_name = "TEXT")]
    set_comment: Option<String>,
    /// The program that made it; "" removes it
    #[arg(long, value_name = "TEXT")]
    set_created_by: Option<String>,
    /// When it was made: now, none, seconds since 1970 or RFC 3339
    #[arg(long, value_name = "DATE")]
    set_date: Option<CreationDate>,
}

/// What makes another torrent of it.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_field_names, reason = "they are the names of the flags")]
#[command(next_help_heading = "Changes of the info-hash")]
struct Inside {
    /// The name of the file or directory
    #[arg(long, value_name = "TEXT")]
    set_name: Option<String>,
    /// The key `source`; "" removes it
    #[arg(long, value_name = "TEXT")]
    set_source: Option<String>,
    /// Whether peers may come from its trackers only
    #[arg(long, value_name = "BOOL")]
    set_private: Option<bool>,
}

pub(crate) fn run(args: &Edit, around: &Surroundings, screen: &mut Screen) -> Outcome {
    let mut metainfo = torrent::read_file(&args.torrent, around)?;
    let (before, bytes_before) = (metainfo.info.hashes(), metainfo.to_bytes());
    args.outside.apply(&mut metainfo, around.unix_now)?;
    args.inside.apply(&mut metainfo)?;
    let bytes = metainfo.to_bytes();
    if args.output.is_none() && bytes == bytes_before {
        return Err(Failure::say(ExitCode::Usage, "nothing to change")
            .hint("`riverrun edit --help` lists what can be"));
    }
    let target = args.target();
    let changed = metainfo.info.hashes() != before;
    if changed {
        screen.warn("the info-hash changes: this is another torrent now, peers of the old one will not find it");
        screen.item(format!("old {}", hashes_on_one_line(&before)));
        screen.item(format!(
            "new {}",
            hashes_on_one_line(&metainfo.info.hashes())
        ));
    }
    if target == Path::new("-") {
        return screen.torrent_bytes(&bytes);
    }
    let if_exists = if args.output.is_none() || args.force {
        IfExists::Replace
    } else {
        IfExists::Refuse
    };
    write_file(&around.cwd, &target, &bytes, if_exists)?;
    let (v1, v2) = hash_texts(&metainfo.info.hashes());
    screen.event(&json!({
        "event": "done", "path": target, "info_hash_v1": v1, "info_hash_v2": v2, "info_hash_changed": changed,
    }))?;
    screen.done(format!("{} written", target.display()));
    Ok(())
}

impl Edit {
    /// Where the result goes: without `-o` to where the torrent came from.
    fn target(&self) -> PathBuf {
        self.output
            .clone()
            .unwrap_or_else(|| PathBuf::from(&self.torrent))
    }
}

impl Outside {
    fn apply(&self, metainfo: &mut Metainfo, unix_now: i64) -> Outcome {
        if !self.set_tracker.is_empty() {
            metainfo.trackers = tiers(&self.set_tracker);
        }
        metainfo.trackers.extend(tiers(&self.add_tracker));
        for url in &self.remove_tracker {
            remove(&mut metainfo.trackers, url)?;
        }
        let seeds = |seeds: &[WebSeed]| seeds.iter().filter_map(WebSeed::url).collect::<Vec<_>>();
        if !self.set_web_seed.is_empty() {
            metainfo.web_seeds = seeds(&self.set_web_seed);
        }
        metainfo.web_seeds.extend(seeds(&self.add_web_seed));
        for url in &self.remove_web_seed {
            let before = metainfo.web_seeds.len();
            metainfo.web_seeds.retain(|seed| seed != url);
            if metainfo.web_seeds.len() == before {
                return Err(absent("web seed", url));
            }
        }
        if let Some(comment) = &self.set_comment {
            metainfo.comment = not_empty(comment);
        }
        if let Some(program) = &self.set_created_by {
            metainfo.created_by = not_empty(program);
        }
        if let Some(date) = self.set_date {
            metainfo.creation_date = date.unix(unix_now);
        }
        Ok(())
    }
}

impl Inside {
    fn apply(&self, metainfo: &mut Metainfo) -> Outcome {
        let edit = InfoEdit {
            private: self.set_private,
            source: self.set_source.as_deref().map(not_empty),
            name: self.set_name.clone(),
        };
        if edit == InfoEdit::default() {
            return Ok(());
        }
        metainfo
            .edit_info(&edit)
            .map_err(|e| Failure::new(ExitCode::Usage, e).about("this change makes no torrent"))
    }
}

fn tiers(given: &[TrackerTier]) -> Vec<Vec<String>> {
    given
        .iter()
        .map(|tier| tier.0.clone())
        .filter(|tier| !tier.is_empty())
        .collect()
}

fn not_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn remove(trackers: &mut Vec<Vec<String>>, url: &str) -> Outcome {
    let count = |tiers: &[Vec<String>]| tiers.iter().map(Vec::len).sum::<usize>();
    let before = count(trackers);
    for tier in trackers.iter_mut() {
        tier.retain(|tracker| tracker != url);
    }
    trackers.retain(|tier| !tier.is_empty());
    if count(trackers) == before {
        Err(absent("tracker", url))
    } else {
        Ok(())
    }
}

fn absent(what: &str, url: &str) -> Failure {
    Failure::say(
        ExitCode::NotFound,
        format!("the torrent has no {what} {url}"),
    )
    .hint("`riverrun show` lists what it has")
}
