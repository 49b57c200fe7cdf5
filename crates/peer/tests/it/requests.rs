//! Requests, ours and theirs, and what becomes of them.

use std::time::Duration;

use riverrun_base::{Block, BlockPool, PieceIndex};
use riverrun_peer::{PeerCommand, PeerEvent, PeerMisbehaved};

use crate::pair::{Pair, config};
use crate::raw::{ALL, FAST, NOTHING, Victim, extended, message, numbers, piece, spanned};
use crate::torrent::{Kind, attach, content, span, span_at, torrent, v1_hash};

const UNCHOKE: [u8; 5] = [0, 0, 0, 1, 1];
const CHOKE: [u8; 5] = [0, 0, 0, 1, 0];

fn rejected(piece: u32) -> String {
    format!("Rejected({:?})", span(piece))
}

fn unwanted(piece: u32) -> String {
    format!("Unwanted({:?})", span(piece))
}

fn received(piece: u32) -> String {
    format!(
        "Received {{ span: {:?}, block: Block(16384 bytes) }}",
        span(piece)
    )
}

/// Unchoked by a peer that has everything, with these pieces' first blocks requested.
fn requesting(reserved: [u8; 8], pieces: &[u32]) -> Victim {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::v1(reserved, &info, &[]);
    victim.says(&message(5, &[0xff, 0xc0])).unwrap();
    victim.says(&UNCHOKE).unwrap();
    victim.does(PeerCommand::Request(
        pieces.iter().map(|piece| span(*piece)).collect(),
    ));
    let expected: Vec<_> = pieces
        .iter()
        .map(|piece| spanned(6, span(*piece)))
        .collect();
    assert_eq!(victim.sent_bytes(), expected.concat());
    victim.news();
    victim
}

/// Unchokes a peer that asks for these pieces' first blocks.
fn serving(reserved: [u8; 8], pieces: &[u32]) -> Victim {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::v1(reserved, &info, &[0, 1, 2, 3, 4]);
    victim.does(PeerCommand::Unchoke);
    for piece in pieces {
        victim.says(&spanned(6, span(*piece))).unwrap();
    }
    victim.news();
    victim.sent();
    victim
}

fn serve(piece: u32) -> PeerCommand {
    let span = span(piece);
    let block = Block::unbudgeted(&content(span));
    PeerCommand::Serve { span, block }
}

#[test]
fn a_block_goes_from_one_end_to_the_other() {
    let info = torrent(Kind::V1, 10);
    for seed in 0..20 {
        let dials = (config(1), attach(&info, &[]));
        let listens = (config(2), attach(&info, &[1, 2, 9]));
        let mut pair = Pair::with(v1_hash(&info), dials, listens, seed);
        pair.listener.serves = true;
        pair.settle().listener_does(PeerCommand::Unchoke);
        let mut last = span_at(9, 1);
        last.len -= 1;
        let spans = vec![span(1), span_at(1, 1), span(2), last];
        pair.dialer_does(PeerCommand::Request(spans.clone()));
        let mut blocks = Vec::new();
        for event in &pair.dialer.events {
            if let PeerEvent::Received { span, block } = event {
                assert_eq!(block[..], content(*span)[..]);
                blocks.push(*span);
            }
        }
        assert_eq!(blocks, spans);
        let moved: u64 = spans.iter().map(|span| u64::from(span.len)).sum();
        assert_eq!(pair.dialer.conn.totals().payload_received, moved);
        assert_eq!(pair.listener.conn.totals().payload_sent, moved);
        let (sent, came) = (pair.listener.conn.totals(), pair.dialer.conn.totals());
        assert_eq!(sent.protocol_sent, came.protocol_received);
        let news = pair.listener.take_news();
        let served = news.iter().filter(|event| event.starts_with("Served"));
        assert_eq!(served.count(), 4);
    }
}

#[test]
fn a_request_that_comes_too_late_for_an_unchoke_is_rejected_here() {
    let mut victim = requesting(NOTHING, &[]);
    victim.says(&CHOKE).unwrap();
    victim.does(PeerCommand::Request(vec![span(1)]));
    assert_eq!(victim.news(), ["Choked".to_owned(), rejected(1)]);
    assert!(victim.sent().is_empty());
}

#[test]
fn without_fast_a_choke_loses_every_request() {
    let mut victim = requesting(NOTHING, &[1, 2]);
    victim.says(&CHOKE).unwrap();
    assert_eq!(
        victim.news(),
        [rejected(1), rejected(2), "Choked".to_owned()]
    );
    // One was on its way; one comes after the next unchoke.
    victim.says(&piece(span(1), &content(span(1)))).unwrap();
    victim.says(&UNCHOKE).unwrap();
    victim.says(&piece(span(2), &content(span(2)))).unwrap();
    assert_eq!(
        victim.news(),
        [unwanted(1), "Unchoked".to_owned(), unwanted(2)]
    );
    let twice = victim.says(&piece(span(2), &content(span(2))));
    assert_eq!(twice, Err(PeerMisbehaved::BlockNotRequested(span(2))));
}

#[test]
fn with_fast_a_choke_loses_nothing_by_itself() {
    let mut victim = requesting(FAST, &[1, 2]);
    victim.says(&CHOKE).unwrap();
    assert_eq!(victim.news(), ["Choked"]);
    victim.says(&spanned(16, span(2))).unwrap();
    victim.says(&piece(span(1), &content(span(1)))).unwrap();
    assert_eq!(victim.news(), [rejected(2), received(1)]);
}

#[test]
fn with_fast_rejects_that_never_come_are_waited_for_in_vain_only_so_long() {
    let mut victim = requesting(FAST, &[1, 2, 3]);
    victim.says(&numbers(17, &[3])).unwrap();
    victim.says(&CHOKE).unwrap();
    victim.pass(Duration::from_secs(9)).unwrap();
    victim.says(&spanned(16, span(2))).unwrap();
    victim.news();
    victim.pass(Duration::from_secs(9)).unwrap();
    assert!(victim.news().is_empty(), "an answer gives it time anew");
    victim.pass(Duration::from_secs(1)).unwrap();
    assert_eq!(
        victim.news(),
        [rejected(1)],
        "the allowed one may still come"
    );
    victim.says(&piece(span(1), &content(span(1)))).unwrap();
    assert_eq!(victim.news(), [unwanted(1)], "late");
    victim.says(&piece(span(3), &content(span(3)))).unwrap();
    assert_eq!(victim.news(), [received(3)]);
}

#[test]
fn an_allowed_piece_can_be_requested_while_choked() {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::v1(FAST, &info, &[]);
    victim.says(&message(14, &[])).unwrap();
    victim.says(&numbers(17, &[3])).unwrap();
    victim.does(PeerCommand::Request(vec![span(3), span(4)]));
    assert_eq!(victim.sent(), [spanned(6, span(3))[4..].to_vec()]);
    victim.says(&spanned(16, span(3))).unwrap();
    victim.does(PeerCommand::Request(vec![span(3)]));
    let news = victim.news();
    assert_eq!(
        news[news.len() - 3..],
        [rejected(4), rejected(3), rejected(3)]
    );
}

#[test]
fn the_answer_to_a_cancel_is_swallowed() {
    let mut victim = requesting(FAST, &[1, 2]);
    victim.does(PeerCommand::Cancel(span(1)));
    victim.does(PeerCommand::Cancel(span(2)));
    victim.does(PeerCommand::Cancel(span(7)));
    assert_eq!(victim.sent_ids(), [8, 8]);
    victim.says(&spanned(16, span(1))).unwrap();
    victim.says(&piece(span(2), &content(span(2)))).unwrap();
    assert_eq!(victim.news(), [unwanted(2)], "it has used up credit");
    let again = victim.says(&piece(span(2), &content(span(2))));
    assert_eq!(again, Err(PeerMisbehaved::BlockNotRequested(span(2))));
}

#[test]
fn a_block_can_be_cancelled_while_it_comes_in() {
    let mut victim = requesting(FAST, &[1, 2]);
    let bytes = piece(span(1), &content(span(1)));
    victim.says(&bytes[..500]).unwrap();
    victim.does(PeerCommand::Cancel(span(1)));
    assert!(victim.sent().is_empty(), "it is the answer already");
    victim.says(&bytes[500..]).unwrap();
    victim.says(&piece(span(2), &content(span(2)))).unwrap();
    assert_eq!(victim.news(), [unwanted(1), received(2)]);
    assert_eq!(victim.conn.totals().payload_received, 2 * 16384);
}

#[test]
fn an_empty_piece_is_a_reject() {
    let mut victim = requesting(NOTHING, &[1]);
    victim.says(&piece(span(1), &[])).unwrap();
    victim.says(&piece(span(1), &[])).unwrap();
    assert_eq!(victim.news(), [rejected(1)]);
}

#[test]
fn a_lost_piece_takes_its_requests_with_it_unless_rejects_follow() {
    for (reserved, expected) in [
        (
            [0, 0, 0, 0, 0, 0x10, 0, 0],
            vec![rejected(2), "LostPiece(PieceIndex(2))".to_owned()],
        ),
        (ALL, vec!["LostPiece(PieceIndex(2))".to_owned()]),
    ] {
        let mut victim = requesting(reserved, &[1, 2]);
        victim.says(&extended(7, &[0, 0, 0, 2])).unwrap();
        assert_eq!(victim.news(), expected);
    }
}

#[test]
fn without_memory_for_a_block_reading_stops_and_goes_on_later() {
    let mut victim = requesting(FAST, &[1, 2]);
    let pool = BlockPool::new(16384, || {});
    let mut bytes = [
        piece(span(1), &content(span(1))),
        piece(span(2), &content(span(2))),
    ]
    .concat();
    let first = piece(span(1), &content(span(1))).len();
    let consumed = victim
        .conn
        .handle_bytes(victim.now, &mut bytes, &pool)
        .unwrap();
    assert_eq!(consumed, first + 13, "the head of the second is known");
    let rest = &mut bytes[consumed..];
    assert_eq!(victim.conn.handle_bytes(victim.now, rest, &pool), Ok(0));
    // Not reading, we cannot tell whether the peer snubs us.
    victim.pass(Duration::from_secs(25)).unwrap();
    assert_eq!(victim.news(), [received(1)], "which lets go of the block");
    let len = rest.len();
    assert_eq!(victim.conn.handle_bytes(victim.now, rest, &pool), Ok(len));
    assert_eq!(victim.news(), [received(2)]);
}

#[test]
fn a_served_block_leaves_and_is_told() {
    let mut victim = serving(FAST, &[1, 2]);
    victim.does(serve(2));
    victim.does(PeerCommand::Reject(span(1)));
    assert_eq!(victim.conn.queued_bytes(), 16384 + 17);
    let expected = [spanned(16, span(1)), piece(span(2), &content(span(2)))];
    assert_eq!(victim.sent_bytes(), expected.concat());
    assert_eq!(victim.news(), [format!("Served({:?})", span(2))]);
    victim.does(serve(2));
    victim.does(serve(3));
    victim.does(PeerCommand::Reject(span(1)));
    assert!(victim.sent().is_empty(), "nobody waits for these");
}

#[test]
fn a_choke_goes_first_and_rejects_what_waits() {
    let mut victim = serving(FAST, &[1, 2, 3]);
    victim.does(PeerCommand::AllowFast(PieceIndex(3)));
    victim.sent();
    victim.does(serve(2));
    victim.does(PeerCommand::Choke);
    let expected = [message(0, &[]), spanned(16, span(2)), spanned(16, span(1))];
    assert_eq!(victim.sent_bytes(), expected.concat());
    victim.does(serve(1));
    victim.does(serve(3));
    assert_eq!(victim.sent_ids(), [7], "only the allowed piece");
    let mut plain = serving(NOTHING, &[1, 2]);
    plain.does(PeerCommand::Choke);
    assert_eq!(plain.sent_ids(), [0]);
}

#[test]
fn a_choked_peer_gets_rejects_or_silence() {
    for (reserved, expected) in [(FAST, vec![16]), (NOTHING, vec![])] {
        let info = torrent(Kind::V1, 10);
        let mut victim = Victim::v1(reserved, &info, &[1]);
        victim.says(&spanned(6, span(1))).unwrap();
        assert_eq!(victim.news(), ["HasPieces(Bitfield(0/10))"]);
        assert_eq!(victim.sent_ids(), expected);
    }
}

#[test]
fn a_request_taken_back_is_answered_once() {
    let mut victim = serving(FAST, &[1, 2, 3]);
    victim.does(serve(2));
    victim.does(serve(3));
    assert_eq!(victim.sent_ids(), [7, 7]);
    victim.news();
    for piece in [1, 2, 3] {
        victim.says(&spanned(8, span(piece))).unwrap();
    }
    assert_eq!(victim.news(), [format!("Unwants({:?})", span(1))]);
    assert_eq!(victim.sent(), [spanned(16, span(1))[4..].to_vec()]);
    let mut plain = serving(NOTHING, &[1]);
    plain.says(&spanned(8, span(1))).unwrap();
    assert_eq!(plain.news(), [format!("Unwants({:?})", span(1))]);
    assert!(plain.sent().is_empty());
}

#[test]
fn requests_over_the_limit_are_rejected_and_then_a_flood() {
    let info = torrent(Kind::V1, 10);
    let mut config = config(1);
    config.request_queue_max = 10;
    let attach = attach(&info, &[1]);
    let mut victim = Victim::with(config, FAST, v1_hash(&info), attach);
    victim.does(PeerCommand::Unchoke);
    for _ in 0..30 {
        victim.says(&spanned(6, span(1))).unwrap();
    }
    let rejects = victim.sent_ids().into_iter().filter(|id| *id == 16);
    assert_eq!(rejects.count(), 20);
    let flood = victim.says(&spanned(6, span(1)));
    assert_eq!(flood, Err(PeerMisbehaved::RequestFlood { limit: 20 }));
}

#[test]
fn a_request_that_a_peer_passes_over_is_given_up() {
    let mut victim = requesting(NOTHING, &[1]);
    victim.pass(Duration::from_secs(15)).unwrap();
    victim.does(PeerCommand::Request(vec![span(2)]));
    victim.says(&piece(span(2), &content(span(2)))).unwrap();
    assert_eq!(victim.news(), [received(2)]);
    victim.pass(Duration::from_secs(10)).unwrap();
    victim.does(PeerCommand::Request(vec![span(3)]));
    victim.says(&piece(span(3), &content(span(3)))).unwrap();
    assert_eq!(victim.news(), [received(3), rejected(1)]);
    victim.says(&piece(span(1), &content(span(1)))).unwrap();
    assert_eq!(victim.news(), [unwanted(1)], "late");
}

#[test]
fn an_allowed_piece_that_is_not_given_is_a_snub() {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::v1(FAST, &info, &[]);
    victim
        .says(&[message(14, &[]), numbers(17, &[3])].concat())
        .unwrap();
    victim.does(PeerCommand::Request(vec![span(3)]));
    victim.news();
    victim.pass(Duration::from_secs(20)).unwrap();
    assert_eq!(victim.news(), ["Snubbed"]);
}
