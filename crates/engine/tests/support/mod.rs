//! Engines on loopback, and torrents of files made on the spot.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use riverrun_base::{BLOCK_LEN, PieceIndex, Rng, Sha256Digest};
use riverrun_engine::{Engine, EngineBuilder, Metainfo, Transports};
use riverrun_hash::{sha1, sha256};
use riverrun_metainfo::create::{CreateOptions, Plan, SourceFile};
use riverrun_metainfo::{Layout, MetaVersion, merkle};
use tempfile::TempDir;
use tokio_stream::StreamExt as _;

/// Nothing that is waited for takes longer: a hang fails.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A torrent, with its files in a directory of their own.
pub(crate) struct Published {
    pub(crate) dir: TempDir,
    pub(crate) metainfo: Metainfo,
}

impl Published {
    /// A torrent named `payload` of files with these lengths and random bytes; of one, if there is one.
    pub(crate) fn new(lens: &[u64], version: MetaVersion, seed: u64) -> Self {
        Self::with(lens, version, seed, |_| {})
    }

    /// The same, with other options.
    pub(crate) fn with(
        lens: &[u64],
        version: MetaVersion,
        seed: u64,
        change: impl FnOnce(&mut CreateOptions),
    ) -> Self {
        let dir = TempDir::new().unwrap();
        let mut rng = Rng::new(seed);
        let single = lens.len() == 1;
        let files = lens.iter().enumerate().map(|(number, len)| {
            let name = (!single).then(|| format!("{number:02}"));
            let mut bytes = vec![0; usize::try_from(*len).unwrap()];
            rng.fill(&mut bytes);
            let path = dir
                .path()
                .join("payload")
                .join(name.as_deref().unwrap_or(""));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let path = PathBuf::from(path.to_str().unwrap().trim_end_matches('/'));
            fs::write(path, bytes).unwrap();
            SourceFile::new(name.into_iter().map(String::into_bytes).collect(), *len)
        });
        let files = files.collect();
        let mut options = CreateOptions::new(b"payload".to_vec(), version);
        options.piece_len = Some(2 * BLOCK_LEN);
        change(&mut options);
        let metainfo = hash(
            &Plan::new(files, options).unwrap(),
            &dir.path().join("payload"),
        );
        Self { dir, metainfo }
    }

    /// Fails unless `dir` has the same files.
    pub(crate) fn assert_copied_to(&self, dir: &Path) {
        let layout = self.metainfo.info.layout();
        for file in layout.files().iter().filter(|file| !file.is_pad()) {
            let path = file.path.to_path_buf();
            let theirs = fs::read(dir.join(&path))
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(
                theirs == fs::read(self.dir.path().join(&path)).unwrap(),
                "{} differs",
                path.display()
            );
        }
    }
}

/// Hashes what the plan asks for, all in memory.
fn hash(plan: &Plan, root: &Path) -> Metainfo {
    let layout = plan.layout();
    let mut v1 = Vec::new();
    let mut trees = vec![Vec::new(); layout.files().len()];
    for piece in (0..layout.piece_count()).map(PieceIndex) {
        let bytes = piece_bytes(layout, piece, root);
        let wanted = plan.piece(piece).unwrap();
        if wanted.v1 {
            v1.push(sha1(&bytes));
        }
        if let Some(tree) = wanted.v2 {
            let bytes = &bytes[..tree.len as usize];
            let leaves: Vec<Sha256Digest> = bytes.chunks(BLOCK_LEN as usize).map(sha256).collect();
            trees[tree.file.as_usize()].push(merkle::root_of(&leaves, tree.leaves));
        }
    }
    let has_v2 = trees.iter().any(|tree| !tree.is_empty());
    plan.finish(&v1, if has_v2 { trees } else { Vec::new() })
        .unwrap()
}

fn piece_bytes(layout: &Layout, piece: PieceIndex, root: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for slice in layout.slices(layout.piece_span(piece)) {
        let file = layout.file(slice.file).unwrap();
        let len = slice.len as usize;
        if file.is_pad() {
            bytes.resize(bytes.len() + len, 0);
            continue;
        }
        let path = root.parent().unwrap().join(file.path.to_path_buf());
        let start = usize::try_from(slice.offset).unwrap();
        bytes.extend_from_slice(&fs::read(path).unwrap()[start..start + len]);
    }
    bytes
}

/// An engine on loopback with its state in `dir`.
pub(crate) async fn engine(dir: &Path) -> Engine {
    engine_over(dir, Transports::default()).await
}

/// The same, with connections carried by these.
pub(crate) async fn engine_over(dir: &Path, transports: Transports) -> Engine {
    start(builder(dir).transports(transports)).await
}

/// An engine to be, on loopback with its state in `dir`.
pub(crate) fn builder(dir: &Path) -> EngineBuilder {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Engine::builder(dir.join("state")).listen([loopback])
}

/// Starts an engine, and shows what happens in it.
#[expect(
    clippy::print_stdout,
    reason = "the test runner shows it for a test that fails"
)]
pub(crate) async fn start(builder: EngineBuilder) -> Engine {
    let engine = builder.start().await.unwrap();
    // Shown by the test runner for a test that fails.
    let (mut events, addr) = (engine.events(), engine.listen_addrs()[0]);
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            println!("{addr}: {event:?}");
        }
    });
    engine
}

/// Waits for `work`, but not for ever.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("this takes no minute")
}
