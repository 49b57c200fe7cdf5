//! Writes a file of a torrent to standard output while it downloads: `… | mpv -` plays it.
//!
//! `cargo run -p riverrun-engine --example stream -- FILE.torrent [NUMBER_OF_THE_FILE] | mpv -`

use riverrun_engine::{AddTorrent, Engine, FileIndex};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args
        .next()
        .ok_or("usage: stream FILE.torrent [NUMBER_OF_THE_FILE]")?;
    let file = args.next().map_or(Ok(0), |number| number.parse())?;

    let engine = Engine::builder(std::env::temp_dir().join("riverrun-example"))
        .start()
        .await?;
    let torrent = engine
        .add(AddTorrent::from_file(path)?.dir("downloads"))
        .await?;
    // Seeking works too (`AsyncSeek`); what is read next is asked of peers first.
    let mut reader = torrent.reader(FileIndex(file)).await?;
    tokio::io::copy(&mut reader, &mut tokio::io::stdout()).await?;
    engine.shutdown().await;
    Ok(())
}
