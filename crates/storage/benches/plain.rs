//! The least that creating a torrent costs: a loop that reads a file and hashes it with the same kernels, side by
//! side, and does nothing else. `plain [--piece BYTES] v1|v2|hybrid FILE` prints how long that took.
#![expect(clippy::print_stdout, reason = "a benchmark prints what it found")]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use riverrun_base::BLOCK_LEN;
use riverrun_hash::{Algorithm, Kernel, Sha1, sha256_many};

/// What is read before it is hashed.
const SLAB_LEN: usize = 1 << 20;

/// Where a slab begins in memory: on a page, since copies to just behind one are slow on some processors.
const PAGE_LEN: usize = 4096;

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (piece_len, version, path) = match args[..] {
        ["--piece", len, version, path] => (len.parse().expect("a length"), version, path),
        [version, path] => (1 << 20, version, path),
        // Run without a file, as by `cargo bench`: there is nothing to measure.
        _ => return println!("usage: plain [--piece BYTES] v1|v2|hybrid FILE"),
    };
    let file = File::open(path).expect("the file can be read");
    let len = file.metadata().expect("the file is there").len();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (next, start) = (AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| hash(&file, len, piece_len, version, &next));
        }
    });
    let wall_s = start.elapsed().as_secs_f64();
    let cpu_s = cpu_seconds();
    println!("{{\"wall_s\": {wall_s}, \"cpu_s\": {cpu_s}}}");
}

/// Takes groups of pieces as long as there are whole ones: of what is measured the rest is nothing.
fn hash(file: &File, len: u64, piece_len: usize, version: &str, next: &AtomicU64) {
    let lanes = Kernel::best(Algorithm::Sha1).lanes();
    let chunk_len = SLAB_LEN / lanes;
    let group_len = (lanes * piece_len) as u64;
    let mut memory = vec![0; SLAB_LEN + PAGE_LEN];
    let begin = memory.as_ptr().align_offset(PAGE_LEN);
    let slab = &mut memory[begin..][..SLAB_LEN];
    loop {
        let group = next.fetch_add(group_len, Ordering::Relaxed);
        if group + group_len > len {
            return;
        }
        let mut pieces = vec![Sha1::new(); lanes];
        for offset in (0..piece_len).step_by(chunk_len) {
            for (chunk, piece) in slab.chunks_mut(chunk_len).zip((0..).step_by(piece_len)) {
                let at = group + piece + offset as u64;
                file.read_exact_at(chunk, at).expect("the file stays");
            }
            if version != "v2" {
                let chunks: Vec<[&[u8]; 1]> = slab.chunks(chunk_len).map(|it| [it]).collect();
                let parts: Vec<&[&[u8]]> = chunks.iter().map(<[_; 1]>::as_slice).collect();
                Sha1::update_many(&mut pieces.iter_mut().collect::<Vec<_>>(), &parts);
            }
            if version != "v1" {
                let blocks: Vec<&[u8]> = slab.chunks(BLOCK_LEN as usize).collect();
                black_box(sha256_many(&blocks));
            }
        }
        black_box(pieces);
    }
}

/// User and system time of this process; zero where `/proc` has none.
fn cpu_seconds() -> f64 {
    /// What `/proc` counts in (`sysconf(_SC_CLK_TCK)`): the same on all Linux platforms.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS_PER_SECOND
}
