use std::net::SocketAddr;
use std::sync::Arc;

use proptest::prelude::*;
use riverrun_base::{InfoHashes, PeerId, Sha1Digest, Sha256Digest};
use riverrun_hash::sha256;
use riverrun_metainfo::{Info, PieceHashes, PieceLayers};

use super::*;
use crate::input::{AddTorrent, PeerSource, TorrentCommand, TorrentOptions, WebSeed};
use crate::key::TorrentKey;
use crate::outbox::StorageDone;

/// Something that was given, from bytes that nobody chose.
fn read(bytes: &[u8]) -> Option<(Given, &[u8])> {
    postcard::take_from_bytes(bytes).ok()
}

fn write(given: &Given) -> Vec<u8> {
    extended(Vec::new(), given)
}

/// What may stand behind the number of a variant: legal wherever a number, a flag, a length or a variant is due. The
/// last is for what begins with info-hashes.
fn fillers() -> [Vec<u8>; 3] {
    [
        vec![1; 400],
        vec![0; 400],
        [vec![1; 55], vec![0; 400]].concat(),
    ]
}

/// Each variant of the enum that stands behind these bytes, with what it may hold.
fn variants(before: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let of = |variant: u8| -> Vec<Vec<u8>> {
        let filled = fillers().map(|rest| [before, &[variant], &rest].concat());
        filled
            .into_iter()
            .filter(|bytes| read(bytes).is_some())
            .collect()
    };
    (0..u8::MAX)
        .map(of)
        .take_while(|all| !all.is_empty())
        .collect()
}

/// Inputs, commands, what connections report, what storage reports: by the places of `Torrent`, `Peer` and `Storage` in
/// [`Input`].
fn enums() -> [Vec<Vec<Vec<u8>>>; 4] {
    [&[0][..], &[0, 1, 0, 0], &[0, 4, 0, 0], &[0, 6, 0, 0]].map(variants)
}

#[test]
fn everything_that_can_be_given_is_read_as_it_was_written() {
    let all = enums();
    assert_eq!(all.each_ref().map(Vec::len), [19, 13, 31, 13]);
    let is_masked = |given: &Given| {
        let command = |input: &Input| {
            matches!(
                input,
                Input::Torrent {
                    command: TorrentCommand::AddTrackers(_),
                    ..
                }
            )
        };
        matches!(given, Given::Input(input) if command(input))
    };
    for bytes in all.iter().flatten().flatten() {
        let (given, rest) = read(bytes).unwrap();
        if !is_masked(&given) {
            let written = write(&given);
            assert_eq!(written, bytes[..bytes.len() - rest.len()], "{given:?}");
        }
    }
}

/// What fails here is read in another way than yesterday's recordings were written: raise [`FORMAT`], then take the new
/// number over.
#[test]
fn the_layout_changes_with_its_number_only() {
    let mut all = Vec::new();
    for bytes in enums().iter().flatten().flatten() {
        let (given, rest) = read(bytes).unwrap();
        all.extend(format!("{given:?} {}\n", rest.len()).into_bytes());
    }
    let config = Config::new(PeerId([7; 20]), 1);
    all.extend(extended(Vec::new(), &config));
    all.extend(format!("{config:?}").into_bytes());
    let layout = "778fc934790e962e8bbe6559010c93baaaae3bb03f4c209357e0e78bb3346818";
    assert_eq!((FORMAT, sha256(&all).to_string().as_str()), (8, layout));
}

proptest! {
    #[test]
    fn whatever_is_read_is_written_and_read_alike(bytes in prop::collection::vec(0_u8..40, 1..200)) {
        let bytes = [&[0], &bytes[..]].concat();
        if let Some((given, _)) = read(&bytes) {
            let written = write(&given);
            let (again, rest) = read(&written).expect("it was written");
            prop_assert!(rest.is_empty());
            prop_assert_eq!(format!("{given:?}"), format!("{again:?}"));
        }
    }

    #[test]
    fn bytes_of_strangers_are_refused_or_read(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Replay::begin(&mut &bytes[..]);
        let mut replay = Replay::begin(&mut &head()[..]).unwrap();
        bytes.insert(0, 0);
        let mut rest = &bytes[..];
        while let Ok(Some(_)) = replay.step(&mut rest) {}
    }
}

fn config() -> Config {
    Config::new(PeerId(*b"-RR0000-abcdefghijkl"), 7)
}

fn head() -> Vec<u8> {
    Recorder::new("a program", &config(), 1).take()
}

fn magnet(trackers: &[&str]) -> AddTorrent {
    AddTorrent {
        request: 1,
        hashes: InfoHashes::v1_only(Sha1Digest([1; 20])),
        metadata: None,
        summary: None,
        trackers: vec![trackers.iter().map(|url| (*url).to_owned()).collect()],
        peers: vec![SocketAddr::from(([203, 0, 113, 1], 6881))],
        web_seeds: vec![WebSeed {
            url: "http://files.example/secret/".parse().unwrap(),
            is_from_user: true,
        }],
        options: TorrentOptions::default(),
        uploaded_bytes: 0,
        downloaded_bytes: 0,
    }
}

/// What a shard is given in twenty seconds, recorded; `found` is the port of a peer that is found on the way.
fn recorded(found: u16) -> Vec<u8> {
    let torrent = TorrentKey::new(0, 0);
    let mut shard = Shard::new(Arc::new(config()), 1);
    let mut recorder = Recorder::new("a program", &config(), 1);
    let mut out = Outbox::default();
    let add = magnet(&[
        "http://tracker.example/announce",
        "http://t.example/secret/announce",
    ]);
    let peers = vec![SocketAddr::from(([203, 0, 113, 2], found))];
    let inputs = [
        Input::Add(Box::new(add)),
        Input::Torrent {
            torrent,
            command: TorrentCommand::Sequential(true),
        },
        Input::Found {
            torrent,
            source: PeerSource::Dht,
            peers,
        },
    ];
    for (second, input) in (1..).zip(inputs) {
        recorder.handle(Time::from_secs(second), &mut shard, input, &mut out);
    }
    for second in 4..20 {
        recorder.handle_timeout(Time::from_secs(second), &mut shard, &mut out);
    }
    recorder.take()
}

/// How many steps agree until one does not.
fn agreeing(record: &[u8]) -> (usize, bool) {
    let mut rest = record;
    let mut replay = Replay::begin(&mut rest).unwrap();
    assert_eq!(replay.program(), "a program");
    let mut steps = 0;
    while let Some(step) = replay.step(&mut rest).unwrap() {
        if !step.agrees {
            return (steps, false);
        }
        steps += 1;
    }
    (steps, true)
}

#[test]
fn what_is_given_again_is_done_again() {
    let record = recorded(6881);
    let (steps, agrees) = agreeing(&record);
    assert!(agrees && steps >= 4, "{steps} steps");
}

#[test]
fn the_first_step_that_is_another_is_told() {
    let (one, other) = (recorded(6881), recorded(6882));
    let parts: Vec<usize> = (0..one.len()).filter(|at| one[*at] != other[*at]).collect();
    // The port of the peer, before the digest of what follows from it.
    let mut changed = one.clone();
    changed[parts[0]] = other[parts[0]];
    assert_eq!(agreeing(&changed), (2, false));
}

#[test]
fn keys_in_urls_of_trackers_are_not_recorded() {
    let record = recorded(6881);
    let has = |text: &str| {
        record
            .windows(text.len())
            .any(|bytes| bytes == text.as_bytes())
    };
    assert!(has("http://tracker.example/announce") && has("http://t.example/masked-"));
    assert!(!has("secret"));
}

#[test]
fn a_block_leaves_the_digest_that_was_asked_for_and_no_bytes() {
    let block = riverrun_base::Block::unbudgeted(b"payload");
    let digest = BlockDigest::V1(riverrun_hash::sha1(b"payload"));
    assert_eq!(
        block.digest(|bytes| BlockDigest::V1(riverrun_hash::sha1(bytes))),
        digest
    );
    assert!(extended(Vec::new(), &block).is_empty());
    let hollow: riverrun_base::Block = postcard::from_bytes(&[]).unwrap();
    assert_eq!(hollow.digest(|_| digest), digest);
}

#[test]
fn metadata_comes_back_with_the_layers_that_were_known() {
    let leaves = [Sha256Digest([1; 32]), Sha256Digest([2; 32])];
    let root = riverrun_metainfo::merkle::root_of(&leaves, 2);
    let head = "d9:file treed4:testd0:d6:lengthi32768e11:pieces root32:";
    let tail = "eee12:meta versioni2e4:name4:test12:piece lengthi16384ee";
    let raw = [head.as_bytes(), root.as_bytes(), tail.as_bytes()].concat();
    let info = Info::from_bytes(&raw).unwrap();
    let bare = PieceHashes::new(&info, &PieceLayers::new());
    let mut whole = bare.clone();
    whole.add_layer(root, leaves.to_vec()).unwrap();
    let info = Arc::new(info);
    for hashes in [bare, whole] {
        let mut add = magnet(&[]);
        add.metadata = Some((info.clone(), hashes.clone()));
        let bytes = write(&Given::Input(Input::Add(Box::new(add))));
        let (Given::Input(Input::Add(again)), _) = read(&bytes).unwrap() else {
            panic!("another input");
        };
        let (read_info, read_hashes) = again.metadata.unwrap();
        assert_eq!(read_info.raw(), info.raw());
        assert_eq!(read_hashes.is_complete(), hashes.is_complete());
        assert_eq!(read_hashes.layers(), hashes.layers());
    }
}

#[test]
fn another_layout_is_refused_by_its_number() {
    let mut other = head();
    other[0] = 99;
    assert_eq!(
        Replay::begin(&mut &other[..]).err(),
        Some(InvalidHead::Format { found: 99 })
    );
}

#[test]
fn as_text_what_happens_reads_without_its_bytes() {
    let done = StorageDone::Durable(vec![riverrun_base::PieceIndex(3)]);
    let torrent = TorrentKey::new(0, 0);
    let given = Given::Input(Input::Storage { torrent, done });
    let text = serde_json::to_string(&given).unwrap();
    assert_eq!(
        text,
        r#"{"Input":{"Storage":{"torrent":{"index":0,"generation":0},"done":{"Durable":[3]}}}}"#
    );
}
