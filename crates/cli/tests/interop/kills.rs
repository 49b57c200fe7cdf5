//! The program is killed again and again while it downloads: it goes on where it was, and never believes too much.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use riverrun_base::{BlockSpan, ByteSize, PieceIndex, Rng};
use riverrun_metainfo::Metainfo;
use tempfile::TempDir;

use crate::payload::{Payload, Shape};
use crate::riverrun::{PATIENCE, Riverrun, run};

/// Downloads at the same time, each with a home of its own.
const DOWNLOADS: usize = 5;
/// How often each is killed.
const KILLS_EACH: u32 = 10;
/// What a kill may cost: the pieces that were under way, and what was between the sockets.
const LOST_BYTES_MAX: u64 = 2 << 20;
/// What the seeder sends a second, to all: a download takes long enough to be killed several times.
const UPLOAD_RATE: &str = "16MiB";

/// What is downloaded, and from where.
struct Stage {
    dir: TempDir,
    payload: Payload,
    torrents: Vec<PathBuf>,
    addr: String,
}

impl Stage {
    /// Sets the stage, with a seeder.
    fn set() -> (Self, Riverrun) {
        let dir = TempDir::new().unwrap();
        let published = dir.path().join("published");
        fs::create_dir(&published).unwrap();
        let payload = Payload::write(&published, Shape::Medium, 9);
        let torrents: Vec<_> = ["--v1", "--v2", "--hybrid"]
            .iter()
            .map(|version| {
                let path = dir.path().join(format!("{version}.torrent"));
                let (of, output) = (payload.path(), path.to_str().unwrap());
                let of = of.to_str().unwrap();
                run(
                    dir.path(),
                    &[
                        "create", of, "-o", output, version, "--piece", "256KiB", "-q",
                    ],
                );
                path
            })
            .collect();
        let mut args = vec![
            "seed",
            "--listen",
            "127.0.0.1:0",
            "--limit-up",
            UPLOAD_RATE,
            "-o",
        ];
        args.push(published.to_str().unwrap());
        args.extend(torrents.iter().map(|path| path.to_str().unwrap()));
        let mut seeder = Riverrun::start(dir.path(), &args);
        let mut addr = String::new();
        for _ in &torrents {
            let event = seeder.wait_for("seeding");
            event["listen"][0].as_str().unwrap().clone_into(&mut addr);
        }
        (
            Self {
                dir,
                payload,
                torrents,
                addr,
            },
            seeder,
        )
    }
}

/// What a seeder of so many torrents has sent in all, once nobody asks for more.
fn uploaded_bytes(seeder: &mut Riverrun, torrents: usize) -> u64 {
    let mut last = u64::MAX;
    // What it said while nobody listened is of the past.
    let mut newest = || {
        seeder.forget();
        (0..torrents)
            .map(|_| {
                seeder.wait_for("progress")["uploaded_bytes"]
                    .as_u64()
                    .unwrap()
            })
            .sum()
    };
    loop {
        let sum = newest();
        if sum == last {
            return sum;
        }
        last = sum;
    }
}

/// One download, killed and started again.
struct Download<'a> {
    stage: &'a Stage,
    number: usize,
    /// Each whole download is followed by another.
    round: u32,
    metainfo: Metainfo,
    rng: Rng,
    kills: u32,
}

impl<'a> Download<'a> {
    fn new(stage: &'a Stage, number: usize) -> Self {
        let torrent = &stage.torrents[number % stage.torrents.len()];
        Self {
            stage,
            number,
            round: 0,
            metainfo: Metainfo::from_bytes(&fs::read(torrent).unwrap()).unwrap(),
            rng: Rng::new(number as u64),
            kills: 0,
        }
    }

    fn home(&self) -> PathBuf {
        let name = format!("download {} {}", self.number, self.round);
        let home = self.stage.dir.path().join(name);
        fs::create_dir_all(&home).unwrap();
        home
    }

    fn start(&self) -> Riverrun {
        let torrent = &self.stage.torrents[self.number % self.stage.torrents.len()];
        let torrent = torrent.to_str().unwrap();
        let peer = &self.stage.addr;
        Riverrun::start(
            &self.home(),
            &[
                "get",
                torrent,
                "-o",
                "taken",
                "--listen",
                "127.0.0.1:0",
                "--peer",
                peer,
            ],
        )
    }

    /// A moment for a kill: while it starts, while it goes on, or after the first claims.
    fn moment(&mut self) -> Duration {
        let span_ms = [300, 2_000, 7_000][self.rng.below(3)];
        Duration::from_millis(self.rng.below(span_ms) as u64)
    }

    /// Downloads until it was killed often enough and all is there. Gives how many times all was there.
    fn run(&mut self) -> u32 {
        loop {
            let mut ours = self.start();
            if self.kills < KILLS_EACH {
                let moment = self.moment();
                if !ours.ends_within(moment) {
                    ours.kill();
                    self.kills += 1;
                    self.check_claims();
                    continue;
                }
            }
            let code = ours.wait();
            assert!(
                code.success(),
                "download {} after {} kills: {code}",
                self.number,
                self.kills
            );
            self.stage
                .payload
                .assert_copied_to(&self.home().join("taken"), true);
            self.check_claims();
            self.round += 1;
            if self.kills == KILLS_EACH {
                return self.round;
            }
        }
    }

    /// Each piece that the journal claims is on disk as it was published.
    fn check_claims(&self) {
        let pieces = claimed(&self.home(), self.metainfo.info.layout().piece_count());
        for piece in pieces {
            assert!(
                self.is_right(piece),
                "download {}: after kill {} piece {piece} is claimed and wrong",
                self.number,
                self.kills
            );
        }
    }

    fn is_right(&self, piece: PieceIndex) -> bool {
        let layout = self.metainfo.info.layout();
        let span = BlockSpan {
            piece,
            offset: 0,
            len: layout.piece_len(piece),
        };
        let taken = self.home().join("taken");
        layout.slices(span).all(|slice| {
            let file = layout.file(slice.file).unwrap();
            if file.is_pad() {
                return true;
            }
            let read = |root: &Path| {
                let mut bytes = vec![0; slice.len as usize];
                let file = fs::File::open(root.join(file.path.to_path_buf())).ok()?;
                file.read_exact_at(&mut bytes, slice.offset).ok()?;
                Some(bytes)
            };
            read(&taken).is_some_and(|bytes| Some(bytes) == read(self.stage.payload.parent()))
        })
    }
}

/// The pieces that the journals below `home` claim, read as the format is documented, by other code than the
/// program's own.
fn claimed(home: &Path, piece_count: u32) -> Vec<PieceIndex> {
    let mut claimed = vec![false; piece_count as usize];
    let Ok(journals) = fs::read_dir(home.join(".local/state/riverrun/journal")) else {
        return Vec::new();
    };
    for journal in journals.map(|entry| entry.unwrap().path()) {
        // What is not renamed yet is no journal.
        if journal.extension().is_some_and(|ending| ending == "claims") {
            replay(&fs::read(journal).unwrap(), &mut claimed);
        }
    }
    let pieces = (0..).zip(claimed);
    pieces
        .filter_map(|(index, claimed)| claimed.then_some(PieceIndex(index)))
        .collect()
}

fn replay(journal: &[u8], claimed: &mut [bool]) {
    const DURABLE: u8 = 4;
    const WRITING_OR_FORGOTTEN: [u8; 2] = [3, 5];
    let u32_at = |at: usize| u32::from_le_bytes(journal[at..at + 4].try_into().unwrap());
    let Some(mut rest) = journal.strip_prefix(b"RRCLAIM1") else {
        return;
    };
    let mut check = [0; 8].to_vec();
    while rest.len() >= 5 {
        let at = journal.len() - rest.len();
        let body_len = u32_at(at) as usize;
        let Some((record, after)) = rest.split_at_checked(5 + body_len + 8) else {
            return;
        };
        let (sealed, stored) = record.split_at(5 + body_len);
        check.extend_from_slice(sealed);
        check = riverrun_hash::sha256(&check).0[..8].to_vec();
        if check != stored {
            return;
        }
        if record[4] == DURABLE || WRITING_OR_FORGOTTEN.contains(&record[4]) {
            for range in (at + 5..at + 5 + body_len).step_by(8) {
                let (first, count) = (u32_at(range) as usize, u32_at(range + 4) as usize);
                claimed[first..first + count].fill(record[4] == DURABLE);
            }
        }
        rest = after;
    }
}

#[test]
fn a_download_that_is_killed_goes_on_and_claims_nothing_wrong() {
    let since = Instant::now();
    let (stage, mut seeder) = Stage::set();
    let whole: u32 = std::thread::scope(|scope| {
        let stage = &stage;
        let downloads: Vec<_> = (0..DOWNLOADS)
            .map(|number| scope.spawn(move || Download::new(stage, number).run()))
            .collect();
        downloads
            .into_iter()
            .map(|download| download.join().unwrap())
            .sum()
    });
    let kills = u64::from(KILLS_EACH) * DOWNLOADS as u64;
    let needed = u64::from(whole) * stage.payload.len_bytes();
    let lost = uploaded_bytes(&mut seeder, stage.torrents.len()).saturating_sub(needed);
    eprintln!(
        "{kills} kills, {whole} downloads of {} in {:.1} s; {} came twice, {} a kill",
        ByteSize(stage.payload.len_bytes()),
        since.elapsed().as_secs_f64(),
        ByteSize(lost),
        ByteSize(lost / kills),
    );
    assert!(
        lost <= kills * LOST_BYTES_MAX,
        "{} came twice",
        ByteSize(lost)
    );
    assert!(since.elapsed() < PATIENCE * 5);
}
