//! What decisions cost: a shard that downloads from many peers hears of a block, and says what is next.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use riverrun_base::{BLOCK_LEN, Bitfield, Block, BlockSpan, InfoHash, PeerId, PieceIndex, Time};
use riverrun_bencode::Writer;
use riverrun_metainfo::{Info, PieceHashes, PieceLayers};
use riverrun_peer::{Encryption, Features, PeerCommand, PeerEvent, PeerHello};
use riverrun_swarm::{
    AddTorrent, Config, ConnKey, Input, NetAction, Outbox, Shard, StorageDone, StorageJob,
    TorrentKey, TorrentOptions,
};

const PEERS: u16 = 40;
const PIECES: u32 = 4096;
const PIECE_LEN: u32 = 16 * BLOCK_LEN;
/// How many requests each peer has at a time.
const WINDOW: u32 = 32;

fn torrent() -> Arc<Info> {
    let mut writer = Writer::new();
    let len = u64::from(PIECES) * u64::from(PIECE_LEN);
    writer.dict().key(b"length").uint(len);
    writer.key(b"name").bytes(b"name");
    writer.key(b"piece length").uint(PIECE_LEN.into());
    let hashes = vec![1; 20 * PIECES as usize];
    writer.key(b"pieces").bytes(&hashes).end();
    Arc::new(Info::from_bytes(&writer.finish()).expect("it is a torrent"))
}

/// A shard and its one torrent, with what its peers have been asked for.
struct Download {
    shard: Shard,
    out: Outbox,
    info: Arc<Info>,
    block: Block,
    requested: VecDeque<(ConnKey, BlockSpan)>,
    now: Time,
}

impl Download {
    fn new() -> Self {
        let mut config = Config::new(PeerId([1; 20]), 1);
        config.connections_per_ip_max = PEERS.into();
        let info = torrent();
        let mut download = Self {
            shard: Shard::new(Arc::new(config), 1),
            out: Outbox::default(),
            info: info.clone(),
            block: Block::unbudgeted(&[5; BLOCK_LEN as usize]),
            requested: VecDeque::new(),
            now: Time::from_secs(1),
        };
        let hashes = PieceHashes::new(&info, &PieceLayers::default());
        let peer = |n| SocketAddr::from(([127, 0, 0, 1], 1000 + n));
        download.input(Input::Add(Box::new(AddTorrent {
            request: 0,
            hashes: info.hashes(),
            metadata: Some((info.clone(), hashes)),
            summary: None,
            trackers: Vec::new(),
            peers: (0..PEERS).map(peer).collect(),
            web_seeds: Vec::new(),
            options: TorrentOptions::default(),
            uploaded_bytes: 0,
            downloaded_bytes: 0,
        })));
        // Dials are paced.
        for _ in 0..100 {
            download.now += Duration::from_millis(100);
            download
                .shard
                .handle_timeout(download.now, &mut download.out);
            download.settle();
        }
        assert!(download.requested.len() > usize::from(PEERS));
        download
    }

    fn input(&mut self, input: Input) {
        self.shard.handle(self.now, input, &mut self.out);
        self.settle();
    }

    /// Does what the shard wants, until it wants nothing.
    fn settle(&mut self) {
        loop {
            let jobs = std::mem::take(&mut self.out.storage);
            let actions = std::mem::take(&mut self.out.net);
            let commands = std::mem::take(&mut self.out.peers);
            self.out.events.clear();
            if jobs.is_empty() && actions.is_empty() && commands.is_empty() {
                return;
            }
            for (torrent, job) in jobs {
                self.store(torrent, &job);
            }
            for action in actions {
                if let NetAction::Dial {
                    conn, info_hash, ..
                } = action
                {
                    self.greet(conn, info_hash);
                }
            }
            for (conn, command) in commands {
                if let PeerCommand::Request(spans) = command {
                    self.requested
                        .extend(spans.into_iter().map(|span| (conn, span)));
                }
            }
        }
    }

    fn store(&mut self, torrent: TorrentKey, job: &StorageJob) {
        let done = match job {
            StorageJob::Open { .. } => StorageDone::Opened {
                have: Bitfield::new(PIECES),
                unchecked: Bitfield::new(PIECES),
            },
            StorageJob::Verify { piece, .. } => StorageDone::Verified(*piece),
            _ => return,
        };
        self.shard
            .handle(self.now, Input::Storage { torrent, done }, &mut self.out);
    }

    /// A peer that has all and lets us have it.
    fn greet(&mut self, conn: ConnKey, info_hash: InfoHash) {
        let mut all = Bitfield::new(PIECES);
        for piece in (0..PIECES).map(PieceIndex) {
            all.set(piece);
        }
        let hello = PeerHello {
            peer_id: PeerId([2; 20]),
            info_hash,
            features: Features::default(),
            encryption: Encryption::default(),
            client: None,
            listen_port: None,
            request_queue_max: None,
            metadata_len: None,
            our_ip: None,
            ipv4: None,
            ipv6: None,
            upload_only: true,
            prefers_encryption: false,
        };
        for event in [
            PeerEvent::Ready(Box::new(hello)),
            PeerEvent::Window(WINDOW),
            PeerEvent::HasPieces(all),
            PeerEvent::Unchoked,
        ] {
            let input = Input::Peer { conn, event };
            self.shard.handle(self.now, input, &mut self.out);
        }
    }

    /// The block that was asked for first comes; false if all have come.
    fn step(&mut self) -> bool {
        let Some((conn, span)) = self.requested.pop_front() else {
            return false;
        };
        let block = self.block.clone();
        let event = PeerEvent::Received { span, block };
        self.input(Input::Peer { conn, event });
        true
    }
}

fn choose(c: &mut Criterion) {
    let mut download = Download::new();
    assert_eq!(download.info.layout().piece_count(), PIECES);
    c.bench_function("choose the next block, of 65536 and 40 peers", |b| {
        b.iter(|| {
            if !download.step() {
                download = Download::new();
            }
        });
    });
}

criterion_group!(benches, choose);
criterion_main!(benches);
