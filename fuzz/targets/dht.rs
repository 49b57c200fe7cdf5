//! Datagrams to a node of the DHT that is searching: queries, answers to what it asked, and anything else.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use riverrun_base::{InfoHash, Time};
use riverrun_bencode::{Document, Limits};
use riverrun_dht::{Announce, Config, Datagram, Dht, Outbox, PeersQuestion, Question, SavedState};
use riverrun_fuzz::Input;

/// What fits into any path.
const DATAGRAM_LEN_MAX: usize = 1500;

/// How a query of ours is to be answered.
fn transaction(sent: &Datagram) -> Option<Vec<u8>> {
    let document = Document::parse(&sent.bytes, Limits::MESSAGE).ok()?;
    let dict = document.root().as_dict()?;
    Some(dict.get(b"t")?.as_bytes()?.to_vec())
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut now = Time::from_secs(1);
    let sockets: [SocketAddr; 2] = [
        ([198, 51, 100, 1], 6881).into(),
        ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 6881).into(),
    ];
    let mut dht = Dht::new(
        now,
        Config::new([7; 32]),
        &sockets,
        &SavedState::default(),
        1,
    );
    dht.add_routers(now, &[([203, 0, 113, 1], 6881).into()]);
    let mut out = Outbox::default();
    let mut question = PeersQuestion::new(InfoHash([4; InfoHash::LEN]));
    question.announce = Some(Announce {
        v4: None,
        v6: Some(6881),
        is_seed: true,
    });
    let mut search = dht.search(now, &Question::Peers(question), &mut out);
    dht.handle_timeout(now, &mut out);
    let mut asked: Vec<Datagram> = Vec::new();
    while !input.is_empty() {
        for sent in out.datagrams.drain(..) {
            assert!(sent.bytes.len() <= DATAGRAM_LEN_MAX);
            asked.push(sent);
        }
        out.events.clear();
        let overflow = asked.len().saturating_sub(64);
        asked.drain(..overflow);
        let kind = input.byte();
        let from = ([203, 0, 113, input.byte() % 16], 6881).into();
        match kind % 5 {
            0 | 1 => dht.handle_datagram(now, 0, from, input.counted(), &mut out),
            2 | 3 => {
                let Some(last) = asked.pop() else { continue };
                let Some(transaction) = transaction(&last) else {
                    continue;
                };
                let mut answer = b"d1:r".to_vec();
                answer.extend_from_slice(input.counted());
                answer.extend_from_slice(format!("1:t{}:", transaction.len()).as_bytes());
                answer.extend_from_slice(&transaction);
                answer.extend_from_slice(b"1:y1:re");
                dht.handle_datagram(now, last.socket, last.to, &answer, &mut out);
            }
            _ => {
                now += Duration::from_millis(u64::from(input.short()) * 64);
                dht.handle_timeout(now, &mut out);
                if kind & 0x80 != 0
                    && let Some(search) = search.take()
                {
                    dht.cancel(search);
                }
            }
        }
        let _ = dht.poll_timeout();
    }
    let saved = dht.save(now);
    assert!(SavedState::from_bytes(&saved.to_bytes()).is_ok());
});
