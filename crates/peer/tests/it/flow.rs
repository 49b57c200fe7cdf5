//! Credit, batches, and a window that opens.

use std::time::Duration;

use riverrun_base::Block;
use riverrun_peer::{Credit, PeerCommand, PeerEvent, SendBatch};

use crate::pair::{Pair, config};
use crate::raw::{FAST, Victim, message, spanned};
use crate::torrent::{Kind, attach, content, span, torrent, torrent_of, v1_hash};

const fn credit(send: Option<u64>, receive: Option<u64>) -> PeerCommand {
    PeerCommand::Credit(Credit {
        send_bytes: send,
        receive_bytes: receive,
    })
}

#[test]
fn send_credit_holds_blocks_and_nothing_else() {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::v1(FAST, &info, &[0, 1, 2, 3]);
    victim.does(PeerCommand::Unchoke);
    victim.sent();
    victim.does(credit(Some(20_000), None));
    for piece in 0..4 {
        let span = span(piece);
        victim.says(&spanned(6, span)).unwrap();
        let block = Block::unbudgeted(&content(span));
        victim.does(PeerCommand::Serve { span, block });
    }
    assert_eq!(victim.sent_ids(), [7, 7], "the second overdraws");
    victim.does(PeerCommand::Choke);
    assert_eq!(victim.sent_ids(), [0, 16, 16]);
    victim.does(credit(Some(12_768), None));
    victim.does(PeerCommand::Unchoke);
    victim.says(&spanned(6, span(1))).unwrap();
    let block = Block::unbudgeted(&content(span(1)));
    victim.does(PeerCommand::Serve {
        span: span(1),
        block,
    });
    assert_eq!(victim.sent_ids(), [1], "the debt was paid, no more");
    assert_eq!(victim.conn.queued_bytes(), 16384);
    victim.does(credit(None, None));
    assert_eq!(victim.sent_ids(), [7]);
}

#[test]
fn receive_credit_stops_the_reading() {
    let info = torrent(Kind::V1, 10);
    let mut pair = Pair::new(
        v1_hash(&info),
        attach(&info, &[]),
        attach(&info, &[1, 2, 3]),
    );
    pair.listener.serves = true;
    pair.settle().listener_does(PeerCommand::Unchoke);
    pair.dialer
        .conn
        .handle_command(pair.now, credit(None, Some(16384)));
    pair.dialer_does(PeerCommand::Request(vec![span(1), span(2), span(3)]));
    assert!(!pair.dialer.conn.wants_read());
    // The peer is not to blame for what we do not read.
    pair.pass(Duration::from_secs(30));
    let snubbed = pair.dialer.take_events().contains(&"Snubbed".to_owned());
    assert!(!snubbed && pair.dialer.error.is_none());
    pair.dialer_does(credit(None, None));
    assert_eq!(pair.dialer.conn.totals().payload_received, 3 * 16384);
}

#[test]
fn a_peer_that_owes_nothing_is_heard_without_receive_credit() {
    let info = torrent(Kind::V1, 10);
    let mut pair = Pair::new(v1_hash(&info), attach(&info, &[]), attach(&info, &[1]));
    pair.settle();
    pair.dialer
        .conn
        .handle_command(pair.now, credit(None, Some(0)));
    assert!(pair.dialer.conn.wants_read());
    pair.listener_does(PeerCommand::Unchoke);
    assert_eq!(pair.dialer.take_news(), ["Unchoked"]);
}

#[test]
fn a_batch_is_bounded_and_can_be_topped_up() {
    let info = torrent_of(Kind::V1, 100, 16384);
    let all: Vec<u32> = (0..100).collect();
    let mut victim = Victim::v1(FAST, &info, &all);
    victim.does(PeerCommand::Unchoke);
    for piece in 0..99 {
        let span = span(piece);
        victim.says(&spanned(6, span)).unwrap();
        let block = Block::unbudgeted(&content(span));
        victim.does(PeerCommand::Serve { span, block });
    }
    let mut batch = SendBatch::new();
    let mut sent = 0;
    while victim.conn.poll_transmit(victim.now, &mut batch) || !batch.is_empty() {
        assert!(batch.len_bytes() <= 256 * 1024 + 16384 + 13);
        assert!(batch.slices().count() <= 34);
        let len = batch.len_bytes().min(100_000);
        batch.advance(len);
        sent += len;
    }
    assert_eq!(sent, 5 + 99 * (13 + 16384));
}

#[test]
fn the_window_opens_as_blocks_come() {
    let info = torrent_of(Kind::V1, 2000, 16384);
    let all: Vec<u32> = (0..2000).collect();
    let dials = (config(1), attach(&info, &[]));
    let mut short = config(2);
    short.request_queue_max = 512;
    let listens = (short, attach(&info, &all));
    let mut pair = Pair::with(v1_hash(&info), dials, listens, 1);
    pair.listener.serves = true;
    pair.drive().listener_does(PeerCommand::Unchoke);
    let (mut window, mut next, mut under_way) = (0, 0, 0_u32);
    for _ in 0..200 {
        for event in std::mem::take(&mut pair.dialer.events) {
            match event {
                PeerEvent::Window(depth) => window = depth,
                PeerEvent::Received { .. } => under_way -= 1,
                _ => {}
            }
        }
        let spans: Vec<_> = (under_way..window)
            .map(|n| span(next + n - under_way))
            .collect();
        next += u32::try_from(spans.len()).unwrap();
        under_way = window.max(under_way);
        pair.now += Duration::from_millis(5);
        pair.dialer
            .conn
            .handle_command(pair.now, PeerCommand::Request(spans));
        pair.now += Duration::from_millis(5);
        pair.drive();
        if next > 1900 {
            break;
        }
    }
    assert!(
        (448..=512).contains(&window),
        "{window}: as far as the peer's queue reaches, nearly"
    );
}

#[test]
fn the_window_follows_what_the_peer_can_queue() {
    let info = torrent(Kind::V1, 10);
    let mut victim = Victim::v1([0, 0, 0, 0, 0, 0x10, 0, 0], &info, &[]);
    let reqq = message(20, b"\x00d4:reqqi1ee");
    victim.says(&reqq).unwrap();
    let events = victim.events();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, PeerEvent::Window(1))),
        "{events:?}"
    );
}
