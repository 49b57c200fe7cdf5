//! What happens when nothing happens.

use std::time::Duration;

use riverrun_base::{Block, PieceIndex, Time};
use riverrun_peer::{CloseReason, PeerCommand, PeerMisbehaved};

use crate::pair::{Pair, Plenty, config, misbehaved};
use crate::raw::{FAST, Victim, message, numbers, piece, spanned};
use crate::torrent::{Kind, attach, content, span, torrent, v1_hash};

#[test]
fn a_handshake_that_is_not_finished_ends() {
    let info = torrent(Kind::V1, 10);
    let mut pair = Pair::new(v1_hash(&info), attach(&info, &[]), attach(&info, &[]));
    assert_eq!(pair.dialer.conn.poll_timeout(), Some(Time::from_secs(11)));
    assert_eq!(pair.dialer.conn.handle_timeout(Time::from_secs(10)), Ok(()));
    let error = pair.dialer.conn.handle_timeout(Time::from_secs(11));
    assert_eq!(error, Err(PeerMisbehaved::HandshakeTimeout));
    assert_eq!(
        pair.dialer.conn.close_requested(),
        Some(misbehaved(PeerMisbehaved::HandshakeTimeout))
    );
    pair.drive();
    assert!(!pair.listener.conn.is_ready());
}

#[test]
fn two_ends_keep_each_other_alive() {
    let info = torrent(Kind::V1, 10);
    let mut pair = Pair::new(v1_hash(&info), attach(&info, &[]), attach(&info, &[]));
    pair.settle().pass(Duration::from_hours(1));
    assert_eq!((&pair.dialer.error, &pair.listener.error), (&None, &None));
    assert!(pair.dialer.take_events().is_empty());
    let sent = pair.dialer.conn.totals().protocol_sent;
    assert!((68 + 50 * 4..600).contains(&sent), "{sent} bytes an hour");
}

#[test]
fn a_silent_peer_is_let_go() {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::v1(FAST, &info, &[]);
    assert_eq!(victim.pass(Duration::from_secs(119)), Ok(()));
    victim.says(&[0; 4]).unwrap();
    assert_eq!(victim.pass(Duration::from_secs(119)), Ok(()));
    assert_eq!(
        victim.pass(Duration::from_secs(1)),
        Err(PeerMisbehaved::Idle)
    );
}

#[test]
fn a_keep_alive_goes_only_where_nothing_else_does() {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::v1(FAST, &info, &[]);
    victim.pass(Duration::from_mins(1)).unwrap();
    assert_eq!(victim.sent_bytes(), [0; 4]);
    victim.does(PeerCommand::Interested);
    victim.pass(Duration::from_mins(1)).unwrap_err();
    let mut victim = Victim::v1(FAST, &info, &[]);
    victim.does(PeerCommand::Interested);
    victim.pass(Duration::from_mins(1)).unwrap();
    assert_eq!(victim.sent_bytes(), message(2, &[]));
}

#[test]
fn a_peer_that_owes_blocks_and_sends_none_snubs() {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::v1(FAST, &info, &[]);
    victim
        .says(&[message(14, &[]), message(1, &[])].concat())
        .unwrap();
    victim.pass(Duration::from_mins(1)).unwrap();
    assert!(
        !victim.news().contains(&"Snubbed".to_owned()),
        "it owes nothing"
    );
    victim.does(PeerCommand::Request(vec![span(1), span(2), span(3)]));
    victim.pass(Duration::from_secs(19)).unwrap();
    victim.says(&piece(span(1), &content(span(1)))).unwrap();
    // It was seen to answer late, and is waited for twice as long as that.
    victim.pass(Duration::from_secs(37)).unwrap();
    assert!(!victim.news().contains(&"Snubbed".to_owned()));
    victim.pass(Duration::from_secs(1)).unwrap();
    let events: Vec<_> = victim
        .events()
        .iter()
        .map(|event| format!("{event:?}"))
        .collect();
    assert_eq!(events, ["Snubbed", "Window(1)"]);
    victim.says(&piece(span(2), &content(span(2)))).unwrap();
    let events: Vec<_> = victim
        .events()
        .iter()
        .map(|event| format!("{event:?}"))
        .collect();
    assert!(
        events.iter().any(|event| event == "Window(2)"),
        "{events:?}"
    );
}

#[test]
fn the_first_reason_to_close_stays_and_nothing_moves_after_it() {
    let info = torrent(Kind::V1, 10);
    let mut pair = Pair::new(v1_hash(&info), attach(&info, &[]), attach(&info, &[1]));
    pair.settle();
    pair.dialer
        .conn
        .handle_command(pair.now, PeerCommand::Interested);
    pair.dialer
        .conn
        .handle_command(pair.now, PeerCommand::Close(CloseReason::Crowded));
    pair.dialer
        .conn
        .handle_command(pair.now, PeerCommand::Close(CloseReason::Banned));
    assert_eq!(
        pair.dialer.conn.close_requested(),
        Some(CloseReason::Crowded)
    );
    pair.listener_does(PeerCommand::Unchoke);
    assert!(pair.listener.take_events().is_empty());
    assert!(pair.dialer.take_events().is_empty());
    assert_eq!(pair.dialer.conn.poll_timeout(), None);
    assert!(!pair.dialer.conn.wants_read());
    let taken = pair
        .dialer
        .conn
        .handle_bytes(pair.now, &mut [1, 2, 3], &Plenty);
    assert_eq!(taken, Ok(3));
}

#[test]
fn keep_alives_of_many_connections_are_spread() {
    let info = torrent(Kind::V1, 10);
    let mut due: Vec<_> = (0..20)
        .map(|seed| {
            let dials = (config(1), attach(&info, &[]));
            let listens = (config(2), attach(&info, &[]));
            let mut pair = Pair::with(v1_hash(&info), dials, listens, seed);
            pair.drive();
            pair.dialer.conn.poll_timeout()
        })
        .collect();
    due.sort_unstable();
    due.dedup();
    assert_eq!(due.len(), 20);
}

#[test]
fn a_block_that_comes_byte_by_byte_is_no_silence() {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::v1(FAST, &info, &[]);
    victim
        .says(&[message(14, &[]), message(1, &[])].concat())
        .unwrap();
    victim.does(PeerCommand::Request(vec![span(1), span(2)]));
    let bytes = piece(span(1), &content(span(1)));
    for part in bytes.chunks(bytes.len() / 5 + 1) {
        victim.pass(Duration::from_secs(5)).unwrap();
        victim.says(part).unwrap();
    }
    let came = victim.news();
    assert!(came.iter().all(|event| event != "Snubbed"), "{came:?}");
    assert!(
        came.last()
            .is_some_and(|event| event.starts_with("Received")),
        "{came:?}"
    );
    // The block took 25 s: the next one may take twice as long.
    victim.pass(Duration::from_secs(50)).unwrap();
    assert_eq!(victim.news(), ["Snubbed"]);
    victim.pass(Duration::from_secs(50)).unwrap();
    assert_eq!(victim.news(), ["Snubbed"], "and it still does");
}

#[test]
fn pieces_are_told_in_company_unless_the_peer_wanted_nothing_before() {
    let info = torrent(Kind::V1, 10);
    let have = |piece| PeerCommand::Have(PieceIndex(piece));
    let told = |piece| numbers(4, &[piece]);
    let fresh = |wire: &[u8]| {
        let mut victim = Victim::v1(FAST, &info, &[0]);
        victim.says(wire).unwrap();
        victim.sent_bytes();
        victim
    };
    let (none, interested) = (message(15, &[]), message(2, &[]));
    let wants = [&none[..], &interested].concat();

    let mut victim = fresh(&none);
    victim.does(have(1));
    assert_eq!(victim.sent_bytes(), told(1), "it wanted nothing of us");

    let mut victim = fresh(&wants);
    victim.does(have(1));
    victim.does(have(2));
    assert_eq!(victim.sent_bytes(), [], "it wants others too");
    victim.does(PeerCommand::Unchoke);
    let all = [message(1, &[]), told(1), told(2)].concat();
    assert_eq!(victim.sent_bytes(), all, "with what is sent at once");
    victim.says(&spanned(6, span(1))).unwrap();
    victim.does(have(3));
    assert_eq!(victim.sent_bytes(), []);
    let (span, block) = (span(1), Block::unbudgeted(&content(span(1))));
    victim.does(PeerCommand::Serve { span, block });
    let all = [told(3), piece(span, &content(span))].concat();
    assert_eq!(victim.sent_bytes(), all, "with a block");

    let mut victim = fresh(&message(14, &[]));
    victim.does(have(1));
    victim.pass(Duration::from_millis(24)).unwrap();
    victim.does(have(2));
    assert_eq!(victim.sent_bytes(), [], "it has them all");
    victim.pass(Duration::from_millis(1)).unwrap();
    assert_eq!(victim.sent_bytes(), [told(1), told(2)].concat());
    victim.does(have(3));
    victim.pass(Duration::from_millis(24)).unwrap();
    assert_eq!(victim.sent_bytes(), [], "the next has its own time");
}
