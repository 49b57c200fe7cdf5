//! Two engines in one process, one seeding to the other: no tracker, no globals.
//!
//! `cargo run -p riverrun-engine --example two_engines -- FILE.torrent DIR_WITH_THE_DATA DIR_TO_FILL`

#![expect(clippy::print_stderr, reason = "an example talks to its user")]

use std::net::SocketAddr;

use riverrun_engine::{AddTorrent, Engine};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, from, to] = &args[..] else {
        return Err("usage: two_engines FILE.torrent DIR_WITH_THE_DATA DIR_TO_FILL".into());
    };
    let state = std::env::temp_dir().join("riverrun-example");
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));

    let seeder = Engine::builder(state.join("seeder"))
        .listen([loopback])
        .start()
        .await?;
    seeder
        .add(AddTorrent::from_file(path)?.dir(from).upload_only())
        .await?;

    let leecher = Engine::builder(state.join("leecher"))
        .listen([loopback])
        .start()
        .await?;
    let peers = seeder.listen_addrs();
    let torrent = leecher
        .add(AddTorrent::from_file(path)?.dir(to).peers(peers))
        .await?;
    torrent.wait_completed().await?;
    eprintln!("{} went from {from} to {to}", torrent.name());

    leecher.shutdown().await;
    seeder.shutdown().await;
    Ok(())
}
