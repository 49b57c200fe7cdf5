//! Seeds what lies in a directory; what is not there is not downloaded.
//!
//! `cargo run -p riverrun-engine --example seed -- FILE.torrent DIR`

#![expect(clippy::print_stderr, reason = "an example talks to its user")]

use riverrun_engine::{AddTorrent, Engine};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(path), Some(dir)) = (args.next(), args.next()) else {
        return Err("usage: seed FILE.torrent DIR".into());
    };
    let engine = Engine::builder(std::env::temp_dir().join("riverrun-example"))
        .start()
        .await?;
    let torrent = engine
        .add(AddTorrent::from_file(path)?.dir(dir).upload_only())
        .await?;
    eprintln!(
        "seeding {} at {:?}; Ctrl-C ends",
        torrent.name(),
        engine.listen_addrs()
    );
    tokio::signal::ctrl_c().await?;
    engine.shutdown().await;
    Ok(())
}
