//! `riverrun demo`: a swarm on this machine, to look at.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use riverrun_base::{ByteSize, Rate};
use riverrun_metainfo::Metainfo;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::create;
use crate::demo::{Account, Bound, Look, Picture, Place, Story, Swarm, folder, verify_copies};
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::screen::{Screen, Surroundings};
use crate::signals::{Interrupt, Interrupts};
use crate::summary::count;
use crate::transfer::{self, Progress, hashes_json, joined};
use crate::values::PieceSize;

/// How often the swarm is looked at.
const TICK: Duration = Duration::from_millis(50);
/// JSON events of progress come this often.
const JSON_INTERVAL: Duration = Duration::from_secs(1);
/// A swarm in which no byte moves for this long, and the time that it should take at best, is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// The arguments of `demo`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
One peer, the seeder S, has a folder; the others, A, B, C …, want it. All are whole BitTorrent clients with
connections, files and state of their own, in this process; a tracker tells them of each other. Each may send
only so much a second, as at home. The picture shows which pieces each has, what it gets and gives, and from whom.
At the end every copy is verified. Nothing leaves this machine, and without --keep nothing stays on it.")]
pub(crate) struct Demo {
    /// Share this folder or file, which is only read [default: a folder made for it]
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// How many peers want it
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    peers: u8,
    /// How large the folder is that is made
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "16MiB",
        conflicts_with = "folder"
    )]
    size: ByteSize,
    /// What each of them, the seeder too, can send at most
    #[arg(long, value_name = "RATE", default_value = "4MB/s")]
    up: Rate,
    /// Length of the pieces: auto, or like 1MiB
    #[arg(long, value_name = "SIZE", default_value = "auto")]
    piece: PieceSize,
    /// Keep what all of them have, in DIR if it is named
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    #[expect(
        clippy::option_option,
        reason = "no flag, a flag alone, a flag with a value"
    )]
    keep: Option<Option<PathBuf>>,
}

/// What is shared, and where it lies.
struct Shared {
    metainfo: Metainfo,
    dir: PathBuf,
}

/// Runs the command.
pub(crate) fn run(args: &Demo, around: &Surroundings, screen: &mut Screen) -> Outcome {
    let up = NonZero::new(args.up.bytes_per_second())
        .ok_or_else(|| Failure::say(ExitCode::Usage, "with --up 0 nothing would ever move"))?;
    if args.size.0 == 0 {
        return Err(Failure::say(
            ExitCode::Usage,
            "with --size 0 there is nothing to share",
        ));
    }
    transfer::block_on(perform(args, up, around, screen))
}

/// Makes the folder, unless it is given, and its torrent.
async fn publish(
    args: &Demo,
    place: &Place,
    around: &Surroundings,
    screen: &mut Screen,
) -> Outcome<Shared> {
    if let Some(path) = &args.folder {
        screen.say(format!("hashing {}", path.display()));
        return share(path, args.piece, around, screen).await;
    }
    let made = folder::make(&place.dir("seeder"), args.size).await?;
    share(&made, args.piece, around, screen).await
}

async fn share(
    path: &Path,
    piece: PieceSize,
    around: &Surroundings,
    screen: &mut Screen,
) -> Outcome<Shared> {
    let metainfo = create::describe(path, piece, around, screen).await?;
    let full = around.path(path).canonicalize();
    let full = full.map_err(|e| Failure::io(path, e))?;
    // Invariant: what has a name to make a torrent of has a parent.
    let dir = full.parent().unwrap_or(&full).to_owned();
    Ok(Shared { metainfo, dir })
}

async fn perform(
    args: &Demo,
    up: NonZero<u64>,
    around: &Surroundings,
    screen: &mut Screen,
) -> Outcome {
    let mut interrupts = Interrupts::listen()?;
    let place = match &args.keep {
        None => Place::passing()?,
        Some(None) => Place::kept()?,
        Some(Some(dir)) => Place::named(dir, around)?,
    };
    let shared = interrupts.finish(publish(args, &place, around, screen));
    let shared = shared.await.map_err(Interrupt::into_failure)??;
    let mut swarm = Swarm::default();
    let told = spread(
        args,
        &shared,
        up,
        &place,
        &mut swarm,
        &mut interrupts,
        screen,
    )
    .await;
    let left = interrupts.finish(swarm.shutdown()).await;
    let told = told?;
    left.map_err(Interrupt::into_failure)?;
    conclude(&shared, told, &place, &mut interrupts, screen).await
}

/// What there is to tell when all have everything.
struct Told {
    account: Account,
    bound: Bound,
    seconds: f64,
}

/// Starts everyone and watches until all have everything.
async fn spread(
    args: &Demo,
    shared: &Shared,
    up: NonZero<u64>,
    place: &Place,
    swarm: &mut Swarm,
    interrupts: &mut Interrupts,
    screen: &mut Screen,
) -> Outcome<Told> {
    let bound = Bound::new(
        shared.metainfo.info.layout().payload_len(),
        up,
        args.peers.into(),
    );
    let gathered = gather(args, shared, place, swarm);
    let gathered = interrupts.finish(gathered).await;
    gathered.map_err(Interrupt::into_failure)??;
    let mut progress = Progress::new(screen);
    introduce(shared, swarm, bound, up, &mut progress)?;
    let mut show = Show::new(swarm, bound, &mut progress);
    let finished = interrupts.finish(show.run(swarm)).await;
    let finished = finished.map_err(Interrupt::into_failure);
    show.picture.clear();
    let last = finished??;
    Ok(Told {
        account: show.account,
        bound,
        seconds: last.at.as_secs_f64(),
    })
}

async fn gather(args: &Demo, shared: &Shared, place: &Place, swarm: &mut Swarm) -> Outcome {
    swarm.track().await?;
    swarm
        .join_seeder(&shared.metainfo, &shared.dir, args.up, place)
        .await?;
    for _ in 0..args.peers {
        swarm.join_peer(&shared.metainfo, args.up, place).await?;
    }
    Ok(())
}

/// Says what is going to be seen.
fn introduce(
    shared: &Shared,
    swarm: &Swarm,
    bound: Bound,
    up: NonZero<u64>,
    progress: &mut Progress<'_>,
) -> Outcome {
    let info = &shared.metainfo.info;
    let layout = info.layout();
    let names: Vec<String> = swarm.names().map(String::from).collect();
    let files = layout.files().iter().filter(|file| !file.is_pad()).count();
    let event = json!({
        "event": "started",
        "name": info.name(),
        "bytes": layout.payload_len(),
        "files": files,
        "pieces": layout.piece_count(),
        "piece_len": layout.nominal_piece_len(),
        "peers": names,
        "up_bytes_per_s": up,
        "tracker": swarm.tracker_url(),
        "bound_seconds": bound.seconds(),
        "alone_seconds": bound.alone_seconds(),
    });
    progress.event(&joined(event, hashes_json(info.hashes())))?;
    let size = ByteSize(layout.payload_len());
    let (files, pieces) = (
        count(files, "file"),
        count(layout.piece_count() as usize, "piece"),
    );
    for line in prologue(
        &format!("{} ({size} in {files})", info.name()),
        &pieces,
        &names,
        bound,
        up,
    ) {
        progress.say(line);
    }
    Ok(())
}

/// The picture in words, before it begins.
fn prologue(
    what: &str,
    pieces: &str,
    names: &[String],
    bound: Bound,
    up: NonZero<u64>,
) -> [String; 6] {
    let (wanting, find) = match names {
        [_, one] => (format!("{one} wants"), "finds"),
        [_, first @ .., last] => (format!("{} and {last} want", first.join(", ")), "find"),
        _ => (String::new(), ""),
    };
    let up = Rate::from_bytes_per_second(up.get());
    let (alone, least) = (bound.alone_seconds(), bound.seconds());
    [
        format!("S, the seeder, has {what}."),
        format!("It is cut into {pieces}, each known by its hash: nothing false gets by."),
        format!("{wanting} it, and {find} the others through a tracker."),
        format!("None can send more than {up}. If S sent a whole copy to each, it would take"),
        format!("{alone:.1} s. No swarm whatever can do it in less than {least:.1} s. Watch:"),
        String::new(),
    ]
}

/// The swarm on the screen while it works.
struct Show<'a, 'b> {
    bound: Bound,
    picture: Picture,
    story: Story,
    account: Account,
    progress: &'a mut Progress<'b>,
    reported_at: Instant,
}

impl<'a, 'b> Show<'a, 'b> {
    fn new(swarm: &Swarm, bound: Bound, progress: &'a mut Progress<'b>) -> Self {
        let names: Vec<char> = swarm.names().collect();
        Self {
            bound,
            picture: Picture::new(&names, bound, progress),
            story: Story::new(&names),
            account: Account::new(&names, bound.payload_bytes()),
            progress,
            reported_at: Instant::now(),
        }
    }

    /// Lets the peers begin, and follows them until all have everything.
    async fn run(&mut self, swarm: &mut Swarm) -> Outcome<Look> {
        let patience = PATIENCE + Duration::from_secs_f64(self.bound.seconds());
        let began = Instant::now();
        swarm.begin().await?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut moved, mut moved_at) = (0, began);
        loop {
            tick.tick().await;
            let look = swarm.look(began).await?;
            self.tell(&look)?;
            if look.is_over() {
                return Ok(look);
            }
            if look.downloaded_bytes() != moved {
                (moved, moved_at) = (look.downloaded_bytes(), Instant::now());
            }
            if moved_at.elapsed() >= patience {
                return Err(stalled(moved_at.elapsed()));
            }
        }
    }

    fn tell(&mut self, look: &Look) -> Outcome {
        self.account.note(look);
        for milestone in self.story.follow(look, &self.account) {
            self.progress.event(&milestone.to_json(look.at))?;
            self.progress.say(milestone.sentence(look.at));
        }
        self.picture.update(look, &self.account);
        if self.progress.is_json() && self.reported_at.elapsed() >= JSON_INTERVAL {
            self.reported_at = Instant::now();
            for event in look.events() {
                self.progress.event(&event)?;
            }
        }
        Ok(())
    }
}

fn stalled(waited: Duration) -> Failure {
    let waited = transfer::duration(waited);
    Failure::say(
        ExitCode::Incomplete,
        format!("no byte has moved for {waited}"),
    )
    .hint("this should not happen: -vv shows what the parts do")
}

/// Verifies all copies, and says what was seen.
async fn conclude(
    shared: &Shared,
    told: Told,
    place: &Place,
    interrupts: &mut Interrupts,
    screen: &mut Screen,
) -> Outcome {
    let Told {
        account,
        bound,
        seconds,
    } = told;
    let copies: Vec<_> = account
        .receivers()
        .map(|name| place.copy_of(name))
        .collect();
    let verified = interrupts
        .finish(verify_copies(&shared.metainfo, copies))
        .await;
    let verified = verified.map_err(Interrupt::into_failure)??;
    let event = json!({
        "event": "done",
        "seconds": seconds,
        "bound_seconds": bound.seconds(),
        "ratio": bound.ratio(seconds),
        "seeder_copies": account.seeder_copies(),
        "verified": verified,
    });
    screen.event(&joined(event, account.to_json()))?;
    if !verified {
        return Err(Failure::say(
            ExitCode::Mismatch,
            "a copy is not what S has: this is a bug in riverrun",
        ));
    }
    screen.say("");
    let seeds = account.receivers().count() + 1;
    screen.done(format!(
        "one seeder became {seeds} in {seconds:.1} s, and every copy is verified, byte for byte"
    ));
    for line in account
        .table()
        .into_iter()
        .chain(account.lesson(bound, seconds))
    {
        screen.say(line);
    }
    if let Some(dir) = place.lasting() {
        screen.say(format!("All of it is kept in {}", dir.display()));
    }
    Ok(())
}
