//! What torrents cost that nobody asks for: time to add them and to start again with them, memory and CPU a torrent.
//!
//! `cargo run --release -p riverrun-engine --example idle -- 10000`
//!
//! Makes torrents of 20 files and 1000 pieces each, whose files are short, in a directory that it makes and removes,
//! and measures in a process for each step: an engine without torrents, one that adds and checks them all, one that
//! starts again with them. Memory is what the process keeps for itself (`RssAnon`), read from `/proc`.

#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use riverrun_bencode::Writer;
use riverrun_engine::{AddTorrent, Engine, Revision, TorrentHandle, TorrentState};
use riverrun_hash::sha1;

const FILES: usize = 20;
const PIECES: usize = 1000;
/// Short, so that checking them once does not take all day; nothing that is measured depends on it.
const PIECE_LEN: usize = 64;
/// What all bytes of all files are: not holes, which nobody takes for data.
const FILL: u8 = 7;
/// How long CPU time is watched.
const WATCHED: Duration = Duration::from_secs(20);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let count = args.first().map_or(Ok(10_000), |count| count.parse())?;
    let tracker = args.get(1).map_or("", |tracker| tracker);
    let [_, _, dir, step] = args.as_slice() else {
        return measure_all(count, tracker);
    };
    let dir = PathBuf::from(dir);
    let begun = Instant::now();
    let engine = Engine::builder(dir.join("state"))
        .listen(["127.0.0.1:0".parse()?])
        .keep_torrents()
        .start()
        .await?;
    if step == "add" {
        add(&engine, &dir, count, tracker).await?;
    }
    let all = engine.changes(Revision::START).await?.torrents;
    let torrents: Vec<TorrentHandle> = all.into_iter().map(|(torrent, _)| torrent).collect();
    println!(
        "  {} taken in after {:.2?}, {:.2} CPU s",
        torrents.len(),
        begun.elapsed(),
        cpu_seconds()?
    );
    for torrent in &torrents {
        torrent
            .wait_state(|state| *state == TorrentState::Seeding)
            .await?;
    }
    println!(
        "  seeding after {:.2?}, {:.2} CPU s",
        begun.elapsed(),
        cpu_seconds()?
    );
    // Buffers of the start are let go of, and the allocator has time to give them back.
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("  {} KiB of memory", anonymous_kib()?);
    let before = cpu_seconds()?;
    tokio::time::sleep(WATCHED).await;
    let used = cpu_seconds()? - before;
    println!("  {:.2} % of a core", used * 100.0 / WATCHED.as_secs_f64());
    let stopped = Instant::now();
    engine.shutdown().await;
    println!("  stopped after {:.2?}", stopped.elapsed());
    Ok(())
}

/// Each step in a process of its own, so that none inherits memory.
fn measure_all(count: usize, tracker: &str) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("riverrun-idle-{}", std::process::id()));
    make_files(&dir, count)?;
    for step in ["empty", "add", "start"] {
        println!("{step}:");
        let me = std::env::current_exe()?;
        let dir = dir.as_os_str();
        let mut run = Command::new(me);
        run.args([&count.to_string(), tracker]).arg(dir).arg(step);
        if !run.status()?.success() {
            return Err(format!("{step} failed").into());
        }
    }
    fs::remove_dir_all(dir)?;
    Ok(())
}

async fn add(engine: &Engine, dir: &Path, count: usize, tracker: &str) -> Result<()> {
    let mut failed = None;
    let add = |n| {
        let add = AddTorrent::from_bytes(&metainfo(n, tracker));
        let add = add.map(|add| add.dir(dir.join("data")));
        add.map_err(|error| failed = Some(error)).ok()
    };
    for added in engine.add_all((0..count).map_while(add)).await {
        added?;
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

fn name(n: usize) -> String {
    format!("A torrent with a name of usual length {n}")
}

fn make_files(dir: &Path, count: usize) -> Result<()> {
    let file_bytes = vec![FILL; PIECES * PIECE_LEN / FILES];
    for n in 0..count {
        let dir = dir.join("data").join(name(n));
        fs::create_dir_all(&dir)?;
        for file in 0..FILES {
            fs::write(dir.join(file_name(file)), &file_bytes)?;
        }
    }
    Ok(())
}

fn file_name(file: usize) -> String {
    format!("file number {file:02}.data")
}

fn metainfo(n: usize, tracker: &str) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.dict();
    if !tracker.is_empty() {
        writer.key(b"announce").bytes(tracker.as_bytes());
    }
    writer.key(b"info").dict().key(b"files").list();
    for file in 0..FILES {
        let len = (PIECES * PIECE_LEN / FILES) as u64;
        writer.dict().key(b"length").uint(len).key(b"path").list();
        writer.bytes(file_name(file).as_bytes()).end().end();
    }
    writer.end().key(b"name").bytes(name(n).as_bytes());
    writer.key(b"piece length").uint(PIECE_LEN as u64);
    let pieces = sha1(&[FILL; PIECE_LEN]).0.repeat(PIECES);
    writer.key(b"pieces").bytes(&pieces).end().end();
    writer.finish()
}

fn anonymous_kib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no RssAnon in /proc/self/status")?.parse()?)
}

/// What all threads together have used, by the scheduler's own account in ns.
fn cpu_seconds() -> Result<f64> {
    let mut nanos = 0.0;
    for task in fs::read_dir("/proc/self/task")? {
        let line = fs::read_to_string(task?.path().join("schedstat"))?;
        let used = line.split_whitespace().next().ok_or("no schedstat")?;
        nanos += used.parse::<f64>()?;
    }
    Ok(nanos / 1e9)
}
