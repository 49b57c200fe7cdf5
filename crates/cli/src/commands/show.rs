//! `riverrun show`: what a torrent file or a magnet link says.

mod fetch;

use std::collections::BTreeMap;

use riverrun_base::ByteSize;
use riverrun_metainfo::Magnet;
use serde_json::json;

use crate::commands::scrape;
use crate::failure::Outcome;
use crate::screen::{Screen, Surroundings};
use crate::summary::{FileSummary, Summary, count, hash_texts, piece_length};
use crate::torrent::{self, Torrent};
use crate::transfer::NetworkFlags;
use crate::values::Span;

/// The arguments of `show`.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(crate) struct Show {
    /// A torrent file, - for stdin, a magnet link, or, with --fetch, an info-hash
    #[arg(value_name = "TORRENT")]
    torrent: String,
    /// Only the files: size and path, one a line
    #[arg(long, conflicts_with = "tree")]
    files: bool,
    /// Only the files, as a tree
    #[arg(long)]
    tree: bool,
    /// Ask its trackers how many peers it has
    #[arg(long)]
    scrape: bool,
    /// Fetch from peers what a link or an info-hash stands for, and show that; no file of it is written
    #[arg(long)]
    fetch: bool,
    /// Give up fetching after this time
    #[arg(long, value_name = "TIME", default_value = "1m")]
    timeout: Span,
    #[command(flatten)]
    network: NetworkFlags,
}

pub(crate) fn run(args: &Show, around: &Surroundings, screen: &mut Screen) -> Outcome {
    let read = if args.fetch {
        fetch::fetch(args, around, screen)?
    } else {
        torrent::read(&args.torrent, around)?
    };
    let (hashes, trackers) = match read {
        Torrent::Link(link) => {
            show_link(&link, screen)?;
            (link.hashes, link.trackers)
        }
        Torrent::File(metainfo) => {
            show_file(args, &Summary::of(&metainfo), screen)?;
            (metainfo.info.hashes(), metainfo.trackers.concat())
        }
    };
    if args.scrape {
        return scrape::run(hashes, &trackers, args.network.reach(around)?, screen);
    }
    Ok(())
}

fn show_file(args: &Show, summary: &Summary, screen: &mut Screen) -> Outcome {
    match (screen.is_json(), args.files, args.tree) {
        (true, _, _) => screen.event(summary),
        (_, true, _) => show_files(summary, screen),
        (_, _, true) => show_tree(summary, screen),
        _ => show_summary(summary, screen),
    }
}

fn show_summary(summary: &Summary, screen: &mut Screen) -> Outcome {
    let size = format!(
        "{} ({} bytes) in {}",
        ByteSize(summary.total_size),
        summary.total_size,
        count(summary.file_count(), "file")
    );
    field(screen, "name", Some(&summary.name))?;
    field(screen, "info-hash v1", summary.info_hash_v1.as_deref())?;
    field(screen, "info-hash v2", summary.info_hash_v2.as_deref())?;
    field(screen, "size", Some(&size))?;
    field(
        screen,
        "pieces",
        Some(&format!(
            "{} × {}",
            summary.pieces,
            piece_length(summary.piece_length)
        )),
    )?;
    field(
        screen,
        "private",
        summary
            .private
            .then_some("yes: peers from its trackers only"),
    )?;
    field(screen, "source", summary.source.as_deref())?;
    field(screen, "comment", summary.comment.as_deref())?;
    field(screen, "created by", summary.created_by.as_deref())?;
    field(screen, "created", summary.creation_date.as_deref())?;
    let tiers: Vec<String> = summary
        .trackers
        .iter()
        .map(|tier| tier.join(", "))
        .collect();
    fields(screen, "tracker", &tiers)?;
    fields(screen, "web seed", &summary.web_seeds)?;
    fields(screen, "HTTP seed", &summary.http_seeds)?;
    fields(screen, "DHT node", &summary.nodes)?;
    fields(screen, "similar", &summary.similar)?;
    fields(screen, "collection", &summary.collections)?;
    fields(screen, "unknown key", &summary.unknown_keys)
}

/// One line, if there is something to say.
fn field(screen: &mut Screen, label: &str, value: Option<&str>) -> Outcome {
    value.map_or(Ok(()), |value| screen.line(&format!("{label:<13} {value}")))
}

fn fields(screen: &mut Screen, label: &str, values: &[String]) -> Outcome {
    values
        .iter()
        .try_for_each(|value| field(screen, label, Some(value)))
}

fn show_files(summary: &Summary, screen: &mut Screen) -> Outcome {
    let shown = summary.files.iter().filter(|file| !file.pad);
    shown.into_iter().try_for_each(|file| {
        screen.line(&format!("{:>8}  {}", size(file), target(file, &file.path)))
    })
}

fn size(file: &FileSummary) -> String {
    match file.symlink {
        Some(_) => "link".to_owned(),
        None => ByteSize(file.length).to_string(),
    }
}

/// The name, and where it leads if it is a link.
fn target(file: &FileSummary, name: &str) -> String {
    file.symlink
        .as_ref()
        .map_or_else(|| name.to_owned(), |to| format!("{name} → {to}"))
}

/// A directory, in the order of its names, or a file.
enum Node<'a> {
    Directory(BTreeMap<&'a str, Self>),
    File(&'a FileSummary),
}

impl Node<'_> {
    fn bytes(&self) -> u64 {
        match self {
            Self::Directory(entries) => entries
                .values()
                .map(Self::bytes)
                .fold(0, u64::saturating_add),
            Self::File(file) => file.length,
        }
    }
}

fn show_tree(summary: &Summary, screen: &mut Screen) -> Outcome {
    let mut root = BTreeMap::new();
    for file in summary.files.iter().filter(|file| !file.pad) {
        let mut directory = &mut root;
        let mut names = file.path.split('/').peekable();
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                directory.insert(name, Node::File(file));
                break;
            }
            match directory
                .entry(name)
                .or_insert_with(|| Node::Directory(BTreeMap::new()))
            {
                Node::Directory(inner) => directory = inner,
                // No path of a torrent leads through a file.
                Node::File(_) => break,
            }
        }
    }
    root.iter()
        .try_for_each(|(name, node)| show_node(name, node, "", screen))
}

/// One entry and what is below it. The depth is bounded by the parser's limit on paths.
fn show_node(name: &str, node: &Node<'_>, indent: &str, screen: &mut Screen) -> Outcome {
    match node {
        Node::File(file) => screen.line(&format!("{indent}{}  {}", target(file, name), size(file))),
        Node::Directory(entries) => {
            screen.line(&format!("{indent}{name}/  {}", ByteSize(node.bytes())))?;
            let deeper = format!("{indent}  ");
            entries
                .iter()
                .try_for_each(|(name, node)| show_node(name, node, &deeper, screen))
        }
    }
}

fn show_link(link: &Magnet, screen: &mut Screen) -> Outcome {
    let (v1, v2) = hash_texts(&link.hashes);
    let peers: Vec<String> = link.peers.iter().map(ToString::to_string).collect();
    let nodes: Vec<String> = link.nodes.iter().map(ToString::to_string).collect();
    let select = link.select.as_ref().map(|ranges| {
        let range = |r: &std::ops::RangeInclusive<u32>| match (r.start(), r.end()) {
            (start, end) if start == end => start.to_string(),
            (start, end) => format!("{start}-{end}"),
        };
        ranges.iter().map(range).collect::<Vec<_>>().join(",")
    });
    if screen.is_json() {
        return screen.event(&json!({
            "name": link.name, "info_hash_v1": v1, "info_hash_v2": v2, "trackers": link.trackers,
            "web_seeds": link.web_seeds, "peers": peers, "nodes": nodes, "select": select,
            "magnet": link.to_string(),
        }));
    }
    field(screen, "name", link.name.as_deref())?;
    field(screen, "info-hash v1", v1.as_deref())?;
    field(screen, "info-hash v2", v2.as_deref())?;
    fields(screen, "tracker", &link.trackers)?;
    fields(screen, "web seed", &link.web_seeds)?;
    fields(screen, "peer", &peers)?;
    fields(screen, "DHT node", &nodes)?;
    field(screen, "files", select.as_deref())
}
