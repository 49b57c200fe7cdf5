//! SHA-1 (FIPS 180-4) by each kernel.

use std::sync::OnceLock;

use crate::block::Block;
use crate::columns::Columns;
use crate::plan::{Plan, Steps};
#[cfg(target_arch = "x86_64")]
use crate::x86::{avx2, avx512, sha_pair};

/// The state in words.
pub(crate) const WORDS: usize = 5;

/// The constants of rounds 0–19, 20–39, 40–59 and 60–79.
#[cfg(target_arch = "x86_64")]
pub(crate) const K: [u32; 4] = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6];

pub(crate) static STEPS: Steps<WORDS> = Steps {
    initial: [
        0x6745_2301,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ],
    #[cfg(target_arch = "x86_64")]
    avx512: avx512::sha1,
    #[cfg(target_arch = "x86_64")]
    avx2: avx2::sha1,
    #[cfg(target_arch = "x86_64")]
    sha_pair: sha_pair::sha1,
    one_by_one,
};

/// The plan for this processor.
pub(crate) fn best() -> &'static Plan<WORDS> {
    static BEST: OnceLock<Plan<WORDS>> = OnceLock::new();
    BEST.get_or_init(|| STEPS.fastest())
}

/// Takes the blocks of one message.
pub(crate) fn compress(words: &mut [u32; WORDS], blocks: &[Block]) {
    sha1::block_api::compress(words, blocks);
}

pub(crate) fn one_by_one(columns: &mut Columns<WORDS>, runs: &[&[Block]], count: usize) {
    for (lane, run) in runs.iter().enumerate() {
        let mut words = columns.words(lane);
        compress(&mut words, &run[..count]);
        columns.set(lane, &words);
    }
}
