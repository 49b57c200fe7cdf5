//! Every message, both ways, between two connections.

use std::time::Duration;

use riverrun_base::{PieceIndex, Sha256Digest};
use riverrun_peer::{BlockRun, Contact, Hashes, PeerCommand, PeerExchange, PeerMisbehaved};

use crate::pair::Pair;
use crate::raw::{ALL, FAST, NOTHING, Victim, extended, message, numbers};
use crate::torrent::{HASH_REQUEST, Kind, attach, span, torrent, v1_hash, v2_hash};

/// What a command at one end becomes at the other, in both directions.
#[track_caller]
fn tells(kind: Kind, command: &PeerCommand, expected: &[&str]) {
    let info = torrent(kind, 10);
    let hash = if kind == Kind::V1 {
        v1_hash(&info)
    } else {
        v2_hash(&info)
    };
    let mut pair = Pair::new(hash, attach(&info, &[1, 2]), attach(&info, &[1, 2]));
    pair.settle().dialer_does(command.clone()).pass(MOMENT);
    assert_eq!(pair.listener.take_news(), expected, "{command:?}");
    pair.listener_does(command.clone()).pass(MOMENT);
    assert_eq!(pair.dialer.take_news(), expected, "{command:?}");
}

/// Time for what may wait a little.
const MOMENT: Duration = Duration::from_millis(100);

#[test]
fn facts_arrive_as_they_were_told() {
    let piece = PieceIndex(7);
    for (command, expected) in [
        (PeerCommand::Unchoke, &["Unchoked"][..]),
        (PeerCommand::Choke, &[]),
        (PeerCommand::Interested, &["Interested"]),
        (PeerCommand::NotInterested, &[]),
        (PeerCommand::Have(piece), &["Has(PieceIndex(7))"]),
        // It was not said to be there.
        (PeerCommand::DontHave(piece), &[]),
        (PeerCommand::Suggest(piece), &["Suggested(PieceIndex(7))"]),
        (
            PeerCommand::AllowFast(piece),
            &["AllowedFast(PieceIndex(7))"],
        ),
    ] {
        tells(Kind::V1, &command, expected);
    }
}

#[test]
fn what_was_said_already_is_not_said_again() {
    let info = torrent(Kind::V1, 10);
    let mut pair = Pair::new(v1_hash(&info), attach(&info, &[1]), attach(&info, &[]));
    pair.settle();
    for command in [
        PeerCommand::Unchoke,
        PeerCommand::Unchoke,
        PeerCommand::Choke,
        PeerCommand::Choke,
        PeerCommand::Interested,
        PeerCommand::Interested,
        PeerCommand::NotInterested,
    ] {
        pair.dialer_does(command);
    }
    assert_eq!(
        pair.listener.take_news(),
        ["Unchoked", "Choked", "Interested", "NotInterested"]
    );
}

#[test]
fn upload_only_is_told_and_taken_back() {
    let info = torrent(Kind::V1, 10);
    let mut pair = Pair::new(v1_hash(&info), attach(&info, &[]), attach(&info, &[]));
    pair.settle();
    for flag in [true, false] {
        pair.dialer_does(PeerCommand::UploadOnly(flag));
        pair.dialer_does(PeerCommand::UploadOnly(flag));
        let events = pair.listener.take_events();
        assert_eq!(events.len(), 1);
        assert!(
            events[0].contains(&format!("upload_only: {flag}")),
            "{events:?}"
        );
    }
}

#[test]
fn hashes_are_asked_for_and_answered() {
    let info = torrent(Kind::V2, 10);
    let mut pair = Pair::new(v2_hash(&info), attach(&info, &[]), attach(&info, &[]));
    let ask = || PeerCommand::RequestHashes(HASH_REQUEST);
    pair.settle().dialer_does(ask());
    assert_eq!(
        pair.listener.take_news(),
        [format!("WantsHashes({HASH_REQUEST:?})")]
    );
    // Two nodes, and an uncle from each of the three proof layers.
    let answer = Hashes {
        request: HASH_REQUEST,
        hashes: (0..5).map(|n| Sha256Digest([n; 32])).collect(),
    };
    pair.listener_does(PeerCommand::SendHashes(answer.clone()));
    assert_eq!(pair.dialer.take_news(), [format!("Hashes({answer:?})")]);
    pair.dialer_does(ask());
    pair.listener_does(PeerCommand::RejectHashes(HASH_REQUEST));
    let rejected = [format!("HashesRejected({HASH_REQUEST:?})")];
    assert_eq!(pair.dialer.take_news(), rejected);
    // Without a question there is no answer.
    pair.listener_does(PeerCommand::SendHashes(answer));
    pair.listener_does(PeerCommand::RejectHashes(HASH_REQUEST));
    assert!(pair.dialer.take_news().is_empty());
    assert_eq!(pair.dialer.error, None);
}

#[test]
fn hashes_are_not_asked_for_under_v1() {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::v1(ALL, &info, &[]);
    victim.does(PeerCommand::RequestHashes(HASH_REQUEST));
    assert_eq!(victim.news(), [format!("HashesRejected({HASH_REQUEST:?})")]);
    assert!(victim.sent().is_empty());
}

#[test]
fn nothing_is_sent_that_the_peer_does_not_understand() {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::v1(NOTHING, &info, &[1]);
    let piece = PieceIndex(1);
    for command in [
        PeerCommand::Suggest(piece),
        PeerCommand::AllowFast(piece),
        PeerCommand::DontHave(piece),
        PeerCommand::UploadOnly(true),
        PeerCommand::RequestMetadata(0),
    ] {
        victim.does(command);
    }
    assert!(victim.sent().is_empty());
    assert_eq!(victim.news(), ["MetadataRejected(0)"]);
}

#[test]
fn the_first_word_on_pieces_may_come_before_or_after_the_extended_handshake() {
    let info = torrent(Kind::V1, 10);
    let first = [message(14, &[]), extended(0, b"de")];
    let other = [extended(0, b"de"), message(14, &[])];
    for order in [first, other] {
        let mut victim = Victim::v1(ALL, &info, &[]);
        victim.says(&order.concat()).unwrap();
        let news = victim.news();
        assert!(
            news.contains(&"HasPieces(Bitfield(10/10))".to_owned()),
            "{news:?}"
        );
    }
}

#[test]
fn silence_on_pieces_means_none() {
    let info = torrent(Kind::V1, 10);
    for (said, expected) in [
        (numbers(4, &[3]), "Has(PieceIndex(3))"),
        (message(2, &[]), "Interested"),
        (message(1, &[]), "Unchoked"),
    ] {
        let mut victim = Victim::v1(NOTHING, &info, &[]);
        victim.says(&said).unwrap();
        assert_eq!(victim.news(), ["HasPieces(Bitfield(0/10))", expected]);
        // Late, but some clients say so in place of many single pieces.
        victim.says(&message(5, &[0xff, 0xc0])).unwrap();
        assert!(victim.news().len() >= 9);
    }
}

#[test]
fn a_port_may_come_first_and_a_keep_alive_says_nothing() {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::v1(FAST, &info, &[]);
    victim.says(&[0; 4]).unwrap();
    victim.says(&message(9, &[0x1a, 0xe1])).unwrap();
    victim.says(&message(9, &[0, 0])).unwrap();
    victim.says(&message(15, &[])).unwrap();
    assert_eq!(
        victim.news(),
        ["DhtPort(6881)", "HasPieces(Bitfield(0/10))"]
    );
}

#[test]
fn several_haves_leave_together_and_a_piece_lost_again_is_not_told() {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::v1(ALL, &info, &[]);
    victim
        .says(&extended(0, b"d1:md11:lt_donthavei9eee"))
        .unwrap();
    for piece in [1, 2, 3] {
        victim.does(PeerCommand::Have(PieceIndex(piece)));
    }
    victim.does(PeerCommand::DontHave(PieceIndex(2)));
    assert_eq!(
        victim.sent_bytes(),
        [numbers(4, &[1]), numbers(4, &[3])].concat()
    );
    victim.does(PeerCommand::DontHave(PieceIndex(3)));
    assert_eq!(victim.sent_bytes(), extended(9, &[0, 0, 0, 3]));
}

/// A minute apart, as [`Pair::pass`] has it.
const MINUTE: Duration = Duration::from_mins(1);

fn exchange() -> PeerExchange {
    let contact = |n| Contact::new(([203, 0, 113, n], 6881).into());
    PeerExchange {
        added: (1..4).map(contact).collect(),
        dropped: vec![([203, 0, 113, 9], 6881).into()],
    }
}

#[test]
fn other_peers_are_told_of_and_heard_of_once_a_minute() {
    let info = torrent(Kind::V1, 10);
    let mut pair = Pair::new(v1_hash(&info), attach(&info, &[1]), attach(&info, &[1]));
    pair.settle();
    let command = PeerCommand::Exchange(Box::new(exchange()));
    for _ in 0..2 {
        pair.dialer_does(command.clone());
        let heard = format!("Exchange({:?})", exchange());
        assert_eq!(pair.listener.take_news(), [heard]);
        pair.dialer_does(command.clone());
        assert!(pair.listener.take_news().is_empty(), "too soon");
        pair.pass(MINUTE);
    }
    (0..7).for_each(|_| _ = pair.dialer_does(command.clone()));
    assert_eq!(pair.listener.error, Some(PeerMisbehaved::ExchangeFlood));
}

#[test]
fn a_private_torrent_neither_tells_nor_hears_of_other_peers() {
    let info = torrent(Kind::V1, 10);
    let private = |have: &[u32]| riverrun_peer::Attach {
        private: true,
        ..attach(&info, have)
    };
    let mut pair = Pair::new(v1_hash(&info), private(&[1]), attach(&info, &[1]));
    pair.settle();
    let command = PeerCommand::Exchange(Box::new(exchange()));
    pair.listener_does(command.clone()).dialer_does(command);
    assert!(pair.dialer.take_news().is_empty());
    let mut victim = Victim::new(ALL, v1_hash(&info), private(&[1]));
    victim.says(&extended(1, b"garbage")).unwrap();
    assert!(victim.news().is_empty());
}

#[test]
fn a_piece_that_we_lose_is_refused_to_who_waits_for_it() {
    let info = torrent(Kind::V1, 10);
    let mut pair = Pair::new(v1_hash(&info), attach(&info, &[]), attach(&info, &[4, 5]));
    pair.settle().listener_does(PeerCommand::Unchoke);
    pair.dialer_does(PeerCommand::Request(vec![span(4), span(5)]));
    pair.dialer.take_news();
    pair.listener_does(PeerCommand::DontHave(PieceIndex(4)));
    let expected = [
        "LostPiece(PieceIndex(4))".to_owned(),
        format!("Rejected({:?})", span(4)),
    ];
    assert_eq!(pair.dialer.take_news(), expected);
}

fn run_of(piece: u32, first: u32, count: u32) -> BlockRun {
    BlockRun {
        piece: PieceIndex(piece),
        first,
        count,
    }
}

#[test]
fn single_blocks_are_told_of_where_each_has_a_hash_of_its_own() {
    let command = PeerCommand::HaveBlocks(run_of(7, 0, 1));
    let news = "HasBlocks(BlockRun { piece: PieceIndex(7), first: 0, count: 1 })";
    for (kind, expected) in [
        (Kind::V1, &[][..]),
        (Kind::Hybrid, &[news]),
        (Kind::V2, &[news]),
    ] {
        tells(kind, &command, expected);
    }
}

#[test]
fn blocks_that_there_are_not_are_the_peers_fault() {
    let info = torrent(Kind::V2, 10);
    let blocks = info.layout().block_count(PieceIndex(9));
    let told = |run: [u32; 3]| {
        let mut victim = Victim::new(ALL, v2_hash(&info), attach(&info, &[]));
        let payload: Vec<u8> = run.into_iter().flat_map(u32::to_be_bytes).collect();
        victim.says(&extended(16, &payload)).map(|()| victim.news())
    };
    assert!(
        told([9, 0, blocks])
            .unwrap()
            .iter()
            .any(|news| news.starts_with("HasBlocks"))
    );
    assert!(
        told([9, 0, 0])
            .unwrap()
            .iter()
            .any(|news| news.starts_with("HasBlocks"))
    );
    let beyond = PeerMisbehaved::Extended("rr_have_blocks beyond the end of a piece");
    for run in [[9, 0, blocks + 1], [9, blocks, 1], [9, 1, u32::MAX]] {
        assert_eq!(told(run), Err(beyond.clone()), "{run:?}");
    }
    let out_of_range = PeerMisbehaved::PieceOutOfRange {
        index: 10,
        count: 10,
    };
    assert_eq!(told([10, 0, 1]), Err(out_of_range));
    // Where they are of no use they are not read.
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::v1(ALL, &info, &[]);
    victim.says(&extended(16, &[0xff; 12])).unwrap();
    assert!(
        !victim
            .news()
            .iter()
            .any(|news| news.starts_with("HasBlocks"))
    );
}
