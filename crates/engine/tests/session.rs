//! Engines that keep their torrents from run to run.

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use riverrun_base::{InfoHashes, Sha1Digest};
use riverrun_engine::{
    AddTorrent, Engine, EngineBuilder, FileIndex, Limits, Priority, Rate, Revision, StartError,
    TorrentHandle, TorrentState, TorrentStats, Why,
};
use riverrun_metainfo::MetaVersion;
use riverrun_swarm::{TrackerStats, TrackerStatus};
use support::{Published, soon};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

fn keeping(state: &Path) -> EngineBuilder {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Engine::builder(state).listen([loopback]).keep_torrents()
}

async fn torrents(engine: &Engine) -> Vec<(TorrentHandle, TorrentStats)> {
    let mut torrents = engine.changes(Revision::START).await.unwrap().torrents;
    torrents.sort_by_key(|(torrent, _)| torrent.key());
    torrents
}

fn magnet(n: u8) -> AddTorrent {
    AddTorrent::from_info_hashes(InfoHashes::v1_only(Sha1Digest([n; 20])))
}

async fn wait_seeding(torrent: &TorrentHandle) {
    let is_seeding = |state: &TorrentState| *state == TorrentState::Seeding;
    soon(torrent.wait_state(is_seeding)).await.unwrap();
}

fn session_file(state: &Path) -> std::path::PathBuf {
    state.join("session.sqlite")
}

#[tokio::test(flavor = "multi_thread")]
async fn torrents_come_back_as_they_were() {
    let state = TempDir::new().unwrap();
    let published = [MetaVersion::V1, MetaVersion::V2, MetaVersion::Hybrid]
        .map(|version| Published::new(&[40_000, 90_000], version, 4));
    let engine = keeping(state.path()).start().await.unwrap();
    for one in &published {
        let add = AddTorrent::from_metainfo(one.metainfo.clone()).dir(one.dir.path());
        wait_seeding(&engine.add(add).await.unwrap()).await;
    }
    let other = TempDir::new().unwrap();
    let limits = Limits {
        upload: Some(Rate::from_bytes_per_second(5000)),
        download: None,
    };
    let add = magnet(9)
        .dir(other.path())
        .tracker_tier(["http://127.0.0.1:1/announce".to_owned()])
        .sequential();
    let stopped = engine.add(add).await.unwrap();
    stopped.set_limits(limits).await.unwrap();
    stopped
        .set_priorities(vec![Priority::Skip, Priority::High])
        .await
        .unwrap();
    stopped
        .add_trackers(vec!["udp://127.0.0.1:1/announce".to_owned()])
        .await
        .unwrap();
    stopped.stop().await.unwrap();
    let before = torrents(&engine).await;
    engine.shutdown().await;

    let engine = keeping(state.path()).start().await.unwrap();
    assert_eq!(engine.unreadable(), []);
    let after = torrents(&engine).await;
    assert_eq!(after.len(), before.len());
    for ((torrent, stats), (was, were)) in after.iter().zip(&before) {
        assert_eq!(torrent.info_hashes(), was.info_hashes());
        assert_eq!((torrent.root(), torrent.name()), (was.root(), was.name()));
        assert_eq!(stats.options, were.options);
        assert_eq!(torrent.added_at(), was.added_at());
        let urls = |stats: &TorrentStats| -> Vec<String> {
            let urls = stats.trackers.iter().map(|tracker| tracker.url.to_string());
            urls.collect()
        };
        assert_eq!(urls(stats), urls(were));
    }
    for (torrent, _) in &after[..3] {
        wait_seeding(torrent).await;
        assert!(torrent.completed_at().is_some());
    }
    assert_eq!(after[3].1.state, TorrentState::Stopped);
    assert_eq!(after[3].1.options.limits, limits);
    assert_eq!(after[3].1.trackers.len(), 2);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_does_not_come_back() {
    let state = TempDir::new().unwrap();
    let engine = keeping(state.path()).start().await.unwrap();
    let mut added = Vec::new();
    for n in 1..=3 {
        added.push(engine.add(magnet(n).paused()).await.unwrap());
    }
    let kept = added[1].info_hashes();
    added.remove(2).remove().await.unwrap();
    added.remove(0).remove().await.unwrap();
    engine.shutdown().await;
    let engine = keeping(state.path()).start().await.unwrap();
    let left = torrents(&engine).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].0.info_hashes(), kept);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_to_both_names_of_a_hybrid_become_one_torrent_and_stay_one() {
    let state = TempDir::new().unwrap();
    let published = Published::new(&[90_000], MetaVersion::Hybrid, 4);
    let hashes = published.metainfo.info.hashes();
    let names = [
        InfoHashes::v1_only(hashes.v1().unwrap()),
        InfoHashes::v2_only(hashes.v2().unwrap()),
    ];
    let engine = keeping(state.path()).start().await.unwrap();
    let mut links = Vec::new();
    for (number, name) in names.into_iter().enumerate() {
        let tracker = format!("http://127.0.0.1:{}/announce", number + 1);
        let add = AddTorrent::from_info_hashes(name)
            .dir(published.dir.path())
            .tracker_tier([tracker]);
        links.push(engine.add(add).await.unwrap());
    }
    assert_eq!(torrents(&engine).await.len(), 2);
    let add = AddTorrent::from_metainfo(published.metainfo.clone());
    let one = engine.add(add).await.unwrap();
    wait_seeding(&one).await;
    for link in links {
        let is_the_one = link.key() == one.key();
        assert_eq!(
            link.stats().await.is_ok(),
            is_the_one,
            "the other is removed"
        );
    }
    engine.shutdown().await;
    for _ in 0..2 {
        let engine = keeping(state.path()).start().await.unwrap();
        let all = torrents(&engine).await;
        let [(torrent, stats)] = &all[..] else {
            panic!("{} torrents", all.len())
        };
        assert_eq!(torrent.info_hashes(), hashes);
        // Each of two for each name.
        assert_eq!(stats.trackers.len(), 4);
        engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_torrent_whose_adding_was_acknowledged_survives_a_kill() {
    let state = TempDir::new().unwrap();
    let engine = keeping(state.path()).start().await.unwrap();
    for n in 0..50 {
        engine.add(magnet(n).paused()).await.unwrap();
    }
    // What a killed process leaves: the files as they are now, without a goodbye.
    let left = TempDir::new().unwrap();
    for file in ["session.sqlite", "session.sqlite-wal"] {
        std::fs::copy(state.path().join(file), left.path().join(file)).unwrap();
    }
    let next = keeping(left.path()).start().await.unwrap();
    assert_eq!(torrents(&next).await.len(), 50);
    next.shutdown().await;
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torrent_whose_record_is_damaged_is_named_and_the_others_come_back() {
    let state = TempDir::new().unwrap();
    let engine = keeping(state.path()).start().await.unwrap();
    for n in 1..=4 {
        engine.add(magnet(n).paused()).await.unwrap();
    }
    engine.shutdown().await;
    let db = rusqlite::Connection::open(session_file(state.path())).unwrap();
    db.execute(
        "UPDATE torrent SET standing = zeroblob(80) WHERE id = 2",
        [],
    )
    .unwrap();
    drop(db);
    for _ in 0..2 {
        let engine = keeping(state.path()).start().await.unwrap();
        assert_eq!(torrents(&engine).await.len(), 3);
        let [lost] = engine.unreadable() else {
            panic!("one is lost: {:?}", engine.unreadable());
        };
        assert_eq!(lost.name, "02".repeat(20));
        engine.shutdown().await;
    }
    // Added again it is kept anew.
    let engine = keeping(state.path()).start().await.unwrap();
    engine.add(magnet(2).paused()).await.unwrap();
    engine.shutdown().await;
    let engine = keeping(state.path()).start().await.unwrap();
    assert_eq!(
        (torrents(&engine).await.len(), engine.unreadable().len()),
        (4, 0)
    );
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_at_all_is_no_empty_list() {
    let state = TempDir::new().unwrap();
    let path = session_file(state.path());
    for wrong in [
        b"no database, and long enough to be none for certain".repeat(99),
        {
            let newer = TempDir::new().unwrap();
            let path = session_file(newer.path());
            let db = rusqlite::Connection::open(&path).unwrap();
            db.pragma_update(None, "user_version", 99).unwrap();
            drop(db);
            std::fs::read(path).unwrap()
        },
    ] {
        std::fs::write(&path, &wrong).unwrap();
        let started = keeping(state.path()).start().await;
        assert!(matches!(started, Err(StartError::Session { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), wrong, "it is left as it is");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_has_one_engine_that_keeps_torrents_and_any_number_that_do_not() {
    let state = TempDir::new().unwrap();
    let first = keeping(state.path()).start().await.unwrap();
    first.add(magnet(1).paused()).await.unwrap();
    let second = keeping(state.path()).start().await;
    assert!(matches!(second, Err(StartError::Session { .. })));
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let guest = Engine::builder(state.path()).listen([loopback]).start();
    let guest = guest.await.unwrap();
    assert!(torrents(&guest).await.is_empty());
    guest.add(magnet(2).paused()).await.unwrap();
    guest.shutdown().await;
    first.shutdown().await;
    let third = keeping(state.path()).start().await.unwrap();
    assert_eq!(torrents(&third).await.len(), 1);
    third.shutdown().await;
}

/// The engine's next run, in which a torrent that was complete is seeded and not in memory.
async fn restarted(state: &Path, published: &Published) -> (Engine, TorrentHandle) {
    let engine = keeping(state).start().await.unwrap();
    let add = AddTorrent::from_metainfo(published.metainfo.clone()).dir(published.dir.path());
    wait_seeding(&engine.add(add).await.unwrap()).await;
    engine.shutdown().await;
    let engine = keeping(state).start().await.unwrap();
    let mut all = torrents(&engine).await;
    let (torrent, stats) = all.remove(0);
    let layout = published.metainfo.info.layout();
    assert_eq!(stats.state, TorrentState::Seeding);
    assert_eq!((stats.verified, stats.left_bytes), (stats.pieces, 0));
    assert_eq!(stats.total_bytes, layout.payload_len());
    assert_eq!(torrent.name(), "payload");
    assert!(torrent.is_completed() && torrent.pieces().all());
    assert!(torrent.info().is_none(), "it is not in memory");
    (engine, torrent)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_complete_serves_the_first_peer_that_dials() {
    for version in [MetaVersion::V1, MetaVersion::V2, MetaVersion::Hybrid] {
        let state = TempDir::new().unwrap();
        let published = Published::new(&[40_000, 90_000], version, 4);
        let (seeder, torrent) = restarted(state.path(), &published).await;
        let home = TempDir::new().unwrap();
        let leecher = support::engine(home.path()).await;
        let add = AddTorrent::from_metainfo(published.metainfo.clone())
            .dir(home.path().join("data"))
            .peers(seeder.listen_addrs());
        let download = leecher.add(add).await.unwrap();
        soon(download.wait_completed()).await.unwrap();
        published.assert_copied_to(&home.path().join("data"));
        assert!(torrent.info().is_some(), "it was read for the peer");
        leecher.shutdown().await;
        seeder.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_wakes_what_was_complete() {
    let state = TempDir::new().unwrap();
    let published = Published::new(&[10, 300_003], MetaVersion::V1, 5);
    let (engine, torrent) = restarted(state.path(), &published).await;
    let info = torrent.wait_info().await.unwrap();
    assert_eq!(info.hashes(), torrent.info_hashes());
    assert!(torrent.info().is_none(), "to know it wakes nothing");
    let mut reader = torrent.reader(FileIndex(1)).await.unwrap();
    let mut bytes = Vec::new();
    soon(reader.read_to_end(&mut bytes)).await.unwrap();
    let expected = std::fs::read(published.dir.path().join("payload/01")).unwrap();
    assert!(bytes == expected);
    assert!(torrent.info().is_some());
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_is_damaged_is_told_when_it_is_needed() {
    let state = TempDir::new().unwrap();
    let published = Published::new(&[40_000], MetaVersion::V1, 6);
    let (engine, torrent) = restarted(state.path(), &published).await;
    let db = rusqlite::Connection::open(session_file(state.path())).unwrap();
    db.execute("UPDATE metainfo SET bytes = zeroblob(80)", [])
        .unwrap();
    drop(db);
    assert!(torrent.reader(FileIndex(0)).await.is_err());
    torrent.recheck().await.unwrap();
    let is_invalid = |state: &TorrentState| matches!(state, TorrentState::Invalid(_));
    soon(torrent.wait_state(is_invalid)).await.unwrap();
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn torrents_that_are_added_together_are_all_kept_in_their_order() {
    let state = TempDir::new().unwrap();
    let engine = keeping(state.path()).start().await.unwrap();
    let added = engine.add_all((0..200).map(|n| magnet(n).paused())).await;
    let added: Vec<_> = added.into_iter().map(|one| one.unwrap().key()).collect();
    assert!(added.is_sorted());
    let again = engine.add_all([magnet(7), magnet(201), magnet(201)]).await;
    let again: Vec<_> = again.into_iter().map(|one| one.unwrap().key()).collect();
    assert_eq!((again[0], again[1]), (added[7], again[2]));
    engine.shutdown().await;
    let engine = keeping(state.path()).start().await.unwrap();
    assert_eq!(torrents(&engine).await.len(), 201);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_more_are_being_added_torrents_say_when_it_is_their_turn() {
    let state = TempDir::new().unwrap();
    let published = [1, 2, 3].map(|seed| Published::new(&[40_000], MetaVersion::V1, seed));
    let engine = keeping(state.path()).start().await.unwrap();
    let adds = published
        .each_ref()
        .map(|one| AddTorrent::from_metainfo(one.metainfo.clone()).dir(one.dir.path()));
    // More may come until the sender is dropped.
    let (more, coming) = std::sync::mpsc::channel();
    for add in adds {
        more.send(add).unwrap();
    }
    let (runtime, adder) = (Handle::current(), engine.clone());
    let adding = spawn_blocking(move || runtime.block_on(adder.add_all(coming)));
    let waiting = soon(async {
        loop {
            let waiting = torrents(&engine).await;
            if waiting.len() == 3 {
                return waiting;
            }
            tokio::task::yield_now().await;
        }
    });
    let mut told = Vec::new();
    for (torrent, _) in waiting.await {
        told.push(torrent.why().await.unwrap());
    }
    let queued = |position| Some(Why::Queued { position, of: 3 });
    assert_eq!(told, [1, 2, 3].map(queued));
    drop(more);
    for torrent in adding.await.unwrap() {
        let torrent = torrent.unwrap();
        wait_seeding(&torrent).await;
        assert_eq!(torrent.why().await.unwrap(), None);
    }
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_a_torrent_that_is_there_is_kept_too() {
    let state = TempDir::new().unwrap();
    let published = Published::new(&[40_000], MetaVersion::V2, 7);
    let urls = ["http://127.0.0.1:1/announce", "udp://127.0.0.1:1"].map(str::to_owned);
    let engine = keeping(state.path()).start().await.unwrap();
    let link = AddTorrent::from_info_hashes(published.metainfo.info.hashes()).paused();
    let first = link.tracker_tier([urls[0].clone()]);
    let first = engine.add(first).await.unwrap();
    assert!(first.info().is_none());
    let second = AddTorrent::from_metainfo(published.metainfo.clone());
    let second = second.tracker_tier([urls[1].clone()]);
    let second = engine.add(second).await.unwrap();
    assert_eq!(first.key(), second.key());
    assert!(first.info().is_some());
    engine.shutdown().await;
    let engine = keeping(state.path()).start().await.unwrap();
    let (torrent, stats) = torrents(&engine).await.remove(0);
    let trackers = stats.trackers.iter().map(|tracker| tracker.url.as_str());
    assert_eq!(trackers.collect::<Vec<_>>(), urls);
    assert_eq!(stats.state, TorrentState::Stopped, "as it was added first");
    let info = soon(torrent.wait_info()).await.unwrap();
    assert_eq!(info.hashes(), published.metainfo.info.hashes());
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_torrents_that_are_added_twice_at_once_those_that_are_there_are_kept() {
    let state = TempDir::new().unwrap();
    let engine = keeping(state.path()).start().await.unwrap();
    let url = "http://127.0.0.1:1/announce".to_owned();
    let mut roots = Vec::new();
    for n in 0..40 {
        let [one, other] = ["one", "other"].map(|name| magnet(n).paused().dir(format!("/{name}")));
        let other = other.tracker_tier([url.clone()]);
        let (one, other) = tokio::join!(engine.add(one), engine.add(other));
        assert_eq!(one.as_ref().unwrap().key(), other.unwrap().key());
        roots.push(one.unwrap().root().to_owned());
    }
    engine.shutdown().await;
    let engine = keeping(state.path()).start().await.unwrap();
    let kept = torrents(&engine).await;
    let kept_roots: Vec<_> = kept.iter().map(|(one, _)| one.root().to_owned()).collect();
    assert_eq!(kept_roots, roots);
    assert!(kept.iter().all(|(_, stats)| stats.trackers.len() == 1));
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_keeps_nothing_makes_no_session() {
    let state = TempDir::new().unwrap();
    let guest = support::engine(state.path()).await;
    guest.add(magnet(1).paused()).await.unwrap();
    guest.shutdown().await;
    assert!(!session_file(state.path()).exists());
}

/// A tracker that names no peers. Tells of each announce whether it is a goodbye.
async fn tracker() -> (String, mpsc::UnboundedReceiver<bool>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((peer, _)) = listener.accept().await {
            tokio::spawn(answer(peer, tell.clone()));
        }
    });
    (url, told)
}

async fn answer(mut peer: TcpStream, tell: mpsc::UnboundedSender<bool>) {
    let (mut request, mut bytes) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"\r\n\r\n") {
        match peer.read(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(count) => request.extend_from_slice(&bytes[..count]),
        }
    }
    let is_goodbye = String::from_utf8_lossy(&request).contains("event=stopped");
    let _ = tell.send(is_goodbye);
    let body = "d8:intervali1800e5:peers0:e";
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}", body.len());
    let all = format!("{head}\r\nConnection: close\r\n\r\n{body}");
    let _ = peer.write_all(all.as_bytes()).await;
}

/// Waits until all trackers have answered.
async fn wait_announced(engine: &Engine) {
    let is_working =
        |tracker: &TrackerStats| matches!(tracker.status, TrackerStatus::Working { .. });
    loop {
        let all = torrents(engine).await;
        let mut trackers = all.iter().flat_map(|(_, stats)| &stats.trackers);
        if trackers.all(is_working) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trackers_are_told_that_torrents_stop_that_nobody_uses() {
    let state = TempDir::new().unwrap();
    let (url, mut told) = tracker().await;
    let published = [11, 12, 13].map(|seed| Published::new(&[40_000], MetaVersion::V1, seed));
    let engine = keeping(state.path()).start().await.unwrap();
    for one in &published {
        let add = AddTorrent::from_metainfo(one.metainfo.clone()).dir(one.dir.path());
        let torrent = engine.add(add.tracker_tier([url.clone()])).await.unwrap();
        wait_seeding(&torrent).await;
    }
    engine.shutdown().await;
    while told.try_recv().is_ok() {}
    let engine = keeping(state.path()).start().await.unwrap();
    for _ in &published {
        assert_eq!(soon(told.recv()).await, Some(false));
    }
    soon(wait_announced(&engine)).await;
    engine.shutdown().await;
    for _ in &published {
        assert_eq!(told.try_recv(), Ok(true), "told before it was over");
    }
}
