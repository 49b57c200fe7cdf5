//! 16 lanes: vectors of 512 bits, with rotations and three-way logic as single instructions.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_rol_epi32, _mm512_set1_epi32,
    _mm512_set4_epi32, _mm512_shuffle_epi8, _mm512_shuffle_i32x4, _mm512_srli_epi32,
    _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use crate::block::Block;
use crate::columns::Columns;

type V = __m512i;

const LANES: usize = 16;

pub(crate) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

steps!();
sha1_rounds!("avx512f,avx512bw");
sha256_rounds!("avx512f,avx512bw");

/// Block `block` of each lane, turned: vector `i` holds the words `i` of all lanes.
/// Generic so that each algorithm has one of its own, which the compiler then inlines.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn message<const W: usize>(runs: &[&[Block]; LANES], block: usize) -> [V; 16] {
    let q = [
        quarters(runs, 0, block),
        quarters(runs, 4, block),
        quarters(runs, 8, block),
        quarters(runs, 12, block),
    ];
    let mut w = [splat(0); 16];
    for i in 0..4 {
        // Quarters 0 and 1 of the first eight lanes and of the last eight, then quarters 2 and 3.
        let low_first = _mm512_shuffle_i32x4::<0x44>(q[0][i], q[1][i]);
        let low_last = _mm512_shuffle_i32x4::<0x44>(q[2][i], q[3][i]);
        let high_first = _mm512_shuffle_i32x4::<0xee>(q[0][i], q[1][i]);
        let high_last = _mm512_shuffle_i32x4::<0xee>(q[2][i], q[3][i]);
        w[i] = _mm512_shuffle_i32x4::<0x88>(low_first, low_last);
        w[i + 4] = _mm512_shuffle_i32x4::<0xdd>(low_first, low_last);
        w[i + 8] = _mm512_shuffle_i32x4::<0x88>(high_first, high_last);
        w[i + 12] = _mm512_shuffle_i32x4::<0xdd>(high_first, high_last);
    }
    w
}

/// Block `block` of four lanes, turned by quarters: quarter `j` of vector `i` holds their words `4j + i`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn quarters(runs: &[&[Block]; LANES], lane: usize, block: usize) -> [V; 4] {
    let r0 = from_big_endian(load_block(&runs[lane][block]));
    let r1 = from_big_endian(load_block(&runs[lane + 1][block]));
    let r2 = from_big_endian(load_block(&runs[lane + 2][block]));
    let r3 = from_big_endian(load_block(&runs[lane + 3][block]));
    let (low01, high01) = (_mm512_unpacklo_epi32(r0, r1), _mm512_unpackhi_epi32(r0, r1));
    let (low23, high23) = (_mm512_unpacklo_epi32(r2, r3), _mm512_unpackhi_epi32(r2, r3));
    [
        _mm512_unpacklo_epi64(low01, low23),
        _mm512_unpackhi_epi64(low01, low23),
        _mm512_unpacklo_epi64(high01, high23),
        _mm512_unpackhi_epi64(high01, high23),
    ]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn from_big_endian(v: V) -> V {
    let reversed = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    _mm512_shuffle_epi8(v, reversed)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_block(block: &Block) -> V {
    // SAFETY: the reference is good for reading 64 bytes, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(std::ptr::from_ref(block).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(row: &[u32; LANES]) -> V {
    // SAFETY: the reference is good for reading 64 bytes, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(std::ptr::from_ref(row).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(v: V, row: &mut [u32; LANES]) {
    // SAFETY: the reference is good for writing 64 bytes, and the store asks for no alignment.
    unsafe { _mm512_storeu_si512(std::ptr::from_mut(row).cast(), v) };
}

#[inline]
#[target_feature(enable = "avx512f")]
fn splat(word: u32) -> V {
    _mm512_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(a: V, b: V) -> V {
    _mm512_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor(a: V, b: V) -> V {
    _mm512_xor_si512(a, b)
}

// The immediate is the truth table: bit `4a + 2b + c` is the result for these bits.

#[inline]
#[target_feature(enable = "avx512f")]
fn xor3(a: V, b: V, c: V) -> V {
    _mm512_ternarylogic_epi32::<0b1001_0110>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn choose(a: V, b: V, c: V) -> V {
    _mm512_ternarylogic_epi32::<0b1100_1010>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn majority(a: V, b: V, c: V) -> V {
    _mm512_ternarylogic_epi32::<0b1110_1000>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn rotate<const L: i32, const R: i32>(a: V) -> V {
    const { assert!(L + R == 32, "left by one is right by the other") };
    _mm512_rol_epi32::<L>(a)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn shr<const N: u32>(a: V) -> V {
    _mm512_srli_epi32::<N>(a)
}
