//! Engines whose decisions are recorded, and made again.

#[expect(dead_code, reason = "other tests need more")]
mod support;

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use riverrun_engine::{
    AddTorrent, Engine, Event, Recording, RecordingError, StartError, TorrentState,
};
use riverrun_metainfo::MetaVersion;
use support::{Published, builder, soon, start};
use tempfile::TempDir;

/// How a chunk begins: its length and its seal.
const CHUNK_HEAD: usize = 4 + 8;
const MAGIC: usize = 16;

async fn recorded(home: &Path) -> (Engine, PathBuf) {
    let file = home.join("recording");
    (start(builder(home).record(&file)).await, file)
}

/// What a seeder and a leecher were given while a torrent went from one to the other.
async fn transfer(version: MetaVersion) -> [Vec<u8>; 2] {
    let published = Published::new(&[1_000_000, 5, 300_001], version, 1);
    let homes = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let (seeder, seen_by_seeder) = recorded(homes[0].path()).await;
    let (leecher, seen_by_leecher) = recorded(homes[1].path()).await;
    let add = || AddTorrent::from_metainfo(published.metainfo.clone());
    let given = seeder.add(add().dir(published.dir.path())).await.unwrap();
    soon(given.wait_state(|state| *state == TorrentState::Seeding))
        .await
        .unwrap();
    let taken = add()
        .dir(homes[1].path().join("data"))
        .peers(seeder.listen_addrs());
    let taken = leecher.add(taken).await.unwrap();
    soon(taken.wait_completed()).await.unwrap();
    published.assert_copied_to(&homes[1].path().join("data"));
    leecher.shutdown().await;
    seeder.shutdown().await;
    [seen_by_seeder, seen_by_leecher].map(|file| fs::read(file).unwrap())
}

/// How a replay has ended.
#[derive(Debug)]
struct Replayed {
    steps: usize,
    agrees: bool,
    verified: usize,
    stopped: Option<RecordingError>,
}

fn replay(bytes: &[u8]) -> Replayed {
    let mut recording = Recording::open(Cursor::new(bytes)).unwrap();
    let mut replayed = Replayed {
        steps: 0,
        agrees: true,
        verified: 0,
        stopped: None,
    };
    loop {
        match recording.step() {
            Ok(Some(step)) => {
                let verified = |event: &&Event| matches!(event, Event::PieceVerified { .. });
                replayed.verified += step.did.events.iter().filter(verified).count();
                replayed.steps += 1;
                replayed.agrees &= step.agrees;
            }
            Ok(None) => return replayed,
            Err(error) => {
                replayed.stopped = Some(error);
                return replayed;
            }
        }
    }
}

/// Where each chunk begins, and the bytes behind its head.
fn chunks(bytes: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let mut found = Vec::new();
    let mut at = MAGIC;
    while at + CHUNK_HEAD <= bytes.len() {
        let len = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let start = at + CHUNK_HEAD;
        found.push((at, bytes[start..start + len].to_vec()));
        at = start + len;
    }
    found
}

fn sealed(chunk: &[u8]) -> Vec<u8> {
    let len = u32::try_from(chunk.len()).unwrap().to_le_bytes();
    let seal = &riverrun_hash::sha1(chunk).0[..8];
    [&len[..], seal, chunk].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_transfer_decided_is_decided_again() {
    for version in [MetaVersion::V1, MetaVersion::V2, MetaVersion::Hybrid] {
        let [seeder, leecher] = transfer(version).await.map(|bytes| replay(&bytes));
        for replayed in [&seeder, &leecher] {
            assert!(
                replayed.agrees && replayed.stopped.is_none(),
                "{replayed:?}"
            );
            assert!(replayed.steps > 20, "{replayed:?}");
        }
        assert_eq!(seeder.verified, 0);
        assert!(leecher.verified >= 1_300_006 / 32_768, "{leecher:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_holds_no_payload_and_is_good_up_to_where_it_is_not() {
    let [_, bytes] = transfer(MetaVersion::V1).await;
    assert!(
        bytes.len() < 300_000,
        "{} bytes of 1.3 MB of payload",
        bytes.len()
    );
    let whole = replay(&bytes);
    let (chunks, last) = (chunks(&bytes), bytes.len() - 5);
    let (at, chunk) = &chunks[chunks.len() / 2];

    let cut = replay(&bytes[..at + CHUNK_HEAD + chunk.len() / 2]);
    assert!(
        cut.agrees && cut.steps > 0 && cut.steps < whole.steps,
        "{cut:?}"
    );
    let at_bytes = *at as u64;
    assert!(
        matches!(cut.stopped, Some(RecordingError::BreaksOff { at_bytes: end }) if end == at_bytes),
        "{cut:?}"
    );
    assert!(matches!(
        replay(&bytes[..last]).stopped,
        Some(RecordingError::BreaksOff { .. })
    ));

    let mut damaged = bytes.clone();
    damaged[at + CHUNK_HEAD] ^= 1;
    let damaged = replay(&damaged);
    assert!(damaged.agrees && damaged.steps == cut.steps, "{damaged:?}");
    assert!(
        matches!(damaged.stopped, Some(RecordingError::Damaged { at_bytes: end }) if end == at_bytes),
        "{damaged:?}"
    );

    // A chunk ends with the digest of what was done, or with the word that it was nothing: without that it is no chunk.
    let others = chunks.iter().map(|(at, chunk)| {
        let mut other = chunk.clone();
        *other.last_mut().unwrap() ^= 0x80;
        let rest = &bytes[at + CHUNK_HEAD + chunk.len()..];
        replay(&[&bytes[..*at], &sealed(&other), rest].concat())
    });
    let others: Vec<_> = others.collect();
    let told = |other: &Replayed| !other.agrees || other.stopped.is_some();
    assert!(others.iter().all(told), "{others:?}");
    assert!(others.iter().any(|other| !other.agrees), "{others:?}");
}

#[test]
fn what_is_no_recording_is_refused() {
    for bytes in [&b""[..], b"riverrun", b"d8:announce0:4:infod6:lengthi1eee"] {
        let error = Recording::open(Cursor::new(bytes)).err();
        assert!(
            matches!(error, Some(RecordingError::NotARecording)),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_file_that_is_there_is_not_recorded_over() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("recording");
    fs::write(&file, b"mine").unwrap();
    let error = builder(home.path()).record(&file).start().await.err();
    assert!(
        matches!(error, Some(StartError::Record { .. })),
        "{error:?}"
    );
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}
