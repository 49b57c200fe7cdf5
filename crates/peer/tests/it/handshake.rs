//! How connections begin.

use riverrun_base::{Bitfield, PeerId, PieceIndex};
use riverrun_peer::{
    Attach, Encryption, PeerCommand, PeerEvent, PeerHello, PeerMisbehaved, SendBatch,
};

use crate::pair::{Pair, Plenty, Side, config, misbehaved};
use crate::raw::{ALL, FAST, NOTHING, Victim, extended, greeting, message};
use crate::torrent::{Kind, attach, attach_magnet, torrent, v1_hash, v2_hash};

fn ready(side: &Side) -> PeerHello {
    let mut hellos = side.events.iter().filter_map(|event| match event {
        PeerEvent::Ready(hello) => Some(hello),
        _ => None,
    });
    let hello = hellos.next().expect("the handshake is through");
    assert!(hellos.next().is_none(), "once");
    PeerHello::clone(hello)
}

#[test]
fn both_ends_agree_wherever_the_stream_is_cut() {
    let info = torrent(Kind::V1, 10);
    for seed in 0..50 {
        let dials = (config(1), attach(&info, &[1, 2]));
        let listens = (config(2), attach(&info, &[3]));
        let mut pair = Pair::with(v1_hash(&info), dials, listens, seed);
        pair.drive();
        let (dialer, listener) = (ready(&pair.dialer), ready(&pair.listener));
        assert_eq!(dialer.peer_id, PeerId([2; 20]));
        assert_eq!(listener.peer_id, PeerId([1; 20]));
        assert!(dialer.features.fast && dialer.features.extended && !dialer.features.v2);
        assert_eq!(dialer.features, listener.features);
        assert_eq!(pair.dialer.take_news(), ["HasPieces(Bitfield(1/10))"]);
        assert_eq!(pair.listener.take_news(), ["HasPieces(Bitfield(2/10))"]);
    }
}

#[test]
fn a_hybrid_runs_under_v2_if_both_know_it() {
    let hybrid = torrent(Kind::Hybrid, 10);
    let v2 = torrent(Kind::V2, 10);
    let mut magnet = attach_magnet(&hybrid);
    magnet.hashes = riverrun_base::InfoHashes::v1_only(hybrid.hashes().v1().unwrap());
    for (greeted, dials, listens, runs_under, is_v2) in [
        (
            v1_hash(&hybrid),
            attach(&hybrid, &[]),
            attach(&hybrid, &[]),
            v2_hash(&hybrid),
            true,
        ),
        (
            v2_hash(&hybrid),
            attach(&hybrid, &[]),
            attach(&hybrid, &[]),
            v2_hash(&hybrid),
            true,
        ),
        (
            v1_hash(&hybrid),
            attach(&hybrid, &[]),
            magnet.clone(),
            v1_hash(&hybrid),
            false,
        ),
        (
            v1_hash(&hybrid),
            magnet,
            attach(&hybrid, &[]),
            v1_hash(&hybrid),
            false,
        ),
        (
            v2_hash(&v2),
            attach(&v2, &[]),
            attach(&v2, &[]),
            v2_hash(&v2),
            true,
        ),
    ] {
        let mut pair = Pair::new(greeted, dials, listens);
        pair.drive();
        for hello in [ready(&pair.dialer), ready(&pair.listener)] {
            assert_eq!(hello.info_hash, runs_under);
            assert_eq!(hello.features.v2, is_v2);
        }
    }
}

#[test]
fn a_dialer_refuses_another_torrent() {
    let info = torrent(Kind::V1, 10);
    let other = torrent(Kind::V1, 11);
    let mut pair = Pair::new(v1_hash(&info), attach(&info, &[]), attach(&info, &[]));
    let error = pair.dialer.conn.handle_bytes(
        pair.now,
        &mut greeting(ALL, v1_hash(&other)),
        &crate::pair::Plenty,
    );
    assert_eq!(error, Err(PeerMisbehaved::WrongTorrent));
    let closed = pair.dialer.conn.close_requested();
    assert_eq!(closed, Some(misbehaved(PeerMisbehaved::WrongTorrent)));
    pair.drive();
    assert!(pair.dialer.events.is_empty() && !pair.dialer.conn.is_ready());
}

#[test]
fn the_torrent_is_named_before_the_peers_id_and_answered_at_once() {
    let info = torrent(Kind::V1, 10);
    let config = std::sync::Arc::new(config(1));
    let now = riverrun_base::Time::ZERO;
    let mut conn = riverrun_peer::PeerConn::new(config, riverrun_peer::Role::Listener, 0, now);
    let mut bytes = [greeting(ALL, v1_hash(&info)), vec![0; 4]].concat();
    let plenty = crate::pair::Plenty;
    assert_eq!(conn.handle_bytes(now, &mut bytes[..48], &plenty), Ok(48));
    assert!(
        matches!(conn.poll_event(), Some(PeerEvent::Handshake(hash)) if hash == v1_hash(&info))
    );
    assert!(!conn.wants_read(), "it waits for us");
    assert_eq!(
        conn.handle_bytes(now, &mut bytes[48..], &plenty),
        Ok(20),
        "and no further"
    );
    conn.handle_command(now, PeerCommand::Attach(Box::new(attach(&info, &[]))));
    assert!(conn.is_ready() && conn.wants_read());
    assert_eq!(conn.handle_bytes(now, &mut bytes[68..], &plenty), Ok(4));
    let mut batch = riverrun_peer::SendBatch::new();
    assert!(conn.poll_transmit(now, &mut batch));
    assert_eq!(
        batch.slices().count(),
        1,
        "greeting, extended handshake and pieces in one"
    );
}

#[test]
fn a_torrent_that_was_not_asked_for_cannot_be_attached() {
    let (info, other) = (torrent(Kind::V1, 10), torrent(Kind::V1, 11));
    let mut pair = Pair::new(v1_hash(&info), attach(&info, &[]), attach(&other, &[]));
    pair.drive();
    let closed = pair.listener.conn.close_requested();
    assert_eq!(closed, Some(misbehaved(PeerMisbehaved::WrongTorrent)));
}

#[test]
fn what_is_no_greeting_is_refused() {
    let mut config = config(1);
    config.encryption = riverrun_peer::EncryptionPolicy::Off;
    let config = std::sync::Arc::new(config);
    let role = riverrun_peer::Role::Listener;
    let mut conn = riverrun_peer::PeerConn::new(config, role, 0, riverrun_base::Time::ZERO);
    let mut bytes = b"GET / HTTP/1.1\r\n".to_vec();
    let read = conn.handle_bytes(riverrun_base::Time::ZERO, &mut bytes, &crate::pair::Plenty);
    assert_eq!(read, Err(PeerMisbehaved::NotBitTorrent));
}

#[test]
fn our_pieces_are_told_as_shortly_as_the_peer_understands() {
    let info = torrent(Kind::V1, 3);
    let hide = |attach: Attach| Attach {
        hide_pieces: true,
        ..attach
    };
    let (all, some, none) = (&[0, 1, 2][..], &[1][..], &[][..]);
    let have = |have| attach(&info, have);
    for (reserved, attach, expected) in [
        (FAST, have(all), vec![message(14, &[])]),
        (FAST, have(none), vec![message(15, &[])]),
        (FAST, have(some), vec![message(5, &[0x40])]),
        (FAST, hide(have(all)), vec![message(15, &[])]),
        (FAST, attach_magnet(&info), vec![message(15, &[])]),
        (NOTHING, have(all), vec![message(5, &[0xe0])]),
        (NOTHING, have(none), vec![]),
        (NOTHING, hide(have(all)), vec![]),
        (NOTHING, attach_magnet(&info), vec![]),
    ] {
        let shown = format!("{attach:?}");
        let now = riverrun_base::Time::ZERO;
        let config = std::sync::Arc::new(config(1));
        let role = riverrun_peer::Role::Listener;
        let conn = riverrun_peer::PeerConn::new(config, role, 0, now);
        let blocks = Box::new(crate::pair::Plenty);
        let mut victim = Victim { conn, now, blocks };
        victim.says(&greeting(reserved, v1_hash(&info))).unwrap();
        victim.does(PeerCommand::Attach(Box::new(attach)));
        let bytes = victim.sent_bytes();
        assert_eq!(bytes[68..], expected.concat(), "{shown}");
    }
}

#[test]
fn what_changes_before_the_handshake_is_through_is_in_the_bitfield() {
    let info = torrent(Kind::V1, 10);
    let mut pair = Pair::new(v1_hash(&info), attach(&info, &[1]), attach(&info, &[]));
    for command in [
        PeerCommand::Have(PieceIndex(2)),
        PeerCommand::DontHave(PieceIndex(1)),
        PeerCommand::Have(PieceIndex(3)),
    ] {
        pair.dialer.conn.handle_command(pair.now, command);
    }
    pair.drive();
    let pieces = pair.listener.events.iter().find_map(|event| match event {
        PeerEvent::HasPieces(pieces) => Some(pieces.clone()),
        _ => None,
    });
    let mut expected = Bitfield::new(10);
    expected.set(PieceIndex(2));
    expected.set(PieceIndex(3));
    assert_eq!(pieces, Some(expected));
    assert_eq!(
        pair.listener.take_news(),
        ["HasPieces(Bitfield(2/10))"],
        "and no have"
    );
}

#[test]
fn a_handshake_that_nobody_heard_begins_again_with_what_has_changed() {
    let info = torrent(Kind::V1, 10);
    for encrypted in [false, true] {
        let dials = (config(1), attach(&info, &[1]));
        let listens = (config(2), attach(&info, &[]));
        let mut pair = Pair::dialled(v1_hash(&info), dials, listens, 7, encrypted);
        let dialer = &mut pair.dialer.conn;
        // This goes to somebody who says nothing.
        let mut lost = SendBatch::new();
        assert!(dialer.poll_transmit(pair.now, &mut lost));
        dialer.handle_command(pair.now, PeerCommand::Have(PieceIndex(2)));
        pair.now = dialer.poll_timeout().unwrap();
        let late = dialer.handle_timeout(pair.now);
        assert_eq!(late, Err(PeerMisbehaved::HandshakeTimeout));
        assert!(dialer.is_unheard() && !pair.listener.conn.is_unheard());
        dialer.begin_again(pair.now);
        assert!(dialer.is_unheard());
        pair.drive();
        assert!(!pair.dialer.conn.is_unheard());
        let under = ready(&pair.dialer).encryption;
        assert_eq!(under != Encryption::None, encrypted);
        let news = pair.listener.take_news();
        assert_eq!(news.last().unwrap(), "HasPieces(Bitfield(2/10))");
        // Whoever was heard is not asked again.
        pair.dialer.conn.begin_again(pair.now);
        assert!(pair.dialer.conn.is_ready());
    }
}

#[test]
fn one_byte_is_heard() {
    let info = torrent(Kind::V1, 10);
    let mut pair = Pair::new(v1_hash(&info), attach(&info, &[]), attach(&info, &[]));
    let dialer = &mut pair.dialer.conn;
    assert!(dialer.is_unheard());
    dialer.handle_bytes(pair.now, &mut [19], &Plenty).unwrap();
    assert!(!dialer.is_unheard());
}

#[test]
fn what_is_asked_too_early_is_answered_as_rejected() {
    let info = torrent(Kind::V2, 10);
    let mut pair = Pair::new(v2_hash(&info), attach(&info, &[]), attach(&info, &[]));
    for command in [
        PeerCommand::Request(vec![crate::torrent::span(1)]),
        PeerCommand::RequestMetadata(3),
        PeerCommand::RequestHashes(crate::torrent::HASH_REQUEST),
    ] {
        pair.dialer.conn.handle_command(pair.now, command);
    }
    let events: Vec<_> = std::iter::from_fn(|| pair.dialer.conn.poll_event()).collect();
    assert!(matches!(
        events[..],
        [
            PeerEvent::Rejected(_),
            PeerEvent::MetadataRejected(3),
            PeerEvent::HashesRejected(_)
        ]
    ));
}

#[test]
fn the_extended_handshake_carries_who_we_are() {
    let info = torrent(Kind::V1, 10);
    let mut dials = attach(&info, &[]);
    dials.upload_only = true;
    dials.your_ip = Some("10.9.8.7".parse().unwrap());
    let mut pair = Pair::new(v1_hash(&info), dials, attach_magnet(&info));
    pair.drive();
    let hello = |side: &Side| {
        let last = side.events.iter().rev().find_map(|event| match event {
            PeerEvent::Extended(hello) => Some(PeerHello::clone(hello)),
            _ => None,
        });
        last.expect("an extended handshake has come")
    };
    let of_dialer = hello(&pair.listener);
    assert_eq!(of_dialer.client.as_deref(), Some("client 1"));
    assert_eq!(of_dialer.listen_port, Some(6881));
    assert_eq!(of_dialer.request_queue_max, Some(2000));
    assert_eq!(of_dialer.metadata_len, u32::try_from(info.raw().len()).ok());
    assert_eq!(of_dialer.our_ip, Some("10.9.8.7".parse().unwrap()));
    assert!(of_dialer.upload_only);
    assert!(of_dialer.features.metadata && of_dialer.features.dont_have);
    let of_listener = hello(&pair.dialer);
    assert_eq!(of_listener.listen_port, None, "who dialled knows it");
    assert_eq!(of_listener.metadata_len, None);
    assert!(!of_listener.upload_only);
}

#[test]
fn the_dht_port_goes_to_peers_with_a_node_and_never_for_a_private_torrent() {
    let info = torrent(Kind::V1, 10);
    for (private, told) in [(false, vec!["DhtPort(4000)"]), (true, vec![])] {
        let side = |id: u8| {
            let mut config = config(id);
            config.dht_port = Some(4000);
            let mut attach = attach(&info, &[]);
            attach.private = private;
            (config, attach)
        };
        let mut pair = Pair::with(v1_hash(&info), side(1), side(2), 3);
        pair.drive();
        assert_eq!(ready(&pair.dialer).features.dht, !private);
        let news = pair.dialer.take_news();
        assert_eq!(news, [vec!["HasPieces(Bitfield(0/10))"], told].concat());
    }
}

#[test]
fn a_repeated_extended_handshake_adds_to_the_first() {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::v1(ALL, &info, &[]);
    let mut hello = |payload: &[u8]| {
        victim.says(&extended(0, payload)).unwrap();
        let events = victim.events();
        let hello = events.into_iter().find_map(|event| match event {
            PeerEvent::Extended(hello) => Some(hello),
            _ => None,
        });
        hello.unwrap()
    };
    let first = hello(b"d1:md11:lt_donthavei9e11:ut_metadatai5ee4:reqqi100e1:v1:xe");
    assert!(first.features.metadata && first.features.dont_have);
    let second = hello(b"d1:md11:ut_metadatai0eee");
    assert!(!second.features.metadata && second.features.dont_have);
    assert_eq!(second.request_queue_max, Some(100));
    assert_eq!(second.client.as_deref(), Some("x"));
}

#[test]
fn who_hides_its_pieces_does_not_look_like_a_seed() {
    let info = torrent(Kind::V1, 3);
    let mut hidden = attach(&info, &[0, 1, 2]);
    (hidden.hide_pieces, hidden.upload_only) = (true, true);
    let mut pair = Pair::new(v1_hash(&info), hidden, attach(&info, &[]));
    pair.drive();
    for flag in [false, true] {
        pair.dialer_does(PeerCommand::UploadOnly(flag));
    }
    let events = pair.listener.take_events();
    assert!(
        !events
            .iter()
            .any(|event| event.contains("upload_only: true"))
    );
    assert!(
        events.contains(&"HasPieces(Bitfield(0/3))".to_owned()),
        "{events:?}"
    );
}
