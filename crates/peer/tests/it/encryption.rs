//! Connections that are to look like noise.

use std::time::Duration;

use proptest::prelude::*;
use riverrun_base::Block;
use riverrun_peer::{
    Encryption, EncryptionPolicy, PeerCommand, PeerConfig, PeerEvent, PeerMisbehaved, veiled,
};

use crate::pair::{Pair, Scarce, config};
use crate::raw::{ALL, Victim, greeting};
use crate::torrent::{Kind, attach, content, span, torrent, v1_hash, v2_hash};

use EncryptionPolicy::{Off, Prefer, Require};

fn with(id: u8, policy: EncryptionPolicy) -> PeerConfig {
    let mut config = config(id);
    config.encryption = policy;
    config.entropy = [id; 32];
    config
}

fn encryption(events: &[PeerEvent]) -> Option<Encryption> {
    events.iter().find_map(|event| match event {
        PeerEvent::Ready(hello) => Some(hello.encryption),
        _ => None,
    })
}

#[test]
fn each_pair_of_policies_leads_to_what_both_can_have() {
    let info = torrent(Kind::V1, 10);
    for (dials, encrypted, listens, expected) in [
        (Off, false, Off, Some(Encryption::None)),
        (Off, false, Prefer, Some(Encryption::None)),
        (Off, false, Require, None),
        (Prefer, true, Off, None),
        (Prefer, false, Off, Some(Encryption::None)),
        (Prefer, true, Prefer, Some(Encryption::Handshake)),
        (Prefer, true, Require, Some(Encryption::Stream)),
        (Require, true, Prefer, Some(Encryption::Stream)),
        (Require, true, Require, Some(Encryption::Stream)),
        (Require, true, Off, None),
    ] {
        for seed in 0..10 {
            let dialer = (with(1, dials), attach(&info, &[1, 2]));
            let listener = (with(2, listens), attach(&info, &[3, 4]));
            let mut pair = Pair::dialled(v1_hash(&info), dialer, listener, seed, encrypted);
            pair.drive();
            let found = [&pair.dialer, &pair.listener].map(|side| encryption(&side.events));
            assert_eq!(found, [expected, expected], "{dials} {listens} {seed}");
            if expected.is_none() {
                assert!(pair.listener.error.is_some(), "{:?}", pair.dialer.error);
                continue;
            }
            exchange_blocks(&mut pair);
        }
    }
}

/// Both ends give each other a block.
fn exchange_blocks(pair: &mut Pair) {
    (pair.dialer.serves, pair.listener.serves) = (true, true);
    pair.dialer_does(PeerCommand::Unchoke);
    pair.listener_does(PeerCommand::Unchoke);
    pair.dialer_does(PeerCommand::Request(vec![span(3), span(4)]));
    pair.listener_does(PeerCommand::Request(vec![span(1), span(2)]));
    for (side, expected) in [(&pair.dialer, [3, 4]), (&pair.listener, [1, 2])] {
        let mut came = Vec::new();
        for event in &side.events {
            if let PeerEvent::Received { span, block } = event {
                assert_eq!(block[..], content(*span)[..]);
                came.push(span.piece.0);
            }
        }
        assert_eq!(came, expected);
        assert_eq!(side.error, None);
    }
}

#[test]
fn a_hybrid_is_found_by_either_of_its_names() {
    let info = torrent(Kind::Hybrid, 10);
    for hash in [v1_hash(&info), v2_hash(&info)] {
        let dialer = (with(1, Require), attach(&info, &[1, 2]));
        let listener = (with(2, Prefer), attach(&info, &[3, 4]));
        let mut pair = Pair::dialled(hash, dialer, listener, 1, true);
        pair.drive();
        assert_eq!(encryption(&pair.dialer.events), Some(Encryption::Stream));
        exchange_blocks(&mut pair);
    }
}

#[test]
fn nothing_on_the_line_repeats_itself() {
    let info = torrent(Kind::V1, 10);
    let line = |seed| {
        let mut victim =
            Victim::dialling(with(1, Prefer), v1_hash(&info), attach(&info, &[]), seed);
        victim.sent_bytes()
    };
    let (one, other) = (line(1), line(2));
    assert_eq!(one, line(1), "a seed is a sequence");
    assert!((96..=96 + 512).contains(&one.len()));
    assert_ne!(one[..96], other[..96]);
    assert!(!one.windows(8).any(|part| part == b"BitTorre"));
}

#[test]
fn a_listener_waits_for_leave_before_it_reckons() {
    let info = torrent(Kind::V1, 10);
    let mut dialer = Victim::dialling(with(1, Prefer), v1_hash(&info), attach(&info, &[]), 1);
    let knock = dialer.sent_bytes();
    let mut victim = Victim::listening(with(2, Prefer));
    let mut bytes = knock.clone();
    let consumed = victim
        .conn
        .handle_bytes(victim.now, &mut bytes, &*victim.blocks)
        .unwrap();
    assert_eq!((consumed, &bytes), (96, &knock));
    assert_eq!(victim.news(), ["KeyExchange"]);
    assert!(!victim.conn.wants_read());
    assert!(victim.sent_bytes().is_empty());
    victim.does(PeerCommand::ExchangeKeys);
    assert!(victim.conn.wants_read());
    assert!(victim.sent_bytes().len() >= 96);
    assert_eq!(
        victim.pass(Duration::from_secs(10)),
        Err(PeerMisbehaved::HandshakeTimeout),
        "the whole of the handshake has one deadline"
    );
}

#[test]
fn one_that_does_not_know_the_torrent_learns_nothing_of_it() {
    let info = torrent(Kind::V1, 10);
    let (dials, listens) = (attach(&info, &[1]), attach(&info, &[1]));
    let dialer = (with(1, Prefer), dials);
    let mut pair = Pair::dialled(v1_hash(&info), dialer, (with(2, Prefer), listens), 1, true);
    pair.listener.is_deaf = true;
    pair.drive();
    let named = pair.listener.events.iter().find_map(|event| match event {
        PeerEvent::Veiled(name) => Some(*name),
        _ => None,
    });
    assert_eq!(named, Some(veiled(v1_hash(&info))));
    assert!(!pair.listener.conn.wants_read());
}

#[test]
fn a_stream_in_the_clear_may_be_cut_anywhere() {
    let info = torrent(Kind::V1, 10);
    let wire = greeting(ALL, v1_hash(&info));
    for cut in 0..wire.len() {
        let mut victim = Victim::listening(with(2, Prefer));
        victim.says(&wire[..cut]).unwrap();
        victim.says(&wire[cut..]).unwrap();
        assert!(victim.news()[0].starts_with("Handshake"), "{cut}");
    }
    let mut victim = Victim::listening(with(2, Require));
    victim.says(&wire[..19]).unwrap();
    let refused = victim.says(&wire[19..]);
    assert_eq!(refused, Err(PeerMisbehaved::NotEncrypted));
    let mut victim = Victim::listening(with(2, Off));
    let refused = victim.says(b"noise");
    assert_eq!(refused, Err(PeerMisbehaved::NotBitTorrent));
}

/// Blocks wait for memory with bytes behind them that were decrypted already.
#[test]
fn what_is_left_over_is_not_decrypted_twice() {
    let info = torrent(Kind::V1, 10);
    for seed in 0..30 {
        let dialer = (with(1, Require), attach(&info, &[]));
        let listener = (with(2, Require), attach(&info, &[1, 2, 3, 4]));
        let mut pair = Pair::dialled(v1_hash(&info), dialer, listener, seed, true);
        pair.drive();
        pair.dialer.memory = Box::<Scarce>::default();
        pair.listener.serves = true;
        pair.listener_does(PeerCommand::Unchoke);
        pair.dialer_does(PeerCommand::Request((1..5).map(span).collect()));
        let blocks: Vec<&Block> = pair
            .dialer
            .events
            .iter()
            .filter_map(|event| match event {
                PeerEvent::Received { block, .. } => Some(block),
                _ => None,
            })
            .collect();
        assert_eq!(blocks.len(), 4);
        for (piece, block) in (1..5).zip(blocks) {
            assert_eq!(block[..], content(span(piece))[..]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn noise_neither_panics_nor_is_kept(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..12),
        dialled in any::<bool>(),
        policy in prop::sample::select(vec![Off, Prefer, Require]),
    ) {
        let info = torrent(Kind::V1, 10);
        let mut victim = if dialled {
            Victim::listening(with(2, policy))
        } else {
            Victim::dialling(with(2, policy), v1_hash(&info), attach(&info, &[]), 5)
        };
        for part in parts {
            if victim.says(&part).is_err() {
                break;
            }
            for event in victim.events() {
                match event {
                    PeerEvent::KeyExchange => victim.does(PeerCommand::ExchangeKeys),
                    PeerEvent::Veiled(_) => victim.does(PeerCommand::Unveil(v1_hash(&info))),
                    _ => {}
                }
            }
            prop_assert!(victim.conn.queued_bytes() < 2048);
        }
    }
}
