//! What a connection costs beside its system calls: one end requests blocks, the other serves them, and the bytes
//! between go from one to the other in memory.

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use riverrun_base::{
    BLOCK_LEN, Bitfield, Block, BlockMut, BlockSpan, Blocks, PeerId, PieceIndex, Time,
};
use riverrun_bencode::Writer;
use riverrun_metainfo::Info;
use riverrun_peer::{Attach, PeerCommand, PeerConfig, PeerConn, PeerEvent, Role, SendBatch};

/// Blocks of the one piece.
const BLOCKS: u32 = 64;

struct Plenty;

impl Blocks for Plenty {
    fn allocate(&self, len: usize) -> Option<BlockMut> {
        Some(BlockMut::unbudgeted(len))
    }
}

fn torrent() -> Arc<Info> {
    let mut writer = Writer::new();
    writer
        .dict()
        .key(b"length")
        .uint(u64::from(BLOCKS * BLOCK_LEN));
    writer.key(b"name").bytes(b"name");
    writer
        .key(b"piece length")
        .uint((BLOCKS * BLOCK_LEN).into());
    writer.key(b"pieces").bytes(&[1; 20]).end();
    Arc::new(Info::from_bytes(&writer.finish()).expect("it is a torrent"))
}

fn attach(info: &Arc<Info>, has: bool) -> Attach {
    let mut have = Bitfield::new(1);
    if has {
        have.set(PieceIndex(0));
    }
    Attach {
        hashes: info.hashes(),
        info: Some(info.clone()),
        have,
        hide_pieces: false,
        upload_only: has,
        private: false,
        your_ip: None,
    }
}

/// A leecher that has dialled a seeder.
struct Pair {
    ends: [PeerConn; 2],
    batch: SendBatch,
    pipe: Vec<u8>,
    info: Arc<Info>,
    block: Block,
    received: u32,
}

const NOW: Time = Time::from_secs(1);

impl Pair {
    fn new() -> Self {
        let info = torrent();
        let config = |id| Arc::new(PeerConfig::new(PeerId([id; 20])));
        let role = Role::Dialer {
            info_hash: info.hashes().primary(),
            attach: Box::new(attach(&info, false)),
            encrypted: false,
        };
        let leecher = PeerConn::new(config(1), role, 1, NOW);
        let seeder = PeerConn::new(config(2), Role::Listener, 2, NOW);
        let mut pair = Self {
            ends: [leecher, seeder],
            batch: SendBatch::new(),
            pipe: Vec::new(),
            info,
            block: Block::unbudgeted(&[5; BLOCK_LEN as usize]),
            received: 0,
        };
        pair.run();
        pair.ends[1].handle_command(NOW, PeerCommand::Unchoke);
        pair.ends[0].handle_command(NOW, PeerCommand::Interested);
        pair.run();
        pair
    }

    /// Until nobody has anything to say.
    fn run(&mut self) {
        loop {
            let said = [self.speak(0), self.speak(1)];
            if said == [false, false] {
                return;
            }
        }
    }

    /// Moves what one end has to say to the other, which reacts.
    fn speak(&mut self, from: usize) -> bool {
        while self.ends[from].poll_transmit(NOW, &mut self.batch) || !self.batch.is_empty() {
            for slice in self.batch.slices() {
                self.pipe.extend_from_slice(slice);
            }
            self.batch.clear();
        }
        let other = 1 - from;
        let bytes = &mut self.pipe[..];
        let moved = !bytes.is_empty();
        let taken = self.ends[other].handle_bytes(NOW, bytes, &Plenty);
        assert_eq!(taken.ok(), Some(self.pipe.len()));
        self.pipe.clear();
        while let Some(event) = self.ends[other].poll_event() {
            self.react(other, &event);
        }
        moved
    }

    fn react(&mut self, end: usize, event: &PeerEvent) {
        match event {
            PeerEvent::Handshake(_) => {
                let attach = Box::new(attach(&self.info, true));
                self.ends[end].handle_command(NOW, PeerCommand::Attach(attach));
            }
            PeerEvent::Wants(span) => {
                let (span, block) = (*span, self.block.clone());
                self.ends[end].handle_command(NOW, PeerCommand::Serve { span, block });
            }
            PeerEvent::Received { .. } => self.received += 1,
            _ => {}
        }
    }

    /// Requests every block, and has them all at the end.
    fn transfer(&mut self) {
        let span = |n| BlockSpan {
            piece: PieceIndex(0),
            offset: n * BLOCK_LEN,
            len: BLOCK_LEN,
        };
        let spans = (0..BLOCKS).map(span).collect();
        self.ends[0].handle_command(NOW, PeerCommand::Request(spans));
        self.received = 0;
        self.run();
        assert_eq!(self.received, BLOCKS);
    }
}

fn wire(c: &mut Criterion) {
    let mut group = c.benchmark_group("wire");
    group.throughput(Throughput::Bytes((BLOCKS * BLOCK_LEN).into()));
    let mut pair = Pair::new();
    group.bench_function("request, serve and receive 1 MiB", |b| {
        b.iter(|| pair.transfer());
    });
}

criterion_group!(benches, wire);
criterion_main!(benches);
