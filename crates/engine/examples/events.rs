//! Prints everything that happens to a torrent.
//!
//! `cargo run -p riverrun-engine --example events -- FILE.torrent DIR`

#![expect(clippy::print_stderr, reason = "an example talks to its user")]

use std::future::poll_fn;
use std::pin::Pin;

use futures_core::Stream as _;
use riverrun_engine::{AddTorrent, Engine, Event};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(path), Some(dir)) = (args.next(), args.next()) else {
        return Err("usage: events FILE.torrent DIR".into());
    };
    let engine = Engine::builder(std::env::temp_dir().join("riverrun-example"))
        .start()
        .await?;
    let mut events = engine.events();
    let torrent = engine.add(AddTorrent::from_file(path)?.dir(dir)).await?;
    while let Some(event) = poll_fn(|context| Pin::new(&mut events).poll_next(context)).await {
        match event {
            Ok(Event::Completed { torrent: key }) if key == torrent.key() => break,
            Ok(event) => eprintln!("{event:?}"),
            Err(lagged) => eprintln!("{lagged}"),
        }
    }
    engine.shutdown().await;
    Ok(())
}
