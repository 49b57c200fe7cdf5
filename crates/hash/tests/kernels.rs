//! Every kernel that this processor has gives the digests of the plain implementation, whatever the lengths of
//! the messages, their order, their parts, and how many there are.

use std::fmt::Debug;

use proptest::prelude::*;
use riverrun_base::{Sha1Digest, Sha256Digest};
use riverrun_hash::{
    Kernel, Sha1, Sha1Lanes, Sha256, Sha256Lanes, sha1_many_into, sha1_many_parts, sha256_many,
    sha256_many_parts, sha256_many_parts_into,
};
use sha1::Digest as _;

const NO_SHA1: Sha1Digest = Sha1Digest([0; 20]);
const NO_SHA256: Sha256Digest = Sha256Digest([0; 32]);

fn right_sha1(bytes: &[u8]) -> Sha1Digest {
    Sha1Digest(sha1::Sha1::digest(bytes).into())
}

fn right_sha256(bytes: &[u8]) -> Sha256Digest {
    Sha256Digest(sha2::Sha256::digest(bytes).into())
}

fn kernels() -> impl Iterator<Item = (Kernel, Sha1Lanes, Sha256Lanes)> {
    Kernel::available().map(|kernel| {
        let lanes = (Sha1Lanes::with(kernel), Sha256Lanes::with(kernel));
        (
            kernel,
            lanes.0.expect("it is available"),
            lanes.1.expect("it is available"),
        )
    })
}

/// Bytes of which no two stretches are alike.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[track_caller]
fn all_equal<D: PartialEq + Debug>(kernel: Kernel, found: &[D], right: &[D]) {
    for (n, pair) in found.iter().zip(right).enumerate() {
        assert_eq!(pair.0, pair.1, "input {n} of {} by {kernel:?}", right.len());
    }
    assert_eq!(found.len(), right.len());
}

/// All kernels, all ways to give whole messages.
#[track_caller]
fn check(inputs: &[&[u8]]) {
    let right: (Vec<_>, Vec<_>) = inputs
        .iter()
        .map(|input| (right_sha1(input), right_sha256(input)))
        .unzip();
    for (kernel, sha1, sha256) in kernels() {
        let mut found = (vec![NO_SHA1; inputs.len()], vec![NO_SHA256; inputs.len()]);
        sha1.hash_into(inputs, &mut found.0);
        sha256.hash_into(inputs, &mut found.1);
        all_equal(kernel, &found.0, &right.0);
        all_equal(kernel, &found.1, &right.1);
    }
    let mut found = vec![NO_SHA1; inputs.len()];
    sha1_many_into(inputs, &mut found);
    assert_eq!((found, sha256_many(inputs)), right);
}

/// All kernels, messages in parts.
#[track_caller]
fn check_parts(inputs: &[&[&[u8]]]) {
    let whole: Vec<Vec<u8>> = inputs.iter().map(|parts| parts.concat()).collect();
    let right: (Vec<_>, Vec<_>) = whole
        .iter()
        .map(|input| (right_sha1(input), right_sha256(input)))
        .unzip();
    for (kernel, sha1, sha256) in kernels() {
        let mut found = (vec![NO_SHA1; inputs.len()], vec![NO_SHA256; inputs.len()]);
        sha1.hash_parts_into(inputs, &mut found.0);
        sha256.hash_parts_into(inputs, &mut found.1);
        all_equal(kernel, &found.0, &right.0);
        all_equal(kernel, &found.1, &right.1);
    }
    assert_eq!(sha1_many_parts(inputs), right.0);
    assert_eq!(sha256_many_parts(inputs), right.1);
}

#[test]
fn the_standards_vectors_hold_in_every_lane() {
    // FIPS 180-4 examples, of one block, of two, and of none.
    let vectors: [(&[u8], &str, &str); 4] = [
        (
            b"abc",
            "a9993e364706816aba3e25717850c26c9cd0d89d",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            b"",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (
            b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
            "a49b2446a02c645bf419f995b67091253a04a259",
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
        ),
    ];
    for (kernel, sha1, sha256) in kernels() {
        for rotation in 0..vectors.len() {
            let turned: Vec<_> = vectors.iter().cycle().skip(rotation).take(33).collect();
            let inputs: Vec<&[u8]> = turned.iter().map(|vector| vector.0).collect();
            let mut found = (vec![NO_SHA1; 33], vec![NO_SHA256; 33]);
            sha1.hash_into(&inputs, &mut found.0);
            sha256.hash_into(&inputs, &mut found.1);
            for (n, vector) in turned.iter().enumerate() {
                assert_eq!(found.0[n].to_string(), vector.1, "{kernel:?}");
                assert_eq!(found.1[n].to_string(), vector.2, "{kernel:?}");
            }
        }
    }
}

#[test]
fn a_million_times_a_is_as_the_standard_says() {
    let million = vec![b'a'; 1_000_000];
    let inputs = [&million[..]; 3];
    for (kernel, sha1, sha256) in kernels() {
        let mut found = ([NO_SHA1; 3], [NO_SHA256; 3]);
        sha1.hash_into(&inputs, &mut found.0);
        sha256.hash_into(&inputs, &mut found.1);
        let digests = (found.0[2].to_string(), found.1[2].to_string());
        assert_eq!(
            digests.0, "34aa973cd4c4daa4f61eeb2bdbad27316534016f",
            "{kernel:?}"
        );
        assert_eq!(
            digests.1, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
            "{kernel:?}"
        );
    }
}

/// Few enough for Miri, which runs kernels that the processor lacks, and looks at every load and store:
/// `RUSTFLAGS=-Ctarget-feature=+avx512f,+avx512bw cargo +nightly miri test -p riverrun-hash few_messages`.
#[test]
fn few_messages_in_every_lane_are_right() {
    let bytes = noise(2000);
    let mut inputs: Vec<&[u8]> = (0..16).map(|n| &bytes[61 * n..][..192]).collect();
    inputs.extend((0..21).map(|n| &bytes[7 * n..][..(37 * n) % 290]));
    check(&inputs);
}

#[test]
fn a_kernel_that_the_processor_lacks_is_not_given() {
    for kernel in Kernel::ALL {
        assert_eq!(
            Sha1Lanes::with(kernel).is_some(),
            kernel.is_available(),
            "{kernel:?}"
        );
        assert_eq!(
            Sha256Lanes::with(kernel).is_some(),
            kernel.is_available(),
            "{kernel:?}"
        );
    }
}

#[test]
fn every_length_to_300_is_right_in_one_call() {
    let bytes = noise(1000);
    let inputs: Vec<&[u8]> = (0..=300).map(|len| &bytes[len..2 * len]).collect();
    check(&inputs);
    let backwards: Vec<&[u8]> = inputs.into_iter().rev().collect();
    check(&backwards);
}

#[test]
fn every_length_to_300_is_right_in_all_lanes_at_once() {
    let bytes = noise(1000);
    for len in 0..=300 {
        let inputs: Vec<&[u8]> = (0..17).map(|lane| &bytes[17 * lane..][..len]).collect();
        check(&inputs);
    }
}

#[test]
fn lengths_around_blocks_of_the_wire_are_right() {
    let bytes = noise(70_000);
    let around = |len: usize| {
        [
            len - 65,
            len - 64,
            len - 1,
            len,
            len + 1,
            len + 63,
            len + 64,
        ]
    };
    let inputs: Vec<&[u8]> = [128, 16_384, 32_768, 65_536]
        .into_iter()
        .flat_map(around)
        .map(|len| &bytes[len % 1000..][..len])
        .collect();
    check(&inputs);
}

#[test]
fn any_number_of_messages_is_right() {
    let bytes = noise(8192);
    for count in 0..=67 {
        let unequal: Vec<&[u8]> = (0..count).map(|n| &bytes[n..][..100 + 37 * n]).collect();
        check(&unequal);
        let equal: Vec<&[u8]> = (0..count).map(|n| &bytes[64 * n..][..128]).collect();
        check(&equal);
    }
}

#[test]
fn equals_before_and_after_one_that_is_shorter_are_right() {
    let bytes = noise(80_000);
    for odd_one in [0, 1, 15, 16, 17, 47] {
        let mut inputs: Vec<&[u8]> = (0..48).map(|n| &bytes[1024 * n..][..1024]).collect();
        inputs[odd_one] = &inputs[odd_one][..100];
        check(&inputs);
    }
}

#[test]
fn a_lane_that_ends_takes_the_next_message_and_digests_keep_their_order() {
    let bytes = noise(100_000);
    // One long message holds its lane while hundreds of short ones pass through the others.
    for long_one in [0, 7, 150, 299] {
        let mut inputs: Vec<&[u8]> = (0..300).map(|n| &bytes[n..][..(n * 7) % 190]).collect();
        inputs[long_one] = &bytes;
        check(&inputs);
    }
}

#[test]
fn parts_at_any_boundary_are_the_message() {
    let bytes = noise(40_000);
    let cuts = |sizes: &[usize]| {
        let mut rest = &bytes[..];
        let mut parts = Vec::new();
        for size in sizes {
            let (part, after) = rest.split_at(*size);
            parts.push(part);
            rest = after;
        }
        parts
    };
    let inputs = [
        cuts(&[16_384, 16_384, 5000]),
        cuts(&[]),
        cuts(&[0, 0, 0]),
        cuts(&[1; 200]),
        cuts(&[63, 1, 64, 65, 127]),
        cuts(&[0, 64, 0, 64, 0]),
        cuts(&[16_383, 16_384, 1]),
        cuts(&[55, 1]),
        cuts(&[20_000]),
    ];
    for copies in 1..5 {
        let inputs: Vec<&[&[u8]]> = (0..copies)
            .flat_map(|_| inputs.iter().map(Vec::as_slice))
            .collect();
        check_parts(&inputs);
    }
}

#[test]
fn streams_go_on_where_they_were() {
    let bytes = noise(50_000);
    for (kernel, sha1, sha256) in kernels() {
        let mut streams = (vec![Sha1::new(); 21], vec![Sha256::new(); 21]);
        let mut taken: Vec<Vec<u8>> = vec![Vec::new(); 21];
        for round in 0..6 {
            let inputs: Vec<&[u8]> = (0..21)
                .map(|n| &bytes[n * round..][..(n * 997 * round) % 4000])
                .collect();
            let halves: Vec<[&[u8]; 2]> = inputs
                .iter()
                .map(|it| it.split_at(it.len() / 2).into())
                .collect();
            let parts: Vec<&[&[u8]]> = halves.iter().map(<[_; 2]>::as_slice).collect();
            sha1.update(&mut streams.0.iter_mut().collect::<Vec<_>>(), &parts);
            sha256.update(&mut streams.1.iter_mut().collect::<Vec<_>>(), &parts);
            // A part of a stream may also come alone.
            streams.0[3].update(b"alone");
            streams.1[3].update(b"alone");
            for (taken, input) in taken.iter_mut().zip(inputs) {
                taken.extend(input);
            }
            taken[3].extend(b"alone");
        }
        for ((one, two), taken) in streams.0.into_iter().zip(streams.1).zip(&taken) {
            assert_eq!(one.finish(), right_sha1(taken), "{kernel:?}");
            assert_eq!(two.finish(), right_sha256(taken), "{kernel:?}");
        }
    }
}

#[test]
fn streams_advance_together_by_the_fastest_kernel() {
    let bytes = noise(20_000);
    let inputs: Vec<&[u8]> = (0..40).map(|n| &bytes[n..][..400 * n]).collect();
    let mut streams = vec![Sha1::new(); inputs.len()];
    let parts: Vec<&[&[u8]]> = inputs.iter().map(std::slice::from_ref).collect();
    Sha1::update_many(&mut streams.iter_mut().collect::<Vec<_>>(), &parts);
    for (stream, input) in streams.into_iter().zip(inputs) {
        assert_eq!(stream.finish(), right_sha1(input));
    }
}

#[test]
#[should_panic(expected = "a place for each digest")]
fn too_few_places_for_digests_are_refused() {
    sha256_many_parts_into(&[&[b"a"], &[b"b"]], &mut [NO_SHA256]);
}

#[test]
#[should_panic(expected = "bytes for each stream")]
fn too_few_bytes_for_streams_are_refused() {
    Sha256::update_many(&mut [&mut Sha256::new()], &[]);
}

/// Lengths as they come: many short, some at the edges of padding and of blocks, few long.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0..300_usize,
        2 => prop::sample::select(vec![55_usize, 56, 63, 64, 119, 120, 128]),
        1 => 0..20_000_usize,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 128 }))]

    #[test]
    fn any_mix_of_lanes_is_right(lengths in prop::collection::vec(length(), 0..70)) {
        let bytes = noise(21_000);
        let inputs: Vec<&[u8]> =
            lengths.iter().enumerate().map(|(n, len)| &bytes[n..][..*len]).collect();
        check(&inputs);
    }

    #[test]
    fn any_parts_are_right(
        lengths in prop::collection::vec(prop::collection::vec(length(), 0..6), 0..30)
    ) {
        let bytes = noise(21_000);
        let cut = |lengths: &Vec<usize>| -> Vec<&[u8]> {
            lengths.iter().enumerate().map(|(n, len)| &bytes[n..][..*len]).collect()
        };
        let inputs: Vec<Vec<&[u8]>> = lengths.iter().map(cut).collect();
        check_parts(&inputs.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    #[test]
    fn streams_in_any_parts_are_right(
        rounds in prop::collection::vec(prop::collection::vec(length(), 19), 0..6)
    ) {
        let bytes = noise(21_000);
        for (kernel, lanes, _) in kernels() {
            let mut streams = vec![Sha1::new(); 19];
            let mut taken: Vec<Vec<u8>> = vec![Vec::new(); 19];
            for lengths in &rounds {
                let inputs: Vec<&[u8]> =
                    lengths.iter().enumerate().map(|(n, len)| &bytes[n..][..*len]).collect();
                let parts: Vec<&[&[u8]]> = inputs.iter().map(std::slice::from_ref).collect();
                lanes.update(&mut streams.iter_mut().collect::<Vec<_>>(), &parts);
                taken.iter_mut().zip(inputs).for_each(|(taken, input)| taken.extend(input));
            }
            for (stream, taken) in streams.into_iter().zip(&taken) {
                prop_assert_eq!(stream.finish(), right_sha1(taken), "{:?}", kernel);
            }
        }
    }
}
