//! The commands, one file each.

mod completions;
mod create;
mod demo;
mod dht;
mod edit;
mod get;
mod magnet;
mod man;
mod scrape;
mod seed;
mod show;
mod simulate;
mod tracker;
mod verify;

pub(crate) use get::cannot_add;
pub(crate) use seed::wait_checked;

use clap::Subcommand;

use crate::failure::Outcome;
use crate::screen::{Screen, Surroundings};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a torrent file of a file or a directory
    Create(Box<create::Create>),
    /// Show what a torrent file or a magnet link says
    Show(Box<show::Show>),
    /// Hold files against a torrent
    Verify(verify::Verify),
    /// Change trackers, web seeds, comment, name … of a torrent file
    Edit(Box<edit::Edit>),
    /// Print the magnet link to a torrent
    Magnet(magnet::MagnetLink),
    /// Download torrents
    Get(Box<get::Get>),
    /// Seed torrents, or publish files and directories
    Seed(Box<seed::Seed>),
    /// Run a tracker until Ctrl-C
    Tracker(tracker::Tracker),
    /// Ask the distributed hash table, store in it, or be a node of it
    Dht(Box<dht::Dht>),
    /// Watch a folder spread from one peer to all, on this machine
    Demo(demo::Demo),
    /// Run a swarm under a virtual clock, and see what comes of it
    Simulate(simulate::Simulate),
    /// Print the completions of a shell to stdout
    Completions(completions::Completions),
    /// Write the manual pages into a directory
    Man(man::Man),
}

/// Runs one command to its end.
pub(crate) fn run(command: Command, around: &Surroundings, screen: &mut Screen) -> Outcome {
    match command {
        Command::Create(args) => create::run(&args, around, screen),
        Command::Show(args) => show::run(&args, around, screen),
        Command::Verify(args) => verify::run(&args, around, screen),
        Command::Edit(args) => edit::run(&args, around, screen),
        Command::Magnet(args) => magnet::run(&args, around, screen),
        Command::Get(args) => get::run(&args, around, screen),
        Command::Seed(args) => seed::run(&args, around, screen),
        Command::Tracker(args) => tracker::run(&args, screen),
        Command::Dht(args) => dht::run(&args, around, screen),
        Command::Demo(args) => demo::run(&args, around, screen),
        Command::Simulate(args) => simulate::run_command(&args, around, screen),
        Command::Completions(args) => completions::run(&args, screen),
        Command::Man(args) => man::run(&args, around, screen),
    }
}
