//! What holds whatever comes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use riverrun_base::{Block, BlockMut, BlockSpan, Blocks, Rng};
use riverrun_peer::{EncryptionPolicy, PeerCommand, PeerConfig, PeerEvent};

use crate::pair::{Pair, config};
use crate::raw::{ALL, Victim, extended, greeting, hashes, message, numbers, piece, spanned};
use crate::torrent::{
    HASH_REQUEST, Kind, attach, attach_magnet, content, span, span_at, torrent, v1_hash, v2_hash,
};

/// Counts what is allocated for blocks.
#[derive(Clone, Default)]
struct Counted(Arc<AtomicUsize>);

impl Blocks for Counted {
    fn allocate(&self, len: usize) -> Option<BlockMut> {
        self.0.fetch_add(len, Ordering::Relaxed);
        Some(BlockMut::unbudgeted(len))
    }
}

/// Bytes that are more often than not a message.
fn utterance() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0_u32..12, Just(16384), Just(32768), any::<u32>()];
    let block = (0_u32..11, 0_u32..3).prop_map(|(piece, block)| span_at(piece, block));
    prop_oneof![
        any::<u8>().prop_map(|id| message(id, &[])),
        (0_u8..24, prop::collection::vec(number, 0..5)).prop_map(|(id, n)| numbers(id, &n)),
        (prop_oneof![Just(6_u8), Just(8), Just(16)], block.clone())
            .prop_map(|(id, span)| spanned(id, span)),
        block.prop_map(|span| piece(span, &content(span))),
        Just(message(5, &[0xff, 0xc0])),
        Just(extended(0, b"d1:md11:lt_donthavei7e11:ut_metadatai2eee")),
        (0_u8..9, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(id, p)| extended(id, &p)),
        (0_u32..4, 0_u32..4).prop_map(|(kind, piece)| {
            extended(
                2,
                format!("d8:msg_typei{kind}e5:piecei{piece}ee").as_bytes(),
            )
        }),
        (21_u8..24, 0_usize..7).prop_map(|(id, count)| hashes(id, HASH_REQUEST, count)),
        prop::collection::vec(any::<u8>(), 0..60),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn whatever_a_peer_says_nothing_panics_and_memory_is_bounded(
        said in prop::collection::vec(utterance(), 0..60),
        magnet in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let info = torrent(Kind::V2, 10);
        let attached = if magnet { attach_magnet(&info) } else { attach(&info, &[1, 2]) };
        let mut victim = Victim::new([0, 0, 0, 0, 0, 0x10, 0, 4], v2_hash(&info), attached);
        let blocks = Counted::default();
        victim.blocks = Box::new(blocks.clone());
        victim.does(PeerCommand::Unchoke);
        victim.does(PeerCommand::RequestHashes(HASH_REQUEST));
        let mut rng = Rng::new(seed);
        let mut requested = 0;
        let wire = said.concat();
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let (chunk, tail) = rest.split_at(rest.len().min(1 + rng.below(3000)));
            rest = tail;
            let spans = vec![span(u32::try_from(rng.below(10)).unwrap())];
            victim.does(PeerCommand::Request(spans));
            requested += 16384;
            if victim.says(chunk).is_err() {
                break;
            }
            victim.pass(Duration::from_millis(1)).unwrap();
            victim.sent_bytes();
            victim.events();
            if magnet && rng.below(10) == 0 {
                victim.does(PeerCommand::Metadata(info.clone()));
            }
        }
        prop_assert!(blocks.0.load(Ordering::Relaxed) <= requested);
        prop_assert!(victim.conn.queued_bytes() < 2 << 20);
    }

    #[test]
    fn whatever_comes_first_nothing_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        keep in 0_usize..100,
    ) {
        let info = torrent(Kind::V1, 10);
        let mut wire = greeting(ALL, v1_hash(&info));
        wire.truncate(keep);
        wire.extend(bytes);
        let mut pair = Pair::new(v1_hash(&info), attach(&info, &[]), attach(&info, &[]));
        for side in [&mut pair.dialer, &mut pair.listener] {
            let _ = side.conn.handle_bytes(pair.now, &mut wire.clone(), &crate::pair::Plenty);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_request_ends_in_one_answer_and_only_a_cancel_leaves_it_without(
        seed in any::<u64>(),
        fast in any::<bool>(),
    ) {
        Exchange::new(seed, fast).run();
    }
}

/// One end requests and cancels, the other serves, rejects and chokes, both by chance.
struct Exchange {
    pair: Pair,
    rng: Rng,
    /// What the dialer waits for; `true` once cancelled.
    waits: BTreeMap<BlockSpan, bool>,
    /// What the listener has to answer, in order.
    wants: Vec<BlockSpan>,
    unchoked: bool,
}

impl Exchange {
    fn new(seed: u64, fast: bool) -> Self {
        let info = torrent(Kind::V1, 10);
        let all: Vec<u32> = (0..10).collect();
        let [mut dials, mut listens]: [PeerConfig; 2] = [config(1), config(2)];
        listens.request_queue_max = 12;
        // The bit of the fast extension can only be taken out of what is readable.
        let encrypted = fast && seed.is_multiple_of(2);
        if seed.is_multiple_of(4) {
            dials.encryption = EncryptionPolicy::Require;
        }
        let dials = (dials, attach(&info, &[]));
        let listens = (listens, attach(&info, &all));
        let mut pair = Pair::dialled(v1_hash(&info), dials, listens, seed, encrypted);
        pair.set_fast(fast);
        pair.settle();
        Self {
            pair,
            rng: Rng::new(seed ^ 1),
            waits: BTreeMap::new(),
            wants: Vec::new(),
            unchoked: false,
        }
    }

    fn run(&mut self) {
        for _ in 0..400 {
            self.act();
            self.pair.step();
            self.account();
        }
        self.pair.listener_does(PeerCommand::Choke);
        self.pair.pass(Duration::from_secs(15));
        self.account();
        let left: Vec<_> = self
            .waits
            .iter()
            .filter(|(_, cancelled)| !**cancelled)
            .collect();
        assert!(left.is_empty(), "never answered: {left:?}");
        assert_eq!(
            (&self.pair.dialer.error, &self.pair.listener.error),
            (&None, &None)
        );
    }

    fn any_span(&mut self) -> BlockSpan {
        let (piece, block) = (self.rng.below(9), self.rng.below(2));
        span_at(u32::try_from(piece).unwrap(), u32::try_from(block).unwrap())
    }

    fn act(&mut self) {
        let now = self.pair.now;
        let span = self.any_span();
        match self.rng.below(12) {
            0..=4 if self.unchoked && self.waits.get(&span).copied() != Some(false) => {
                self.waits.insert(span, false);
                let command = PeerCommand::Request(vec![span]);
                self.pair.dialer.conn.handle_command(now, command);
            }
            5 => {
                if let Some(cancelled) = self.waits.get_mut(&span) {
                    *cancelled = true;
                    self.pair
                        .dialer
                        .conn
                        .handle_command(now, PeerCommand::Cancel(span));
                }
            }
            6..=8 if !self.wants.is_empty() => {
                let span = self.wants.remove(self.rng.below(self.wants.len()));
                let block = Block::unbudgeted(&content(span));
                let serve = PeerCommand::Serve { span, block };
                self.pair.listener.conn.handle_command(now, serve);
            }
            9 if !self.wants.is_empty() => {
                let span = self.wants.remove(self.rng.below(self.wants.len()));
                self.pair
                    .listener
                    .conn
                    .handle_command(now, PeerCommand::Reject(span));
            }
            10 => self
                .pair
                .listener
                .conn
                .handle_command(now, PeerCommand::Unchoke),
            11 if self.rng.below(4) == 0 => {
                self.pair
                    .listener
                    .conn
                    .handle_command(now, PeerCommand::Choke);
            }
            _ => self.pair.now += Duration::from_millis(3),
        }
    }

    fn account(&mut self) {
        for event in std::mem::take(&mut self.pair.dialer.events) {
            match event {
                PeerEvent::Received { span, block } => {
                    assert_eq!(block[..], content(span)[..]);
                    assert_eq!(self.waits.remove(&span), Some(false), "{span}");
                }
                PeerEvent::Rejected(span) => {
                    assert_eq!(self.waits.remove(&span), Some(false), "{span}");
                }
                PeerEvent::Unchoked => self.unchoked = true,
                PeerEvent::Choked => self.unchoked = false,
                _ => {}
            }
        }
        for event in std::mem::take(&mut self.pair.listener.events) {
            match event {
                PeerEvent::Wants(span) => self.wants.push(span),
                PeerEvent::Unwants(span) => {
                    let at = self.wants.iter().position(|want| *want == span);
                    at.map(|at| self.wants.remove(at));
                }
                _ => {}
            }
        }
    }
}
