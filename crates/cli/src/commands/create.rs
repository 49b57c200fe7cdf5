//! `riverrun create`: a torrent file of a file or a directory.

use std::path::{Path, PathBuf};

use riverrun_base::ByteSize;
use riverrun_metainfo::create::{
    CREATE_PIECE_LEN_MAX, CreateOptions, HASH_BUDGET_BYTES, Plan, PlanError,
};
use riverrun_metainfo::{HostPort, MetaVersion, Metainfo};
use riverrun_storage::create::{HashError, WalkError, WalkOptions, Walked, hash, walk};
use serde_json::json;

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::progress::{background, threads, watched};
use crate::replace::{IfExists, check_target, write_file};
use crate::screen::{Screen, Surroundings};
use crate::summary::{count, hash_texts, piece_length};
use crate::values::{CreationDate, PathGlob, PieceSize, TrackerTier, WebSeed};

/// The arguments of `create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// The file or directory to share
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Write the torrent here, - is stdout [default: NAME.torrent in the current directory]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace FILE if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    content: Content,
}

/// What goes into the torrent.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "The torrent")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Content {
    /// Metadata that all clients read (SHA-1)
    #[arg(long, conflicts_with_all = ["v2", "hybrid"])]
    v1: bool,
    /// Metadata of BEP 52 alone (SHA-256)
    #[arg(long, conflicts_with = "hybrid")]
    v2: bool,
    /// Both: the default
    #[arg(long)]
    hybrid: bool,
    /// A tracker; again for another tier, with commas for the same
    #[arg(short, long, value_name = "URL[,URL…]")]
    tracker: Vec<TrackerTier>,
    /// A web server that has the files
    #[arg(short, long, value_name = "URL")]
    web_seed: Vec<WebSeed>,
    /// A DHT node to start from
    #[arg(long, value_name = "HOST:PORT")]
    node: Vec<HostPort>,
    /// Peers may come from the trackers only
    #[arg(long)]
    private: bool,
    /// The key `source`, which makes another torrent of the same files
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// A text for people
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Leave out what matches, and all below it
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<PathGlob>,
    /// now, none, seconds since 1970, or like 2026-11-21T08:30:00Z
    #[arg(long, value_name = "DATE", default_value = "now")]
    date: CreationDate,
    /// Length of the pieces: auto, or like 1MiB
    #[arg(long, value_name = "SIZE", default_value = "auto")]
    piece: PieceSize,
    /// The name of the torrent [default: that of PATH]
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
}

pub(crate) fn run(args: &Create, around: &Surroundings, screen: &mut Screen) -> Outcome {
    let job = Job::new(&args.path, &args.content, around)?;
    let output = args.output.clone().unwrap_or_else(|| job.default_output());
    let if_exists = if args.force {
        IfExists::Replace
    } else {
        IfExists::Refuse
    };
    let to_stdout = output == Path::new("-");
    if !to_stdout {
        check_target(&around.cwd, &output, if_exists)?;
    }
    let (metainfo, rate) = job.make(&args.content, &around.path(&output), around, screen)?;
    let bytes = metainfo.to_bytes();
    if to_stdout {
        return screen.torrent_bytes(&bytes);
    }
    write_file(&around.cwd, &output, &bytes, if_exists)?;
    tell(&metainfo, &output, rate, screen)
}

/// Makes the torrent of a path that is to be seeded, and writes it beside the user unless it is there already.
pub(crate) fn publish(
    path: &Path,
    content: &Content,
    around: &Surroundings,
    screen: &mut Screen,
) -> Outcome<Metainfo> {
    let job = Job::new(path, content, around)?;
    let output = job.default_output();
    let (metainfo, _) = job.make(content, &around.path(&output), around, screen)?;
    match write_file(&around.cwd, &output, &metainfo.to_bytes(), IfExists::Refuse) {
        Ok(()) => screen.done(format!("{} written", output.display())),
        Err(failure) if failure.code == ExitCode::Exists => {
            screen.detail(format!("{} is there already and stays", output.display()));
        }
        Err(failure) => return Err(failure),
    }
    Ok(metainfo)
}

/// Makes the torrent of a path as `create` without flags does, with pieces of this length, and writes it nowhere.
/// Can be dropped at any time.
pub(crate) async fn describe(
    path: &Path,
    piece: PieceSize,
    around: &Surroundings,
    screen: &mut Screen,
) -> Outcome<Metainfo> {
    let content = Content::with_pieces(piece);
    let job = Job::new(path, &content, around)?;
    let plan = job.plan(&content, Path::new(""), around, screen)?;
    let hashed = background(move |watch| hash(&job.root, &plan, threads(), watch)).await?;
    hashed.map_err(not_hashed)
}

fn tell(metainfo: &Metainfo, output: &Path, bytes_per_second: u64, screen: &mut Screen) -> Outcome {
    let (info, layout) = (&metainfo.info, metainfo.info.layout());
    let (v1, v2) = hash_texts(&info.hashes());
    screen.event(&json!({
        "event": "done", "info_hash": info.hashes().primary().to_string(), "info_hash_v1": v1, "info_hash_v2": v2,
        "name": info.name(), "path": output, "pieces": layout.piece_count(), "piece_len": layout.nominal_piece_len(),
        "bytes": layout.payload_len(), "bytes_per_s": bytes_per_second, "magnet": metainfo.magnet().to_string(),
    }))?;
    screen.done(format!(
        "{} → {}  {} in {} × {}, {}/s",
        info.name(),
        output.display(),
        ByteSize(layout.payload_len()),
        layout.piece_count(),
        piece_length(layout.nominal_piece_len()),
        ByteSize(bytes_per_second),
    ));
    for hash in v1.into_iter().chain(v2) {
        screen.say(format!("  info-hash {hash}"));
    }
    Ok(())
}

/// What to make a torrent of.
struct Job<'a> {
    /// The file or directory, without links, so that the name of `.` is known.
    root: PathBuf,
    /// Its name for people.
    shown: &'a Path,
    /// The name of the torrent.
    name: Vec<u8>,
}

impl<'a> Job<'a> {
    fn new(path: &'a Path, content: &Content, around: &Surroundings) -> Outcome<Self> {
        let root = around
            .path(path)
            .canonicalize()
            .map_err(|e| Failure::io(path, e))?;
        let name = content.name(&root)?;
        Ok(Self {
            root,
            shown: path,
            name,
        })
    }

    fn default_output(&self) -> PathBuf {
        PathBuf::from(format!("{}.torrent", String::from_utf8_lossy(&self.name)))
    }

    /// Makes the torrent, which is to be written to `output`; gives it with the bytes hashed per second.
    fn make(
        &self,
        content: &Content,
        output: &Path,
        around: &Surroundings,
        screen: &mut Screen,
    ) -> Outcome<(Metainfo, u64)> {
        let plan = self.plan(content, output, around, screen)?;
        let (metainfo, rate) = watched(screen, "hashing", plan.layout().payload_len(), |watch| {
            hash(&self.root, &plan, threads(), watch)
        })?;
        Ok((metainfo.map_err(not_hashed)?, rate))
    }

    /// What is to be in the torrent, which is to be written to `output`.
    fn plan(
        &self,
        content: &Content,
        output: &Path,
        around: &Surroundings,
        screen: &mut Screen,
    ) -> Outcome<Plan> {
        let output = canonical(output);
        let exclude = |path: &Path| {
            self.root.join(path) == output || content.exclude.iter().any(|glob| glob.matches(path))
        };
        let walked = walk(
            &self.root,
            WalkOptions {
                hidden: true,
                exclude: &exclude,
            },
        )
        .map_err(not_found)?;
        tell_skipped(&walked, screen);
        if walked.sources.is_empty() {
            let nothing = Failure::say(ExitCode::NotFound, "there are no files to share");
            return Err(nothing.about(self.shown.display()));
        }
        let plan = Plan::new(
            walked.sources,
            content.options(self.name.clone(), around.unix_now)?,
        )
        .map_err(|e| refused(e, self.shown))?;
        warn_of(&plan, screen);
        Ok(plan)
    }
}

/// The path of a file that may not be there yet, without links in its directory.
fn canonical(file: &Path) -> PathBuf {
    let parent = file.parent().and_then(|dir| dir.canonicalize().ok());
    parent
        .zip(file.file_name())
        .map_or_else(|| file.to_owned(), |(dir, name)| dir.join(name))
}

impl Content {
    /// What is in a torrent if nothing but the length of the pieces is said.
    fn with_pieces(piece: PieceSize) -> Self {
        Self {
            v1: false,
            v2: false,
            hybrid: false,
            tracker: Vec::new(),
            web_seed: Vec::new(),
            node: Vec::new(),
            private: false,
            source: None,
            comment: None,
            exclude: Vec::new(),
            date: CreationDate::Now,
            piece,
            name: None,
        }
    }

    /// The trackers, tier by tier.
    pub(crate) fn tiers(&self) -> Vec<Vec<String>> {
        self.tracker
            .iter()
            .map(|tier| tier.0.clone())
            .filter(|tier| !tier.is_empty())
            .collect()
    }

    fn options(&self, name: Vec<u8>, unix_now: i64) -> Outcome<CreateOptions> {
        let mut options = CreateOptions::new(name, self.version());
        options.piece_len = match self.piece {
            PieceSize::Auto => None,
            PieceSize::Bytes(bytes) => {
                Some(u32::try_from(bytes).map_err(|_| piece_too_long(bytes))?)
            }
        };
        options.private = self.private;
        options.source.clone_from(&self.source);
        options.trackers = self.tiers();
        options.web_seeds = self.web_seed.iter().filter_map(WebSeed::url).collect();
        options.nodes.clone_from(&self.node);
        options.comment.clone_from(&self.comment);
        options.created_by = Some(concat!("riverrun ", env!("CARGO_PKG_VERSION")).to_owned());
        options.creation_date = self.date.unix(unix_now);
        Ok(options)
    }
    fn name(&self, root: &Path) -> Outcome<Vec<u8>> {
        let own = self.name.as_ref().map(|name| name.as_bytes().to_vec());
        own.or_else(|| {
            root.file_name()
                .map(|name| name.as_encoded_bytes().to_vec())
        })
        .ok_or_else(|| {
            Failure::say(ExitCode::Usage, "the path has no name").hint("give one with --name")
        })
    }

    const fn version(&self) -> MetaVersion {
        match (self.v1, self.v2) {
            (true, _) => MetaVersion::V1,
            (_, true) => MetaVersion::V2,
            _ => MetaVersion::Hybrid,
        }
    }
}

fn piece_too_long(bytes: u64) -> Failure {
    Failure::say(
        ExitCode::Usage,
        format!("pieces of {bytes} bytes are too long, {CREATE_PIECE_LEN_MAX} is the limit"),
    )
}

fn refused(error: PlanError, shown: &Path) -> Failure {
    let code = match error {
        PlanError::PieceLength(_) | PlanError::InvalidName(_) => ExitCode::Usage,
        _ => ExitCode::Other,
    };
    let failure = Failure::new(code, error).about(shown.display());
    if code == ExitCode::Usage {
        failure.hint("see --piece and --name")
    } else {
        failure
    }
}

fn not_found(error: WalkError) -> Failure {
    match error {
        WalkError::Io { path, source } => Failure::io(&path, source),
        WalkError::NotUtf8(_) | WalkError::Loop(_) => {
            Failure::new(ExitCode::Other, error).hint("--exclude leaves it out")
        }
        _ => Failure::new(ExitCode::Other, error),
    }
}

fn not_hashed(error: HashError) -> Failure {
    match error {
        HashError::Io { path, source } => Failure::io(&path, source),
        HashError::Changed(_) => {
            Failure::new(ExitCode::Mismatch, error).hint("try again when nobody writes to it")
        }
        _ => Failure::new(ExitCode::Other, error),
    }
}

fn tell_skipped(walked: &Walked, screen: &mut Screen) {
    if walked.skipped.is_empty() {
        return;
    }
    screen.warn(format!(
        "{} left out: neither file nor directory",
        count(walked.skipped.len(), "entry")
    ));
    for path in &walked.skipped {
        screen.item(path.display());
    }
}

/// What downloaders may not like.
fn warn_of(plan: &Plan, screen: &mut Screen) {
    if plan.exceeds_budget() {
        screen.warn(format!(
            "the hashes of all pieces take {}, more than the {} that clients fetch quickly: fewer or larger files \
             would help",
            ByteSize(plan.hashes_len()),
            ByteSize(HASH_BUDGET_BYTES),
        ));
    }
    for file in plan.altered_names() {
        screen.warn(format!(
            "downloaders will save a file as {}: its name is not safe everywhere",
            file.path.as_str()
        ));
    }
}
