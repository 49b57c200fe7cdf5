//! Downloads a torrent file or magnet link into a directory and shows how far it is.
//!
//! `cargo run -p riverrun-engine --example download -- FILE_OR_MAGNET [DIR]`

#![expect(clippy::print_stderr, reason = "an example talks to its user")]

use std::time::Duration;

use riverrun_engine::{AddTorrent, ByteSize, Engine};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let source = args.next().ok_or("usage: download FILE_OR_MAGNET [DIR]")?;
    let dir = args.next().unwrap_or_else(|| ".".to_owned());
    let add = if source.starts_with("magnet:") {
        AddTorrent::from_magnet_link(&source)?
    } else {
        AddTorrent::from_file(&source)?
    };

    let engine = Engine::builder(std::env::temp_dir().join("riverrun-example"))
        .start()
        .await?;
    let torrent = engine.add(add.dir(dir)).await?;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            done = torrent.wait_completed() => {
                done?;
                break;
            }
            _ = tick.tick() => {
                let stats = torrent.stats().await?;
                let done = ByteSize(stats.wanted_bytes - stats.wanted_left_bytes);
                eprintln!("{}: {done} of {}", torrent.name(), ByteSize(stats.wanted_bytes));
            }
        }
    }
    eprintln!("{} is complete", torrent.name());
    engine.shutdown().await;
    Ok(())
}
