//! Metadata from peer to peer, and what is said before it is there.

use std::sync::Arc;

use riverrun_metainfo::Info;
use riverrun_peer::{PeerCommand, PeerEvent, PeerMisbehaved};

use crate::pair::{Pair, misbehaved};
use crate::raw::{ALL, EXTENDED, Victim, extended, message, numbers, spanned};
use crate::torrent::{Kind, attach, attach_magnet, span, torrent, torrent_of, v1_hash};

/// Metadata of three pieces: 2,000 hashes of 20 bytes and what is around them.
fn large() -> Arc<Info> {
    torrent_of(Kind::V1, 2000, 16384)
}

#[test]
fn metadata_goes_from_who_has_it_to_who_has_not() {
    let info = large();
    let mut pair = Pair::new(v1_hash(&info), attach_magnet(&info), attach(&info, &[1, 2]));
    pair.drive();
    let len = pair.dialer.events.iter().find_map(|event| match event {
        PeerEvent::Extended(hello) => hello.metadata_len,
        _ => None,
    });
    let pieces = len.unwrap().div_ceil(16384);
    assert_eq!(pieces, 3);
    assert!(
        pair.dialer.take_news().is_empty(),
        "pieces cannot be told without metadata"
    );
    for piece in 0..=pieces {
        pair.dialer_does(PeerCommand::RequestMetadata(piece));
    }
    let mut raw = Vec::new();
    let mut rejected = Vec::new();
    for event in std::mem::take(&mut pair.dialer.events) {
        match event {
            PeerEvent::Metadata {
                total_len, bytes, ..
            } => {
                assert_eq!(Some(total_len), len);
                raw.extend(bytes);
            }
            PeerEvent::MetadataRejected(piece) => rejected.push(piece),
            _ => {}
        }
    }
    assert_eq!(raw, info.raw()[..]);
    assert_eq!(rejected, [3], "there is no such piece");
    let arrived = Arc::new(Info::from_bytes(&raw).unwrap());
    pair.dialer_does(PeerCommand::Metadata(arrived));
    assert_eq!(pair.dialer.take_news(), ["HasPieces(Bitfield(2/2000))"]);
    pair.listener_does(PeerCommand::Unchoke);
    pair.dialer_does(PeerCommand::Request(vec![span(1)]));
    assert!(
        pair.listener
            .take_news()
            .contains(&format!("Wants({:?})", span(1)))
    );
}

#[test]
fn who_gets_the_metadata_offers_it_to_who_lacks_it() {
    let info = torrent(Kind::V1, 10);
    let mut pair = Pair::new(v1_hash(&info), attach_magnet(&info), attach_magnet(&info));
    pair.settle().dialer_does(PeerCommand::RequestMetadata(0));
    assert_eq!(pair.dialer.take_news(), ["MetadataRejected(0)"]);
    pair.dialer_does(PeerCommand::Metadata(info.clone()));
    let events = pair.listener.take_events();
    let offered = format!("metadata_len: Some({})", info.raw().len());
    assert!(
        events.len() == 1 && events[0].contains(&offered),
        "{events:?}"
    );
    pair.listener_does(PeerCommand::RequestMetadata(0));
    let news = pair.listener.take_news();
    assert!(
        news.len() == 1 && news[0].starts_with("Metadata {"),
        "{news:?}"
    );
}

#[test]
fn only_the_first_answer_to_a_question_is_taken() {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::new(ALL, v1_hash(&info), attach_magnet(&info));
    victim
        .says(&extended(0, b"d1:md11:ut_metadatai9eee"))
        .unwrap();
    victim.news();
    victim.does(PeerCommand::RequestMetadata(0));
    victim.does(PeerCommand::RequestMetadata(0));
    assert_eq!(
        victim.sent_bytes(),
        extended(9, b"d8:msg_typei0e5:piecei0ee"),
        "asked once"
    );
    let data = extended(2, b"d8:msg_typei1e5:piecei0e10:total_sizei4eeabcd");
    for _ in 0..3 {
        victim.says(&data).unwrap();
    }
    victim
        .says(&extended(2, b"d8:msg_typei2e5:piecei0ee"))
        .unwrap();
    victim
        .says(&extended(2, b"d8:msg_typei77e5:piecei0ee"))
        .unwrap();
    let expected = "Metadata { piece: 0, total_len: 4, bytes: [97, 98, 99, 100] }";
    assert_eq!(victim.news(), [expected]);
}

#[test]
fn a_peer_that_asks_again_and_again_is_rejected() {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::v1(EXTENDED, &info, &[]);
    victim
        .says(&extended(0, b"d1:md11:ut_metadatai9eee"))
        .unwrap();
    for _ in 0..5 {
        victim
            .says(&extended(2, b"d8:msg_typei0e5:piecei0ee"))
            .unwrap();
    }
    let len = info.raw().len();
    assert!(victim.conn.queued_bytes() > 3 * 16384);
    let sent = victim.sent();
    let data = format!("\x14\x09d8:msg_typei1e5:piecei0e10:total_sizei{len}ee");
    let starts = |message: &&Vec<u8>| message.starts_with(data.as_bytes());
    assert_eq!(sent.iter().filter(starts).count(), 3);
    let rejects = sent
        .iter()
        .filter(|message| message.ends_with(b"d8:msg_typei2e5:piecei0ee"));
    assert_eq!(rejects.count(), 2);
}

#[test]
fn a_request_without_metadata_is_refused() {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::new(ALL, v1_hash(&info), attach_magnet(&info));
    victim.does(PeerCommand::Unchoke);
    victim.says(&spanned(6, span(1))).unwrap();
    assert_eq!(victim.sent_ids(), [1, 16]);
    assert!(victim.news().is_empty());
    victim.does(PeerCommand::Request(vec![span(1)]));
    assert_eq!(victim.news(), [format!("Rejected({:?})", span(1))]);
}

#[test]
fn what_was_said_before_the_metadata_is_checked_with_it() {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::new(ALL, v1_hash(&info), attach_magnet(&info));
    victim.says(&message(5, &[0x80, 0x40])).unwrap();
    victim.says(&numbers(4, &[3])).unwrap();
    victim.says(&message(1, &[])).unwrap();
    victim.says(&numbers(17, &[4])).unwrap();
    assert_eq!(victim.news(), ["Unchoked"]);
    victim.does(PeerCommand::Metadata(info.clone()));
    let expected = [
        "HasPieces(Bitfield(2/10))",
        "Has(PieceIndex(3))",
        "AllowedFast(PieceIndex(4))",
    ];
    assert_eq!(victim.news(), expected);

    let mut liar = Victim::new(ALL, v1_hash(&info), attach_magnet(&info));
    liar.says(&numbers(4, &[10])).unwrap();
    liar.does(PeerCommand::Metadata(info));
    let error = PeerMisbehaved::PieceOutOfRange {
        index: 10,
        count: 10,
    };
    assert_eq!(liar.conn.close_requested(), Some(misbehaved(error)));
}
