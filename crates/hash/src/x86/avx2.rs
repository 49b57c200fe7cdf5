//! 8 lanes: vectors of 256 bits.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_loadu_si256, _mm256_or_si256,
    _mm256_permute2x128_si256, _mm256_set_epi32, _mm256_set1_epi32, _mm256_shuffle_epi8,
    _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_si256, _mm256_unpackhi_epi32,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use crate::block::Block;
use crate::columns::Columns;

type V = __m256i;

const LANES: usize = 8;

pub(crate) fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
}

steps!();
sha1_rounds!("avx2");
sha256_rounds!("avx2");

/// Nothing is read ahead: eight lanes have room side by side in any set of the first cache.
struct Ahead;

impl Ahead {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn begin(_: &[&[Block]; LANES]) -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "with more lanes there is something")]
    #[inline]
    #[target_feature(enable = "avx2")]
    fn message(&mut self, runs: &[&[Block]; LANES], block: usize) -> [V; 16] {
        message::<5>(runs, block)
    }
}

/// Block `block` of each lane, turned: vector `i` holds the words `i` of all lanes.
/// Generic so that each algorithm has one of its own, which the compiler then inlines.
#[inline]
#[target_feature(enable = "avx2")]
fn message<const W: usize>(runs: &[&[Block]; LANES], block: usize) -> [V; 16] {
    let mut w = [splat(0); 16];
    for part in 0..2 {
        let first = halves(runs, 0, block, part);
        let last = halves(runs, 4, block, part);
        for i in 0..4 {
            w[8 * part + i] = _mm256_permute2x128_si256::<0x20>(first[i], last[i]);
            w[8 * part + i + 4] = _mm256_permute2x128_si256::<0x31>(first[i], last[i]);
        }
    }
    w
}

/// The first or the last 32 bytes of block `block` of four lanes, turned by halves: half `j` of vector `i` holds
/// their words `4j + i`.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(runs: &[&[Block]; LANES], lane: usize, block: usize, part: usize) -> [V; 4] {
    let r0 = from_big_endian(load_half(&runs[lane][block], part));
    let r1 = from_big_endian(load_half(&runs[lane + 1][block], part));
    let r2 = from_big_endian(load_half(&runs[lane + 2][block], part));
    let r3 = from_big_endian(load_half(&runs[lane + 3][block], part));
    let (low01, high01) = (_mm256_unpacklo_epi32(r0, r1), _mm256_unpackhi_epi32(r0, r1));
    let (low23, high23) = (_mm256_unpacklo_epi32(r2, r3), _mm256_unpackhi_epi32(r2, r3));
    [
        _mm256_unpacklo_epi64(low01, low23),
        _mm256_unpackhi_epi64(low01, low23),
        _mm256_unpacklo_epi64(high01, high23),
        _mm256_unpackhi_epi64(high01, high23),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn from_big_endian(v: V) -> V {
    let (w3, w2, w1, w0) = (0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    _mm256_shuffle_epi8(v, _mm256_set_epi32(w3, w2, w1, w0, w3, w2, w1, w0))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_half(block: &Block, part: usize) -> V {
    let half: &[u8; 32] = &block.as_chunks().0[part];
    // SAFETY: the reference is good for reading 32 bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(std::ptr::from_ref(half).cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(row: &[u32; LANES]) -> V {
    // SAFETY: the reference is good for reading 32 bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(std::ptr::from_ref(row).cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(v: V, row: &mut [u32; LANES]) {
    // SAFETY: the reference is good for writing 32 bytes, and the store asks for no alignment.
    unsafe { _mm256_storeu_si256(std::ptr::from_mut(row).cast(), v) };
}

#[inline]
#[target_feature(enable = "avx2")]
fn splat(word: u32) -> V {
    _mm256_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(a: V, b: V) -> V {
    _mm256_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor(a: V, b: V) -> V {
    _mm256_xor_si256(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor3(a: V, b: V, c: V) -> V {
    xor(xor(a, b), c)
}

#[inline]
#[target_feature(enable = "avx2")]
fn choose(a: V, b: V, c: V) -> V {
    xor(c, _mm256_and_si256(a, xor(b, c)))
}

/// Written so that `b ^ c` is the `a ^ b` of the round before, which the compiler then takes from there.
#[inline]
#[target_feature(enable = "avx2")]
fn majority(a: V, b: V, c: V) -> V {
    xor(b, _mm256_and_si256(xor(a, b), xor(b, c)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const L: i32, const R: i32>(a: V) -> V {
    const { assert!(L + R == 32, "left by one is right by the other") };
    _mm256_or_si256(_mm256_slli_epi32::<L>(a), _mm256_srli_epi32::<R>(a))
}

#[inline]
#[target_feature(enable = "avx2")]
fn shr<const N: i32>(a: V) -> V {
    _mm256_srli_epi32::<N>(a)
}
