//! Two messages at once with the SHA extensions. Each instruction of a chain of rounds waits for the one before
//! it; the instructions of a second chain fill the gaps, a third would find none.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_loadu_si128, _mm_set_epi32,
    _mm_set_epi64x, _mm_sha1msg1_epu32, _mm_sha1msg2_epu32, _mm_sha1nexte_epu32,
    _mm_sha1rnds4_epu32, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
    _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_xor_si128,
};

use crate::block::Block;
use crate::columns::Columns;
use crate::sha256::K;

type V = __m128i;

/// Four words of the schedule, or a half of the state, of each of two messages.
type Pair<T> = [T; 2];

pub(crate) fn is_available() -> bool {
    is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("sse4.1")
}

/// SHA-1 in pairs, and the last of an odd number alone.
pub(crate) fn sha1(columns: &mut Columns<5>, runs: &[&[Block]], count: usize) {
    assert!(is_available(), "the processor has these instructions");
    let (pairs, odd) = runs.as_chunks();
    for (n, pair) in pairs.iter().enumerate() {
        let mut words = [columns.words(2 * n), columns.words(2 * n + 1)];
        // SAFETY: the processor has all features of the function, as asserted.
        unsafe { sha1_pair(&mut words, *pair, count) };
        columns.set(2 * n, &words[0]);
        columns.set(2 * n + 1, &words[1]);
    }
    if let [run] = odd {
        let mut words = columns.words(runs.len() - 1);
        crate::sha1::compress(&mut words, &run[..count]);
        columns.set(runs.len() - 1, &words);
    }
}

/// SHA-256 in pairs, and the last of an odd number alone.
pub(crate) fn sha256(columns: &mut Columns<8>, runs: &[&[Block]], count: usize) {
    assert!(is_available(), "the processor has these instructions");
    let (pairs, odd) = runs.as_chunks();
    for (n, pair) in pairs.iter().enumerate() {
        let mut words = [columns.words(2 * n), columns.words(2 * n + 1)];
        // SAFETY: the processor has all features of the function, as asserted.
        unsafe { sha256_pair(&mut words, *pair, count) };
        columns.set(2 * n, &words[0]);
        columns.set(2 * n + 1, &words[1]);
    }
    if let [run] = odd {
        let mut words = columns.words(runs.len() - 1);
        crate::sha256::compress(&mut words, &run[..count]);
        columns.set(runs.len() - 1, &words);
    }
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn sha1_pair(words: &mut Pair<[u32; 5]>, runs: Pair<&[Block]>, count: usize) {
    let mut halves = [sha1_halves(&words[0]), sha1_halves(&words[1])];
    for (one, two) in runs[0][..count].iter().zip(&runs[1][..count]) {
        let before = halves;
        let order = sha1_order();
        let mut w = [message(one, order), message(two, order)];
        for_each_round!(20, sha1_four_rounds(&mut halves, &mut w));
        for (half, before) in halves.iter_mut().zip(before) {
            half[0] = _mm_add_epi32(half[0], before[0]);
            half[1] = _mm_sha1nexte_epu32(half[1], before[1]);
        }
    }
    for (words, half) in words.iter_mut().zip(halves) {
        let [a, b, c, d] = words_of(half[0]);
        *words = [a, b, c, d, words_of(half[1])[0]];
    }
}

/// The two take turns: one holds words a to d, the other those of four rounds ago, of which `e` comes.
#[inline]
#[target_feature(enable = "sse2")]
fn sha1_halves(words: &[u32; 5]) -> [V; 2] {
    [
        four(words[0], words[1], words[2], words[3]),
        four(words[4], 0, 0, 0),
    ]
}

/// Rounds `4 Q` to `4 Q + 3`.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn sha1_four_rounds<const Q: usize>(halves: &mut Pair<[V; 2]>, w: &mut Pair<[V; 4]>) {
    let (at, next) = (Q % 2, (Q + 1) % 2);
    for (half, w) in halves.iter_mut().zip(w) {
        let i = Q % 4;
        if Q >= 4 {
            let mixed = _mm_xor_si128(_mm_sha1msg1_epu32(w[i], w[(i + 1) % 4]), w[(i + 2) % 4]);
            w[i] = _mm_sha1msg2_epu32(mixed, w[(i + 3) % 4]);
        }
        let e_and_w = match Q {
            0 => _mm_add_epi32(half[next], w[i]),
            _ => _mm_sha1nexte_epu32(half[next], w[i]),
        };
        half[next] = match Q / 5 {
            0 => _mm_sha1rnds4_epu32::<0>(half[at], e_and_w),
            1 => _mm_sha1rnds4_epu32::<1>(half[at], e_and_w),
            2 => _mm_sha1rnds4_epu32::<2>(half[at], e_and_w),
            _ => _mm_sha1rnds4_epu32::<3>(half[at], e_and_w),
        };
    }
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn sha256_pair(words: &mut Pair<[u32; 8]>, runs: Pair<&[Block]>, count: usize) {
    let mut halves = [sha256_halves(&words[0]), sha256_halves(&words[1])];
    for (one, two) in runs[0][..count].iter().zip(&runs[1][..count]) {
        let before = halves;
        let order = sha256_order();
        let mut w = [message(one, order), message(two, order)];
        for_each_round!(16, sha256_four_rounds(&mut halves, &mut w));
        for (half, before) in halves.iter_mut().zip(before) {
            half[0] = _mm_add_epi32(half[0], before[0]);
            half[1] = _mm_add_epi32(half[1], before[1]);
        }
    }
    for (words, half) in words.iter_mut().zip(halves) {
        let (abef, cdgh) = (words_of(half[0]), words_of(half[1]));
        *words = [
            abef[0], abef[1], cdgh[0], cdgh[1], abef[2], abef[3], cdgh[2], cdgh[3],
        ];
    }
}

#[inline]
#[target_feature(enable = "sse2")]
fn sha256_halves(words: &[u32; 8]) -> [V; 2] {
    let abef = four(words[0], words[1], words[4], words[5]);
    let cdgh = four(words[2], words[3], words[6], words[7]);
    [abef, cdgh]
}

/// Rounds `4 Q` to `4 Q + 3`.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn sha256_four_rounds<const Q: usize>(halves: &mut Pair<[V; 2]>, w: &mut Pair<[V; 4]>) {
    let [k0, k1, k2, k3] = K.as_chunks().0[Q];
    for ([abef, cdgh], w) in halves.iter_mut().zip(w) {
        let i = Q % 4;
        if Q >= 4 {
            let seven_ago = _mm_alignr_epi8::<4>(w[(i + 3) % 4], w[(i + 2) % 4]);
            let mixed = _mm_add_epi32(_mm_sha256msg1_epu32(w[i], w[(i + 1) % 4]), seven_ago);
            w[i] = _mm_sha256msg2_epu32(mixed, w[(i + 3) % 4]);
        }
        let low = _mm_add_epi32(w[i], four(k3, k2, k1, k0));
        let high = _mm_shuffle_epi32::<0b00_00_11_10>(low);
        *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, low);
        *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, high);
    }
}

/// A block in four vectors, the bytes of each in this order.
#[inline]
#[target_feature(enable = "ssse3")]
fn message(block: &Block, order: V) -> [V; 4] {
    [
        _mm_shuffle_epi8(load_quarter(block, 0), order),
        _mm_shuffle_epi8(load_quarter(block, 1), order),
        _mm_shuffle_epi8(load_quarter(block, 2), order),
        _mm_shuffle_epi8(load_quarter(block, 3), order),
    ]
}

#[inline]
#[target_feature(enable = "sse2")]
fn load_quarter(block: &Block, part: usize) -> V {
    let quarter: &[u8; 16] = &block.as_chunks().0[part];
    // SAFETY: the reference is good for reading 16 bytes, and the load asks for no alignment.
    unsafe { _mm_loadu_si128(std::ptr::from_ref(quarter).cast()) }
}

/// Big-endian words, the first one highest.
#[inline]
#[target_feature(enable = "sse2")]
fn sha1_order() -> V {
    _mm_set_epi64x(0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f)
}

/// Big-endian words, the first one lowest.
#[inline]
#[target_feature(enable = "sse2")]
fn sha256_order() -> V {
    _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203)
}

/// Four words, the highest first.
#[inline]
#[target_feature(enable = "sse2")]
fn four(w3: u32, w2: u32, w1: u32, w0: u32) -> V {
    _mm_set_epi32(
        w3.cast_signed(),
        w2.cast_signed(),
        w1.cast_signed(),
        w0.cast_signed(),
    )
}

/// The words of a vector, the highest first.
#[inline]
#[target_feature(enable = "sse4.1")]
fn words_of(v: V) -> [u32; 4] {
    let words = [
        _mm_extract_epi32::<3>(v),
        _mm_extract_epi32::<2>(v),
        _mm_extract_epi32::<1>(v),
        _mm_extract_epi32::<0>(v),
    ];
    words.map(i32::cast_unsigned)
}
