//! Replays a fuzzer's seeds for UDP tracker clients: sequences of answers, good and bad.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use riverrun_base::{InfoHash, PeerId, Time};
use riverrun_tracker::{
    AnnounceEvent, AnnounceRequest, AnnouncedEncryption, TrackerFailure, UdpTracker,
    UdpTrackerConfig, UdpTrackerEvent,
};

/// Which action an answer has.
const ACTION: u8 = 0x03;
/// The answer comes from somebody else.
const OTHER_SENDER: u8 = 0x04;
/// Four bytes before the payload replace the transaction id.
const OTHER_TRANSACTION: u8 = 0x08;

/// Feeds a seed, each packet of which is a control byte, a length and a payload, to a client that announces;
/// gives the result, if there is one.
fn replay(mut seed: &[u8]) -> Option<Result<usize, TrackerFailure>> {
    let mut client = UdpTracker::new(UdpTrackerConfig::default(), 1);
    let tracker: SocketAddr = "127.0.0.1:6969".parse().unwrap();
    let (mut sent, mut now) = (Vec::new(), Time::ZERO);
    client
        .announce(now, tracker, request(), "/announce")
        .unwrap();
    while let Some((&[control, high, low], rest)) = seed.split_first_chunk() {
        while client.poll_transmit(&mut sent).is_some() {}
        let mut transaction = [sent[12], sent[13], sent[14], sent[15]];
        seed = rest;
        if let (true, Some((other, rest))) =
            (control & OTHER_TRANSACTION != 0, seed.split_first_chunk())
        {
            (transaction, seed) = (*other, rest);
        }
        let len = usize::from(u16::from_be_bytes([high, low])).min(seed.len());
        let (payload, rest) = seed.split_at(len);
        seed = rest;
        let other = control & OTHER_SENDER != 0;
        let from = if other {
            "192.0.2.8:6969".parse().unwrap()
        } else {
            tracker
        };
        let packet = [&[0, 0, 0, control & ACTION], &transaction[..], payload].concat();
        now = Time::from_micros(now.as_micros() + 1);
        client.handle_datagram(now, from, &packet);
    }
    client.poll_event().map(|event| match event {
        UdpTrackerEvent::Announced { result, .. } => result.map(|response| response.peers.len()),
        UdpTrackerEvent::Scraped { .. } => panic!("nobody asked for a scrape"),
    })
}

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash(*b"abababababababababab"),
        peer_id: PeerId(*b"-RR0000-123456789012"),
        port: 6881,
        uploaded: 0,
        downloaded: 0,
        left: None,
        event: AnnounceEvent::None,
        num_want: Some(50),
        key: 0,
        tracker_id: None,
        encryption: AnnouncedEncryption::None,
    }
}

/// What each seed must come to; no result where the answers are not for us.
fn expected(name: &str) -> Option<Result<usize, TrackerFailure>> {
    let refused = |reason: &str| {
        let reason = reason.to_owned();
        Some(Err(TrackerFailure::Refused {
            reason,
            retry: None,
        }))
    };
    match name {
        "error_alone" | "seq_connect_then_error" => refused("failure reason"),
        "error_empty_payload" => refused(""),
        "error_large_payload" => refused(&"A".repeat(256)),
        "seq_mixed_actions" => Some(Ok(2)),
        "seq_connect_then_announce_1_peer" => Some(Ok(1)),
        "seq_connect_then_announce_2_peers" => Some(Ok(2)),
        // Packets may be longer than they need to be (BEP 15).
        "seq_connect_then_announce_bad_stride" => Some(Ok(0)),
        _ => None,
    }
}

#[test]
fn a_fuzzers_seeds_come_to_what_they_should() {
    let corpus = "../../../shared/corpus/libtorrent-fuzz-seeds/udp_tracker";
    let Ok(seeds) = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(corpus)) else {
        skipped();
        return;
    };
    let mut count = 0;
    for seed in seeds {
        let seed = seed.unwrap();
        let name = seed.file_name().into_string().unwrap();
        assert_eq!(
            replay(&fs::read(seed.path()).unwrap()),
            expected(&name),
            "{name}"
        );
        count += 1;
    }
    assert!(count > 15, "only {count} seeds");
}

#[expect(
    clippy::print_stderr,
    reason = "whoever runs the tests must see that one did nothing"
)]
fn skipped() {
    eprintln!("skipped: the shared corpus is not there");
}
