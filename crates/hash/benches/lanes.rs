//! How fast each kernel is on one thread, beside one stream with the processor's SHA instructions.
//!
//! The machine may be shared, so a kernel's time is the shortest of many slices, and each round of slices goes
//! through all kernels in turn: `ratio` is the median over the rounds of this kernel's rate by that of one
//! message after the other in the same round.
#![expect(clippy::print_stdout, reason = "a benchmark prints what it found")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(
    clippy::cast_precision_loss,
    reason = "rates and ratios are for the eye"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use riverrun_base::{Sha1Digest, Sha256Digest};
use riverrun_hash::{Algorithm, Kernel, Sha1Lanes, Sha256Lanes};

/// Slices of each kernel in turn.
const ROUNDS: usize = 15;

/// Of which the shortest is the round's.
const SLICES: usize = 3;

/// What a slice hashes at least, so that it lasts about a millisecond.
const SLICE_BYTES: usize = 4 << 20;

/// So many messages of so many bytes each.
struct Load {
    name: &'static str,
    count: usize,
    len: usize,
}

const LOADS: [Load; 6] = [
    Load {
        name: "16 KiB x 64",
        count: 64,
        len: 16 << 10,
    },
    Load {
        name: "16 KiB x 8192 (128 MiB: from memory)",
        count: 8192,
        len: 16 << 10,
    },
    Load {
        name: "256 KiB x 16",
        count: 16,
        len: 256 << 10,
    },
    Load {
        name: "1 MiB x 16",
        count: 16,
        len: 1 << 20,
    },
    Load {
        name: "64 B x 4096",
        count: 4096,
        len: 64,
    },
    Load {
        name: "1000 to 1063 B x 1024",
        count: 1024,
        len: 1000,
    },
];

fn main() {
    for algorithm in [Algorithm::Sha1, Algorithm::Sha256] {
        println!(
            "{algorithm:?}: the best kernel here is {:?}",
            Kernel::best(algorithm)
        );
        for load in &LOADS {
            println!("  {}", load.name);
            measure(algorithm, load);
        }
    }
}

fn measure(algorithm: Algorithm, load: &Load) {
    let ragged = !load.len.is_multiple_of(64);
    let bytes = vec![0x5a_u8; load.count * load.len + 64];
    let inputs: Vec<&[u8]> = (0..load.count)
        .map(|n| &bytes[n * load.len..][..load.len + if ragged { n * 29 % 64 } else { 0 }])
        .collect();
    let total: usize = inputs.iter().map(|input| input.len()).sum();
    let repeats = SLICE_BYTES.div_ceil(total);
    let kernels: Vec<Kernel> = Kernel::available().collect();
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); kernels.len()];
    for _ in 0..ROUNDS {
        for (kernel, rates) in kernels.iter().zip(&mut rounds) {
            let time = (0..SLICES)
                .map(|_| slice(algorithm, *kernel, &inputs, repeats))
                .min();
            let seconds = time.unwrap_or_default().as_secs_f64();
            rates.push((total * repeats) as f64 / seconds / 1e9);
        }
    }
    let plain = rounds.last().cloned().unwrap_or_default();
    for (kernel, rates) in kernels.iter().zip(&rounds) {
        let best = rates.iter().copied().fold(0.0, f64::max);
        let ratio = median(
            rates
                .iter()
                .zip(&plain)
                .map(|(rate, plain)| rate / plain)
                .collect(),
        );
        let kernel = format!("{kernel:?}");
        println!(
            "    {kernel:9} {best:6.2} GB/s best {:6.2} median, ratio {ratio:4.2}",
            median(rates.clone())
        );
    }
}

fn slice(algorithm: Algorithm, kernel: Kernel, inputs: &[&[u8]], repeats: usize) -> Duration {
    match algorithm {
        Algorithm::Sha1 => {
            let lanes = Sha1Lanes::with(kernel).expect("it is available");
            let mut digests = vec![Sha1Digest([0; 20]); inputs.len()];
            time(repeats, || {
                lanes.hash_into(black_box(inputs), black_box(&mut digests));
            })
        }
        Algorithm::Sha256 => {
            let lanes = Sha256Lanes::with(kernel).expect("it is available");
            let mut digests = vec![Sha256Digest([0; 32]); inputs.len()];
            time(repeats, || {
                lanes.hash_into(black_box(inputs), black_box(&mut digests));
            })
        }
    }
}

fn time(repeats: usize, mut work: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..repeats {
        work();
    }
    start.elapsed()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
