//! Engines that download from each other over loopback.

mod support;

use std::io::SeekFrom;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use riverrun_base::{InfoHashes, Sha1Digest};
use riverrun_engine::{
    AddTorrent, EncryptionPolicy, Engine, Event, FileIndex, Limits, Priority, Rate, StorageFault,
    TorrentHandle, TorrentState, Transport, Transports, Why,
};
use riverrun_metainfo::MetaVersion;
use support::{Published, builder, engine, engine_over, soon, start};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const VERSIONS: [MetaVersion; 3] = [MetaVersion::V1, MetaVersion::V2, MetaVersion::Hybrid];

/// Empty, tiny, a block, a piece, several pieces and a bit.
const LENS: [u64; 7] = [0, 1, 16_384, 32_768, 300_001, 0, 5];

async fn seeding(engine: &Engine, published: &Published) -> TorrentHandle {
    let add = AddTorrent::from_metainfo(published.metainfo.clone()).dir(published.dir.path());
    let torrent = engine.add(add).await.unwrap();
    soon(torrent.wait_state(|state| *state == TorrentState::Seeding))
        .await
        .unwrap();
    torrent
}

fn leeching(published: &Published, dir: &TempDir, from: &Engine) -> AddTorrent {
    AddTorrent::from_metainfo(published.metainfo.clone())
        .dir(dir.path().join("data"))
        .peers(from.listen_addrs().iter().copied())
}

/// An engine that seeds what was published, and one to download it with, each in a directory of its own.
struct Pair {
    seeder: Engine,
    leecher: Engine,
    home: TempDir,
    _seeders_home: TempDir,
}

impl Pair {
    async fn new(published: &Published) -> Self {
        let (home, seeders_home) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (seeder, leecher) = (engine(seeders_home.path()).await, engine(home.path()).await);
        seeding(&seeder, published).await;
        Self {
            seeder,
            leecher,
            home,
            _seeders_home: seeders_home,
        }
    }

    fn add(&self, published: &Published) -> AddTorrent {
        leeching(published, &self.home, &self.seeder)
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    async fn end(self) {
        self.leecher.shutdown().await;
        self.seeder.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leecher_gets_every_kind_of_torrent() {
    for version in VERSIONS {
        for lens in [&LENS[..], &[100_000], &[7]] {
            let published = Published::new(lens, version, 1);
            let pair = Pair::new(&published).await;
            let torrent = pair.leecher.add(pair.add(&published)).await.unwrap();
            soon(torrent.wait_completed()).await.unwrap();
            published.assert_copied_to(&pair.data());
            pair.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_magnet_link_needs_only_a_peer_and_keeps_the_metadata() {
    for version in VERSIONS {
        let published = Published::new(&LENS, version, 2);
        let (home, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (seeder, leecher) = (engine(home.path()).await, engine(other.path()).await);
        seeding(&seeder, &published).await;
        let mut magnet = published.metainfo.magnet();
        let addr = seeder.listen_addrs()[0];
        let peer = match version {
            MetaVersion::Hybrid => format!("localhost:{}", addr.port()),
            _ => addr.to_string(),
        };
        magnet.peers = vec![peer.parse().unwrap()];
        let add = AddTorrent::from_magnet(magnet.clone()).dir(other.path().join("data"));
        let torrent = leecher.add(add).await.unwrap();
        soon(torrent.wait_completed()).await.unwrap();
        assert_eq!(torrent.info().unwrap().raw(), published.metainfo.info.raw());
        published.assert_copied_to(&other.path().join("data"));
        leecher.shutdown().await;
        seeder.shutdown().await;

        // Without any peer the same link is whole at once: metadata and pieces are remembered.
        magnet.peers.clear();
        let again = engine(other.path()).await;
        let add = AddTorrent::from_magnet(magnet).dir(other.path().join("data"));
        let torrent = again.add(add).await.unwrap();
        soon(torrent.wait_completed()).await.unwrap();
        again.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_downloader_becomes_a_source() {
    let published = Published::new(&[500_000], MetaVersion::Hybrid, 3);
    let homes: Vec<TempDir> = (0..3).map(|_| TempDir::new().unwrap()).collect();
    let (first, second, third) = (
        engine(homes[0].path()).await,
        engine(homes[1].path()).await,
        engine(homes[2].path()).await,
    );
    seeding(&first, &published).await;
    let torrent = second
        .add(leeching(&published, &homes[1], &first))
        .await
        .unwrap();
    soon(torrent.wait_completed()).await.unwrap();
    first.shutdown().await;

    let torrent = third
        .add(leeching(&published, &homes[2], &second))
        .await
        .unwrap();
    soon(torrent.wait_completed()).await.unwrap();
    published.assert_copied_to(&homes[2].path().join("data"));
    third.shutdown().await;
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_selected_files_are_written() {
    let published = Published::new(&[100_000, 100_000, 100_000], MetaVersion::Hybrid, 4);
    let pair = Pair::new(&published).await;
    let files = published.metainfo.info.layout().files();
    let wanted = |path: &str| path.ends_with("01");
    let priorities = files
        .iter()
        .map(|file| {
            if wanted(file.path.as_str()) {
                Priority::High
            } else {
                Priority::Skip
            }
        })
        .collect();
    let add = pair.add(&published).priorities(priorities);
    let torrent = pair.leecher.add(add).await.unwrap();
    soon(torrent.wait_completed()).await.unwrap();
    let data = pair.data().join("payload");
    assert!(data.join("01").exists() && !data.join("00").exists() && !data.join("02").exists());
    assert_eq!(torrent.state(), TorrentState::Finished);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_and_sought_while_it_downloads() {
    let published = Published::new(&[10, 1_000_003, 20], MetaVersion::V1, 5);
    let pair = Pair::new(&published).await;
    let torrent = pair.leecher.add(pair.add(&published)).await.unwrap();
    let expected = std::fs::read(published.dir.path().join("payload/01")).unwrap();

    let mut reader = torrent.reader(FileIndex(1)).await.unwrap();
    assert_eq!(reader.len(), 1_000_003);
    soon(reader.seek(SeekFrom::End(-70_000))).await.unwrap();
    let mut tail = reader.clone();
    let mut bytes = Vec::new();
    soon(tail.read_to_end(&mut bytes)).await.unwrap();
    assert!(bytes == expected[expected.len() - 70_000..]);

    soon(reader.rewind()).await.unwrap();
    bytes.clear();
    soon(reader.read_to_end(&mut bytes)).await.unwrap();
    assert!(bytes == expected);
    assert!(reader.seek(SeekFrom::Current(-2_000_000)).await.is_err());
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_download_goes_on_without_checking() {
    let published = Published::new(&[2_000_000], MetaVersion::Hybrid, 6);
    let (home, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (seeder, leecher) = (engine(home.path()).await, engine(other.path()).await);
    seeding(&seeder, &published).await;
    let torrent = leecher
        .add(leeching(&published, &other, &seeder))
        .await
        .unwrap();
    let mut reader = torrent.reader(FileIndex(0)).await.unwrap();
    let mut some = vec![0; 300_000];
    soon(reader.read_exact(&mut some)).await.unwrap();
    leecher.shutdown().await;

    let again = engine(other.path()).await;
    let mut events = again.events();
    let torrent = again
        .add(leeching(&published, &other, &seeder))
        .await
        .unwrap();
    soon(torrent.wait_completed()).await.unwrap();
    published.assert_copied_to(&other.path().join("data"));
    while let Ok(Some(Ok(event))) =
        tokio::time::timeout(std::time::Duration::ZERO, next(&mut events)).await
    {
        assert!(
            !matches!(event, riverrun_engine::Event::Checked { .. }),
            "{event:?}"
        );
    }
    let downloaded = torrent.stats().await.unwrap().downloaded_bytes;
    assert!(downloaded <= 1_700_000, "{downloaded} bytes came again");
    again.shutdown().await;
    seeder.shutdown().await;
}

async fn next(
    events: &mut riverrun_engine::BroadcastStream<Event>,
) -> Option<Result<Event, tokio_stream::wrappers::errors::BroadcastStreamRecvError>> {
    use tokio_stream::StreamExt as _;
    events.next().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_is_not_overwritten() {
    let published = Published::new(&[50_000], MetaVersion::V1, 7);
    let pair = Pair::new(&published).await;
    let precious = pair.data().join("payload");
    std::fs::create_dir_all(precious.parent().unwrap()).unwrap();
    std::fs::write(&precious, vec![b'!'; 60_000]).unwrap();
    let torrent = pair.leecher.add(pair.add(&published)).await.unwrap();
    let state = torrent.wait_state(|state| matches!(state, TorrentState::Faulted(_)));
    let state = soon(state).await.unwrap();
    assert!(
        matches!(state, TorrentState::Faulted(StorageFault::Conflict { .. })),
        "{state:?}"
    );
    assert_eq!(std::fs::read(&precious).unwrap(), vec![b'!'; 60_000]);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_changed_while_it_is_seeded_gives_nothing_false() {
    let published = Published::new(&[300_001, 40_000], MetaVersion::V1, 9);
    let homes: Vec<TempDir> = (0..3).map(|_| TempDir::new().unwrap()).collect();
    let seeder = engine(homes[0].path()).await;
    let seed = seeding(&seeder, &published).await;
    let path = published.dir.path().join("payload/00");
    let right = std::fs::read(&path).unwrap();
    let mut changed = right.clone();
    changed[100_000] ^= 1;
    let mut events = seeder.events();
    std::fs::write(&path, &changed).unwrap();

    let first = engine(homes[1].path()).await;
    let add = leeching(&published, &homes[1], &seeder);
    let torrent = first.add(add).await.unwrap();
    let named = loop {
        if let Event::FileChanged { path, .. } = soon(next(&mut events)).await.unwrap().unwrap() {
            break path;
        }
    };
    assert_eq!(named, path.to_str().unwrap());
    let is_held =
        |state: &TorrentState| matches!(state, TorrentState::Faulted(StorageFault::Changed { .. }));
    soon(seed.wait_state(is_held)).await.unwrap();
    assert_eq!(seed.pieces().zeros().count(), 1, "the rest is right");
    assert_eq!(std::fs::read(&path).unwrap(), changed, "and stays");
    assert_eq!(torrent.stats().await.unwrap().failed_bytes, 0);
    first.shutdown().await;

    std::fs::write(&path, &right).unwrap();
    seed.recheck().await.unwrap();
    let is_seeding = |state: &TorrentState| *state == TorrentState::Seeding;
    soon(seed.wait_state(is_seeding)).await.unwrap();
    let second = engine(homes[2].path()).await;
    let add = leeching(&published, &homes[2], &seeder);
    let torrent = second.add(add).await.unwrap();
    soon(torrent.wait_completed()).await.unwrap();
    published.assert_copied_to(&homes[2].path().join("data"));
    second.shutdown().await;
    seeder.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torrent_can_be_stopped_started_and_removed() {
    let published = Published::new(&[200_000], MetaVersion::V2, 8);
    let home = TempDir::new().unwrap();
    let engine = engine(home.path()).await;
    let torrent = seeding(&engine, &published).await;
    soon(torrent.stop()).await.unwrap();
    torrent.start().await.unwrap();
    soon(torrent.wait_state(|state| *state == TorrentState::Seeding))
        .await
        .unwrap();
    let hash = torrent.info_hashes().primary();
    assert!(engine.contains(hash).await.unwrap());
    soon(torrent.remove()).await.unwrap();
    assert!(!engine.contains(hash).await.unwrap());
    assert!(published.dir.path().join("payload").exists(), "files stay");
    engine.shutdown().await;
}

/// What carries the copy from one engine to the other.
async fn carried(seeder: Transports, leecher: Transports, wish: Option<Transports>) -> Transport {
    let published = Published::new(&[3_000_000], MetaVersion::Hybrid, 1);
    let (home, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let seeder = engine_over(home.path(), seeder).await;
    let leecher = engine_over(other.path(), leecher).await;
    // Slow, until both ends have been asked.
    let slow = Limits {
        download: Some(Rate::from_bytes_per_second(200_000)),
        upload: None,
    };
    leecher.set_limits(slow).await.unwrap();
    let given = seeding(&seeder, &published).await;
    let mut add = leeching(&published, &other, &seeder);
    if let Some(wish) = wish {
        add = add.transports(wish);
    }
    let torrent = leecher.add(add).await.unwrap();
    let [ours, theirs] = [
        soon(transport(&torrent)).await,
        soon(transport(&given)).await,
    ];
    assert_eq!(ours, theirs);
    let utp = torrent.stats().await.unwrap().utp;
    assert_eq!(utp, u32::from(ours == Transport::Utp));
    leecher.set_limits(Limits::default()).await.unwrap();
    soon(torrent.wait_completed()).await.unwrap();
    published.assert_copied_to(&other.path().join("data"));
    leecher.shutdown().await;
    seeder.shutdown().await;
    ours
}

/// What carries the torrent's first connection, as soon as it is up.
async fn transport(torrent: &TorrentHandle) -> Transport {
    loop {
        let peers = torrent.peers().await.unwrap();
        let up = peers.iter().find(|peer| peer.peer_id.is_some());
        if let Some(transport) = up.and_then(|peer| peer.transport) {
            return transport;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transport_is_what_both_allow_and_the_dialler_likes() {
    use Transports::{TcpFirst, TcpOnly, UtpFirst, UtpOnly};
    let cases = [
        (TcpFirst, TcpFirst, None, Transport::Tcp),
        (TcpFirst, UtpFirst, None, Transport::Utp),
        (UtpOnly, UtpOnly, None, Transport::Utp),
        // TCP is refused, and uTP takes its turn.
        (UtpOnly, TcpFirst, None, Transport::Utp),
        (TcpOnly, TcpFirst, None, Transport::Tcp),
        // A torrent's own wish, as far as its engine goes.
        (TcpFirst, TcpFirst, Some(UtpOnly), Transport::Utp),
        (TcpFirst, TcpOnly, Some(UtpOnly), Transport::Tcp),
    ];
    for (seeder, leecher, wish, expect) in cases {
        let carried = carried(seeder, leecher, wish).await;
        assert_eq!(carried, expect, "{seeder:?} {leecher:?} {wish:?}");
    }
}

/// An engine that is reached by uTP alone, and somebody else on its port over TCP who lets go of each connection.
async fn engine_behind_who_lets_go(home: &TempDir) -> (Engine, JoinHandle<()>) {
    // Whoever asks for any port may be given this one between the two.
    for _ in 0..8 {
        let engine = engine_over(home.path(), Transports::UtpOnly).await;
        let Ok(listener) = TcpListener::bind(engine.listen_addrs()[0]).await else {
            engine.shutdown().await;
            continue;
        };
        let lets_go = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        return (engine, lets_go);
    }
    panic!("some port is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_lets_go_of_tcp_is_reached_by_utp() {
    let published = Published::new(&[300_000], MetaVersion::V1, 1);
    for encryption in [
        EncryptionPolicy::Off,
        EncryptionPolicy::Prefer,
        EncryptionPolicy::Require,
    ] {
        let (home, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (seeder, lets_go) = engine_behind_who_lets_go(&home).await;
        seeding(&seeder, &published).await;
        let leecher = start(builder(other.path()).encryption(encryption)).await;
        let torrent = leecher
            .add(leeching(&published, &other, &seeder))
            .await
            .unwrap();
        // The seeder has nothing else.
        soon(torrent.wait_completed()).await.unwrap();
        leecher.shutdown().await;
        seeder.shutdown().await;
        lets_go.abort();
    }
}

/// What a tracker is asked first.
async fn asked(listener: TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let (mut request, mut bytes) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut bytes).await.unwrap();
        assert!(count > 0, "half a request");
        request.extend_from_slice(&bytes[..count]);
    }
    String::from_utf8(request).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_address_family_is_told_the_port_at_which_it_reaches_us() {
    let home = TempDir::new().unwrap();
    let loopback = [
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
    ];
    let engine = Engine::builder(home.path()).listen(loopback);
    let engine = engine.start().await.unwrap();
    let own = engine.listen_addrs();
    assert_eq!(own.len(), 2);
    assert_ne!(own[0].port(), own[1].port());
    for (number, (addr, own)) in (1..).zip(loopback.into_iter().zip(own)) {
        let listener = TcpListener::bind(addr).await.unwrap();
        let url = format!("http://{}/announce", listener.local_addr().unwrap());
        let hashes = InfoHashes::v1_only(Sha1Digest([number; 20]));
        let add = AddTorrent::from_info_hashes(hashes).tracker_tier([url]);
        engine.add(add).await.unwrap();
        let request = soon(asked(listener)).await;
        let port = format!("&port={}&", own.port());
        assert!(request.contains(&port), "no {port} in {request}");
    }
    engine.shutdown().await;
}

#[tokio::test]
async fn who_reaches_nobody_and_is_dialled_by_nobody_is_told_so_after_a_while() {
    let dir = TempDir::new().unwrap();
    let published = Published::new(&[40_000], MetaVersion::V1, 5);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let builder = builder(dir.path()).listen([everywhere]);
    let engine = start(builder.local_discovery(false)).await;
    let (begun, mut events) = (Instant::now(), engine.events());
    let add = AddTorrent::from_metainfo(published.metainfo.clone());
    let add = add.dir(dir.path().join("data")).peers([nobody]);
    let torrent = engine.add(add).await.unwrap();
    let is_refused = |event| matches!(event, Ok(Event::PeerDisconnected { .. }));
    soon(async { while !is_refused(next(&mut events).await.unwrap()) {} }).await;
    let code = async || torrent.why().await.unwrap().map(|why| why.code());
    assert_eq!(code().await, Some("peers_unreachable"));
    // From here on it is the test that turns the engine's clock.
    tokio::time::pause();
    tokio::time::advance(Duration::from_mins(9)).await;
    assert_ne!(code().await, Some("not_connectable"));
    tokio::time::advance(Duration::from_mins(1)).await;
    let shut = loop {
        match torrent.why().await.unwrap() {
            Some(Why::Connecting { .. }) => tokio::time::sleep(Duration::from_secs(1)).await,
            why => break why,
        }
    };
    let Some(Why::NotConnectable {
        tried,
        port,
        silent,
        ..
    }) = shut
    else {
        panic!("{shut:?}");
    };
    assert_eq!((tried, port), (1, engine.listen_addrs()[0].port()));
    assert!(
        silent >= Duration::from_mins(10) && silent <= begun.elapsed() + Duration::from_secs(1)
    );
    engine.shutdown().await;
}
