//! `riverrun man`: manual pages from the same declaration as the parser, one a command.

use std::fs;
use std::path::PathBuf;

use clap::CommandFactory;
use serde_json::json;

use crate::args::Cli;
use crate::failure::{Failure, Outcome};
use crate::replace::{IfExists, write_file};
use crate::screen::{Screen, Surroundings};

/// The arguments of `man`.
#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// The directory for the pages; made if it is not there
    dir: PathBuf,
}

pub(crate) fn run(args: &Man, around: &Surroundings, screen: &mut Screen) -> Outcome {
    let dir = &args.dir;
    fs::create_dir_all(around.path(dir)).map_err(|e| Failure::io(dir, e))?;
    let pages = pages().map_err(|e| Failure::io(dir, e))?;
    for (name, page) in &pages {
        write_file(&around.cwd, &dir.join(name), page, IfExists::Replace)?;
    }
    screen.event(&json!({ "event": "done", "path": dir, "pages": pages.len() }))?;
    screen.done(format!("{} manual pages → {}", pages.len(), dir.display()));
    Ok(())
}

/// `riverrun.1` and `riverrun-COMMAND.1`, with their contents.
fn pages() -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let root = Cli::command();
    let mut pages = vec![page(root.clone(), "riverrun")?];
    for sub in root.get_subcommands() {
        let name = format!("riverrun-{}", sub.get_name());
        pages.push(page(sub.clone(), &name)?);
    }
    Ok(pages)
}

fn page(command: clap::Command, name: &str) -> std::io::Result<(String, Vec<u8>)> {
    let mut text = Vec::new();
    // The manual knows a page by its name, which must live as long as the command.
    clap_mangen::Man::new(command.name(name.to_owned()).disable_help_subcommand(true))
        .render(&mut text)?;
    Ok((format!("{name}.1"), text))
}
