//! 16 lanes: vectors of 512 bits, with rotations and three-way logic as single instructions.

use std::arch::x86_64::{
    __m512i, _MM_HINT_T1, _mm_prefetch, _mm512_add_epi32, _mm512_loadu_si512, _mm512_rol_epi32,
    _mm512_set1_epi32, _mm512_set4_epi32, _mm512_shuffle_epi8, _mm512_shuffle_i32x4,
    _mm512_srli_epi32, _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64, _mm512_xor_si512,
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

/// Blocks of a lane that are read one behind the other.
const PART: usize = 4;
/// How many such parts ahead memory is told what will be read.
const FAR: usize = 4;

/// Blocks of the lanes, read before they are worked on.
///
/// Lanes are pieces, and lie a power of two apart: the same block of each falls into one set of the first cache, which has
/// room for eight. What the processor reads ahead for 16 lanes is gone again before it is wanted. So a part of a lane is
/// read at a time, of four lanes while one block is worked on.
struct Ahead {
    parts: [[[V; PART]; LANES]; 2],
}

impl Ahead {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn begin(runs: &[&[Block]; LANES]) -> Self {
        let mut parts = [[[splat(0); PART]; LANES]; 2];
        for (lines, run) in parts[0].iter_mut().zip(runs) {
            for (line, block) in lines.iter_mut().zip(*run) {
                *line = load_block(block);
            }
        }
        Self { parts }
    }

    /// Block `block` of each lane, which comes after the one before: turned.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn message(&mut self, runs: &[&[Block]; LANES], block: usize) -> [V; 16] {
        let (part, at) = (block / PART, block % PART);
        let [even, odd] = &mut self.parts;
        let (now, next) = if part.is_multiple_of(2) {
            (even, odd)
        } else {
            (odd, even)
        };
        let lanes = at * (LANES / PART)..(at + 1) * (LANES / PART);
        for (lines, run) in next[lanes.clone()].iter_mut().zip(&runs[lanes]) {
            for block in run.iter().skip(PART * (part + 1 + FAR)).take(PART) {
                will_read(block);
            }
            for (line, block) in lines.iter_mut().zip(run.iter().skip(PART * (part + 1))) {
                *line = load_block(block);
            }
        }
        turned::<5>(&[
            part_quarters(now, 0, at),
            part_quarters(now, 4, at),
            part_quarters(now, 8, at),
            part_quarters(now, 12, at),
        ])
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn part_quarters(part: &[[V; PART]; LANES], lane: usize, at: usize) -> [V; 4] {
    quarters([
        part[lane][at],
        part[lane + 1][at],
        part[lane + 2][at],
        part[lane + 3][at],
    ])
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn run_quarters(runs: &[&[Block]; LANES], lane: usize, block: usize) -> [V; 4] {
    quarters([
        load_block(&runs[lane][block]),
        load_block(&runs[lane + 1][block]),
        load_block(&runs[lane + 2][block]),
        load_block(&runs[lane + 3][block]),
    ])
}

/// Block `block` of each lane, turned.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn message<const W: usize>(runs: &[&[Block]; LANES], block: usize) -> [V; 16] {
    turned::<W>(&[
        run_quarters(runs, 0, block),
        run_quarters(runs, 4, block),
        run_quarters(runs, 8, block),
        run_quarters(runs, 12, block),
    ])
}

/// Sixteen blocks, of which each four are turned by quarters, turned: vector `i` holds the words `i` of all lanes.
/// Generic so that each algorithm has one of its own, which the compiler then inlines.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn turned<const W: usize>(q: &[[V; 4]; 4]) -> [V; 16] {
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

/// A block of each of four lanes, turned by quarters: quarter `j` of vector `i` holds their words `4j + i`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn quarters([r0, r1, r2, r3]: [V; 4]) -> [V; 4] {
    let (r0, r1) = (from_big_endian(r0), from_big_endian(r1));
    let (r2, r3) = (from_big_endian(r2), from_big_endian(r3));
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

/// Tells memory to bring a block near.
#[inline]
#[target_feature(enable = "avx512f")]
fn will_read(block: &Block) {
    _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(block).cast());
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
