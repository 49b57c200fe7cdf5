//! Engines that download from servers over HTTP (BEP 19).

#[path = "support/server.rs"]
mod server;
mod support;

use riverrun_engine::{
    AddTorrent, Engine, Event, Limits, Rate, TorrentHandle, TorrentState, WebSeedStatus,
};
use riverrun_metainfo::MetaVersion;
use server::{Manner, Server};
use support::{Published, builder, engine, soon, start};
use tempfile::TempDir;
use tokio_stream::StreamExt as _;

const VERSIONS: [MetaVersion; 3] = [MetaVersion::V1, MetaVersion::V2, MetaVersion::Hybrid];

/// An engine without peers, and a server of what is published.
struct Place {
    home: TempDir,
    engine: Engine,
    server: Server,
}

impl Place {
    async fn new(published: &Published, manner: Manner) -> Self {
        let home = TempDir::new().unwrap();
        Self {
            engine: engine(home.path()).await,
            server: Server::start(published.dir.path(), manner).await,
            home,
        }
    }

    fn adding(&self, published: &Published) -> AddTorrent {
        AddTorrent::from_metainfo(published.metainfo.clone()).dir(self.home.path().join("data"))
    }

    /// Has the engine download with a web seed at this path of the server.
    async fn add(&self, published: &Published, path: &str) -> TorrentHandle {
        let url = format!("{}{path}", self.server.url);
        let add = self.adding(published).web_seeds([url]);
        self.engine.add(add).await.unwrap()
    }

    async fn is_complete(&self, published: &Published, torrent: &TorrentHandle) {
        soon(torrent.wait_completed()).await.unwrap();
        published.assert_copied_to(&self.home.path().join("data"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_torrent_comes_from_a_web_seed_alone() {
    for version in VERSIONS {
        for lens in [&[0, 1, 16_384, 32_768, 300_001, 0, 5][..], &[100_000], &[7]] {
            let published = Published::new(lens, version, 1);
            let place = Place::new(&published, Manner::Honest).await;
            let torrent = place.add(&published, "/").await;
            place.is_complete(&published, &torrent).await;
            let pads = |path: &str| path.contains("pad");
            let asked = place.server.asked();
            assert!(!asked.iter().any(|(path, _)| pads(path)), "{asked:?}");
            let stats = torrent.stats().await.unwrap();
            assert_eq!((stats.wasted_bytes, stats.failed_bytes), (0, 0));
            place.engine.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_seed_is_asked_for_long_ranges_and_each_byte_once() {
    const LEN: u64 = 20 << 20;
    let published = Published::new(&[LEN], MetaVersion::V1, 2);
    let place = Place::new(&published, Manner::Honest).await;
    let torrent = place.add(&published, "/payload").await;
    place.is_complete(&published, &torrent).await;
    let asked = place.server.asked();
    let mut ranges: Vec<_> = asked.iter().filter_map(|(_, range)| *range).collect();
    assert_eq!(ranges.len(), asked.len());
    ranges.sort_unstable();
    let mut at = 0;
    for (first, last) in &ranges {
        assert_eq!(*first, at);
        at = last + 1;
    }
    assert_eq!(at, LEN);
    assert!(ranges.len() <= 30, "{} requests for 20 MiB", ranges.len());
    let seeds = torrent.web_seeds().await.unwrap();
    assert_eq!((seeds.len(), seeds[0].downloaded_bytes), (1, LEN));
    assert_eq!(seeds[0].status, WebSeedStatus::Idle);
    place.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_sends_each_file_once() {
    for lens in [&[3 << 20][..], &[2_000_001, 70_000, 1_000_003, 700_001]] {
        let published = Published::new(lens, MetaVersion::V1, 3);
        let place = Place::new(&published, Manner::WithoutRanges).await;
        let torrent = place.add(&published, "/").await;
        place.is_complete(&published, &torrent).await;
        let asked = place.server.asked().len();
        assert!(asked <= 4 * lens.len(), "asked {asked} times");
        place.engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torrent_completes_from_a_peer_whatever_a_web_seed_does() {
    for manner in Manner::HOSTILE {
        let published = Published::new(&[400_000, 90_000], MetaVersion::V1, 4);
        let place = Place::new(&published, manner).await;
        let mut events = place.engine.events();
        let torrent = place.add(&published, "/").await;
        // It fails first, so that it has its chance.
        let told = async {
            while let Some(event) = events.next().await {
                if let Ok(Event::WebSeedFailed { message, .. }) = event {
                    return message;
                }
            }
            String::new()
        };
        let message = soon(told).await;
        assert!(!message.is_empty(), "{manner:?}");
        let home = TempDir::new().unwrap();
        let seeder = engine(home.path()).await;
        let seeding = AddTorrent::from_metainfo(published.metainfo.clone());
        let seeding = seeder.add(seeding.dir(published.dir.path())).await.unwrap();
        soon(seeding.wait_state(|state| *state == TorrentState::Seeding))
            .await
            .unwrap();
        torrent.add_peers(seeder.listen_addrs()).await.unwrap();
        place.is_complete(&published, &torrent).await;
        seeder.shutdown().await;
        place.engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_torrent_leads_to_services_of_this_machine() {
    let mut published = Published::new(&[400_000], MetaVersion::V1, 5);
    let place = Place::new(&published, Manner::Honest).await;
    published.metainfo.web_seeds = vec![format!("{}/payload", place.server.url)];
    let mut events = place.engine.events();
    place.engine.add(place.adding(&published)).await.unwrap();
    let told = async {
        while let Some(event) = events.next().await {
            if let Ok(Event::WebSeedFailed { message, .. }) = event {
                return message;
            }
        }
        String::new()
    };
    let message = soon(told).await;
    assert!(message.contains("leads to 127.0.0.1"), "{message}");
    assert_eq!(place.server.asked(), []);
    place.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn web_seeds_and_peers_give_together_and_nothing_twice() {
    let published = Published::new(&[8 << 20], MetaVersion::V1, 6);
    let place = Place::new(&published, Manner::Honest).await;
    let home = TempDir::new().unwrap();
    let seeder = engine(home.path()).await;
    let seeding = AddTorrent::from_metainfo(published.metainfo.clone());
    let seeding = seeder.add(seeding.dir(published.dir.path())).await.unwrap();
    soon(seeding.wait_state(|state| *state == TorrentState::Seeding))
        .await
        .unwrap();
    // Slow enough that neither is through before the other begins.
    let rate = Rate::from_bytes_per_second(6 << 20);
    let add = place
        .adding(&published)
        .web_seeds([format!("{}/payload", place.server.url)])
        .peers(seeder.listen_addrs().iter().copied())
        .limits(Limits {
            download: Some(rate),
            upload: None,
        });
    let torrent = place.engine.add(add).await.unwrap();
    place.is_complete(&published, &torrent).await;
    let stats = torrent.stats().await.unwrap();
    assert!(
        stats.wasted_bytes < 1 << 20,
        "{} wasted",
        stats.wasted_bytes
    );
    let of_web = torrent.web_seeds().await.unwrap()[0].downloaded_bytes;
    assert!(of_web > 0 && of_web < 8 << 20, "{of_web} from the web seed");
    seeder.shutdown().await;
    place.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_uses_no_web_seeds_asks_none() {
    let published = Published::new(&[100_000], MetaVersion::V1, 7);
    let home = TempDir::new().unwrap();
    let engine = start(builder(home.path()).web_seeds(false)).await;
    let server = Server::start(published.dir.path(), Manner::Honest).await;
    let add = AddTorrent::from_metainfo(published.metainfo.clone())
        .dir(home.path().join("data"))
        .web_seeds([server.url.clone()]);
    let torrent = engine.add(add).await.unwrap();
    soon(torrent.wait_state(|state| *state == TorrentState::Downloading))
        .await
        .unwrap();
    engine.shutdown().await;
    assert_eq!(server.asked(), []);
}
