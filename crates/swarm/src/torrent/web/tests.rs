use std::sync::Arc;

use riverrun_base::{Block, BlockSpan, PeerId, PieceIndex, Sha1Digest};
use riverrun_metainfo::{PieceHashes, PieceLayers};
use riverrun_peer::{PeerCommand, PeerEvent};

use super::*;
use crate::{
    AddTorrent, BlockDigests, Config, Input, Limits, Outbox, Priority, Shard, StorageDone,
    StorageJob, TorrentCommand, TorrentKey, TorrentOptions, WebSeed, Why, sample,
};

const PIECES: u32 = 100;
const TORRENT: TorrentKey = TorrentKey::new(0, 0);
const URLS: [&str; 3] = ["http://a/x", "http://b/x", "http://c/x"];

/// A shard with one torrent that has web seeds and no peers, and what it wants done.
struct Bench {
    shard: Shard,
    out: Outbox,
    now: Time,
    /// Connections to web seeds, in the order in which they were opened, and where they lead.
    open: Vec<(ConnKey, String)>,
    /// What each owes, in order.
    owed: Vec<(ConnKey, BlockSpan)>,
    events: Vec<Event>,
}

impl Bench {
    fn new(urls: &[&str]) -> Self {
        Self::with(urls, |_, _| {})
    }

    fn with(urls: &[&str], change: impl FnOnce(&mut Config, &mut TorrentOptions)) -> Self {
        let (mut config, mut options) =
            (Config::new(PeerId([1; 20]), 1), TorrentOptions::default());
        change(&mut config, &mut options);
        let info = sample::pieces(PIECES);
        let seed = |url: &&str| WebSeed {
            url: url.parse().unwrap(),
            is_from_user: false,
        };
        let add = AddTorrent {
            request: 1,
            hashes: info.hashes(),
            metadata: Some((info.clone(), PieceHashes::new(&info, &PieceLayers::new()))),
            summary: None,
            trackers: Vec::new(),
            peers: Vec::new(),
            web_seeds: urls.iter().map(seed).collect(),
            options,
            uploaded_bytes: 0,
            downloaded_bytes: 0,
        };
        let mut bench = Self {
            shard: Shard::new(Arc::new(config), 1),
            out: Outbox::default(),
            now: Time::from_secs(1),
            open: Vec::new(),
            owed: Vec::new(),
            events: Vec::new(),
        };
        bench.input(Input::Add(Box::new(add)));
        let none = Bitfield::new(PIECES);
        bench.storage(StorageDone::Opened {
            have: none.clone(),
            unchecked: none,
        });
        bench
    }

    fn input(&mut self, input: Input) {
        self.shard.handle(self.now, input, &mut self.out);
        self.settle();
    }

    fn storage(&mut self, done: StorageDone) {
        let torrent = TORRENT;
        self.input(Input::Storage { torrent, done });
    }

    fn command(&mut self, command: TorrentCommand) {
        let torrent = TORRENT;
        self.input(Input::Torrent { torrent, command });
    }

    /// Lets time pass until nothing is due before `until`.
    fn pass(&mut self, until: Time) {
        while let Some(due) = self.shard.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.shard.handle_timeout(self.now, &mut self.out);
            self.settle();
        }
        self.now = until;
    }

    fn settle(&mut self) {
        self.shard.check_invariants();
        for action in self.out.net.drain(..) {
            if let NetAction::OpenWebSeed { conn, seed, .. } = action {
                self.open.push((conn, seed.url.as_str().to_owned()));
            }
        }
        let mut closed = Vec::new();
        for (conn, command) in self.out.peers.drain(..) {
            match command {
                PeerCommand::Request(spans) => {
                    self.owed.extend(spans.into_iter().map(|span| (conn, span)));
                }
                PeerCommand::Cancel(span) => self.owed.retain(|owed| *owed != (conn, span)),
                PeerCommand::Close(why) => closed.push((conn, why)),
                _ => {}
            }
        }
        self.events.append(&mut self.out.events);
        for (conn, why) in closed {
            self.closed(conn, why);
        }
        let jobs: Vec<_> = self.out.storage.drain(..).collect();
        for (_, job) in jobs {
            match job {
                StorageJob::Close => self.storage(StorageDone::Closed),
                StorageJob::Sync => self.storage(StorageDone::Synced),
                _ => {}
            }
        }
    }

    fn closed(&mut self, conn: ConnKey, why: CloseReason) {
        self.open.retain(|(open, _)| *open != conn);
        self.owed.retain(|(by, _)| *by != conn);
        self.input(Input::PeerClosed { conn, why });
    }

    fn fail(&mut self, failure: WebSeedFailure) {
        let (conn, _) = self.open[0];
        self.closed(conn, CloseReason::WebSeed(failure));
    }

    /// The web seed that was asked first gives the first block that it owes; which.
    fn give(&mut self) -> BlockSpan {
        let (conn, span) = self.owed.remove(0);
        let block = Block::unbudgeted(&vec![0; span.len as usize]);
        self.input(Input::Peer {
            conn,
            event: PeerEvent::Received { span, block },
        });
        span
    }

    /// Has web seeds give until a piece is whole, which is found to be right or wrong.
    fn give_piece(&mut self, is_right: bool) -> PieceIndex {
        loop {
            let span = self.give();
            if span.offset + span.len < 1 << 16 {
                continue;
            }
            let piece = span.piece;
            let digests = vec![Sha1Digest([1; 20]); 4];
            self.storage(if is_right {
                StorageDone::Verified(piece)
            } else {
                let blocks = BlockDigests::V1(digests);
                StorageDone::Failed { piece, blocks }
            });
            return piece;
        }
    }

    fn urls(&self) -> Vec<&str> {
        let mut urls: Vec<_> = self.open.iter().map(|(_, url)| url.as_str()).collect();
        urls.sort_unstable();
        urls
    }

    fn failures(&self) -> Vec<(&str, &str, Option<Duration>)> {
        let told = self.events.iter().filter_map(|event| match event {
            Event::WebSeedFailed {
                url,
                message,
                retry,
                ..
            } => Some((url.as_str(), message.as_str(), *retry)),
            _ => None,
        });
        told.collect()
    }
}

fn busy(retry_after: Option<Duration>) -> WebSeedFailure {
    WebSeedFailure::Failed {
        message: "503".to_owned(),
        retry_after,
    }
}

/// The lengths of the runs of blocks that lie together.
fn runs(owed: &[(ConnKey, BlockSpan)]) -> Vec<usize> {
    let block = |span: &BlockSpan| u64::from(span.piece.0) * 4 + u64::from(span.offset >> 14);
    let mut runs = vec![1];
    for pair in owed.windows(2) {
        if block(&pair[1].1) == block(&pair[0].1) + 1 {
            *runs.last_mut().unwrap() += 1;
        } else {
            runs.push(1);
        }
    }
    runs
}

#[test]
fn a_torrent_without_peers_comes_from_a_web_seed_in_long_runs() {
    let mut bench = Bench::new(&URLS[..1]);
    assert_eq!(runs(&bench.owed), [64], "{:?}", bench.owed);
    // It is asked again when half of that has come, and goes on where it was.
    let mut asked = Vec::new();
    while bench.shard.stats(bench.now, TORRENT).unwrap().verified < PIECES {
        let before = bench.owed.len();
        bench.give_piece(true);
        if bench.owed.len() + 4 > before {
            asked.push(bench.owed.len() + 4 - before);
        }
    }
    assert!(asked.len() < 20, "asked often: {asked:?}");
    assert_eq!(bench.urls(), [""; 0], "it is let go");
    assert_eq!(
        bench.shard.web_seeds(bench.now, TORRENT)[0].downloaded_bytes,
        100 << 16
    );
    assert_eq!(bench.failures(), []);
}

#[test]
fn several_begin_in_several_places_and_nothing_comes_twice() {
    let bench = Bench::new(&URLS);
    assert_eq!(bench.urls(), URLS);
    let mut spans: Vec<_> = bench.owed.iter().map(|(_, span)| *span).collect();
    let count = spans.len();
    spans.sort_unstable();
    spans.dedup();
    assert_eq!(spans.len(), count);
    assert!(runs(&bench.owed).len() <= 5, "{:?}", bench.owed);
}

#[test]
fn one_that_fails_is_used_again_after_a_while_and_what_it_owed_comes_from_others() {
    let mut bench = Bench::new(&URLS[..1]);
    bench.fail(busy(None));
    let [(url, message, Some(wait))] = bench.failures()[..] else {
        panic!("{:?}", bench.failures())
    };
    assert_eq!((url, message), (URLS[0], "503"));
    let why = bench.shard.why(bench.now, TORRENT).unwrap();
    assert!(matches!(why, Why::WebSeedDown { .. }), "{why}");
    let ready = bench.now + wait;
    bench.pass(bench.now + wait * 99 / 100);
    assert_eq!((bench.urls(), bench.owed.len()), (vec![], 0));
    bench.pass(ready);
    assert_eq!((bench.urls(), bench.owed.len()), (vec![URLS[0]], 64));
    bench.fail(busy(Some(Duration::from_secs(100))));
    assert_eq!(bench.failures()[1].2, Some(Duration::from_secs(100)));
}

#[test]
fn wrong_data_ends_it_for_good_and_the_piece_comes_from_another() {
    let mut bench = Bench::new(&URLS[..2]);
    let liar = bench.owed[0].0;
    let (_, url) = bench.open.iter().find(|(conn, _)| *conn == liar).unwrap();
    let url = url.clone();
    let piece = bench.give_piece(false);
    assert_eq!(
        bench.failures(),
        [(url.as_str(), "it gave wrong data", None)]
    );
    bench.pass(bench.now + Duration::from_hours(5));
    assert!(!bench.urls().contains(&url.as_str()));
    while bench.give_piece(true) != piece {}
}

#[test]
fn one_that_has_something_else_is_never_used_again() {
    let mut bench = Bench::new(&URLS[..1]);
    bench.fail(WebSeedFailure::Unfit("404".to_owned()));
    assert_eq!(bench.failures(), [(URLS[0], "404", None)]);
    bench.pass(bench.now + Duration::from_hours(5));
    assert_eq!(bench.urls(), [""; 0]);
    let status = &bench.shard.web_seeds(bench.now, TORRENT)[0].status;
    assert_eq!(*status, WebSeedStatus::Off("404".to_owned()));
}

#[test]
fn what_a_web_seed_turns_out_not_to_have_is_not_asked_of_it() {
    let mut bench = Bench::new(&URLS[..1]);
    let conn = bench.open[0].0;
    let asked = bench.owed[0].1;
    for piece in (0..PIECES).map(PieceIndex).filter(|piece| piece.0 != 7) {
        let event = PeerEvent::LostPiece(piece);
        bench.input(Input::Peer { conn, event });
    }
    for (_, span) in std::mem::take(&mut bench.owed) {
        let event = PeerEvent::Rejected(span);
        bench.input(Input::Peer { conn, event });
    }
    bench.pass(bench.now + Duration::from_mins(10));
    let left: Vec<_> = bench.owed.iter().map(|(_, span)| span.piece.0).collect();
    assert!(
        left.iter().all(|piece| *piece == 7),
        "{left:?} after {asked:?}"
    );
}

#[test]
fn none_is_used_while_the_torrent_is_stopped_or_has_all_or_they_are_off() {
    let off = Bench::with(&URLS, |config, _| config.uses_web_seeds = false);
    assert_eq!(off.urls(), [""; 0]);
    let stopped = Bench::with(&URLS, |_, options| options.start = false);
    assert_eq!(stopped.urls(), [""; 0]);
    let mut bench = Bench::new(&URLS);
    bench.command(TorrentCommand::Stop);
    assert_eq!((bench.urls(), bench.owed.len()), (vec![], 0));
    bench.command(TorrentCommand::Start);
    let none = Bitfield::new(PIECES);
    bench.storage(StorageDone::Opened {
        have: none.clone(),
        unchecked: none,
    });
    assert_eq!(bench.urls(), URLS);
    bench.command(TorrentCommand::UploadOnly(true));
    assert_eq!(bench.owed.len(), 0);
    bench.command(TorrentCommand::UploadOnly(false));
    assert!(!bench.owed.is_empty());
    bench.command(TorrentCommand::Priorities(vec![Priority::Skip]));
    assert_eq!(bench.owed.len(), 0);
    bench.input(Input::Offline);
    assert_eq!(bench.urls(), [""; 0]);
}

#[test]
fn limits_hold_for_web_seeds() {
    let limits = Limits {
        download: Some(Rate::from_bytes_per_second(100_000)),
        upload: None,
    };
    let mut bench = Bench::with(&URLS[..1], |_, options| options.limits = limits);
    let mut granted = 0;
    for _ in 0..100 {
        bench.now += Duration::from_millis(100);
        bench.shard.handle_timeout(bench.now, &mut bench.out);
        for (_, command) in &bench.out.peers {
            if let PeerCommand::Credit(credit) = command {
                granted += credit.receive_bytes.unwrap();
            }
        }
        bench.settle();
    }
    assert!(
        (1..=1_200_000).contains(&granted),
        "{granted} bytes in 10 s"
    );
}

#[test]
fn torrents_share_the_places_at_a_server() {
    let mut servers = Servers::default();
    let url: TrackerUrl = URLS[0].parse().unwrap();
    for n in 0..3 {
        servers.open(ConnKey::new(n, 0), url.clone());
    }
    servers.open(ConnKey::new(9, 0), URLS[1].parse().unwrap());
    assert_eq!(servers.of(&"http://a/other".parse().unwrap()), 3);
    servers.close(ConnKey::new(1, 0));
    assert_eq!(servers.of(&url), 2);
}
